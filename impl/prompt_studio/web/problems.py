"""Refusals and trouble as HTTP: the status, and a problem body (RFC 9457) whose `detail` is what it always was.

`detail` is a text, but for a body that breaks its schema, where it is FastAPI's list of errors, as before; RFC 9457
lets readers ignore it then, and `title` is for them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Mapping
from http.client import responses
from typing import Any, Final

from fastapi import HTTPException as RefusedRequest
from fastapi import Request, Response
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from prompt_studio.errors import (
    ConflictError,
    DatabaseError,
    EntityGone,
    IdempotencyMismatch,
    InputError,
    MissingReference,
    SchemaError,
    StoreUnavailable,
    TransientConflict,
)
from prompt_studio.web import headers as names
from prompt_studio.web.inlined import inlined

MEDIA_TYPE: Final = "application/problem+json"
RETRY_SECONDS: Final = 1
ERRORS_SHOWN: Final = 20
NOBODY: Final = "a valid user is needed"
CHALLENGED: Final = {names.CHALLENGE: "Bearer"}
"""What goes with each 401."""

_ANSWER: Final = "prompt_studio.answer"
_KEY_PLACE: Final = "prompt_studio.idempotency_key"
_THE_HOSTS: Final = frozenset({"header", "cookie"})
"""Where no route of ours declares anything: what is missing there, the host wanted, to know who asks."""

_EVERYBODYS: Final = frozenset({HTTPException, RefusedRequest, *Exception.__mro__})

_log: Final = logging.getLogger(__name__)


class Problem(BaseModel):
    """A problem body."""

    type: str = Field("about:blank", description="what kind of problem; about:blank: what the status says")
    title: str = Field(description="the status in words")
    status: int
    detail: str | list[dict[str, Any]] = Field(description="what to do about it; of a schema, the list of errors")


class ProblemError(RefusedRequest):
    """A request that is refused, with its status."""

    def __init__(self, status: int, detail: str | list[Any], headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, detail, dict(headers or {}))
        self.told = detail


STATUS_OF: Final[tuple[tuple[type[Exception], int], ...]] = (
    (IdempotencyMismatch, 422),
    (TransientConflict, 409),
    (ConflictError, 409),
    (EntityGone, 410),
    (MissingReference, 404),
    (SchemaError, 503),
    (StoreUnavailable, 503),
    (InputError, 422),
)
"""What the library raises, as a status. Everything else is a defect: 500, and a traceback in the log."""

_SAID: Final[tuple[tuple[type[Exception], str], ...]] = (
    (ConflictError, "there is one of this name already: use another name"),
    (StoreUnavailable, "the database cannot be used just now: try again"),
    (SchemaError, "the database is not one of this version"),
    (TransientConflict, "another request was in the way for too long, and nothing was written: try again"),
)
"""Where the library's own text names files, tables or hosts, which are nobody's business out there."""

_UNKNOWN: Final = "it may have been done, and no answer came: "
_KEYED: Final = f"{_UNKNOWN}repeat it with the same {names.KEY}, which is as good as once"
_UNKEYED: Final = (
    f"{_UNKNOWN}look whether it is there before it is made again; with an {names.KEY} it could be repeated"
)
_REPEATABLE: Final = f"{_UNKNOWN}repeat it, which is as good as once"
_RETRY: Final = {names.RETRY_AFTER: str(RETRY_SECONDS)}
_TRY_AGAIN: Final = (TransientConflict, StoreUnavailable)
_HEADERS: Final = {401: names.CHALLENGE_TOLD, 409: names.RETRY_TOLD, 503: names.RETRY_TOLD}

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class ProblemRoute(APIRoute):
    """A route whose refusals are problem bodies, whatever application it is part of."""

    def get_route_handler(self) -> Handler:
        """FastAPI's, and what becomes of its errors."""
        handler = super().get_route_handler()

        async def answered(request: Request) -> Response:
            try:
                return await handler(request)
            except Exception as error:
                if not _is_the_hosts(request, error):
                    request.scope[_ANSWER] = error, await answer_to(request, error)
                raise  # through what a host has put around the handler, which undoes what it began

        return answered

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Starlette's, and the answer to what was refused, when all dependencies have ended."""
        # Starlette looks here for the host's handlers, and would let them answer; those of the application look again.
        own = {**scope, "starlette.exception_handlers": ({}, {})}
        try:
            await super().handle(own, receive, send)
        except Exception as error:
            refused, answer = own.get(_ANSWER, (None, None))
            if error is not refused:
                raise
            await answer(scope, receive, send)  # impl: PS-HTTP-6


async def answer_to(request: Request, error: Exception) -> Response:
    """The answer to a request that ended in this error."""
    if isinstance(error, RequestValidationError):
        if any(told["type"] == "missing" and told["loc"][0] in _THE_HOSTS for told in error.errors()):
            return body_of(401, NOBODY, CHALLENGED)  # impl: PS-HTTP-1
        return body_of(422, without_values(error.errors()))
    if isinstance(error, ProblemError):
        return body_of(error.status_code, error.told, error.headers)
    if isinstance(error, HTTPException):
        return body_of(error.status_code, jsonable_encoder(error.detail), error.headers)
    status = next((status for kind, status in STATUS_OF if isinstance(error, kind)), None)
    if status is not None:
        return _of_library(request, error, status)
    _log.error("%s %s ended in a defect", request.method, request.url.path, exc_info=error)
    return body_of(500, "this is a defect of the server, and its log has the reason")


def _is_the_hosts(request: Request, error: Exception) -> bool:
    """Whether it is no error of ours, and the host's application has a handler for its kind.

    Such as one that its own dependency raises, when it cannot say who asks.
    """
    if isinstance(error, (ProblemError, RequestValidationError, DatabaseError, InputError)):
        return False
    # What every application has a handler for says nothing of this one's.
    kinds = [kind for kind in type(error).__mro__ if kind not in _EVERYBODYS]
    return any(kind in request.app.exception_handlers for kind in kinds)


def described(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The statuses that a route may refuse with, for OpenAPI."""
    content = {MEDIA_TYPE: {"schema": inlined(Problem)}}
    return {
        status: {
            "description": responses[status],
            "content": content,
            **({"headers": _HEADERS[status]} if status in _HEADERS else {}),
        }
        for status in sorted(statuses)
    }


def keyed_by(request: Request, key: str | None) -> None:
    """Remember that it is a create, with this key or without one: what may be advised in trouble hangs on it."""
    request.scope[_KEY_PLACE] = key


def body_of(status: int, detail: Any, headers: Mapping[str, str] | None = None) -> JSONResponse:  # noqa: ANN401 - a host's
    """The answer to a request that is refused. A host's own `detail` may be any JSON value."""
    title = responses.get(status, "Refused")  # a host may refuse with a status of its own making
    # impl: PS-HTTP-5
    problem = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    return JSONResponse(problem, status, dict(headers or {}), MEDIA_TYPE)


def _of_library(request: Request, error: Exception, status: int) -> Response:
    if isinstance(error, TransientConflict) and request.method == "GET":
        return body_of(503, "another session was in the way for too long: try again", _RETRY)
    if isinstance(error, StoreUnavailable) and error.outcome_unknown:
        _log.error("the database has not said what became of a request: %s", error)
        if _KEY_PLACE not in request.scope:
            return body_of(503, _REPEATABLE, _RETRY)
        if request.scope[_KEY_PLACE] is None:
            return body_of(503, _UNKEYED)
        return body_of(503, _KEYED, _RETRY)
    if isinstance(error, StoreUnavailable):
        _log.error("the database cannot be used: %s", error)
    detail = next((text for kind, text in _SAID if isinstance(error, kind)), str(error))
    return body_of(status, detail, _RETRY if isinstance(error, _TRY_AGAIN) else {})


def without_values(errors: Any) -> list[Any]:  # noqa: ANN401 - pydantic's own
    """Errors of a schema, without what was sent (it may be long, or no JSON) and without exceptions."""
    kept = ("type", "loc", "msg")
    few = list(errors)[:ERRORS_SHOWN]
    found: list[Any] = jsonable_encoder([{name: error[name] for name in kept} for error in few])
    if len(errors) > len(few):
        found.append({"type": "more", "loc": [], "msg": f"and {len(errors) - len(few):,} more"})
    return found
