"""The calls of `PromptStudioDatabase` on projects."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from prompt_studio import values
from prompt_studio.entities import ProjectPage, ProjectRow, ProjectStatus
from prompt_studio.errors import InputError
from prompt_studio.facade import Facade, json_or_none, page_of
from prompt_studio.keyed_calls import Wish
from prompt_studio.storage.project_operations import NewProject, ProjectFilter

ROWS_PER_PAGE: Final = 20


class ProjectCalls(Facade):
    """Projects."""

    def create_project(
        self,
        name: str,
        description: str | None = None,
        status: str = "draft",
        metadata: object = None,
        user_id: str | None = None,
        *,
        client_id: str | None = None,
        idempotency_key: str | None = None,
        request: object = None,
    ) -> ProjectRow:
        """A new project of this user, who is the client by default. May be part of a `transaction()`.

        With an idempotency key it is made once for each key of the user, as `create_job` says.

        Raises:
            ConflictError: the user has a project of this name.
            IdempotencyMismatch: the key was used for another request.
            EntityGone: the key's project was deleted for good.
            TransientConflict: a rival did not come to an end within `write_retry_seconds`.
        """
        owner = values.user(user_id)
        new = NewProject(
            name=values.text("name", name),
            description=values.long_text("description", description),
            user_id=self._client_id if owner is None else owner,
            client_id=self._client(client_id),
            status=values.word("status", status, ProjectStatus),
            metadata=json_or_none("metadata", metadata),
        )
        arguments = {"name": name, "description": description, "status": status, "metadata": metadata}
        # The owner's key, also where he was not named: two clients' default owners are two users.
        once = Wish(idempotency_key, new.user_id, request).once("project", arguments)
        return self._answer("project", self._store.create_project(new, once))

    def get_project(
        self, project_id: int, include_deleted: bool = False, *, user_id: str | None = None
    ) -> ProjectRow | None:
        """The project with this id, or None; with a user only if it is his."""
        return self._store.get_project(
            values.row_id("project_id", project_id),
            include_deleted=values.flag("include_deleted", include_deleted),
            user_id=values.user(user_id),
        )

    def list_projects(
        self,
        *,
        user_id: str | None = None,
        status: str | None = None,
        include_deleted: bool = False,
        page: int = 1,
        per_page: int = ROWS_PER_PAGE,
        search: str | None = None,
    ) -> ProjectPage:
        """A page of projects, the last that was changed first; None is any.

        `search` is looked for in names and descriptions; letters a to z are the same as A to Z to it.
        """
        wanted = ProjectFilter(
            user_id=values.user(user_id),
            status=None if status is None else values.word("status", status, ProjectStatus),
            include_deleted=values.flag("include_deleted", include_deleted),
            search=values.long_text("search", search) or None,
        )
        return self._store.list_projects(wanted, page_of(page, per_page))

    def update_project(
        self, project_id: int, updates: Mapping[str, object] | None = None, **fields: object
    ) -> ProjectRow | None:
        """The project with name, description, status or metadata changed; None if there is none, or it was deleted.

        Raises:
            InputError: nothing was named, or something else.
            ConflictError: the user has another project of the new name.
        """
        changes = {**(updates or {}), **fields}
        if not changes or changes.keys() - _CHANGES.keys():
            raise InputError(f"name what is to be changed, of {', '.join(_CHANGES)}, not {sorted(changes)}")
        checked = {name: _CHANGES[name](value) for name, value in changes.items()}
        return self._store.update_project(values.row_id("project_id", project_id), checked)

    def delete_project(self, project_id: int, hard_delete: bool = False) -> bool:
        """Whether there was such a project; it is hidden from now on, or deleted with all that belongs to it.

        Raises:
            ConflictError: the user has another project of this name that is hidden: delete that one for good first.
        """
        return self._store.delete_project(
            values.row_id("project_id", project_id), hard=values.flag("hard_delete", hard_delete)
        )


_CHANGES: Final[dict[str, Callable[[object], object]]] = {
    "name": lambda value: values.text("name", value),
    "description": lambda value: values.long_text("description", value),
    "status": lambda value: values.word("status", value, ProjectStatus),
    "metadata": lambda value: json_or_none("metadata", value),
}
