"""The creates that take an idempotency key, in one form: what may be asked of each of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from prompt_studio import PromptStudioDatabase

CLIENT: Final = "tester"
Made = Mapping[str, Any]
Create = Callable[..., Made]
"""Given a name, and what the create takes besides: the key, the user, the request."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of entity.

    Attributes:
        entity_type: of its keys.
        table: where it is.
        ready: makes what the entity refers to, and gives the create.
        delete: takes all of them away, as somebody may.
    """

    entity_type: str
    table: str
    ready: Callable[[PromptStudioDatabase], Create]
    delete: str

    def owner(self, user: str | None) -> str | None:
        """Whose the key is: a project always has an owner."""
        return CLIENT if user is None and self.entity_type == "project" else user


def _job(database: PromptStudioDatabase) -> Create:
    return lambda name, **once: database.create_job("evaluation", 1, {"name": name}, **once)


def _project(database: PromptStudioDatabase) -> Create:
    return database.create_project


def _prompt(database: PromptStudioDatabase) -> Create:
    project = database.create_project("of a prompt", user_id="owner")
    return lambda name, **once: database.create_prompt(project_id=project["id"], name=name, **once)


def _optimization(database: PromptStudioDatabase) -> Create:
    project = database.create_project("of an optimization", user_id="owner")
    prompt = database.create_prompt(project_id=project["id"], name="first")
    return lambda name, **once: database.create_optimization(
        project_id=project["id"],
        name=name,
        initial_prompt_id=prompt["id"],
        optimizer_type="mipro",
        job={"payload": {"name": name}},
        **once,
    )


JOB: Final = Kind(
    "job",
    "prompt_studio_job_queue",
    _job,
    "UPDATE prompt_studio_job_queue SET revision = -revision; DELETE FROM prompt_studio_job_queue",
)
PROJECT: Final = Kind("project", "prompt_studio_projects", _project, "DELETE FROM prompt_studio_projects")
PROMPT: Final = Kind("prompt", "prompt_studio_prompts", _prompt, "DELETE FROM prompt_studio_prompts")
OPTIMIZATION: Final = Kind(
    "optimization", "prompt_studio_optimizations", _optimization, "DELETE FROM prompt_studio_optimizations"
)
KINDS: Final = (JOB, PROJECT, PROMPT, OPTIMIZATION)
