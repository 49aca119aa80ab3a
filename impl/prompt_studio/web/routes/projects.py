"""Projects over HTTP. A project is its user's: to everybody else it is not there."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Final

from fastapi import APIRouter, Query

from prompt_studio.database import PromptStudioDatabase
from prompt_studio.entities import ProjectRow, ProjectStatus
from prompt_studio.web.answers import CREATES, Page, PathId, refusals
from prompt_studio.web.problems import ProblemError
from prompt_studio.web.requests import Create, Creation, Database, described_body
from prompt_studio.web.schemas import NO_NUL, Envelope, Project, ProjectCreate, Projects
from prompt_studio.web.users import User

router: Final = APIRouter(prefix="/projects", tags=["projects"])


def project_of(database: PromptStudioDatabase, user: str, project_id: int) -> ProjectRow:
    """The user's project.

    Raises:
        ProblemError: 404, there is none, or it is somebody else's; nobody is told which.
    """
    project = database.get_project(project_id)
    if project is None or project["user_id"] != user:  # impl: PS-HTTP-4
        raise ProblemError(404, f"there is no project {project_id}")
    return project


def _made(create: Creation) -> ProjectRow:
    found = create.replayed("project", partial(create.database.get_project, include_deleted=True))
    if found is not None:
        return found
    wanted = create.checked(ProjectCreate)
    made = create.database.create_project(
        wanted.name, wanted.description, wanted.status, wanted.metadata, **create.once
    )
    return create.answered(made)


@router.post("/", status_code=201, responses=refusals(*CREATES), openapi_extra=described_body(ProjectCreate))
def create_project(create: Create) -> Envelope[Project]:
    """Make a project; with an idempotency key, once."""
    return Envelope(data=Project.model_validate(_made(create)))


@router.post("", status_code=201, responses=refusals(*CREATES), openapi_extra=described_body(ProjectCreate))
def create_bare_project(create: Create) -> Project:
    """Make a project, and answer with it alone."""
    return Project.model_validate(_made(create))


@router.get("/", responses=refusals(422))
def list_projects(
    database: Database,
    user: User,
    page: Page,
    status: ProjectStatus | None = None,
    search: Annotated[str | None, Query(max_length=255, pattern=NO_NUL)] = None,
) -> Envelope[Projects]:
    """The user's projects, the last that was changed first."""
    found = database.list_projects(user_id=user, status=status, search=search, page=page.page, per_page=page.per_page)
    return Envelope(data=Projects.model_validate(found))


@router.get("/get/{project_id}", responses=refusals(404, 422))
def get_project(database: Database, user: User, project_id: PathId) -> Envelope[Project]:
    """One of the user's projects."""
    return Envelope(data=Project.model_validate(project_of(database, user, project_id)))
