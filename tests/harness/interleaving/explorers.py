"""Three ways to choose schedules over one scheduler: every order, at random with a bound, and at random.

The bound is that of Burckhardt et al., "A randomized scheduler with probabilistic guarantees of finding bugs" (2010):
with n lanes and at most k steps a run finds a bug of depth d with a probability of at least 1 / (n * k ** (d - 1)).
"""

import random
from collections.abc import Iterator, Sequence

from tests.harness.interleaving.scenario import Scenario
from tests.harness.interleaving.scheduler import Choose, Run, Scheduler, follow


def every_order(scheduler: Scheduler, scenario: Scenario, *, preemptions: int | None = None) -> Iterator[Run]:
    """Depth first: a run, and from each of its steps on each lane that could have gone on instead.

    `preemptions`: at most so many switches away from a lane that could have gone on; None for no limit.
    """
    prefixes: list[list[str]] = [[]]
    while prefixes:
        prefix = prefixes.pop()
        run = scheduler.run(scenario, follow(prefix))
        yield run
        for number in range(len(prefix), len(run.steps)):
            step = run.steps[number]
            for lane in step.enabled:
                branch = [*run.choices[:number], lane]
                if lane != step.lane and (preemptions is None or switches(run, branch) <= preemptions):
                    prefixes.append(branch)


def switches(run: Run, choices: Sequence[str]) -> int:
    """How often these choices leave a lane that could have gone on. All but the last are those of the run."""
    pairs = zip(choices, choices[1:], run.steps[1:], strict=False)
    return sum(last != lane and last in step.enabled for last, lane, step in pairs)


def prioritized(source: random.Random, lanes: Sequence[str], steps: int, depth: int) -> Choose:
    """PCT: the lane with the highest priority goes on; at depth - 1 steps drawn before, it is put below all others."""
    order = source.sample(list(lanes), len(lanes))
    changes = set(source.sample(range(steps), min(depth - 1, steps)))

    def choose(step: int, current: str | None, enabled: Sequence[str]) -> str:
        del current
        best = next(lane for lane in order if lane in enabled)
        if step in changes:
            order.remove(best)
            order.append(best)
            best = next(lane for lane in order if lane in enabled)
        return best

    return choose


def uniform(source: random.Random) -> Choose:
    """Each lane that can go on is as likely as any other."""
    return lambda _step, _current, enabled: source.choice(list(enabled))


def missed(lanes: int, steps: int, depth: int, schedules: int) -> float:
    """The probability at most that so many schedules have missed a bug of this depth."""
    return float((1 - 1 / (lanes * max(steps, 1) ** (depth - 1))) ** schedules)
