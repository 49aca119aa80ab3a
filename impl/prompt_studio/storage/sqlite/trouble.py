"""SQLite's errors, in this package's words.

SQLite says exactly what went wrong, by number; each number that can happen here gets the type that tells the caller
whether to repeat the call, and a sentence that says what to do. A number that is not listed is a plain DatabaseError:
it is never taken for something milder.
"""

from __future__ import annotations

import re
import sqlite3
from typing import Final

from prompt_studio.errors import (
    ConflictError,
    DatabaseError,
    InvariantViolation,
    SchemaError,
    StoreUnavailable,
    TransientConflict,
)

# BUSY: another connection holds the lock. PROTOCOL: several connections began to use the write-ahead log at once.
_IN_THE_WAY: Final = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_PROTOCOL}
_ADVICE: Final = {
    sqlite3.SQLITE_PERM: "give this user the right to read and write it",
    sqlite3.SQLITE_NOMEM: "free some memory, then repeat the call",
    sqlite3.SQLITE_READONLY: "make the file and its directory writable for this user",
    sqlite3.SQLITE_IOERR: "look at the disk and the system's log",
    sqlite3.SQLITE_CORRUPT: "stop writing, run PRAGMA integrity_check, and restore a backup",
    sqlite3.SQLITE_FULL: "free some space on the disk, then repeat the call",
    sqlite3.SQLITE_CANTOPEN: "check that the file and its directory exist and that this user may write to both",
}
# Of a statement that cannot be carried out SQLite gives no code of its own, only its words.
_SCHEMA: Final = (
    (
        re.compile("already exists|already (?:a|an|another) "),
        "something else has a name of the queue: rename or drop it",
    ),
    (re.compile("use DROP VIEW"), "bring it into the known form, or rename it"),
    (
        re.compile("no such (?:table|column)|has no column named"),
        "the tables were changed or dropped; restore them, or open it anew",
    ),
)
_UNIQUE: Final = {sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY}


def typed(error: sqlite3.Error, path: str, *, committing: bool) -> DatabaseError:
    """The error that callers see for this one of SQLite's, met while working on `path`.

    When a commit fails for another reason than a lock or a full disk, nobody can say whether the log on the disk
    holds it, and the answer says so (`outcome_unknown`).
    """
    extended = getattr(error, "sqlite_errorcode", None)
    primary = None if extended is None else extended & 0xFF
    if primary in _IN_THE_WAY:
        return TransientConflict(f"{path}: {error}")
    if primary == sqlite3.SQLITE_NOTADB:
        return SchemaError(f"{path} is not an SQLite database: name another file")
    if primary in _ADVICE:
        unknown = committing and primary != sqlite3.SQLITE_FULL
        return StoreUnavailable(f"{path}: {error}: {_ADVICE[primary]}", outcome_unknown=unknown)
    if extended in _UNIQUE:
        return ConflictError(f"{path}: {error}: use another value, or the row that has this one")
    if extended == sqlite3.SQLITE_CONSTRAINT_TRIGGER:
        return SchemaError(f"{path}: {error}")  # which says what to do
    if primary == sqlite3.SQLITE_CONSTRAINT:
        return _violation(error, path)
    for words, advice in _SCHEMA:
        if words.search(str(error)):
            return SchemaError(f"{path}: {error}: {advice}")
    # impl: PS-FAULTS-4
    return DatabaseError(f"{path}: {error}: if its tables were changed by hand, restore them")


def _violation(error: sqlite3.Error, path: str) -> InvariantViolation:
    _, _, rule = str(error).rpartition(": ")
    return InvariantViolation(
        f"{path}: the write was refused, since it would have broken {rule}: "
        "report it, unless rows were changed by hand; then mend those",
        invariant=rule,
    )
