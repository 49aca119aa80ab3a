"""Projects, prompts, optimizations and their iterations as callers see them: plain dicts, and pages of them.

Times are aware UTC datetimes. What a job may be asked of an optimization is here, too.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, NotRequired, TypedDict

from prompt_studio.jobs import JobRow


class ProjectStatus(StrEnum):
    """Where a project is in its life."""

    DRAFT = "draft"
    ACTIVE = "active"
    ARCHIVED = "archived"


class OptimizationStatus(StrEnum):
    """Where an optimization is in its life."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class ProjectRow(TypedDict):
    """One project. `replayed` is in the answer of a create with an idempotency key, and nowhere else."""

    id: int
    uuid: str
    name: str
    description: str | None
    user_id: str
    client_id: str
    status: ProjectStatus
    deleted: bool
    deleted_at: datetime | None
    created_at: datetime
    updated_at: datetime
    metadata: Any
    replayed: NotRequired[bool]


class PromptRow(TypedDict):
    """One version of a prompt. `replayed` is in the answer of a create with an idempotency key, and nowhere else."""

    id: int
    uuid: str
    project_id: int
    signature_id: int | None
    version_number: int
    name: str
    system_prompt: str | None
    user_prompt: str | None
    few_shot_examples: Any
    modules_config: Any
    parent_version_id: int | None
    change_description: str | None
    client_id: str
    deleted: bool
    deleted_at: datetime | None
    created_at: datetime
    updated_at: datetime
    replayed: NotRequired[bool]


class PromptWithProjectRow(PromptRow):
    """One version of a prompt, and whose it is."""

    project_name: str
    project_user_id: str
    project_status: ProjectStatus


class OptimizationRow(TypedDict):
    """One optimization.

    `job` is in the answer of a create that asked for one: None if an earlier call had made the optimization, and that
    job with it. `replayed` is in the answer of a create with an idempotency key. Both are nowhere else.
    """

    id: int
    uuid: str
    project_id: int
    name: str | None
    initial_prompt_id: int
    optimized_prompt_id: int | None
    optimizer_type: str
    optimization_config: Any
    initial_metrics: Any
    final_metrics: Any
    improvement_percentage: float | None
    iterations_completed: int | None
    max_iterations: int | None
    bootstrap_samples: int | None
    status: OptimizationStatus
    error_message: str | None
    total_tokens: int | None
    total_cost: float | None
    client_id: str
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    job: NotRequired[JobRow | None]
    replayed: NotRequired[bool]


class IterationRow(TypedDict):
    """What an optimization has tried once."""

    id: int
    uuid: str
    optimization_id: int
    iteration_number: int
    prompt_variant: Any
    metrics: Any
    tokens_used: int | None
    cost: float | None
    note: str | None
    created_at: datetime


class Pagination(TypedDict):
    """Which page it is, of how many; pages are counted from 1."""

    page: int
    per_page: int
    total: int
    total_pages: int


class ProjectPage(TypedDict):
    """A page of projects."""

    projects: list[ProjectRow]
    pagination: Pagination


class PromptPage(TypedDict):
    """A page of prompts."""

    prompts: list[PromptRow]
    pagination: Pagination


class OptimizationPage(TypedDict):
    """A page of optimizations."""

    optimizations: list[OptimizationRow]
    pagination: Pagination


class IterationPage(TypedDict):
    """A page of iterations."""

    iterations: list[IterationRow]
    pagination: Pagination


class JobRequest(TypedDict, total=False):
    """The job of an optimization that is to be made: what `create_job` would be given besides its type and entity."""

    payload: object
    priority: int
    max_retries: int
    available_at: datetime
