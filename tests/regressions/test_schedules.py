"""Each schedule that once showed a bug of our own holds today, and shows the bug when it is put back."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.harness.interleaving.ground import Ground
from tests.harness.interleaving.judging import Judge
from tests.harness.interleaving.scheduler import Scheduler, follow
from tests.harness.interleaving.schedules import Schedule, replay
from tests.harness.interleaving.session import SessionWorker
from tests.harness.locations import LOCATIONS, Location
from tests.harness.processes import Pool
from tests.regressions.bugs import REINTRODUCED

pytestmark = pytest.mark.interleaved

KEPT = sorted(Path(__file__).parent.glob("*.json"))
Opened = Callable[[Location], AbstractContextManager[Ground]]


def location_of(schedule: Schedule) -> Location:
    """Where it was played."""
    return next(location for location in LOCATIONS if location.name == schedule.store)


@pytest.mark.stateful
@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
def test_holds_step_by_step_as_it_was(path: Path, opened: Opened, pool: Pool[SessionWorker]) -> None:
    kept = Schedule.read(path)
    with opened(location_of(kept)) as ground:
        scheduler = Scheduler(pool, ground)
        Judge(scheduler, looks_at=1).require(replay(scheduler, kept.scenario, kept))


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
def test_shows_the_bug_when_it_is_put_back(path: Path, opened: Opened, pool: Pool[SessionWorker]) -> None:
    kept = Schedule.read(path)
    with opened(REINTRODUCED[path.stem].at(location_of(kept))) as ground:
        scheduler = Scheduler(pool, ground)
        judged = Judge(scheduler, looks_at=1).judge(scheduler.run(kept.scenario, follow(kept.choices)))
        assert judged.verdict == "violated"
        assert judged.names == kept.names


def test_each_bug_has_its_schedule() -> None:
    assert REINTRODUCED.keys() == {path.stem for path in KEPT}
