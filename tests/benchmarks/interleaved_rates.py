"""`python -m tests.benchmarks.interleaved_rates`: how many schedules a second, what gates cost, where the time goes.

For each store two claims of one job, in orders chosen at random: schedules and steps a second; the same calls by the
same number of processes without gates, begun together, from the same beginning; and the ratio of the two. They are
measured in turns, so that other work on the machine meets both.

Then what the processors did during the schedules, as the kernel counts it for each process: the scheduler, the worker
processes (with the database in them, if it is a file), the server's processes. What is left is nobody's: messages on
their way, processes being woken, or waiting for a processor.
"""

import argparse
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.harness.interleaving.explorers import uniform
from tests.harness.interleaving.free import FreeRunner, FreeWorker
from tests.harness.interleaving.ground import lent
from tests.harness.interleaving.scenario import Scenario
from tests.harness.interleaving.scenarios import TWO_SESSIONS
from tests.harness.interleaving.scheduler import Scheduler
from tests.harness.interleaving.session import SessionWorker
from tests.harness.locations import LOCATIONS, Location
from tests.harness.processes import Pool

WORKERS: Final = 2
SCHEDULES: Final = 2_000
TURNS: Final = 10
WARM_UP: Final = 20
NANOSECONDS: Final = 1_000_000_000
TWO_CLAIMS: Final[Scenario] = TWO_SESSIONS[0]


def processor_seconds(processes: Iterable[int]) -> float:
    """How long these processes have been on a processor, all together; one that is gone counts nothing.

    Raises:
        LookupError: the kernel does not count it.
    """
    seconds = 0.0
    for process in processes:
        counted = Path(f"/proc/{process}/schedstat")
        try:
            seconds += int(counted.read_text(encoding="ascii").split()[0]) / NANOSECONDS
        except FileNotFoundError:
            if not Path("/proc/self/schedstat").exists():
                raise LookupError("this kernel does not count how long each process runs (/proc/*/schedstat)") from None
    return seconds


@dataclass(slots=True)
class Rates:
    """What was measured on one store. Seconds are those of all schedules, or of all rounds."""

    store: str
    schedules: int = 0
    steps: int = 0
    seconds: float = 0.0
    free_seconds: float = 0.0
    scheduler: float = 0.0
    workers: float = 0.0
    server: float = 0.0

    def lines(self) -> list[str]:
        """For people."""
        rate, free = self.schedules / self.seconds, self.schedules / self.free_seconds
        rest = self.seconds - self.scheduler - self.workers - self.server
        shares = {
            "scheduler": self.scheduler,
            "workers": self.workers,
            "server": self.server,
            "messages and waking": max(rest, 0.0),
        }
        told = ", ".join(f"{name} {100 * part / self.seconds:.0f} %" for name, part in shares.items())
        played = (
            f"{self.store:<20} {rate:>6.0f} schedules/s {self.steps / self.seconds:>7.0f} steps/s "
            f"{self.steps / self.schedules:>5.1f} steps each; without gates {free:>6.0f}/s, "
            f"which is {free / rate:.2f} times as many"
        )
        return [played, f"{'':<20} {told}"]


def measured(
    location: Location, pool: Pool[SessionWorker], free: Pool[FreeWorker], schedules: int, turns: int
) -> Rates:
    """Measure one store."""
    rates, source = Rates(location.name), random.Random(0)  # noqa: S311 - the same schedules each time
    with tempfile.TemporaryDirectory(prefix="rates-") as directory:
        places = [Path(directory) / name for name in ("gated", "free")]
        for place in places:
            place.mkdir()
        with lent(pool, location, places[0]) as ground, lent(free, location, places[1]) as other:
            scheduler, runner = Scheduler(pool, ground), FreeRunner(free, other)
            _repeat(lambda: scheduler.run(TWO_CLAIMS, uniform(source)), WARM_UP)
            _repeat(lambda: runner.run(TWO_CLAIMS), WARM_UP)
            ours = {
                "scheduler": [os.getpid()],
                "workers": [pool.process_id(number) for number in pool.numbers],
                "server": sorted(location.sessions(ground.address)),
            }
            for _ in range(turns):
                before = {name: processor_seconds(processes) for name, processes in ours.items()}
                begun = time.monotonic()
                for _ in range(schedules // turns):
                    rates.steps += len(scheduler.run(TWO_CLAIMS, uniform(source)).steps)
                    rates.schedules += 1
                rates.seconds += time.monotonic() - begun
                for name, processes in ours.items():
                    taken = processor_seconds(processes) - before[name]
                    setattr(rates, name, getattr(rates, name) + taken)
                begun = time.monotonic()
                _repeat(lambda: runner.run(TWO_CLAIMS), schedules // turns)
                rates.free_seconds += time.monotonic() - begun
    return rates


def _repeat(play: Callable[[], object], times: int) -> None:
    for _ in range(times):
        play()


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure each store and print."""
    summary = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.interleaved_rates", description=summary[2])
    parser.add_argument("--schedules", type=int, default=SCHEDULES, help="of each store (default: %(default)s)")
    parser.add_argument("--turns", type=int, default=TURNS, help="in which they are divided (default: %(default)s)")
    parser.add_argument("--store", default="", help="only stores whose name contains this")
    asked = parser.parse_args(arguments)
    chosen = [location for location in LOCATIONS if asked.store in location.name]
    if not chosen or not 0 < asked.turns <= asked.schedules:
        parser.error("there is nothing to measure: see --help")
    preload = ("prompt_studio", "psycopg")
    pool: Pool[SessionWorker] = Pool(WORKERS, SessionWorker, preload=preload)
    free: Pool[FreeWorker] = Pool(WORKERS, FreeWorker, preload=preload)
    try:
        for location in chosen:
            sys.stdout.write("\n".join([*measured(location, pool, free, asked.schedules, asked.turns).lines(), ""]))
            sys.stdout.flush()
    finally:
        pool.close()
        free.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
