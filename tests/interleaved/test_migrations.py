"""A migration beside a program of the old schema: what that one commits is converted, or it is refused."""

import random
from pathlib import Path

import pytest

from tests.harness.interleaving.explorers import every_order, uniform
from tests.harness.interleaving.failing import require
from tests.harness.interleaving.plain_tables import PlainPostgres, PlainSqlite
from tests.harness.interleaving.programs import NOT_SERIAL, Programs, SerialJudge
from tests.harness.interleaving.reducing import reduced
from tests.harness.interleaving.schedules import preemptions
from tests.harness.plugin import CERTIFICATE
from tests.interleaved.conftest import Make, On
from tests.interleaved.migrations import (
    RIGHT_MIGRATIONS_OF_POSTGRES,
    RIGHT_MIGRATIONS_OF_SQLITE,
    WRONG_MIGRATION,
)

pytestmark = pytest.mark.interleaved

PREEMPTIONS_MAX = 1
"""In each run: wherever one of the two is, the other goes on to its end or until it waits."""

EACH_TIME, *MORE = RIGHT_MIGRATIONS_OF_POSTGRES
RIGHT = [
    *(pytest.param(PlainSqlite, one, id=f"sqlite-{one.name}") for one in RIGHT_MIGRATIONS_OF_SQLITE),
    pytest.param(PlainPostgres, EACH_TIME, id=f"postgres-{EACH_TIME.name}"),
    # To make the tables of Postgres anew for each schedule takes longer than all the rest of it.
    *(pytest.param(PlainPostgres, one, id=f"postgres-{one.name}", marks=pytest.mark.soak) for one in MORE),
]


@pytest.mark.verifies("PS-MIGRATION-4", "PS-MIGRATION-6")
@pytest.mark.parametrize(("make", "one"), RIGHT)
def test_wherever_the_other_cuts_in_both_are_as_one_after_another(
    make: Make, one: Programs, on: On, failures: Path
) -> None:
    scheduler = on(make)
    judge, runs = SerialJudge(scheduler), list(every_order(scheduler, one, preemptions=PREEMPTIONS_MAX))
    for run in runs:
        require(scheduler, judge, run, failures)
    assert {run.choices[0] for run in runs} == {"a", "b"}
    assert any("busy" in step.outcome or "blocked" in step.outcome for run in runs for step in run.steps)


@pytest.mark.soak
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize(("make", "one"), RIGHT)
def test_many_orders_hold(make: Make, one: Programs, on: On, failures: Path, request: pytest.FixtureRequest) -> None:
    seed = request.config.stash[CERTIFICATE].seed
    scheduler, source = on(make), random.Random(f"{seed} {one.name}")  # noqa: S311 - the certificate names the seed
    judge = SerialJudge(scheduler)
    for _ in range(500):
        require(scheduler, judge, scheduler.run(one, uniform(source)), failures)


@pytest.mark.verifies("PS-MIGRATION-4")
def test_a_migration_that_locks_nothing_loses_what_the_other_did(on: On) -> None:
    scheduler = on(PlainPostgres)
    judge, programs = SerialJudge(scheduler), WRONG_MIGRATION.programs
    runs = every_order(scheduler, programs, preemptions=2)
    run = next(run for run in runs if judge.judge(run).verdict == "violated")
    shortest, _ = reduced(scheduler, run, lambda other: judge.judge(other).verdict == "violated")
    judged = judge.judge(shortest)
    assert judged.names == (NOT_SERIAL,)
    assert WRONG_MIGRATION.shown_by in judged.why
    assert preemptions(shortest) <= PREEMPTIONS_MAX
