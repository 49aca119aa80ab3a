"""What processes come to that nobody schedules is what some order comes to that was scheduled."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.interleaving.explorers import every_order
from tests.harness.interleaving.free import FreeRunner, FreeWorker
from tests.harness.interleaving.ground import lent
from tests.harness.interleaving.outcomes import outcome_of
from tests.harness.interleaving.scenario import Scenario
from tests.harness.interleaving.scenarios import TWO_SESSIONS, WHOLE
from tests.harness.interleaving.scheduler import Scheduler
from tests.harness.processes import Pool

pytestmark = pytest.mark.interleaved

ROUNDS = 40


@pytest.fixture(scope="module")
def free() -> Iterator[Pool[FreeWorker]]:
    """Two processes without gates."""
    pool: Pool[FreeWorker] = Pool(2, FreeWorker, preload=("prompt_studio", "psycopg"))
    yield pool
    pool.close()


@pytest.fixture
def runner(free: Pool[FreeWorker], scheduler: Scheduler, tmp_path: Path) -> Iterator[FreeRunner]:
    """Nobody who decides the order, on a database of the same kind as the scheduler's."""
    directory = tmp_path / "free"
    directory.mkdir()
    with lent(free, scheduler.store, directory) as ground:
        yield FreeRunner(free, ground)


def by_name(name: str) -> Scenario:
    """One of those with two sessions."""
    return next(scenario for scenario in TWO_SESSIONS if scenario.name == name)


class TestARoundWithoutGates:
    @pytest.mark.parametrize(
        "name", ["acquire, acquire", "complete, reclaim", "release mine, acquire", "record, record", "fail, acquire"]
    )
    def test_comes_to_what_some_order_comes_to(self, runner: FreeRunner, scheduler: Scheduler, name: str) -> None:
        scenario = by_name(name)
        right = set(map(outcome_of, every_order(scheduler, scenario)))
        seen = {runner.run(scenario) for _ in range(ROUNDS)}
        assert seen <= right

    def test_of_other_calls_comes_to_something_else(self, runner: FreeRunner, scheduler: Scheduler) -> None:
        right = set(map(outcome_of, every_order(scheduler, by_name("acquire, acquire"))))
        assert runner.run(by_name("acquire, acquire, two jobs")) not in right

    def test_stops_processes_and_lets_them_go_on(self, runner: FreeRunner, scheduler: Scheduler) -> None:
        scenario = by_name("complete, stopped past the lease")
        right = set(map(outcome_of, every_order(scheduler, scenario)))
        assert {runner.run(scenario) for _ in range(ROUNDS // 4)} <= right

    @pytest.mark.parametrize("name", ["claim, be killed, claim", "requeue under a lock, acquire past one's patience"])
    def test_has_nobody_who_waits_for_what_happens_at_some_moment(self, runner: FreeRunner, name: str) -> None:
        with pytest.raises(ValueError, match="nobody waits here"):
            runner.run(by_name(name))

    def test_needs_a_process_for_each_lane(self, runner: FreeRunner) -> None:
        three = Scenario("too many", (), dict.fromkeys("abc", WHOLE[0].lanes["a"]))
        with pytest.raises(ValueError, match="needs 3 workers"):
            runner.run(three)
