"""Rows of projects, prompts, optimizations and iterations as callers see them, whoever made the tables.

The host application's have more columns, which are left out, and its own form of times: a `timestamp` without a zone,
or a text, is UTC.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

from prompt_studio.entities import (
    IterationRow,
    OptimizationRow,
    OptimizationStatus,
    ProjectRow,
    ProjectStatus,
    PromptRow,
    PromptWithProjectRow,
)
from prompt_studio.errors import DatabaseError
from prompt_studio.storage.dialect import Row

Entity = TypeVar("Entity")


def readable(kind: str, decode: Callable[[Row], Entity]) -> Callable[[Row], Entity]:
    """The decoder, which says what cannot be read.

    Raises:
        DatabaseError: a value cannot; only a hand, or another program, puts such a one there.
    """

    def decoded(row: Row) -> Entity:
        try:
            return decode(row)  # impl: PS-ENTITIES-1
        except (ArithmeticError, AttributeError, RecursionError, TypeError, ValueError) as error:
            raise DatabaseError(
                f"{kind} {row['id']} cannot be read: {error}: if its row was changed by hand, mend it"
            ) from error

    return decoded


def _time(value: Any) -> datetime:  # noqa: ANN401 - a time or a text
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _time_or_none(value: Any) -> datetime | None:  # noqa: ANN401 - a time or a text
    return None if value is None else _time(value)


def _json(text: str | None) -> Any:  # noqa: ANN401 - any JSON value
    return None if text is None else json.loads(text)


def _number(value: Any) -> float | None:  # noqa: ANN401 - a number
    return None if value is None else float(value)  # a whole one may come without its point


def _project(row: Row) -> ProjectRow:
    return {
        "id": row["id"],
        "uuid": row["uuid"],
        "name": row["name"],
        "description": row["description"],
        "user_id": row["user_id"],
        "client_id": row["client_id"],
        "status": ProjectStatus(row["status"]),
        "deleted": bool(row["deleted"]),
        "deleted_at": _time_or_none(row["deleted_at"]),
        "created_at": _time(row["created_at"]),
        "updated_at": _time(row["updated_at"]),
        "metadata": _json(row["metadata_json"]),
    }


def _prompt(row: Row) -> PromptRow:
    return {
        "id": row["id"],
        "uuid": row["uuid"],
        "project_id": row["project_id"],
        "signature_id": row["signature_id"],
        "version_number": row["version_number"],
        "name": row["name"],
        "system_prompt": row["system_prompt"],
        "user_prompt": row["user_prompt"],
        "few_shot_examples": _json(row["few_shot_examples_json"]),
        "modules_config": _json(row["modules_config_json"]),
        "parent_version_id": row["parent_version_id"],
        "change_description": row["change_description"],
        "client_id": row["client_id"],
        "deleted": bool(row["deleted"]),
        "deleted_at": _time_or_none(row["deleted_at"]),
        "created_at": _time(row["created_at"]),
        "updated_at": _time(row["updated_at"]),
    }


def _prompt_with_project(row: Row) -> PromptWithProjectRow:
    return {
        **_prompt(row),
        "project_name": row["project_name"],
        "project_user_id": row["project_user_id"],
        "project_status": ProjectStatus(row["project_status"]),
    }


def _optimization(row: Row) -> OptimizationRow:
    return {
        "id": row["id"],
        "uuid": row["uuid"],
        "project_id": row["project_id"],
        "name": row["name"],
        "initial_prompt_id": row["initial_prompt_id"],
        "optimized_prompt_id": row["optimized_prompt_id"],
        "optimizer_type": row["optimizer_type"],
        "optimization_config": _json(row["optimization_config_json"]),
        "initial_metrics": _json(row["initial_metrics_json"]),
        "final_metrics": _json(row["final_metrics_json"]),
        "improvement_percentage": _number(row["improvement_percentage"]),
        "iterations_completed": row["iterations_completed"],
        "max_iterations": row["max_iterations"],
        "bootstrap_samples": row["bootstrap_samples"],
        "status": OptimizationStatus(row["status"]),
        "error_message": row["error_message"],
        "total_tokens": row["total_tokens"],
        "total_cost": _number(row["total_cost"]),
        "client_id": row["client_id"],
        "created_at": _time(row["created_at"]),
        "started_at": _time_or_none(row["started_at"]),
        "completed_at": _time_or_none(row["completed_at"]),
    }


def _iteration(row: Row) -> IterationRow:
    return {
        "id": row["id"],
        "uuid": row["uuid"],
        "optimization_id": row["optimization_id"],
        "iteration_number": row["iteration_number"],
        "prompt_variant": _json(row["prompt_variant_json"]),
        "metrics": _json(row["metrics_json"]),
        "tokens_used": row["tokens_used"],
        "cost": _number(row["cost"]),
        "note": row["note"],
        "created_at": _time(row["created_at"]),
    }


project_row = readable("project", _project)
prompt_row = readable("prompt", _prompt)
prompt_with_project_row = readable("prompt", _prompt_with_project)
optimization_row = readable("optimization", _optimization)
iteration_row = readable("iteration", _iteration)
