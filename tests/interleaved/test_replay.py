"""`pytest -m stateful --replay=FILE`: one schedule again, step by step; red if it still does not hold."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.harness.interleaving.diagram import diagram
from tests.harness.interleaving.ground import Ground
from tests.harness.interleaving.judging import Judge
from tests.harness.interleaving.plain_tables import PLAIN
from tests.harness.interleaving.program_session import ProgramWorker
from tests.harness.interleaving.programs import Programs, ProgramScheduler, SerialJudge
from tests.harness.interleaving.scheduler import Scheduler
from tests.harness.interleaving.schedules import Schedule, replay
from tests.harness.interleaving.session import SessionWorker
from tests.harness.locations import LOCATIONS, Location
from tests.harness.plugin import CERTIFICATE
from tests.harness.processes import Pool
from tests.harness.violation import Violation

pytestmark = [pytest.mark.interleaved, pytest.mark.stateful]


def test_the_schedule_of_the_file(
    opened: Callable[[Location], AbstractContextManager[Ground]],
    pool: Pool[SessionWorker],
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> None:
    kept = Schedule.read(Path(request.config.option.replay))
    if isinstance(kept.scenario, Programs):
        lines = _of_programs(kept, tmp_path)
        request.config.stash[CERTIFICATE].told.extend(lines)
        return
    location = next((location for location in LOCATIONS if location.name == kept.store), None)
    assert location is not None, f"there is no store {kept.store!r}, but {[one.name for one in LOCATIONS]}"
    with opened(location) as ground:
        scheduler = Scheduler(pool, ground)
        run = replay(scheduler, kept.scenario, kept)
        request.config.stash[CERTIFICATE].told.extend(diagram(run).splitlines())
        Judge(scheduler, looks_at=1).require(run)


def _of_programs(kept: Schedule, directory: Path) -> list[str]:
    """Play a schedule of programs again; its picture, if it holds."""
    pool: Pool[ProgramWorker] = Pool(len(kept.scenario.sessions), ProgramWorker, preload=("psycopg",))
    ground = PLAIN[kept.store](directory)
    try:
        scheduler = ProgramScheduler(pool, ground)
        run = replay(scheduler, kept.scenario, kept)
        judged = SerialJudge(scheduler).judge(run)
        if judged.verdict == "violated":
            raise Violation(list(judged.names), judged.why)
        return diagram(run).splitlines()
    finally:
        pool.restore()
        pool.all(ProgramWorker.leave)
        ground.close()
        pool.close()
