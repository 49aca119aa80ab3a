"""One store's part of a run: what was kept is played first, then each explorer in turn, until the time is over."""

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import Final

from tests.fuzz.corpus import Corpus
from tests.harness.interleaving.explorers import every_order, missed, one_of_each, prioritized, uniform
from tests.harness.interleaving.failing import require
from tests.harness.interleaving.generated import generated
from tests.harness.interleaving.independence import TABLES
from tests.harness.interleaving.judging import Judge
from tests.harness.interleaving.scenario import Scenario
from tests.harness.interleaving.scheduler import Run, Scheduler, deviations, follow
from tests.harness.violation import Violation

SCHEDULES_OF_ONE: Final = 20
"""A scenario is set up once for so many schedules of each explorer."""

ORDERS_MAX: Final = 60
STEPS: Final = 30
LANES_MAX: Final = 4
DEVIATIONS_MAX: Final = 3
FAILURES_MAX: Final = 5
"""After so many schedules that do not hold a store's part ends: the next would say the same."""


@dataclass(frozen=True, slots=True)
class Shard:
    """A part of all seeds: every `of`-th, from `number`, counted from 1."""

    number: int = 1
    of: int = 1

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """The shard that a text such as 2/5 means.

        Raises:
            ValueError: it means none.
        """
        number, slash, of = text.partition("/")
        shard = cls(int(number), int(of))
        if not slash or not 1 <= shard.number <= shard.of:
            raise ValueError(f"a shard is i/n with i from 1 to n, not {text}")
        return shard

    def seeds(self, seed: int) -> Iterator[int]:
        """The seeds of this shard's scenarios; no other shard of the same seed has any of them."""
        return (seed * 2**32 + index for index in count(self.number - 1, self.of))


@dataclass(slots=True)
class Explored:
    """What one explorer came to."""

    schedules: int = 0
    steps: int = 0
    waits: int = 0
    excused: int = 0
    new: int = 0
    seconds: float = 0.0
    violations: list[str] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Part:
    """What a store's part came to.

    Attributes:
        signatures: how many were reached.
        corpus: how many schedules are kept.
        dropped: kept ones that reach nothing of their own any more.
        missed: the probability at most of having missed a bug of this depth that is in every scenario.
    """

    store: str
    depth: int
    explorers: dict[str, Explored] = field(default_factory=dict)
    scenarios: int = 0
    signatures: int = 0
    corpus: int = 0
    dropped: int = 0

    @property
    def schedules(self) -> int:
        """Of all explorers."""
        return sum(one.schedules for one in self.explorers.values())

    @property
    def violations(self) -> list[str]:
        """Of all explorers."""
        return [why for one in self.explorers.values() for why in one.violations]

    @property
    def troubles(self) -> list[str]:
        """Of all explorers."""
        return [why for one in self.explorers.values() for why in one.troubles]

    @property
    def missed(self) -> float:
        """See the class."""
        pct = self.explorers.get("priorities", Explored())
        # Every depth up to the deepest is drawn, so that one in so many looks for the deepest.
        return missed(LANES_MAX, pct.steps // max(pct.schedules, 1), self.depth, pct.schedules // self.depth)


class Campaign:
    """Plays on one store. `progress` is told of the part after each scenario."""

    def __init__(
        self, scheduler: Scheduler, corpus: Corpus, failures: Path, depth: int, progress: Callable[[Part], None]
    ) -> None:
        self.part = Part(scheduler.location, depth)
        self._scheduler = scheduler
        self._judge = Judge(scheduler)
        self._corpus = corpus
        self._failures = failures
        self._progress = progress

    def run(self, seeds: Iterator[int], until: float) -> Part:
        """Play until the monotonic clock shows this time; what is kept is played to its end all the same."""
        self._replay()
        for seed in seeds:
            if time.monotonic() >= until or len(self.part.violations) >= FAILURES_MAX:
                break
            self._explore(generated(seed), random.Random(seed), until)  # noqa: S311 - the same schedules each time
            self.part.scenarios += 1
            self._progress(self.part)
        return self.part

    def _replay(self) -> None:
        for path, schedule in list(self._corpus.kept()):
            runs = iter([self._scheduler.run(schedule.scenario, follow(schedule.choices))])
            self._judge_all("corpus", runs, partial(self._keep_on, path))
            self._scheduler.forget(schedule.scenario)
            self._progress(self.part)

    def _keep_on(self, path: Path, run: Run) -> bool:
        stays = self._corpus.replayed(path, run)
        self.part.dropped += not stays
        return stays

    def _explore(self, scenario: Scenario, source: random.Random, until: float) -> None:
        lanes, play = list(scenario.lanes), self._scheduler.run
        times = range(SCHEDULES_OF_ONE)
        table = TABLES.get(self.part.store)
        orders = every_order(self._scheduler, scenario, preemptions=2)
        if table is not None:
            orders = one_of_each(self._scheduler, scenario, table, most=ORDERS_MAX)
        explorers: dict[str, Iterator[Run]] = {
            "priorities": (
                play(scenario, prioritized(source, lanes, STEPS, source.randint(1, self.part.depth))) for _ in times
            ),
            "at random": (play(scenario, uniform(source)) for _ in times),
            "deviations": (play(scenario, deviations(_drawn(source))) for _ in times),
            "in order": islice(orders, ORDERS_MAX),
        }
        try:
            for name, runs in explorers.items():
                if time.monotonic() < until:
                    self._judge_all(name, runs, self._corpus.add)
        finally:
            self._scheduler.forget(scenario)

    def _judge_all(self, name: str, runs: Iterator[Run], keep: Callable[[Run], bool]) -> None:
        explored = self.part.explorers.setdefault(name, Explored())
        begun = time.monotonic()
        try:
            for run in runs:
                explored.schedules += 1
                explored.steps += len(run.steps)
                explored.waits += run.waits
                explored.excused += require(self._scheduler, self._judge, run, self._failures).excused
                explored.new += keep(run)
        except Violation as violation:
            explored.violations.append(str(violation))
        except AssertionError as trouble:
            explored.troubles.append(str(trouble))
        finally:
            explored.seconds += time.monotonic() - begun
            self.part.signatures, self.part.corpus = len(self._corpus.known), len(self._corpus)


def _drawn(source: random.Random) -> list[tuple[int, int]]:
    return [(source.randrange(STEPS), source.randint(1, 3)) for _ in range(source.randint(1, DEVIATIONS_MAX))]
