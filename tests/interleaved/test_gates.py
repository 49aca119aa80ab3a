"""Nothing slips past the gates: a step sends one statement, says the server's own log; and what they rely on holds."""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest
from psycopg import _connection_base, _cursor_base

from prompt_studio_model import operations as op
from tests.harness.interleaving.ground import ground_at
from tests.harness.interleaving.runs import Step
from tests.harness.interleaving.scenario import KEY, Mine, Scenario
from tests.harness.interleaving.scenarios import SCENARIOS, acquire, ends_processes, job
from tests.harness.interleaving.scheduler import Scheduler, follow
from tests.harness.interleaving.session import SessionWorker
from tests.harness.locations import SQLITE, WITH_LOCKS, WITHOUT_LOCKS, Location
from tests.harness.postgres_server import PrivateServer
from tests.harness.processes import Pool
from tests.interleaved.leaky import LeakyWorker, NotingWorker
from tests.interleaved.logging_server import Log, logging_ground

pytestmark = pytest.mark.interleaved

EVERYTHING: Final = Scenario(
    "every operation",
    (job(), job(max_retries=0), acquire("old"), op.Tick(milliseconds=1_000)),
    {
        "a": (
            op.Create(session="a", request=(1, None, "{}", "client")),
            acquire("a"),
            Mine(op.Renew, {"lease": 2_000}),
            Mine(op.Complete),
            acquire("a"),
            Mine(op.Fail, {"spread": 500}),
            op.UpdateStatus(session="a", job_id=3, status="failed"),
            op.Retry(session="a", job_id=3, spread=500),
            op.Cancel(session="a", job_id=3),
            op.Cleanup(session="a", age=0),
            op.Record(session="a", scope=KEY, entity_id=1),
            op.Record(session="a", scope=KEY._replace(user_id=None), entity_id=1),
            op.Lookup(session="a", scope=KEY),
            op.Lookup(session="a", scope=KEY._replace(user_id=None)),
        ),
        "b": (acquire("b"), Mine(op.Release), op.Complete(session="b", job_id=9, token=1)),
    },
)
PLAYED: Final = (EVERYTHING, *(scenario for scenario in SCENARIOS if not ends_processes(scenario)))
NO_STATEMENT: Final = re.compile(r"\.\.\.|tick |stop |continue |no statement|left out")


@pytest.fixture(scope="module")
def server() -> Iterator[PrivateServer]:
    """A server that writes down every statement, and whose."""
    server = PrivateServer.start()
    with psycopg.connect(server.dsn("postgres"), autocommit=True) as session:
        session.execute("ALTER SYSTEM SET log_line_prefix = '[%p] '")
        session.execute("ALTER SYSTEM SET log_statement = 'all'")
        session.execute("SELECT pg_reload_conf()")
    yield server
    server.stop()


def unseen(scheduler: Scheduler, log: Log, scenario: Scenario) -> list[tuple[Step, list[str]]]:
    """The steps in which the sessions sent anything but the statement that the gate has seen."""
    wrong: list[tuple[Step, list[str]]] = []
    ours: set[int] = set()

    def compare(step: Step) -> None:
        ours.update({step.server_process} - {0})
        sent = [name for process, name in log.statements() if process in ours]
        if sent != ([] if NO_STATEMENT.match(step.what) else [step.what]):
            wrong.append((step, sent))

    def choose(number: int, current: str | None, enabled: Any) -> str:  # noqa: ANN401 - as `follow` has it
        if number == 0:
            log.statements()  # of the beginning
        return follow(())(number, current, enabled)

    scheduler.run(scenario, choose, tell=compare)
    return wrong


class TestNothingSlipsPast:
    @pytest.mark.parametrize("location", [WITH_LOCKS, WITHOUT_LOCKS], ids=lambda location: location.name)
    def test_says_the_log_of_the_server(
        self, server: PrivateServer, location: Location, pool: Pool[SessionWorker], tmp_path: Path
    ) -> None:
        with logging_ground(server, location, tmp_path) as ground:
            scheduler, log = Scheduler(pool, ground), Log(server)
            try:
                assert [wrong for scenario in PLAYED for wrong in unseen(scheduler, log, scenario)] == []
            finally:
                pool.all(SessionWorker.leave)

    def test_unless_the_log_says_so(self, server: PrivateServer, tmp_path: Path) -> None:
        pool: Pool[Any] = Pool(2, LeakyWorker, preload=("prompt_studio", "psycopg"))
        try:
            with logging_ground(server, WITH_LOCKS, tmp_path) as ground:
                wrong = unseen(Scheduler(pool, ground), Log(server), EVERYTHING)
                pool.all(SessionWorker.leave)
        finally:
            pool.close()
        assert {"begin", "commit"} <= {name for _, sent in wrong for name in sent}

    def test_says_the_store_on_sqlite(self, tmp_path: Path) -> None:
        pool: Pool[Any] = Pool(2, NotingWorker, preload=("prompt_studio",))
        try:
            ground = ground_at(SQLITE, tmp_path)
            scheduler = Scheduler(pool, ground)
            scheduler.run(EVERYTHING, follow(()))
            for scenario in PLAYED:
                if len(scenario.sessions) > 2:
                    continue
                for number in pool.numbers:
                    pool.ask(number, NotingWorker.noted)
                    pool.answer(number)
                run = scheduler.run(scenario, follow(()))
                for number, lane in enumerate(scenario.sessions):
                    pool.ask(number, NotingWorker.noted)
                    asked = [_verb(name) for name in pool.answer(number)]
                    seen = [step.what for step in run.steps if step.lane == lane and not NO_STATEMENT.match(step.what)]
                    assert _once(seen) == _once(asked), scenario.name
            pool.all(SessionWorker.leave)
            ground.close()
        finally:
            pool.close()


def _verb(name: str) -> str:
    """The store's name for its BEGIN is not in the text."""
    return "begin" if name.startswith("begin") else name


def _once(names: list[str]) -> list[str]:
    """SQLite tells of a statement again where a trigger of it begins."""
    return [name for name, _ in groupby(names)]


class TestWhatTheGatesRelyOn:
    def test_psycopg_has_the_three_ways_out(self) -> None:
        assert callable(_cursor_base.BaseCursor._maybe_prepare_gen)
        assert callable(_cursor_base.BaseCursor._start_copy_gen)
        assert callable(_connection_base.BaseConnection._exec_command)

    def test_sqlite_tells_of_a_statement_before_it_has_done_anything(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        seen: list[tuple[str, int]] = []
        with closing(sqlite3.connect(path)) as writer, closing(sqlite3.connect(path)) as reader:
            writer.execute("CREATE TABLE t (x)")

            def look(statement: str) -> None:
                seen.append((statement, reader.execute("SELECT COUNT(*) FROM t").fetchone()[0]))

            writer.set_trace_callback(look)
            writer.execute("INSERT INTO t VALUES (1)")  # Python begins by itself
            writer.commit()
        assert [(statement.split()[0], rows) for statement, rows in seen] == [
            ("BEGIN", 0),
            ("INSERT", 0),
            ("COMMIT", 0),
        ]

    def test_sqlite_says_that_it_is_locked_by_a_number(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        with (
            closing(sqlite3.connect(path, isolation_level=None)) as one,
            closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as other,
        ):
            one.execute("BEGIN IMMEDIATE")
            with pytest.raises(sqlite3.OperationalError) as refused:
                other.execute("BEGIN IMMEDIATE")
        assert refused.value.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
