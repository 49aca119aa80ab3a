"""The connections that threads borrow for a statement or a transaction.

Nothing happens behind the callers' backs: who finds no connection makes one, and is told by the server itself why there
is none. Decision 0009 says why this is not a library's pool.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Final
from weakref import WeakSet

from prompt_studio.errors import StoreUnavailable
from prompt_studio.storage.postgres.connection import Handle, PerProcess, Server, is_alive

LOOK_SECONDS: Final = 0.05
"""How soon somebody who waits sees that a connection is gone, and another may be made."""
AGE_SECONDS_MAX: Final = 3600.0
"""A server process never gives back what it has cached, and a name may stand for another server by now."""


@dataclass(eq=False)
class _Place:
    """The right to have a connection: taken as long as this object lives, so that what is lost gives it back."""

    connected: bool = False


class _Pool:
    """The connections of one process."""

    def __init__(self) -> None:
        # Both are written in C, and so is `with` on the lock: an interruption comes before or after, never half way.
        self._idle: SimpleQueue[Handle] = SimpleQueue()
        self._growing = threading.Lock()
        self.places: WeakSet[_Place] = WeakSet()
        self.closed = False

    def idle(self, seconds: float) -> Handle | None:
        """One that nobody uses; None if there was none for so long."""
        try:
            return self._idle.get(timeout=seconds)
        except Empty:
            return None

    def place(self, limit: int) -> _Place | None:
        """A place for one more; None if there are so many."""
        with self._growing:
            if len(self.places) >= limit:
                return None
            place = _Place()
            self.places.add(place)
            return place

    def give(self, handle: Handle) -> None:
        """Take one back."""
        if self.closed or time.monotonic() > handle.born + AGE_SECONDS_MAX:
            handle.close()
        if handle.closed:
            handle.place = None
            return
        self._idle.put(handle)
        if self.closed:  # meanwhile
            self.close()

    def close(self) -> None:
        """Close what nobody uses, and from now on what is given back."""
        self.closed = True
        while (handle := self.idle(0)) is not None:
            handle.close()


class PooledHandles:
    """Handles that are borrowed. A forked child gets a pool of its own."""

    lent: Final = True

    def __init__(self, server: Server) -> None:
        self._server = server
        self._pools = PerProcess(_Pool)

    def take(self) -> Handle:
        """A live handle of this process.

        Raises:
            StoreUnavailable: none was free within the limit, or none could be made.
        """
        pool, settings, seconds = self._pools.get(), self._server.settings, 0.0
        deadline = time.monotonic() + settings.write_retry_seconds
        while not pool.closed:
            handle = pool.idle(seconds)
            if handle is not None and is_alive(handle):
                return handle
            if handle is not None:
                handle.close()
                pool.give(handle)
                continue
            place = pool.place(settings.pool_connections)
            if place is not None:
                return self._connected(pool, place)
            seconds = min(LOOK_SECONDS, deadline - time.monotonic())
            if seconds <= 0:
                raise self._crowded(pool)
        raise StoreUnavailable("this database was closed: open it again")

    def give(self, handle: Handle) -> None:
        """Back to the pool."""
        self._pools.get().give(handle)

    def close(self) -> None:
        """Close the pool of this process."""
        self._pools.get().close()

    def _connected(self, pool: _Pool, place: _Place) -> Handle:
        try:
            handle = self._server.connect()
        except BaseException:
            pool.places.discard(place)  # the error's traceback may keep it for long
            raise
        place.connected = True
        handle.place = place
        return handle

    def _crowded(self, pool: _Pool) -> StoreUnavailable:
        settings, places = self._server.settings, list(pool.places)
        used = sum(place.connected for place in places)
        return StoreUnavailable(
            f"{self._server.place}: no connection was free for {settings.write_retry_seconds:g} s: of "
            f"{settings.pool_connections}, {used} were in use and {len(places) - used} not made yet; nothing was "
            "written: raise pool_connections, or see that the server answers"
        )
