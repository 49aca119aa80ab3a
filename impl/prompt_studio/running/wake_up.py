"""A thread that listens for new jobs and wakes a worker. Without it, or in its trouble, the worker still looks."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Final

from prompt_studio.errors import DatabaseError
from prompt_studio.storage.claims import Listener

_log: Final = logging.getLogger("prompt_studio.worker")

LISTEN_SECONDS: Final = 0.5
"""How soon the thread sees that it is to end."""

TROUBLE_SECONDS: Final = 5.0
"""How long it waits before it begins another session after trouble."""

JOIN_SECONDS_MAX: Final = 30.0


class WakeUp:
    """It calls back, on its own thread, whenever there may be a job."""

    def __init__(self, listener: Listener, wake: Callable[[], None]) -> None:
        """Take a listener, which is closed with this."""
        self._listener = listener
        self._wake = wake
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="prompt-studio-listener", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread, and its session."""
        self._closed.set()
        self._thread.join(JOIN_SECONDS_MAX)
        self._listener.close()

    def _listen(self) -> None:
        while not self._closed.is_set():
            try:
                if self._listener.wait(LISTEN_SECONDS):
                    self._wake()
            except DatabaseError as error:
                _log.warning("nobody hears of new jobs for a while, and the worker looks by itself: %s", error)
                self._closed.wait(TROUBLE_SECONDS)
