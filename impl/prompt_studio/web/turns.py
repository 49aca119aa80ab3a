"""Turns: who may wait for others in the database, so that everybody else need not.

FastAPI runs handlers on threads that all of an application share, 40 of them, and a connection pool has fewer places
still. A create that meets a rival keeps both for as long as it waits. So only some may be at it at once; the others
stand in line, which costs neither.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import anyio

from prompt_studio.config import Settings
from prompt_studio.errors import TransientConflict
from prompt_studio.web.loops import OfEachLoop

WRITERS_MAX: Final = 16
"""At most so many: well below the number of threads that FastAPI has."""


class Turns:
    """So many at a time, those that came first first; each event loop counts its own."""

    def __init__(self, places: int, seconds: float) -> None:
        """Let so many in at once; the others wait so long."""
        self._places = places
        self._seconds = seconds
        self._lines = OfEachLoop(lambda: anyio.Semaphore(places))

    @classmethod
    def of_writers(cls, settings: Settings) -> Turns:
        """Those of who writes to a database with these settings; a connection is left for who only reads."""
        places = min(WRITERS_MAX, max(1, settings.pool_connections - 1))
        return cls(places, settings.write_retry_seconds)

    @asynccontextmanager
    async def taken(self) -> AsyncIterator[float]:
        """Wait for a turn, and have it in the block, which is told how many seconds it was waited for.

        Raises:
            TransientConflict: none came within the limit.
        """
        line, asked_at = self._lines.here(), anyio.current_time()
        try:
            await self._await(line)
        except TimeoutError as error:
            raise TransientConflict(
                f"{self._places} others were before it for {self._seconds:g} s; nothing was written: repeat the call"
            ) from error
        try:
            yield anyio.current_time() - asked_at
        finally:
            line.release()

    async def _await(self, line: anyio.Semaphore) -> None:
        try:
            line.acquire_nowait()  # also for who may not wait at all
        except anyio.WouldBlock:
            with anyio.fail_after(self._seconds):
                await line.acquire()
