"""The trials: a worker that is alive, killed, or stopped, among rivals; and workers that are stopped in order."""

import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.harness.heartbeats.journal import Change, keep_journal, read_journal
from tests.harness.heartbeats.judged_beats import (
    Found,
    Look,
    Takeover,
    Watch,
    broken,
    disordered,
    late,
    misdone,
    takeovers,
    unwatched,
)
from tests.harness.heartbeats.workers import (
    BLOCKS,
    CONCURRENCY,
    HANGS,
    Beater,
    Plan,
    Runs,
    Told,
    can_write,
    created,
    is_done,
    name_of,
    opened,
)
from tests.harness.locations import Location, Rows
from tests.harness.processes import LIMIT_SECONDS, Pool, Trouble

WORKER: Final = 0
PAUSE_SECONDS: Final = 0.01


@dataclass(slots=True)
class Outcome:
    """What a trial came to."""

    jobs: Rows
    journal: list[Change]
    looks: list[Look] = field(default_factory=list)
    endings: Counter[str] = field(default_factory=Counter)
    losses: Counter[str] = field(default_factory=Counter)
    beats: int = 0
    found: list[Found] = field(default_factory=list)

    @property
    def reclaims(self) -> list[Takeover]:
        """Every job that was taken from an attempt."""
        return list(takeovers(self.journal))

    @property
    def finishers(self) -> list[str]:
        """What is written as each job's result."""
        return [str(job["result"]) for job in self.jobs]


@contextmanager
def place(location: Location, directory: Path) -> Iterator[str]:
    """An empty database that keeps a journal."""
    address = location.fresh(directory)
    keep_journal(location, address)
    try:
        yield address
    finally:
        location.dispose(address)


def alive(pool: Pool[Beater], plan: Plan, work: Sequence[str]) -> Outcome:
    """A worker runs jobs that outlast their leases, and lives; all others look for jobs."""
    _begin(pool, plan, work)
    _challenge(pool, plan)
    outcome = _ended(pool, plan, alive=[name_of(WORKER, pool.life(WORKER))])
    told: Told = pool.answer(WORKER)
    if len(told.blocks) != work.count(BLOCKS):
        raise Trouble(f"of {work.count(BLOCKS)} handlers that block the event loop {len(told.blocks)} did")
    outcome.found += unwatched(told.blocks, outcome.looks, plan.lease_seconds)
    return _with(outcome, told)


def killed(pool: Pool[Beater], plan: Plan, work: Sequence[str]) -> Outcome:
    """The worker is killed in the middle of all jobs."""
    _begin(pool, plan, work)
    _challenge(pool, plan)
    pool.kill(WORKER)
    outcome = _ended(pool, plan)
    pool.revive(WORKER)
    return outcome


def stopped(pool: Pool[Beater], plan: Plan, work: Sequence[str]) -> Outcome:
    """The worker is stopped in the middle of all jobs, for longer than the leases.

    One of its handlers hangs, and the event loop with it. When the worker wakes up a rival holds that job, and all
    others are over; then the handler comes to its end, and the rival completes the job when the worker has told all.
    """
    assert work.count(HANGS) == 1
    _begin(pool, plan, work)
    _challenge(pool, plan)
    _put_to_sleep(pool, plan)
    holder = _last_holder(pool, plan)
    before = read_journal(plan.location, plan.address)
    pool.resume(WORKER)
    _go_on(pool, WORKER)
    told: Told = pool.answer(WORKER)
    changed = read_journal(plan.location, plan.address)[len(before) :]
    _go_on(pool, holder)
    outcome = _with(_ended(pool, plan), told)
    if changed:
        outcome.found.append(Found("INV-SINGLE-HOLDER", f"the sleeper changed {changed}"))
    return outcome


def stops(pool: Pool[Beater], plan: Plan, rounds: int) -> Outcome:
    """Several workers are started and stopped by signals, while jobs are there all the time; then the rest is run.

    Every second stop has a grace time. Under whatever lease: a job that was left would stay processing, or be taken.
    """
    with opened(plan) as database:
        for number in range(plan.jobs):
            created(database, "waits" if number % 3 else "rests on a thread")
        for number in pool.numbers:
            pool.ask(number, Beater.stop_again_and_again, plan, rounds)
        told: list[Runs] = [pool.answer(number) for number in pool.numbers]
        runs = [run for one in told for run in one.attempts]
        stopped, wanted = [stop for one in told for stop in one.stops], rounds * len(pool.numbers)
        beats, found = sum(stop.beats for stop in stopped), list(disordered(stopped, CONCURRENCY))
        if not found and (len(stopped) != wanted or is_done(database)):
            raise Trouble(f"of {wanted} stops {len(stopped)} came while there were jobs: make more jobs")
        if not (found or beats):
            raise Trouble(f"in {wanted} stops no lease was renewed: give handlers a longer grace time")
        found += misdone(plan.location.tables(plan.address).jobs, runs, {"queued", "completed"})
        pool.ask(WORKER, Beater.finish, plan)
        runs += pool.answer(WORKER).attempts
    outcome = Outcome(plan.location.tables(plan.address).jobs, read_journal(plan.location, plan.address))
    outcome.endings = Counter(how for _, how in runs)
    outcome.beats = beats
    found += misdone(outcome.jobs, runs, {"completed"})
    found += [Found("PS-LEASE-HB-11", f"a stop left a job: {one}") for one in outcome.reclaims]
    if [job["id"] for job in outcome.jobs] != list(range(1, plan.jobs + 1)):
        found.append(Found("INV-NOTHING-LOST", f"of {plan.jobs} jobs there are {len(outcome.jobs)}"))
    outcome.found = found
    return outcome


def _begin(pool: Pool[Beater], plan: Plan, work: Sequence[str]) -> None:
    """Let one process have all jobs."""
    with opened(plan) as database:
        for what in work:
            created(database, what)
        pool.ask(WORKER, Beater.work, plan)
        _await(lambda: database.count_jobs(status="processing") == plan.jobs, f"all {plan.jobs} jobs have begun")
        # Each change after the claims is a beat: what is taken later is taken from a lease that was renewed.
        _await(lambda: len(read_journal(plan.location, plan.address)) >= 2 * plan.jobs, "all leases were renewed")


def _challenge(pool: Pool[Beater], plan: Plan) -> None:
    """Let all others look for jobs, one of them under a `JobManager`."""
    *rivals, manager = _rivals(pool)
    for number in rivals:
        pool.ask(number, Beater.rival, plan)
    pool.ask(manager, Beater.managing_rival, plan)


def _ended(pool: Pool[Beater], plan: Plan, alive: Sequence[str] = ()) -> Outcome:
    """What it came to, when the rivals have seen the end of all jobs."""
    watches: list[Watch] = [pool.answer(number) for number in _rivals(pool)]
    if not all(watch.looks and watch.ticks for watch in watches):
        raise Trouble("a rival noted no look, or not once that it was awake: nothing could be late")
    looks = [look for watch in watches for look in watch.looks]
    outcome = Outcome(plan.location.tables(plan.address).jobs, read_journal(plan.location, plan.address), looks)
    outcome.found = [*broken(outcome.journal, looks, alive), *late(outcome.journal, watches, plan.poll_seconds)]
    return outcome


def _rivals(pool: Pool[Beater]) -> list[int]:
    return [number for number in pool.numbers if number != WORKER]


def _last_holder(pool: Pool[Beater], plan: Plan) -> int:
    """The rival that holds the last job, when all others are over."""
    names = {name_of(number, pool.life(number)): number for number in _rivals(pool)}
    open_jobs: Rows = []

    def is_held() -> bool:
        open_jobs[:] = [job for job in plan.location.tables(plan.address).jobs if job["status"] == "processing"]
        return len(open_jobs) == 1 and open_jobs[0]["lease_owner"] in names

    _await(is_held, "a rival holds the last job")
    return names[open_jobs[0]["lease_owner"]]


def _go_on(pool: Pool[Beater], number: int) -> None:
    """Tell a process that waits for word."""
    _, wire = pool.ends(number)
    wire.send_bytes(b"go on")


def _put_to_sleep(pool: Pool[Beater], plan: Plan) -> None:
    """Stop the worker where it keeps nobody from writing: a file has one writer, who could be this one."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < deadline:
        pool.stop(WORKER)
        if can_write(plan):
            return
        pool.resume(WORKER)
    raise Trouble("each time that the worker was stopped it was writing")


def _with(outcome: Outcome, told: Told) -> Outcome:
    outcome.endings, outcome.losses, outcome.beats = Counter(told.endings), Counter(told.losses), told.beats
    return outcome


def _await(happens: object, what: str) -> None:
    assert callable(happens)
    deadline = time.monotonic() + LIMIT_SECONDS
    while not happens():
        if time.monotonic() > deadline:
            raise Trouble(f"not within {LIMIT_SECONDS:g} s: {what}")
        threading.Event().wait(PAUSE_SECONDS)
