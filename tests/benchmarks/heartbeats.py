"""Leases kept and lost, with the figures of the issue that asked: `python -m tests.benchmarks.heartbeats`.

Jobs of 13 s under leases of 5 s and beats of 1 s, four rivals that look for a job every 0.2 s. A worker that lives must
lose none; after SIGKILL and after SIGSTOP each job must be taken when its lease is over: never before, and by the first
look after it. Workers that are stopped in order 50 times must lose nothing, and run nothing twice.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from tests.harness.heartbeats import trials
from tests.harness.heartbeats.trials import Outcome
from tests.harness.heartbeats.workers import BLOCKS, BURNS, RESTS, WAITS, Beater, Plan
from tests.harness.locations import LOCATIONS, Location
from tests.harness.processes import Pool

JOBS: Final = 20
PROCESSES: Final = 5
"""A worker and four rivals."""

ROUNDS: Final = 10
"""Of stops, for each process."""

LIMIT_SECONDS: Final = 120.0


def _mixed(jobs: int) -> list[str]:
    return [WAITS if number % 2 else RESTS for number in range(jobs)]


def _in_order(pool: Pool[Beater], plan: Plan) -> Outcome:
    return trials.stops(pool, replace(plan, jobs=300, job_seconds=0.05, lease_seconds=600, beat_seconds=60), ROUNDS)


@dataclass(frozen=True, slots=True)
class Trial:
    """A trial, and how many jobs must have been taken over in it."""

    hold: Callable[[Pool[Beater], Plan], Outcome]
    reclaims: int


TRIALS: Final[dict[str, Trial]] = {
    "alive": Trial(lambda pool, plan: trials.alive(pool, plan, _mixed(JOBS)), 0),
    "blocked loop": Trial(
        lambda pool, plan: trials.alive(pool, replace(plan, jobs=3, job_seconds=15), (BLOCKS, WAITS, RESTS)), 0
    ),
    "busy processor": Trial(
        lambda pool, plan: trials.alive(pool, replace(plan, jobs=3, job_seconds=15), (BURNS, BURNS, WAITS)), 0
    ),
    "SIGKILL": Trial(lambda pool, plan: trials.killed(pool, plan, _mixed(JOBS)), JOBS),
    "SIGSTOP": Trial(lambda pool, plan: trials.stopped(pool, plan, _mixed(JOBS)), JOBS),
    "stops in order": Trial(_in_order, 0),
}


def main(arguments: Sequence[str]) -> int:
    """Hold the trials and print a line for each; 0 if all is as it must be."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.heartbeats", description=__doc__)
    parser.add_argument("--store", default="", help="only stores with this in their name")
    parser.add_argument("--trial", default="", help="only trials with this in their name")
    asked = parser.parse_args(arguments)
    pool, wrong = Pool(PROCESSES, Beater, preload=("prompt_studio", "psycopg")), 0
    try:
        for location in LOCATIONS:
            for name, trial in TRIALS.items():
                if asked.store in location.name and asked.trial in name:
                    wrong += _held(pool, location, name, trial)
    finally:
        pool.close()
    return wrong > 0


def _held(pool: Pool[Beater], location: Location, name: str, trial: Trial) -> bool:
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as directory, trials.place(location, Path(directory)) as address:
        plan = Plan(
            location=location,
            address=address,
            jobs=JOBS,
            job_seconds=13,
            lease_seconds=5,
            beat_seconds=1,
            poll_seconds=0.2,
            limit_seconds=LIMIT_SECONDS,
        )
        outcome = trial.hold(pool, plan)
    delays = [one.delay_seconds for one in outcome.reclaims]
    late = f", taken {min(delays):.3f} to {max(delays):.3f} s after the end of their leases" if delays else ""
    wrong = len(outcome.found) > 0 or len(delays) != trial.reclaims
    sys.stdout.write(
        f"{location.name:<20} {name:<15} {'WRONG' if wrong else 'holds':<6} {len(outcome.jobs)} jobs, "
        f"{outcome.beats} beats, {len(outcome.looks):,} looks, {len(delays)} reclaimed{late}; "
        f"{dict(outcome.endings)} {dict(outcome.losses) or ''} in {time.monotonic() - begun:.0f} s\n"
    )
    for found in outcome.found:
        sys.stdout.write(f"    {found.name}: {found.story}\n")
    sys.stdout.flush()
    return wrong


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
