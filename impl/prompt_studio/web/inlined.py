"""A model's JSON Schema with its parts written out where they stand.

So a description needs no names of ours among the host application's components, where two models of one name make
FastAPI rename both.
"""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel

_REFERENCE: Final = "$ref"


def inlined(model: type[BaseModel]) -> dict[str, Any]:
    """The schema; the model must not contain itself."""
    told = model.model_json_schema(ref_template="{model}")
    parts = told.pop("$defs", {})

    def written_out(part: Any) -> Any:  # noqa: ANN401 - any JSON value
        if isinstance(part, list):
            return [written_out(one) for one in part]
        if not isinstance(part, dict):
            return part
        whole = parts[part[_REFERENCE]] if _REFERENCE in part else {}
        return {name: written_out(one) for name, one in {**whole, **part}.items() if name != _REFERENCE}

    schema: dict[str, Any] = written_out(told)
    return schema
