"""What a store offers, whatever it is made of. Arguments have been checked; durations are seconds, instants ms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from prompt_studio.entities import (
    IterationPage,
    IterationRow,
    OptimizationPage,
    OptimizationRow,
    OptimizationStatus,
    ProjectPage,
    ProjectRow,
    PromptPage,
    PromptRow,
    PromptWithProjectRow,
)
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
from prompt_studio.storage.entity_operations import Page
from prompt_studio.storage.job_operations import NewJob
from prompt_studio.storage.keyed_creates import Key, Made, Once
from prompt_studio.storage.optimization_operations import Completion, NewIteration, NewOptimization
from prompt_studio.storage.project_operations import NewProject, ProjectFilter
from prompt_studio.storage.prompt_operations import NewPrompt


class ProjectStore(Protocol):
    """The operations on projects."""

    def create_project(self, new: NewProject, once: Once | None) -> Made[ProjectRow]:
        """A new project, once for each key."""

    def get_project(self, project_id: int, *, include_deleted: bool, user_id: str | None) -> ProjectRow | None:
        """One project."""

    def list_projects(self, wanted: ProjectFilter, page: Page) -> ProjectPage:
        """A page of projects."""

    def update_project(self, project_id: int, changes: Mapping[str, object]) -> ProjectRow | None:
        """Change some columns."""

    def delete_project(self, project_id: int, *, hard: bool) -> bool:
        """Hide a project, or delete it."""


class PromptStore(Protocol):
    """The operations on prompts."""

    def create_prompt(self, new: NewPrompt, once: Once | None) -> Made[PromptRow]:
        """A new prompt, once for each key."""

    def get_prompt(self, prompt_id: int, *, include_deleted: bool) -> PromptRow | None:
        """One prompt."""

    def get_prompt_with_project(
        self, prompt_id: int, *, include_deleted: bool, user_id: str | None
    ) -> PromptWithProjectRow | None:
        """One prompt, and whose it is."""

    def list_prompts(self, project_id: int, page: Page) -> PromptPage:
        """A page of a project's prompts."""

    def ensure_prompt(self, prompt_id: int, project_id: int, name: str, client_id: str) -> PromptRow:
        """A prompt with this id."""


class OptimizationStore(Protocol):
    """The operations on optimizations and their iterations."""

    def create_optimization(self, new: NewOptimization, once: Once | None, job: NewJob | None) -> Made[OptimizationRow]:
        """A new optimization and its job, once for each key."""

    def get_optimization(
        self, optimization_id: int, *, include_deleted: bool, user_id: str | None
    ) -> OptimizationRow | None:
        """One optimization."""

    def get_optimization_job(self, job_id: int, user_id: str) -> JobRow | None:
        """The job of a user's optimization."""

    def list_optimizations(
        self, project_id: int | None, status: OptimizationStatus | None, page: Page
    ) -> OptimizationPage:
        """A page of optimizations."""

    def set_optimization_status(
        self, optimization_id: int, status: OptimizationStatus, error_message: str | None
    ) -> OptimizationRow | None:
        """Say where an optimization is."""

    def cancel_optimization(
        self, optimization_id: int, user_id: str | None, reason: str | None
    ) -> OptimizationRow | None:
        """Call an optimization off, and its jobs."""

    def complete_optimization(self, optimization_id: int, known: Completion) -> OptimizationRow | None:
        """End an optimization well."""

    def record_iteration(self, new: NewIteration) -> IterationRow:
        """A new iteration."""

    def list_iterations(self, optimization_id: int, page: Page) -> IterationPage:
        """A page of an optimization's iterations."""


class JobStore(Protocol):
    """The operations, each with the effect that `PromptStudioDatabase` promises for it."""

    @property
    def backend_type(self) -> BackendType:
        """Which kind of database it is."""

    @property
    def capabilities(self) -> Capabilities:
        """What it can do."""

    def create_job(self, new: NewJob, once: Once | None = None) -> Made[JobRow]:
        """A new queued job, once for each key."""

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

    def acquire_next_job(self, worker_id: str | None, leases: Mapping[JobType, int]) -> JobRow | None:
        """Lease the best eligible job of these types, each for its own number of seconds."""

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

    def lookup_created(self, once: Once) -> int | None:
        """What a request has made under its key."""

    def lookup_idempotency(self, key: Key) -> int | None:
        """What a key stands for."""

    def record_idempotency(self, key: Key, entity_id: int) -> IdempotencyRecord:
        """Make a key stand for an entity."""

    def cleanup_idempotency(self) -> int:
        """Delete expired keys."""

    def job_stats(self) -> JobStats:
        """The queue as numbers."""

    def lease_stats(self, warn_seconds: int) -> LeaseStats:
        """The leases as numbers."""

    def schema_version(self) -> int:
        """Which version of the schema it has."""

    def one_patience(self, spent_seconds: float) -> AbstractContextManager[None]:
        """Several calls that wait no longer than one that has waited so long already."""

    def transaction(self) -> AbstractContextManager[None]:
        """The caller's own transaction."""

    def close_connection(self) -> None:
        """Close this thread's connection."""

    def close(self) -> None:
        """Close everything."""


class Store(JobStore, ProjectStore, PromptStore, OptimizationStore, Protocol):
    """Everything."""
