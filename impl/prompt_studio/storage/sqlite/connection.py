"""One connection to an SQLite file, and how it is set up.

Python's own transaction handling is off: every BEGIN and COMMIT is ours to see. So is SQLite's waiting for locks,
since it waits on a schedule without chance in it, and not at all where it fears a deadlock; the store waits instead.
Each setting has a function of its own: what it does, then why.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Final, cast

from prompt_studio.clock import Clock
from prompt_studio.errors import StoreUnavailable
from prompt_studio.storage.dialect import NO_PARAMETERS, Parameters, Row
from prompt_studio.storage.sqlite import forks
from prompt_studio.storage.sqlite.trouble import typed
from prompt_studio.storage.statements import Statement
from prompt_studio.storage.versions import CREATE_IT

PRODUCTION_CLOCK: Final = "CAST(ROUND((julianday('now') - 2440587.5) * 86400000) AS INTEGER)"
"""Without ROUND half of the stamps are a millisecond low; before SQLite 3.42 nothing better gives milliseconds."""

INJECTED_CLOCK: Final = "prompt_studio_now()"
SQLITE_VERSION_MIN: Final = (3, 37, 0)
"""The first with STRICT tables; RETURNING is older."""


class SqliteConnection:
    """A connection of one thread. Its handle is opened at the first use, and again after `close` or a fork."""

    def __init__(self, path: Path, *, clock: Clock | None, identity: forks.FileIdentity | None, create: bool) -> None:
        """Remember which file to open; nothing is opened yet.

        Args:
            path: the file.
            clock: the time that statements read instead of the database's, for tests.
            identity: the file that must be found there; None accepts any, and from then on that one only.
            create: make the file if there is none.
        """
        self.path = path
        self.name = str(path)
        self.busy = threading.RLock()
        self.identity = identity
        self._create = create
        self._clock = clock
        self._reading: int | None = None
        self._handle: sqlite3.Connection | None = None
        forks.watch(self)

    @property
    def in_transaction(self) -> bool:
        """Whether SQLite has a transaction open here. It ends some by itself, such as on a full disk."""
        return self._handle is not None and self._handle.in_transaction

    def run(self, statement: Statement, parameters: Parameters = NO_PARAMETERS) -> list[Row]:
        """Run one statement and take all of its rows: a cursor left half read would keep its transaction open.

        Raises:
            DatabaseError: of the type that says what to do; the statement has had no effect.
        """
        with self.busy:
            handle = self._handle or self._open()
            if not handle.in_transaction:  # impl: PS-FAULTS-2
                self._refuse_another_file()
            self._reading = None
            try:
                return cast("list[Row]", handle.execute(statement.sql, parameters).fetchall())
            except sqlite3.Error as error:
                raise typed(error, self.name, committing=statement.name == "commit") from error

    def close(self) -> None:
        """Close the handle, which rolls back what was not committed."""
        with self.busy:
            handle = self._handle
            self._handle = None
            if handle is not None:
                handle.close()

    def abandon(self) -> object:
        """Forget the handle without closing it: in a forked child it is the parent's."""
        handle = self._handle
        self._handle = None
        self.busy = threading.RLock()  # the old one is held for ever, by a thread that exists in the parent only
        return handle

    def _open(self) -> sqlite3.Connection:
        refuse_unusable_file(self.path, create=self._create)
        uri = f"{self.path.as_uri()}?mode={'rwc' if self._create else 'rw'}"
        try:
            with ExitStack() as undo:
                handle = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=0, check_same_thread=False)
                undo.callback(handle.close)
                self._set_up(handle)
                undo.pop_all()
        except sqlite3.Error as error:
            raise typed(error, str(self.path), committing=False) from error
        self._handle = handle
        return handle

    def _set_up(self, handle: sqlite3.Connection) -> None:
        found = file_identity(self.path)
        forks.refuse_inherited(found, str(self.path))
        self.identity = self.identity or found
        self._refuse_another_file()
        handle.row_factory = sqlite3.Row
        if self._clock is not None:
            handle.create_function("prompt_studio_now", 0, self._now)
        commit_durably(handle)
        enforce_foreign_keys(handle)

    def _now(self) -> int:
        # One reading for each statement, as SQLite's own clock has it, however often the text names the clock.
        if self._reading is None:
            self._reading = cast("Clock", self._clock).now_milliseconds()
        return self._reading

    def _refuse_another_file(self) -> None:
        """A deleted file can still be written to, as long as it is open, and nobody will ever read it again."""
        if file_identity(self.path) != self.identity:
            raise StoreUnavailable(
                f"{self.path} was replaced by another file while it was open: nothing was written; open it again"
            )


def commit_durably(handle: sqlite3.Connection) -> None:
    """A commit returns when it is on the disk: `synchronous = EXTRA`.

    A job whose creation was acknowledged must be there after a power cut. NORMAL gives that up in exchange for speed.
    With a write-ahead log EXTRA is the same as FULL; with a rollback journal FULL does not sync the directory in which
    the journal was deleted, so the journal may come back and undo the commit.
    """
    handle.execute("PRAGMA synchronous = EXTRA").fetchall()


def enforce_foreign_keys(handle: sqlite3.Connection) -> None:
    """References are checked: `foreign_keys = ON`.

    SQLite leaves them unchecked unless each connection asks.
    """
    handle.execute("PRAGMA foreign_keys = ON").fetchall()


def file_identity(path: Path) -> forks.FileIdentity:
    """Device and inode of the file. It is never opened for this: closing would drop the locks that SQLite has on it.

    Raises:
        StoreUnavailable: there is no such file any more, or its directory may not be searched.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise StoreUnavailable(
            f"{path} cannot be found ({error.strerror}): nothing was written; restore it, then open it again"
        ) from error
    return status.st_dev, status.st_ino


def refuse_unusable_file(path: Path, *, create: bool) -> None:
    """Refuse what cannot become a database that this process may write to.

    SQLite would open a file that it may not write to, and fail at the first write.

    Raises:
        StoreUnavailable: the message says what to do.
    """
    directory = path.parent
    try:
        if not directory.is_dir():
            raise StoreUnavailable(f"the directory {directory} does not exist: make it, or correct the location")
        _refuse_unless(directory, os.W_OK | os.X_OK)
        mode = path.stat().st_mode
    except FileNotFoundError:
        if create:
            return
        raise StoreUnavailable(f"{path} does not exist: correct the location, or {CREATE_IT}") from None
    except OSError as error:
        raise StoreUnavailable(f"{path} cannot be found: {error.strerror}: correct the location") from error
    if not stat.S_ISREG(mode):
        raise StoreUnavailable(f"{path} is not a regular file: name a file, which need not exist yet")
    _refuse_unless(path, os.R_OK | os.W_OK)


def _refuse_unless(place: Path, permitted: int) -> None:
    if not os.access(place, permitted, effective_ids=os.access in os.supports_effective_ids):
        raise StoreUnavailable(f"{place} is read-only for this user: change its mode or its owner")
