"""Refusals and trouble as HTTP: the status, and a problem body (RFC 9457) whose `detail` is what it always was.

`detail` is a text, but for a body that breaks its schema, where it is FastAPI's list of errors, as before; RFC 9457
lets readers ignore it then, and `title` is for them.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final, cast

from fastapi import FastAPI, Request
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

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

MEDIA_TYPE: Final = "application/problem+json"
RETRY_SECONDS: Final = 1
ERRORS_SHOWN: Final = 20

_log: Final = logging.getLogger(__name__)


class Problem(BaseModel):
    """A problem body."""

    type: str = Field("about:blank", description="what kind of problem; about:blank: what the status says")
    title: str = Field(description="the status in words")
    status: int
    detail: str | list[dict[str, Any]] = Field(description="what to do about it; of a schema, the list of errors")


class ProblemError(Exception):
    """A request that is refused, with its status."""

    def __init__(self, status: int, detail: str | list[Any], headers: Mapping[str, str] | None = None) -> None:
        super().__init__(str(detail))
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})


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
    (TransientConflict, "another request was in the way for too long, and nothing was made: try again"),
)
"""Where the library's own text names files, tables or hosts, which are nobody's business out there."""

_UNKNOWN: Final = "it may have been done, and no answer came: repeat it only with the same Idempotency-Key"
_RETRY: Final = {"Retry-After": str(RETRY_SECONDS)}
_TRY_AGAIN: Final = (TransientConflict, StoreUnavailable)


def install(app: FastAPI) -> None:
    """Answer all refusals of this application with problem bodies."""
    app.add_exception_handler(ProblemError, _of_problem)
    app.add_exception_handler(RequestValidationError, _of_schema)
    app.add_exception_handler(HTTPException, _of_framework)
    for kind, _ in STATUS_OF:
        app.add_exception_handler(kind, _of_library)
    app.add_exception_handler(DatabaseError, _of_defect)
    app.add_exception_handler(Exception, _of_defect)


def described(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The statuses that a route may refuse with, for OpenAPI."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": HTTPStatus(status).phrase, "content": content} for status in sorted(statuses)}


def body_of(status: int, detail: str | list[Any], headers: Mapping[str, str] | None = None) -> JSONResponse:
    """The answer to a request that is refused."""
    # impl: PS-HTTP-5
    problem = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    return JSONResponse(problem, status, dict(headers or {}), MEDIA_TYPE)


async def _of_problem(_: Request, error: Exception) -> JSONResponse:
    refused = cast("ProblemError", error)
    return body_of(refused.status, refused.detail, refused.headers)


async def _of_schema(_: Request, error: Exception) -> JSONResponse:
    return body_of(422, without_values(cast("RequestValidationError", error).errors()))


async def _of_framework(_: Request, error: Exception) -> JSONResponse:
    refused = cast("HTTPException", error)
    return body_of(refused.status_code, str(refused.detail), refused.headers)


async def _of_defect(request: Request, error: Exception) -> JSONResponse:
    _log.error("%s %s ended in a defect", request.method, request.url.path, exc_info=error)
    return body_of(500, "this is a defect of the server, and its log has the reason")


async def _of_library(request: Request, error: Exception) -> JSONResponse:
    status = next(status for kind, status in STATUS_OF if isinstance(error, kind))
    if isinstance(error, TransientConflict) and request.method == "GET":
        return body_of(503, "another session was in the way for too long: try again", _RETRY)
    if isinstance(error, StoreUnavailable) and error.outcome_unknown:
        _log.error("the database has not said what became of a request: %s", error)
        return body_of(503, _UNKNOWN, _RETRY if "Idempotency-Key" in request.headers else {})
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
