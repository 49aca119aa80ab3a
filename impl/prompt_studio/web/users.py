"""Who asks. A host application says so itself, by overriding `user_of_request`; alone, bearer tokens say it.

Nobody is ever taken for anybody: a request without a valid token is refused.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Annotated, Final

from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from prompt_studio import values
from prompt_studio.errors import InputError
from prompt_studio.web.edge import Here
from prompt_studio.web.problems import CHALLENGED, NOBODY, ProblemError

_log: Final = logging.getLogger(__name__)
BEARER: Final = HTTPBearer(scheme_name="StudioBearer", auto_error=False, description="A token from the file of users")
"""How a token is sent. Described where there are tokens only: FastAPI's own name for it may be the host's."""


async def user_of_request(request: Request, here: Here) -> str:
    """The user whose bearer token the request has. A host application overrides this dependency with its own.

    Raises:
        ProblemError: 401, there is no token, or nobody has it.
    """
    credentials = await BEARER(request)
    user = None if credentials is None or here.users is None else here.users.named_by(credentials.credentials)
    if user is None:
        raise ProblemError(401, "a valid bearer token is needed", headers=CHALLENGED)  # impl: PS-HTTP-1
    return user


async def checked_user(named: Annotated[object, Depends(user_of_request)]) -> str:
    """The user that was named, as text; a host may name a number.

    Raises:
        ProblemError: 401, nobody was named, or a name that no user can have. To the library None is everybody.
    """
    if named is not None and (isinstance(named, bool) or not isinstance(named, str | int)):
        _log.warning("user_of_request must name a text or a number, not a %s: nobody is let in", type(named).__name__)
        named = None
    try:
        user = values.user(str(named)) if named is not None else None
    except InputError:
        user = None
    # Refused and not mended: "ann " is somebody else than "ann" to whoever named them.
    if not user or user != user.strip():
        raise ProblemError(401, NOBODY, headers=CHALLENGED)  # impl: PS-HTTP-1
    return user


User = Annotated[str, Depends(checked_user)]


async def turn_of_user(here: Here, _: User) -> AsyncIterator[float]:
    """A turn to write for somebody, until the handler is done; it tells how many seconds it was waited for.

    Raises:
        TransientConflict: none came in time.
    """
    async with here.turns.taken() as waited_seconds:  # impl: PS-HTTP-7
        yield waited_seconds


Turn = Annotated[float, Depends(turn_of_user, scope="function")]
