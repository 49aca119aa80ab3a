"""SIGTERM and SIGINT, heard also while a handler blocks the event loop; and the end of a process that would not end.

asyncio hears of a signal when its loop comes to it, and Python between two steps of its main thread. A handler may keep
both for as long as it likes, and its lease is kept meanwhile; so the number of a signal goes into a socket, which a
thread of its own reads. There is one such socket in a process, and who adds a signal of his own to an event loop puts
asyncio's in its place: so Python's call, however late, writes to ours too. What is still there when the time of a stop
is over is left: other workers take it over when its lease has ended.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Final

from prompt_studio.command import NOT_DONE
from prompt_studio.job_manager import JobManager
from prompt_studio.running.heartbeat import local_seconds

_log: Final = logging.getLogger("prompt_studio.worker")

REPEAT_SECONDS: Final = 1.0
"""`timeout` sends a signal to its child and to the group that the child is in: one that comes so soon is the same."""

ANSWER_SECONDS_MIN: Final = 2.0
"""An event loop is given that long to show that it is not blocked, however short a time handlers have to settle."""

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)

CALLED: Final = 0x80
"""Marks the number of a signal for which Python has called: most have been in the socket before."""


class StopSignals:
    """Stops a worker at the first signal, and at the next one ends its grace time. Used once, on the main thread."""

    def __init__(self, manager: JobManager, *, grace_seconds: float, settle_seconds: float) -> None:
        """Hear nothing yet.

        Args:
            manager: is stopped, from another thread.
            grace_seconds: how long its handlers run on after the first signal.
            settle_seconds: how long they then have to end.
        """
        self._manager = manager
        self._facts = {"worker_id": manager.worker_id}
        self._grace_seconds = grace_seconds
        self._settle_seconds = max(settle_seconds, ANSWER_SECONDS_MIN)
        self._ears, self._mouth = socket.socketpair()
        self._mouth.settimeout(0)  # as a signal's handler must have it
        self._before = {number: signal.getsignal(number) for number in SIGNALS}
        self._heard_at = -math.inf
        self._closed = threading.Event()

    def listen(self) -> None:
        """Hear signals from now on; on the event loop of the worker, which has begun."""
        self._loop = asyncio.get_running_loop()
        for number in SIGNALS:
            signal.signal(number, self._note)
        signal.set_wakeup_fd(self._mouth.fileno(), warn_on_full_buffer=False)
        os.register_at_fork(after_in_child=self._leave_to_parent)
        threading.Thread(target=self._listen_until_closed, name="prompt-studio-signals", daemon=True).start()

    def expect_end(self, error: BaseException | None = None) -> None:
        """The worker has ended, by this error if there is one: whatever keeps the process is left after a while.

        It may be a handler that ignores its cancellation, or a thread that one began.
        """
        self._after(self._settle_seconds, lambda: self._leave("something keeps the process", error))

    def close(self) -> None:
        """Hear no more, and let the process go on."""
        self._closed.set()
        self._hear_no_more()

    def _hear_no_more(self) -> None:
        signal.set_wakeup_fd(-1)
        for number, before in self._before.items():
            signal.signal(number, before)
        self._mouth.close()

    def _leave_to_parent(self) -> None:
        """In a child that a handler has forked: its signals are its own, and not what stops the worker."""
        if not self._closed.is_set():
            self._hear_no_more()

    def _note(self, number: int, frame: FrameType | None) -> None:
        """Python's call, between two steps of the main thread."""
        del frame
        with suppress(OSError):  # it is full of what was not heard yet
            self._mouth.send(bytes([number | CALLED]))

    def _listen_until_closed(self) -> None:
        uncalled = set[int]()
        with self._ears:
            while numbers := self._ears.recv(1):
                number, called = numbers[0] & ~CALLED, bool(numbers[0] & CALLED)
                if number not in SIGNALS:
                    continue
                if not called:
                    uncalled.add(number)
                elif number in uncalled:  # one call for all that have come until then
                    uncalled.remove(number)
                    continue
                self._hear(signal.Signals(number))

    def _hear(self, number: signal.Signals) -> None:
        now, before = local_seconds(), self._heard_at
        if now - before < REPEAT_SECONDS:  # impl: PS-LEASE-HB-21
            _log.info("%s so soon again is the same", number.name, extra=self._facts)
            return
        _log.info("stopping: %s", number.name, extra=self._facts)
        self._heard_at = now
        self._manager.stop_processing()
        self._after(self._grace_seconds if before == -math.inf else 0, self._watch_loop)

    def _watch_loop(self) -> None:
        """The grace time is over: the worker does the rest while its loop lives, and nobody does when it is blocked."""
        while not self._closed.wait(self._settle_seconds / 4):
            answered = threading.Event()
            try:
                self._loop.call_soon_threadsafe(answered.set)
            except RuntimeError:  # it has ended
                return
            if not answered.wait(self._settle_seconds):
                self._leave("a handler blocks the event loop", None)

    def _after(self, seconds: float, call: Callable[[], None]) -> None:
        timer = threading.Timer(seconds, call)
        timer.daemon = True
        timer.start()

    def _leave(self, why: str, error: BaseException | None) -> None:
        if self._closed.is_set():
            return
        # impl: PS-LEASE-HB-22
        _log.error("%s: it is ended, and what runs is left to its lease", why, exc_info=error, extra=self._facts)
        logging.shutdown()
        os._exit(NOT_DONE)
