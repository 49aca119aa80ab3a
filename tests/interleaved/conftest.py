"""The workers of all schedules, and a scheduler for each store."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.harness.interleaving.ground import Ground, ground_at
from tests.harness.interleaving.judging import Judge
from tests.harness.interleaving.scheduler import Scheduler
from tests.harness.interleaving.session import SessionWorker
from tests.harness.locations import LOCATIONS, Location
from tests.harness.processes import Pool

WORKERS = 3


EXPLORED: Final = pytest.StashKey[list[str]]()
"""What the explorers have to say for themselves, a line each."""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print how many schedules were played, how fast, and what they may have missed."""
    lines = config.stash.get(EXPLORED, [])
    if lines:
        terminalreporter.section("schedules")
        for line in lines:
            terminalreporter.line(line)


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
        ground = ground_at(location, tmp_path)
        try:
            yield ground
        finally:
            pool.restore()
            pool.all(SessionWorker.leave)
            ground.close()

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
def judge(scheduler: Scheduler) -> Judge:
    """Whoever says whether it was right."""
    return Judge(scheduler)
