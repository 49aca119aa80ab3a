"""How long to wait before the next look: decisions on numbers, chance handed in.

Each wait without a job is twice as long as the one before, up to a limit that is never exceeded: a lease that has
expired is found no later than that. Chance makes it shorter, so that workers do not look in step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

FIRST_PAUSE_SECONDS: Final = 0.05
SPREAD_MIN: Final = 0.5

CLOSING_PAUSE_SECONDS_MAX: Final = 5.0
"""The longest wait between two tries of a closing call."""

RELEASE_SECONDS_MAX: Final = 10.0
"""How long a release that gets no answer is repeated: a stop waits for it, and all that it saves is an execution."""


@dataclass(frozen=True, slots=True)
class Idle:
    """A worker that finds nothing to do.

    Attributes:
        limit_seconds: the longest wait.
        looks: how often in a row there was nothing.
    """

    limit_seconds: float
    looks: int = 0

    def nothing(self) -> Idle:
        """After one more look in vain."""
        return Idle(self.limit_seconds, self.looks + 1)

    def something(self) -> Idle:
        """After a job, or a hint that there is one."""
        return Idle(self.limit_seconds)

    def pause(self, spread: float) -> float:
        """How long to wait now; `spread` is drawn evenly from SPREAD_MIN to 1."""
        return doubled(self.looks, self.limit_seconds) * spread


def doubled(times: int, limit_seconds: float) -> float:
    """The first pause, doubled so often, and no longer than the limit."""
    # No more than 32 times: by then every limit is reached, and a number of any length costs nothing.
    return min(limit_seconds, FIRST_PAUSE_SECONDS * (1 << min(times, 32)))
