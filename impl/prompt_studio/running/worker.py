"""A worker: it acquires jobs while it has room, runs them, and stops so that none is lost.

The order of a stop: acquire no more; let handlers end, while their leases are kept; ask those that did not to end,
and wait for them once more; then release what they left. A job is released only when its handler has ended.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from random import SystemRandom
from typing import Any, Final

from prompt_studio.errors import DatabaseError, StoreUnavailable, TransientConflict, UnreadableJob
from prompt_studio.jobs import JobType
from prompt_studio.running.attempt import STOPPING, Claimed, Ended, Ground, Running
from prompt_studio.running.beats import Pace
from prompt_studio.running.handlers import Handlers, JobContext, Registration
from prompt_studio.running.heartbeat import local_seconds
from prompt_studio.running.polling import SPREAD_MIN, Idle
from prompt_studio.running.threads import Uncut, is_set_within

_log: Final = logging.getLogger("prompt_studio.worker")
_dice: Final = SystemRandom()

HURRIED: Final = 3
"""How often a worker is asked to stop until it waits for no answer that does not come."""


@dataclass(frozen=True, slots=True)
class Habits:
    """How a worker works.

    Attributes:
        max_concurrent: how many jobs it runs at once.
        poll_seconds: the longest time between two looks, while it has room and finds nothing.
        grace_seconds: how long a stop lets handlers run on.
        settle_seconds: how long it then waits for those that it has asked to end.
    """

    max_concurrent: int
    poll_seconds: float
    grace_seconds: float
    settle_seconds: float


class Worker:
    """One run of a worker, on the event loop that makes it."""

    def __init__(
        self, ground: Ground, handlers: Handlers, pace_of: Callable[[Registration], Pace], habits: Habits
    ) -> None:
        """Work with these handlers, which stay as they are for as long as it does."""
        self._ground = ground
        self._handlers = handlers
        self._pace_of = pace_of
        self._habits = habits
        self._loop = asyncio.get_running_loop()
        self._idle = Idle(habits.poll_seconds)
        self._running: dict[asyncio.Task[Ended], Running] = {}
        self._changed = asyncio.Event()
        self._stopping = False
        self._grace_ends = math.inf
        self._asked = 0
        self._left = 0
        self._defect: BaseException | None = None
        self._uncut = Uncut(told=partial(self.stop, 0))

    @property
    def contexts(self) -> list[JobContext]:
        """What runs."""
        return [running.context for running in list(self._running.values())]

    def stop(self, grace_seconds: float | None = None) -> None:
        """Stop, from any thread, letting handlers run on for so long; None is as usual, and the second time not at all.

        Of several ends of the grace time the soonest counts. From the third time on no closing call is repeated.
        """
        if grace_seconds is None:
            self._asked += 1
            grace_seconds = 0 if self._stopping else self._habits.grace_seconds
        self._grace_ends = min(self._grace_ends, local_seconds() + grace_seconds)
        self._stopping = True
        self.wake()
        if self._asked >= HURRIED:
            self._set(self._ground.hurried)

    def wake(self) -> None:
        """Look again at once, from any thread: there may be a job, or something else to do."""
        self._set(self._changed)

    def _set(self, event: asyncio.Event) -> None:
        try:
            self._loop.call_soon_threadsafe(event.set)
        except RuntimeError:
            _log.debug("a worker was told after its event loop had ended")

    async def run(self) -> bool:
        """Work until stopped. False: the stop left a job to its lease, which ends by itself.

        A cancellation is a stop without a grace time, and is obeyed when that is done. Trouble of the database that is
        no use in waiting for is a stop like any other, since what runs may come to its end; a defect is one at once.
        """
        try:
            await self._work()
        except BaseException as error:
            if not isinstance(error, DatabaseError):
                self.stop(0)
            elif not self._stopping:
                self.stop()
            await self._end()
            raise
        return await self._end()

    async def _work(self) -> None:
        while not self._stopping:
            self._changed.clear()
            if len(self._running) >= self._habits.max_concurrent:
                await self._changed.wait()
            elif (running := await self._claimed()) is not None:
                self._idle = self._idle.something()
                self._begin(running)
            # impl: PS-LEASE-HB-14
            elif await self._is_changed_within(self._idle.pause(_dice.uniform(SPREAD_MIN, 1))):
                self._idle = self._idle.something()
            else:
                self._idle = self._idle.nothing()

    async def _claimed(self) -> Running | None:
        """A job that was leased; None if there was none, or the database was in trouble."""
        if not self._ground.heartbeat.is_alive:
            raise RuntimeError("the heartbeat has ended by a defect, which was logged: no lease would be kept")
        paces = {job_type: self._pace_of(registration) for job_type, registration in self._handlers.items()}
        # impl: PS-LEASE-HB-13
        claim = self._ground.call(partial(self._acquire, paces))
        running = None
        try:
            claimed = await self._uncut.answer(claim)
        except (TransientConflict, StoreUnavailable, UnreadableJob) as error:
            _log.warning("no job could be acquired: %s", error, extra={"worker_id": self._ground.worker_id})
            self._ground.metrics.claim_failed()
            claimed = None
        if claimed is not None:
            self._ground.metrics.claimed(claimed.job)
            running = Running(self._ground, self._handlers[claimed.job["job_type"]], claimed)
        if running is not None and self._stopping:  # impl: PS-LEASE-HB-12
            given_back = await running.give_back()
            self._left += given_back.is_left
            running = None
        self._uncut.obey()
        return running

    def _acquire(self, paces: Mapping[JobType, Pace]) -> Claimed | None:
        self._ground.heartbeat.prove()  # impl: PS-LEASE-HB-25
        asked_at = local_seconds()
        try:
            job = self._ground.database.acquire_next_job(
                worker_id=self._ground.worker_id,
                job_types=list(paces),
                leases={job_type: pace.lease_seconds for job_type, pace in paces.items()},  # impl: PS-LEASE-HB-26
            )
        except UnreadableJob as unreadable:
            self._fail(unreadable)
            raise
        if job is None:
            return None
        return self._ground.leased(job, paces[job["job_type"]], asked_at=asked_at)

    def _fail(self, job: UnreadableJob) -> None:
        """Fail a job that was claimed and that nobody can run, for good: it would be each worker's next one."""
        try:
            with suppress(UnreadableJob):  # so is the answer; the call was carried out
                self._ground.database.fail_job(  # impl: PS-LEASE-HB-24
                    job.job_id, lease_token=job.lease_token, error_message=str(job), retryable=False
                )
        finally:
            self._ground.database.forget_lease(job.job_id, lease_token=job.lease_token)

    def _begin(self, running: Running) -> None:
        job = running.context.job
        running.log.info("begun", extra={"was_reclaim": job["was_reclaim"]})
        self._follow(running, running.run())

    def _follow(self, running: Running, attempt: Coroutine[Any, Any, Ended]) -> None:
        task = self._loop.create_task(attempt, name=f"job-{running.context.job_id}")
        self._running[task] = running
        task.add_done_callback(self._note_end)

    def _note_end(self, task: asyncio.Task[Ended]) -> None:
        running = self._running.pop(task)
        if task.cancelled() and not running.is_entered:  # with all others, before it could see to its end
            self._follow(running, running.give_back())
            return
        error = None if task.cancelled() else task.exception()
        if error is not None:
            running.log.error("it ended, and that was not written", exc_info=error)
            if not isinstance(error, DatabaseError):  # a defect, and not trouble of one job
                self._defect = error
                if not self._stopping:
                    self.stop()
            self._left += self._stopping
        elif not task.cancelled():
            self._left += self._stopping and task.result().is_left  # impl: PS-LEASE-HB-19
        self._changed.set()

    async def _end(self) -> bool:
        """Let what runs end: by itself, then because it is asked to, then without it."""
        await self._all_ended_until(lambda: self._grace_ends)
        for running in list(self._running.values()):
            running.stop(STOPPING)  # impl: PS-LEASE-HB-11
        settled = local_seconds() + self._habits.settle_seconds
        await self._all_ended_until(lambda: settled)
        # What is still being written has its lease to be written in, and no more.
        self._ground.heartbeat.fall_silent()
        for running in list(self._running.values()):
            running.leave()
        while self._running:
            await self._uncut.wait(asyncio.wait(set(self._running)))
            await self._uncut.wait(asyncio.sleep(0))  # its callback comes next
        self._uncut.obey()
        if self._defect is not None:
            raise self._defect
        return self._left == 0

    async def _all_ended_until(self, end: Callable[[], float]) -> None:
        while self._running and (left := end() - local_seconds()) > 0:
            self._changed.clear()
            await self._uncut.wait(self._is_changed_within(left))

    async def _is_changed_within(self, seconds: float) -> bool:
        return await is_set_within(self._changed, seconds)
