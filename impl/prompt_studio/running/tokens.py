"""The attempts that a manager has, or had: whoever works for it closes them under their own tokens, however late.

Without its token a closing call would be an operator's move, and would end the attempt of whoever has taken the job
since. So the token of a lease that was lost, or left, is kept: its handler may not have ended. The job may be leased
here once more by then, so a handler carries the token of its own attempt with it, wherever its context goes.
"""

from __future__ import annotations

import threading
from contextvars import ContextVar
from typing import Final

ATTEMPTS_MAX: Final = 10_000
"""How many are remembered; the oldest is forgotten first."""


_own: Final[ContextVar[tuple[Tokens, int, int] | None]] = ContextVar("prompt_studio_own_attempt", default=None)
"""Whose handler runs in this context: the manager's tokens, the job, and the token of the attempt."""


class Tokens:
    """The fencing token of each job that was leased here, until its attempt was closed here. Used by any thread."""

    def __init__(self) -> None:
        self._tokens: dict[int, int] = {}
        self._turn = threading.Lock()

    def leased(self, job_id: int, lease_token: int) -> None:
        """A job was leased here."""
        with self._turn:
            self._tokens.pop(job_id, None)  # the youngest is the last
            self._tokens[job_id] = lease_token
            if len(self._tokens) > ATTEMPTS_MAX:
                del self._tokens[next(iter(self._tokens))]

    def closed(self, job_id: int, lease_token: int) -> None:
        """A closing call of this attempt was applied; a younger one of the same job stays."""
        with self._turn:
            if self._tokens.get(job_id) == lease_token:
                del self._tokens[job_id]

    def carry(self, job_id: int, lease_token: int) -> None:
        """What runs in this context from now on is the handler of this attempt."""
        _own.set((self, job_id, lease_token))

    def of(self, job_id: int) -> int | None:
        """The token of the job's attempt whose handler asks, else of its last one here.

        None: it was never leased here, or was closed.
        """
        own = _own.get()
        if own is not None and own[:2] == (self, job_id):
            return own[2]
        with self._turn:
            return self._tokens.get(job_id)
