"""How statements become transactions: one session for each thread, one transaction for each operation.

A read is one statement outside of any transaction, so it leaves none open. A write begins, runs, commits; if anything
goes wrong in between, whatever it is, it rolls back. A caller may put several calls into a transaction of his own;
after an error of the database that transaction can only be rolled back, as half of it may be gone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

from prompt_studio.errors import DatabaseError, InputError, StoreUnavailable
from prompt_studio.storage.dialect import NO_PARAMETERS, Connection, Dialect, Parameters, Row
from prompt_studio.storage.patience import Patience
from prompt_studio.storage.statements import Statement

COMMIT: Final = Statement("commit", "COMMIT")
ROLLBACK: Final = Statement("rollback", "ROLLBACK")

Answer = TypeVar("Answer")


class Session:
    """One thread's connection, and the transaction that is open on it."""

    def __init__(self, connection: Connection, begin_write: Statement, *, retry_seconds: float) -> None:
        self._connection = connection
        self._begin_write = begin_write
        self._retry_seconds = retry_seconds
        self._callers = False
        self._spoiled = False

    def run(self, statement: Statement, parameters: Parameters = NO_PARAMETERS) -> list[Row]:
        """Run one statement in whatever transaction there is."""
        return self._connection.run(statement, parameters)

    def read(self, operation: Callable[[Session], Answer]) -> Answer:
        """The answer of a read, which waits for others within the limit and leaves no transaction open."""
        if self._callers:
            return self._joined(operation)
        with self._connection.busy:
            return Patience(self._retry_seconds).retry(lambda: operation(self))

    def write(self, operation: Callable[[Session], Answer], *, joins: bool = False) -> Answer:
        """The answer of a write, which is committed when this returns, and rolled back when it raises.

        Args:
            operation: what to do; it may be given up, and is never run twice.
            joins: it may be part of the caller's transaction, and is then committed with it.

        Raises:
            InputError: it may not join, and the caller has a transaction open.
        """
        if self._callers and joins:
            return self._joined(operation)
        if self._callers:
            raise InputError(
                "this call cannot be part of a transaction(), since its answer must be committed when it is read: "
                "call it before or after"
            )
        patience = Patience(self._retry_seconds)
        with self._connection.busy:
            patience.retry(lambda: self.run(self._begin_write))
            try:
                answer = operation(self)
                patience.retry(lambda: self.run(COMMIT))
            except BaseException:
                self._roll_back()
                raise
        return answer

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """The caller's own transaction: committed at the end of the block, rolled back when it raises."""
        if self._callers:
            raise InputError("a transaction() is open on this thread already: use that one")
        patience = Patience(self._retry_seconds)
        with self._connection.busy:
            patience.retry(lambda: self.run(self._begin_write))
            self._callers, self._spoiled = True, False
            try:
                yield
                self._refuse_spoiled()
                patience.retry(lambda: self.run(COMMIT))
            except BaseException:
                self._roll_back()
                raise
            finally:
                self._callers = False

    def close(self) -> None:
        """End the session; the next call opens another."""
        self._connection.close()

    @property
    def callers_transaction(self) -> bool:
        """Whether the caller has a transaction() open."""
        return self._callers

    def _joined(self, operation: Callable[[Session], Answer]) -> Answer:
        self._refuse_spoiled()
        try:
            return operation(self)
        except DatabaseError:
            self._spoiled = True
            raise

    def _refuse_spoiled(self) -> None:
        # Some errors make the database end the transaction by itself; a statement would then commit at once, alone.
        if self._spoiled or not self._connection.in_transaction:
            raise DatabaseError(
                "an earlier error spoiled this transaction(), and nothing of it will be committed: "
                "let the error leave the block, then begin again"
            )

    def _roll_back(self) -> None:
        if not self._connection.in_transaction:
            return
        try:
            self.run(ROLLBACK)
        except DatabaseError:
            # The error that led here is the one to report. Closing rolls back as well, whatever the reason.
            self._connection.close()


class Sessions:
    """The sessions of one opened database, one for each thread that uses it."""

    def __init__(self, dialect: Dialect, *, retry_seconds: float) -> None:
        self._dialect = dialect
        self._retry_seconds = retry_seconds
        self._local = threading.local()
        self._guard = threading.Lock()
        self._all: list[tuple[threading.Thread, Session]] = []
        self._closed = False

    def current(self) -> Session:
        """This thread's session.

        Raises:
            StoreUnavailable: the database was closed.
        """
        if self._closed:
            raise StoreUnavailable("this database was closed: open it again")
        session: Session | None = getattr(self._local, "session", None)
        if session is None:
            session = Session(self._dialect.connect(), self._dialect.begin_write, retry_seconds=self._retry_seconds)
            self._local.session = session
            with self._guard:
                self._close_those_of_ended_threads()
                self._all.append((threading.current_thread(), session))
        return session

    def close_current(self) -> None:
        """Close this thread's connection; its next call opens another."""
        session = self.current()
        if session.callers_transaction:
            raise InputError("a transaction() is open on this thread: leave its block before closing the connection")
        session.close()

    def close(self) -> None:
        """Close all connections of this process, whichever thread uses them. Closing twice is allowed."""
        self._closed = True
        with self._guard:
            for _, session in self._all:
                session.close()
            self._all.clear()

    def _close_those_of_ended_threads(self) -> None:
        for thread, session in self._all:
            if not thread.is_alive():
                session.close()
        self._all = [(thread, session) for thread, session in self._all if thread.is_alive()]
