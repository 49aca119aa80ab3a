"""How Postgres finds the rows: a claim must not become slower as waiting jobs pile up, whatever the planner believes.

The plans are those of the production statements, with the production clock, as a server makes them for a prepared
statement. Each statement is carried out, and rolled back.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final, cast

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import DictRow, dict_row

from prompt_studio import PromptStudioDatabase, Settings
from prompt_studio.storage.postgres import connection
from prompt_studio.storage.postgres.dialect import PostgresDialect
from prompt_studio.storage.statements import Statements
from tests.conformance.rows import claimed
from tests.conformance.stores import await_farewell
from tests.harness.postgres_server import Server

pytestmark = pytest.mark.conformance

TABLE: Final = "prompt_studio_job_queue"
BY_ID: Final = "prompt_studio_job_queue_pkey"
QUEUED: Final = "prompt_studio_job_queue_claim_queued"
PROCESSING: Final = "prompt_studio_job_queue_claim_processing"
ENDED: Final = "prompt_studio_job_queue_ended"

BEST: Final = 29  # of the jobs with the highest priority the third, since two are refused

QUEUED_ROWS: Final = 99_000
LIVE_ROWS: Final = 900
EXPIRED_ROWS: Final = 100
ENDED_ROWS: Final = 20_000
RENEWALS: Final = 1_000
HOT_SHARE_MIN: Final = 0.95

PLANNERS: Final[dict[str, dict[str, str]]] = {
    "as it comes": {},
    "generic": {"plan_cache_mode": "force_generic_plan"},
    "custom": {"plan_cache_mode": "force_custom_plan"},
    "no nested loop": {"enable_nestloop": "off"},
    "no hash join": {"enable_hashjoin": "off"},
    "no merge join": {"enable_mergejoin": "off"},
    "hash joins only": {"enable_nestloop": "off", "enable_mergejoin": "off"},
    "merge joins only": {"enable_nestloop": "off", "enable_hashjoin": "off", "plan_cache_mode": "force_generic_plan"},
}
every_planner = pytest.mark.parametrize("settings", PLANNERS.values(), ids=PLANNERS)

VALUES: Final[dict[str, object]] = {
    "advisory_locks": True,
    "age_milliseconds": 1,
    "entity_id": 7,
    "entity_type": "job",
    "error_message": "boom",
    "fails_exhausted": True,
    "held": [1_000_001, 1_000_002],
    "idempotency_key": "k7",
    "ids": "[7]",
    "impatient": ["1/0"],
    "job_id": 7,
    "job_type": "evaluation",
    "job_type_1": "evaluation",
    "job_type_2": "optimization",
    "job_type_3": "generation",
    "lease_milliseconds": 60_000,
    "lease_milliseconds_1": 60_000,
    "lease_milliseconds_2": 60_000,
    "lease_milliseconds_3": 60_000,
    "lease_token": 1,
    "limit": 5,
    "refused": [9, 19],
    "result": "{}",
    "retention_milliseconds": 1_000,
    "spread": 1_000,
    "user_id": "u7",
    "uuid": "queued-7",
    "warn_milliseconds": 30_000,
    "worker_id": "w",
}
TYPES: Final[dict[type, str]] = {bool: "boolean", int: "bigint", str: "unknown", list: "unknown"}


@dataclass
class Plan:
    """What a server did for a statement."""

    nodes: list[dict[str, Any]]
    locks: list[int]
    """The jobs whose advisory lock was taken, and has been given back."""

    def reads(self) -> list[tuple[str, str]]:
        """How each read of a table of ours was done, and by which index."""
        return sorted(
            (node["Node Type"], node.get("Index Name", ""))
            for node in self.nodes
            if "Relation Name" in node and node["Node Type"] != "ModifyTable"
        )

    def rows(self, node_type: str) -> list[int]:
        """How many rows came out of each node of this type."""
        return [round(node["Actual Rows"]) for node in self.nodes if node["Node Type"] == node_type]

    def visited(self, index: str) -> int:
        """How many rows were looked at by way of an index."""
        return sum(
            round(node["Actual Rows"]) + node.get("Rows Removed by Filter", 0)
            for node in self.nodes
            if node.get("Index Name") == index
        )


def nodes(tree: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    yield dict(tree)
    for below in tree.get("Plans", ()):
        yield from nodes(below)


class Planner:
    """A large queue, and what the server makes of each statement there."""

    def __init__(self, session: psycopg.Connection[DictRow], statements: Statements) -> None:
        self.session = session
        self._statements = statements

    def plan(self, name: str, settings: Mapping[str, str]) -> Plan:
        """The plan of a statement that was prepared, carried out, and rolled back."""
        text = self._statements[name].sql
        given = {name: VALUES[name] for name in dict.fromkeys(re.findall(r"%\((\w+)\)s", text))}
        for number, parameter in enumerate(given, start=1):
            text = text.replace(f"%({parameter})s", f"${number}")
        types = ", ".join(TYPES[type(value)] for value in given.values())
        arguments = sql.SQL(", ").join(sql.Literal(value) for value in given.values())
        with self.session.transaction(force_rollback=True):
            for setting, value in settings.items():
                self.session.execute("SELECT set_config(%s, %s, true)", (setting, value))
            self.session.execute(cast("Any", f"PREPARE probe ({types}) AS {text}"), prepare=False)
            call = sql.SQL("EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE probe ({})").format(arguments)
            row = self.session.execute(call, prepare=False).fetchone()
            assert row is not None
            self.session.execute("DEALLOCATE probe")
        return Plan(list(nodes(row["QUERY PLAN"][0]["Plan"])), self._unlocked())

    def _unlocked(self) -> list[int]:
        """The jobs whose lock this session had, each once."""
        rows = self.session.execute(cast("Any", self._statements["own_locks"].sql)).fetchall()
        for row in rows:
            freed = self.session.execute("SELECT pg_advisory_unlock(%s) AS once", (row["job_id"],)).fetchone()
            again = self.session.execute("SELECT pg_advisory_unlock(%s) AS twice", (row["job_id"],)).fetchone()
            assert (freed, again) == ({"once": True}, {"twice": False})
        return [row["job_id"] for row in rows]


def fill(session: psycopg.Connection[DictRow]) -> None:
    """As many jobs as a busy installation has, with ten priorities; the best have the ids 9, 19, 29."""
    for status, count, leased_until in (
        ("queued", QUEUED_ROWS, None),
        ("processing", LIVE_ROWS, "1 hour"),
        ("processing", EXPIRED_ROWS, "-1 hour"),
    ):
        session.execute(
            """
            INSERT INTO prompt_studio_job_queue (uuid, job_type, entity_id, priority, status, payload, client_id,
                created_at, available_at, execution_limit, started_at, leased_until,
                lease_owner, lease_token, executions)
            SELECT %(label)s || n, 'evaluation', n, CASE WHEN %(leased)s::text IS NULL THEN 1 + n %% 10 ELSE 5 END,
                %(status)s, '{}', 'tester', clock_timestamp() - INTERVAL '1 day' + n * INTERVAL '1 ms',
                clock_timestamp() - INTERVAL '1 hour', 4,
                CASE WHEN %(leased)s::text IS NOT NULL THEN clock_timestamp() END,
                clock_timestamp() + CAST(%(leased)s::text AS INTERVAL),
                CASE WHEN %(leased)s::text IS NOT NULL THEN 'somebody' END,
                CASE WHEN %(leased)s::text IS NULL THEN 0 ELSE 1 END,
                CASE WHEN %(leased)s::text IS NULL THEN 0 ELSE 1 END
            FROM generate_series(1, %(count)s) AS n
            """,
            {"label": f"{status}{leased_until or ''}-", "leased": leased_until, "status": status, "count": count},
        )
    session.execute(
        """
        INSERT INTO prompt_studio_job_queue (uuid, job_type, entity_id, status, payload, client_id, created_at,
            available_at, completed_at, execution_limit)
        SELECT 'ended-' || n, 'evaluation', n, 'cancelled', '{}', 'tester', clock_timestamp(), clock_timestamp(),
            clock_timestamp() - INTERVAL '1 hour' + n * INTERVAL '1 ms', 4 FROM generate_series(1, %s) AS n
        """,
        (ENDED_ROWS,),
    )
    session.execute(
        """
        INSERT INTO prompt_studio_idempotency (entity_type, idempotency_key, user_id, entity_id, created_at)
        SELECT 'job', 'k' || n, CASE WHEN n % 2 = 1 THEN 'u' || n END, n, clock_timestamp()
        FROM generate_series(1, 20000) AS n
        """
    )


@pytest.fixture(scope="module")
def large(postgres_server: Server) -> Iterator[str]:
    """A database with a large queue in it, of which the server has no statistics."""
    name = postgres_server.create_database()
    dsn = postgres_server.dsn(name)
    PromptStudioDatabase(dsn, "tester", settings=Settings()).close()
    with closing(psycopg.connect(dsn, autocommit=True, row_factory=dict_row)) as session:
        fill(session)
    yield dsn
    postgres_server.drop_database(name)


@pytest.fixture
def small(postgres_database: str) -> Iterator[Planner]:
    """A queue of which the server knows that it is small."""
    statements = PostgresDialect(postgres_database, Settings(), clock=None, create=False).statements
    with PromptStudioDatabase(postgres_database, "tester", settings=Settings()) as database:
        for number in range(10):
            database.create_job("evaluation", number, {})
    with closing(connection.Server(postgres_database, Settings()).connect()) as session:
        session.execute("ANALYZE")
        yield Planner(session, statements)


@pytest.fixture
def old(small: Planner) -> Planner:
    """A small queue that was large once."""
    small.session.execute(
        """
        INSERT INTO prompt_studio_job_queue (uuid, job_type, entity_id, status, payload, client_id, created_at,
            available_at, completed_at, execution_limit)
        SELECT 'ended-' || n, 'evaluation', n, 'cancelled', '{}', 'tester', clock_timestamp(), clock_timestamp(),
            clock_timestamp(), 4 FROM generate_series(1, %s) AS n
        """,
        (ENDED_ROWS,),
    )
    small.session.execute("ANALYZE")
    return small


@pytest.fixture(scope="module", params=[False, True], ids=["unknown", "analyzed"])
def planner(large: str, request: pytest.FixtureRequest) -> Iterator[Planner]:
    statements = PostgresDialect(large, Settings(), clock=None, create=False).statements
    with closing(connection.Server(large, Settings()).connect()) as session:  # set up as the store's own
        if request.param:
            session.execute("ANALYZE")
        yield Planner(session, statements)


class TestPlans:
    @every_planner
    @pytest.mark.verifies("PS-LOCKS-5")
    def test_of_a_claim_read_each_partial_index_once_and_lock_one_job(
        self, planner: Planner, settings: dict[str, str]
    ) -> None:
        plan = planner.plan("acquire_best_job", settings)
        assert plan.reads() == [
            ("Index Scan", PROCESSING),
            ("Index Scan", QUEUED),
            *2 * [("Index Scan", BY_ID)],  # the claim, and the exhaustion, which was not needed
        ]
        assert sum(plan.rows("LockRows")) <= 2
        assert sorted(plan.rows("ModifyTable")) == [0, 1]
        assert plan.visited(QUEUED) == 3  # the two that are refused, and the one
        assert plan.locks == [BEST]

    @pytest.mark.parametrize(
        ("name", "index"),
        [
            ("acquire_best_job", QUEUED),
            ("get_job", BY_ID),
            ("lookup_key_of_user", "uq_ps_idem_user"),
        ],
    )
    @pytest.mark.verifies("PS-LOCKS-5")
    def test_that_are_made_while_the_queue_is_small_will_do_when_it_is_large(
        self, small: Planner, name: str, index: str
    ) -> None:
        reads = small.plan(name, PLANNERS["generic"]).reads()
        assert {node for node, _ in reads} == {"Index Scan"}
        assert ("Index Scan", index) in reads

    def test_that_sort_the_queue_are_noticed(self, planner: Planner) -> None:
        plan = planner.plan("acquire_best_job", {"enable_indexscan": "off", "enable_bitmapscan": "on"})
        assert ("Index Scan", QUEUED) not in plan.reads()
        assert plan.rows("Sort") != []

    @every_planner
    def test_of_a_claim_of_one_job_find_it_by_its_id(self, planner: Planner, settings: dict[str, str]) -> None:
        plan = planner.plan("acquire_this_job", settings)
        assert plan.reads() == 2 * [("Index Scan", BY_ID)]
        assert plan.rows("ModifyTable") == [1]
        assert plan.locks == [7]

    @every_planner
    @pytest.mark.parametrize(
        "name",
        [
            "renew_lease",
            "renew_lease_by_owner",
            "complete_job",
            "fail_job",
            "fail_or_requeue_job",
            "release_job",
            "set_completed",
            "set_failed",
            "set_cancelled",
            "requeue_running_job",
            "retry_failed_job",
            "get_job",
            "hold_job",
        ],
    )
    def test_of_a_call_on_one_job_find_it_by_its_id(
        self, planner: Planner, settings: dict[str, str], name: str
    ) -> None:
        assert planner.plan(name, settings).reads() == [("Index Scan", BY_ID)]

    @pytest.mark.parametrize(
        ("name", "index"),
        [
            ("list_queued_jobs", QUEUED),
            ("list_processing_jobs", PROCESSING),
            ("list_jobs_for_entity_ascending", "prompt_studio_job_queue_entity"),
            ("list_jobs_for_entity_descending", "prompt_studio_job_queue_entity"),
            ("get_job_by_uuid", "prompt_studio_job_queue_uuid_key"),
        ],
    )
    @pytest.mark.parametrize("mode", ["generic", "custom"])
    def test_of_a_list_follow_its_index(self, planner: Planner, name: str, index: str, mode: str) -> None:
        assert planner.plan(name, PLANNERS[mode]).reads() == [("Index Scan", index)]

    @pytest.mark.verifies("PS-LEASE-HB-23")
    @pytest.mark.parametrize("name", ["count_queued_jobs", "count_processing_jobs", "lease_stats"])
    @pytest.mark.parametrize("mode", ["generic", "custom"])
    def test_of_a_scrape_look_at_no_job_that_has_ended(self, old: Planner, name: str, mode: str) -> None:
        plan = old.plan(name, PLANNERS[mode])
        assert "Seq Scan" not in {kind for kind, _ in plan.reads()}
        assert {node["Index Name"] for node in plan.nodes if "Index Name" in node} <= {QUEUED, PROCESSING}

    @every_planner
    @pytest.mark.verifies("PS-CONCURRENCY-21")
    def test_of_a_cleanup_follow_the_order_of_the_ends_and_find_each_job_by_its_id(
        self, planner: Planner, settings: dict[str, str]
    ) -> None:
        (listed,) = planner.plan("list_jobs_to_clean_up", settings).reads()
        assert listed[1] == ENDED
        assert planner.plan("list_jobs_to_clean_up", settings).rows("Sort") == []
        for name in ("pick_jobs_to_clean_up", "cleanup_jobs"):
            assert planner.plan(name, settings).reads() == [("Index Scan", BY_ID)]

    @every_planner
    @pytest.mark.parametrize(
        ("name", "index"),
        [("lookup_key_of_user", "uq_ps_idem_user"), ("lookup_key_without_user", "uq_ps_idem_without_user")],
    )
    def test_of_a_lookup_use_the_scopes_own_index(
        self, planner: Planner, settings: dict[str, str], name: str, index: str
    ) -> None:
        assert planner.plan(name, settings).reads() == [("Index Scan", index)]

    @every_planner
    @pytest.mark.verifies("PS-IDEMPOTENCY-SCOPE-1")
    def test_of_a_users_lookup_use_the_whole_index(self, planner: Planner, settings: dict[str, str]) -> None:
        (node,) = (node for node in planner.plan("lookup_key_of_user", settings).nodes if "Index Cond" in node)
        for part in ("entity_type = ", "idempotency_key = ", "sha256("):
            assert part in node["Index Cond"]


class TestClaims:
    @pytest.mark.verifies("PS-LOCKS-5", "PS-CONCURRENCY-1")
    def test_take_one_row_and_one_lock_each(self, large: str, planner: Planner) -> None:
        locks = """
            SELECT COUNT(*) AS locks FROM pg_locks WHERE locktype = 'advisory'
                AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        """
        with PromptStudioDatabase(large, "tester", settings=Settings()) as database:
            before, jobs = database.count_jobs(status="processing"), []
            for number in range(1, 11):
                jobs.append(claimed(database))
                assert database.count_jobs(status="processing") == before + number
                assert planner.session.execute(locks).fetchone() == {"locks": number}
            for job in jobs:
                assert database.release_job(job["id"], lease_token=job["lease_token"])
            assert planner.session.execute(locks).fetchone() == {"locks": 0}


class TestRenewals:
    @pytest.mark.verifies("PS-CONCURRENCY-3")
    def test_touch_no_index(self, large: str, planner: Planner) -> None:
        with PromptStudioDatabase(large, "tester", settings=Settings()) as database:
            jobs = [claimed(database) for _ in range(50)]
        await_farewell(planner.session)  # a session that ends tells the server what it has counted
        before = self._updates(planner)
        with PromptStudioDatabase(large, "tester", settings=Settings()) as database:
            for number in range(RENEWALS):
                job = jobs[number % len(jobs)]
                assert database.renew_job_lease(job["id"], 600, lease_token=job["lease_token"])
        await_farewell(planner.session)
        after = self._updates(planner)
        with PromptStudioDatabase(large, "tester", settings=Settings()) as database:
            assert all(database.release_job(job["id"], lease_token=job["lease_token"]) for job in jobs)
        assert after["updates"] - before["updates"] == RENEWALS
        assert after["hot"] - before["hot"] >= HOT_SHARE_MIN * RENEWALS

    @staticmethod
    def _updates(planner: Planner) -> DictRow:
        planner.session.execute("SELECT pg_stat_force_next_flush()")  # what the plans have updated
        planner.session.execute("SELECT pg_stat_clear_snapshot()")
        row = planner.session.execute(
            "SELECT n_tup_upd AS updates, n_tup_hot_upd AS hot FROM pg_stat_user_tables WHERE relname = %s", (TABLE,)
        ).fetchone()
        assert row is not None
        return row
