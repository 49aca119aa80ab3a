"""`python -m tests.benchmarks.interleaved_bugs`: how soon a bug that only an interleaving shows is found, and kept.

For each store with a bug of tests/interleaved/broken.py: how many schedules by priorities it took until the first that
does not hold (of so many seeds: the median and the most), in what time with its judgement, how many preemptions are
left in it when it is shortened, and how often it fails in the same way when a fresh process plays it again from its
file. Beside it what luck does: the same calls by the same number of processes, begun together and then left alone, for
so many rounds. A round is wrong if it comes to something that no order of the right store comes to.

The exit code is 1 if a schedule is left with more than two preemptions, or was once another one when played again.
"""

import argparse
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.harness.interleaving.explorers import every_order, prioritized
from tests.harness.interleaving.free import FreeRunner, FreeWorker, can_be_left_alone
from tests.harness.interleaving.ground import Ground, lent
from tests.harness.interleaving.judging import Judge
from tests.harness.interleaving.outcomes import Outcome, outcome_of
from tests.harness.interleaving.reducing import reduced
from tests.harness.interleaving.runs import Run
from tests.harness.interleaving.scenario import Scenario
from tests.harness.interleaving.scheduler import Scheduler
from tests.harness.interleaving.schedules import DivergedError, Schedule, preemptions, replay
from tests.harness.interleaving.session import SessionWorker
from tests.harness.locations import Location
from tests.harness.processes import Pool
from tests.interleaved.broken import BROKEN, Interleaved, scenario_of

WORKERS: Final = 2
"""As many as the lanes of each scenario, so that a round without gates has nobody in it who only looks on."""

SEEDS: Final = 10
ROUNDS: Final = 2_000
REPLAYS: Final = 100
SCHEDULES_MAX: Final = 2_000
PREEMPTIONS_MAX: Final = 2
STEPS, DEPTH = 15, 3


def first_hit(scheduler: Scheduler, judge: Judge, scenario: Scenario, seed: int) -> tuple[int, float, Run]:
    """How many schedules it took, how long, and the one that does not hold.

    Raises:
        LookupError: there was none.
    """
    source = random.Random(seed)  # noqa: S311 - the same schedules each time
    begun = time.monotonic()
    for number in range(1, SCHEDULES_MAX + 1):
        run = scheduler.run(scenario, prioritized(source, list(scenario.lanes), STEPS, DEPTH))
        if judge.judge(run).verdict == "violated":
            return number, time.monotonic() - begun, run
    raise LookupError(f"{scenario.name}: none of {SCHEDULES_MAX} schedules was found wrong")


@contextmanager
def ground_of(location: Location, pool: Pool[SessionWorker] | Pool[FreeWorker]) -> Iterator[Ground]:
    """A database at this location, for these workers."""
    with tempfile.TemporaryDirectory(prefix="bug-") as directory, lent(pool, location, Path(directory)) as ground:
        yield ground


@contextmanager
def scheduler_of(location: Location, pool: Pool[SessionWorker]) -> Iterator[Scheduler]:
    """A scheduler on a database at this location."""
    with ground_of(location, pool) as ground:
        yield Scheduler(pool, ground)


def right_outcomes(broken: Interleaved, pool: Pool[SessionWorker]) -> set[Outcome]:
    """What every order of the bug's scenario comes to where the bug is not."""
    with scheduler_of(broken.location, pool) as scheduler:
        return set(map(outcome_of, every_order(scheduler, scenario_of(broken))))


def by_luck(broken: Interleaved, pool: Pool[SessionWorker], free: Pool[FreeWorker], rounds: int) -> str:
    """How many of so many rounds without gates come to something wrong, and which is the first."""
    scenario = scenario_of(broken)
    if not can_be_left_alone(scenario):
        return f"{broken.name:<62} not left alone: something happens in its scenario at a gate, or between two calls"
    right = right_outcomes(broken, pool)
    with ground_of(broken.at(broken.location), free) as ground:
        runner, begun = FreeRunner(free, ground), time.monotonic()
        wrong = [number for number in range(1, rounds + 1) if runner.run(scenario) not in right]
        seconds = time.monotonic() - begun
    first = f"the first is the {wrong[0]:,}." if wrong else "so luck does not show it"
    return (
        f"{broken.name:<62} left alone: {len(wrong):,} of {rounds:,} rounds wrong, {first} ({rounds / seconds:.0f}/s)"
    )


def find(broken: Interleaved, pool: Pool[SessionWorker], file: Path, seeds: int) -> tuple[bool, str]:
    """Find it with so many seeds, and keep the shortest schedule of the last; whether it is short, and how it went."""
    scenario = scenario_of(broken)
    with scheduler_of(broken.at(broken.location), pool) as scheduler:
        judge = Judge(scheduler)
        hits = [first_hit(scheduler, judge, scenario, seed) for seed in range(seeds)]
        _, _, found = hits[-1]
        names = judge.judge(found).names
        shortest, _ = reduced(scheduler, found, lambda run: judge.judge(run).names == names)
        Schedule.of(shortest, scheduler.location, names).write(file)
    counts, seconds = [number for number, _, _ in hits], [taken for _, taken, _ in hits]
    return preemptions(shortest) <= PREEMPTIONS_MAX, (
        f"{broken.name:<62} {broken.location.name:<18} {statistics.median(counts):>5.0f} {max(counts):>5} schedules "
        f"{statistics.median(seconds):>6.2f} s {preemptions(shortest)} preemptions  {', '.join(names)}"
    )


def play_again(broken: Interleaved, pool: Pool[SessionWorker], file: Path, times: int) -> int:
    """How often the schedule of the file fails in the same way."""
    kept = Schedule.read(file)
    with scheduler_of(broken.at(broken.location), pool) as scheduler:
        judge = Judge(scheduler)
        same = 0
        for _ in range(times):
            try:
                same += judge.judge(replay(scheduler, kept.scenario, kept)).names == kept.names
            except DivergedError as diverged:
                sys.stderr.write(f"{broken.name}: {diverged}\n")
    return same


def main(arguments: Sequence[str] | None = None) -> int:
    """Find each, then let a fresh process play each again."""
    summary = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.interleaved_bugs", description=summary[2])
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--replays", type=int, default=REPLAYS)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="without gates (default: %(default)s)")
    parser.add_argument("--only", default="", help="only bugs whose name contains this")
    parser.add_argument("--again", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    chosen = [(number, broken) for number, broken in enumerate(BROKEN) if asked.only in broken.name]
    good = True
    with tempfile.TemporaryDirectory(prefix="bugs-") as directory:
        for is_good, line in _lines(asked, chosen, asked.again or Path(directory)):
            good = good and is_good
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()
        if asked.again is None:
            again = ["--again", directory, "--replays", str(asked.replays), "--only", asked.only]
            good &= subprocess.run([sys.executable, "-m", __spec__.name, *again], check=False).returncode == 0
    return 0 if good else 1


def _lines(
    asked: argparse.Namespace, chosen: Sequence[tuple[int, Interleaved]], directory: Path
) -> Iterator[tuple[bool, str]]:
    preload = ("prompt_studio", "psycopg")
    pool: Pool[SessionWorker] = Pool(WORKERS, SessionWorker, preload=preload)
    free: Pool[FreeWorker] = Pool(WORKERS, FreeWorker, preload=preload)
    try:
        for number, broken in chosen:
            file = directory / f"{number}.json"
            if asked.again is None:
                yield find(broken, pool, file, asked.seeds)
                yield True, by_luck(broken, pool, free, asked.rounds)
            else:
                same = play_again(broken, pool, file, asked.replays)
                yield same == asked.replays, f"{broken.name:<62} played again: {same} of {asked.replays} the same"
    finally:
        pool.close()
        free.close()


if __name__ == "__main__":
    sys.exit(main())
