"""The table of strategy knobs as a part of its page: what there is, and what each may be.

`python -m tests.repository.knobs` writes it into `specs/validation.md`; a test fails when the page is stale.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from prompt_studio.optimization import KNOBS, RELATIONS, STRATEGIES, Knob, Strategy
from tests.conformance.knob_cases import cases
from tests.repository.requirements import SPECS

PAGE: Final = SPECS / "validation.md"
MARK: Final = "<!-- From here on the page is generated from the table, by `make format`. -->\n"


def render() -> str:
    """The generated part: how many there are, the strategies, then the knobs and relations of each that has some."""
    lines = [*_numbers(), "", "## Strategies", "", "| name | also | what it does |", "|---|---|---|"]
    for one in STRATEGIES:
        meaning = f"{one.meaning} (only where it is switched on)" if one.gated else one.meaning
        lines.append(f"| `{one.name}` | {', '.join(f'`{alias}`' for alias in one.aliases)} | {meaning} |")
    for one in STRATEGIES:
        lines += _of(one)
    return "\n".join(lines) + "\n"


def _numbers() -> Iterator[str]:
    """How many there are of everything that the table has, and of the values that the tests derive from it."""
    right = [case.right for case in cases()]
    yield from ("", "## In numbers", "", "| there are | |", "|---|---|")
    yield f"| strategies | {len(STRATEGIES)} |"
    yield f"| knobs | {len(KNOBS)} |"
    yield f"| relations between knobs | {len(RELATIONS)} |"
    yield f"| right values, each accepted by its knob in `tests/conformance/test_knobs.py` | {right.count(True)} |"
    yield f"| wrong values, each refused there | {right.count(False)} |"


def _of(strategy: Strategy) -> Iterator[str]:
    knobs = [knob for knob in KNOBS if strategy.name in knob.strategies]
    if not knobs:
        return
    yield from ("", f"## {strategy.name}", "", "| knob | what it is | must be | when |", "|---|---|---|---|")
    for knob in knobs:
        yield f"| `{knob.name}` | {knob.meaning} | {knob.rule.sentence} | {_when(knob)} |"
    relations = [relation for relation in RELATIONS if strategy.name in relation.strategies]
    if relations:
        yield ""
        yield from (f"- `{relation.knobs[0]}` {relation.sentence}." for relation in relations)


def _when(knob: Knob) -> str:
    if knob.required:
        return "always"
    needed = f"required where {knob.required_when}" if knob.required_when else ""
    only = f"only where {knob.only_when}" if knob.only_when else ""
    return "; ".join(part for part in (needed, only) if part)


def page(text: str) -> str:
    """The page with its generated part made anew."""
    written, mark, _ = text.partition(MARK)
    if not mark:
        raise ValueError(f"the page has lost the line that its generated part begins with: {MARK.strip()}")
    return written + mark + render()


def main(target: Path = PAGE) -> int:
    """Write the page."""
    target.write_text(page(target.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
