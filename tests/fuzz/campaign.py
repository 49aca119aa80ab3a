"""One store's part of a run: what was kept is played first, then each explorer in turn, until the time is over.

Three explorers play each generated scenario; of the fourth Hypothesis draws scenario and schedule, and shrinks both.
"""

import logging
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import Final

from tests.fuzz.corpus import Corpus
from tests.fuzz.playground import Playground
from tests.harness.interleaving.drawing import require_drawn
from tests.harness.interleaving.explorers import Bounds, by_luck, every_order, one_of_each
from tests.harness.interleaving.failing import OURS, require
from tests.harness.interleaving.generated import generated
from tests.harness.interleaving.independence import TABLES
from tests.harness.interleaving.judging import Judgement
from tests.harness.interleaving.runs import Run
from tests.harness.interleaving.scenario import Scenario
from tests.harness.interleaving.scheduler import Scheduler, deviations, follow
from tests.harness.interleaving.schedules import Schedule
from tests.harness.violation import Violation

SCHEDULES_OF_ONE: Final = 20
"""A scenario is set up once for so many schedules of each explorer."""

DRAWN: Final = 10
"""So many scenarios are drawn, each with its schedule, after each that was generated."""

ORDERS_MAX: Final = 60
STEPS: Final = 30
DEVIATIONS_MAX: Final = 3
FAILURES_MAX: Final = 5
"""After so many schedules that do not hold a store's part ends: the next would say the same."""
TROUBLES_MAX: Final = 5
"""After so much trouble, too: something is wrong here, and not with the schedules."""


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
        bounds: what the schedules by priorities have missed at most, if it is in every scenario.
    """

    store: str
    bounds: Bounds
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


class Campaign:
    """Plays on one store. `progress` is told of the part after each scenario."""

    def __init__(
        self, playground: Playground, corpus: Corpus, failures: Path, depth: int, progress: Callable[[Part], None]
    ) -> None:
        self.part = Part(playground.location.name, Bounds(depth))
        self._playground = playground
        self._corpus = corpus
        self._failures = failures
        self._progress = progress

    def run(self, seeds: Iterator[int], until: float) -> Part:
        """Play until the monotonic clock shows this time; what is kept and one scenario wholly, all the same."""
        for path, schedule in list(self._corpus.kept()):
            if not self._goes_on:
                break
            self._replay(path, schedule)
            self._progress(self.part)
        for seed in seeds:
            if self._is_late(until) or not self._goes_on:
                break
            self._explore(generated(seed), random.Random(seed), until)  # noqa: S311 - the same schedules each time
            self.part.scenarios += 1
            self._progress(self.part)
        return self.part

    def _is_late(self, until: float) -> bool:
        """Whether the time is over. There is always time for one scenario: nothing played says nothing."""
        return self.part.scenarios > 0 and time.monotonic() >= until

    @property
    def _goes_on(self) -> bool:
        return len(self.part.violations) < FAILURES_MAX and len(self.part.troubles) < TROUBLES_MAX

    def _replay(self, path: Path, schedule: Schedule) -> None:
        def runs() -> Iterator[Run]:
            yield self._playground.scheduler.run(schedule.scenario, follow(schedule.choices))

        with self._explorer("corpus") as explored:
            self._judge_all(explored, runs(), partial(self._keep_on, path))
        with self._explorer("corpus"):
            self._playground.scheduler.forget(schedule.scenario)

    def _keep_on(self, path: Path, run: Run) -> bool:
        stays = self._corpus.replayed(path, run)
        self.part.dropped += not stays
        return stays

    def _explore(self, scenario: Scenario, source: random.Random, until: float) -> None:
        explorers: dict[str, Callable[[Scheduler], Iterator[Run]]] = {
            "by luck": lambda scheduler: by_luck(scheduler, scenario, source, 2 * SCHEDULES_OF_ONE, self.part.bounds),
            "deviations": lambda scheduler: (
                scheduler.run(scenario, deviations(_drawn(source))) for _ in range(SCHEDULES_OF_ONE)
            ),
            "in order": lambda scheduler: islice(self._orders(scheduler, scenario), ORDERS_MAX),
        }
        for name, play in explorers.items():
            if not self._is_late(until) and self._goes_on:
                with self._explorer(name) as explored:
                    self._judge_all(explored, play(self._playground.scheduler), self._corpus.add)
        with self._explorer("in order"):
            self._playground.scheduler.forget(scenario)
        if not self._is_late(until) and self._goes_on:
            self._draw(source.randrange(2**32))

    def _draw(self, seed: int) -> None:
        playground = self._playground
        with self._explorer("drawn") as explored:

            def tell(run: Run, judged: Judgement) -> None:
                self._count(explored, run, judged)
                if judged.verdict == "holds":
                    explored.new += self._corpus.add(run)

            require_drawn(playground.scheduler, playground.judge, self._failures, seed, examples=DRAWN, tell=tell)

    def _orders(self, scheduler: Scheduler, scenario: Scenario) -> Iterator[Run]:
        table = TABLES.get(self.part.store)
        if table is None:
            return every_order(scheduler, scenario, preemptions=2)
        return one_of_each(scheduler, scenario, table, most=ORDERS_MAX)

    @contextmanager
    def _explorer(self, name: str) -> Iterator[Explored]:
        """An explorer at work. What it finds is noted; after any trouble everything is made anew, and the run goes on.

        What is raised here proves nothing of the store: it makes the run inconclusive.
        """
        explored = self.part.explorers.setdefault(name, Explored())
        begun = time.monotonic()
        try:
            yield explored
        except Violation as violation:
            explored.violations.append(str(violation))
        except OURS as trouble:
            logging.getLogger(__name__).exception("%s: %s", self.part.store, name)
            explored.troubles.append(f"{type(trouble).__name__}: {trouble}")
            self._playground.remake()
        finally:
            explored.seconds += time.monotonic() - begun
            self.part.signatures, self.part.corpus = len(self._corpus.known), len(self._corpus)

    def _judge_all(self, explored: Explored, runs: Iterator[Run], keep: Callable[[Run], bool]) -> None:
        playground = self._playground
        for run in runs:
            self._count(explored, run, require(playground.scheduler, playground.judge, run, self._failures))
            explored.new += keep(run)

    def _count(self, explored: Explored, run: Run, judged: Judgement) -> None:
        explored.schedules += 1
        explored.steps += len(run.steps)
        explored.waits += run.waits
        explored.excused += judged.excused


def _drawn(source: random.Random) -> list[tuple[int, int]]:
    return [(source.randrange(STEPS), source.randint(1, 3)) for _ in range(source.randint(1, DEVIATIONS_MAX))]
