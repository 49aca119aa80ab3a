"""The stores under test, each with its databases, and a door behind the store's back.

A test asks for the fixtures in `conftest.py` and runs on each of them. What is true of one store only asks for `path`,
or stands in a file of its own.
"""

import re
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Protocol, cast

import psycopg
from psycopg.rows import DictRow, dict_row

from prompt_studio import PromptStudioDatabase, Settings
from tests.conformance.virtual_time import VirtualClock
from tests.harness import emptying

LIMIT_SECONDS: Final = 10.0
_PAUSE_SECONDS: Final = 0.001
_PARAMETER: Final = re.compile(r"(?<![:\w]):([a-z]\w*)")
_OTHER_SESSIONS: Final = """
    SELECT COUNT(*) AS sessions FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""


class Door(Protocol):
    """The tables by themselves, without the store. Each statement is committed at once."""

    def execute(self, sql: str, parameters: Mapping[str, object] = ...) -> list[dict[str, Any]]:
        """The rows of a statement; `:name` in it is a parameter."""

    def moment(self, milliseconds: int) -> object:
        """An instant as the tables have it."""

    def clear(self) -> None:
        """The tables are empty; ids go on or begin anew, as it comes."""


class Store(Protocol):
    """One way to keep a queue."""

    @property
    def location(self) -> str | Path:
        """Where the database is, which is empty when a test begins."""

    @property
    def clock(self) -> VirtualClock:
        """What the database's sessions in virtual time go by."""

    def settings(self, **changes: Any) -> Settings:  # noqa: ANN401 - any setting
        """The settings that make it this store, and a test's own."""

    def door(self) -> "Door":
        """Into the database."""


class SqliteDoor:
    """Into a file."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        connection.row_factory = sqlite3.Row

    def execute(self, sql: str, parameters: Mapping[str, object] = {}) -> list[dict[str, Any]]:
        return [dict(row) for row in self._connection.execute(sql, parameters)]

    def moment(self, milliseconds: int) -> object:
        return milliseconds

    def clear(self) -> None:
        for statement in emptying.SQLITE:
            self.execute(statement)


class SqliteStore:
    """A file."""

    def __init__(self, path: Path, stack: "Closing") -> None:
        self.location = path
        self.clock = VirtualClock()
        self._stack = stack

    def settings(self, **changes: Any) -> Settings:  # noqa: ANN401 - any setting
        return Settings(**changes)

    def door(self) -> SqliteDoor:
        connection = sqlite3.connect(self.location, isolation_level=None)
        self._stack.append(connection)
        connection.execute("PRAGMA synchronous = OFF")
        return SqliteDoor(connection)


class PostgresDoor:
    """Into a database of a server."""

    def __init__(self, connection: psycopg.Connection[DictRow]) -> None:
        self._connection = connection

    def execute(self, sql: str, parameters: Mapping[str, object] = {}) -> list[dict[str, Any]]:
        cursor = self._connection.execute(cast("Any", _PARAMETER.sub(r"%(\1)s", sql)), parameters)
        return cursor.fetchall() if cursor.description else []

    def moment(self, milliseconds: int) -> object:
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)

    def clear(self) -> None:
        self.execute(emptying.POSTGRES)


class PostgresStore:
    """A database of a server, which one test after another finds empty."""

    def __init__(self, dsn: str, control: psycopg.Connection[DictRow], *, advisory_locks: bool) -> None:
        self.location = dsn
        self._control = control
        self._door = PostgresDoor(control)
        self._settings = Settings(advisory_locks=advisory_locks)
        self.clock = VirtualClock(on_move=self._set_time)

    def settings(self, **changes: Any) -> Settings:  # noqa: ANN401 - any setting
        return replace(self._settings, **changes)

    def door(self) -> PostgresDoor:
        return self._door

    def empty(self) -> None:
        """Empty the tables, and begin the time anew, for the next test."""
        self._door.clear()
        self.clock = VirtualClock(on_move=self._set_time)

    def await_farewell(self) -> None:
        """Wait until the sessions of a test are gone, and their locks with them."""
        await_farewell(self._control)

    def _set_time(self, milliseconds: int) -> None:
        self._door.execute("SELECT setval('prompt_studio_virtual_clock', :now)", {"now": milliseconds})


def await_farewell(session: psycopg.Connection[DictRow]) -> None:
    """Wait until this is the only session in its database: a server says nothing when another has ended."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while (row := session.execute(_OTHER_SESSIONS).fetchone()) and row["sessions"]:
        assert time.monotonic() < deadline, f"{row['sessions']} sessions were left open"
        threading.Event().wait(_PAUSE_SECONDS)


Closing = list[sqlite3.Connection]


@contextmanager
def sqlite_store(path: Path) -> Iterator[SqliteStore]:
    """A store on a file, whose doors are closed in the end."""
    stack: Closing = []
    yield SqliteStore(path, stack)
    for connection in stack:
        connection.close()


@contextmanager
def postgres_store(dsn: str, *, advisory_locks: bool) -> Iterator[PostgresStore]:
    """A store in a database that has nothing in it yet."""
    with closing(psycopg.connect(dsn, autocommit=True, row_factory=dict_row)) as control:
        control.execute("SET lock_timeout = '10s'")
        control.execute("CREATE SEQUENCE prompt_studio_virtual_clock MINVALUE 0")
        store = PostgresStore(dsn, control, advisory_locks=advisory_locks)
        PromptStudioDatabase(dsn, "tester", settings=store.settings()).close()
        store.await_farewell()
        yield store
