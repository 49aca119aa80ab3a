"""Projects over HTTP. A project is its user's: to everybody else it is not there."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Final

from fastapi import APIRouter, Query

from prompt_studio.database import PromptStudioDatabase
from prompt_studio.entities import ProjectRow
from prompt_studio.web.answers import Page, PathId, creates, refusals
from prompt_studio.web.edge import Database
from prompt_studio.web.problems import ProblemError, ProblemRoute
from prompt_studio.web.requests import Create, Creation, described_body
from prompt_studio.web.schemas import (
    NO_NUL,
    AProjectStatus,
    ProjectCreate,
    StudioEnvelope,
    StudioProject,
    StudioProjects,
)
from prompt_studio.web.users import User

router: Final = APIRouter(prefix="/projects", route_class=ProblemRoute, tags=["projects"])


def project_of(database: PromptStudioDatabase, user: str, project_id: int) -> ProjectRow:
    """The user's project.

    Raises:
        ProblemError: 404, there is none, or it is somebody else's; nobody is told which.
    """
    project = database.get_project(project_id, user_id=user)  # impl: PS-HTTP-4
    if project is None:
        raise ProblemError(404, f"there is no project {project_id}")
    return project


def _made_once(create: Creation) -> ProjectRow:
    find = partial(create.database.get_project, include_deleted=True, user_id=create.user)
    with create.patience():
        return create.made_once("project", find, _made)


def _made(create: Creation) -> ProjectRow:
    wanted = create.checked(ProjectCreate)
    given = wanted.name, wanted.description, wanted.status, wanted.metadata
    return create.database.create_project(*given, **create.once)


@router.post("/", status_code=201, responses=creates(201), openapi_extra=described_body(ProjectCreate))
def create_project(create: Create) -> StudioEnvelope[StudioProject]:
    """Make a project; with an idempotency key, once."""
    return StudioEnvelope(data=StudioProject.model_validate(_made_once(create)))


@router.post("", status_code=201, responses=creates(201), openapi_extra=described_body(ProjectCreate))
def create_bare_project(create: Create) -> StudioProject:
    """Make a project, and answer with it alone."""
    return StudioProject.model_validate(_made_once(create))


@router.get("/", responses=refusals(422))
def list_projects(
    database: Database,
    user: User,
    page: Page,
    status: AProjectStatus | None = None,
    search: Annotated[str | None, Query(max_length=255, pattern=NO_NUL)] = None,
) -> StudioEnvelope[StudioProjects]:
    """The user's projects, the last that was changed first."""
    found = database.list_projects(user_id=user, status=status, search=search, page=page.page, per_page=page.per_page)
    return StudioEnvelope(data=StudioProjects.model_validate(found))


@router.get("/get/{project_id}", responses=refusals(404, 422))
def get_project(database: Database, user: User, project_id: PathId) -> StudioEnvelope[StudioProject]:
    """One of the user's projects."""
    return StudioEnvelope(data=StudioProject.model_validate(project_of(database, user, project_id)))
