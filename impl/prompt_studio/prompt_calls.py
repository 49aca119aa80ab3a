"""The calls of `PromptStudioDatabase` on prompts."""

from __future__ import annotations

from dataclasses import asdict
from typing import Final

from prompt_studio import values
from prompt_studio.entities import PromptPage, PromptRow, PromptWithProjectRow
from prompt_studio.facade import COUNT_MAX, Facade, id_or_none, json_or_none, page_of
from prompt_studio.keyed_calls import Wish
from prompt_studio.storage.prompt_operations import NewPrompt

ROWS_PER_PAGE: Final = 20


class PromptCalls(Facade):
    """Prompts."""

    def create_prompt(
        self,
        *,
        project_id: int,
        name: str,
        signature_id: int | None = None,
        version_number: int = 1,
        system_prompt: str | None = None,
        user_prompt: str | None = None,
        few_shot_examples: object = None,
        modules_config: object = None,
        parent_version_id: int | None = None,
        change_description: str | None = None,
        client_id: str | None = None,
        idempotency_key: str | None = None,
        user_id: str | None = None,
        request: object = None,
    ) -> PromptRow:
        """A new version of a prompt of the project; texts have at most 50,000 characters. May be in a `transaction()`.

        With an idempotency key it is made once for each key of the user, as `create_job` says.

        Raises:
            MissingReference: there is no such project.
            ConflictError: the project has this version of a prompt of this name.
            IdempotencyMismatch: the key was used for another request.
            EntityGone: the key's prompt was deleted for good.
            TransientConflict: a rival did not come to an end within `write_retry_seconds`.
        """
        new = NewPrompt(
            project_id=values.row_id("project_id", project_id),
            name=values.text("name", name),
            signature_id=id_or_none("signature_id", signature_id),
            version_number=values.whole_number("version_number", version_number, 1, COUNT_MAX),
            system_prompt=values.long_text("system_prompt", system_prompt),
            user_prompt=values.long_text("user_prompt", user_prompt),
            few_shot_examples=json_or_none("few_shot_examples", few_shot_examples),
            modules_config=json_or_none("modules_config", modules_config),
            parent_version_id=id_or_none("parent_version_id", parent_version_id),
            change_description=values.long_text("change_description", change_description),
            client_id=self._client(client_id),
        )
        given = {"few_shot_examples": few_shot_examples, "modules_config": modules_config, "client_id": client_id}
        once = Wish(idempotency_key, user_id, request).once("prompt", asdict(new) | given)
        return self._answer("prompt", self._store.create_prompt(new, once))

    def get_prompt(self, prompt_id: int, include_deleted: bool = False) -> PromptRow | None:
        """The prompt with this id, or None."""
        return self._store.get_prompt(
            values.row_id("prompt_id", prompt_id), include_deleted=values.flag("include_deleted", include_deleted)
        )

    def get_prompt_with_project(
        self, prompt_id: int, include_deleted: bool = False, *, user_id: str | None = None
    ) -> PromptWithProjectRow | None:
        """The prompt with this id and its project's name, owner and status, if neither was deleted; or None.

        With a user only if the project is his.
        """
        return self._store.get_prompt_with_project(
            values.row_id("prompt_id", prompt_id),
            include_deleted=values.flag("include_deleted", include_deleted),
            user_id=values.user(user_id),
        )

    def list_prompts(self, project_id: int, page: int = 1, per_page: int = ROWS_PER_PAGE) -> PromptPage:
        """A page of a project's prompts, the last that was changed first."""
        return self._store.list_prompts(values.row_id("project_id", project_id), page_of(page, per_page))

    def ensure_prompt_stub(
        self, prompt_id: int, project_id: int, name: str = "stub", client_id: str | None = None
    ) -> PromptRow:
        """The prompt with this id, whatever it is; if there was none, an empty one of this name and project.

        Raises:
            MissingReference: there is no such project.
        """
        return self._store.ensure_prompt(
            values.whole_number("prompt_id", prompt_id, 1, values.INT64_MAX),
            values.row_id("project_id", project_id),
            values.text("name", name),
            self._client(client_id),
        )
