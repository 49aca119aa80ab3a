"""The job queue of Prompt Studio: leases, fencing tokens and idempotency keys on an SQL database."""

from prompt_studio.clock import Clock
from prompt_studio.config import Settings
from prompt_studio.database import PromptStudioDatabase
from prompt_studio.entities import (
    IterationPage,
    IterationRow,
    JobRequest,
    OptimizationPage,
    OptimizationRow,
    OptimizationStatus,
    Pagination,
    ProjectPage,
    ProjectRow,
    ProjectStatus,
    PromptPage,
    PromptRow,
    PromptWithProjectRow,
)
from prompt_studio.errors import (
    ConflictError,
    DatabaseError,
    EntityGone,
    IdempotencyMismatch,
    InputError,
    InvariantViolation,
    MissingReference,
    SchemaError,
    StoreUnavailable,
    TransientConflict,
    UnreadableJob,
)
from prompt_studio.job_manager import JobManager
from prompt_studio.jobs import (
    IdempotencyRecord,
    JobRow,
    JobStats,
    JobStatus,
    JobType,
    LeaseStats,
    Outcome,
    OutcomeKind,
)
from prompt_studio.metrics import Metrics
from prompt_studio.migration import migrate
from prompt_studio.migration_report import MigrationReport
from prompt_studio.running.handlers import Handlers, JobContext, JobStopped, NotRetryable
from prompt_studio.storage.capabilities import BackendType, Capabilities

__all__ = [
    "BackendType",
    "Capabilities",
    "Clock",
    "ConflictError",
    "DatabaseError",
    "EntityGone",
    "Handlers",
    "IdempotencyMismatch",
    "IdempotencyRecord",
    "InputError",
    "InvariantViolation",
    "IterationPage",
    "IterationRow",
    "JobContext",
    "JobManager",
    "JobRequest",
    "JobRow",
    "JobStats",
    "JobStatus",
    "JobStopped",
    "JobType",
    "LeaseStats",
    "Metrics",
    "MigrationReport",
    "MissingReference",
    "NotRetryable",
    "OptimizationPage",
    "OptimizationRow",
    "OptimizationStatus",
    "Outcome",
    "OutcomeKind",
    "Pagination",
    "ProjectPage",
    "ProjectRow",
    "ProjectStatus",
    "PromptPage",
    "PromptRow",
    "PromptStudioDatabase",
    "PromptWithProjectRow",
    "SchemaError",
    "Settings",
    "StoreUnavailable",
    "TransientConflict",
    "UnreadableJob",
    "migrate",
]
