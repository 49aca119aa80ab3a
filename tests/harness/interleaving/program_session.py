"""What a worker process does with programs of plain SQL: it runs them on a connection of its own, as anybody opens one.

A program that waits on SQLite does so by the busy timeout, which no scheduler could see. Here the timeout is nought,
and the connection tries again where SQLite would have: as long as it has read nothing in its transaction. Where SQLite
gives up at once, because a snapshot that has been read cannot become a writer's, so does the connection.
"""

import re
import sqlite3
from collections.abc import Callable
from typing import Any, Final

import psycopg
from psycopg.pq import TransactionStatus

from tests.harness.interleaving.gates import Gate, GatedConnection
from tests.harness.interleaving.scenario import Call
from tests.harness.interleaving.session import Answer, Failed, Kept, Opened, Told
from tests.harness.locations import Location
from tests.harness.processes import Seat
from tests.harness.shared_time import SharedTime

_BEGINS: Final = re.compile(r"\s*BEGIN\b", re.IGNORECASE)


class WaitingCursor(sqlite3.Cursor):
    """A cursor of a connection that waits."""

    connection: "WaitingConnection"

    def execute(self, sql: str, parameters: Any = (), /) -> "WaitingCursor":  # noqa: ANN401 - sqlite3's own
        self.connection.patiently(sql, lambda: super(WaitingCursor, self).execute(sql, parameters))
        return self

    def executemany(self, sql: str, parameters: Any, /) -> "WaitingCursor":  # noqa: ANN401 - sqlite3's own
        self.connection.patiently(sql, lambda: super(WaitingCursor, self).executemany(sql, parameters))
        return self


class WaitingConnection(GatedConnection):
    """A gated connection that tries again when the database is locked, where SQLite's busy handler would."""

    _has_read = False

    def cursor(self, factory: Any = WaitingCursor) -> Any:  # noqa: ANN401 - sqlite3's own
        return super().cursor(factory)

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:  # noqa: ANN401 - sqlite3's own
        cursor: sqlite3.Cursor = self.cursor().execute(sql, parameters)
        return cursor

    def executemany(self, sql: str, parameters: Any, /) -> sqlite3.Cursor:  # noqa: ANN401 - sqlite3's own
        cursor: sqlite3.Cursor = self.cursor().executemany(sql, parameters)
        return cursor

    def patiently(self, statement: str, run: Callable[[], object]) -> None:
        """Run a statement, as often as it finds the database locked and has not yet read anything of it."""
        while True:
            try:
                run()
            except sqlite3.OperationalError as error:
                locked = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
                if not locked or (self.in_transaction and self._has_read):
                    raise
                self.gate.was_busy()
            else:
                self._has_read = not _BEGINS.match(statement)
                return

    def _begins(self, statement: str) -> None:
        if _BEGINS.match(statement):
            self._has_read = False
        super()._begins(statement)


class _OnSqlite:
    """A connection as `sqlite3.connect` gives it."""

    errors = sqlite3.Error
    _any: Any  # typeshed does not know of every level

    def __init__(self, path: str) -> None:
        self.connection = self._any = sqlite3.connect(path, timeout=0, factory=WaitingConnection)

    def code(self, error: Any) -> str:  # noqa: ANN401 - of `errors`
        return str(getattr(error, "sqlite_errorname", type(error).__name__))

    def end_transaction(self) -> None:
        if self.connection.in_transaction:
            self.connection.rollback()

    def reset(self) -> None:
        self._any.isolation_level = ""  # a transaction begins by itself, as sqlite3 has it unless told otherwise

    def close(self) -> None:
        self.connection.close()


class _OnPostgres:
    """A connection as `psycopg.connect` gives it. It prepares nothing, or the sixth schedule would have other steps."""

    errors = psycopg.Error

    def __init__(self, address: str) -> None:
        self.connection = psycopg.connect(address, prepare_threshold=None)

    def code(self, error: Any) -> str:  # noqa: ANN401 - of `errors`
        return str(error.sqlstate or type(error).__name__)

    def end_transaction(self) -> None:
        if self.connection.info.transaction_status is not TransactionStatus.IDLE:
            self.connection.rollback()

    def reset(self) -> None:
        """As a new connection would be: no locks, no settings."""
        self.connection.isolation_level = self.connection.read_only = self.connection.deferrable = None
        self.connection.autocommit = True
        self.connection.execute("DISCARD ALL")
        self.connection.autocommit = False

    def close(self) -> None:
        self.connection.close()


def _opened(address: str) -> _OnSqlite | _OnPostgres:
    return _OnPostgres(address) if "://" in address else _OnSqlite(address)


class ProgramWorker:
    """One life of a worker process that runs programs."""

    def __init__(self, seat: Seat) -> None:
        self._gate = Gate(seat.wire)
        self._gate.install()
        self._session: _OnSqlite | _OnPostgres | None = None
        self._address = ""

    def open(self, location: Location, address: str, time: SharedTime) -> Opened:
        """Connect. Programs know nothing of a queue, nor of its clock; no lock of theirs outlives them."""
        del location, time
        self.leave()
        self._address, self._session = address, _opened(address)
        return Opened()

    def leave(self) -> None:
        """Close what is open."""
        if self._session is not None:
            self._session.close()
        self._session = None

    def perform(self, invocation: Call, *, answer_waits: bool = False) -> Answer:
        """Run a program, whose statements wait at the gate. At its end the connection is as good as closed.

        An error that is not the database's is a mistake in the program, and ends the worker.
        """
        session = self._session
        assert session is not None
        assert not answer_waits, "no process is killed in the midst of a program"
        with self._gate.closed():
            answer: Answer
            try:
                given = self._address if invocation.connects else session.connection
                answer = Told(invocation.program(given, *invocation.arguments))
            except session.errors as error:
                answer = Failed(session.code(error), str(error))
            session.end_transaction()
        session.reset()
        return answer

    def settle(self) -> Kept:
        """Nothing is left of a program."""
        return Kept()
