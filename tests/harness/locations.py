"""Where races can be held: how to get an empty database there, and how a process opens it.

A location is sent to worker processes, so all that it is made of are functions of modules. A new one is one entry of
`LOCATIONS`, and a reader of its tables.
"""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Protocol

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import dict_row

from prompt_studio import PromptStudioDatabase, Settings
from prompt_studio.storage.claims import LockCounts
from tests.harness import emptying
from tests.harness.postgres_server import shared_server
from tests.harness.shared_time import MachineTime, MappedTime, Readable, SequenceTime, ServerTime, SharedTime

CLIENT: Final = "races"
RETRY_SECONDS: Final = 30.0
"""Longer than any starvation that was measured: who gives up has won no race, and lost none."""

POOL_CONNECTIONS: Final = 2
SECOND: Final = 1_000

Rows = list[dict[str, Any]]
Jitter = Callable[[], int]


@dataclass(frozen=True, slots=True)
class Tables:
    """What is in a database, read behind the store's back. Times are milliseconds since 1970."""

    jobs: Rows
    keys: Rows
    locks_left: int


class Opener(Protocol):
    """Opens the database of a location in a process."""

    def __call__(self, address: str, time: SharedTime | None, *, jitter: Jitter | None = None) -> PromptStudioDatabase:
        """With the shared clock, or None for real time; with these dice, or None for real ones."""


@dataclass(frozen=True, slots=True)
class Location:
    """A place for races.

    Attributes:
        name: in tables, and in the ids of tests.
        fresh: makes an empty database, given a directory of its own, and returns where it is.
        share_time: makes the clock of that database, at its beginning, given the same directory.
        open: opens the database in a process.
        tables: what is in it when all is quiet, and how many advisory locks are held.
        locked: the numbers whose advisory locks are held, by whomever; a job's lock has its id.
        sessions: the server processes of all its sessions; none where there is no server.
        dispose: takes away what `fresh` made outside of the directory.
        empty: makes such a database as empty as a fresh one.
        real_time: the clock by which the database goes when no shared one is given.
    """

    name: str
    fresh: Callable[[Path], str]
    share_time: Callable[[str, Path], SharedTime]
    open: Opener
    tables: Callable[[str], Tables]
    locked: Callable[[str], list[int]]
    sessions: Callable[[str], set[int]]
    dispose: Callable[[str], None]
    empty: Callable[[str], None]
    real_time: Callable[[str], Readable]


def _sqlite_fresh(directory: Path) -> str:
    address = str(directory / "jobs.db")
    PromptStudioDatabase(address, CLIENT, settings=Settings()).close()
    return address


def _sqlite_time(address: str, directory: Path) -> SharedTime:
    del address
    return MappedTime(directory / "clock")


def _sqlite_open(address: str, time: SharedTime | None, *, jitter: Jitter | None = None) -> PromptStudioDatabase:
    settings = Settings(write_retry_seconds=RETRY_SECONDS)
    return PromptStudioDatabase(address, CLIENT, settings=settings, clock=time, jitter=jitter, create=False)


def _sqlite_tables(address: str) -> Tables:
    with closing(sqlite3.connect(address, isolation_level=None)) as connection:
        connection.row_factory = sqlite3.Row
        jobs = connection.execute("SELECT * FROM prompt_studio_job_queue ORDER BY id").fetchall()
        keys = connection.execute("SELECT * FROM prompt_studio_idempotency ORDER BY id").fetchall()
    return Tables([dict(row) for row in jobs], [dict(row) for row in keys], locks_left=0)


def _sqlite_empty(address: str) -> None:
    with closing(sqlite3.connect(address)) as connection, connection:
        for statement in (*emptying.SQLITE, "DELETE FROM sqlite_sequence"):
            connection.execute(statement)


def _postgres_fresh(directory: Path) -> str:
    del directory
    server = shared_server()
    dsn = server.dsn(server.create_database())
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE SEQUENCE prompt_studio_virtual_clock MINVALUE 0")
    PromptStudioDatabase(dsn, CLIENT, settings=Settings()).close()
    return dsn


def _postgres_time(address: str, directory: Path) -> SharedTime:
    del directory
    return SequenceTime(address)


def _postgres_open_with_locks(
    address: str, time: SharedTime | None, *, jitter: Jitter | None = None
) -> PromptStudioDatabase:
    settings = Settings(write_retry_seconds=RETRY_SECONDS, pool_connections=POOL_CONNECTIONS)
    return PromptStudioDatabase(address, CLIENT, settings=settings, clock=time, jitter=jitter, create=False)


def _postgres_open_without_locks(
    address: str, time: SharedTime | None, *, jitter: Jitter | None = None
) -> PromptStudioDatabase:
    settings = Settings(write_retry_seconds=RETRY_SECONDS, pool_connections=POOL_CONNECTIONS, advisory_locks=False)
    return PromptStudioDatabase(address, CLIENT, settings=settings, clock=time, jitter=jitter, create=False)


def _postgres_tables(address: str) -> Tables:
    with psycopg.connect(address, autocommit=True, row_factory=dict_row) as connection:
        jobs = connection.execute("SELECT * FROM prompt_studio_job_queue ORDER BY id").fetchall()
        keys = connection.execute("SELECT * FROM prompt_studio_idempotency ORDER BY id").fetchall()
    return Tables([_plain(row) for row in jobs], [_plain(row) for row in keys], locks_left=len(_locked(address)))


def _locked(address: str) -> list[int]:
    with psycopg.connect(address, autocommit=True) as connection:
        rows = connection.execute(
            "SELECT CAST(classid AS BIGINT) << 32 | CAST(objid AS BIGINT) FROM pg_locks "
            "WHERE locktype = 'advisory' AND granted "
            "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        ).fetchall()
    return [number for (number,) in rows]


def _sessions(address: str) -> set[int]:
    with psycopg.connect(address, autocommit=True) as connection:
        rows = connection.execute("SELECT pid FROM pg_stat_activity WHERE datname = current_database()").fetchall()
    return {number for (number,) in rows}


def _postgres_dispose(address: str) -> None:
    shared_server().drop_database(str(conninfo_to_dict(address)["dbname"]))


def _postgres_empty(address: str) -> None:
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(emptying.POSTGRES)


def lock_counts(database: PromptStudioDatabase) -> LockCounts:
    """What happened at the advisory gate of an opened database; nothing, where there are no locks."""
    return database.get_lock_counts()


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """A row with times in milliseconds since 1970."""
    return {
        name: round(value.timestamp() * SECOND) if isinstance(value, datetime) else value for name, value in row.items()
    }


def _unlocked(address: str) -> list[int]:
    """Say that nothing is locked, since there are no such locks."""
    del address
    return []


def _no_sessions(address: str) -> set[int]:
    """Say that nobody is left: what a dead process had locked in a file is free at once."""
    del address
    return set()


def _machine_time(address: str) -> MachineTime:
    del address
    return MachineTime()


def _keep(address: str) -> None:
    """Leave it to the directory's owner."""


SQLITE: Final = Location(
    "sqlite",
    _sqlite_fresh,
    _sqlite_time,
    _sqlite_open,
    _sqlite_tables,
    _unlocked,
    _no_sessions,
    _keep,
    _sqlite_empty,
    _machine_time,
)
WITH_LOCKS: Final = Location(
    "postgres",
    _postgres_fresh,
    _postgres_time,
    _postgres_open_with_locks,
    _postgres_tables,
    _locked,
    _sessions,
    _postgres_dispose,
    _postgres_empty,
    ServerTime,
)
WITHOUT_LOCKS: Final = replace(WITH_LOCKS, name="postgres, no locks", open=_postgres_open_without_locks)
LOCATIONS: Final = (SQLITE, WITH_LOCKS, WITHOUT_LOCKS)
DATABASES: Final = (SQLITE, WITH_LOCKS)
"""Each database once: for what takes no advisory lock."""
