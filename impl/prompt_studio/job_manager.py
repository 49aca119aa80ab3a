"""`JobManager`: jobs that run, under the names that Prompt Studio calls.

It creates and finds jobs, and it runs them: a handler for each type of job, a heartbeat for each lease, one closing
call for each attempt. What a worker does is in `prompt_studio.running`.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from typing import Any, Final, TypeVar, overload
from uuid import UUID

from prompt_studio import values
from prompt_studio.config import HEARTBEAT_SECONDS_VARIABLE
from prompt_studio.database import PromptStudioDatabase
from prompt_studio.errors import InputError
from prompt_studio.jobs import JobRow, JobStats, JobStatus
from prompt_studio.metrics import Metrics
from prompt_studio.running.attempt import Ground, Running
from prompt_studio.running.beats import Pace, pace
from prompt_studio.running.handlers import AnyHandler, Handlers, JobContext, Registration
from prompt_studio.running.heartbeat import Heartbeat, beating_database, draw_spread
from prompt_studio.running.threads import Uncut, to_its_end
from prompt_studio.running.tokens import Tokens
from prompt_studio.running.wake_up import WakeUp
from prompt_studio.running.worker import Habits, Worker

_log: Final = logging.getLogger("prompt_studio.worker")

CONCURRENCY_MAX: Final = 1_000
POLL_SECONDS: Final = 2.0
GRACE_SECONDS: Final = 30.0
SETTLE_SECONDS: Final = 10.0
SECONDS_MAX: Final = 24 * 3600
NAME_CHARACTERS: Final = 112
"""What is kept of a client's id in a worker's name, so that the whole has no more than 128."""

_UNDER_LEASE: Final = frozenset({JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.QUEUED})

Answer = TypeVar("Answer")


class JobManager:
    """Creates jobs and runs them, on an opened database.

    Its rows carry payload and result as JSON text, as they always did; a handler gets them as values. One manager runs
    in one event loop at a time, and may be asked and stopped from any thread.
    """

    def __init__(
        self,
        db: PromptStudioDatabase,
        *,
        worker_id: str | None = None,
        poll_seconds: float = POLL_SECONDS,
        grace_seconds: float = GRACE_SECONDS,
        settle_seconds: float = SETTLE_SECONDS,
        metrics: Metrics | None = None,
    ) -> None:
        """Run jobs of this database.

        Args:
            db: the database; closing it is the caller's.
            worker_id: who acquires; None makes a name from the client's id.
            poll_seconds: the longest time between two looks for a job, while there is room and none is found.
            grace_seconds: how long a stop lets handlers run on.
            settle_seconds: how long it then waits for those that it has asked to end.
            metrics: counts what happens; None counts nothing.

        Raises:
            InputError: an argument breaks its rule.
        """
        client = db.client_id[:NAME_CHARACTERS]
        self.db: Final = db
        self.worker_id: Final = values.worker_name(worker_id) or f"{client}-worker-{os.urandom(4).hex()}"
        self._poll_seconds = values.number("poll_seconds", poll_seconds, 0.001, SECONDS_MAX)
        self._grace_seconds = values.number("grace_seconds", grace_seconds, 0, SECONDS_MAX)
        self._settle_seconds = values.number("settle_seconds", settle_seconds, 0, SECONDS_MAX)
        self._metrics = Metrics() if metrics is None else metrics
        self._handlers = Handlers()
        # Of the three below. It is one that a signal's handler may take again, in the middle of whatever holds it.
        self._turn = threading.RLock()
        self._worker: Worker | None = None
        self._working = False
        self._stop_asked: list[float | None] = []
        self._alone: list[JobContext] = []
        self._tokens = Tokens()

    # Jobs at rest

    def create_job(
        self,
        job_type: str,
        entity_id: int,
        payload: object,
        project_id: int | None = None,
        priority: int = 5,
        max_retries: int = 3,
        *,
        available_at: datetime | None = None,
        idempotency_key: str | None = None,
        user_id: str | None = None,
        request: object = None,
    ) -> JobRow:
        """A new queued job, or with a key the one that it stands for: see `PromptStudioDatabase.create_job`."""
        return _with_texts(
            self.db.create_job(
                job_type,
                entity_id,
                payload,
                project_id=project_id,
                priority=priority,
                max_retries=max_retries,
                available_at=available_at,
                idempotency_key=idempotency_key,
                user_id=user_id,
                request=request,
            )
        )

    def get_job(self, job_id: int) -> JobRow | None:
        """The job with this id, or None."""
        return _with_texts_or_none(self.db.get_job(job_id))

    def get_job_by_uuid(self, job_uuid: str | UUID) -> JobRow | None:
        """The job with this uuid, or None."""
        return _with_texts_or_none(self.db.get_job_by_uuid(job_uuid))

    def list_jobs(self, status: str | None = None, job_type: str | None = None, limit: int = 100) -> list[JobRow]:
        """At most `limit` jobs: higher priority first, then older, then lower id."""
        return [_with_texts(row) for row in self.db.list_jobs(status=status, job_type=job_type, limit=limit)]

    def update_job_status(
        self, job_id: int, status: str, error_message: str | None = None, result: object = None
    ) -> bool:
        """Whether the job is now where the caller wants it.

        A job that was leased to this manager, and that it has not closed, is closed under that attempt's token, also
        when somebody else has taken it since: then this is refused. Any other one is moved as operators do.
        """
        wanted = values.word("status", status, JobStatus)
        token = self._tokens.of(job_id) if wanted in _UNDER_LEASE else None  # impl: PS-LEASE-HB-17
        row = self.db.update_job_status(
            job_id,
            wanted,
            error_message=error_message,
            result=result,
            lease_token=token,
            worker_id=self.worker_id,
        )
        if row is None:
            return False
        if wanted is JobStatus.PROCESSING:
            self._tokens.leased(job_id, row["lease_token"])
        elif token is not None and all(context.job_id != job_id for context in self.running_jobs()):
            self._tokens.closed(job_id, token)
        return True

    def cancel_job(self, job_id: int, reason: str | None = None) -> bool:
        """Whether the job is cancelled; one that completed or failed is not. Its handler learns it within one beat."""
        return bool(self.db.cancel_job(job_id, reason=reason))

    def retry_job(self, job_id: int) -> bool:
        """Whether a failed job is queued again, and may run once more."""
        return bool(self.db.retry_job_record(job_id))

    def get_job_stats(self) -> JobStats:
        """Counts by status and type, mean duration, success rate."""
        return self.db.get_job_stats()

    def cleanup_old_jobs(self, days: int = 30) -> int:
        """How many terminal jobs were deleted, all that ended more than so many days ago."""
        return self.db.cleanup_jobs(days)

    # Jobs at work

    @overload
    def register_handler(
        self, job_type: str, handler: AnyHandler, *, lease_seconds: int | None = None
    ) -> AnyHandler: ...

    @overload
    def register_handler(
        self, job_type: str, handler: None = None, *, lease_seconds: int | None = None
    ) -> Callable[[AnyHandler], AnyHandler]: ...

    def register_handler(self, job_type: str, handler: Any = None, *, lease_seconds: int | None = None) -> Any:
        """Run jobs of this type with this handler; without one it is a decorator.

        Args:
            job_type: which jobs.
            handler: async or plain, of a `JobContext`, or of payload and entity id: see
                `prompt_studio.running.handlers`.
            lease_seconds: for how long these jobs are leased at a time; None is the database's setting.

        Raises:
            InputError: an argument breaks its rule, the heartbeat would not reach the end of such a lease, or the
                manager processes jobs: how it claims and beats was settled by the handlers that it began with.
        """
        if handler is None:
            return partial(self.register_handler, job_type, lease_seconds=lease_seconds)
        tried = Handlers()
        tried.register(job_type, handler, lease_seconds=lease_seconds)
        ((wanted, registration),) = tried.items()
        kept = self._pace_of(registration)
        if kept.is_slow:
            _log.warning(
                "%s of %g s is more than a third of the lease of %d s of %s jobs: one or two beats that fail lose it",
                HEARTBEAT_SECONDS_VARIABLE,
                kept.interval_seconds,
                kept.lease_seconds,
                wanted,
                extra={"worker_id": self.worker_id},
            )
        with self._turn:
            if self._working:
                raise InputError(f"the handler of {wanted} jobs comes too late: register it before start_processing")
            self._handlers.register(wanted, handler, lease_seconds=lease_seconds)
        return handler

    def register_handlers(self, handlers: Handlers) -> None:
        """Run jobs with all of these handlers."""
        for job_type, registration in handlers.items():
            self.register_handler(job_type, registration.handler, lease_seconds=registration.lease_seconds)

    def get_next_job(self) -> JobRow | None:
        """The best job of a type that has a handler (of any, while none has), leased to this worker; or None.

        Whoever calls this must pass the row to `process_job`, or keep its lease and close it: with its token, or by
        `update_job_status`, which knows it.
        """
        row = self.db.acquire_next_job(worker_id=self.worker_id, job_types=list(self._handlers) or None)
        if row is None:
            return None
        self._tokens.leased(row["id"], row["lease_token"])
        self._metrics.claimed(row)
        return _with_texts(row)

    async def process_job(self, job: JobRow) -> Any:  # noqa: ANN401 - a handler's result
        """Run one job that was acquired here or elsewhere, under a heartbeat; the handler's result, which is written.

        Raises:
            InputError: its type has no handler, or it is not leased.
            JobStopped: its lease is not ours any more, and nothing was written; or its handler was stopped, and it was
                released.
            DatabaseError: trouble of the database; before the handler began it was waited for as long as the lease is.
            Exception: what the handler raised; the job is queued again, or has failed.
        """
        registration = self._handlers.get(job["job_type"])
        if registration is None:
            raise InputError(f"there is no handler for {job['job_type']} jobs: register one")
        kept = self._pace_of(registration)
        async with self._grounded(kept, threads=2) as ground:
            uncut = Uncut(told=ground.hurried.set)
            try:
                running = Running(ground, registration, await ground.taken_over(job, kept, uncut))
                if uncut.cancelled is not None:
                    await running.give_back()
            finally:
                uncut.obey()
            self._alone.append(running.context)
            try:
                how = await running.run()
            finally:
                self._alone.remove(running.context)
        if how.error is not None:
            raise how.error
        return how.result

    async def start_processing(self, max_concurrent: int = 3) -> bool:
        """Acquire and run jobs, so many at once, until stopped. False: the stop left a job to its lease.

        Its handler did not end, or how it ended could not be written.

        Raises:
            InputError: there is no handler, or it processes already.
            DatabaseError: trouble of the database that is no use in waiting for; what ran was stopped in order.
        """
        values.whole_number("max_concurrent", max_concurrent, 1, CONCURRENCY_MAX)
        with self._turn:
            if not self._handlers:
                raise InputError("there is no handler for any type of job: register one")
            if self._working:
                raise InputError("this manager processes jobs already: stop it first, or use another one")
            self._working = True
        try:
            fastest = min((self._pace_of(one) for one in self._handlers.values()), key=lambda kept: kept.beat_seconds)
            async with self._grounded(fastest, threads=max_concurrent + 1) as ground:
                habits = Habits(max_concurrent, self._poll_seconds, self._grace_seconds, self._settle_seconds)
                worker = Worker(ground, self._handlers, self._pace_of, habits)
                self._put_to_work(worker)
                listener = self.db.listener()
                wake_up = None if listener is None else WakeUp(listener, worker.wake)
                try:
                    return await worker.run()
                finally:
                    if wake_up is not None:
                        await to_its_end(ground.call(wake_up.close))
        finally:
            with self._turn:
                self._working, self._worker = False, None

    def stop_processing(self, grace_seconds: float | None = None) -> None:
        """Stop, from any thread: acquire no more, let handlers run on for so long, then release their jobs.

        None is the manager's own grace time. Called again it ends that time, and a third time the wait for a database
        that does not answer; `start_processing` returns when all is done. While nothing is processed it counts for the
        next `start_processing`, which then returns at once: it may have been called by then, and not have begun.
        """
        with self._turn:
            if self._worker is None:
                self._stop_asked.append(grace_seconds)
            else:
                self._worker.stop(grace_seconds)

    def _put_to_work(self, worker: Worker) -> None:
        with self._turn:
            self._worker = worker
            if self._stop_asked:  # impl: PS-LEASE-HB-20
                _log.info("stopped before it began", extra={"worker_id": self.worker_id})
            while self._stop_asked:
                worker.stop(self._stop_asked.pop(0))

    def running_jobs(self) -> list[JobContext]:
        """What this manager runs now, with what the handlers said last of their progress."""
        worker = self._worker
        return [*self._alone, *(worker.contexts if worker is not None else [])]

    def _pace_of(self, registration: Registration) -> Pace:
        settings = self.db.settings
        return pace(registration.lease_seconds or settings.lease_seconds, settings.heartbeat_seconds)

    @asynccontextmanager
    async def _grounded(self, kept: Pace, *, threads: int) -> AsyncIterator[Ground]:
        """A heartbeat and threads for calls, for as long as the block lasts."""
        with ThreadPoolExecutor(threads, thread_name_prefix="prompt-studio-call") as calls:
            ground = Ground(
                database=self.db,
                calls=calls,
                heartbeat=Heartbeat(partial(beating_database, self.db, kept), metrics=self._metrics),
                metrics=self._metrics,
                tokens=self._tokens,
                worker_id=self.worker_id,
                spread=draw_spread,
            )
            ground.heartbeat.start()
            try:
                yield ground
            finally:
                await to_its_end(ground.call(ground.heartbeat.close))


def _with_texts(row: JobRow) -> JobRow:
    texts: JobRow = {**row}
    texts["payload"] = values.json_text("payload", row["payload"])
    texts["result"] = None if row["result"] is None else values.json_text("result", row["result"])
    return texts


def _with_texts_or_none(row: JobRow | None) -> JobRow | None:
    return None if row is None else _with_texts(row)
