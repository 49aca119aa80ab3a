"""Keeps SQLite safe when the process forks.

SQLite remembers per *process* which locks it holds on a file, and POSIX gives a forked child none of them. So a child
of a process with an open connection believes in locks that it does not have, even when it opens a connection of its
own. As a timeline, seen on SQLite 3.40: the parent has the file open and forks; the child opens its own connection;
the parent closes, finds no lock but its own, takes itself for the last one and deletes the write-ahead log; the child
goes on committing into the deleted log. Every one of its acknowledged writes is lost.

Hence connections are closed *before* the fork, and open themselves again at their next use, on both sides. A
connection that is in the middle of a transaction cannot be closed; its file is then refused in the child, and the
inherited connection is neither used, nor closed (that would undo the parent's work), nor collected.
"""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from collections.abc import Callable
from contextlib import ExitStack
from typing import Final, Protocol

from prompt_studio.errors import StoreUnavailable
from prompt_studio.storage.dialect import Lock

FileIdentity = tuple[int, int]
"""What tells one file from another, whatever it is called: device and inode."""

BUSY_SECONDS_MAX: Final = 1.0
"""How long a fork waits for another thread to finish what it is doing with the database."""


class Forkable(Protocol):
    """What this module must know of a connection."""

    identity: FileIdentity | None

    @property
    def busy(self) -> Lock:
        """Held while the connection is in use."""

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""

    def close(self) -> None:
        """Close the handle; the next use opens another."""

    def abandon(self) -> object:
        """Forget the handle without closing it, and return it."""


_registering: Final = threading.RLock()
"""Held through a fork, so that no connection appears between the look at all of them and the fork."""

_connections: weakref.WeakSet[Forkable] = weakref.WeakSet()
_inherited_files: set[FileIdentity | None] = set()  # None: one that was about to be opened
_left_open: list[Forkable] = []
_until_forked = ExitStack()


def watch(connection: Forkable) -> None:
    """From now on close this connection before every fork."""
    with _registering:
        _connections.add(connection)


def refuse_inherited(identity: FileIdentity, path: str) -> None:
    """Refuse a file that was in use in the parent at the moment of the fork.

    Raises:
        StoreUnavailable: it was; nothing was opened.
    """
    if identity in _inherited_files:
        raise StoreUnavailable(
            f"{path}: this process was forked while a transaction on the file was open, and SQLite cannot tell its "
            "locks from its parent's: fork outside of transactions, or start workers by spawn or forkserver"
        )


def _before() -> None:
    _until_forked.enter_context(_registering)
    for connection in list(_connections):
        if connection.busy.acquire(timeout=BUSY_SECONDS_MAX):
            _until_forked.callback(connection.busy.release)
            if not connection.in_transaction:
                connection.close()
                continue
        _left_open.append(connection)


def _after_in_parent() -> None:
    _left_open.clear()
    _until_forked.close()


def _after_in_child() -> None:
    for connection in _left_open:
        _inherited_files.add(connection.identity)
        # One reference more than there are holders: not even the interpreter's end may close it.
        _never_free(ctypes.py_object(connection.abandon()))
    _left_open.clear()
    _until_forked.close()


_never_free: Final[Callable[[ctypes.py_object], None]] = ctypes.pythonapi.Py_IncRef

os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
