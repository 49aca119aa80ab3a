"""`python -m tests.benchmarks.wait_detection`: how well a wait for a lock is told from a statement that is only slow.

Programs of plain SQL are played by the scheduler itself, with each statement of waits.py let go while another lane has
a transaction open. Of each kind: how many, misses (it waits for one of ours and was not marked as blocked, or nothing
was found within the limit of the scheduler), misclassified (it waits for nobody of ours and was marked as blocked), and
the milliseconds from letting it go until the step was over: for a wait until it was marked, for a slow one until it
had ended. What is true is known by how the statements are made, and seen in pg_locks on another connection, which the
scheduler knows nothing of: a statement that does not do there what it was made for ends the command. It measures both
rules: where a session tells that it waits, as in programs, and where the server is only asked, as in schedules of jobs.

It exits with 1 if there was a miss or a misclassification.
"""

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

import psycopg

from prompt_studio_model.checking.history import Invoked, Returned
from tests.benchmarks.waits import SLOW, WAITING, Kind
from tests.harness.interleaving.plain_tables import PlainPostgres
from tests.harness.interleaving.program_session import ProgramWorker
from tests.harness.interleaving.runs import Run, Step
from tests.harness.interleaving.scheduler import Scheduler, follow
from tests.harness.processes import LIMIT_SECONDS, Pool, Trouble

WAITS: Final = 80
SLOWS: Final = 50
_WAITS_NOW: Final = "SELECT count(*) FROM pg_locks WHERE NOT granted AND pid = %s"
_SOMEBODY_WAITS: Final = "SELECT 1 FROM pg_stat_activity WHERE pg_backend_pid() = ANY (pg_blocking_pids(pid))"


class Asking(PlainPostgres):
    """A ground where no session tells that it waits, as that of the jobs."""

    def _may_say_so(self) -> bool:
        return False


MAKES: Final[dict[str, Callable[[Path], PlainPostgres]]] = {"told": PlainPostgres, "asked": Asking}


@dataclass(slots=True)
class Tally:
    """What came of one kind."""

    count: int = 0
    misses: int = 0
    misclassified: int = 0
    milliseconds: list[float] = field(default_factory=list)

    def line(self, label: str) -> str:
        """One row of the table."""
        taken = sorted(self.milliseconds) or [float("nan")]
        half, most = taken[len(taken) // 2], taken[len(taken) * 99 // 100]
        return (
            f"{label:<58} {self.count:>4}   {self.misses:>3} missed   {self.misclassified:>3} misclassified   "
            f"median {half:6.1f} ms   p99 {most:6.1f} ms   most {taken[-1]:6.1f} ms\n"
        )


class Stranger:
    """Two sessions that the scheduler knows nothing of: one has a lock for a while, one looks into pg_locks."""

    def __init__(self, address: str) -> None:
        self._holder = psycopg.connect(address)
        self._observer = psycopg.connect(address, autocommit=True)
        self._thread = ThreadPoolExecutor(1)

    def take(self, statement: str) -> None:
        """Do this, in a transaction."""
        self._holder.execute(cast("Any", statement))

    def let_go_later(self, milliseconds: int) -> "Future[None]":
        """Undo it, so long after somebody was seen to wait for it."""
        return self._thread.submit(self._let_go, milliseconds)

    def waits(self, server_process: int) -> bool:
        """Whether this one waits for any lock."""
        row = self._observer.execute(_WAITS_NOW, (server_process,)).fetchone()
        return row is not None and row[0] > 0

    def close(self) -> None:
        """Leave."""
        self._thread.shutdown()
        self._holder.close()
        self._observer.close()

    def _let_go(self, milliseconds: int) -> None:
        deadline = time.monotonic() + LIMIT_SECONDS
        try:
            while self._holder.execute(_SOMEBODY_WAITS).fetchone() is None:
                if time.monotonic() > deadline:
                    raise Trouble("nobody came to wait for the stranger")
            self._holder.execute("SELECT pg_sleep(%s / 1000.0)", (milliseconds,))
        finally:
            self._holder.rollback()


class _Watch:
    """One schedule, with a look at the step in question from before it is let go until it is over."""

    def __init__(self, kind: Kind, stranger: Stranger, drawn: int) -> None:
        self._kind, self._stranger, self._drawn = kind, stranger, drawn
        self._follow = follow(list(kind.order))
        self._begun = 0.0
        self._number = 0
        self._undone: Future[None] | None = None
        self.step: Step | None = None
        self.milliseconds = 0.0
        self.really_waits = False

    def choose(self, step: int, current: str | None, enabled: Sequence[str]) -> str:
        if step == 0 and self._kind.stranger:
            self._stranger.take(self._kind.stranger)
        chosen = self._follow(step, current, enabled)
        if step == len(self._kind.order) - 1:
            if self._kind.stranger:
                self._undone = self._stranger.let_go_later(self._drawn)
            self._begun = time.perf_counter()
        return chosen

    def tell(self, step: Step) -> None:
        if self._number == len(self._kind.order) - 1:
            self.milliseconds = 1000 * (time.perf_counter() - self._begun)
            self.step = step
            self.really_waits = self._stranger.waits(step.server_process)
        self._number += 1

    def end(self) -> None:
        if self._undone is not None:
            self._undone.result()


def measure(scheduler: Scheduler, pool: Pool[ProgramWorker], kind: Kind, stranger: Stranger, drawn: int) -> Tally:
    """Play it once.

    Raises:
        Trouble: it did not do what it was made for, so that nothing was measured.
    """
    tally = Tally(count=1)
    watch = _Watch(kind, stranger, drawn)
    try:
        run = scheduler.run(kind.scenario(drawn), watch.choose, tell=watch.tell)
    except Trouble as trouble:
        watch.end()
        pool.restore()
        was_marked = watch.step is not None and watch.step.outcome == "blocked"
        if was_marked == kind.waits:  # the trouble is another one
            raise
        sys.stderr.write(f"{trouble}\n")
        tally.misses, tally.misclassified = int(kind.waits), int(not kind.waits)
        return tally
    watch.end()
    step = watch.step
    assert step is not None
    marked = step.outcome == "blocked"
    if step.lane != kind.order[-1] or step.what == "begin" or run.failures:
        raise Trouble(f"{kind.name}: another step was measured than the one in question: {run.steps}")
    if kind.waits and not (watch.really_waits and _answered_last(run, step.lane)):
        raise Trouble(f"{kind.name}: it was made to wait and did not")
    if not kind.waits and not marked and watch.really_waits:
        raise Trouble(f"{kind.name}: the step is over, and it still waits")
    tally.misses, tally.misclassified = int(kind.waits and not marked), int(not kind.waits and marked)
    tally.milliseconds.append(watch.milliseconds)
    return tally


def _answered_last(run: Run, lane: str) -> bool:
    """Whether the lane was answered after the one that it waited for."""
    lanes = {event.number: event.lane for event in run.events if isinstance(event, Invoked)}
    ended = [lanes[event.number] for event in run.events if isinstance(event, Returned)]
    return ended.index(lane) > ended.index("a")


def table(make: Callable[[Path], PlainPostgres], label: str, waits: int, slows: int, pool: Pool[ProgramWorker]) -> bool:
    """Measure each kind by one rule, and print; whether all was told right."""
    source = random.Random(0)  # noqa: S311 - the same statements each time
    right = True
    with ExitStack() as stack:
        ground = make(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="waits-"))))
        stack.callback(ground.close)
        stack.callback(lambda: pool.all(ProgramWorker.leave))
        stack.callback(pool.restore)
        stranger = Stranger(ground.address)
        stack.callback(stranger.close)
        scheduler = Scheduler(pool, ground)
        for kind in (*WAITING, *SLOW):
            tally = Tally()
            for _ in range(waits if kind.waits else slows):
                one = measure(scheduler, pool, kind, stranger, source.randint(*kind.drawn))
                tally.count += one.count
                tally.misses += one.misses
                tally.misclassified += one.misclassified
                tally.milliseconds += one.milliseconds
            said = "waits" if kind.waits else "slow "
            sys.stdout.write(tally.line(f"{label:<6} {said}  {kind.name}"))
            sys.stdout.flush()
            right = right and not tally.misses and not tally.misclassified
    return right


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    summary = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.wait_detection", description=summary[2])
    parser.add_argument("--waits", type=int, default=WAITS, help="how many of each kind that waits")
    parser.add_argument("--slow", type=int, default=SLOWS, help="how many of each kind that is slow")
    asked = parser.parse_args(arguments)
    pool: Pool[ProgramWorker] = Pool(3, ProgramWorker, preload=("psycopg",))
    try:
        right = [table(make, label, asked.waits, asked.slow, pool) for label, make in MAKES.items()]
    finally:
        pool.close()
    return 0 if all(right) else 1


if __name__ == "__main__":
    sys.exit(main())
