"""What belongs to an event loop: an application may be served by several in one process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Generic, TypeVar

from anyio.lowlevel import RunVar

Kept = TypeVar("Kept")


class OfEachLoop(Generic[Kept]):
    """One of these for each event loop, made when it is first asked for there."""

    def __init__(self, make: Callable[[], Kept]) -> None:
        """Make them so."""
        self._make: Final = make
        self._kept: RunVar[Kept] = RunVar("prompt_studio.of_each_loop")

    def here(self) -> Kept:
        """The one of the loop that runs."""
        try:
            return self._kept.get()
        except LookupError:
            made = self._make()
            self._kept.set(made)
            return made
