"""Waiting for other sessions, within a limit.

Each wait is drawn evenly from nothing to a bound that doubles: sessions that collided once then do not collide again
in step, as they would if all waited equally long.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from random import SystemRandom
from typing import Final, TypeVar

from prompt_studio.errors import TransientConflict

FIRST_PAUSE_SECONDS: Final = 0.001
PAUSE_SECONDS_MAX: Final = 0.05

# The system's source: a forked child with a copy of its parent's dice would wait in step with it.
_dice: Final = SystemRandom()

Answer = TypeVar("Answer")


class Patience:
    """What one call may spend on waiting, in all."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds
        self._bound = FIRST_PAUSE_SECONDS

    def retry(self, attempt: Callable[[], Answer]) -> Answer:
        """The first answer of `attempt` that is not a TransientConflict.

        Raises:
            TransientConflict: there was none within the limit.
        """
        while True:
            try:
                return attempt()
            except TransientConflict as conflict:
                left = self.check(conflict)
            pause(min(left, _dice.uniform(0, self._bound)))
            self._bound = min(PAUSE_SECONDS_MAX, 2 * self._bound)

    def check(self, conflict: TransientConflict) -> float:
        """The seconds that are left.

        Raises:
            TransientConflict: there are none, and this was the last reason.
        """
        left = self._deadline - time.monotonic()
        if left > 0:
            return left
        raise TransientConflict(
            f"{conflict}: others were in the way for {self._seconds:g} s; nothing was written: "
            "repeat the call, and look for a transaction that is left open"
        ) from conflict


def pause(seconds: float) -> None:
    """Let the others go on."""
    time.sleep(seconds)
