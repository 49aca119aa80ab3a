"""Projects: made, found, listed, changed, deleted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Final

from prompt_studio.entities import ProjectPage, ProjectRow, ProjectStatus
from prompt_studio.storage.dialect import Row
from prompt_studio.storage.entity_operations import EntityOperations, Page
from prompt_studio.storage.entity_rows import project_row
from prompt_studio.storage.keyed_creates import Made, Once
from prompt_studio.storage.transactions import Session

CHANGEABLE: Final = ("name", "description", "status", "metadata")
"""The columns that `update_project` may change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewProject:
    """A project that is to be made; all values are checked, the metadata is JSON text."""

    name: str
    description: str | None
    user_id: str
    client_id: str
    status: ProjectStatus
    metadata: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectFilter:
    """Which projects are listed; None is any."""

    user_id: str | None
    status: ProjectStatus | None
    include_deleted: bool
    search: str | None


class ProjectOperations(EntityOperations):
    """Projects."""

    def create_project(self, new: NewProject, once: Once | None) -> Made[ProjectRow]:
        """A new project, or the one that the key stands for. May be part of the caller's transaction."""

        def create(session: Session) -> tuple[int, ProjectRow]:
            project = self._inserted(session, "create_project", asdict(new), project_row, needs="there is no row")
            return project["id"], project

        def find(session: Session, project_id: int) -> ProjectRow | None:
            # The key is the owner's: what is another's by now is nothing that he has made.
            his = {"project_id": project_id, "include_deleted": True, "user_id": new.user_id}
            return self._one(session, "get_project", his, project_row)  # impl: PS-IDEMPOTENCY-PG-8

        return self._made(once, create, find, alone=True)

    def get_project(self, project_id: int, *, include_deleted: bool, user_id: str | None) -> ProjectRow | None:
        """The project with this id; this user's, if one is named."""
        parameters = {"project_id": project_id, "include_deleted": include_deleted, "user_id": user_id}
        return self._found("get_project", parameters, project_row)

    def list_projects(self, wanted: ProjectFilter, page: Page) -> ProjectPage:
        """A page of projects, the last that was changed first."""
        projects, pagination = self._listed("projects", asdict(wanted), page, project_row)
        return {"projects": projects, "pagination": pagination}

    def update_project(self, project_id: int, changes: Mapping[str, object]) -> ProjectRow | None:
        """The project with these columns changed; None if there is none, or it was deleted."""
        parameters: dict[str, object] = {"project_id": project_id}
        for name in CHANGEABLE:
            parameters |= {f"set_{name}": name in changes, name: changes.get(name)}
        return self._changed("update_project", parameters, project_row)

    def delete_project(self, project_id: int, *, hard: bool) -> bool:
        """Whether there was such a project: hidden from now on, or deleted with all that belongs to it."""
        name = "delete_project" if hard else "hide_project"
        return self._changed(name, {"project_id": project_id}, _id) is not None


def _id(row: Row) -> int:
    return int(row["id"])
