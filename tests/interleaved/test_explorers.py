"""Many schedules of scenarios that nobody thought of: by priorities, at random, and as Hypothesis draws and shrinks.

`--schedules` says how many for each store, `--depth` up to how many switches of priority.
"""

import random
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.harness.interleaved_layer import InterleavedLayer, Volume
from tests.harness.interleaving.explorers import missed, prioritized, uniform
from tests.harness.interleaving.generated import generate, generated
from tests.harness.interleaving.ground import Ground
from tests.harness.interleaving.judging import Judge
from tests.harness.interleaving.scenario import Scenario
from tests.harness.interleaving.scheduler import Scheduler, deviations
from tests.harness.interleaving.session import SessionWorker
from tests.harness.locations import LOCATIONS, Location
from tests.harness.processes import Pool
from tests.interleaved.conftest import EXPLORED, Holds, Tell

pytestmark = pytest.mark.interleaved

Item = TypeVar("Item")
SCHEDULES_OF_ONE = 20
"""A scenario is set up once for so many schedules of it."""

EXAMPLES = 60
STEPS = 30
LANES_MAX = 4
"""More than most schedules have; deviations after the end do no harm."""


@pytest.mark.stateful
@pytest.mark.timeout(3_600)
def test_generated_scenarios_hold(
    scheduler: Scheduler, holds: Holds, layer: InterleavedLayer, tell: Tell, request: pytest.FixtureRequest
) -> None:
    wanted, depth = request.config.getoption("schedules"), request.config.getoption("depth")
    seed = int(request.config.option.hypothesis_seed)
    source = random.Random(seed)  # noqa: S311 - the certificate names the seed
    found = layer.generated = Volume(depth=depth)
    begun = time.monotonic()
    while found.schedules < wanted:
        scenario = generated(source.randrange(2**32))
        for number in range(SCHEDULES_OF_ONE):
            lanes = list(scenario.lanes)
            choose = uniform(source) if number % 2 else prioritized(source, lanes, STEPS, source.randint(1, depth))
            run = scheduler.run(scenario, choose)
            found.excused += holds(run).excused
            found.schedules, found.steps, found.waits = (
                found.schedules + 1,
                found.steps + len(run.steps),
                found.waits + run.waits,
            )
            tell(lambda: f"{scheduler.location}: {found.schedules:,} of {wanted:,} schedules")
        scheduler.forget(scenario)
        found.scenarios += 1
    found.seconds = time.monotonic() - begun
    # Half of them by priorities, and with a depth below the deepest in all but one of so many.
    counted = found.schedules // (2 * depth)
    found.missed = missed(LANES_MAX, found.steps // found.schedules, depth, counted)
    request.config.stash.setdefault(EXPLORED, []).append(f"{scheduler.location}: {found.line()}")


@pytest.mark.parametrize("location", LOCATIONS, ids=lambda location: location.name)
def test_scenarios_that_hypothesis_draws_hold(
    location: Location, opened: Callable[[Location], AbstractContextManager[Ground]], pool: Pool[SessionWorker]
) -> None:
    with opened(location) as ground:
        scheduler = Scheduler(pool, ground)
        judge = Judge(scheduler)

        @settings(max_examples=EXAMPLES)
        @given(st.data(), st.lists(st.tuples(st.integers(0, STEPS), st.integers(1, 3)), max_size=3))
        def every_schedule_holds(data: st.DataObject, points: list[tuple[int, int]]) -> None:
            scenario = generate("drawn", partial(_drawn, data))
            try:
                judge.require(scheduler.run(scenario, deviations(points)))
            finally:
                scheduler.forget(scenario)

        every_schedule_holds()


def _drawn(data: st.DataObject, items: Sequence[Item]) -> Item:
    return items[data.draw(st.integers(0, len(items) - 1))]


def test_a_generated_scenario_is_always_the_same() -> None:
    assert generated(7) == generated(7)
    assert len({str(generated(seed)) for seed in range(100)}) == 100


def test_lanes_that_cannot_be_played_are_refused(scheduler: Scheduler) -> None:
    four = dict.fromkeys("abcd", ()) | dict(generated(1).lanes)
    with pytest.raises(ValueError, match="needs"):
        scheduler.run(
            Scenario("too many", (), {f"{name}{n}": moves for n in (1, 2) for name, moves in four.items()}),
            deviations(()),
        )
