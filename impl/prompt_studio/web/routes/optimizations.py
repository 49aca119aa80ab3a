"""Optimizations over HTTP: each is made together with its job, in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final

from fastapi import APIRouter

from prompt_studio.database import PromptStudioDatabase
from prompt_studio.entities import JobRequest, OptimizationRow, OptimizationStatus, PromptWithProjectRow
from prompt_studio.errors import EntityGone
from prompt_studio.jobs import JobRow, uuid_made_with
from prompt_studio.optimization import RELATIONS, STRATEGIES, KnobError, Strategy, validate_strategy_config
from prompt_studio.optimization.gates import switched_on_here
from prompt_studio.optimization.knobs import Choice
from prompt_studio.optimization.rules import folded
from prompt_studio.optimization.validation import knobs_of, strategy_named
from prompt_studio.web.answers import Page, PathId, creates, refusals
from prompt_studio.web.edge import Database, Here
from prompt_studio.web.problems import ProblemError, ProblemRoute
from prompt_studio.web.requests import Create, Creation, described_body
from prompt_studio.web.routes.projects import project_of
from prompt_studio.web.routes.prompts import prompt_of
from prompt_studio.web.schemas import (
    AnOptimizationStatus,
    OptimizationConfig,
    OptimizationCreate,
    ShortConfig,
    SimpleOptimization,
    StudioChoice,
    StudioEnvelope,
    StudioJobState,
    StudioKnob,
    StudioMade,
    StudioOptimization,
    StudioOptimizations,
    StudioRelation,
    StudioStrategy,
)
from prompt_studio.web.users import Turn, User

router: Final = APIRouter(prefix="/optimizations", route_class=ProblemRoute, tags=["optimizations"])

SHORT_FORM: Final = "create_simple_optimization"
"""The short form is an operation by itself: the same content means something else to the other one."""


def optimization_of(database: PromptStudioDatabase, user: str, optimization_id: int) -> OptimizationRow:
    """The user's optimization.

    Raises:
        ProblemError: 404, there is none, or it is somebody else's; nobody is told which.
    """
    found = database.get_optimization(optimization_id, user_id=user)  # impl: PS-HTTP-4
    if found is None:
        raise ProblemError(404, f"there is no optimization {optimization_id}")
    return found


def _validate_strategy_config(
    optimizer_type: str,
    cfg: Mapping[str, Any],
    *,
    strict: bool = False,
    switched_on: Iterable[str] | None = None,
) -> None:
    """Refuse, with 400, knobs that break their rules; None: the environment says which strategies are switched on.

    Raises:
        ProblemError: 400, an `HTTPException`; its `detail` is a text that names each knob, its value and its rule.
    """
    gates = switched_on_here() if switched_on is None else switched_on
    try:
        validate_strategy_config(optimizer_type, cfg, strict=strict, switched_on=gates)
    except KnobError as error:
        raise ProblemError(400, str(error)) from error


def _made_once(create: Creation, make: Callable[[Creation], OptimizationRow]) -> OptimizationRow:
    find = partial(create.database.get_optimization, include_deleted=True, user_id=create.user)
    return create.made_once("optimization", find, make)


@router.post(
    "/create",
    status_code=201,
    responses=creates(201, 404),
    openapi_extra=described_body(OptimizationCreate),
)
def create_optimization(create: Create) -> StudioEnvelope[StudioMade]:
    """Make an optimization and its job; with an idempotency key, once."""
    with create.patience():
        made = _made_once(create, _made)
    job = made.get("job")  # a replay makes none
    told = StudioMade(optimization=StudioOptimization.model_validate(made), job_id=None if job is None else job["id"])
    return StudioEnvelope(data=told)


def _made(create: Creation) -> OptimizationRow:
    wanted = create.checked(OptimizationCreate)
    config = wanted.optimization_config
    _check_knobs(create, config, create.body["optimization_config"])
    prompt = prompt_of(create.database, create.user, wanted.initial_prompt_id)
    if prompt["project_id"] != wanted.project_id:
        raise ProblemError(404, f"there is no prompt {wanted.initial_prompt_id} in project {wanted.project_id}")
    _check_test_cases(create, wanted)
    samples = None if wanted.bootstrap_config is None else wanted.bootstrap_config.num_samples
    payload = wanted.model_dump(mode="json", include={"bootstrap_config", "test_case_ids", "description"})
    return _created(create, prompt, config, payload, name=wanted.name, bootstrap_samples=samples)


@router.post("", responses=creates(200, 404), openapi_extra=described_body(SimpleOptimization))
def create_simple_optimization(create: Create) -> StudioJobState:
    """Make an optimization of a prompt, in the short form, and answer with its job."""
    create = replace(create, operation=SHORT_FORM)
    with create.patience():
        made = _made_once(create, _simply_made)
        # The short form's answer is a job, so a repeated request is told the one that the first made.
        job = made.get("job") or _job_made_with(create.database, made)
    return StudioJobState(id=job["id"], status=job["status"])


def _simply_made(create: Creation) -> OptimizationRow:
    wanted = create.checked(SimpleOptimization)
    config = wanted.config or ShortConfig()
    _check_knobs(create, config, create.body.get("config") or {})
    return _created(create, prompt_of(create.database, create.user, wanted.prompt), config, {})


def _check_test_cases(create: Creation, wanted: OptimizationCreate) -> None:
    owns = create.here.owns_test_case
    for test_case_id in dict.fromkeys(wanted.test_case_ids or ()):
        if owns is not None and owns(create.user, wanted.project_id, test_case_id) is not True:  # impl: PS-HTTP-4
            raise ProblemError(404, f"there is no test case {test_case_id}")


def _check_knobs(create: Creation, config: OptimizationConfig | ShortConfig, received: Mapping[str, Any]) -> None:
    """Look at the knobs as they were received: what the schema adds is no knob that somebody has set."""
    here = create.here
    _validate_strategy_config(config.optimizer_type, received, strict=here.strict, switched_on=here.switched_on)


def _created(
    create: Creation,
    prompt: PromptWithProjectRow,
    wanted: OptimizationConfig | ShortConfig,
    payload: Mapping[str, Any],
    **columns: Any,  # noqa: ANN401 - what only one of the two forms can say
) -> OptimizationRow:
    config = wanted.stored()
    return create.database.create_optimization(
        project_id=prompt["project_id"],
        initial_prompt_id=prompt["id"],
        optimizer_type=_stored(wanted.optimizer_type),
        optimization_config=config,
        max_iterations=wanted.max_iterations,
        job=JobRequest(payload={"optimization_config": config, **payload}),
        operation=create.operation,
        **{"name": None, **columns, **create.once},
    )


def _job_made_with(database: PromptStudioDatabase, made: OptimizationRow) -> JobRow:
    job = database.get_job_by_uuid(uuid_made_with(made["uuid"]))  # impl: PS-HTTP-3
    if job is None:
        raise EntityGone(
            f"the job that was made with optimization {made['id']} is not there any more: ask for the optimization, "
            "or use a new key to make another"
        )
    return job


def _stored(optimizer_type: str) -> str:
    """The strategy's own name, whichever of its names was given; a name that nobody knows as it is."""
    known = strategy_named(optimizer_type)
    return folded(optimizer_type.strip()) if known is None else known.name


@router.get("/strategies", responses=refusals())
def list_strategies(here: Here, user: User) -> StudioEnvelope[list[StudioStrategy]]:
    """The strategies, and what each can be told."""
    del user
    return StudioEnvelope(data=[_told(strategy, here.switched_on) for strategy in STRATEGIES])


def _told(strategy: Strategy, switched_on: frozenset[str]) -> StudioStrategy:
    return StudioStrategy(
        name=strategy.name,
        aliases=list(strategy.aliases),
        meaning=strategy.meaning,
        available=not strategy.gated or strategy.name in switched_on,
        knobs=[
            StudioKnob(
                name=knob.name,
                meaning=knob.meaning,
                rule=knob.rule.sentence,
                required=knob.required,
                required_when=_choice(knob.required_when),
                only_when=_choice(knob.only_when),
            )
            for knob in knobs_of(strategy)
        ],
        relations=[
            StudioRelation(knobs=list(relation.knobs), rule=relation.sentence)
            for relation in RELATIONS
            if strategy.name in relation.strategies
        ],
    )


def _choice(choice: Choice | None) -> StudioChoice | None:
    return None if choice is None else StudioChoice(knob=choice.knob, value=choice.value)


@router.get("/list/{project_id}", responses=refusals(404, 422))
def list_optimizations(
    database: Database, user: User, project_id: PathId, page: Page, status: AnOptimizationStatus | None = None
) -> StudioEnvelope[StudioOptimizations]:
    """The optimizations of one of the user's projects, the youngest first."""
    project_of(database, user, project_id)
    found = database.list_optimizations(project_id, status, page.page, page.per_page)
    return StudioEnvelope(data=StudioOptimizations.model_validate(found))


@router.get("/get/{optimization_id}", responses=refusals(404, 422))
def get_optimization(database: Database, user: User, optimization_id: PathId) -> StudioEnvelope[StudioOptimization]:
    """One of the user's optimizations."""
    return StudioEnvelope(data=StudioOptimization.model_validate(optimization_of(database, user, optimization_id)))


@router.post("/cancel/{optimization_id}", responses=refusals(404, 409, 422))
def cancel_optimization(
    database: Database, user: User, optimization_id: PathId, waited_seconds: Turn
) -> StudioEnvelope[StudioOptimization]:
    """Cancel one of the user's optimizations and all of its jobs. Once more is as good as once."""
    with database.one_patience(spent_seconds=waited_seconds):
        found = database.cancel_optimization(optimization_id, user_id=user)  # impl: PS-HTTP-4
    if found is None:
        raise ProblemError(404, f"there is no optimization {optimization_id}")
    if found["status"] is not OptimizationStatus.CANCELLED:
        raise ProblemError(409, f"optimization {optimization_id} is {found['status']} already")
    return StudioEnvelope(data=StudioOptimization.model_validate(found))


@router.get("/{job_id}", responses=refusals(404, 422))
def get_job(database: Database, user: User, job_id: PathId) -> StudioJobState:
    """The job of one of the user's optimizations."""
    job = database.get_optimization_job(job_id, user)  # impl: PS-HTTP-4
    if job is None:
        raise ProblemError(404, f"there is no job {job_id}")
    return StudioJobState(id=job["id"], status=job["status"])
