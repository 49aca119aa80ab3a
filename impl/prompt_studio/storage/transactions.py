"""How statements become transactions: one session for each thread, one transaction for each operation.

A read is one statement outside of any transaction, so it leaves none open. A write begins, runs, commits; if anything
goes wrong in between, whatever it is, it rolls back. Where several sessions can write at once, a write of one statement
is a transaction by itself. A caller may put several calls into a transaction of his own; after an error of the database
that transaction can only be rolled back, as half of it may be gone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

from prompt_studio.errors import DatabaseError, InputError, StoreUnavailable
from prompt_studio.storage.dialect import NO_PARAMETERS, Connection, Dialect, Lock, Parameters, Row
from prompt_studio.storage.patience import Patience
from prompt_studio.storage.statements import Statement

COMMIT: Final = Statement("commit", "COMMIT")
ROLLBACK: Final = Statement("rollback", "ROLLBACK")

Answer = TypeVar("Answer")


class Session:
    """One thread's connection, and the transaction that is open on it."""

    def __init__(
        self, connection: Connection, begin_write: Statement, *, retry_seconds: float, one_writer: bool
    ) -> None:
        """A session on this connection.

        Args:
            connection: of which nobody else may be in the middle of something.
            begin_write: how a transaction that will write begins.
            retry_seconds: how long one call waits for others, in all.
            one_writer: others are met at BEGIN and COMMIT only, and leave the transaction as it was; otherwise any
                statement may meet them, the transaction is then lost, and the whole operation is tried again.
        """
        self._connection = connection
        self._begin_write = begin_write
        self._retry_seconds = retry_seconds
        self._one_writer = one_writer
        self._shared: Patience | None = None
        self._callers = False
        self._spoiled = False
        self._ended = False

    def run(self, statement: Statement, parameters: Parameters = NO_PARAMETERS) -> list[Row]:
        """Run one statement in whatever transaction there is."""
        if self._ended:
            raise StoreUnavailable("this database was closed: open it again")
        return self._connection.run(statement, parameters)

    def patience(self) -> Patience:
        """What one call may spend on waiting for others; what is left of it where several calls have one in common."""
        return self._shared or Patience(self._retry_seconds)

    @contextmanager
    def one_patience(self, spent_seconds: float) -> Iterator[None]:
        """The calls in the block wait no longer, in all, than one may that has waited so long already."""
        outer = self._shared
        self._shared = outer or Patience(max(0.0, self._retry_seconds - spent_seconds))
        try:
            yield
        finally:
            self._shared = outer

    def read(self, operation: Callable[[Session], Answer]) -> Answer:
        """The answer of a read, which waits for others within the limit and leaves no transaction open."""
        if self._callers:
            return self._joined(operation)
        with held(self._connection):
            return self.patience().retry(lambda: operation(self))  # impl: PS-FAULTS-1

    def write(
        self,
        operation: Callable[[Session], Answer],
        *,
        joins: bool = False,
        alone: bool = False,
        patience: Patience | None = None,
        long: bool = False,
    ) -> Answer:
        """The answer of a write, which is committed when this returns, and rolled back when it raises.

        Args:
            operation: what to do; what it did is undone before it is tried again.
            joins: it may be part of the caller's transaction, and is then committed with it.
            alone: each of its statements may be committed by itself.
            patience: what is left of it, when one call needs several transactions.
            long: it takes so long that there would be no patience left for its commit.

        Raises:
            InputError: it may not join, and the caller has a transaction open.
        """
        patience = patience or self.patience()
        if self._callers and joins:  # impl: PS-CONCURRENCY-23
            return self._joined(operation)
        self.refuse_callers_transaction()
        if self._one_writer:
            return self._committed(operation, patience, long=long)
        if not alone:
            return patience.retry(lambda: self._committed(operation, patience, long=long))
        with held(self._connection):
            return patience.retry(lambda: operation(self))

    def refuse_callers_transaction(self) -> None:
        """Refuse a call that must not be part of the caller's transaction, while he has one open.

        Raises:
            InputError: he has.
        """
        if self._callers:
            raise InputError(
                "this call cannot be part of a transaction(), since its answer must be committed when it is read: "
                "call it before or after"
            )

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """The caller's own transaction: committed at the end of the block, rolled back when it raises."""
        if self._callers:
            raise InputError("a transaction() is open on this thread already: use that one")

        with self._transaction(self.patience(), long=True):
            self._callers, self._spoiled = True, False
            try:
                yield
            finally:
                self._callers = False
            self._refuse_spoiled()

    def close(self) -> None:
        """Close the connection; the next call opens another.

        Raises:
            InputError: the caller has a transaction open.
        """
        if self._callers:
            raise InputError("a transaction() is open on this thread: leave its block before closing the connection")
        self._connection.close()

    def end(self) -> bool:
        """Close the connection for good, whichever thread it belongs to; False when that thread goes on using it."""
        if not self._connection.busy.acquire(timeout=self._retry_seconds):
            return False
        try:
            self._ended = True
            self._connection.close()
        finally:
            self._connection.busy.release()
        return True

    def _committed(self, operation: Callable[[Session], Answer], patience: Patience, *, long: bool) -> Answer:
        with self._transaction(patience, long=long):
            return operation(self)

    @contextmanager
    def _transaction(self, patience: Patience, *, long: bool = False) -> Iterator[None]:
        with held(self._connection):
            try:  # around the BEGIN too: an interruption may arrive just after it took the lock
                patience.retry(lambda: self.run(self._begin_write))
                yield
                if self._one_writer:
                    # Tried again in its place: a rollback would let new readers in, and the next try meet them again.
                    # The time of a long one was not spent on waiting for others.
                    (Patience(self._retry_seconds) if long else patience).retry(lambda: self.run(COMMIT))
                else:
                    self.run(COMMIT)
            except BaseException:
                self._roll_back()
                raise

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


def held(connection: Connection) -> Lock:
    """Keep other threads from closing the connection, as they do before a fork and at the end.

    It is the lock itself, since an interruption can come between an `acquire()` and the `try` after it, and cannot
    come into `with`.
    """
    return connection.busy  # in a forked child the connection gets another


class Sessions:
    """The sessions of one opened database, one for each thread that uses it."""

    def __init__(self, dialect: Dialect, *, retry_seconds: float) -> None:
        self._dialect = dialect
        self._retry_seconds = retry_seconds
        self._local = threading.local()
        # No lock guards it, which a forked child could inherit held: each change is one operation of a dict.
        self._all: dict[threading.Thread, Session] = {}
        self._closed = False

    def current(self) -> Session:
        """This thread's session.

        Raises:
            StoreUnavailable: the database was closed.
        """
        session: Session | None = getattr(self._local, "session", None)
        if session is None:
            if self._closed:
                raise StoreUnavailable("this database was closed: open it again")
            session = self.opened(self._dialect.connect())
            self._local.session = session
            self._end_those_of_ended_threads()
            self._all[threading.current_thread()] = session
        return session

    def opened(self, connection: Connection) -> Session:
        """A session on this connection, which belongs to no thread."""
        return Session(
            connection,
            self._dialect.begin_write,
            retry_seconds=self._retry_seconds,
            one_writer=self._dialect.capabilities.one_writer,
        )

    def close(self) -> None:
        """Close all connections of this process, whichever thread uses them. Closing twice is allowed.

        Raises:
            StoreUnavailable: another thread stays in the middle of a transaction(), and keeps its connection.
        """
        self._closed = True
        in_use = [thread.name for thread, session in list(self._all.items()) if not session.end()]
        if in_use:
            raise StoreUnavailable(f"{', '.join(in_use)} has a transaction() open: let it end, then close again")

    def _end_those_of_ended_threads(self) -> None:
        for thread in list(self._all):
            if not thread.is_alive():
                self._all.pop(thread).end()
