"""Ways to choose schedules over one scheduler: every order, one of each kind, at random with a bound, and at random.

The bound is that of Burckhardt et al., "A randomized scheduler with probabilistic guarantees of finding bugs" (2010):
with n lanes and at most k steps a run finds a bug of depth d with a probability of at least 1 / (n * k ** (d - 1)).
A bug has depth d if d conditions, that a step of one lane is done before one of another, are enough to see it.
"""

import math
import random
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from tests.harness.interleaving.independence import Footprint, Reader, Table, independent
from tests.harness.interleaving.runs import Run, Step
from tests.harness.interleaving.scenario import Scenario
from tests.harness.interleaving.scheduler import Choose, Scheduler, follow
from tests.harness.interleaving.schedules import CHOICES_OF_A_SERVER, DivergedError, require_branch


def every_order(scheduler: Scheduler, scenario: Scenario, *, preemptions: int | None = None) -> Iterator[Run]:
    """Depth first: a run, and from each of its steps on each lane that could have gone on instead.

    `preemptions`: at most so many switches away from a lane that could have gone on; None for no limit.

    What comes of a server that chooses otherwise on the way to a branch is given, too, and the branch is tried again.

    Raises:
        DivergedError: a step on the way to a branch was another one than in the run that it branches from.
    """
    prefixes: list[tuple[list[str], list[Step]]] = [([], [])]
    while prefixes:
        prefix, was = prefixes.pop()
        run = yield from branched(partial(scheduler.run, scenario, follow(prefix)), prefix, was)
        yield run
        for number in range(len(prefix), len(run.steps)):
            step = run.steps[number]
            for lane in step.enabled:
                branch = [*run.choices[:number], lane]
                if lane != step.lane and (preemptions is None or switches(run, branch) <= preemptions):
                    prefixes.append((branch, run.steps))


def one_of_each(scheduler: Scheduler, scenario: Scenario, table: Table, *, most: int | None = None) -> Iterator[Run]:
    """Every order that differs by more than steps that may change places: depth first, with sleep sets.

    A lane that was let go on at some point already is asleep on the other branches from there, until something is done
    that its step depends on; what would follow was seen. After Godefroid, "Partial-Order Methods for the Verification
    of Concurrent Systems" (1996), chapter 5. What is played in vain, since everybody is asleep in the end, is left out.

    `most`: play no more than so many, in vain or not; None for no limit.

    Raises:
        DivergedError: a step on the way to a branch was another one than in the run that it branches from.
    """
    left = math.inf if most is None else most

    def explore(prefix: list[str], was: list[Step], asleep: dict[str, Footprint]) -> Generator[Run, None, Footprint]:
        nonlocal left
        left -= 1
        walk: _Walk

        def play() -> Run:
            nonlocal walk
            walk = _Walk(prefix, asleep, Reader(table))
            return scheduler.run(scenario, walk.choose, tell=walk.tell)

        run = yield from branched(play, prefix, was)
        if not walk.in_vain:
            yield run
        for number, sleeping in walk.sleeping.items():
            done = dict(sleeping)
            done[run.steps[number].lane] = walk.footprints[number]
            for lane in run.steps[number].enabled:
                if lane not in done and left > 0:
                    done[lane] = yield from explore([*run.choices[:number], lane], run.steps, dict(done))
        return walk.footprints[max(len(prefix) - 1, 0)]

    yield from explore([], [], {})


def branched(play: Callable[[], Run], prefix: Sequence[str], was: Sequence[Step]) -> Generator[Run, None, Run]:
    """Play until a server has chosen on the way as it did before; what came of its other choices is given."""
    for _ in range(CHOICES_OF_A_SERVER):
        run = play()
        try:
            require_branch(run, prefix, was)
        except DivergedError as diverged:
            if not diverged.by_server:
                raise
            last = diverged
            yield run
        else:
            return run
    raise last


class _Walk:
    """One run of `one_of_each`: as the prefix says, then whoever is awake. `asleep`: before the prefix's last step."""

    def __init__(self, prefix: list[str], asleep: dict[str, Footprint], reader: Reader) -> None:
        self.footprints: list[Footprint] = []
        self.sleeping: dict[int, dict[str, Footprint]] = {}
        self.in_vain = False
        self._prefix = prefix
        self._asleep = asleep
        self._reader = reader

    def choose(self, step: int, current: str | None, enabled: Sequence[str]) -> str:
        """The next of the prefix; or the same as before, if it is awake; or another that is."""
        if step < len(self._prefix) and self._prefix[step] in enabled:  # else it is told after the run
            return self._prefix[step]
        awake = [lane for lane in enabled if lane not in self._asleep]
        self.in_vain = self.in_vain or not awake
        if not self.in_vain:
            self.sleeping[step] = dict(self._asleep)
        able = awake or enabled
        return current if current is not None and current in able else able[0]

    def tell(self, step: Step) -> None:
        """Wake whoever's step depends on this one."""
        found = self._reader.footprint(step)
        self.footprints.append(found)
        if len(self.footprints) >= len(self._prefix):
            self._asleep = {
                lane: other for lane, other in self._asleep.items() if lane != step.lane and independent(other, found)
            }


def switches(run: Run, choices: Sequence[str]) -> int:
    """How often these choices leave a lane that could have gone on. All but the last are those of the run."""
    pairs = zip(choices, choices[1:], run.steps[1:], strict=False)
    return sum(last != lane and last in step.enabled for last, lane, step in pairs)


def prioritized(source: random.Random, lanes: Sequence[str], steps: int, depth: int) -> Choose:
    """PCT: `by_priorities` with everything drawn, each independently of the rest, and each value as likely as another.

    Args:
        source: where it is drawn from.
        lanes: all of the scenario.
        steps: the most that a run has: k of the bound.
        depth: of the bugs that are looked for.
    """
    changes = [source.randint(1, steps) for _ in range(depth - 1)]
    return by_priorities(source.sample(list(lanes), len(lanes)), changes)


def by_priorities(order: Sequence[str], changes: Sequence[int]) -> Choose:
    """The lane with the highest priority of those that can goes on.

    Args:
        order: the lanes at the beginning, the highest priority first. All are above those that are given later.
        changes: after how many steps the lane of the last one gets a new priority, of which the first is the highest.
    """
    ranks = {lane: place for place, lane in enumerate(order)}

    def choose(step: int, current: str | None, enabled: Sequence[str]) -> str:
        for place, change in enumerate(changes):
            if change == step and current is not None:
                ranks[current] = len(order) + place
        return min(enabled, key=ranks.__getitem__)

    return choose


def uniform(source: random.Random) -> Choose:
    """Each lane that can go on is as likely as any other."""
    return lambda _step, _current, enabled: source.choice(list(enabled))


def missed(lanes: int, steps: int, depth: int, schedules: int) -> float:
    """The probability at most that so many schedules by priorities of this depth have missed a bug of this depth.

    Args:
        lanes: all of the scenario.
        steps: from which the changes of priority were drawn; no run had more.
        depth: what the changes of priority were for.
        schedules: how many were played.
    """
    return float((1 - 1 / (lanes * max(steps, 1) ** (depth - 1))) ** schedules)


@dataclass(slots=True)
class Bounds:
    """What schedules by priorities have missed at most, by the depth for which they were drawn.

    Each scenario has its own lanes and its own k; the probabilities are multiplied, so that they are those of a bug
    which is in every scenario. A run with more than k steps counts for nothing.

    Attributes:
        depth: the deepest that is looked for.
        longer: how many runs had more steps than their k.
    """

    depth: int
    longer: int = 0
    _missed: dict[int, float] = field(default_factory=dict)

    def count(self, run: Run, steps: int, depth: int) -> None:
        """One more schedule, whose changes of priority were drawn from so many steps."""
        if len(run.steps) > steps:
            self.longer += 1
        else:
            one = missed(len(run.scenario.lanes), steps, depth, 1)
            self._missed[depth] = self._missed.get(depth, 1.0) * one

    def at(self, depth: int) -> float:
        """The probability at most of having missed a bug of this depth; 1 if nobody looked for one."""
        return self._missed.get(depth, 1.0)

    @property
    def all(self) -> dict[int, float]:
        """That of each depth."""
        return {depth: self.at(depth) for depth in range(1, self.depth + 1)}

    @property
    def worst(self) -> float:
        """The largest of any depth."""
        return max(self.all.values())


def by_luck(
    scheduler: Scheduler, scenario: Scenario, source: random.Random, most: int, bounds: Bounds
) -> Iterator[Run]:
    """So many schedules: half of them at random, and then half by priorities, of each depth as many as of another.

    The longest of those at random is k of the others: whoever is switched at each step has most in his way.
    """
    steps = 1
    for _ in range(most - most // 2):
        run = scheduler.run(scenario, uniform(source))
        steps = max(steps, len(run.steps))
        yield run
    for number in range(most // 2):
        depth = bounds.depth - number % bounds.depth
        run = scheduler.run(scenario, prioritized(source, list(scenario.lanes), steps, depth))
        bounds.count(run, steps, depth)
        yield run
