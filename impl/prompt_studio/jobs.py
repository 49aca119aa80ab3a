"""A job as callers see it, and the answers that calls on it give.

Rows are plain dicts. Answers are `Outcome`s: typed, truthy when the state is as the caller wanted it. Nothing here
knows how or where a job is stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, NotRequired, TypedDict
from uuid import UUID, uuid5

_MADE_WITH: Final = UUID("5bd2f1c6-0d0e-4b57-9d5a-6f0c8a7e3b41")


class JobType(StrEnum):
    """What a job does."""

    EVALUATION = "evaluation"
    OPTIMIZATION = "optimization"
    GENERATION = "generation"


class JobStatus(StrEnum):
    """Where a job is in its life."""

    QUEUED = "queued"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


TERMINAL: Final = frozenset({JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED})
"""The statuses of a job that nobody works on any more."""


def uuid_made_with(optimization_uuid: str) -> str:
    """The uuid of the job that is made together with an optimization, so that each finds the other.

    An optimization may get more jobs, and the first may be cleaned up: its age does not tell which it was.
    """
    return str(uuid5(_MADE_WITH, str(optimization_uuid)))


class ClosedBy(StrEnum):
    """The closing calls that carry a token, as the row remembers them."""

    COMPLETE = "complete"
    FAIL = "fail"
    RELEASE = "release"


class JobRow(TypedDict):
    """One job. Times are aware UTC datetimes, exact to the millisecond.

    `replayed` is in the answer of a create with an idempotency key, and nowhere else: an earlier call had made the job.
    """

    id: int
    uuid: str
    job_type: JobType
    entity_id: int
    project_id: int | None
    priority: int
    status: JobStatus
    payload: Any
    result: Any
    error_message: str | None
    retry_count: int
    max_retries: int
    client_id: str
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    leased_until: datetime | None
    lease_owner: str | None
    lease_token: int
    available_at: datetime
    executions: int
    execution_limit: int
    was_reclaim: bool
    late: bool
    closed_token: int | None
    closed_by: ClosedBy | None
    replayed: NotRequired[bool]


class OutcomeKind(StrEnum):
    """What became of a call that wanted to change a job."""

    APPLIED = "applied"
    ALREADY = "already"
    NOT_FOUND = "not_found"
    LEASE_LOST = "lease_lost"
    TERMINAL = "terminal"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The answer to a call on one job; true when it was applied, by this call or by an earlier one of its name.

    Attributes:
        kind: applied (this call did it), already (this token's call of that name, or the same tokenless move, was
            applied before; nothing changed and arguments are not compared: look at `status`), or why not.
        status: the job's status as the call left it; None when there is no such job.
        late: the call was accepted under a lease that had already expired.
        job: the row, when applied or already.
    """

    kind: OutcomeKind
    status: JobStatus | None = None
    late: bool = False
    job: JobRow | None = None

    def __bool__(self) -> bool:
        return self.kind in {OutcomeKind.APPLIED, OutcomeKind.ALREADY}


@dataclass(frozen=True, slots=True)
class IdempotencyRecord:
    """What a key stands for: the canonical entity, and whether this very call made it so."""

    entity_id: int
    created: bool


class LeaseStats(TypedDict):
    """How many running jobs have a live lease, one that ends soon, and one that has expired."""

    active: int
    expiring_soon: int
    stale_processing: int


class JobStats(TypedDict):
    """The queue at one instant."""

    by_status: dict[str, int]
    by_type: dict[str, int]
    avg_processing_time_seconds: float
    success_rate: float
    queue_depth: int
    processing: int
