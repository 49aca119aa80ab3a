"""The page of strategy knobs is what the table says."""

from pathlib import Path

import pytest

from prompt_studio.optimization import KNOBS, RELATIONS, STRATEGIES
from tests.conformance.knob_cases import cases
from tests.repository import knobs


class TestPageOfKnobs:
    def test_is_fresh(self) -> None:
        text = knobs.PAGE.read_text(encoding="utf-8")
        assert knobs.page(text) == text, "run `make format`"

    def test_keeps_what_was_written_and_makes_the_rest_anew(self, tmp_path: Path) -> None:
        target = tmp_path / "page.md"
        target.write_text(f"# Knobs\n{knobs.MARK}old", encoding="utf-8")
        assert knobs.main(target) == 0
        page = target.read_text(encoding="utf-8")
        assert page == f"# Knobs\n{knobs.MARK}{knobs.render()}"
        assert (
            "| `beam_width` | candidates that are kept in each round | a whole number of 64 bits, at least 2 |  |"
            in page
        )
        assert all(f"| `{knob.name}` |" in page for knob in KNOBS)
        assert all(relation.sentence in page for relation in RELATIONS)

    def test_tells_how_many_there_are(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def numbers() -> dict[str, int]:
            rows = knobs.render().partition("|---|---|\n")[2].partition("\n\n")[0].splitlines()
            return {what.split(",")[0].strip(): int(count) for _, what, count, _ in (row.split("|") for row in rows)}

        there = numbers()
        assert there | {"right values": 0, "wrong values": 0} == {
            "strategies": len(STRATEGIES),
            "knobs": len(KNOBS),
            "relations between knobs": len(RELATIONS),
            "right values": 0,
            "wrong values": 0,
        }
        assert there["right values"] > 2 * len(KNOBS)
        fewer = [case for case in cases() if case.what != "true"]
        monkeypatch.setattr(knobs, "cases", lambda: iter(fewer))
        assert numbers() == there | {"wrong values": there["wrong values"] - len(KNOBS)}

    def test_says_what_it_has_lost(self) -> None:
        with pytest.raises(ValueError, match="From here on"):
            knobs.page("# Knobs")
