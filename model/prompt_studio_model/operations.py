"""Invocations and responses: what a client asks, and what it may be told.

An invocation carries everything that decides the answer, the dice included (`spread` of the back-off), so that a step
of the model is a function. `session` names the worker's database session on which the call runs; only advisory locks
depend on it. `operation` is the call's name in the table of outcomes.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Literal

from prompt_studio_model.state import Job, Scope, Status

OutcomeKind = Literal["applied", "already", "not_found", "lease_lost", "terminal", "refused"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """Something that is asked of the system, or that happens to it."""

    session: str = "operator"

    @property
    def operation(self) -> str:
        """Name of the call in the table of outcomes."""
        return type(self).__name__.lower()


@dataclass(frozen=True, slots=True, kw_only=True)
class JobCall(Invocation):
    """A call that names one job, with or without a fencing token."""

    job_id: int
    token: int | None = None
    owner: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Renew(JobCall):
    """Extend the lease: monotone, not additive. Without a token the owner's name must match."""

    lease: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Complete(JobCall):
    """Finish with a result."""

    result: Hashable = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fail(JobCall):
    """Give up this attempt; requeue with back-off while the budget lasts, if `retryable`."""

    retryable: bool = True
    spread: int = 1_000
    error: Hashable = None

    @property
    def operation(self) -> str:
        """Name of the call in the table of outcomes."""
        return "fail" if self.retryable else "fail_for_good"


@dataclass(frozen=True, slots=True, kw_only=True)
class Release(JobCall):
    """Give the job back unharmed: the attempt is not counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry(JobCall):
    """Revive a failed job (operator), or, with a token, fail with a retry."""

    spread: int = 1_000
    error: Hashable = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel(JobCall):
    """Cancel a queued or running job."""

    error: Hashable = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateStatus(JobCall):
    """The old general call: a closing call with a token, an operator's move without one."""

    status: Status
    lease: int = 60_000
    error: Hashable = None
    result: Hashable = None

    @property
    def operation(self) -> str:
        """Name of the call in the table of outcomes."""
        return f"update_{self.status}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Create(Invocation):
    """Insert a queued job. `available_at` None means now."""

    job_type: str = "evaluation"
    priority: int = 5
    max_retries: int = 3
    available_at: int | None = None
    request: Hashable = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateOnce(Create):
    """Insert a queued job, unless the key stands for one already; the fingerprint is that of the request."""

    scope: Scope
    fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Acquire(Invocation):
    """Take the best eligible job under a lease. `job_types` None means every type; `owner` None a fresh name."""

    owner: str | None = None
    lease: int = 60_000
    job_types: frozenset[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cleanup(Invocation):
    """Delete terminal rows older than `age` milliseconds."""

    age: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookup(Invocation):
    """Ask for the canonical entity of a key."""

    scope: Scope


@dataclass(frozen=True, slots=True, kw_only=True)
class Record(Invocation):
    """Map a key to an entity, unless it is mapped already."""

    scope: Scope
    entity_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanupKeys(Invocation):
    """Delete the keys that have expired."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick(Invocation):
    """The environment moves the one clock forward."""

    milliseconds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Crash(Invocation):
    """The environment kills a worker: its session and its locks are gone, its rows stay as they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoseReply(Invocation):
    """The environment cuts the connection in the middle of a call: it may have taken effect or not."""

    call: Invocation


@dataclass(frozen=True, slots=True)
class Outcome:
    """Answer to a call that names a job. Truthy when the caller may go on as if it had just been done."""

    kind: OutcomeKind
    status: Status | None = None
    late: bool = False
    job: Job | None = None

    def __bool__(self) -> bool:
        """Applied and already are truthy."""
        return self.kind in {"applied", "already"}


@dataclass(frozen=True, slots=True)
class Row:
    """Answer that is a row or nothing: create, acquire, and the old general update."""

    job: Job | None

    def __bool__(self) -> bool:
        """Say whether there is a row."""
        return self.job is not None


@dataclass(frozen=True, slots=True)
class Number:
    """Answer that is a count, an id, or None."""

    value: int | None


@dataclass(frozen=True, slots=True)
class Recorded:
    """Answer to record: the canonical entity, and whether this call made it so."""

    entity_id: int
    created: bool


@dataclass(frozen=True, slots=True)
class Made:
    """Answer to a create with a key: the canonical job, and whether this call made it. Truthy, as there is a job."""

    job: Job
    created: bool


@dataclass(frozen=True, slots=True)
class Mismatch:
    """The key stands for the entity of another request: nothing changed."""


@dataclass(frozen=True, slots=True)
class Gone:
    """The key stands for a job that was deleted: nothing changed."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """The call was malformed (InputError): nothing was looked at, nothing changed."""


@dataclass(frozen=True, slots=True)
class Nothing:
    """No answer: the environment moved, or the reply was lost."""


Response = Outcome | Row | Number | Recorded | Made | Mismatch | Gone | Rejected | Nothing
