"""What a trial must show, judged from the database's journal and from what rivals saw when they looked for a job."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tests.harness.heartbeats.journal import Change

MICROSECONDS = 1_000
"""In a millisecond."""

TICK_SECONDS: Final = 0.02
"""How often a rival notes that it is awake."""

LOOK_SECONDS: Final = 2.0
"""A look that takes longer of a rival that is awake all the time is one that waits for somebody."""

DRAIN_SECONDS: Final = 0.1
"""How long each job may keep the rivals that is over at the same time, and that they take first."""

LATE_SECONDS: Final = 1.0
"""By how much a worker that is awake may come later to a look than it had meant to."""


@dataclass(frozen=True, slots=True)
class Look:
    """One acquire of a rival, between two readings of the database's clock in milliseconds; None: there was no job."""

    began: int
    ended: int
    job_id: int | None


@dataclass(frozen=True, slots=True)
class Watch:
    """What one rival did.

    Attributes:
        looks: in order.
        ticks: the database's time in milliseconds, noted every TICK_SECONDS while the rival and the database's server
            were awake. Whoever is kept by a busy machine ticks more seldom; so time is counted in ticks here, and
            nothing is late because of the machine.
        manages: whether the looks are those of a `JobManager`, which decides itself when to look next.
    """

    looks: list[Look]
    ticks: list[int]
    manages: bool = False

    def awake_seconds(self, began: float, ended: float) -> float:
        """How long it was awake between two instants, in milliseconds of the database's time: no longer than that."""
        return TICK_SECONDS * sum(began < tick < ended for tick in self.ticks)


@dataclass(slots=True)
class Stop:
    """What came after a worker was sent the signal to stop.

    Attributes:
        grace_seconds: how long its handlers were to run on.
        begun: how many of them began although it had been told.
        interrupted: after how many seconds each was asked to end that had not ended by then.
        beats: how often a lease was renewed.
    """

    grace_seconds: float
    begun: int = 0
    interrupted: list[float] = field(default_factory=list)
    beats: int = 0


@dataclass(frozen=True, slots=True)
class Found:
    """A promise that was broken."""

    name: str
    story: str


@dataclass(frozen=True, slots=True)
class Takeover:
    """A job that went from one attempt to the next while it was processing. Times are microseconds."""

    job_id: int
    token: int
    owner: str | None
    expired_at: int
    taken_at: int

    @property
    def delay_seconds(self) -> float:
        """How long after the lease's end it was taken."""
        return (self.taken_at - self.expired_at) / 1_000_000


def takeovers(journal: Iterable[Change]) -> Iterator[Takeover]:
    """Yield every reclaim."""
    last: dict[int, Change] = {}
    for change in journal:
        before = last.get(change.job_id)
        if (
            before is not None
            and before.status == change.status == "processing"
            and before.lease_token != change.lease_token
        ):
            assert before.leased_until is not None
            assert change.started_at is not None
            yield Takeover(
                change.job_id, before.lease_token, before.lease_owner, before.leased_until, change.started_at
            )
        last[change.job_id] = change


def broken(journal: list[Change], looks: Iterable[Look], alive: Iterable[str]) -> list[Found]:
    """What went wrong; `alive` are the owners whose heartbeat ran all the time."""
    reclaims, kept = list(takeovers(journal)), set(alive)
    found = []
    for one in reclaims:
        if one.taken_at < one.expired_at:
            found.append(Found("INV-NO-EARLY-RECLAIM", f"{one} was taken before its lease was over"))
        if one.owner in kept:
            found.append(Found("PS-LEASE-HB-2", f"{one} was taken from a worker whose heartbeat was alive"))
    for look in looks:
        passed = [
            one
            for one in reclaims
            if look.job_id is None
            and look.began * MICROSECONDS > one.expired_at
            and (look.ended + 1) * MICROSECONDS < one.taken_at
        ]
        found += [Found("PS-LEASE-HB-3", f"{one} was over, and {look} passed it by") for one in passed]
    return found + list(_old_words(journal))


def late(journal: Iterable[Change], watches: Sequence[Watch], poll_seconds: float) -> Iterator[Found]:
    """Yield what took longer than one pause between two looks, a look, and what came first.

    A look that passes by a job is found by `broken`. Here are those that take for ever, pauses that are too long, and
    what comes of them: jobs that are taken too late.
    """
    reclaims = list(takeovers(journal))
    for one in reclaims:
        first = sum(one.expired_at < other.taken_at < one.taken_at for other in reclaims)
        expired, taken = one.expired_at / MICROSECONDS, one.taken_at / MICROSECONDS
        seconds = min(watch.awake_seconds(expired, taken) for watch in watches)
        if seconds > poll_seconds + LOOK_SECONDS + first * DRAIN_SECONDS:
            yield Found("PS-LEASE-HB-3", f"{one} was over for {seconds:g} s, and {first} were taken before it")
    for watch in watches:
        for look in watch.looks:
            seconds = watch.awake_seconds(look.began, look.ended)
            if seconds > LOOK_SECONDS:
                yield Found("PS-LEASE-HB-3", f"{look} took {seconds:g} s")
        ends = [*(look.began for look in watch.looks[1:]), max(watch.ticks, default=0)]
        for look, end in zip(watch.looks, ends, strict=True) if watch.manages else ():
            seconds = watch.awake_seconds(look.ended, end)
            if seconds > poll_seconds + LATE_SECONDS:
                yield Found("PS-LEASE-HB-14", f"no look for {seconds:g} s after {look}")


def unwatched(blocks: Iterable[tuple[int, int]], looks: Iterable[Look], lease_seconds: int) -> list[Found]:
    """Each time that an event loop was blocked while nobody looked for a job: that it lost none then proves nothing.

    A look counts when a lease that nobody renewed since the loop was blocked would be over.
    """
    looked = list(looks)
    return [
        Found("PS-LEASE-HB-6", f"no rival looked for a job while the loop was blocked from {began} to {ended}")
        for began, ended in blocks
        if not any(began + lease_seconds * MICROSECONDS < look.began and look.ended < ended for look in looked)
    ]


def misdone(jobs: Iterable[Mapping[str, Any]], runs: Iterable[tuple[int, str]], allowed: set[str]) -> Iterator[Found]:
    """Yield what stops in order have done to jobs: all workers have stopped, and each run says how it ended."""
    finished = Counter(job_id for job_id, how in runs if how == "finished")
    for job in jobs:
        times, status, executions = finished[job["id"]], str(job["status"]), job["executions"]
        told = f"job {job['id']} is {status} after {executions} executions, and was run {times} times"
        if status not in allowed:
            yield Found("PS-LEASE-HB-11", told)
        if not times == executions == (status == "completed"):  # whoever was interrupted got the execution back
            yield Found("PS-LEASE-HB-12", told)


def disordered(stops: Iterable[Stop], concurrency: int) -> Iterator[Found]:
    """Yield what is wrong with the order of a stop.

    So many jobs may have been acquired before it, and begin after it: whoever acquires on begins more.
    """
    for stop in stops:
        if stop.begun > concurrency:
            yield Found("PS-LEASE-HB-11", f"{stop.begun} handlers began after a stop")
        for seconds in stop.interrupted:
            if seconds < stop.grace_seconds:
                told = f"a handler was interrupted {seconds:.3f} s after a stop with {stop.grace_seconds:g} s of grace"
                yield Found("PS-LEASE-HB-11", told)


def _old_words(journal: Iterable[Change]) -> Iterator[Found]:
    """Yield each change of a job by an attempt that was over."""
    highest: dict[int, int] = {}
    for change in journal:
        if change.lease_token < highest.get(change.job_id, 0):
            yield Found("INV-SINGLE-HOLDER", f"{change} came after token {highest[change.job_id]}")
        highest[change.job_id] = max(change.lease_token, highest.get(change.job_id, 0))
