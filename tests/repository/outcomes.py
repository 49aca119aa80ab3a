"""The model's table of outcomes as a page: which answer where, for a reader who has no Python at hand.

`python -m tests.repository.outcomes` writes `specs/outcomes.md`; a test fails when that file is stale.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from prompt_studio_model.table import ANY, TABLE, UNREACHABLE
from tests.repository.requirements import SPECS

PAGE: Final = SPECS / "outcomes.md"
CREDENTIALS: Final = {
    "current": "with the row's present token",
    "stale": "with an older token",
    "future": "with a token that was never given",
    "none": "without a token",
    "owner": "without a token, by the owner's name",
    "other": "without a token, by another name",
}

Key = tuple[str, str, str]


def _table(operations: list[str], rows: Mapping[tuple[str, ...], list[str]]) -> list[str]:
    head = [f"| the row | {' | '.join(operations)} |", "|---" * (len(operations) + 1) + "|"]
    return [*head, *(f"| {', '.join(found)} | {' | '.join(cells)} |" for cells, found in rows.items())]


def render(table: Mapping[Key, str], unreachable: Mapping[tuple[str, str], str]) -> str:
    """The page: one section for each credential, one row for each kind of situation, one column for each operation."""
    lines = [
        "# Outcomes",
        "",
        "Generated from the model by `make format`; a repository test fails when it is stale.",
        "The reasons stand in [leases](leases.md#outcomes).",
        "*Rejected* is an `InputError`; *unreachable* has its argument below; *-* is not a call.",
        "Of the queued rows, *delayed* ones are not available yet, *requeued* and *backing_off* ones come from a fail,",
        "*released* ones from a release. *_last* has no attempt left, and so has *exhausted*, which is expired too.",
        "*_tokenless* rows were not closed by a call with a token.",
    ]
    for credential, title in CREDENTIALS.items():
        here = {(operation, found): outcome for (operation, found, who), outcome in table.items() if who == credential}
        operations = list(dict.fromkeys(operation for operation, _ in here))
        situations = list(dict.fromkeys(found for _, found in here))

        def cell(operation: str, found: str, who: str = credential, known: Mapping[tuple[str, str], str] = here) -> str:
            if (found, who) in unreachable:
                return "unreachable"
            return known.get((operation, found)) or known.get((operation, ANY), "-")

        # Situations with the same answers throughout share a row.
        rows: dict[tuple[str, ...], list[str]] = {}
        for found in situations:
            if found != ANY:
                rows.setdefault(tuple(cell(operation, found) for operation in operations), []).append(found)
        lines += ["", f"## A call {title}", "", *_table(operations, rows)]
    lines += ["", "## Why a pair is unreachable", ""]
    lines += [f"- {found}, a call {CREDENTIALS[who]}: {argument}." for (found, who), argument in unreachable.items()]
    return "\n".join(lines) + "\n"


def main(target: Path = PAGE) -> int:
    """Write the page."""
    target.write_text(render(TABLE, UNREACHABLE), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
