"""What the routes have in common in their answers and their paths."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Annotated, Any, Final

from fastapi import Depends, Path, Query, Request
from pydantic import BeforeValidator

from prompt_studio.facade import PAGE_MAX, ROWS_PER_PAGE_MAX
from prompt_studio.values import INT64_MAX
from prompt_studio.web.headers import REPLAYED_TOLD
from prompt_studio.web.problems import ProblemError, described
from prompt_studio.web.users import User

CREATES: Final = (400, 409, 410, 413, 415, 422)
"""What every create may be refused with."""

_SAID_ONCE: Final = frozenset({"page", "per_page", "search", "status", "warn_seconds"})
"""What our queries say; a host's own may be lists."""
_WHOLE: Final = re.compile(r"-?(?:0|[1-9][0-9]{0,18})", re.ASCII)


def _plain(text: object) -> object:
    """The text, if it is a whole number as JSON writes one: `int` also reads " 1", "+1", "1_0" and "1.0"."""
    if isinstance(text, str) and not _WHOLE.fullmatch(text):
        raise ValueError("must be a whole number in plain digits")
    return text


# Behind the limits: those that stand behind a validator are checked, and the description knows nothing of them.
Plain = BeforeValidator(_plain)
PathId = Annotated[int, Path(ge=1, le=INT64_MAX), Plain]


@dataclass(frozen=True, slots=True)
class Paging:
    """Which rows are wanted."""

    page: int
    per_page: int


async def single_query(request: Request, _: User) -> None:
    """Each parameter once: of two values one would be taken, and who sent them is not told which.

    Raises:
        ProblemError: 422, one is there more than once.
    """
    counts = Counter(name for name, _ in request.query_params.multi_items())
    repeated = [name for name, count in counts.items() if count > 1 and name in _SAID_ONCE]
    if repeated:
        raise ProblemError(
            422, [{"type": "repeated", "loc": ["query", name], "msg": "may be there once"} for name in repeated]
        )


async def page_of(
    _: Annotated[None, Depends(single_query)],
    page: Annotated[int, Query(ge=1, le=PAGE_MAX), Plain] = 1,
    per_page: Annotated[int, Query(ge=1, le=ROWS_PER_PAGE_MAX), Plain] = 20,
) -> Paging:
    """The page that was asked for."""
    return Paging(page, per_page)


Page = Annotated[Paging, Depends(page_of)]


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What a route may refuse with, for OpenAPI: these, and what every route may."""
    return described(401, 500, 503, *statuses)


def creates(status: int, *more: int) -> dict[int | str, dict[str, Any]]:
    """What a create may answer besides its entity, for OpenAPI: the header of a repeated one, and its refusals."""
    return {status: {"headers": REPLAYED_TOLD}, **refusals(*CREATES, *more)}
