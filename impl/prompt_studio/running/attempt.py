"""One attempt at one job: its handler runs while its lease is kept, and then one closing call says how it ended.

What the handler came to is written only if the lease is not known to be lost, and the write is repeated until the
database has said what became of it, or the lease's deadline is over. Nothing here is left half done by a cancellation.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from functools import partial
from traceback import TracebackException
from typing import Any, Final, TypeVar, cast

from prompt_studio import values
from prompt_studio.database import PromptStudioDatabase
from prompt_studio.errors import DatabaseError, InputError, StoreUnavailable, TransientConflict
from prompt_studio.jobs import JobRow, JobStatus, Outcome
from prompt_studio.metrics import Ending, Metrics
from prompt_studio.running import polling
from prompt_studio.running.attempt_log import AttemptLog
from prompt_studio.running.beats import Loss, Pace, loss
from prompt_studio.running.handlers import JobContext, JobStopped, NotRetryable, Registration
from prompt_studio.running.heartbeat import Attempt, Heartbeat, Holding, local_seconds
from prompt_studio.running.polling import CLOSING_PAUSE_SECONDS_MAX, doubled
from prompt_studio.running.threads import Uncut, on_a_thread
from prompt_studio.running.tokens import Tokens

_log: Final = logging.getLogger("prompt_studio.worker")

STOPPING: Final = "stopping"
_CLOSED: Final = frozenset({Ending.COMPLETED, Ending.REQUEUED, Ending.FAILED, Ending.RELEASED})

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Ground:
    """What all attempts of a manager stand on.

    Attributes:
        database: where closing calls go.
        calls: the threads on which they run.
        heartbeat: keeps the leases.
        metrics: counts.
        tokens: the attempts that were leased here.
        worker_id: who runs the jobs.
        spread: draws from 0.9 to 1.1.
        hurried: set on the event loop when closing calls that get no answer are to be repeated no more.
    """

    database: PromptStudioDatabase
    calls: Executor
    heartbeat: Heartbeat
    metrics: Metrics
    tokens: Tokens
    worker_id: str
    spread: Callable[[], float]
    hurried: asyncio.Event = field(default_factory=asyncio.Event)

    def leased(self, job: JobRow, pace: Pace, *, asked_at: float) -> Claimed:
        """Keep the lease of a job that was leased by a call that began at `asked_at`."""
        self.tokens.leased(job["id"], job["lease_token"])
        attempt = self._attempt(job)
        return Claimed(job, self.heartbeat.watch(attempt, pace, asked_at=asked_at))

    def renewed(self, job: JobRow, pace: Pace) -> Claimed:
        """Renew the lease of a job that was leased before, to the length that its pace has, and keep it.

        Raises:
            JobStopped: there is none any more.
            DatabaseError: trouble of the database.
        """
        asked_at, token = local_seconds(), values.fencing_token(job["lease_token"])
        outcome = self.database.renew_job_lease(job["id"], pace.lease_seconds, lease_token=token)
        if outcome.job is None:
            raise JobStopped(loss(outcome) or "")
        return self.leased(outcome.job, pace, asked_at=asked_at)

    async def taken_over(self, job: JobRow, pace: Pace, uncut: Uncut) -> Claimed:
        """The same, off the event loop, and repeated in trouble for as long as a lease is, unless it is hurried.

        Raises:
            JobStopped: there is none any more.
            DatabaseError: trouble of the database, for all that time or not worth repeating.
        """
        tries, limit = 0, local_seconds() + pace.lease_seconds
        while True:
            try:
                return await uncut.answer(self.call(partial(self.renewed, job, pace)))
            except (TransientConflict, StoreUnavailable) as trouble:
                pause = doubled(tries, CLOSING_PAUSE_SECONDS_MAX) * self.spread()
                AttemptLog(_log, self._attempt(job).facts).warning("it cannot begin yet: %s", trouble)
                if local_seconds() + pause >= limit or await uncut.is_set_within(self.hurried, pause):
                    raise
            tries += 1

    def call(self, call: Callable[[], Answer]) -> asyncio.Future[Answer]:
        """The future answer of a call to the database, off the event loop; no task, so that nobody cancels it."""
        return asyncio.get_running_loop().run_in_executor(self.calls, call)

    def _attempt(self, job: JobRow) -> Attempt:
        return Attempt(
            job_id=job["id"], job_type=job["job_type"], lease_token=job["lease_token"], worker_id=self.worker_id
        )


@dataclass(frozen=True, slots=True)
class Claimed:
    """A job that is leased to this worker.

    Attributes:
        job: its row.
        holding: its lease, which is kept since the very call that leased it: the event loop may be blocked by then.
    """

    job: JobRow
    holding: Holding


@dataclass(frozen=True, slots=True)
class Ended:
    """How an attempt ended here.

    Attributes:
        ending: in a word.
        result: the handler's, if it completed.
        error: what `process_job` raises, if not.
        is_left: nothing was written, and the row may still be leased to the attempt.
    """

    ending: Ending
    result: Any = None
    error: BaseException | None = None
    is_left: bool = False


class Running:
    """An attempt that is being made."""

    def __init__(self, ground: Ground, registration: Registration, claimed: Claimed) -> None:
        self.context: Final = JobContext(claimed.job, ground.worker_id)
        self._ground = ground
        self._registration = registration
        self._holding = claimed.holding
        self._attempt = claimed.holding.attempt
        self.log: Final = AttemptLog(_log, self._attempt.facts)
        self._loop = asyncio.get_running_loop()
        self._handler: asyncio.Future[Any] | None = None
        self._uncut = Uncut(told=partial(self.stop, STOPPING))
        self._entered = False
        self._begun = False
        self._cancelled = False
        self._left: asyncio.Future[None] = self._loop.create_future()

    @property
    def is_entered(self) -> bool:
        """Whether the first step of `run` or `give_back` was taken; a task that is cancelled before takes none."""
        return self._entered

    def stop(self, reason: str) -> None:
        """Ask the handler to end: an async one is cancelled, a plain one is signalled. On the event loop only.

        It is cancelled once: another time would cut what it does at its end.
        """
        self.context.stop(reason)
        if self._handler is not None and self._registration.is_async and not self._cancelled:
            self._cancelled = True
            self._handler.cancel()

    def leave(self) -> None:
        """Wait for the handler no longer."""
        if not self._left.done():
            self._left.set_result(None)

    async def run(self) -> Ended:
        """Run the handler to its end, and write what it came to. A cancellation stops the handler, and is obeyed then.

        Raises:
            DatabaseError: the closing call met trouble that is no use in repeating; the lease ends by itself.
        """
        begun, ending = local_seconds(), Ending.LEFT
        self._enter()
        try:
            self._ground.heartbeat.tell(self._holding, self._hear_loss)
            await self._handle()
            how = await self._closed()
            ending = how.ending
        finally:
            await self._end(ending, local_seconds() - begun)
        self.log.info("%s", how.ending, extra={"ending": how.ending})
        self._uncut.obey()
        return how

    async def give_back(self) -> Ended:
        """Release the job, whose handler was not called; a cancellation is obeyed then."""
        ending = Ending.LEFT
        self._enter()
        try:
            how = await self._given_back()
            ending = how.ending
        finally:
            await self._end(ending, 0.0)
        self._uncut.obey()
        return how

    def _enter(self) -> None:
        self._entered = True
        self._ground.metrics.begun(self._attempt.job_type)

    async def _end(self, ending: Ending, seconds: float) -> None:
        """Keep nothing of the attempt here: no beat, no token that is closed, no lock that nobody gave back."""
        self._ground.heartbeat.forget(self._holding)
        self._ground.metrics.ended(self._attempt.job_type, ending, seconds)
        if ending in _CLOSED:
            self._ground.tokens.closed(self._attempt.job_id, self._attempt.lease_token)
        else:
            await self._forget()

    def _hear_loss(self, lost: Loss) -> None:
        """On a thread of the heartbeat: tell the handler at once, and the loop as soon as it listens."""
        self.context.stop(lost)
        try:
            self._loop.call_soon_threadsafe(self.stop, lost)
        except RuntimeError:
            self.log.warning("its event loop has ended")

    async def _handle(self) -> None:
        """Wait for the handler's end, or until it is left."""
        if self.context.cancellation.is_set():  # before it began
            self._handler = self._loop.create_future()
            self._handler.cancel()
        elif self._registration.is_async:
            self._begun = True
            self._handler = asyncio.ensure_future(self._awaited())
        else:
            self._begun = True
            name = f"prompt-studio-job-{self._attempt.job_id}"
            self._handler = on_a_thread(name, self._called, log=self.log)
        while not (self._handler.done() or self._left.done()):
            await self._uncut.wait(asyncio.wait({self._handler, self._left}, return_when=asyncio.FIRST_COMPLETED))

    async def _awaited(self) -> Any:  # noqa: ANN401 - a result
        self._ground.tokens.carry(self._attempt.job_id, self._attempt.lease_token)  # in the task's own context
        try:
            return await self._registration.call(self.context)
        except SystemExit as error:
            raise RuntimeError("the handler raised SystemExit") from error

    def _called(self) -> Any:  # noqa: ANN401 - a result
        self._ground.tokens.carry(self._attempt.job_id, self._attempt.lease_token)  # in a copy of the context
        result = self._registration.call(self.context)
        if asyncio.iscoroutine(result):
            result.close()
            raise TypeError("a plain handler returned a coroutine: make it async")
        return result

    async def _closed(self) -> Ended:
        """Write how it ended; a defect on the way is the job's, if it can be."""
        try:
            return await self._close()
        except DatabaseError:
            raise
        except Exception as defect:
            if self._holding.loss is not None:
                raise
            # Such as a result that raises when it is looked at: neither this worker nor the next may die of it.
            return await self._failed(defect, retryable=True)

    async def _close(self) -> Ended:
        """Write how it ended, unless the lease is lost."""
        if not self._begun:
            return await self._given_back()
        handler = cast("asyncio.Future[Any]", self._handler)
        if not handler.done():
            self.log.error("its handler does not end; its lease does")
            handler.add_done_callback(self._note_late_end)
            return self._leave()
        stopped = handler.cancelled()
        error = None if stopped else handler.exception()
        lost = self._ground.heartbeat.close_attempt(self._holding)
        if lost is not None:  # impl: PS-LEASE-HB-8
            if error is not None:
                self.log.info("what its handler raised meanwhile", exc_info=error)
            return self._lost(lost)
        if self.context.reason is not None and (stopped or isinstance(error, JobStopped)):
            return await self._release()
        if stopped:
            error = RuntimeError("the handler was cancelled, and nobody had asked for it")
        if error is not None:
            return await self._failed(error, retryable=not isinstance(error, NotRetryable))
        result = handler.result()
        try:
            completed = await self._write(partial(self._completed, result))
        except InputError as refused:  # the result is no JSON: nothing was sent
            return await self._failed(refused, retryable=False)
        return self._answered(completed, Ended(Ending.COMPLETED, result))

    async def _given_back(self) -> Ended:
        """Release a job that did not run, also if only the deadline says that its lease is lost: the token tells."""
        lost = self._ground.heartbeat.close_attempt(self._holding)
        if lost is not None and lost is not Loss.DEADLINE:
            return self._lost(lost)
        return await self._release()  # impl: PS-LEASE-HB-18

    def _note_late_end(self, handler: asyncio.Future[Any]) -> None:
        error = None if handler.cancelled() else handler.exception()
        self.log.warning("its handler has ended at last", exc_info=error)

    async def _failed(self, error: BaseException, *, retryable: bool) -> Ended:
        self.log.warning("it failed", exc_info=error)
        outcome = await self._write(partial(self._fail, _said(error), retryable=retryable))
        requeued = outcome is not None and outcome.status is JobStatus.QUEUED
        how = Ended(Ending.REQUEUED if requeued else Ending.FAILED, error=error)
        return self._answered(outcome, how)

    async def _release(self) -> Ended:
        how = Ended(Ending.RELEASED, error=JobStopped(self.context.reason or STOPPING))
        return self._answered(await self._write(self._released, polling.RELEASE_SECONDS_MAX), how)

    def _answered(self, outcome: Outcome | None, how: Ended) -> Ended:
        """It ended so, if the database says so; None is no answer for as long as one was waited for."""
        if outcome is None:
            self.log.error("how it ended could not be written; its lease ends by itself")
            deadline = self._ground.heartbeat.close_attempt(self._holding)
            return self._leave() if deadline is None else self._lost(deadline)
        lost = loss(outcome)
        if lost is None:
            return how
        return replace(self._lost(self._ground.heartbeat.lose(self._holding, lost)), is_left=False)

    def _lost(self, lost: Loss) -> Ended:
        return Ended(Ending.LOST, error=JobStopped(lost), is_left=lost is Loss.DEADLINE)

    def _leave(self) -> Ended:
        return Ended(Ending.LEFT, error=JobStopped(self.context.reason or STOPPING), is_left=True)

    async def _forget(self) -> None:
        token = self._attempt.lease_token
        forget = partial(self._ground.database.forget_lease, self._attempt.job_id, lease_token=token)
        await self._uncut.answer(self._ground.call(forget))

    async def _write(self, call: Callable[[], Outcome], seconds: float = math.inf) -> Outcome | None:
        """The definite answer of a closing call; None if there was none until the lease's deadline, or for so long."""
        tries, limit = 0, local_seconds() + seconds
        while True:
            try:
                return await self._uncut.answer(self._ground.call(call))
            except (TransientConflict, StoreUnavailable) as trouble:  # impl: PS-LEASE-HB-9
                self.log.warning("no answer yet: %s", trouble)
            pause = doubled(tries, CLOSING_PAUSE_SECONDS_MAX) * self._ground.spread()
            left = min(limit, self._holding.deadline) - local_seconds()
            hurried = await self._uncut.is_set_within(self._ground.hurried, max(0.0, min(pause, left)))
            if hurried or local_seconds() >= min(limit, self._holding.deadline):  # which a beat may have moved
                return None
            self._ground.metrics.closing_repeated(self._attempt.job_type)
            tries += 1

    def _completed(self, result: object) -> Outcome:
        return self._ground.database.complete_job(
            self._attempt.job_id, lease_token=self._attempt.lease_token, result=result
        )

    def _fail(self, text: str, *, retryable: bool) -> Outcome:
        return self._ground.database.fail_job(
            self._attempt.job_id, lease_token=self._attempt.lease_token, error_message=text, retryable=retryable
        )

    def _released(self) -> Outcome:
        return self._ground.database.release_job(self._attempt.job_id, lease_token=self._attempt.lease_token)


def _said(error: BaseException) -> str:
    """An error in words; where its own cannot be had, since they raise, in the standard library's."""
    return f"{type(error).__name__}: {TracebackException(type(error), error, None)}"
