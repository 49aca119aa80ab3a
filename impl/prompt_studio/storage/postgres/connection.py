"""Connections to a Postgres server, and how they are set up.

Every connection is in autocommit mode, so that each BEGIN and COMMIT is ours to see, and a statement outside of them is
a transaction by itself. A thread borrows a connection from the pool for one statement, or for one transaction; what
holds advisory locks has a connection of its own, which no pool ever sees.
"""

from __future__ import annotations

import math
import os
import re
import select
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any, Final, Generic, Protocol, TypeVar, cast

import psycopg
from psycopg import pq, sql
from psycopg.abc import Buffer
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import DictRow, dict_row
from psycopg.types.datetime import TimestamptzLoader
from psycopg.types.numeric import Int8Dumper

from prompt_studio.config import Settings
from prompt_studio.errors import DatabaseError, InputError
from prompt_studio.storage.dialect import NO_PARAMETERS, Parameters, Row
from prompt_studio.storage.postgres.trouble import (
    ends_session,
    is_refusal,
    lost,
    refuse_date_style,
    refuse_encoding,
    refused,
    typed,
    unreadable,
)
from prompt_studio.storage.statements import Statement

CONNECT_SECONDS_MAX: Final = 5
APPLICATION: Final = "prompt_studio"
# What a client must say for itself: without it a host that died is noticed after hours. The first three find out that
# it is silent, the fourth that it does not take what is sent.
_DEFAULTS: Final = {
    "connect_timeout": str(CONNECT_SECONDS_MAX),
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "25000",
    "application_name": APPLICATION,
}
# Whatever the location or the environment says: every text that we accept can be sent.
_FIXED: Final = {"client_encoding": "utf8"}
_USER: Final = re.compile(r"[^:]+://(?:[^@/]*@)?")
_SETTLED: Final = frozenset({pq.TransactionStatus.IDLE, pq.TransactionStatus.INTRANS, pq.TransactionStatus.INERROR})

_inherited: Final[list[object]] = []
"""Connections that a forked child has from its parent: never used there, never closed, never collected."""

Thing = TypeVar("Thing")


class Handle(psycopg.Connection[DictRow]):
    """A connection that does not wait for an answer for ever."""

    answer_seconds = math.inf
    born = -math.inf
    """When it was opened, by the clock that never goes back."""
    place: object = None
    """The pool's, which is free when this handle is gone."""

    def wait(self, gen: Generator[Any, Any, Thing], *arguments: Any, **options: Any) -> Thing:  # noqa: ANN401 - passed on
        """Wait as psycopg does, and no longer than `answer_seconds`.

        Raises:
            OperationalError: no answer came; the connection is then in the middle of something.
        """
        return super().wait(_answered_within(self.answer_seconds, gen), *arguments, **options)


def _answered_within(seconds: float, gen: Generator[Any, Any, Thing]) -> Generator[Any, Any, Thing]:
    """The same generator; psycopg resumes it with nothing several times a second while nothing comes."""
    deadline, ready = time.monotonic() + seconds, None
    while True:
        try:
            wanted = gen.send(ready)
        except StopIteration as end:
            return cast("Thing", end.value)
        ready = yield wanted
        if not ready and time.monotonic() > deadline:
            raise psycopg.OperationalError(f"the server gave no answer for {seconds:g} s")


class Server:
    """How to reach one database."""

    def __init__(self, dsn: str, settings: Settings, *, bare: bool = False) -> None:
        """Read the DSN; on a bare connection nothing is set and nothing is prepared.

        Raises:
            InputError: it is none.
        """
        given = _read(dsn)
        self.conninfo = make_conninfo("", **(_DEFAULTS | given | _FIXED))
        self.place = f"{given.get('host') or 'localhost'}/{given.get('dbname') or given.get('user') or ''}"
        self.settings = settings
        self._bare = bare

    def connect(self) -> Handle:
        """A new connection, set up.

        Raises:
            DatabaseError: the server cannot be reached, or refuses.
        """
        try:
            handle = Handle.connect(self.conninfo, autocommit=True, row_factory=dict_row)
        except psycopg.Error as error:
            raise refused(error, self.place) from error
        try:
            self.set_up(handle)
        except psycopg.Error as error:
            handle.close()
            raise typed(error, self.place, unknown=False) from error
        except BaseException:
            handle.close()
            raise
        return handle

    def set_up(self, handle: Handle) -> None:
        """Make a connection ours.

        Raises:
            DatabaseError: it cannot be one of ours.
        """
        handle.answer_seconds = self.settings.statement_seconds + self.settings.answer_seconds
        handle.born = time.monotonic()
        refuse_encoding(handle.info.parameter_status("server_encoding"), self.place)
        send_numbers_in_one_size(handle)
        handle.adapters.register_loader("timestamptz", TimeLoader)
        handle.prepare_threshold = None if self._bare or self.settings.transaction_pooler else 0
        if self.settings.transaction_pooler:
            refuse_date_style(handle.info.parameter_status("DateStyle"), self.place)
        elif not self._bare:
            bound_every_wait(handle, self.settings)


def _read(dsn: str) -> dict[str, Any]:
    """The parts of a URL. No message quotes it, or what libpq says about it: a password may be in either."""
    advice = "percent-encode each of : / ? # @ % in its user and password"
    # libpq reads up to the first @ or /, so that the rest of an unescaped password becomes the host or the database.
    if "@" in _USER.sub("", dsn, count=1).partition("?")[0]:
        raise InputError(f"location must be a postgresql:// URL with one @, behind the user and password: {advice}")
    try:
        return conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:
        raise InputError(
            f"location must be a postgresql:// URL that libpq can read: {advice}, and see that each option is one"
        ) from None


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

    Each statement sees what is committed when it begins, whatever the server's default: READ COMMITTED. Times are
    written in the one style that can be read back. And a queue is read in the order of its indexes, also by a plan that
    was made while it was small, or never analyzed: a bitmap of all that is queued would be sorted for each claim. What
    is switched off looks expensive to the planner, and nothing of ours is worth compiling.

    Behind a transaction pooler a SET would stay with a server connection that others use, so the role has to have them.
    """
    parts = {
        "lock_timeout": f"{max(1, round(settings.write_retry_seconds * 1000))}ms",
        "statement_timeout": f"{round(settings.statement_seconds * 1000)}ms",
        "idle_in_transaction_session_timeout": f"{round(settings.idle_in_transaction_seconds * 1000)}ms",
        "idle_session_timeout": "0",
        "default_transaction_isolation": "read committed",
        "enable_bitmapscan": "off",
        "enable_seqscan": "off",
        "jit": "off",
        "DateStyle": "ISO",
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


def hears(handle: Handle, seconds: float) -> bool:
    """Whether a notification has come, or comes within so many seconds. All that have come count as one."""
    deadline, incoming = time.monotonic() + seconds, select.poll()
    incoming.register(handle.fileno(), select.POLLIN)
    while handle.pgconn.notifies() is None:
        left = deadline - time.monotonic()
        if left <= 0 or not incoming.poll(math.ceil(left * 1000)):
            return False
        handle.pgconn.consume_input()
    while handle.pgconn.notifies() is not None:
        """Each of them says the same."""
    return True


class PerProcess(Generic[Thing]):
    """One thing for each process: a forked child makes its own, once, however many of its threads ask for it at once.

    Its parent's stays what it was: never used there, never closed, never collected.
    """

    def __init__(self, make: Callable[[], Thing]) -> None:
        self._make = make
        self._all = {os.getpid(): make()}

    def get(self) -> Thing:
        """This process's."""
        mine = self._all.get(os.getpid())
        if mine is None:
            _inherited.append(dict(self._all))
            mine = self._all.setdefault(os.getpid(), self._make())  # atomic: whoever is second gets the first one's
        return mine


class Handles(Protocol):
    """Where a connection's handle comes from, and where it goes."""

    @property
    def lent(self) -> bool:
        """Whether a handle is given back whenever nothing is open on it."""

    def take(self) -> Handle:
        """A live handle."""

    def give(self, handle: Handle) -> None:
        """Take it back: closed, or with nothing open on it."""


class OwnHandles:
    """The one handle of a session that must stay the same: kept between transactions, and never put into a pool."""

    lent: Final = False

    def __init__(self, server: Server, *, endless: bool = False) -> None:
        """Handles of this server; `endless`: their statements may take as long as the server lets them."""
        self._server = server
        self._endless = endless

    def take(self) -> Handle:
        """A new handle."""
        handle = self._server.connect()
        if self._endless:
            handle.answer_seconds = math.inf
        return handle

    def give(self, handle: Handle) -> None:
        """Nobody wants it."""


@dataclass(eq=False)
class _Own:
    """What a connection has in one process."""

    busy: threading.RLock = field(default_factory=threading.RLock)
    handle: Handle | None = None


class PostgresConnection:
    """A session with the server, as the store sees it."""

    def __init__(self, server: Server, handles: Handles) -> None:
        self.place = server.place
        self.sessions_begun = 0
        """How often a new server session was begun: when it grows, the locks of the one before are gone."""
        self._handles = handles
        self._own = PerProcess(_Own)

    @property
    def busy(self) -> threading.RLock:
        """Held while a statement or transaction is under way."""
        return self._own.get().busy

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open here, as the server last said."""
        handle = self._handle
        return handle is not None and not handle.closed and not _is_idle(handle)

    @property
    def has_session(self) -> bool:
        """Whether there is a server session here, as far as this end knows."""
        return self._handle is not None

    def run(self, statement: Statement, parameters: Parameters = NO_PARAMETERS) -> list[Row]:
        """Run one statement and take all of its rows.

        Raises:
            DatabaseError: of the type that says what to do.
        """
        with self.busy:
            handle = self._taken()
            alone, cursor = _is_idle(handle), None
            try:
                cursor = handle.execute(cast("Any", statement.sql), parameters)
                return cast("list[Row]", cursor.fetchall() if cursor.description else [])
            except Exception as error:
                unknown = statement.changes and (alone or statement.name == "commit")
                raise self._typed(error, handle, unknown=unknown, answered=cursor is not None) from error
            except BaseException:
                self.close()  # interrupted half way: nobody knows what the server is doing
                raise
            finally:
                self._given_back()

    def was_notified(self, seconds: float) -> bool:
        """Whether the session, which listens, hears anything within so many seconds.

        Raises:
            StoreUnavailable: it was lost.
        """
        with self.busy:
            handle = self._taken()
            try:
                return hears(handle, seconds)
            except psycopg.Error as error:
                self.close()
                raise lost(error, self.place, unknown=False) from error
            except BaseException:
                self.close()
                raise

    def begun(self) -> int:
        """Begin a server session if there is none or the last one was lost, and say how many there were."""
        with self.busy:
            self._taken()
            return self.sessions_begun

    def close(self) -> None:
        """End the server session; what was not committed is rolled back, and locks are gone."""
        with self.busy:
            own = self._own.get()
            handle, own.handle = own.handle, None
            if handle is not None:
                handle.close()
                self._handles.give(handle)

    @property
    def _handle(self) -> Handle | None:
        return self._own.get().handle

    def _taken(self) -> Handle:
        own = self._own.get()
        # Only between transactions: within one the loss is met by a statement, and ends the operation.
        if own.handle is not None and (own.handle.closed or (_is_idle(own.handle) and not is_alive(own.handle))):
            self.close()
        if own.handle is None:
            own.handle = self._handles.take()
            self.sessions_begun += 1
        return own.handle

    def _given_back(self) -> None:
        own = self._own.get()
        handle = own.handle
        if handle is not None and (handle.closed or (self._handles.lent and _is_idle(handle))):
            own.handle = None  # first: an interruption may lose a handle, and must never leave it to two
            self._handles.give(handle)

    def _typed(self, error: Exception, handle: Handle, *, unknown: bool, answered: bool) -> DatabaseError:
        """The caller's error; the session ends if it is of no use any more, or in the middle of something."""
        settled = handle.info.transaction_status in _SETTLED
        if ends_session(error) or not settled:
            self.close()
        if answered or not isinstance(error, psycopg.Error):
            return unreadable(error, self.place, unknown=unknown)
        # A server that says ERROR and goes on has undone the statement.
        return typed(error, self.place, unknown=unknown and not (settled and is_refusal(error)))


def _is_idle(handle: Handle) -> bool:
    return handle.info.transaction_status == pq.TransactionStatus.IDLE
