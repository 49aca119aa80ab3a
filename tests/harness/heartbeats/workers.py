"""What the processes of a trial do: one runs jobs under a `JobManager`, the others look for jobs all the time."""

import asyncio
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from random import Random
from typing import Any, Final

from prompt_studio import JobContext, JobManager, JobRow, Metrics, PromptStudioDatabase, TransientConflict
from prompt_studio.job_manager import SETTLE_SECONDS
from prompt_studio.metrics import Ending
from prompt_studio.running.heartbeat import local_seconds
from prompt_studio.stop_signals import StopSignals
from prompt_studio.work_command import worked
from tests.harness.heartbeats.judged_beats import TICK_SECONDS, Look, Stop, Watch
from tests.harness.locations import Location
from tests.harness.processes import LIMIT_SECONDS, Seat, Trouble

WAITS, BLOCKS, BURNS, RESTS = "waits", "blocks the loop", "burns the processor", "rests on a thread"
HANGS: Final = "blocks the loop until it is told to go on"
TYPES: Final = {
    WAITS: "evaluation",
    BLOCKS: "evaluation",
    HANGS: "evaluation",
    BURNS: "generation",
    RESTS: "generation",
}
"""What a handler does, and the type of job whose handler can do it: the one is async, the other plain."""

FINISHED, INTERRUPTED = "finished", "interrupted"
"""How a handler ends that may be stopped."""

CONCURRENCY: Final = 4
"""How many jobs a worker that is stopped runs at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A trial's figures, in seconds."""

    location: Location
    address: str
    jobs: int
    job_seconds: float
    lease_seconds: int
    beat_seconds: float
    poll_seconds: float
    grace_seconds: float = 0
    limit_seconds: float = LIMIT_SECONDS


@dataclass(slots=True)
class Told:
    """What became of a worker's attempts, and when a handler blocked its event loop, in the database's milliseconds."""

    endings: list[str] = field(default_factory=list)
    losses: list[str] = field(default_factory=list)
    beats: int = 0
    blocks: list[tuple[int, int]] = field(default_factory=list)


class Story(Metrics):
    """What a worker counted, until it had ended as many attempts as there were jobs."""

    def __init__(self, until: int) -> None:
        self.told: Final = Told()
        self.until: Final = until
        self.stop: Callable[[], None] = lambda: None

    def ended(self, job_type: str, ending: Ending, seconds: float) -> None:
        del job_type, seconds
        self.told.endings.append(str(ending))
        if len(self.told.endings) == self.until:
            self.stop()

    def lost(self, job_type: str, reason: str) -> None:
        del job_type
        self.told.losses.append(str(reason))

    def renewed(self, job_type: str, *, late: bool) -> None:
        del job_type, late
        self.told.beats += 1


@dataclass(slots=True)
class Runs:
    """Each attempt of a worker, as job and how it ended, and each stop in the midst of them."""

    attempts: list[tuple[int, str]] = field(default_factory=list)
    stops: list[Stop] = field(default_factory=list)


class Stoppable(JobManager):
    """A worker that knows whether it was told to stop."""

    is_told = False

    def stop_processing(self, grace_seconds: float | None = None) -> None:
        super().stop_processing(grace_seconds)
        self.is_told = True  # afterwards: whoever sees it knows that the worker has heard


class Round(Metrics):
    """One run of a worker: how its attempts end, and what comes after its stop."""

    def __init__(self, runs: Runs, grace_seconds: float) -> None:
        self._runs = runs
        self._grace_seconds = grace_seconds
        self._stop: Stop | None = None
        self._signalled_at = 0.0

    def stop(self) -> None:
        """Let this process be told to stop."""
        self._stop = Stop(self._grace_seconds)
        self._runs.stops.append(self._stop)
        self._signalled_at = local_seconds()
        os.kill(os.getpid(), signal.SIGTERM)

    def begun_after_stop(self) -> None:
        """A handler begins, and the worker has been told."""
        if self._stop is not None:
            self._stop.begun += 1

    def over(self, job_id: int, how: str) -> None:
        """A handler ends."""
        self._runs.attempts.append((job_id, how))
        if how == INTERRUPTED and self._stop is not None:
            self._stop.interrupted.append(local_seconds() - self._signalled_at)

    def renewed(self, job_type: str, *, late: bool) -> None:
        del job_type, late
        if self._stop is not None:
            self._stop.beats += 1


class Looking:
    """A rival's looks, and a thread that notes as long as it looks whether it is awake."""

    def __init__(self, plan: Plan, *, manages: bool = False) -> None:
        self.watch: Final = Watch([], [], manages)
        self._read_clock: Final = partial(plan.location.real_time, plan.address)
        self._clock: Final = self._read_clock()
        self._ended: Final = threading.Event()
        self._thread: Final = threading.Thread(target=self._tick)
        self._thread.start()

    def look(self, acquire: Callable[[], JobRow | None]) -> JobRow | None:
        """Look for a job, and note it."""
        began = self._clock.now_milliseconds()
        job = acquire()
        self.watch.looks.append(Look(began, self._clock.now_milliseconds(), None if job is None else job["id"]))
        return job

    def end(self) -> None:
        """Note no more: nobody will look again. A look may be under way."""
        self._ended.set()

    def close(self) -> None:
        """The same, when no look is under way."""
        self.end()
        self._thread.join(LIMIT_SECONDS)
        self._clock.close()

    def _tick(self) -> None:
        with closing(self._read_clock()) as clock:
            while not self._ended.wait(TICK_SECONDS):
                self.watch.ticks.append(clock.now_milliseconds())


class Beater:
    """A process of a trial."""

    def __init__(self, seat: Seat) -> None:
        self._seat = seat
        # What it logs is expected here, and no test's output; pytest does not hear other processes.
        logging.getLogger("prompt_studio").addHandler(logging.NullHandler())

    @property
    def name(self) -> str:
        """What the database calls it."""
        return name_of(self._seat.number, self._seat.life)

    def work(self, plan: Plan) -> Told:
        """Run as many jobs as there are, all at once."""
        story = Story(until=plan.jobs)
        with opened(plan) as database:
            manager = JobManager(database, worker_id=self.name, poll_seconds=plan.poll_seconds, metrics=story)
            story.stop = manager.stop_processing

            @manager.register_handler("evaluation")
            async def on_the_loop(context: JobContext) -> dict[str, str]:
                if context.payload == BLOCKS:
                    with closing(plan.location.real_time(plan.address)) as clock:
                        began = clock.now_milliseconds()
                        threading.Event().wait(plan.job_seconds)
                        story.told.blocks.append((began, clock.now_milliseconds()))
                elif context.payload == HANGS:
                    self._wait_for_word(plan)
                else:
                    await idle(plan.job_seconds)
                return {"by": context.worker_id}

            @manager.register_handler("generation")
            def on_a_thread(context: JobContext) -> dict[str, str]:
                if context.payload == BURNS:
                    burn(plan.job_seconds)
                else:
                    context.cancellation.wait(plan.job_seconds)
                return {"by": context.worker_id}

            asyncio.run(asyncio.wait_for(manager.start_processing(plan.jobs), plan.limit_seconds))
        return story.told

    def rival(self, plan: Plan) -> Watch:
        """Look for a job again and again, and complete what there is, until all are over.

        One whose first holder hangs is held until there is word to go on.
        """
        until = time.monotonic() + plan.limit_seconds
        with closing(Looking(plan)) as looking, opened(as_rival(plan)) as database:
            while time.monotonic() < until:
                job = looking.look(partial(database.acquire_next_job, worker_id=self.name))
                if job is not None:
                    if job["payload"] == HANGS:
                        self._wait_for_word(plan)
                    database.complete_job(job["id"], lease_token=job["lease_token"], result={"by": self.name})
                    continue
                if is_done(database):
                    return looking.watch
                threading.Event().wait(plan.poll_seconds)
        raise Trouble(f"{self.name} waited for the end of all jobs for {plan.limit_seconds:g} s")

    def managing_rival(self, plan: Plan) -> Watch:
        """The same under a `JobManager`, which decides itself when to look."""
        with closing(Looking(plan, manages=True)) as looking, opened(as_rival(plan)) as database:
            acquire = database.acquire_next_job
            vars(database)["acquire_next_job"] = lambda *called, **named: looking.look(
                partial(acquire, *called, **named)
            )
            manager = JobManager(database, worker_id=self.name, poll_seconds=plan.poll_seconds)

            @manager.register_handler("evaluation")
            async def on_the_loop(context: JobContext) -> dict[str, str]:
                if context.payload == HANGS:
                    await asyncio.to_thread(self._wait_for_word, plan)
                return {"by": context.worker_id}

            @manager.register_handler("generation")
            def on_a_thread(context: JobContext) -> dict[str, str]:
                return {"by": context.worker_id}

            def stop() -> None:
                looking.end()
                manager.stop_processing()

            working = _stopped_when_done(manager.start_processing(plan.jobs), stop, database)
            asyncio.run(asyncio.wait_for(working, plan.limit_seconds))
        return looking.watch

    def _wait_for_word(self, plan: Plan) -> None:
        """Wait until whoever asks this process says anything by its wire."""
        if not self._seat.wire.poll(plan.limit_seconds):
            raise Trouble(f"{self.name} was never told to go on")
        self._seat.wire.recv_bytes()

    def stop_again_and_again(self, plan: Plan, rounds: int) -> Runs:
        """Work, and be stopped by SIGTERM under load, so many times, every second time with a grace time.

        A handler takes a moment, so that some are under way whenever a stop comes.
        """
        dice = Random(self.name)  # noqa: S311 - these dice decide nothing secret
        runs = Runs()
        for number in range(rounds):
            self._work_until(plan if number % 2 else at_once(plan), runs, dice, dice.randint(1, 6))
        return runs

    def finish(self, plan: Plan) -> Runs:
        """Work until nothing is left."""
        runs = Runs()
        self._work_until(at_once(plan), runs, Random(self.name), None)  # noqa: S311 - these dice decide nothing secret
        return runs

    def _work_until(self, plan: Plan, runs: Runs, dice: Random, left: int | None) -> None:
        """Work until so many jobs have begun on the event loop, or all are over.

        The last of them runs on into the grace time, or beyond it.
        """
        with opened(plan) as database:
            this = Round(runs, plan.grace_seconds)
            manager = Stoppable(
                database,
                worker_id=self.name,
                poll_seconds=plan.poll_seconds,
                grace_seconds=plan.grace_seconds,
                metrics=this,
            )

            def begin() -> float:
                if manager.is_told:
                    this.begun_after_stop()
                return dice.uniform(0, plan.job_seconds)

            @manager.register_handler("evaluation")
            async def on_the_loop(context: JobContext) -> None:
                nonlocal left
                seconds = begin()
                if left is not None:
                    left -= 1
                    if left == 0:
                        seconds += plan.grace_seconds * dice.choice((0.5, 2))
                        this.stop()
                how = INTERRUPTED
                try:
                    await idle(seconds)
                    how = FINISHED
                finally:
                    this.over(context.job_id, how)

            @manager.register_handler("generation")
            def on_a_thread(context: JobContext) -> None:
                how = INTERRUPTED if context.cancellation.wait(begin()) else FINISHED
                this.over(context.job_id, how)
                if how == INTERRUPTED:
                    context.raise_if_stopped()

            signals = StopSignals(manager, grace_seconds=plan.grace_seconds, settle_seconds=SETTLE_SECONDS)
            with closing(signals):
                # As the command works, which ends this process if a job must be left to its lease.
                command = worked(manager, CONCURRENCY, signals)
                working = _stopped_when_done(command, manager.stop_processing, database)
                asyncio.run(asyncio.wait_for(working, plan.limit_seconds))


async def _stopped_when_done(
    work: Coroutine[Any, Any, object], stop: Callable[[], None], database: PromptStudioDatabase
) -> None:
    working = asyncio.ensure_future(work)
    while not working.done():
        done, _ = await asyncio.wait({working}, timeout=0.2)
        if not done and await asyncio.to_thread(is_done, database):
            stop()
    working.result()


def name_of(number: int, life: int) -> str:
    """The name of one life of a process."""
    return f"process-{number}.{life}"


def at_once(plan: Plan) -> Plan:
    """The same without a grace time, under leases that are so long that what a stop has lost stays processing."""
    return replace(plan, grace_seconds=0, lease_seconds=600, beat_seconds=60)


def as_rival(plan: Plan) -> Plan:
    """The same under leases that are so long that a rival need not renew what it holds."""
    return replace(plan, lease_seconds=600, beat_seconds=200)


def opened(plan: Plan) -> PromptStudioDatabase:
    """The trial's database, with the trial's leases."""
    with plan.location.open(plan.address, None) as database:
        settings = replace(
            database.settings, lease_seconds=plan.lease_seconds, heartbeat_seconds=plan.beat_seconds, pool_connections=8
        )
        return database.opened_again(settings)


def is_done(database: PromptStudioDatabase) -> bool:
    """Whether no job is queued or processing."""
    return not any(database.count_jobs(status=status) for status in ("queued", "processing"))


def can_write(plan: Plan) -> bool:
    """Whether a write gets through at once: a process that was stopped in the middle of one keeps all others out."""
    with opened(plan) as database:
        impatient = replace(database.settings, write_retry_seconds=0.0)
        with database.opened_again(impatient) as trying:
            try:
                trying.record_idempotency("trial", "writes", 1, None)
            except TransientConflict:
                return False
    return True


def created(database: PromptStudioDatabase, what: str) -> JobRow:
    """A job for a handler that does this."""
    return database.create_job(TYPES[what], 1, what)


async def idle(seconds: float) -> None:
    """Do nothing for so long, as who waits for an LLM."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await asyncio.Event().wait()


def burn(seconds: float) -> int:
    """Keep a processor busy in pure Python."""
    until, turns = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        turns += 1
    return turns
