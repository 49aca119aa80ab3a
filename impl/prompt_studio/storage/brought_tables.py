"""Tables that the host application may have brought: projects, prompts, optimizations and their iterations.

Where there is one, it stays as it is, and is used if it has the columns that the store needs. A migration says which it
lacks; the queue works without, and a call that needs them is a SchemaError.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Final

_NEEDED: Final = {
    "projects": (
        "prompt_studio_projects",
        "id uuid name description user_id client_id status deleted deleted_at created_at updated_at metadata",
    ),
    "prompts": (
        "prompt_studio_prompts",
        """id uuid project_id signature_id version_number name system_prompt user_prompt few_shot_examples
        modules_config parent_version_id change_description client_id deleted deleted_at created_at updated_at""",
    ),
    "optimizations": (
        "prompt_studio_optimizations",
        """id uuid project_id name initial_prompt_id optimized_prompt_id optimizer_type optimization_config
        initial_metrics final_metrics improvement_percentage iterations_completed max_iterations bootstrap_samples
        status error_message total_tokens total_cost client_id created_at started_at completed_at""",
    ),
    "iterations": (
        "prompt_studio_optimization_iterations",
        "id uuid optimization_id iteration_number prompt_variant metrics tokens_used cost note created_at",
    ),
}
NEEDED_COLUMNS: Final[Mapping[str, tuple[str, ...]]] = {
    table: tuple(columns.split()) for table, columns in _NEEDED.values()
}
"""What the store needs of each."""

_MAKES: Final = re.compile(rf"create_({'|'.join(_NEEDED)})_")


def belongs_to(statement_name: str) -> str | None:
    """Which of these tables a statement of the schema makes, or makes an index on; None if it is about another."""
    found = _MAKES.match(statement_name)
    return None if found is None else _NEEDED[found[1]][0]


def brought(contents: Collection[str]) -> tuple[str, ...]:
    """Those that are there already."""
    return tuple(table for table in NEEDED_COLUMNS if table in contents)


def told(found: Mapping[str, Collection[str]]) -> Iterator[str]:
    """A sentence for each table that is there, given its columns."""
    for table, columns in found.items():
        missing = [name for name in NEEDED_COLUMNS[table] if name not in columns]
        if missing:
            lacks = f"{table} stays as it is, and lacks {', '.join(missing)}: until it has them, calls that need it"
            yield f"{lacks} raise SchemaError"
        else:
            yield f"{table} stays as it is, and is used"
