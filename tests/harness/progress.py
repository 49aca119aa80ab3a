"""A line now and then, for whoever waits: on a terminal in its place, elsewhere seldom."""

import time
from collections.abc import Callable
from typing import Final, TextIO

PROGRESS_SECONDS: Final = {True: 2.0, False: 30.0}
"""How often a line is written: to a terminal; elsewhere."""


class Progress:
    """Tells of a long run.

    Args:
        stream: where the lines go.
        within: whether others write there, too: then the first line is due after a while, and begins a new one.
        now: a clock that shows seconds.
    """

    def __init__(self, stream: TextIO, *, within: bool = False, now: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._terminal = stream.isatty()
        self._now = now
        self._next = now() + (PROGRESS_SECONDS[self._terminal] if within else 0)
        self._before = "\n" if within else ""
        self._written = False

    @property
    def due(self) -> bool:
        """Whether it is time for a line."""
        return self._now() >= self._next

    def write(self, line: str) -> None:
        """Write a line. Ask first whether it is due."""
        self._next = self._now() + PROGRESS_SECONDS[self._terminal]
        before = "" if self._written else self._before
        self._stream.write(f"{before}\r\033[K{line}" if self._terminal else f"{before}{line}\n")
        self._stream.flush()
        self._written = True

    def end(self) -> None:
        """Leave the line."""
        if self._terminal and self._written:
            self._stream.write("\n")
            self._stream.flush()
