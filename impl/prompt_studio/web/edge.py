"""What the routes stand on. It travels with each request: an application may have several, and keeps its own state."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Final

from fastapi import Depends, Request

from prompt_studio.database import PromptStudioDatabase
from prompt_studio.errors import InputError
from prompt_studio.web.tokens import Users
from prompt_studio.web.turns import Turns

OwnsSignature = Callable[[str, int, int], bool]
"""Whether a user has a signature in a project: asked with the user, the project's id and the signature's."""
OwnsTestCase = Callable[[str, int, int], bool]
"""The same of a test case."""


def refuse_to_await(name: str, owns: Callable[[str, int, int], bool] | None) -> None:
    """Refuse what would answer by a coroutine, which is true whatever its answer will be.

    Raises:
        InputError: it is asynchronous.
    """
    if inspect.iscoroutinefunction(owns) or inspect.iscoroutinefunction(type(owns).__call__):
        raise InputError(f"{name} must be a plain function, which is called on a thread; this one is asynchronous")


_PLACE: Final = "prompt_studio.edge"


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """One opened database, and how it is shown.

    Attributes:
        database: the opened database.
        users: who has which bearer token; None: the host application says who asks.
        strict: whether strategies and knobs that nobody knows are refused.
        switched_on: the strategies that are only there where they are switched on, and are.
        owns_signature: whose signatures are; None: there are none.
        owns_test_case: whose test cases are; None: their numbers are passed to the job as they come.
        turns: of those who write.
    """

    database: PromptStudioDatabase
    users: Users | None
    strict: bool
    switched_on: frozenset[str]
    owns_signature: OwnsSignature | None
    owns_test_case: OwnsTestCase | None
    turns: Turns

    def dependency(self) -> Any:  # noqa: ANN401 - FastAPI's own
        """What a router must depend on, so that its routes find this edge."""

        async def stand(request: Request) -> None:
            request.scope[_PLACE] = self

        return Depends(stand)


async def edge_of(request: Request) -> Edge:
    """The edge that the request came to."""
    edge: Edge = request.scope[_PLACE]
    return edge


async def database_of(request: Request) -> PromptStudioDatabase:
    """The opened database."""
    return (await edge_of(request)).database


Here = Annotated[Edge, Depends(edge_of)]
Database = Annotated[PromptStudioDatabase, Depends(database_of)]
