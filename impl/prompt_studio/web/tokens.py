"""The users of a server that stands alone: bearer tokens, and whose each is."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Self

from prompt_studio.errors import InputError
from prompt_studio.values import TEXT_CHARACTERS_MAX, shown

TOKEN_CHARACTERS_MIN: Final = 16


class Users:
    """The users of a stand-alone server, by their tokens. Only hashes of tokens are kept."""

    def __init__(self, tokens: Mapping[str, str]) -> None:
        """Take tokens and the user of each.

        Raises:
            InputError: a token is too short to be a secret, or a user is empty, too long, or has spaces around it.
        """
        for token, user in tokens.items():
            if len(token) < TOKEN_CHARACTERS_MIN or not token.isascii():
                raise InputError(f"a token must have at least {TOKEN_CHARACTERS_MIN} characters, all of them ASCII")
            if not 0 < len(user) <= TEXT_CHARACTERS_MAX or user != user.strip():
                raise InputError(
                    f"a user must have 1 to {TEXT_CHARACTERS_MAX} characters and no spaces around, not {shown(user)}"
                )
        self._users = {_digest(token): user for token, user in tokens.items()}

    @classmethod
    def read(cls, path: Path) -> Self:
        """The users of a file: on each line a token, spaces, and a user; lines that begin with # say nothing.

        Raises:
            InputError: it cannot be read, a line has no user, a token stands there twice, or there is none at all.
        """
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"the file of users, {path}, cannot be read: {error}") from error
        tokens: dict[str, str] = {}
        for number, line in enumerate(lines, start=1):
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


def _digest(token: str) -> bytes:
    # Compared by hash: how long a comparison takes says nothing of a token.
    return hashlib.sha256(token.encode()).digest()
