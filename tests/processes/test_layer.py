"""The layer of the races holds only if all were run to their end and none found anything; and the table is legible."""

import pytest

from prompt_studio_model.checking.explore import Verdict
from tests.harness.processes_layer import ProcessesLayer, RaceResult, table

pytestmark = pytest.mark.processes


def layer(**found: int) -> ProcessesLayer:
    """A layer with nothing wanting, but for what the first race found."""
    races = [
        RaceResult("drain", "here", 2, calls=1_000, seconds=1.5),
        RaceResult("storm", "here", 3, calls=10, kills=4),
    ]
    for name, count in found.items():
        setattr(races[0], name, count)
    return ProcessesLayer(frozenset({"drain", "storm"}), races)


class TestVerdict:
    def test_holds_when_nothing_is_wanting(self) -> None:
        assert layer().verdict == "holds"

    @pytest.mark.parametrize("sort", ["double", "lost", "stuck", "wrong"])
    def test_is_violated_when_a_race_found_something(self, sort: str) -> None:
        assert layer(**{sort: 1}).verdict == "violated"

    def test_is_inconclusive_when_nothing_ran(self) -> None:
        assert ProcessesLayer().verdict == "inconclusive"

    def test_is_inconclusive_when_a_race_is_missing(self) -> None:
        missing = layer()
        missing.races.pop()
        assert missing.verdict == "inconclusive"
        assert missing.as_json()["missing"] == ["storm"]

    @pytest.mark.parametrize(("found", "verdict"), [(0, "inconclusive"), (1, "violated")])
    def test_of_a_race_that_broke_is_what_the_others_found_at_best(self, found: int, verdict: Verdict) -> None:
        broken = layer(double=found)
        broken.failed = "inconclusive"
        assert broken.verdict == verdict


class TestEntry:
    def test_sums_up(self) -> None:
        entry = layer().as_json()
        assert (entry["verdict"], entry["operations"], entry["kills"], entry["stops"]) == ("holds", 1_010, 4, 0)
        assert entry["races"]["drain"]["rounds"] == 2


class TestTable:
    def test_has_a_line_for_each_race(self) -> None:
        races = layer(lost=12).races
        races[1].judged, races[1].excused = 5, 2
        assert table(races) == [
            "race   store  rounds  calls  double  lost  stuck  wrong  locks left  seconds",
            "drain  here        2  1,000       0    12      0      0           0      1.5",
            "storm  here        3     10       0     0      0      0           0      0.0  5 claims judged, 2 excused",
        ]
