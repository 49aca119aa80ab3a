"""An opened database in virtual time, on every store, and the door by which tests look behind it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, Protocol

import pytest

from prompt_studio import JobManager, JobRow, PromptStudioDatabase
from tests.conformance.stores import Door, PostgresStore, Store, postgres_store, sqlite_store
from tests.conformance.virtual_time import VirtualClock
from tests.conformance.working import LIMIT_SECONDS, NEVER, Counted, Troubled, each_line_has_its_facts
from tests.harness.postgres_server import Server

FULL_BACK_OFF = 1000

# What is to be tested, and whether it has advisory locks; a store without a server is a file.
STORES: Final[dict[str, bool | None]] = {"sqlite": None, "postgres": True, "postgres without locks": False}


class Create(Protocol):
    """Creates a job whose details do not matter to the test."""

    def __call__(self, *, priority: int = 5, max_retries: int = 3, job_type: str = "evaluation") -> JobRow: ...


class Open(Protocol):
    """Opens the test's database once more, in virtual time unless told otherwise; closing it is the test's."""

    def __call__(
        self,
        client_id: str = "tester",
        *,
        in_real_time: bool = False,
        jitter: Callable[[], int] | None = None,
        **settings: Any,  # noqa: ANN401 - any setting
    ) -> PromptStudioDatabase: ...


@pytest.fixture(scope="session", params=list(STORES.values()), ids=list(STORES))
def served(request: pytest.FixtureRequest) -> Iterator[PostgresStore | None]:
    """The store in a server's database that all tests share; None for the one that is a file."""
    if request.param is None:
        yield None
        return
    server: Server = request.getfixturevalue("postgres_server")
    name = server.create_database()
    with postgres_store(server.dsn(name), advisory_locks=request.param) as store:
        yield store
    server.drop_database(name)


@pytest.fixture
def store(served: PostgresStore | None, tmp_path: Path) -> Iterator[Store]:
    """A store with nothing in it."""
    if served is None:
        with sqlite_store(tmp_path / "jobs.db") as store:
            yield store
    else:
        served.empty()
        yield served
        served.await_farewell()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file for a test of SQLite alone; such a test asks for no other fixture of this page."""
    return tmp_path / "jobs.db"


@pytest.fixture
def location(store: Store) -> str | Path:
    return store.location


@pytest.fixture
def clock(store: Store) -> VirtualClock:
    return store.clock


@pytest.fixture
def opened(store: Store) -> Open:
    def opened(
        client_id: str = "tester",
        *,
        in_real_time: bool = False,
        jitter: Callable[[], int] | None = None,
        **settings: Any,  # noqa: ANN401 - any setting
    ) -> PromptStudioDatabase:
        clock = None if in_real_time else store.clock
        changed = store.settings(**settings)
        return PromptStudioDatabase(store.location, client_id, clock=clock, jitter=jitter, settings=changed)

    return opened


@pytest.fixture
def database(opened: Open) -> Iterator[PromptStudioDatabase]:
    with opened(jitter=lambda: FULL_BACK_OFF) as database:
        yield database


@pytest.fixture
def create(database: PromptStudioDatabase) -> Create:
    def created(*, priority: int = 5, max_retries: int = 3, job_type: str = "evaluation") -> JobRow:
        return database.create_job(job_type, 1, {}, priority=priority, max_retries=max_retries)

    return created


@pytest.fixture
def raw(database: PromptStudioDatabase, store: Store) -> Door:
    """The tables by themselves, which are there since the database is opened."""
    assert database.count_jobs() == 0
    return store.door()


@pytest.fixture
def troubled(store: Store) -> Iterator[Troubled]:
    with Troubled(store.location, "tester", settings=store.settings(), clock=store.clock) as database:
        yield database


@pytest.fixture
def counted() -> Counted:
    return Counted()


@pytest.fixture
def worker(troubled: Troubled, counted: Counted) -> Iterator[JobManager]:
    """A manager for real work, which a test stops by what `counted` counts."""
    manager = JobManager(
        troubled, worker_id="me", poll_seconds=0.05, grace_seconds=NEVER, settle_seconds=LIMIT_SECONDS, metrics=counted
    )
    counted.stop = manager.stop_processing
    with each_line_has_its_facts():
        yield manager


@pytest.fixture
def manager(database: PromptStudioDatabase) -> JobManager:
    return JobManager(database, worker_id="me")
