"""The races of a run as its certificate tells them: what was run, and whether it holds."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Self

from prompt_studio_model.checking.explore import Verdict

HEADINGS: Final = ("race", "store", "rounds", "calls", "double", "lost", "stuck", "wrong", "locks left", "seconds")


@dataclass(slots=True)
class RaceResult:
    """One race on one store.

    Attributes:
        race: its name.
        rounds: how often it was run.
        calls: what was recorded.
        double: what two had done where one might; likewise lost, stuck, and wrong otherwise.
        locks_left: advisory locks that were held when all was quiet.
        pending: calls that their process did not survive.
        refused: calls with a token that had been superseded, each of which was told so.
        lock_refusals: claims that passed by a queued job, whose advisory lock somebody had.
        judged: claims that could not have been answered otherwise without being found wrong.
        excused: claims that may have met somebody who held what they passed over, or took.
        note: what else is worth knowing.
    """

    race: str
    store: str
    rounds: int
    calls: int = 0
    double: int = 0
    lost: int = 0
    stuck: int = 0
    wrong: int = 0
    locks_left: int = 0
    seconds: float = 0.0
    kills: int = 0
    stops: int = 0
    pending: int = 0
    refused: int = 0
    lock_refusals: int = 0
    judged: int = 0
    excused: int = 0
    conflicts: int = 0
    note: str = ""

    @property
    def found(self) -> int:
        """How many findings there are."""
        return self.double + self.lost + self.stuck + self.wrong + self.locks_left

    @property
    def story(self) -> str:
        """How it went: its note, and what the order of its claims was judged by."""
        weighed = f"{self.judged:,} claims judged, {self.excused:,} excused" if self.judged or self.excused else ""
        refused = f"{self.lock_refusals:,} locks refused" if self.lock_refusals else ""
        pending = f"{self.pending:,} calls cut off" if self.pending else ""
        return "; ".join(part for part in (self.note, weighed, refused, pending) if part)

    def cells(self) -> list[str]:
        """Its line of the table, below `HEADINGS`."""
        counts = (self.rounds, self.calls, self.double, self.lost, self.stuck, self.wrong, self.locks_left)
        return [self.race, self.store, *(f"{count:,}" for count in counts), f"{self.seconds:.1f}"]


@dataclass(slots=True)
class ProcessesLayer:
    """One store's races. `expected` are the names of those that must be run for the layer to hold."""

    expected: frozenset[str] = frozenset()
    races: list[RaceResult] = field(default_factory=list)
    failed: Verdict | None = None  # what a race that did not come to its end came to

    @property
    def missing(self) -> list[str]:
        """The races that were not run."""
        return sorted(self.expected - {race.race for race in self.races})

    @property
    def verdict(self) -> Verdict:
        """Holds if every race was run to its end and none found anything."""
        if any(race.found for race in self.races):
            return "violated"
        if self.failed is not None:
            return self.failed
        return "inconclusive" if self.missing or not self.races else "holds"

    def add(self, other: Self) -> None:
        """Take what another process of the run has held."""
        self.expected |= other.expected
        self.races += other.races
        self.failed = self.failed or other.failed

    def as_json(self) -> dict[str, Any]:
        """The layer's entry of the certificate."""
        return {
            "verdict": self.verdict,
            "operations": sum(race.calls for race in self.races),
            "kills": sum(race.kills for race in self.races),
            "stops": sum(race.stops for race in self.races),
            "claims_judged": sum(race.judged for race in self.races),
            "claims_excused": sum(race.excused for race in self.races),
            "lock_refusals": sum(race.lock_refusals for race in self.races),
            "stale_calls_refused": sum(race.refused for race in self.races),
            "seconds": round(sum(race.seconds for race in self.races), 1),
            "missing": self.missing,
            "races": {
                race.race: {name: value for name, value in asdict(race).items() if name not in {"race", "store"}}
                for race in self.races
            },
        }


def table(races: Iterable[RaceResult]) -> list[str]:
    """The races as lines of equal columns, each followed by its note."""
    races = list(races)
    lines = [list(HEADINGS), *(race.cells() for race in races)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    shown = [
        "  ".join(
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    notes = ["", *(race.story for race in races)]
    return [f"{line}  {note}".rstrip() for line, note in zip(shown, notes, strict=True)]
