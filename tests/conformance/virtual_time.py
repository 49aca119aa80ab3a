"""Time that moves only when a test says so."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

START_MILLISECONDS = 1_700_000_000_000


@dataclass
class VirtualClock:
    """A clock for `PromptStudioDatabase(clock=...)`."""

    milliseconds: int = START_MILLISECONDS

    def now_milliseconds(self) -> int:
        return self.milliseconds

    @property
    def now(self) -> datetime:
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=self.milliseconds)

    def tick(self, seconds: float) -> None:
        self.milliseconds += round(seconds * 1000)
