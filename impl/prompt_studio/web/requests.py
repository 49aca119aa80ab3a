"""What a request brings: its JSON as it was received, and its idempotency key.

The order in which a create is refused is part of the contract (PS-HTTP-2): no user, no JSON, a malformed key, a key of
another request; then an earlier answer is given again; and only then is the content looked at. So bodies are read by
hand here, and OpenAPI is told what they are.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Annotated, Any, Final, NoReturn, TypeVar

from fastapi import Depends, Request, Response
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect

from prompt_studio.database import PromptStudioDatabase
from prompt_studio.errors import EntityGone, InputError
from prompt_studio.values import TEXT_CHARACTERS_MAX, json_text
from prompt_studio.web import headers
from prompt_studio.web.edge import Edge, Here
from prompt_studio.web.inlined import inlined
from prompt_studio.web.problems import ProblemError, keyed_by, without_values
from prompt_studio.web.users import User

JSON_TYPE: Final = "application/json"
BODY_BYTES_MAX: Final = 1024 * 1024

_KEY: Final = re.compile(rf"[\x21-\x7e](?:[\x20-\x7e]{{0,{TEXT_CHARACTERS_MAX - 2}}}[\x21-\x7e])?")

Model = TypeVar("Model", bound=BaseModel)
Row = TypeVar("Row", bound=Mapping[str, Any])


async def bytes_of(request: Request, _: User) -> bytes:
    """The body. A user is asked for first: who is nobody is not told whether his JSON is well-formed.

    Raises:
        ProblemError: 400, it breaks off; 413, it is too long; 415, it is said to be something else than JSON.
    """
    kind = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind != JSON_TYPE and not (kind.startswith("application/") and kind.endswith("+json")):
        raise ProblemError(415, f"the Content-Type must be {JSON_TYPE}")
    received = bytearray()
    try:
        async for chunk in request.stream():
            received += chunk
            if len(received) > BODY_BYTES_MAX:
                raise ProblemError(413, f"a body may have at most {BODY_BYTES_MAX:,} bytes")
    except ClientDisconnect as error:
        raise ProblemError(400, "the body breaks off") from error
    return bytes(received)


def json_of(received: Annotated[bytes, Depends(bytes_of)]) -> Any:  # noqa: ANN401 - any JSON value # impl: PS-HTTP-7
    """The body's JSON value. On a thread: to read megabytes takes a while, and the event loop is everybody's.

    Raises:
        ProblemError: 400, it is no JSON.
    """
    try:
        value = json.loads(received, parse_constant=_refuse)
        json_text("the body", value)  # what no database could store: too deep, too large, halves of characters
    except (ValueError, RecursionError) as error:
        raise ProblemError(400, f"the body must be JSON: {_first_line(error)}") from error
    return value


async def key_of(request: Request, _: Annotated[object, Depends(json_of)]) -> str | None:
    """The idempotency key, or None.

    Raises:
        ProblemError: 400, it is malformed, or there are several.
    """
    keys = request.headers.getlist(headers.KEY)
    keyed_by(request, keys[0] if keys else None)
    if not keys:
        return None
    if len(keys) > 1 or not _KEY.fullmatch(keys[0]):  # impl: PS-HTTP-3
        raise ProblemError(
            400, f"{headers.KEY} must be one value of 1 to {TEXT_CHARACTERS_MAX} printable ASCII characters"
        )
    return keys[0]


@dataclass(frozen=True, slots=True)
class Creation:
    """A create as it was received: where, by whom, under which key, of what.

    `waited_seconds` is what it was in line for, and `operation` its name where it is not the one that the library has
    for creates of such entities.
    """

    here: Edge
    user: str
    key: str | None
    body: Any
    response: Response
    waited_seconds: float
    operation: str | None = None

    @property
    def database(self) -> PromptStudioDatabase:
        """The opened database."""
        return self.here.database

    def patience(self) -> AbstractContextManager[None]:
        """What is asked of the database waits for others no longer than one call may, the time in line included."""
        return self.database.one_patience(spent_seconds=self.waited_seconds)

    def made_once(self, entity_type: str, find: Callable[[int], Row | None], make: Callable[[Creation], Row]) -> Row:
        """What this request has made before, as `find` gives it, or what `make` makes of it now.

        `find` finds what is the user's only, deleted or not: a key's entity may be another's by now.

        Raises:
            IdempotencyMismatch: the key was used for another request.
            EntityGone: the entity is not there any more, or not the user's.
        """
        made = self._made_before(entity_type)
        if made is None:
            row = make(self)
            if not row.get("replayed"):
                return row
            made = row["id"]  # by a rival, after it was looked for
        found = find(made)
        if found is None:  # impl: PS-HTTP-4
            raise EntityGone(f"the idempotency key stands for {entity_type} {made}, which is not there any more")
        self.response.headers[headers.REPLAYED] = "true"
        return found

    def _made_before(self, entity_type: str) -> int | None:
        # impl: PS-IDEMPOTENCY-SCOPE-2
        if self.key is None:
            return None
        asked = entity_type, self.key, self.user, self.body
        return self.database.lookup_created(*asked, operation=self.operation)

    def checked(self, model: type[Model]) -> Model:
        """The body as what the route expects.

        Raises:
            ProblemError: 422, it breaks the schema; `detail` is the list of errors.
        """
        try:
            return model.model_validate(self.body)
        except ValidationError as error:
            errors = [{**one, "loc": ("body", *one["loc"])} for one in error.errors(include_url=False)]
            raise ProblemError(422, without_values(errors)) from error

    @property
    def once(self) -> dict[str, Any]:
        """What a create of the library needs to know of it."""
        return {"idempotency_key": self.key, "user_id": self.user, "request": self.body}


async def turn_of_create(here: Here, _: Annotated[object, Depends(key_of)]) -> AsyncIterator[float]:
    """A turn to write for what is a create by its user, its JSON and its key; the rest as for `turn_of_user`.

    It asks for them: FastAPI goes on with what does not, when a host's dependency has found a header wanting.

    Raises:
        TransientConflict: none came in time.
    """
    async with here.turns.taken() as waited_seconds:  # impl: PS-HTTP-7
        yield waited_seconds


async def creation_of(  # noqa: PLR0913, PLR0917 - there is as much as there is
    here: Here,
    user: User,
    body: Annotated[object, Depends(json_of)],
    key: Annotated[str | None, Depends(key_of)],
    waited_seconds: Annotated[float, Depends(turn_of_create, scope="function")],
    response: Response,
) -> Creation:
    """The create that was asked for; refused in the order that its parts stand in."""
    # impl: PS-HTTP-2
    return Creation(here, user, key, body, response, waited_seconds)


Create = Annotated[Creation, Depends(creation_of)]


def described_body(model: type[BaseModel], *, keyed: bool = True) -> dict[str, Any]:
    """A body and the key's header, for OpenAPI."""
    content = {JSON_TYPE: {"schema": inlined(model)}}
    told: dict[str, Any] = {"requestBody": {"required": True, "content": content}}
    if keyed:
        told["parameters"] = [
            {
                "name": headers.KEY,
                "in": "header",
                "required": False,
                "description": "The same key and request again: the same entity, made once.",
                "schema": {
                    "type": "string",
                    "minLength": 1,
                    "maxLength": TEXT_CHARACTERS_MAX,
                    "pattern": f"^{_KEY.pattern}$",
                },
            }
        ]
    return told


def _refuse(name: str) -> NoReturn:
    raise InputError(f"{name} is no JSON number")


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]
