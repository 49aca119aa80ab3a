"""What a store offers, whatever it is made of. Arguments have been checked; durations are seconds, instants ms."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from prompt_studio.jobs import (
    IdempotencyRecord,
    JobRow,
    JobStats,
    JobStatus,
    JobType,
    LeaseStats,
    Outcome,
)
from prompt_studio.storage.capabilities import BackendType, Capabilities
from prompt_studio.storage.claims import Listener, LockCounts
from prompt_studio.storage.idempotency_operations import Key
from prompt_studio.storage.job_operations import NewJob


class JobStore(Protocol):
    """The operations, each with the effect that `PromptStudioDatabase` promises for it."""

    @property
    def backend_type(self) -> BackendType:
        """Which kind of database it is."""

    @property
    def capabilities(self) -> Capabilities:
        """What it can do."""

    def create_job(self, new: NewJob) -> JobRow:
        """A new queued job."""

    def get_job(self, job_id: int) -> JobRow | None:
        """One job by id."""

    def get_job_by_uuid(self, job_uuid: str) -> JobRow | None:
        """One job by uuid."""

    def list_jobs(self, status: JobStatus | None, job_types: Sequence[JobType], limit: int) -> list[JobRow]:
        """The first jobs in claim order."""

    def count_jobs(self, status: JobStatus | None, job_types: Sequence[JobType]) -> int:
        """How many jobs there are."""

    def list_jobs_for_entity(self, job_type: JobType, entity_id: int, *, limit: int, ascending: bool) -> list[JobRow]:
        """An entity's jobs by creation."""

    def move(
        self, job_id: int, status: JobStatus, *, error_message: str | None = None, result: str | None = None
    ) -> Outcome:
        """An operator's change of status."""

    def retry_failed(self, job_id: int) -> Outcome:
        """An operator's retry."""

    def cleanup_jobs(self, older_than_days: int) -> int:
        """Delete old terminal jobs."""

    def acquire_next_job(
        self, worker_id: str | None, lease_seconds: int, job_types: Sequence[JobType]
    ) -> JobRow | None:
        """Lease the best eligible job."""

    def acquire_this_job(self, job_id: int, worker_id: str | None, lease_seconds: int) -> Outcome:
        """Lease one job."""

    def renew_lease(self, job_id: int, lease_token: int, seconds: int) -> Outcome:
        """Prolong a lease."""

    def renew_lease_by_owner(self, job_id: int, worker_id: str, seconds: int) -> Outcome:
        """Prolong a lease without its token."""

    def complete(self, job_id: int, lease_token: int, result: str | None) -> Outcome:
        """End an attempt with a result."""

    def fail(self, job_id: int, lease_token: int, error_message: str | None) -> Outcome:
        """End an attempt and the job with an error."""

    def fail_or_requeue(self, job_id: int, lease_token: int, error_message: str | None, *, spread: int) -> Outcome:
        """End an attempt with an error."""

    def release(self, job_id: int, lease_token: int) -> Outcome:
        """Give an attempt back."""

    def forget_lease(self, job_id: int, lease_token: int) -> None:
        """Stop working on an attempt, without a word to the row."""

    def listener(self) -> Listener | None:
        """Hear when a job was queued."""

    def lock_counts(self) -> LockCounts:
        """What happened to advisory locks."""

    def lookup_idempotency(self, key: Key) -> int | None:
        """What a key stands for."""

    def record_idempotency(self, key: Key, entity_id: int) -> IdempotencyRecord:
        """Make a key stand for an entity."""

    def job_stats(self) -> JobStats:
        """The queue as numbers."""

    def lease_stats(self, warn_seconds: int) -> LeaseStats:
        """The leases as numbers."""

    def transaction(self) -> AbstractContextManager[None]:
        """The caller's own transaction."""

    def close_connection(self) -> None:
        """Close this thread's connection."""

    def close(self) -> None:
        """Close everything."""
