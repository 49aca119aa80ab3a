"""Bodies and answers, as pydantic knows them. What an entity is, the library says; here is its shape on the wire.

What a request brings is taken as it is: "1" is no number, 1 is no switch, and true is neither. The names of answers
stand in the OpenAPI description of the application that has the routes, hence their first half.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Final, Generic, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    AllowInfNan,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)

from prompt_studio.entities import OptimizationStatus, ProjectStatus
from prompt_studio.jobs import JobStatus
from prompt_studio.values import INT64_MAX, LONG_TEXT_CHARACTERS_MAX, TEXT_CHARACTERS_MAX

Data = TypeVar("Data")

TEST_CASES_MAX: Final = 1_000
"""Of one optimization. A host may be asked of each, while others wait."""

NUL: Final = "\0"
NO_NUL: Final = r"^[^\x00]*$"


def _whole(number: object) -> object:
    """1 for 1.0: to JSON Schema, and so to our description, that is a whole number."""
    return int(number) if isinstance(number, float) and number.is_integer() else number


# Behind the limits: those that stand behind a validator are checked, and the description knows nothing of them.
Whole = BeforeValidator(_whole)
Id = Annotated[int, Field(strict=True, ge=1, le=INT64_MAX), Whole]
Name = Annotated[str, Field(min_length=1, max_length=TEXT_CHARACTERS_MAX, pattern=NO_NUL)]
LongText = Annotated[str, Field(max_length=LONG_TEXT_CHARACTERS_MAX, pattern=NO_NUL)]
Finite = Annotated[float, AllowInfNan(allow_inf_nan=False), Field(strict=True)]
Switch = Annotated[bool, Field(strict=True)]


def _one_of(known: type[StrEnum]) -> AfterValidator:
    """One of the words of a closed list. As an enum it would want a name in the description, as the host's may, too."""

    def check(word: str) -> str:
        if word not in set(known):
            raise ValueError(f"must be one of {', '.join(known)}")
        return str(word)

    return AfterValidator(check)


def _words(known: type[StrEnum]) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "enum": [str(word) for word in known]})


AProjectStatus = Annotated[str, _one_of(ProjectStatus), _words(ProjectStatus)]
AnOptimizationStatus = Annotated[str, _one_of(OptimizationStatus), _words(OptimizationStatus)]
AJobStatus = Annotated[str, _one_of(JobStatus), _words(JobStatus)]


class Received(BaseModel):
    """What a request may bring. Fields that nobody knows are let be."""

    model_config = ConfigDict(extra="ignore")


class ProjectCreate(Received):
    """A project to be made."""

    name: Name
    description: LongText | None = None
    status: AProjectStatus = ProjectStatus.DRAFT
    metadata: dict[str, Any] | None = None


class PromptCreate(Received):
    """A version of a prompt to be made."""

    project_id: Id
    name: Name
    signature_id: Id | None = None
    version_number: Annotated[int, Field(strict=True, ge=1, le=2**31 - 1), Whole] = 1
    system_prompt: LongText | None = None
    user_prompt: LongText | None = None
    few_shot_examples: list[Any] | None = None
    modules_config: Any = None
    parent_version_id: Id | None = None
    change_description: LongText | None = None


class AnyConfig(Received):
    """What the configuration of an optimization may say. Knobs stand beside these, or in `strategy_params`."""

    model_config = ConfigDict(extra="allow")

    max_iterations: Annotated[int, Field(strict=True, ge=1, le=500), Whole] = 50
    target_value: Finite | None = None
    early_stopping: Switch = True
    early_stopping_patience: Annotated[int, Field(strict=True, ge=1, le=2**31 - 1), Whole] = 5
    temperature_range: Annotated[list[Annotated[Finite, Field(ge=0, le=2)]], Field(min_length=2, max_length=2)] = [0, 1]
    techniques_to_try: list[str] = ["cot", "few_shot"]
    models_to_test: list[str] | None = None
    budget_limit: Annotated[Finite, Field(ge=0)] | None = None
    strategy_params: Any = Field(default_factory=dict)

    def stored(self) -> dict[str, Any]:
        """What is kept of it, as JSON values: what was given, and the defaults.

        But no null that nobody gave where `strategy_params` has a value of that name: it would hide the value, and what
        is kept could not be sent again.
        """
        within = self.strategy_params if isinstance(self.strategy_params, dict) else {}
        nulls = {name for name in within.keys() - self.model_fields_set if getattr(self, name, ...) is None}
        return self.model_dump(mode="json", exclude=nulls)  # impl: PS-VALIDATION-EXPAND-3

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if self.temperature_range[0] >= self.temperature_range[1]:
            raise ValueError("temperature_range must be [min, max] with min < max")
        return self


class OptimizationConfig(AnyConfig):
    """How to look for a better prompt."""

    optimizer_type: Name
    target_metric: Name


class ShortConfig(AnyConfig):
    """The same in the short form, which needs to say nothing."""

    optimizer_type: Name = "iterative"
    target_metric: Name | None = None


class BootstrapConfig(Received):
    """How examples are collected."""

    num_samples: Annotated[int, Field(strict=True, ge=10, le=1_000), Whole] = 50
    selection_method: Name = "diverse"
    quality_threshold: Annotated[Finite, Field(ge=0, le=1)] = 0.7
    max_examples_per_prompt: Annotated[int, Field(strict=True, ge=1, le=20), Whole] = 5


class OptimizationCreate(Received):
    """An optimization to be made, and its job."""

    project_id: Id
    initial_prompt_id: Id
    optimization_config: OptimizationConfig
    bootstrap_config: BootstrapConfig | None = None
    test_case_ids: Annotated[list[Id], Field(max_length=TEST_CASES_MAX)] | None = None
    name: Name | None = None
    description: LongText | None = None


class SimpleOptimization(Received):
    """An optimization to be made, in the short form."""

    prompt_id: Id | None = None
    initial_prompt_id: Id | None = None
    config: ShortConfig | None = None

    @property
    def prompt(self) -> int:
        """The prompt, whichever of its two names it has."""
        return self.prompt_id or self.initial_prompt_id or 0

    @model_validator(mode="after")
    def _names_a_prompt(self) -> Self:
        named = {self.prompt_id, self.initial_prompt_id} - {None}
        if not named:
            raise ValueError("prompt_id or initial_prompt_id is needed")
        if len(named) > 1:
            raise ValueError(
                "prompt_id and initial_prompt_id are two names of one: give one of them, or the same twice"
            )
        return self


class StudioProject(BaseModel):
    """A project."""

    id: int
    uuid: str
    name: str
    description: str | None
    user_id: str
    client_id: str
    status: AProjectStatus
    deleted: bool
    deleted_at: datetime | None
    created_at: datetime
    updated_at: datetime
    metadata: Any


class StudioPrompt(BaseModel):
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


class StudioOptimization(BaseModel):
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
    status: AnOptimizationStatus
    error_message: str | None
    total_tokens: int | None
    total_cost: float | None
    client_id: str
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None


class StudioMade(BaseModel):
    """An optimization that was made, and its job: none if an earlier request had made them."""

    optimization: StudioOptimization
    job_id: int | None


class StudioJobState(BaseModel):
    """Where a job is in its life."""

    id: int
    status: AJobStatus


class StudioPagination(BaseModel):
    """Which page it is, of how many."""

    page: int
    per_page: int
    total: int
    total_pages: int


class StudioProjects(BaseModel):
    """A page of projects."""

    projects: list[StudioProject]
    pagination: StudioPagination


class StudioPrompts(BaseModel):
    """A page of prompts."""

    prompts: list[StudioPrompt]
    pagination: StudioPagination


class StudioOptimizations(BaseModel):
    """A page of optimizations."""

    optimizations: list[StudioOptimization]
    pagination: StudioPagination


class StudioChoice(BaseModel):
    """That another knob has a value."""

    knob: str
    value: str


class StudioKnob(BaseModel):
    """A knob, for whoever fills in a form: it must be there, or must where a choice was made, or may only there."""

    name: str
    meaning: str
    rule: str
    required: bool
    required_when: StudioChoice | None
    only_when: StudioChoice | None


class StudioRelation(BaseModel):
    """What must hold between knobs where all of them are there; it is asked of the first."""

    knobs: list[str]
    rule: str


class StudioStrategy(BaseModel):
    """A strategy and its knobs."""

    name: str
    aliases: list[str]
    meaning: str
    available: bool
    knobs: list[StudioKnob]
    relations: list[StudioRelation]


class StudioLeases(BaseModel):
    """How many leases there are."""

    active: int
    expiring_soon: int
    stale_processing: int


class StudioStatus(BaseModel):
    """How the queue is."""

    queue_depth: int
    processing: int
    leases: StudioLeases
    by_status: dict[str, int]
    by_type: dict[str, int]
    avg_processing_time_seconds: float | None
    success_rate: float | None


class StudioHealth(BaseModel):
    """That the server can use its database."""

    status: Literal["ok"] = "ok"


class StudioEnvelope(BaseModel, Generic[Data]):
    """How every answer comes."""

    success: Literal[True] = True
    data: Data
    error: None = None
    error_code: None = None
    metadata: None = None
