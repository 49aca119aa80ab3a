"""What can go wrong, as types.

Three kinds must not be mixed up. A *refusal* is an answer and no exception: see `Outcome`. An `InputError` is the
caller's mistake and is raised before anything is written. Everything else is a `DatabaseError`: trouble of the store,
whose type says whether the call may simply be repeated. Every message ends with what to do about it.
"""

from __future__ import annotations


class DatabaseError(Exception):
    """Trouble of the store; the call's own effect did not happen unless a subclass says that it may have."""


class SchemaError(DatabaseError):
    """The file or server holds something that this version did not make: nothing in it was altered."""


class ConflictError(DatabaseError):
    """Another row already has the value that must be unique."""


class MissingReference(DatabaseError):
    """What the new row is to refer to is not there, or was deleted: nothing was made."""


class UnreadableJob(DatabaseError):
    """A job's row holds what cannot be read; whatever was asked of it has been done all the same.

    Attributes:
        job_id: which job.
        lease_token: the fencing token that its row has, by which it can still be closed.
    """

    def __init__(self, message: str, *, job_id: int, lease_token: int) -> None:
        super().__init__(message)
        self.job_id = job_id
        self.lease_token = lease_token


class IdempotencyMismatch(DatabaseError):
    """The key stands for the entity of another request: nothing was made. Use a new key for a new request."""


class EntityGone(DatabaseError):
    """The key stands for an entity that is not there any more: nothing was made. Use a new key."""


class TransientConflict(DatabaseError):
    """Another session was in the way for too long. Nothing of this call's effect was committed: repeat it."""


class StoreUnavailable(DatabaseError):
    """The store cannot be reached, read or written.

    Attributes:
        outcome_unknown: False: nothing happened. True: the write had been sent and no answer came, so it may have
            happened; an acquire that was lost in this way costs one execution.
    """

    def __init__(self, message: str, *, outcome_unknown: bool = False) -> None:
        super().__init__(message)
        self.outcome_unknown = outcome_unknown


class InvariantViolation(DatabaseError):
    """A write would have broken a rule of the store, which refused it: a defect here, or rows changed by hand.

    Attributes:
        invariant: the rule's name: one of `specs/invariants.md`, such as INV-LEASE-FIELDS, or, where the rule is only
            a value's range or form, its constraint's in the schema, such as priority_in_range.
    """

    def __init__(self, message: str, *, invariant: str) -> None:
        super().__init__(message)
        self.invariant = invariant


class InputError(ValueError):
    """An argument or setting breaks its rule. Nothing was sent to the store: correct the call."""
