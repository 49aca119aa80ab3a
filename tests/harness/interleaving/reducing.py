"""Makes a failing schedule as short as it gets: fewer deviations, and earlier ones, that still break the same promise.

After Zeller and Hildebrandt, "Simplifying and isolating failure-inducing input" (2002): parts are left out, halves
first, until no single one can be. Here the rest then plays by itself, so what is left out may change what comes later;
each success begins again from the deviations that the shorter schedule really has.
"""

from collections.abc import Callable, Iterator
from typing import TypeVar

from tests.harness.interleaving.runs import Run
from tests.harness.interleaving.scheduler import Scheduler
from tests.harness.interleaving.schedules import deviating, deviations_of

Item = TypeVar("Item")


def reduced(scheduler: Scheduler, run: Run, fails: Callable[[Run], bool]) -> tuple[Run, int]:
    """Return the shortest schedule that was found to fail in the same way, and how many were played for it."""
    played = 0
    smaller = True
    while smaller:
        smaller = False
        for points in _fewer(deviations_of(run)):
            shorter = scheduler.run(run.scenario, deviating(points))
            played += 1
            if _size(shorter) < _size(run) and fails(shorter):
                run, smaller = shorter, True
                break
    return run, played


def _size(run: Run) -> tuple[int, int]:
    return len(deviations_of(run)), len(run.steps)


def _fewer(items: list[Item]) -> Iterator[list[Item]]:
    """Every list with a part left out: halves first, single ones last."""
    part = len(items)
    while part:
        for start in range(0, len(items), part):
            yield items[:start] + items[start + part :]
        part //= 2
