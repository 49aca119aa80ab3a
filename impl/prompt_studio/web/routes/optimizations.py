"""Optimizations over HTTP: each is made together with its job, in one transaction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from fastapi import APIRouter, Request

from prompt_studio.database import PromptStudioDatabase
from prompt_studio.entities import JobRequest, OptimizationRow, OptimizationStatus
from prompt_studio.errors import EntityGone
from prompt_studio.jobs import JobType
from prompt_studio.optimization import STRATEGIES, KnobError, Strategy, validate_strategy_config
from prompt_studio.optimization.validation import knobs_of, strategy_named
from prompt_studio.web.answers import CREATES, Page, PathId, refusals
from prompt_studio.web.problems import ProblemError
from prompt_studio.web.requests import Create, Creation, Database, described_body
from prompt_studio.web.routes.projects import project_of
from prompt_studio.web.routes.prompts import prompt_of
from prompt_studio.web.schemas import (
    Envelope,
    JobState,
    KnobTold,
    Made,
    Optimization,
    OptimizationCreate,
    Optimizations,
    SimpleOptimization,
    StrategyTold,
)
from prompt_studio.web.users import User

router: Final = APIRouter(prefix="/optimizations", tags=["optimizations"])

STRATEGY_OF_THE_SHORT_FORM: Final = "iterative"
_CLOSED: Final = frozenset({OptimizationStatus.COMPLETED, OptimizationStatus.FAILED})


def optimization_of(database: PromptStudioDatabase, user: str, optimization_id: int) -> OptimizationRow:
    """The user's optimization.

    Raises:
        ProblemError: 404, there is none, or it is somebody else's; nobody is told which.
    """
    found = database.get_optimization(optimization_id)
    project = None if found is None else database.get_project(found["project_id"])
    if found is None or project is None or project["user_id"] != user:  # impl: PS-HTTP-4
        raise ProblemError(404, f"there is no optimization {optimization_id}")
    return found


def _validate_strategy_config(request: Request, optimizer_type: str, config: Mapping[str, Any]) -> None:
    """Refuse, with 400, knobs that break their rules."""
    state = request.app.state
    try:
        validate_strategy_config(optimizer_type, config, strict=state.strict, switched_on=state.switched_on)
    except KnobError as error:
        raise ProblemError(400, str(error)) from error


def _replayed(create: Creation) -> OptimizationRow | None:
    return create.replayed("optimization", create.database.get_optimization)


@router.post(
    "/create",
    status_code=201,
    responses=refusals(404, *CREATES),
    openapi_extra=described_body(OptimizationCreate),
)
def create_optimization(request: Request, create: Create) -> Envelope[Made]:
    """Make an optimization and its job; with an idempotency key, once."""
    made = _replayed(create) or _made(request, create, create.checked(OptimizationCreate))
    job = made.get("job")  # a replay makes none
    return Envelope(
        data=Made(optimization=Optimization.model_validate(made), job_id=None if job is None else job["id"])
    )


def _made(request: Request, create: Creation, wanted: OptimizationCreate) -> OptimizationRow:
    settings = wanted.optimization_config
    _validate_strategy_config(request, settings.optimizer_type, create.body["optimization_config"])
    prompt = prompt_of(create.database, create.user, wanted.initial_prompt_id)
    if prompt["project_id"] != wanted.project_id:
        raise ProblemError(404, f"there is no prompt {wanted.initial_prompt_id} in project {wanted.project_id}")
    config = settings.model_dump(mode="json")
    payload = wanted.model_dump(mode="json", include={"bootstrap_config", "test_case_ids", "description"})
    made = create.database.create_optimization(
        project_id=wanted.project_id,
        name=wanted.name,
        initial_prompt_id=wanted.initial_prompt_id,
        optimizer_type=_stored(settings.optimizer_type),
        optimization_config=config,
        max_iterations=settings.max_iterations,
        bootstrap_samples=None if wanted.bootstrap_config is None else wanted.bootstrap_config.num_samples,
        job=JobRequest(payload={"optimization_config": config, **payload}),
        **create.once,
    )
    return create.answered(made)


@router.post("", responses=refusals(404, *CREATES), openapi_extra=described_body(SimpleOptimization))
def create_simple_optimization(request: Request, create: Create) -> JobState:
    """Make an optimization of a prompt, in the short form, and answer with its job."""
    made = _replayed(create) or _simply_made(request, create, create.checked(SimpleOptimization))
    # The short form's answer is a job, so a repeated request is told the one that the first made.
    job = made.get("job")
    if job is None:
        jobs = create.database.list_jobs_for_entity(JobType.OPTIMIZATION, made["id"], limit=1)
        if not jobs:
            raise EntityGone(f"the job of optimization {made['id']} is not there any more")
        job = jobs[0]
    return JobState(id=job["id"], status=job["status"])


def _simply_made(request: Request, create: Creation, wanted: SimpleOptimization) -> OptimizationRow:
    strategy = wanted.config.get("optimizer_type", STRATEGY_OF_THE_SHORT_FORM)
    _validate_strategy_config(request, strategy, wanted.config)
    prompt = prompt_of(create.database, create.user, wanted.prompt)
    made = create.database.create_optimization(
        project_id=prompt["project_id"],
        name=None,
        initial_prompt_id=prompt["id"],
        optimizer_type=_stored(strategy),
        optimization_config=wanted.config,
        job=JobRequest(payload={"optimization_config": wanted.config}),
        **create.once,
    )
    return create.answered(made)


def _stored(optimizer_type: str) -> str:
    """The strategy's own name, whichever of its names was given; a name that nobody knows as it is."""
    known = strategy_named(optimizer_type)
    return optimizer_type.strip().lower() if known is None else known.name


@router.get("/strategies", responses=refusals())
def list_strategies(request: Request, user: User) -> Envelope[list[StrategyTold]]:
    """The strategies, and what each can be told."""
    del user
    switched_on = request.app.state.switched_on
    return Envelope(data=[_told(strategy, switched_on) for strategy in STRATEGIES])


def _told(strategy: Strategy, switched_on: frozenset[str]) -> StrategyTold:
    return StrategyTold(
        name=strategy.name,
        aliases=list(strategy.aliases),
        meaning=strategy.meaning,
        available=not strategy.gated or strategy.name in switched_on,
        knobs=[
            KnobTold(name=knob.name, meaning=knob.meaning, rule=knob.rule.sentence, required=knob.required)
            for knob in knobs_of(strategy)
        ],
    )


@router.get("/list/{project_id}", responses=refusals(404, 422))
def list_optimizations(
    database: Database, user: User, project_id: PathId, page: Page, status: OptimizationStatus | None = None
) -> Envelope[Optimizations]:
    """The optimizations of one of the user's projects, the youngest first."""
    project_of(database, user, project_id)
    found = database.list_optimizations(project_id, status, page.page, page.per_page)
    return Envelope(data=Optimizations.model_validate(found))


@router.get("/get/{optimization_id}", responses=refusals(404, 422))
def get_optimization(database: Database, user: User, optimization_id: PathId) -> Envelope[Optimization]:
    """One of the user's optimizations."""
    return Envelope(data=Optimization.model_validate(optimization_of(database, user, optimization_id)))


@router.post("/cancel/{optimization_id}", responses=refusals(404, 409, 422))
def cancel_optimization(database: Database, user: User, optimization_id: PathId) -> Envelope[Optimization]:
    """Cancel one of the user's optimizations and its job. Once more is as good as once."""
    found = optimization_of(database, user, optimization_id)
    if found["status"] in _CLOSED:
        raise ProblemError(409, f"optimization {optimization_id} is {found['status']} already")
    job = database.get_latest_job_for_entity(JobType.OPTIMIZATION, optimization_id)
    if job is not None:
        database.cancel_job(job["id"])
    cancelled = found
    if found["status"] != OptimizationStatus.CANCELLED:
        cancelled = database.set_optimization_status(optimization_id, OptimizationStatus.CANCELLED) or found
    return Envelope(data=Optimization.model_validate(cancelled))


@router.get("/{job_id}", responses=refusals(404, 422))
def get_job(database: Database, user: User, job_id: PathId) -> JobState:
    """The job of one of the user's optimizations."""
    job = database.get_job(job_id)
    absent = ProblemError(404, f"there is no job {job_id}")
    if job is None or job["job_type"] != JobType.OPTIMIZATION:
        raise absent
    try:
        optimization_of(database, user, job["entity_id"])
    except ProblemError as error:
        raise absent from error  # that there is such a job is not to be learned from another text
    return JobState(id=job["id"], status=job["status"])
