"""Prompts over HTTP. They belong to whom their project belongs to."""

from __future__ import annotations

from functools import partial
from typing import Final

from fastapi import APIRouter

from prompt_studio.database import PromptStudioDatabase
from prompt_studio.entities import PromptRow, PromptWithProjectRow
from prompt_studio.web.answers import Page, PathId, creates, refusals
from prompt_studio.web.edge import Database
from prompt_studio.web.problems import ProblemError, ProblemRoute
from prompt_studio.web.requests import Create, Creation, described_body
from prompt_studio.web.routes.projects import project_of
from prompt_studio.web.schemas import PromptCreate, StudioEnvelope, StudioPrompt, StudioPrompts
from prompt_studio.web.users import User

router: Final = APIRouter(prefix="/prompts", route_class=ProblemRoute, tags=["prompts"])


def prompt_of(database: PromptStudioDatabase, user: str, prompt_id: int) -> PromptWithProjectRow:
    """The user's prompt.

    Raises:
        ProblemError: 404, there is none, or it is somebody else's; nobody is told which.
    """
    prompt = database.get_prompt_with_project(prompt_id, user_id=user)  # impl: PS-HTTP-4
    if prompt is None:
        raise ProblemError(404, f"there is no prompt {prompt_id}")
    return prompt


@router.post(
    "/create",
    status_code=201,
    responses=creates(201, 404),
    openapi_extra=described_body(PromptCreate),
)
def create_prompt(create: Create) -> StudioEnvelope[StudioPrompt]:
    """Make a version of a prompt; with an idempotency key, once."""
    find = partial(create.database.get_prompt_with_project, include_deleted=True, user_id=create.user)
    with create.patience():
        made = create.made_once("prompt", find, _made)
    return StudioEnvelope(data=StudioPrompt.model_validate(made))


def _made(create: Creation) -> PromptRow:
    database, user = create.database, create.user
    wanted = create.checked(PromptCreate)
    project_of(database, user, wanted.project_id)
    if wanted.parent_version_id is not None:
        parent = prompt_of(database, user, wanted.parent_version_id)
        if parent["project_id"] != wanted.project_id:
            raise ProblemError(404, f"there is no prompt {wanted.parent_version_id}")
    if wanted.signature_id is not None:
        _check_signature(create, wanted.project_id, wanted.signature_id)
    return database.create_prompt(**wanted.model_dump(), **create.once)


def _check_signature(create: Creation, project_id: int, signature_id: int) -> None:
    """Refuse a signature that is not the user's. They are the host's to keep: where it says nothing there are none."""
    owns = create.here.owns_signature
    if owns is None or owns(create.user, project_id, signature_id) is not True:  # impl: PS-HTTP-4
        raise ProblemError(404, f"there is no signature {signature_id}")


@router.get("/list/{project_id}", responses=refusals(404, 422))
def list_prompts(database: Database, user: User, project_id: PathId, page: Page) -> StudioEnvelope[StudioPrompts]:
    """The prompts of one of the user's projects, the last that was changed first."""
    project_of(database, user, project_id)
    return StudioEnvelope(
        data=StudioPrompts.model_validate(database.list_prompts(project_id, page.page, page.per_page))
    )


@router.get("/get/{prompt_id}", responses=refusals(404, 422))
def get_prompt(database: Database, user: User, prompt_id: PathId) -> StudioEnvelope[StudioPrompt]:
    """One of the user's prompts."""
    return StudioEnvelope(data=StudioPrompt.model_validate(prompt_of(database, user, prompt_id)))
