"""Prompts over HTTP. They belong to whom their project belongs to."""

from __future__ import annotations

from functools import partial
from typing import Final

from fastapi import APIRouter

from prompt_studio.database import PromptStudioDatabase
from prompt_studio.entities import PromptRow
from prompt_studio.web.answers import CREATES, Page, PathId, refusals
from prompt_studio.web.problems import ProblemError
from prompt_studio.web.requests import Create, Database, described_body
from prompt_studio.web.routes.projects import project_of
from prompt_studio.web.schemas import Envelope, Prompt, PromptCreate, Prompts
from prompt_studio.web.users import User

router: Final = APIRouter(prefix="/prompts", tags=["prompts"])


def prompt_of(database: PromptStudioDatabase, user: str, prompt_id: int) -> PromptRow:
    """The user's prompt.

    Raises:
        ProblemError: 404, there is none, or it is somebody else's; nobody is told which.
    """
    prompt = database.get_prompt_with_project(prompt_id)
    if prompt is None or prompt["project_user_id"] != user:  # impl: PS-HTTP-4
        raise ProblemError(404, f"there is no prompt {prompt_id}")
    return prompt


@router.post(
    "/create",
    status_code=201,
    responses=refusals(404, *CREATES),
    openapi_extra=described_body(PromptCreate),
)
def create_prompt(create: Create) -> Envelope[Prompt]:
    """Make a version of a prompt; with an idempotency key, once."""
    database, user = create.database, create.user
    found = create.replayed("prompt", partial(database.get_prompt, include_deleted=True))
    if found is not None:
        return Envelope(data=Prompt.model_validate(found))
    wanted = create.checked(PromptCreate)
    project_of(database, user, wanted.project_id)
    if wanted.parent_version_id is not None:
        parent = prompt_of(database, user, wanted.parent_version_id)
        if parent["project_id"] != wanted.project_id:
            raise ProblemError(404, f"there is no prompt {wanted.parent_version_id}")
    made = database.create_prompt(**wanted.model_dump(), **create.once)
    return Envelope(data=Prompt.model_validate(create.answered(made)))


@router.get("/list/{project_id}", responses=refusals(404, 422))
def list_prompts(database: Database, user: User, project_id: PathId, page: Page) -> Envelope[Prompts]:
    """The prompts of one of the user's projects, the last that was changed first."""
    project_of(database, user, project_id)
    return Envelope(data=Prompts.model_validate(database.list_prompts(project_id, page.page, page.per_page)))


@router.get("/get/{prompt_id}", responses=refusals(404, 422))
def get_prompt(database: Database, user: User, prompt_id: PathId) -> Envelope[Prompt]:
    """One of the user's prompts."""
    return Envelope(data=Prompt.model_validate(prompt_of(database, user, prompt_id)))
