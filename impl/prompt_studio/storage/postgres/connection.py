"""Connections to a Postgres server, and how they are set up.

Every connection is in autocommit mode, so that each BEGIN and COMMIT is ours to see, and a statement outside of them is
a transaction by itself. A thread borrows a connection from the pool for one statement, or for one transaction; what
holds advisory locks has a connection of its own, which no pool ever sees.
"""

from __future__ import annotations

import os
import select
import threading
from typing import Any, Final, Protocol, cast
from uuid import uuid4

import psycopg
from psycopg import pq, sql
from psycopg.abc import Buffer
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import DictRow, dict_row
from psycopg.types.datetime import TimestamptzLoader
from psycopg.types.numeric import Int8Dumper
from psycopg_pool import ConnectionPool, PoolClosed, PoolTimeout

from prompt_studio.config import Settings
from prompt_studio.errors import InputError, StoreUnavailable
from prompt_studio.storage.dialect import NO_PARAMETERS, Parameters, Row
from prompt_studio.storage.postgres.trouble import is_outdated_plan, refused, typed
from prompt_studio.storage.statements import Statement

Handle = psycopg.Connection[DictRow]

CONNECT_SECONDS_MAX: Final = 5
APPLICATION: Final = "prompt_studio"
# What a client must say for itself: without it a host that died is noticed after hours.
_DEFAULTS: Final = {
    "connect_timeout": str(CONNECT_SECONDS_MAX),
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "application_name": APPLICATION,
}
_inherited: Final[list[object]] = []
"""Connections that a forked child has from its parent: never used there, never closed, never collected."""


class Server:
    """How to reach one database."""

    def __init__(self, dsn: str, settings: Settings) -> None:
        """Read the DSN.

        Raises:
            InputError: it is none.
        """
        try:
            given = conninfo_to_dict(dsn)
        except psycopg.ProgrammingError as error:
            raise InputError(f"location must be a postgresql:// URL: {error}") from error
        self.conninfo = make_conninfo("", **(_DEFAULTS | given))
        self.place = f"{given.get('host') or 'localhost'}/{given.get('dbname') or given.get('user') or ''}"
        self.settings = settings

    def connect(self) -> Handle:
        """A new connection, set up.

        Raises:
            DatabaseError: the server cannot be reached, or refuses.
        """
        try:
            handle = psycopg.connect(self.conninfo, autocommit=True, row_factory=dict_row)
        except psycopg.Error as error:
            raise refused(error, self.place) from error
        try:
            self.set_up(handle)
        except psycopg.Error as error:
            handle.close()
            raise typed(error, self.place, unknown=False) from error
        return handle

    def set_up(self, handle: Handle) -> None:
        """Make a connection ours."""
        send_numbers_in_one_size(handle)
        handle.adapters.register_loader("timestamptz", TimeLoader)
        handle.prepare_threshold = None if self.settings.transaction_pooler else 0
        if not self.settings.transaction_pooler:
            bound_every_wait(handle, self.settings)


def send_numbers_in_one_size(handle: Handle) -> None:
    """Whole numbers are sent as `bigint`, whatever their value.

    psycopg chooses the smallest type that holds the value, and the server plans a statement once for each combination.
    """
    handle.adapters.register_dumper(int, Int8Dumper)


class TimeLoader(TimestamptzLoader):
    """Times; one that is out of Python's range, as infinity is, stays the server's text.

    Whoever reads the row can then say which one it is, and a claim that was carried out is not lost in the reading.
    """

    def load(self, data: Buffer) -> Any:  # noqa: ANN401 - a datetime, or else text
        """The time, or what the server said."""
        try:
            return super().load(data)
        except psycopg.DataError:
            return bytes(data).decode()


def bound_every_wait(handle: Handle, settings: Settings) -> None:
    """No wait is endless: `lock_timeout`, `statement_timeout`, `idle_in_transaction_session_timeout`.

    Each statement sees what is committed when it begins, whatever the server's default: READ COMMITTED. And a queue
    that was never analyzed is read in the order of its indexes: a bitmap of all that is queued would be sorted for each
    claim. Behind a transaction pooler a SET would stay with a server connection that others use, so the role has to
    have them.
    """
    parts = {
        "lock_timeout": f"{max(1, round(settings.write_retry_seconds * 1000))}ms",
        "statement_timeout": f"{round(settings.statement_seconds * 1000)}ms",
        "idle_in_transaction_session_timeout": f"{round(settings.idle_in_transaction_seconds * 1000)}ms",
        "idle_session_timeout": "0",
        "default_transaction_isolation": "read committed",
        "enable_bitmapscan": "off",
        "timezone": "UTC",
    }
    calls = sql.SQL(", ").join(
        sql.SQL("set_config({}, {}, false)").format(sql.Literal(name), sql.Literal(value))
        for name, value in parts.items()
    )
    handle.execute(sql.SQL("SELECT ") + calls, prepare=False)


def is_alive(handle: Handle) -> bool:
    """Whether an idle connection still has a server, as far as this end knows: no round trip is made.

    An idle server seldom says anything: what has come is a notice, or its farewell and the end of the stream.
    """
    incoming = select.poll()
    if not handle.closed:
        incoming.register(handle.fileno(), select.POLLIN)
    while not handle.closed and incoming.poll(0):
        try:
            handle.pgconn.consume_input()
        except psycopg.OperationalError:
            return False
    return not handle.closed


class Handles(Protocol):
    """Where a connection's handle comes from, and where it goes when nothing is open on it."""

    def take(self) -> Handle:
        """A live handle."""

    def give(self, handle: Handle) -> bool:
        """Take it back between transactions; False when its user shall keep it."""

    def drop(self, handle: Handle) -> None:
        """Take it back for good, whatever is open on it."""


class PooledHandles:
    """Handles that are borrowed for a statement or a transaction. A forked child gets a pool of its own."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._making = threading.Lock()
        self._process = os.getpid()
        self._pool: ConnectionPool[Handle] | None = None

    def take(self) -> Handle:
        """A live handle of this process.

        Raises:
            StoreUnavailable: none was free, or could be made, within the limit.
        """
        pool = self._opened()
        try:
            return pool.getconn()
        except PoolClosed as error:
            raise StoreUnavailable("this database was closed: open it again") from error
        except PoolTimeout as error:
            self._server.connect().close()  # says why there is none, if it is the server's refusal
            raise StoreUnavailable(
                f"{self._server.place}: all {self._server.settings.pool_connections} connections were in use for "
                f"{self._server.settings.write_retry_seconds:g} s; nothing was written: raise pool_connections"
            ) from error

    def give(self, handle: Handle) -> bool:
        """Back to the pool."""
        self._opened().putconn(handle)
        return True

    def drop(self, handle: Handle) -> None:
        """Closed, and back to the pool, which replaces it."""
        handle.close()
        self._opened().putconn(handle)

    def close(self) -> None:
        """Close the pool of this process."""
        if self._pool is not None and self._process == os.getpid():
            self._pool.close()

    def _opened(self) -> ConnectionPool[Handle]:
        if self._process != os.getpid():
            _inherited.append((self._pool, self._making))
            self._making, self._pool, self._process = threading.Lock(), None, os.getpid()
        with self._making:
            if self._pool is None:
                self._pool = self._made()
            return self._pool

    def _made(self) -> ConnectionPool[Handle]:
        settings = self._server.settings
        return ConnectionPool(
            self._server.conninfo,
            connection_class=Handle,
            kwargs={"autocommit": True, "row_factory": dict_row},
            min_size=0,
            max_size=settings.pool_connections,
            configure=self._server.set_up,
            check=_refuse_dead,
            timeout=max(0.1, settings.write_retry_seconds),
            num_workers=1,
            name=f"{APPLICATION}-{uuid4().hex[:8]}",
            open=True,
        )


def _refuse_dead(handle: Handle) -> None:
    if not is_alive(handle):
        raise psycopg.OperationalError("the server closed the connection while it was idle")


class OwnHandles:
    """The one handle of a session that must stay the same: kept between transactions, and never put into a pool."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def take(self) -> Handle:
        """A new handle."""
        return self._server.connect()

    def give(self, handle: Handle) -> bool:
        """Kept."""
        del handle
        return False

    def drop(self, handle: Handle) -> None:
        """Closed."""
        handle.close()


class PostgresConnection:
    """A session with the server, as the store sees it."""

    def __init__(self, server: Server, handles: Handles) -> None:
        self.place = server.place
        self.sessions_begun = 0
        """How often a new server session was begun: when it grows, the locks of the one before are gone."""
        self._handles = handles
        self._handle: Handle | None = None
        self._process = os.getpid()
        self._busy = threading.RLock()

    @property
    def busy(self) -> threading.RLock:
        """Held while a statement or transaction is under way."""
        self._leave_parents_handle()
        return self._busy

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open here, as the server last said."""
        self._leave_parents_handle()
        return self._handle is not None and not self._handle.closed and not _is_idle(self._handle)

    @property
    def has_session(self) -> bool:
        """Whether there is a server session here, as far as this end knows."""
        self._leave_parents_handle()
        return self._handle is not None

    def run(self, statement: Statement, parameters: Parameters = NO_PARAMETERS) -> list[Row]:
        """Run one statement and take all of its rows.

        Raises:
            DatabaseError: of the type that says what to do.
        """
        with self.busy:
            handle = self._taken()
            alone = _is_idle(handle)
            try:
                cursor = handle.execute(cast("Any", statement.sql), parameters)
                return cast("list[Row]", cursor.fetchall() if cursor.description else [])
            except psycopg.Error as error:
                if is_outdated_plan(error):
                    self.close()
                unknown = statement.changes and (alone or statement.name == "commit")
                raise typed(error, self.place, unknown=unknown) from error
            except BaseException:
                self.close()  # interrupted half way: nobody knows what the server is doing
                raise
            finally:
                self._given_back()

    def begun(self) -> int:
        """Begin a server session if there is none or the last one was lost, and say how many there were."""
        with self.busy:
            self._taken()
            return self.sessions_begun

    def close(self) -> None:
        """End the server session; what was not committed is rolled back, and locks are gone."""
        with self.busy:
            handle, self._handle = self._handle, None
            if handle is not None:
                self._handles.drop(handle)

    def _taken(self) -> Handle:
        # Only between transactions: within one the loss is met by a statement, and ends the operation.
        if self._handle is not None and (
            self._handle.closed or (_is_idle(self._handle) and not is_alive(self._handle))
        ):
            self.close()
        if self._handle is None:
            self._handle = self._handles.take()
            self.sessions_begun += 1
        return self._handle

    def _given_back(self) -> None:
        handle = self._handle
        if handle is None:
            return
        if handle.closed:
            self.close()
        elif _is_idle(handle) and self._handles.give(handle):
            self._handle = None

    def _leave_parents_handle(self) -> None:
        if self._process != os.getpid():
            _inherited.append((self._handle, self._busy))
            self._handle, self._busy, self._process = None, threading.RLock(), os.getpid()


def _is_idle(handle: Handle) -> bool:
    return handle.info.transaction_status == pq.TransactionStatus.IDLE
