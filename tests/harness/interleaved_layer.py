"""The schedules of a run as its certificate tells them: which scenarios exhaustively, and how many others."""

from dataclasses import asdict, dataclass, field
from typing import Any, Self

from prompt_studio_model.checking.explore import Verdict


def told_bounds(bounds: dict[int, float], longer: int) -> str:
    """The probabilities of having missed a bug, by its depth, in words."""
    told = ", ".join(f"{bound:.2g} (depth {depth})" for depth, bound in sorted(bounds.items()))
    return f"{told}; {longer} too long to count"


@dataclass(slots=True)
class Exhausted:
    """A scenario in every order, or in one of each kind of orders.

    Attributes:
        schedules: how many orders were played.
        steps: of all of them.
        waits: how often a statement waited for another session.
        outcomes: how many of the orders differ in an answer or in the tables.
        reduced: of orders that differ only by steps which may change places one was played.
    """

    schedules: int = 0
    steps: int = 0
    waits: int = 0
    outcomes: int = 0
    seconds: float = 0.0
    reduced: bool = False


@dataclass(slots=True)
class Volume:
    """Schedules of generated scenarios.

    Attributes:
        schedules: how many were played.
        scenarios: of how many scenarios.
        steps: of all of them.
        waits: how often a statement waited for another session.
        excused: claims that passed by what others held, in so many schedules.
        missed: by depth, the probability at most of having missed a bug of that depth that is in every scenario.
        longer: schedules by priorities that had more steps than were reckoned with; they count for no probability.
    """

    schedules: int = 0
    scenarios: int = 0
    steps: int = 0
    waits: int = 0
    excused: int = 0
    missed: dict[int, float] = field(default_factory=dict)
    longer: int = 0
    seconds: float = 0.0

    @property
    def worst(self) -> float:
        """The largest of these probabilities; 1 if nobody looked."""
        return max(self.missed.values(), default=1.0)

    def line(self) -> str:
        """In words, for people."""
        rate = self.schedules / self.seconds if self.seconds else 0
        return (
            f"{self.schedules:,} schedules of {self.scenarios:,} generated scenarios, {self.steps:,} steps, "
            f"{self.waits:,} waits, {self.excused} excused, {self.seconds:.1f} s, {rate:.0f} schedules/s; "
            f"missed at most, if it is in all of them: {told_bounds(self.missed, self.longer)}"
        )


@dataclass(slots=True)
class InterleavedLayer:
    """One store's schedules. `expected`: the scenarios that must be played exhaustively for the layer to hold."""

    expected: frozenset[str] = frozenset()
    schedules_least: int = 0
    exhaustive: dict[str, Exhausted] = field(default_factory=dict)
    generated: Volume = field(default_factory=Volume)

    @property
    def missing(self) -> list[str]:
        """The scenarios that were not played exhaustively."""
        return sorted(self.expected - self.exhaustive.keys())

    @property
    def verdict(self) -> Verdict:
        """Holds if all was played; a schedule that does not hold is its test's to say, and no layer is told of it."""
        enough = self.generated.schedules >= self.schedules_least
        return "holds" if self.exhaustive and enough and not self.missing else "inconclusive"

    def add(self, other: Self) -> None:
        """Take what another process of the run has played."""
        self.expected |= other.expected
        self.schedules_least = max(self.schedules_least, other.schedules_least)
        self.exhaustive |= other.exhaustive
        if other.generated.schedules:
            self.generated = other.generated  # one test makes them all

    def as_json(self) -> dict[str, Any]:
        """The layer's entry of the certificate."""
        every, generated = list(self.exhaustive.values()), self.generated
        return {
            "verdict": self.verdict,
            "schedules": sum(one.schedules for one in every) + generated.schedules,
            "steps": sum(one.steps for one in every) + generated.steps,
            "blocked_waits": sum(one.waits for one in every) + generated.waits,
            "pct_bound": generated.worst,
            "seconds": round(sum(one.seconds for one in every) + generated.seconds, 1),
            "missing": self.missing,
            "exhaustive": {name: asdict(one) for name, one in sorted(self.exhaustive.items())},
            "generated": asdict(generated),
        }
