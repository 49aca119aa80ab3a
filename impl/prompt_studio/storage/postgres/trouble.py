"""Postgres's errors, in this package's words.

Postgres says what went wrong by a code of five characters (SQLSTATE); a lost connection often has none. Each that can
happen here gets the type that tells the caller whether to repeat the call, and a sentence that says what to do. A code
that is not listed is a plain DatabaseError: it is never taken for something milder.
"""

from __future__ import annotations

import re
from typing import Final

import psycopg
from psycopg import errors

from prompt_studio.errors import (
    ConflictError,
    DatabaseError,
    InvariantViolation,
    SchemaError,
    StoreUnavailable,
    TransientConflict,
)

# The statement was refused as a whole because of others, and its transaction with it: nothing of it was committed.
_IN_THE_WAY: Final = (
    errors.LockNotAvailable,  # lock_timeout
    errors.DeadlockDetected,
    errors.SerializationFailure,
)
# A prepared plan from before a change of the schema; the next connection makes another.
_OUTDATED_PLAN: Final = errors.FeatureNotSupported
_REVALIDATION: Final = "RevalidateCachedQuery"
"""Where in the server it is refused. Its message is in the server's language."""
_ADVICE: Final[dict[type[psycopg.Error], str]] = {
    errors.QueryCanceled: "nothing was written: raise statement_seconds, or see what made the statement slow",
    errors.IdleInTransactionSessionTimeout: "nothing of the transaction() was committed: keep it short, or raise "
    "idle_in_transaction_seconds",
    errors.InsufficientPrivilege: "give this user the right to read and write the tables",
    errors.ReadOnlySqlTransaction: "connect to the primary server, not to a standby",
    errors.DiskFull: "free some space on the server's disk, then repeat the call",
    errors.ProgramLimitExceeded: "nothing was written: make the values shorter",
    errors.OutOfMemory: "raise max_locks_per_transaction, or turn advisory locks off",
}
_SCHEMA: Final[dict[type[psycopg.Error], str]] = {
    **dict.fromkeys(
        (errors.UndefinedTable, errors.UndefinedColumn, errors.InvalidSchemaName),
        "the tables were changed or dropped; restore them, or open it anew",
    ),
    **dict.fromkeys(
        (errors.DuplicateTable, errors.DuplicateFunction, errors.DuplicateObject),
        "something else has a name of the queue: rename or drop it",
    ),
    errors.DependentObjectsStillExist: "a migration drops the table and makes it anew: drop the reference, migrate, "
    "then make it again",
    errors.WrongObjectType: "bring it into the known form, or rename it",
}
_IN_VAIN: Final = (errors.ProgramLimitExceeded,)  # to repeat the call would change nothing
# A refused connection has no code, only the server's words; in another language than English there is no advice.
_REFUSALS: Final = (
    (
        re.compile("too many (?:connections|clients)|connection slots are reserved"),
        "raise max_connections or the limit of the role or database, close idle clients, or lower pool_connections",
    ),
    (re.compile("starting up|shutting down|in recovery mode"), "the server is starting or stopping: repeat the call"),
    (re.compile("database .* does not exist"), "create the database, or correct the location"),
    (
        re.compile("password authentication failed|no password supplied"),
        "correct the user and password in the location",
    ),
    (
        re.compile("no pg_hba.conf entry|role .* does not exist"),
        "correct the user in the location, or the server's pg_hba.conf",
    ),
)
_VIOLATIONS: Final = (errors.CheckViolation, errors.NotNullViolation)


def typed(error: psycopg.Error, place: str, *, unknown: bool) -> DatabaseError:
    """The error that callers see for this one of Postgres's, met while working on the database at `place`.

    `unknown`: what was sent would have been committed by itself, so that without an answer nobody can say whether it
    was.
    """
    if isinstance(error, _IN_THE_WAY):
        return TransientConflict(f"{place}: {_said(error)}")
    if is_outdated_plan(error):
        return TransientConflict(f"{place}: the schema was changed while it was in use")
    for kind, advice in (_ADVICE | _SCHEMA).items():
        if isinstance(error, kind):
            return _type_advised(kind)(f"{place}: {_said(error)}: {advice}")
    if isinstance(error, errors.UniqueViolation):
        return ConflictError(f"{place}: {_said(error)}: use another value, or the row that has this one")
    if isinstance(error, errors.RaiseException):
        return SchemaError(f"{place}: {error.diag.message_primary}")  # a trigger's words, which say what to do
    if isinstance(error, _VIOLATIONS):
        return _violation(error, place)
    if isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError)):
        return lost(error, place, unknown=unknown)
    # impl: PS-FAULTS-4
    return DatabaseError(f"{place}: {_said(error)}: if its tables were changed by hand, restore them")


def _type_advised(kind: type[psycopg.Error]) -> type[DatabaseError]:
    if kind in _SCHEMA:
        return SchemaError
    return DatabaseError if kind in _IN_VAIN else StoreUnavailable


def refused(error: psycopg.Error, place: str) -> DatabaseError:
    """The error that callers see when no connection with the database at `place` came to be."""
    for words, advice in _REFUSALS:
        if words.search(str(error)):
            return StoreUnavailable(f"{place}: {_said(error)}: {advice}; nothing was written")
    return typed(error, place, unknown=False)


def lost(error: Exception, place: str, *, unknown: bool) -> StoreUnavailable:
    """The connection is gone, or never came to be."""
    happened = "the call may have been carried out: ask for the row" if unknown else "nothing was written"
    return StoreUnavailable(
        f"{place}: {_said(error)}: {happened}; see that the server runs and can be reached, then repeat the call",
        outcome_unknown=unknown,
    )


def unreadable(error: Exception, place: str, *, unknown: bool) -> DatabaseError:
    """A value could not be read from an answer, or written into a statement."""
    said = f"{place}: {type(error).__name__}: {_said(error)}"
    if unknown:
        return StoreUnavailable(
            f"{said}: the call may have been carried out: ask for the row, and see that nobody changed it by hand",
            outcome_unknown=True,
        )
    return DatabaseError(f"{said}: nothing was written; see that nobody changed rows by hand")


def refuse_encoding(encoding: str | None, place: str) -> None:
    """Refuse a database that cannot keep every text.

    Raises:
        SchemaError: it is of such an encoding.
    """
    if encoding != "UTF8":
        raise SchemaError(f"{place} has the encoding {encoding}: make a database with ENCODING 'UTF8'")


def refuse_date_style(style: str | None, place: str) -> None:
    """Refuse a session that writes times in a way that cannot be read back.

    Raises:
        StoreUnavailable: it does.
    """
    if not (style or "").startswith("ISO"):
        raise StoreUnavailable(
            f"{place} writes times in the style {style}, and behind a transaction_pooler a session cannot change it: "
            "ALTER ROLE ... SET DateStyle = 'ISO'; nothing was written"
        )


def ends_session(error: Exception) -> bool:
    """Whether the next session may be better: it makes its plans anew, or finds another server behind the name."""
    return isinstance(error, errors.ReadOnlySqlTransaction) or is_outdated_plan(error)


def is_outdated_plan(error: Exception) -> bool:
    """Whether a plan that was prepared before a change of the schema was refused."""
    if not isinstance(error, _OUTDATED_PLAN):
        return False
    place = error.diag.source_function
    return "cached plan" in str(error) if place is None else place == _REVALIDATION


def is_refusal(error: psycopg.Error) -> bool:
    """Whether the server refused a statement, and not the whole session."""
    return error.diag.severity_nonlocalized == "ERROR"


def _violation(error: psycopg.Error, place: str) -> DatabaseError:
    rule = error.diag.constraint_name or error.diag.column_name
    if rule is None:
        return DatabaseError(f"{place}: {_said(error)}")
    return InvariantViolation(
        f"{place}: the write was refused, since it would have broken {rule}: "
        "report it, unless rows were changed by hand; then mend those",
        invariant=rule,
    )


def _said(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
