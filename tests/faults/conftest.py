"""Files to open, and other users of them."""

import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

import pytest

from prompt_studio import PromptStudioDatabase, Settings
from tests.faults.server_sessions import Stranger, stranger_at
from tests.harness.old_tables import KEY_ROWS, ROWS, Place, PostgresPlace, SqlitePlace, make_old
from tests.harness.postgres_server import PrivateServer, Server

NOBODY = 65534

Opener = Callable[[], AbstractContextManager[sqlite3.Connection]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.db"


@pytest.fixture
def impatient() -> Settings:
    """Settings under which a call gives up almost at once."""
    return Settings(write_retry_seconds=0.02)


@pytest.fixture
def made(path: Path) -> Path:
    """A database with one queued job."""
    with PromptStudioDatabase(path, "tester") as database:
        database.create_job("evaluation", 1, {})
    return path


@pytest.fixture
def stranger(path: Path) -> Iterator[sqlite3.Connection]:
    """Somebody else's connection to the file, which exists by then."""
    with closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as connection:
        yield connection


@pytest.fixture
def served(postgres_database: str) -> Iterator[PromptStudioDatabase]:
    """An empty queue in a server's database."""
    with PromptStudioDatabase(postgres_database, "tester", settings=Settings()) as opened:
        assert opened.count_jobs() == 0
        yield opened


@pytest.fixture
def observer(served: PromptStudioDatabase, postgres_database: str) -> Iterator[Stranger]:
    """Another client of that database."""
    assert not served.capabilities.in_one_file
    with stranger_at(postgres_database) as stranger:
        yield stranger


@pytest.fixture(scope="module")
def private_server() -> Iterator[PrivateServer]:
    """A server that nobody else uses, so that it may be crashed; it asks for passwords."""
    server = PrivateServer.start(tcp=True)
    yield server
    server.stop()


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that every user of the machine can reach, as `tmp_path` is not."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(params=[SqlitePlace, PostgresPlace])
def place(request: pytest.FixtureRequest, path: Path) -> Iterator[Place]:
    """An empty database of either kind."""
    with _a_place(request, str(path)) as made:
        yield made


@pytest.fixture
def another(request: pytest.FixtureRequest, place: Place, tmp_path: Path) -> Iterator[Place]:
    """One more of the same kind."""
    with _a_place(request, str(tmp_path / "another.db"), type(place)) as made:
        yield made


@pytest.fixture
def old(place: Place) -> Place:
    """A database from before this library, with rows of every sort."""
    make_old(place, rows=ROWS, keys=KEY_ROWS)
    return place


@contextmanager
def _a_place(request: pytest.FixtureRequest, path: str, kind: type[Place] | None = None) -> Iterator[Place]:
    kind = kind or request.param
    if issubclass(kind, SqlitePlace):
        yield SqlitePlace(path)
        return
    server: Server = request.getfixturevalue("postgres_server")
    name = server.create_database()
    yield PostgresPlace(server.dsn(name))
    server.drop_database(name)


@contextmanager
def unprivileged() -> Iterator[None]:
    """Without root's right to write everywhere, for as long as the block lasts."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
