"""Programs of ordinary SQL: right ones hold in every order, wrong ones are caught and shrunk."""

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from prompt_studio_model.checking.history import Returned
from tests.harness.interleaving.explorers import every_order
from tests.harness.interleaving.failing import require
from tests.harness.interleaving.plain_tables import PlainPostgres, PlainSqlite
from tests.harness.interleaving.programs import NOT_SERIAL, Programs, ProgramScheduler, SerialJudge, outcome_of
from tests.harness.interleaving.reducing import reduced
from tests.harness.interleaving.runs import Run
from tests.harness.interleaving.scenario import Call
from tests.harness.interleaving.scheduler import follow
from tests.harness.interleaving.schedules import Schedule, preemptions, replay
from tests.harness.interleaving.session import Told
from tests.harness.plugin import CERTIFICATE
from tests.harness.processes import Trouble
from tests.interleaved.conftest import Make, On
from tests.interleaved.programs import (
    RIGHT_ON_POSTGRES,
    RIGHT_ON_SQLITE,
    WRONG_ON_POSTGRES,
    WRONG_ON_SQLITE,
    Connection,
    Wrong,
    increment_unguarded,
    lanes_of,
)

pytestmark = pytest.mark.interleaved

PREEMPTIONS_MAX: Final = 2
REPLAYS: Final = 50
WAIT_SECONDS: Final = 0.05


def on_each(on_sqlite: tuple[Any, ...], on_postgres: tuple[Any, ...]) -> pytest.MarkDecorator:
    """The tables, and each of the programs for them."""

    def name(one: Any) -> str:  # noqa: ANN401 - of programs, or of wrong ones
        return str(getattr(one, "programs", one).name).replace(", ", "-").replace(" ", "_")

    found = [pytest.param(PlainSqlite, one, id=f"sqlite-{name(one)}") for one in on_sqlite]
    found += [pytest.param(PlainPostgres, one, id=f"postgres-{name(one)}") for one in on_postgres]
    return pytest.mark.parametrize(("make", "one"), found)


def by_name(programs: tuple[Programs, ...], name: str) -> Programs:
    return next(one for one in programs if one.name == name)


@on_each(RIGHT_ON_SQLITE, RIGHT_ON_POSTGRES)
def test_every_order_of_a_right_one_holds(
    make: Make, one: Programs, on: On, request: pytest.FixtureRequest, failures: Path
) -> None:
    scheduler = on(make)
    judge = SerialJudge(scheduler)
    begun, orders, played = time.monotonic(), set(), 0
    for run in every_order(scheduler, one):
        require(scheduler, judge, run, failures)
        orders.add(tuple(run.choices))
        played += 1
    assert len(orders) == played > len(one.lanes)
    line = f"{scheduler.location}: {one.name}: every order, {played} schedules, {time.monotonic() - begun:.1f} s"
    request.config.stash[CERTIFICATE].told.append(line)


@on_each(WRONG_ON_SQLITE, WRONG_ON_POSTGRES)
def test_a_wrong_one_is_caught_and_shrunk(make: Make, one: Wrong, on: On, request: pytest.FixtureRequest) -> None:
    scheduler = on(make)
    judge = SerialJudge(scheduler)
    runs = enumerate(every_order(scheduler, one.programs), start=1)
    played, run = next((played, run) for played, run in runs if judge.judge(run).verdict == "violated")
    shortest, _ = reduced(scheduler, run, lambda other: judge.judge(other).verdict == "violated")
    judged = judge.judge(shortest)
    assert judged.names == (NOT_SERIAL,)
    assert one.shown_by in judged.why
    assert preemptions(shortest) <= PREEMPTIONS_MAX
    line = f"{scheduler.location}: {one.programs.name}: wrong, schedule {played}, {preemptions(shortest)} preemptions"
    request.config.stash[CERTIFICATE].told.append(line)


class TestTheJudge:
    def test_allows_what_an_order_comes_to_that_time_allows(self, on: On) -> None:
        scheduler = on(PlainPostgres)
        judge = SerialJudge(scheduler)
        lease = by_name(RIGHT_ON_POSTGRES, "lease")
        alone, together = (scheduler.run(lease, follow(choices)) for choices in ([], ["a", "b"]))
        assert judge.judge(alone).verdict == judge.judge(together).verdict == "holds"
        assert outcome_of(alone) == judge.serial(lease, ("a", "b"))
        assert outcome_of(together) == judge.serial(lease, ("b", "a"))
        for run, order in ((alone, ("b", "a")), (together, ("a", "b"))):
            swap_answers(run)
            run.tables = judge.serial(lease, order).tables
            assert outcome_of(run) == judge.serial(lease, order)
        assert judge.judge(together).verdict == "holds"
        assert judge.judge(alone).verdict == "violated"  # b began after a had ended

    def test_looks_at_the_tables(self, on: On) -> None:
        scheduler = on(PlainSqlite)
        run = scheduler.run(RIGHT_ON_SQLITE[0], follow([]))
        run.tables = ()
        judged = SerialJudge(scheduler).judge(run)
        assert judged.verdict == "violated"
        assert "came to a: 1, b: 2, c: 3; tables ()" in judged.why
        assert "allowed a: 1, b: 2, c: 3; tables (((3,),),)" in judged.why

    @pytest.mark.parametrize("name", ["lease and give back", "withdraw, serializable, or be refused"])
    def test_excuses_only_what_is_said_to_be_allowed(self, on: On, name: str) -> None:
        scheduler = on(PlainPostgres)
        judge = SerialJudge(scheduler)
        weaker = by_name(RIGHT_ON_POSTGRES, name)
        strict = replace(weaker, weaker=None)
        assert any(judge.judge(run).excused for run in every_order(scheduler, weaker))
        assert any(judge.judge(run).verdict == "violated" for run in every_order(scheduler, strict))

    def test_excuses_nobody_who_was_alone(self, on: On) -> None:
        scheduler = on(PlainPostgres)
        weaker = by_name(RIGHT_ON_POSTGRES, "lease and give back")
        run = scheduler.run(weaker, follow([]))
        assert outcome_of(run).answers == (("a", 1), ("b", 1))
        last = run.events[-1]
        assert isinstance(last, Returned)
        run.events[-1] = replace(last, answer=Told(None))
        assert SerialJudge(scheduler).judge(run).verdict == "violated"

    def test_cannot_judge_programs_that_wait_for_each_other(self, on: On) -> None:
        scheduler = on(PlainSqlite)
        endless = Programs(
            name="one waits for another", schema="CREATE TABLE t (n)", reads=(), lanes=lanes_of(insert_after_another)
        )
        with pytest.raises(Trouble, match="no end after"):
            SerialJudge(scheduler).serial(endless, ("a", "b"))


def insert_after_another(connection: Connection) -> None:
    """Never ends, if nobody else has inserted anything."""
    while not connection.execute("SELECT * FROM t").fetchall():
        connection.rollback()


def swap_answers(run: Run) -> None:
    """Answer each of two lanes what the other was answered."""
    ends = [(place, event) for place, event in enumerate(run.events) if isinstance(event, Returned)]
    for (place, event), (_, other) in zip(ends, reversed(ends), strict=True):
        run.events[place] = replace(event, answer=other.answer)


def everything_that_opens_and_ends(connection: Connection) -> None:
    """Each way in which psycopg begins and ends a transaction by itself, and one in which it makes a savepoint."""
    connection.execute("UPDATE counter SET n = 1")
    connection.commit()
    connection.execute("UPDATE counter SET n = 2")
    connection.rollback()
    with connection.transaction():
        connection.execute("UPDATE counter SET n = 3")
        with connection.transaction():
            connection.cursor().execute("UPDATE counter SET n = 4")
    connection.execute("UPDATE counter SET n = 5")  # and nobody commits it


def everything_on_sqlite(connection: Connection) -> None:
    """The same of sqlite3."""
    connection.execute("UPDATE counter SET n = 1")
    connection.commit()
    connection.cursor().executemany("UPDATE counter SET n = ?", [(2,)])
    connection.rollback()
    with connection:
        connection.executemany("UPDATE counter SET n = ?", [(4,)])
    connection.execute("UPDATE counter SET n = 5")


class TestTheGates:
    def whats(self, scheduler: ProgramScheduler, program: Callable[..., None]) -> tuple[list[str], object]:
        counter = by_name(RIGHT_ON_POSTGRES, "count in one statement")
        run = scheduler.run(replace(counter, lanes=lanes_of(program, 1)), follow([]))
        return [step.what for step in run.steps], run.tables

    def test_stand_before_what_psycopg_sends_by_itself(self, on: On) -> None:
        whats, tables = self.whats(on(PlainPostgres), everything_that_opens_and_ends)
        assert whats == [
            *("begin", "update", "commit", "begin", "update", "rollback"),
            *("begin", "update", "savepoint", "update", "release", "commit", "begin", "update", "rollback"),
        ]
        assert tables == (((4,),),)

    def test_stand_before_what_sqlite3_sends_by_itself(self, on: On) -> None:
        whats, tables = self.whats(on(PlainSqlite), everything_on_sqlite)
        assert whats == ["begin", "update", "commit", "begin", "update", "rollback"] * 2
        assert tables == (((4,),),)

    def test_a_program_leaves_nothing_to_the_next_schedule(self, on: On) -> None:
        scheduler = on(PlainPostgres)
        leaves = by_name(RIGHT_ON_POSTGRES, "count in one statement")
        leaves = replace(leaves, lanes=lanes_of(leave_a_lock_and_settings, 1))
        assert [outcome_of(scheduler.run(leaves, follow([]))).answers for _ in range(2)] == [(("a", (0, "on")),)] * 2


def leave_a_lock_and_settings(connection: Connection) -> tuple[int, str]:
    """What was there already: advisory locks of this session, and a setting."""
    query = "SELECT COUNT(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
    locks: int = connection.execute(query).fetchone()[0]
    setting: str = connection.execute("SHOW enable_seqscan").fetchone()[0]
    connection.execute("SELECT pg_advisory_lock(7)")
    connection.execute("SET enable_seqscan = off")
    connection.commit()
    return locks, setting


class TestADeadlock:
    @pytest.mark.parametrize("choices", ["aabbab", "abbaba", "ababba"])
    def test_is_broken_by_whoever_came_last_and_each_replay_is_the_same(self, on: On, choices: str) -> None:
        scheduler = on(PlainPostgres)
        transfer = next(one.programs for one in WRONG_ON_POSTGRES if one.shown_by == "40P01")
        run = scheduler.run(transfer, follow(choices))
        assert dict(outcome_of(run).answers)[choices[-1]] == "error 40P01"
        kept = Schedule.of(run, scheduler.location)
        for _ in range(REPLAYS):
            assert outcome_of(replay(scheduler, transfer, kept)) == outcome_of(run)


class TestThePatienceOfSqlite:
    """What the gated connection does in steps is what SQLite's own busy timeout does: wait, or give up at once."""

    @contextmanager
    def held(self, path: Path) -> Iterator[sqlite3.Connection]:
        """A file that somebody is writing to, and a connection that waits for a little."""
        with (
            closing(sqlite3.connect(path, isolation_level=None)) as writer,
            closing(sqlite3.connect(path, isolation_level=None, timeout=WAIT_SECONDS)) as other,
        ):
            writer.execute("PRAGMA journal_mode = WAL").fetchall()
            writer.execute("CREATE TABLE counter (n INTEGER)")
            other.execute("BEGIN")
            other.execute("SELECT * FROM counter").fetchall()
            writer.execute("BEGIN IMMEDIATE")
            writer.execute("INSERT INTO counter VALUES (1)")
            yield other

    def waited(self, connection: sqlite3.Connection, statement: str) -> float:
        begun = time.monotonic()
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            connection.execute(statement)
        return time.monotonic() - begun

    def test_ends_at_once_where_something_was_read(self, tmp_path: Path) -> None:
        with self.held(tmp_path / "one.db") as other:
            assert self.waited(other, "UPDATE counter SET n = 2") < WAIT_SECONDS

    @pytest.mark.parametrize(
        "begin", ["BEGIN IMMEDIATE", "BEGIN; UPDATE counter SET n = 2", "UPDATE counter SET n = 2"]
    )
    def test_lasts_where_nothing_was_read(self, tmp_path: Path, begin: str) -> None:
        with self.held(tmp_path / "one.db") as other:
            other.execute("ROLLBACK")
            *before, last = begin.split("; ")
            for statement in before:
                other.execute(statement)
            assert self.waited(other, last) >= WAIT_SECONDS


def test_a_program_with_a_mistake_of_its_own_ends_the_run(on: On) -> None:
    scheduler = on(PlainSqlite)
    mistaken = Programs(name="a mistake", schema="CREATE TABLE t (n)", reads=(), lanes=lanes_of(increment_unguarded, 1))
    ends_so = outcome_of(scheduler.run(mistaken, follow([]))).answers
    assert ends_so == (("a", "error SQLITE_ERROR"),)  # the database's own errors are answers
    with pytest.raises(Trouble, match="ZeroDivisionError"):
        scheduler.run(replace(mistaken, lanes={"a": (Call(program=divide),)}), follow([]))


def divide(connection: Connection) -> float:
    del connection
    return 1 / 0
