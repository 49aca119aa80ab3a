"""What the routes have in common in their answers and their paths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Final

from fastapi import Depends, Path, Query

from prompt_studio.facade import PAGE_MAX, ROWS_PER_PAGE_MAX
from prompt_studio.values import INT64_MAX
from prompt_studio.web.problems import described

CREATES: Final = (400, 409, 410, 413, 415, 422)
"""What every create may be refused with."""

PathId = Annotated[int, Path(ge=1, le=INT64_MAX)]


@dataclass(frozen=True, slots=True)
class Paging:
    """Which rows are wanted."""

    page: Annotated[int, Query(ge=1, le=PAGE_MAX)] = 1
    per_page: Annotated[int, Query(ge=1, le=ROWS_PER_PAGE_MAX)] = 20


Page = Annotated[Paging, Depends(Paging)]


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What a route may refuse with, for OpenAPI: these, and what every route may."""
    return described(401, 500, 503, *statuses)
