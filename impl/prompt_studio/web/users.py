"""Who asks. A host application says so itself, by overriding `user_of_request`; alone, bearer tokens say it.

Nobody is ever taken for anybody: a request without a valid token is refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Self

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from prompt_studio import values
from prompt_studio.errors import InputError
from prompt_studio.values import TEXT_CHARACTERS_MAX, shown
from prompt_studio.web.problems import ProblemError

TOKEN_CHARACTERS_MIN: Final = 16
CHALLENGE: Final = {"WWW-Authenticate": "Bearer"}

_bearer: Final = HTTPBearer(auto_error=False, description="A token from the file of users")


class Users:
    """The users of a stand-alone server, by their tokens. Only hashes of tokens are kept."""

    def __init__(self, tokens: Mapping[str, str]) -> None:
        """Take tokens and the user of each.

        Raises:
            InputError: a token is too short to be a secret, or a user's name is empty or too long.
        """
        for token, user in tokens.items():
            if len(token) < TOKEN_CHARACTERS_MIN or not token.isascii():
                raise InputError(f"a token must have at least {TOKEN_CHARACTERS_MIN} characters, all of them ASCII")
            if not 0 < len(user) <= TEXT_CHARACTERS_MAX:
                raise InputError(f"a user must have 1 to {TEXT_CHARACTERS_MAX} characters, not {shown(user)}")
        self._users = {_digest(token): user for token, user in tokens.items()}

    @classmethod
    def read(cls, path: Path) -> Self:
        """The users of a file: on each line a token, spaces, and a user; lines that begin with # say nothing.

        Raises:
            InputError: a line has no user, a token stands there twice, or there is none at all.
        """
        tokens: dict[str, str] = {}
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            token, _, user = line.strip().partition(" ")
            if not user.strip() or token in tokens:
                raise InputError(f"{path}, line {number}: write a token of its own, a space and a user")
            tokens[token] = user.strip()
        if not tokens:
            raise InputError(f"{path} names no user: write a line with a token, a space and a user")
        return cls(tokens)

    def named_by(self, token: str) -> str | None:
        """The user whose token it is, or None."""
        return self._users.get(_digest(token))


async def user_of_request(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> str:
    """The user whose bearer token the request has. A host application overrides this dependency with its own.

    Raises:
        ProblemError: 401, there is no token, or nobody has it.
    """
    users: Users | None = request.app.state.users
    user = None if credentials is None or users is None else users.named_by(credentials.credentials)
    if user is None:
        raise ProblemError(401, "a valid bearer token is needed", headers=CHALLENGE)  # impl: PS-HTTP-1
    return user


async def checked_user(named: Annotated[object, Depends(user_of_request)]) -> str:
    """The user that was named, as text; a host may name a number.

    Raises:
        ProblemError: 401, nobody was named, or a name that no user can have. To the library None is everybody.
    """
    try:
        user = values.user(str(named).strip()) if isinstance(named, str | int) and not isinstance(named, bool) else None
    except InputError:
        user = None
    if not user:
        raise ProblemError(401, "a valid user is needed", headers=CHALLENGE)  # impl: PS-HTTP-1
    return user


User = Annotated[str, Depends(checked_user)]


def _digest(token: str) -> bytes:
    # Compared by hash: how long a comparison takes says nothing of a token.
    return hashlib.sha256(token.encode()).digest()
