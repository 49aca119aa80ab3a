"""What the queue knows at one instant: rows, keys, sessions and the clock.

Every value is immutable and hashable, so that a state can be a dictionary key of the explorer and a member of a
set of possible states. Times are whole milliseconds on one clock. Statuses are plain strings because they are hashed a
million times in a minute and an enumeration's hash is a Python call.

The module deliberately knows nothing of transitions: who may change what stands in `table` and `leases`.
"""

from collections.abc import Hashable, Iterable
from typing import Final, Literal, NamedTuple

Status = Literal["queued", "processing", "completed", "failed", "cancelled"]
TERMINAL: Final[frozenset[Status]] = frozenset({"completed", "failed", "cancelled"})

Closing = Literal["complete", "fail", "release"]


class Settings(NamedTuple):
    """The constants of one world. The defaults are those of the store."""

    advisory_locks: bool = False
    patience: int | None = None  # milliseconds; None: as long as the lease that the caller asks for
    retention: int | None = None  # milliseconds that an idempotency row counts; None: for ever
    exhausted_per_call: int = 100
    lease_limit: int = 3_600_000
    backoff_first: int = 1_000
    backoff_limit: int = 600_000


class Job(NamedTuple):
    """One row of the queue. `request` is what the creator asked for: opaque here, and never changed."""

    id: int
    request: Hashable
    job_type: str
    priority: int
    max_retries: int
    created_at: int
    available_at: int
    execution_limit: int
    status: Status = "queued"
    executions: int = 0
    retry_count: int = 0
    lease_token: int = 0
    lease_owner: str | None = None
    leased_until: int | None = None
    started_at: int | None = None
    completed_at: int | None = None
    was_reclaim: bool = False
    late: bool = False
    closed_token: int | None = None
    closed_by: Closing | None = None
    error: Hashable = None
    result: Hashable = None

    def expired(self, now: int) -> bool:
        """Say whether the lease has run out. Live while `now < leased_until`: the boundary itself is expired."""
        return self.leased_until is not None and self.leased_until <= now

    def eligible(self, now: int) -> bool:
        """Say whether an acquire may take the job at `now`."""
        if self.status == "queued":
            return self.available_at <= now
        return self.expired(now) and self.executions < self.execution_limit

    def exhausted(self, now: int) -> bool:
        """Say whether the lease has run out with no attempt left."""
        return self.expired(now) and self.executions >= self.execution_limit


def claim_order(job: Job) -> tuple[int, int, int]:
    """Sort key of the queue: the best job has the smallest. A reclaimed job has no special place."""
    return (-job.priority, job.created_at, job.id)


class Scope(NamedTuple):
    """Who owns an idempotency key. `user_id` None is a scope of its own, not a wildcard."""

    entity_type: str
    key: str
    user_id: str | None


class IdempotencyRow(NamedTuple):
    """One recorded mapping from a scope to the canonical entity. Without a fingerprint it matches every request."""

    scope: Scope
    entity_id: int
    created_at: int
    fingerprint: str | None = None


class AdvisoryLock(NamedTuple):
    """A session's lock on a job, held for the attempt with this token."""

    job_id: int
    lease_token: int


class Refusal(NamedTuple):
    """A session's memory of when a queued row's lock was first refused to it."""

    job_id: int
    lease_token: int
    since: int


class Session(NamedTuple):
    """A worker's own database session. Only what outlives a call is kept."""

    name: str
    locks: frozenset[AdvisoryLock] = frozenset()
    refusals: frozenset[Refusal] = frozenset()


class State(NamedTuple):
    """The whole world. Rows are sorted by id, keys in the order of their first record, sessions by name."""

    now: int = 0
    next_id: int = 1
    jobs: tuple[Job, ...] = ()
    keys: tuple[IdempotencyRow, ...] = ()
    sessions: tuple[Session, ...] = ()

    def job(self, job_id: int) -> Job | None:
        """Return the row with this id, or None."""
        for job in self.jobs:
            if job.id == job_id:
                return job
        return None

    def with_job(self, changed: Job) -> "State":
        """Return the state with one row replaced."""
        return self._replace(jobs=tuple(changed if job.id == changed.id else job for job in self.jobs))

    def session(self, name: str) -> Session:
        """Return the session's memory; a session that never locked anything has an empty one."""
        return next((session for session in self.sessions if session.name == name), Session(name))

    def with_session(self, changed: Session) -> "State":
        """Return the state with one session replaced, or dropped when it holds and remembers nothing."""
        others: Iterable[Session] = (session for session in self.sessions if session.name != changed.name)
        kept = [*others, changed] if changed.locks or changed.refusals else others
        return self._replace(sessions=tuple(sorted(kept)))
