"""`pytest -m stateful --replay=FILE`: one schedule again, step by step; red if it still does not hold."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.harness.interleaving.diagram import diagram
from tests.harness.interleaving.ground import Ground
from tests.harness.interleaving.judging import Judge
from tests.harness.interleaving.scheduler import Scheduler
from tests.harness.interleaving.schedules import Schedule, replay
from tests.harness.interleaving.session import SessionWorker
from tests.harness.locations import LOCATIONS, Location
from tests.harness.processes import Pool
from tests.interleaved.conftest import EXPLORED

pytestmark = [pytest.mark.interleaved, pytest.mark.stateful]


def test_the_schedule_of_the_file(
    opened: Callable[[Location], AbstractContextManager[Ground]],
    pool: Pool[SessionWorker],
    request: pytest.FixtureRequest,
) -> None:
    kept = Schedule.read(Path(request.config.option.replay))
    location = next((location for location in LOCATIONS if location.name == kept.store), None)
    assert location is not None, f"there is no store {kept.store!r}, but {[one.name for one in LOCATIONS]}"
    with opened(location) as ground:
        scheduler = Scheduler(pool, ground)
        run = replay(scheduler, kept.scenario, kept)
        request.config.stash.setdefault(EXPLORED, []).extend(diagram(run).splitlines())
        Judge(scheduler).require(run)
