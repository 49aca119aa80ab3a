"""What one process of a race does. It records every call, and judges nothing."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from prompt_studio.storage.claims import LockCounts
from tests.harness.history import Scope, Seen, Told
from tests.harness.locations import Location, lock_counts
from tests.harness.processes import LIMIT_SECONDS, Seat, Trouble
from tests.harness.recorder import CREATES, Home, RecordedDatabase, Recorder
from tests.harness.shared_time import Readable, SharedTime
from tests.processes.sessions import note_sessions

LEASE_SECONDS_MAX: Final = 3
"""The longest lease that is drawn in a storm, where leases are to end soon."""

LONG_LEASE_SECONDS: Final = 600
ENTITIES: Final = 1_000_000
"""How many entities one life of a worker may make, each with a number that nobody else has."""

COMPLETE, FAIL, GIVE_UP, RELEASE, ABANDON = range(5)
WEIGHTS: Final = {"drain": (15, 2, 1, 2, 0), "storm": (6, 3, 1, 3, 7)}
"""How often a job that was taken is completed, failed, failed for good, released, or left to expire."""

WORK_MAX_NANOSECONDS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Setting:
    """Where a race is held: what its processes must know. Without a shared clock it is held in real time."""

    location: Location
    address: str
    time: SharedTime | None
    directory: Path
    seed: str


class Participant:
    """One life of a worker process."""

    def __init__(self, seat: Seat) -> None:
        self._seat = seat
        self._recorder: Recorder | None = None
        self._recorded: RecordedDatabase | None = None
        self._clock: Readable | None = None
        self._held: list[Seen] = []
        self._entities = ENTITIES * (1 + seat.number + 1_000 * seat.life)
        self._dice = random.Random()  # noqa: S311 - these dice decide nothing secret, and must be thrown again

    def enter(self, setting: Setting) -> None:
        """Open the database and a history."""
        self._dice.seed(f"{setting.seed}/{self._seat.number}/{self._seat.life}")
        process = name_of(self._seat.number, self._seat.life)
        note_sessions(setting.directory, process)
        self._recorder = Recorder(setting.directory, process)
        self._recorded = RecordedDatabase(setting.location.open(setting.address, setting.time), self._recorder)
        self._clock = setting.time or setting.location.real_time(setting.address)

    def leave(self) -> None:
        """Close what `enter` opened, if it did."""
        if self._recorder is None or self._recorded is None or self._clock is None:
            return
        self._recorded.database.close()
        self._recorder.close()
        self._clock.close()
        self._held = []
        self._recorder = self._recorded = self._clock = None

    # One call

    def acquire_at_once(self, lease_seconds: int) -> Told:
        """Acquire at the same moment as all others."""
        self._seat.begin_together()
        return self._database.acquire(lease_seconds)

    def acquire(self, lease_seconds: int) -> Told:
        """Acquire."""
        return self._database.acquire(lease_seconds)

    def try_everything(self, job: Seen) -> None:
        """Make every call that a holder may make, in any order, and some of them again."""
        database = self._database
        calls: list[Callable[[], Told]] = [
            partial(database.renew, job.id, job.token, LONG_LEASE_SECONDS),
            partial(database.complete, job.id, job.token),
            partial(database.fail, job.id, job.token, retryable=True),
            partial(database.fail, job.id, job.token, retryable=False),
            partial(database.release, job.id, job.token),
        ]
        for call in self._dice.choices(calls, k=len(calls)):
            call()

    def acquire_until(self, moment: int) -> Told:
        """From the same moment on acquire until there is a job, or the clock showed this time before a call."""
        self._seat.begin_together()
        deadline = time.monotonic() + LIMIT_SECONDS
        while time.monotonic() < deadline:
            shown = self._now()
            told = self._database.acquire(LONG_LEASE_SECONDS)
            if told.job is not None or shown >= moment:
                return told
        raise Trouble(f"the clock did not come to {moment} within {LIMIT_SECONDS:g} s")

    def complete(self, job: Seen) -> Told:
        """End the attempt that the job was seen in."""
        return self._database.complete(job.id, job.token)

    def release(self, job: Seen) -> Told:
        """Give the attempt back that the job was seen in."""
        return self._database.release(job.id, job.token)

    def at_the_gate(self) -> LockCounts:
        """What happened to this life's advisory locks."""
        return LockCounts() if self._recorded is None else lock_counts(self._recorded.database)

    def record(self, entity_type: str, key: str, users: tuple[str | None, ...]) -> None:
        """At the same moment as all others record a key for each user, in an order of its own, and look it up."""
        scopes: list[Scope] = [(entity_type, key, user) for user in users]
        self._dice.shuffle(scopes)
        self._seat.begin_together()
        for scope in scopes:
            self._database.record(scope, self._entity())
        for scope in scopes:
            self._database.lookup(scope)

    def create_once(self, key: str, user: str, home: Home) -> None:
        """At the same moment as all others make one of each kind for a key, in an order of its own, and look it up."""
        scopes: list[Scope] = [(entity_type, key, user) for entity_type in CREATES]
        self._dice.shuffle(scopes)
        self._seat.begin_together()
        for scope in scopes:
            self._database.create_once(scope, self._entity(), home)
        for scope in scopes:
            self._database.lookup(scope)

    # Many calls

    def drain(self) -> int:
        """Take and close jobs until there are none; how many."""
        self._seat.begin_together()
        taken = 0
        while (job := self._database.acquire(LONG_LEASE_SECONDS).job) is not None:
            taken += 1
            self._work()
            if self._dice.random() < 1 / 4:
                self._database.renew(job.id, job.token, LONG_LEASE_SECONDS)
            self._end(job, "drain")
        return taken

    def finish(self) -> None:
        """Take and complete jobs until there are none."""
        while (job := self._database.acquire(LONG_LEASE_SECONDS).job) is not None:
            self.complete(job)

    def storm(self, steps: int) -> None:
        """A few steps of a worker that makes, takes, renews, closes and forgets jobs, and tries old tokens again."""
        for _ in range(steps):
            drawn = self._dice.random()
            if drawn < 1 / 10:
                self._database.create(
                    self._entity(), priority=self._dice.randint(4, 6), max_retries=self._dice.randint(0, 6)
                )
            elif drawn < 3 / 10 and self._held:
                self._end(self._held.pop(self._dice.randrange(len(self._held))), "storm")
            else:
                self._take()

    def let_go(self) -> None:
        """Try to complete everything that was left to expire: whoever lost a job learns it here."""
        while self._held:
            self.complete(self._held.pop())

    def _work(self) -> None:
        """Do something else for a moment: where there is one writer, those who do nothing else let nobody in."""
        until = time.monotonic_ns() + self._dice.randrange(WORK_MAX_NANOSECONDS)
        while time.monotonic_ns() < until:
            pass

    def _take(self) -> None:
        job = self._database.acquire(self._dice.randint(1, LEASE_SECONDS_MAX)).job
        if job is None:
            return
        while self._dice.random() < 1 / 3:
            self._database.renew(job.id, job.token, self._dice.randint(1, LEASE_SECONDS_MAX))
        self._end(job, "storm")

    def _end(self, job: Seen, occasion: str) -> None:
        (end,) = self._dice.choices(range(5), WEIGHTS[occasion])
        if end == COMPLETE:
            self._database.complete(job.id, job.token)
        elif end == RELEASE:
            self._database.release(job.id, job.token)
        elif end == ABANDON:
            self._held.append(job)
        else:
            self._database.fail(job.id, job.token, retryable=end == FAIL)

    @property
    def _database(self) -> RecordedDatabase:
        if self._recorded is None:
            raise Trouble("a worker was asked for something before it entered a race")
        return self._recorded

    def _now(self) -> int:
        if self._clock is None:
            raise Trouble("a worker was asked for the time before it entered a race")
        return self._clock.now_milliseconds()

    def _entity(self) -> int:
        self._entities += 1
        return self._entities


def name_of(number: int, life: int) -> str:
    """The name of one life of a worker, in histories."""
    return f"worker-{number}.{life}"
