"""Leases kept and lost, with the figures of the issue that asked: `python -m tests.benchmarks.heartbeats`.

Jobs of 13 s under leases of 5 s and beats of 1 s, four rivals that look for a job every 0.2 s, one of them a
`JobManager`. A worker that lives must lose none, with an event loop that is blocked for three leases, too; after
SIGKILL and after SIGSTOP each job must be taken when its lease is over: never before, by the first look after it, and
no later than a pause between two looks, a look, and those that are taken first. That is counted in time in which the
rivals are awake, so that nothing is late because a machine is busy. Who is stopped wakes up with a blocked event loop,
and while a rival holds its job; it must change nothing. Workers that are stopped by SIGTERM 50 times must lose nothing,
and run nothing twice; every second time their handlers have a grace time that is longer than their leases, which are
kept for as long. `pytest -m soak tests/benchmarks` holds the same trials.
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
from tests.harness.heartbeats.workers import BLOCKS, BURNS, HANGS, RESTS, WAITS, Beater, Plan
from tests.harness.locations import LOCATIONS, Location
from tests.harness.processes import Pool, Trouble

JOBS: Final = 20
PROCESSES: Final = 5
"""A worker and four rivals, the last of which is a `JobManager`."""

ROUNDS: Final = 10
"""Of stops, for each process."""

LIMIT_SECONDS: Final = 120.0


def _mixed(jobs: int) -> list[str]:
    return [WAITS if number % 2 else RESTS for number in range(jobs)]


def _in_order(pool: Pool[Beater], plan: Plan) -> Outcome:
    """With a grace time that is longer than a lease."""
    brief = replace(plan, jobs=600, job_seconds=0.05, lease_seconds=2, beat_seconds=0.2, grace_seconds=2.5)
    return trials.stops(pool, brief, ROUNDS)


@dataclass(frozen=True, slots=True)
class Trial:
    """A trial, and how many jobs must have been taken over in it."""

    hold: Callable[[Pool[Beater], Plan], Outcome]
    reclaims: int


TRIALS: Final[dict[str, Trial]] = {
    "alive": Trial(lambda pool, plan: trials.alive(pool, plan, _mixed(JOBS)), 0),
    "blocked loop": Trial(
        # Last, so that all jobs have begun when the loop that would have to acquire the others is blocked.
        lambda pool, plan: trials.alive(pool, replace(plan, jobs=3, job_seconds=15.5), (WAITS, RESTS, BLOCKS)),
        0,
    ),
    "busy processor": Trial(
        lambda pool, plan: trials.alive(pool, replace(plan, jobs=3, job_seconds=15), (BURNS, BURNS, WAITS)), 0
    ),
    "SIGKILL": Trial(lambda pool, plan: trials.killed(pool, plan, [*_mixed(JOBS - 1), BLOCKS]), JOBS),
    "SIGSTOP": Trial(lambda pool, plan: trials.stopped(pool, plan, [*_mixed(JOBS - 1), HANGS]), JOBS),
    "stops in order": Trial(_in_order, 0),
}


def main(arguments: Sequence[str]) -> int:
    """Hold the trials and print a line for each; 0 if all is as it must be."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.heartbeats", description=__doc__)
    parser.add_argument("--store", default="", help="only stores with this in their name")
    parser.add_argument("--trial", default="", help="only trials with this in their name")
    asked = parser.parse_args(arguments)
    pool, wrong = new_pool(), 0
    try:
        for location in LOCATIONS:
            for name, trial in TRIALS.items():
                if asked.store in location.name and asked.trial in name:
                    wrong += _told(pool, location, name, trial)
    finally:
        pool.close()
    return wrong > 0


def new_pool() -> Pool[Beater]:
    """The processes of the trials."""
    return Pool(PROCESSES, Beater, preload=("prompt_studio", "psycopg"))


def held(pool: Pool[Beater], location: Location, trial: Trial, directory: Path) -> Outcome:
    """What a trial comes to there.

    Raises:
        Trouble: it came to nothing, which proves nothing.
    """
    pool.restore()
    with trials.place(location, directory) as address:
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
    if len(outcome.reclaims) != trial.reclaims:
        raise Trouble(f"{len(outcome.reclaims)} jobs were taken over, and not {trial.reclaims}")
    return outcome


def _told(pool: Pool[Beater], location: Location, name: str, trial: Trial) -> bool:
    """Hold a trial and print its line; whether it is not as it must be."""
    begun = time.monotonic()
    try:
        with tempfile.TemporaryDirectory() as directory:
            outcome = held(pool, location, trial, Path(directory))
    except Trouble as trouble:
        _print(f"{location.name:<20} {name:<15} TROUBLE {trouble}")
        return True
    delays = [one.delay_seconds for one in outcome.reclaims]
    late = f", taken {min(delays):.3f} to {max(delays):.3f} s after the end of their leases" if delays else ""
    _print(
        f"{location.name:<20} {name:<15} {'WRONG' if outcome.found else 'holds':<7} {len(outcome.jobs)} jobs, "
        f"{outcome.beats} beats, {len(outcome.looks):,} looks, {len(delays)} reclaimed{late}; "
        f"{dict(outcome.endings)} {dict(outcome.losses) or ''} in {time.monotonic() - begun:.0f} s",
        *(f"    {found.name}: {found.story}" for found in outcome.found),
    )
    return len(outcome.found) > 0


def _print(*lines: str) -> None:
    sys.stdout.writelines(f"{line}\n" for line in lines)
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
