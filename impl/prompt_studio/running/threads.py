"""Calls off the event loop.

Handlers get a thread each, which does not keep the process from ending: one that ignores its cancellation must not.
Calls to the database take turns on a few threads, since each thread has a connection of its own.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import copy_context
from types import TracebackType
from typing import Self, TypeVar

from prompt_studio.running.attempt_log import AttemptLog

Answer = TypeVar("Answer")


class _Caught:
    """What a block raised, for somebody else to raise."""

    error: BaseException | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self.error = error
        return True


def on_a_thread(name: str, call: Callable[[], Answer], *, log: AttemptLog) -> asyncio.Future[Answer]:
    """The future answer of a call on a thread of its own, in the context of the caller."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Answer] = loop.create_future()
    context = copy_context()

    def run() -> None:
        answers = []
        with _Caught() as caught:
            answers.append(context.run(call))
        try:
            loop.call_soon_threadsafe(_settle, future, answers, caught.error)
        except RuntimeError:
            log.warning("its handler ended after its event loop")

    threading.Thread(target=run, name=name, daemon=True).start()
    return future


def _settle(future: asyncio.Future[Answer], answers: list[Answer], error: BaseException | None) -> None:
    if future.done():  # nobody waits any more
        return
    if error is None:
        future.set_result(answers[0])
    else:
        future.set_exception(_as_failure(error))


def _as_failure(error: BaseException) -> Exception:
    """What ends a thread must not end the event loop, and a future cannot carry a StopIteration."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    failure = RuntimeError(f"it raised {type(error).__name__}")
    failure.__cause__ = error
    return failure


async def is_set_within(event: asyncio.Event, seconds: float) -> bool:
    """Whether the event is set, as soon as it is, and at the latest after so many seconds."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    return event.is_set()


class Uncut:
    """Waits for what must not be left half done: a cancellation is kept, and obeyed when that is done.

    It waits in the caller's task and makes none, since the end of an event loop cancels every task, also one that does
    something for another.

    Attributes:
        cancelled: the last cancellation that was kept.
    """

    def __init__(self, told: Callable[[], None] = lambda: None) -> None:
        """Call `told` at each cancellation."""
        self.cancelled: asyncio.CancelledError | None = None
        self._told = told

    async def wait(self, what: Awaitable[object]) -> None:
        """Wait for this, or until cancelled."""
        try:
            await what
        except asyncio.CancelledError as error:
            self.cancelled = error
            self._told()

    async def answer(self, future: asyncio.Future[Answer]) -> Answer:
        """What becomes of a future that no cancellation cuts."""
        while not future.done():
            await self.wait(asyncio.wait({future}))
        return future.result()

    async def is_set_within(self, event: asyncio.Event, seconds: float) -> bool:
        """Whether the event is set, as soon as it is, and at the latest after so many seconds or when cancelled."""
        await self.wait(is_set_within(event, seconds))
        return event.is_set()

    def obey(self) -> None:
        """Be cancelled now, if that was kept."""
        if self.cancelled is not None:
            raise self.cancelled


async def to_its_end(future: asyncio.Future[Answer]) -> Answer:
    """The answer of a call that is waited for to its end: who is cancelled meanwhile is cancelled after it."""
    uncut = Uncut()
    try:
        return await uncut.answer(future)
    finally:
        uncut.obey()
