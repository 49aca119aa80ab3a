"""What a run came to: for people, as JSON, and as JUnit has it."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree as ET

from prompt_studio_model.checking.explore import Verdict
from tests.fuzz.campaign import Part
from tests.harness.interleaved_layer import told_bounds

NOTHING_SAID: Final = "nothing was said of it"


def verdict(parts: list[Part], *, cut_short: str) -> Verdict:
    """Violated if any schedule was; holds if all of them do, and there were some on each store.

    `cut_short`: what ended the run before its time; empty if nothing did.
    """
    if any(part.violations for part in parts):
        return "violated"
    if cut_short or not parts or any(part.troubles or not part.scenarios for part in parts):
        return "inconclusive"
    return "holds"


def line(part: Part) -> str:
    """A store's part in one line."""
    seconds = sum(one.seconds for one in part.explorers.values())
    rate = part.schedules / seconds if seconds else 0
    return (
        f"{part.store}: {part.schedules:,} schedules of {part.scenarios:,} scenarios, {rate:.0f}/s, "
        f"{part.signatures} signatures, {part.corpus} kept, {len(part.violations)} violated"
    )


def lines(parts: list[Part], seed: int, shard: str, *, cut_short: str) -> list[str]:
    """The summary."""
    told = [f"seed {seed}, shard {shard}"]
    for part in parts:
        told.append(line(part))
        for name, one in part.explorers.items():
            told.append(
                f"  {name:<10} {one.schedules:>8,} schedules {one.steps:>10,} steps {one.waits:>7,} waits "
                f"{one.excused:>5} excused {one.new:>4} new"
            )
        told.append(
            f"  missed at most, if it is in all scenarios: {told_bounds(part.bounds.all, part.bounds.longer)}"
            f"; {part.dropped} kept schedules reach nothing of their own any more"
        )
        told += [f"  {why}" for why in (*part.violations, *part.troubles)]
    told += [f"the run was cut short: {cut_short}"] if cut_short else []
    return [*told, f"verdict: {verdict(parts, cut_short=cut_short)}"]


def write(directory: Path, parts: list[Part], seed: int, shard: str, *, cut_short: str) -> None:
    """Write `summary.json` and `junit.xml`."""
    directory.mkdir(parents=True, exist_ok=True)
    told: dict[str, Any] = {
        "verdict": verdict(parts, cut_short=cut_short),
        "cut_short": cut_short,
        "seed": seed,
        "shard": shard,
        "stores": [
            asdict(part) | {"bounds": {"missed": part.bounds.all, "longer": part.bounds.longer}} for part in parts
        ],
    }
    (directory / "summary.json").write_text(json.dumps(told, indent=1) + "\n")
    ET.ElementTree(_suite(parts)).write(directory / "junit.xml", encoding="unicode", xml_declaration=True)


def _suite(parts: list[Part]) -> ET.Element:
    cases = [(part, name, one) for part in parts for name, one in part.explorers.items()]
    suite = ET.Element(
        "testsuite",
        name="fuzz",
        tests=str(len(cases)),
        failures=str(sum(bool(one.violations) for _, _, one in cases)),
        errors=str(sum(bool(one.troubles) for _, _, one in cases)),
    )
    for part, name, one in cases:
        case = ET.SubElement(suite, "testcase", classname=part.store, name=name, time=f"{one.seconds:.3f}")
        for tag, texts in (("failure", one.violations), ("error", one.troubles)):
            for text in texts:
                ET.SubElement(case, tag, message=_first_line(text)).text = text
    return suite


def _first_line(text: str) -> str:
    """An error need not say anything."""
    return next(iter(text.splitlines()), NOTHING_SAID)
