"""Prompts: made, found, listed. A prompt belongs to a project, and each version of it is a row."""

from __future__ import annotations

import uuid
from dataclasses import asdict, dataclass

from prompt_studio.entities import PromptPage, PromptRow, PromptWithProjectRow
from prompt_studio.errors import MissingReference
from prompt_studio.storage.entity_operations import EntityOperations, Page
from prompt_studio.storage.entity_rows import prompt_row, prompt_with_project_row
from prompt_studio.storage.keyed_creates import Made, Once
from prompt_studio.storage.transactions import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class NewPrompt:
    """A prompt that is to be made; all values are checked, examples and modules are JSON text."""

    project_id: int
    name: str
    signature_id: int | None
    version_number: int
    system_prompt: str | None
    user_prompt: str | None
    few_shot_examples: str | None
    modules_config: str | None
    parent_version_id: int | None
    change_description: str | None
    client_id: str


class PromptOperations(EntityOperations):
    """Prompts."""

    def create_prompt(self, new: NewPrompt, once: Once | None) -> Made[PromptRow]:
        """A new version of a prompt, or the one that the key stands for. May be part of the caller's transaction.

        Raises:
            MissingReference: there is no such project.
        """

        def create(session: Session) -> tuple[int, PromptRow]:
            needs = f"there is no project {new.project_id}"
            prompt = self._inserted(session, "create_prompt", asdict(new), prompt_row, needs=needs)
            return prompt["id"], prompt

        return self._made(once, create, self._prompt, alone=True)

    def get_prompt(self, prompt_id: int, *, include_deleted: bool) -> PromptRow | None:
        """The prompt with this id."""
        return self._found("get_prompt", {"prompt_id": prompt_id, "include_deleted": include_deleted}, prompt_row)

    def get_prompt_with_project(
        self, prompt_id: int, *, include_deleted: bool, user_id: str | None
    ) -> PromptWithProjectRow | None:
        """The prompt with this id, and whose it is; this user's, if one is named."""
        parameters = {"prompt_id": prompt_id, "include_deleted": include_deleted, "user_id": user_id}
        return self._found("get_prompt_with_project", parameters, prompt_with_project_row)

    def list_prompts(self, project_id: int, page: Page) -> PromptPage:
        """A page of a project's prompts, the last that was changed first."""
        prompts, pagination = self._listed("prompts", {"project_id": project_id}, page, prompt_row)
        return {"prompts": prompts, "pagination": pagination}

    def ensure_prompt(self, prompt_id: int, project_id: int, name: str, client_id: str) -> PromptRow:
        """The prompt with this id, deleted or not; an empty one of this name and project, if there was none.

        Raises:
            MissingReference: there is no such project.
        """
        parameters = {"prompt_id": prompt_id, "project_id": project_id, "name": name, "client_id": client_id}

        def operation(session: Session) -> PromptRow:
            self._run(session, "ensure_prompt", {**parameters, "uuid": str(uuid.uuid4())})
            prompt = self._prompt(session, prompt_id)
            if prompt is None:
                raise MissingReference(
                    f"there is no project {project_id}: nothing was made; correct the id, or make it first"
                )
            return prompt

        return self._sessions.current().write(operation, joins=True)

    def _prompt(self, session: Session, prompt_id: int) -> PromptRow | None:
        return self._one(session, "get_prompt", {"prompt_id": prompt_id, "include_deleted": True}, prompt_row)
