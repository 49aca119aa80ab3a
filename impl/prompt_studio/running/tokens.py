"""The attempts that a manager has, or had: whoever works for it closes them under their own tokens, however late.

Without its token a closing call would be an operator's move, and would end the attempt of whoever has taken the job
since. So the token of a lease that was lost, or left, is kept: its handler may not have ended.
"""

from __future__ import annotations

import threading
from typing import Final

ATTEMPTS_MAX: Final = 10_000
"""How many are remembered; the oldest is forgotten first."""


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

    def of(self, job_id: int) -> int | None:
        """The token of the job's last attempt here; None: it was never leased here, or was closed."""
        with self._turn:
            return self._tokens.get(job_id)
