"""The heartbeat: a thread that renews the leases of all running jobs, and one that watches the clock.

Neither is the event loop's, which a job may block, and the beats have a connection of their own, for which no job and
no claim makes them wait. The two are apart since a beat may hang in the database: the leases that end meanwhile are
declared lost in time all the same. `beats` decides; here is what it needs from the world, and one lock around it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import SystemRandom
from typing import Final

from prompt_studio.database import PromptStudioDatabase
from prompt_studio.errors import DatabaseError, StoreUnavailable
from prompt_studio.metrics import Metrics
from prompt_studio.running import beats
from prompt_studio.running.attempt_log import AttemptLog
from prompt_studio.running.beats import JITTER, Beat, Loss, Pace

_log: Final = logging.getLogger("prompt_studio.heartbeat")
_dice: Final = SystemRandom()

JOIN_SECONDS_MAX: Final = 60.0
"""The longest that closing waits for a beat that is under way; each beat has a limit, so it never takes as long."""

LOOK_SECONDS_MAX: Final = 1.0
"""The longest time between two looks at the clock: what waits on a condition does not see that the machine slept."""

_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def local_seconds() -> float:
    """This machine's clock that never goes back, and that goes on while the machine sleeps, where there is one."""
    return time.clock_gettime(_CLOCK)


def draw_spread() -> float:
    """The spread of an interval."""
    return _dice.uniform(1 - JITTER, 1 + JITTER)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """Whose lease is kept.

    Attributes:
        job_id: the job.
        job_type: of which kind it is.
        lease_token: the attempt.
        worker_id: who makes it.
    """

    job_id: int
    job_type: str
    lease_token: int
    worker_id: str

    @property
    def facts(self) -> dict[str, object]:
        """What each line of the log carries."""
        return {
            "job_id": self.job_id,
            "job_type": self.job_type,
            "lease_token": self.lease_token,
            "worker_id": self.worker_id,
        }


class Holding:
    """An attempt whose lease is being kept. Everything in it is the heartbeat's to change."""

    def __init__(self, attempt: Attempt, beat: Beat) -> None:
        self.attempt: Final = attempt
        self.log: Final = AttemptLog(_log, attempt.facts)
        self.beat = beat
        self.loss: Loss | None = None
        self.beating = True
        self.closing = False
        self.on_loss: Callable[[Loss], None] | None = None

    @property
    def deadline(self) -> float:
        """When to stop believing in the lease."""
        return self.beat.deadline


class Heartbeat:
    """Keeps leases from `watch` to `forget`; started once, and closed once."""

    def __init__(
        self,
        open_database: Callable[[], PromptStudioDatabase],
        *,
        metrics: Metrics,
        clock: Callable[[], float] = local_seconds,
        spread: Callable[[], float] = draw_spread,
    ) -> None:
        """Beat on a database that nobody else uses: opened by `prove` or the first beat, closed with the heartbeat.

        So to begin is no call to the database, and trouble in opening it is that of a beat.
        """
        self._open_database = open_database
        self._database: PromptStudioDatabase | None = None
        self._opening = threading.Lock()
        self._doubt: str | None = "none was made yet"
        self._metrics = metrics
        self._clock = clock
        self._spread = spread
        self._changed = threading.Condition()
        self._holdings: list[Holding] = []
        self._closed = False
        self._threads = [
            threading.Thread(target=self._beat_until_closed, name="prompt-studio-heartbeat", daemon=True),
            threading.Thread(target=self._watch_until_closed, name="prompt-studio-deadlines", daemon=True),
        ]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether leases are kept; False only after a defect, which has been logged."""
        return all(thread.is_alive() for thread in self._threads)

    def prove(self) -> None:
        """Make sure that beats are answered, before a lease is taken that they must keep; not on the event loop.

        While leases are kept the beats themselves tell; when there are none, the database is asked.

        Raises:
            DatabaseError: the last beat was not answered, or there is none that could be made.
        """
        with self._changed:
            doubt, beating = self._doubt, any(holding.beating for holding in self._holdings)
        if doubt is None:
            return
        if beating:
            raise StoreUnavailable(f"beats have no answer: {doubt}")
        self._opened().get_schema_version()
        with self._changed:
            self._doubt = None

    def watch(self, attempt: Attempt, pace: Pace, *, asked_at: float) -> Holding:
        """Keep the lease of an attempt that was claimed, for as long as its pace says, by a call at `asked_at`."""
        holding = Holding(attempt, beats.first_beat(pace, asked_at, self._spread()))
        with self._changed:
            self._holdings.append(holding)
            self._changed.notify_all()
        return holding

    def tell(self, holding: Holding, on_loss: Callable[[Loss], None]) -> None:
        """Tell whoever works under the lease when it is lost: once, on one of these threads; here, if it is by now.

        The call must return at once.
        """
        with self._changed:
            self._expire(self._clock())
            holding.on_loss = on_loss
            if holding.loss is not None:
                on_loss(holding.loss)

    def close_attempt(self, holding: Holding) -> Loss | None:
        """From now on the answer of the closing call decides: beats go on, and one that is refused is no loss.

        It may be refused because the closing call was applied and its answer did not come. None: the lease is not
        lost, and from now on only its deadline can say that it is.
        """
        with self._changed:
            self._expire(self._clock())
            holding.closing = holding.loss is None
            return holding.loss

    def lose(self, holding: Holding, found: Loss) -> Loss:
        """The lease is lost, as a closing call was answered; the first reason, which alone is counted."""
        with self._changed:
            return self._lose(holding, found)

    def forget(self, holding: Holding) -> None:
        """Keep the lease no longer."""
        with self._changed:
            self._holdings.remove(holding)  # impl: PS-LEASE-HB-3

    def fall_silent(self) -> None:
        """Beat no more: what is not closed until its deadline is lost."""
        with self._changed:
            for holding in self._holdings:
                holding.beating = False

    def close(self) -> None:
        """Stop both threads and close the database."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(JOIN_SECONDS_MAX)
        if self._database is not None:
            self._database.close()

    # The thread that beats

    def _beat_until_closed(self) -> None:
        while (due := self._wait_for_next()) is not None:
            self._beat(due)

    def _wait_for_next(self) -> Holding | None:
        with self._changed:
            while not self._closed:
                now = self._clock()
                beating = [holding for holding in self._holdings if holding.beating]
                due = [holding for holding in beating if holding.beat.due <= now]
                if due:
                    return min(due, key=lambda holding: holding.beat.turn)  # impl: PS-LEASE-HB-6
                self._wait_until(min((holding.beat.due for holding in beating), default=None), now)
        return None

    def _beat(self, holding: Holding) -> None:
        """Renew one lease, and note what came of it."""
        attempt, asked_at = holding.attempt, self._clock()  # impl: PS-LEASE-HB-1, PS-LEASE-HB-2
        try:
            outcome = self._opened().renew_job_lease(
                attempt.job_id, holding.beat.pace.lease_seconds, lease_token=attempt.lease_token
            )
        except DatabaseError as error:
            holding.log.warning("a beat failed: %s", error)
            self._metrics.renewal_failed(attempt.job_type)
            with self._changed:
                holding.beat = beats.unanswered(holding.beat, self._clock(), self._spread())
                if isinstance(error, StoreUnavailable):  # anything else is an answer, and about this row
                    self._doubt = str(error)
            return
        found = beats.loss(outcome)
        with self._changed:
            self._doubt = None
            if found is None:
                holding.beat = beats.renewed(holding.beat, asked_at, self._spread())
                self._changed.notify_all()
            else:
                holding.beating = False
                if not holding.closing:  # impl: PS-LEASE-HB-9, PS-LEASE-HB-10
                    self._lose(holding, found)
        if found is None:
            self._metrics.renewed(attempt.job_type, late=outcome.late)

    def _opened(self) -> PromptStudioDatabase:
        with self._opening:
            if self._database is None:
                self._database = self._open_database()
            return self._database

    # The thread that watches

    def _watch_until_closed(self) -> None:
        with self._changed:
            while not self._closed:
                now = self._clock()
                self._expire(now)
                self._wait_until(min((one.deadline for one in self._holdings if one.loss is None), default=None), now)

    def _expire(self, now: float) -> None:
        for holding in self._holdings:
            if holding.loss is None and beats.is_over(holding.beat, now):
                self._lose(holding, Loss.DEADLINE)

    def _lose(self, holding: Holding, found: Loss) -> Loss:
        if holding.loss is None:
            holding.loss, holding.beating = found, False
            holding.log.warning("the lease is lost: %s", found, extra={"loss": found})
            self._metrics.lost(holding.attempt.job_type, found)
            if holding.on_loss is not None:
                holding.on_loss(found)
        return holding.loss

    def _wait_until(self, instant: float | None, now: float) -> None:
        self._changed.wait(None if instant is None else min(LOOK_SECONDS_MAX, max(0.0, instant - now)))


def beating_database(database: PromptStudioDatabase, pace: Pace) -> PromptStudioDatabase:
    """The same database on a connection for beats at this pace: each has a limit, and takes no advisory lock.

    Raises:
        DatabaseError: as on opening.
    """
    half = pace.beat_seconds / 2  # impl: PS-LEASE-HB-6
    # Where rows are locked one by one, who has locked one is in the way of one job only.
    locked = half if database.capabilities.one_writer else min(half, beats.LOCKED_SECONDS)
    return database.opened_again(
        replace(
            database.settings,
            advisory_locks=False,
            notifications=False,
            pool_connections=1,
            write_retry_seconds=locked,
            statement_seconds=max(beats.BEAT_SECONDS_MIN, half),
            answer_seconds=half,
        )
    )
