"""Bodies and answers, as pydantic knows them. What an entity is, the library says; here is its shape on the wire."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Generic, Literal, Self, TypeVar

from pydantic import AllowInfNan, BaseModel, ConfigDict, Field, model_validator

from prompt_studio.entities import OptimizationStatus, ProjectStatus
from prompt_studio.jobs import JobStatus
from prompt_studio.values import INT64_MAX, LONG_TEXT_CHARACTERS_MAX, TEXT_CHARACTERS_MAX

Data = TypeVar("Data")

NUL: Final = "\0"
NO_NUL: Final = r"^[^\x00]*$"

Id = Annotated[int, Field(strict=True, ge=1, le=INT64_MAX)]
Name = Annotated[str, Field(min_length=1, max_length=TEXT_CHARACTERS_MAX, pattern=NO_NUL)]
LongText = Annotated[str, Field(max_length=LONG_TEXT_CHARACTERS_MAX, pattern=NO_NUL)]
Finite = Annotated[float, AllowInfNan(allow_inf_nan=False)]


class Received(BaseModel):
    """What a request may bring. Fields that nobody knows are let be."""

    model_config = ConfigDict(extra="ignore")


class ProjectCreate(Received):
    """A project to be made."""

    name: Name
    description: LongText | None = None
    status: ProjectStatus = ProjectStatus.DRAFT
    metadata: dict[str, Any] | None = None


class PromptCreate(Received):
    """A version of a prompt to be made."""

    project_id: Id
    name: Name
    signature_id: Id | None = None
    version_number: Annotated[int, Field(strict=True, ge=1, le=2**31 - 1)] = 1
    system_prompt: LongText | None = None
    user_prompt: LongText | None = None
    few_shot_examples: list[Any] | None = None
    modules_config: Any = None
    parent_version_id: Id | None = None
    change_description: LongText | None = None


class OptimizationConfig(Received):
    """How to look for a better prompt. Knobs of the strategy stand beside these, or in `strategy_params`."""

    model_config = ConfigDict(extra="allow")

    optimizer_type: Name
    target_metric: Name
    max_iterations: Annotated[int, Field(strict=True, ge=1, le=500)] = 50
    target_value: Finite | None = None
    early_stopping: bool = True
    early_stopping_patience: Annotated[int, Field(strict=True, ge=1, le=2**31 - 1)] = 5
    temperature_range: Annotated[list[Annotated[float, Field(ge=0, le=2)]], Field(min_length=2, max_length=2)] = [0, 1]
    techniques_to_try: list[str] = ["cot", "few_shot"]
    models_to_test: list[str] | None = None
    budget_limit: Annotated[float, AllowInfNan(allow_inf_nan=False), Field(ge=0)] | None = None
    strategy_params: Any = Field(default_factory=dict)

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if self.temperature_range[0] >= self.temperature_range[1]:
            raise ValueError("temperature_range must be [min, max] with min < max")
        return self


class BootstrapConfig(Received):
    """How examples are collected."""

    num_samples: Annotated[int, Field(strict=True, ge=10, le=1_000)] = 50
    selection_method: Name = "diverse"
    quality_threshold: Annotated[float, Field(ge=0, le=1)] = 0.7
    max_examples_per_prompt: Annotated[int, Field(strict=True, ge=1, le=20)] = 5


class OptimizationCreate(Received):
    """An optimization to be made, and its job."""

    project_id: Id
    initial_prompt_id: Id
    optimization_config: OptimizationConfig
    bootstrap_config: BootstrapConfig | None = None
    test_case_ids: list[Id] | None = None
    name: Name | None = None
    description: LongText | None = None


class SimpleOptimization(Received):
    """An optimization to be made, in the short form."""

    prompt_id: Id | None = None
    initial_prompt_id: Id | None = None
    config: dict[str, Any] = Field(default_factory=dict)

    @property
    def prompt(self) -> int:
        """The prompt, whichever of its two names it has."""
        return self.prompt_id or self.initial_prompt_id or 0

    @model_validator(mode="after")
    def _names_a_prompt(self) -> Self:
        if self.prompt_id is None and self.initial_prompt_id is None:
            raise ValueError("prompt_id or initial_prompt_id is needed")
        return self


class Project(BaseModel):
    """A project."""

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


class Prompt(BaseModel):
    """A version of a prompt."""

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


class Optimization(BaseModel):
    """An optimization."""

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


class Made(BaseModel):
    """An optimization that was made, and its job: none if an earlier request had made them."""

    optimization: Optimization
    job_id: int | None


class JobState(BaseModel):
    """Where a job is in its life."""

    id: int
    status: JobStatus


class Pagination(BaseModel):
    """Which page it is, of how many."""

    page: int
    per_page: int
    total: int
    total_pages: int


class Projects(BaseModel):
    """A page of projects."""

    projects: list[Project]
    pagination: Pagination


class Prompts(BaseModel):
    """A page of prompts."""

    prompts: list[Prompt]
    pagination: Pagination


class Optimizations(BaseModel):
    """A page of optimizations."""

    optimizations: list[Optimization]
    pagination: Pagination


class KnobTold(BaseModel):
    """A knob, for whoever fills in a form."""

    name: str
    meaning: str
    rule: str
    required: bool


class StrategyTold(BaseModel):
    """A strategy and its knobs."""

    name: str
    aliases: list[str]
    meaning: str
    available: bool
    knobs: list[KnobTold]


class Leases(BaseModel):
    """How many leases there are."""

    active: int
    expiring_soon: int
    stale_processing: int


class Status(BaseModel):
    """How the queue is."""

    queue_depth: int
    processing: int
    leases: Leases
    by_status: dict[str, int]
    by_type: dict[str, int]
    avg_processing_time_seconds: float | None
    success_rate: float | None


class Health(BaseModel):
    """That the server can use its database."""

    status: Literal["ok"] = "ok"


class Envelope(BaseModel, Generic[Data]):
    """How every answer comes."""

    success: Literal[True] = True
    data: Data
    error: None = None
    error_code: None = None
    metadata: None = None
