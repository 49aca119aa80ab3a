"""The stores that can be put under test, by name. A new one is one line here and its deployment."""

import atexit
import os
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from prompt_studio import PromptStudioDatabase, Settings
from tests.harness.adapter import Adapter
from tests.harness.postgres_deployment import PostgresDatabase
from tests.harness.postgres_server import shared_server
from tests.harness.sqlite_deployment import CLIENT, SqliteDeployment


@dataclass(frozen=True, slots=True)
class Store:
    """A way to get a store with nothing in it.

    Attributes:
        name: in certificates, and in the ids of tests.
        fresh: takes a directory of its own, the retention of keys and the patience, in seconds; None is the default.
        version: of the database, as it says itself.
        advisory_locks: whether a claim also takes a lock of its session.
    """

    name: str
    fresh: Callable[[Path, int | None, int | None], Adapter]
    version: Callable[[], str]
    advisory_locks: bool


def _sqlite(directory: Path, retention_seconds: int | None, patience_seconds: int | None) -> Adapter:
    """Copy an initialised file, which is quicker than to initialise one for each example."""
    template, path = directory / "template.db", directory / "jobs.db"
    if not template.exists():
        PromptStudioDatabase(template, CLIENT, settings=Settings()).close()
    for leftover in directory.glob("jobs.db*"):
        leftover.unlink()
    shutil.copyfile(template, path)
    settings = Settings(idempotency_retention_seconds=retention_seconds, patience_seconds=patience_seconds)
    return Adapter(SqliteDeployment(path, settings))


@cache
def _postgres_database(process: int, *, advisory_locks: bool) -> PostgresDatabase:
    del process, advisory_locks  # each has a database of its own
    server = shared_server()
    database = PostgresDatabase(server.dsn(server.create_database()))
    atexit.register(database.close)
    return database


def _postgres(*, advisory_locks: bool) -> Callable[[Path, int | None, int | None], Adapter]:
    def fresh(directory: Path, retention_seconds: int | None, patience_seconds: int | None) -> Adapter:
        del directory
        settings = Settings(
            idempotency_retention_seconds=retention_seconds,
            patience_seconds=patience_seconds,
            advisory_locks=advisory_locks,
            pool_connections=2,
        )
        return Adapter(_postgres_database(os.getpid(), advisory_locks=advisory_locks).emptied(settings))

    return fresh


def _postgres_version() -> str:
    return shared_server().version


STORES: Final = (
    Store("sqlite", _sqlite, lambda: sqlite3.sqlite_version, advisory_locks=False),
    Store("postgres", _postgres(advisory_locks=True), _postgres_version, advisory_locks=True),
    Store("postgres, no locks", _postgres(advisory_locks=False), _postgres_version, advisory_locks=False),
)
