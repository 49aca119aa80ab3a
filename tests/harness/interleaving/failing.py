"""What to do with a schedule that does not hold: make it short, write it down, and say how to play it again."""

import re
import sqlite3
from pathlib import Path
from typing import Final, Protocol

import psycopg

from tests.harness.interleaving.judging import Judgement
from tests.harness.interleaving.reducing import reduced
from tests.harness.interleaving.runs import Run
from tests.harness.interleaving.scheduler import Scheduler
from tests.harness.interleaving.schedules import Schedule, preemptions
from tests.harness.violation import Violation


class AnyJudge(Protocol):
    """Whoever says whether a schedule holds."""

    def judge(self, run: Run) -> Judgement:
        """Say so."""


OURS: Final = (AssertionError, OSError, EOFError, sqlite3.Error, psycopg.Error)
"""What went wrong here, and says nothing of the store: `Trouble` is an AssertionError, pipes and files break with an
OSError or an EOFError, and the scheduler has connections of its own."""


def require(scheduler: Scheduler, judge: AnyJudge, run: Run, directory: Path) -> Judgement:
    """Judge a run; one that is wrong is shortened and kept in this directory.

    Raises:
        Violation: it does not hold.
    """
    judged = judge.judge(run)
    if judged.verdict != "violated":
        assert judged.verdict == "holds", judged.why
        return judged
    shortest, played = reduced(scheduler, run, lambda other: judge.judge(other).names == judged.names)
    path = keep(shortest, scheduler.location, judged.names, directory)
    raise Violation(
        list(judged.names),
        f"{judge.judge(shortest).why}\n{preemptions(shortest)} preemptions, after {played} schedules to make it short\n"
        f"to play it again: pytest -m stateful --replay={path}",
    )


def keep(run: Run, store: str, names: tuple[str, ...], directory: Path) -> Path:
    """Write a schedule down; where it is."""
    directory.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"\W+", "-", f"{store} {run.scenario.name} {' '.join(names)}")
    path = directory / f"{name}.json"
    Schedule.of(run, store, names).write(path)
    return path
