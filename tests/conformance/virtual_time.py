"""Time that moves only when a test says so."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

START_MILLISECONDS = 1_700_000_000_000


def _nobody_is_told(milliseconds: int) -> None:
    del milliseconds


@dataclass
class VirtualClock:
    """A clock for `PromptStudioDatabase(clock=...)`; where the database itself keeps the time, `on_move` sets it."""

    milliseconds: int = START_MILLISECONDS
    on_move: Callable[[int], None] = _nobody_is_told

    def __post_init__(self) -> None:
        self.on_move(self.milliseconds)

    def now_milliseconds(self) -> int:
        return self.milliseconds

    @property
    def now(self) -> datetime:
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=self.milliseconds)

    def tick(self, seconds: float) -> None:
        self.milliseconds += round(seconds * 1000)
        self.on_move(self.milliseconds)
