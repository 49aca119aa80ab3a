"""`python -m tests.benchmarks.interleaved_bugs`: how soon a bug that only an interleaving shows is found, and kept.

For each store with a bug of tests/interleaved/broken.py: how many schedules by priorities it took until the first that
does not hold (of so many seeds: the median and the most), in what time with its judgement, how many preemptions are
left in it when it is shortened, and how often it fails in the same way when a fresh process plays it again from its
file.
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

from tests.harness.interleaving.explorers import prioritized
from tests.harness.interleaving.ground import ground_at
from tests.harness.interleaving.judging import Judge
from tests.harness.interleaving.reducing import reduced
from tests.harness.interleaving.scenario import Scenario
from tests.harness.interleaving.scenarios import SCENARIOS
from tests.harness.interleaving.scheduler import Run, Scheduler
from tests.harness.interleaving.schedules import DivergedError, Schedule, preemptions, replay
from tests.harness.interleaving.session import SessionWorker
from tests.harness.processes import Pool
from tests.interleaved.broken import BROKEN, Interleaved

WORKERS: Final = 3
SEEDS: Final = 10
REPLAYS: Final = 100
SCHEDULES_MAX: Final = 2_000
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
def scheduler_of(broken: Interleaved, pool: Pool[SessionWorker]) -> Iterator[Scheduler]:
    """A scheduler on a store with this bug."""
    with tempfile.TemporaryDirectory(prefix="bug-") as directory:
        ground = ground_at(broken.at(broken.location), Path(directory))
        try:
            yield Scheduler(pool, ground)
        finally:
            pool.restore()
            pool.all(SessionWorker.leave)
            ground.close()


def find(broken: Interleaved, pool: Pool[SessionWorker], file: Path, seeds: int) -> str:
    """Find it with so many seeds, keep the shortest schedule of the last, and say how it went."""
    scenario = next(scenario for scenario in SCENARIOS if scenario.name == broken.scenario)
    with scheduler_of(broken, pool) as scheduler:
        judge = Judge(scheduler)
        hits = [first_hit(scheduler, judge, scenario, seed) for seed in range(seeds)]
        _, _, found = hits[-1]
        names = judge.judge(found).names
        shortest, _ = reduced(scheduler, found, lambda run: judge.judge(run).names == names)
        Schedule.of(shortest, scheduler.location, names).write(file)
    counts, seconds = [number for number, _, _ in hits], [taken for _, taken, _ in hits]
    return (
        f"{broken.name:<58} {broken.location.name:<18} {statistics.median(counts):>5.0f} {max(counts):>5} schedules "
        f"{statistics.median(seconds):>6.2f} s {preemptions(shortest)} preemptions  {', '.join(names)}"
    )


def play_again(broken: Interleaved, pool: Pool[SessionWorker], file: Path, times: int) -> int:
    """How often the schedule of the file fails in the same way."""
    kept = Schedule.read(file)
    with scheduler_of(broken, pool) as scheduler:
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
    parser.add_argument("--only", default="", help="only bugs whose name contains this")
    parser.add_argument("--again", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    chosen = [(number, broken) for number, broken in enumerate(BROKEN) if asked.only in broken.name]
    pool: Pool[SessionWorker] = Pool(WORKERS, SessionWorker, preload=("prompt_studio", "psycopg"))
    try:
        with tempfile.TemporaryDirectory(prefix="bugs-") as directory:
            for number, broken in chosen:
                file = (asked.again or Path(directory)) / f"{number}.json"
                if asked.again is None:
                    line = find(broken, pool, file, asked.seeds)
                else:
                    same = play_again(broken, pool, file, asked.replays)
                    line = f"{broken.name:<58} played again: {same} of {asked.replays} the same"
                sys.stdout.write(f"{line}\n")
                sys.stdout.flush()
            if asked.again is None:
                again = ["--again", directory, "--replays", str(asked.replays), "--only", asked.only]
                return subprocess.run([sys.executable, "-m", __spec__.name, *again], check=False).returncode
    finally:
        pool.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
