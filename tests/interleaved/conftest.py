"""The workers of all schedules, and a scheduler for each store."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TextIO

import pytest

from tests.harness.interleaved_layer import InterleavedLayer
from tests.harness.interleaving.failing import require
from tests.harness.interleaving.ground import Ground, lent
from tests.harness.interleaving.judging import Judge, Judgement
from tests.harness.interleaving.plain_tables import PlainTables
from tests.harness.interleaving.program_session import ProgramWorker
from tests.harness.interleaving.programs import ProgramScheduler
from tests.harness.interleaving.runs import Run
from tests.harness.interleaving.scenarios import REDUCED, WHOLE
from tests.harness.interleaving.scheduler import Scheduler
from tests.harness.interleaving.session import SessionWorker
from tests.harness.locations import LOCATIONS, Location
from tests.harness.plugin import CERTIFICATE
from tests.harness.processes import Pool
from tests.harness.progress import Progress
from tests.interleaved.selection import select

WORKERS = 3


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the stores and scenarios that were not asked for."""
    chosen = select(items, config.option)
    left_out = [item for item in items if item not in chosen]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = chosen


Tell = Callable[[str], None]
"""Writes a line when it is time to."""


@contextmanager
def telling(
    lift: Callable[[], AbstractContextManager[None]], stream: TextIO, now: Callable[[], float] = time.monotonic
) -> Iterator[Tell]:
    """Progress to this stream, with what captures it lifted for as long as a line takes."""
    progress = Progress(stream, within=True, now=now)

    def tell(line: str) -> None:
        if progress.due:
            with lift():
                progress.write(line)

    yield tell
    with lift():
        progress.end()


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Iterator[Tell]:
    """Progress on stderr, which is captured."""
    capturing = request.config.pluginmanager.getplugin("capturemanager")
    with capturing.global_and_fixture_disabled():
        stream = sys.stderr  # the one that people see
    with telling(capturing.global_and_fixture_disabled, stream) as tell:
        yield tell


@pytest.fixture(scope="session")
def pool() -> Iterator[Pool[SessionWorker]]:
    """Processes that live as long as the tests."""
    pool = Pool(WORKERS, SessionWorker, preload=("prompt_studio", "psycopg"))
    yield pool
    pool.close()


@pytest.fixture
def opened(pool: Pool[SessionWorker], tmp_path: Path) -> Callable[[Location], AbstractContextManager[Ground]]:
    """Make a database for schedules, and take it away again."""

    @contextmanager
    def at(location: Location) -> Iterator[Ground]:
        with lent(pool, location, tmp_path) as ground:
            yield ground

    return at


@pytest.fixture(params=LOCATIONS, ids=lambda location: location.name)
def ground(
    request: pytest.FixtureRequest, opened: Callable[[Location], AbstractContextManager[Ground]]
) -> Iterator[Ground]:
    """A database of each kind, and each way to claim in it."""
    with opened(request.param) as ground:
        yield ground


@pytest.fixture
def scheduler(pool: Pool[SessionWorker], ground: Ground) -> Scheduler:
    """Whoever decides the order."""
    return Scheduler(pool, ground)


@pytest.fixture
def layer(request: pytest.FixtureRequest, scheduler: Scheduler) -> InterleavedLayer:
    """What the schedules of this run came to, at this store."""
    expected = frozenset(scenario.name for scenario in (*WHOLE, *REDUCED))
    empty = InterleavedLayer(expected, request.config.getoption("schedules"))
    return request.config.stash[CERTIFICATE].interleaved.setdefault(scheduler.location, empty)


@pytest.fixture
def failures(request: pytest.FixtureRequest) -> Path:
    """Where a schedule that does not hold is kept."""
    return request.config.rootpath / "build" / "schedules"


@pytest.fixture
def judge(scheduler: Scheduler) -> Judge:
    """Whoever says whether it was right."""
    return Judge(scheduler)


Holds = Callable[[Run], Judgement]
"""Requires that a schedule holds. One that does not is shortened and kept, and the error says how to play it again."""


@pytest.fixture
def holds(scheduler: Scheduler, judge: Judge, failures: Path) -> Holds:
    """What every test of schedules ends with."""
    return lambda run: require(scheduler, judge, run, failures)


Make = Callable[[Path], PlainTables]
On = Callable[[Make], ProgramScheduler]


@pytest.fixture(scope="module")
def workers() -> Iterator[Pool[ProgramWorker]]:
    """Processes that run programs of plain SQL."""
    pool = Pool(WORKERS, ProgramWorker, preload=("psycopg", "prompt_studio"))
    yield pool
    pool.close()


@pytest.fixture
def on(workers: Pool[ProgramWorker], tmp_path: Path) -> Iterator[Callable[[Make], ProgramScheduler]]:
    """A scheduler over a database with plain tables."""
    grounds: list[PlainTables] = []

    def scheduler(make: Make) -> ProgramScheduler:
        grounds.append(make(tmp_path))
        return ProgramScheduler(workers, grounds[-1])

    yield scheduler
    workers.restore()
    workers.all(ProgramWorker.leave)
    for ground in grounds:
        ground.close()
