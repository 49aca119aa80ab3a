"""Databases from before this library become databases of it, on SQLite and on Postgres, wholly or not at all."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prompt_studio import (
    DatabaseError,
    JobRow,
    MigrationReport,
    PromptStudioDatabase,
    SchemaError,
    Settings,
    TransientConflict,
    migrate,
)
from prompt_studio.storage import migrating, versions
from prompt_studio.storage.statements import Statement, Statements
from prompt_studio.storage.transactions import Session
from tests.faults.processes import at_once
from tests.harness.old_tables import Place, PostgresPlace, SqlitePlace, add_rows, make_old
from tests.harness.postgres_server import Server

pytestmark = pytest.mark.faults

JOBS = "prompt_studio_job_queue"
KEYS = "prompt_studio_idempotency"
SUPERSEDED = "prompt_studio_idempotency_superseded"
PROCESSES = 4
SEEN = {
    SqlitePlace: "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE name NOT LIKE '%superseded%' ORDER BY name",
    PostgresPlace: """
        SELECT CAST(c.relname AS TEXT), CAST(a.attname AS TEXT), format_type(a.atttypid, a.atttypmod), a.attnotnull,
            CAST(a.attidentity AS TEXT), pg_get_expr(d.adbin, d.adrelid), CAST(c.reloptions AS TEXT)
        FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        LEFT JOIN pg_attrdef AS d ON d.adrelid = c.oid AND d.adnum = a.attnum
        WHERE c.relnamespace = CAST('public' AS REGNAMESPACE) AND c.relname NOT LIKE '%superseded%'
        UNION ALL SELECT CAST(conname AS TEXT), pg_get_constraintdef(oid), '', NULL, NULL, NULL, NULL
        FROM pg_constraint WHERE connamespace = CAST('public' AS REGNAMESPACE) AND conname NOT LIKE '%superseded%'
        UNION ALL SELECT CAST(indexname AS TEXT), indexdef, '', NULL, NULL, NULL, NULL
        FROM pg_indexes WHERE schemaname = 'public' AND indexname NOT LIKE '%superseded%'
        UNION ALL SELECT CAST(tgname AS TEXT), pg_get_triggerdef(oid), '', NULL, NULL, NULL, NULL FROM pg_trigger
        WHERE NOT tgisinternal
        UNION ALL SELECT CAST(proname AS TEXT), prosrc, '', NULL, NULL, NULL, NULL FROM pg_proc
        WHERE pronamespace = CAST('public' AS REGNAMESPACE)
        ORDER BY 1, 2, 3
    """,
}


def job(**values: object) -> dict[str, object]:
    return {"job_type": "evaluation", "entity_id": 1, "payload": "{}", "client_id": "old"} | values


def key(name: str, entity_id: int, user_id: str | None = None, **values: object) -> dict[str, object]:
    return {"entity_type": "prompt", "idempotency_key": name, "entity_id": entity_id, "user_id": user_id} | values


LONG_AGO = "2024-05-06 07:08:09"
INSTANT = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
FAR = "2099-01-01 00:00:00+00:00"
ROWS = (
    job(uuid="a", created_at=LONG_AGO, priority=9, retry_count=1, payload='{"x": [1.50, "é"]}'),
    job(
        status="processing", created_at=LONG_AGO, started_at=LONG_AGO, leased_until=FAR, lease_owner="w", retry_count=2
    ),
    job(status="processing", created_at=LONG_AGO, error_message="earlier", result="1"),
    job(status="completed", created_at=LONG_AGO, started_at=LONG_AGO, completed_at=LONG_AGO, result='{"score": 1}'),
    job(status="failed", created_at=LONG_AGO, retry_count=3, error_message="broke", leased_until=FAR),
    job(status="cancelled", created_at=LONG_AGO, completed_at=LONG_AGO),
    job(created_at=LONG_AGO, started_at=LONG_AGO, result="2", priority=11, retry_count=-1, max_retries=-1),
    job(created_at=None, priority=None, retry_count=None, max_retries=None, status=None),
    job(status="failed", created_at=LONG_AGO, retry_count=2**31 - 1, max_retries=2**31 - 1),
)
KEY_ROWS = (
    key("k", 10),
    key("k", 11),
    key("k", 12, "u"),
    key("k", 13, "v", created_at=None),
    key("", 14, "u"),
    key("k" * 256, 15, "u"),
    key("k", 16, ""),
    key("k", 17),
)


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, path: Path) -> Iterator[Place]:
    if request.param == "sqlite":
        yield SqlitePlace(str(path))
        return
    server: Server = request.getfixturevalue("postgres_server")
    name = server.create_database()
    yield PostgresPlace(server.dsn(name))
    server.drop_database(name)


@pytest.fixture
def old(place: Place) -> Place:
    make_old(place, rows=ROWS, keys=KEY_ROWS)
    return place


def jobs(place: Place) -> dict[int, JobRow]:
    with PromptStudioDatabase(place.location, "tester") as database:
        return {row["id"]: row for row in database.list_jobs()}


@pytest.mark.verifies("PS-MIGRATION-5")
class TestJobs:
    def test_are_all_there(self, old: Place) -> None:
        report = migrate(old.location)
        assert (report.jobs, report.keys, report.from_version, report.to_version) == (len(ROWS), len(KEY_ROWS), 0, 1)
        found = jobs(old)
        assert sorted(found) == list(range(1, len(ROWS) + 1))
        assert [found[n]["status"] for n in sorted(found)] == [row.get("status") or "queued" for row in ROWS]

    def test_that_wait_keep_their_count(self, old: Place) -> None:
        migrate(old.location)
        first = jobs(old)[1]
        assert (first["uuid"], first["payload"], first["priority"]) == ("a", {"x": [1.50, "é"]}, 9)
        assert first["created_at"] == first["available_at"] == INSTANT
        assert (first["executions"], first["lease_token"], first["execution_limit"], first["retry_count"]) == (
            1,
            1,
            4,
            1,
        )

    @pytest.mark.verifies("PS-MIGRATION-7")
    def test_that_run_keep_their_lease(self, old: Place) -> None:
        migrate(old.location)
        running = jobs(old)[2]
        assert running["leased_until"] == datetime(2099, 1, 1, tzinfo=UTC)
        assert (running["lease_owner"], running["started_at"]) == ("w", INSTANT)
        assert (running["executions"], running["lease_token"], running["execution_limit"]) == (3, 3, 4)

    def test_that_run_without_a_lease_are_taken_up_again(self, old: Place) -> None:
        migrate(old.location)
        left = jobs(old)[3]
        assert (left["lease_owner"], left["error_message"], left["result"]) == ("migrated", None, None)
        assert left["leased_until"] is not None
        assert left["leased_until"] <= datetime.now(UTC)
        with PromptStudioDatabase(old.location, "tester") as database:
            taken = [database.acquire_next_job() for _ in range(4)]
        reclaimed = [(row["id"], row["lease_token"]) for row in taken if row is not None and row["was_reclaim"]]
        assert reclaimed == [(3, 2)]

    def test_that_ended_keep_what_they_ended_with(self, old: Place) -> None:
        migrate(old.location)
        found = jobs(old)
        assert (found[4]["result"], found[4]["completed_at"]) == ({"score": 1}, INSTANT)
        assert (found[5]["error_message"], found[5]["completed_at"], found[5]["started_at"]) == (
            "broke",
            INSTANT,
            INSTANT,
        )
        assert found[5]["leased_until"] is None
        assert (found[5]["executions"], found[5]["execution_limit"]) == (4, 4)
        assert (found[6]["started_at"], found[6]["executions"]) == (None, 0)

    def test_outside_the_limits_are_brought_into_them(self, old: Place) -> None:
        migrate(old.location)
        found = jobs(old)
        odd, bare, worn = found[7], found[8], found[9]
        assert (odd["priority"], odd["retry_count"], odd["max_retries"], odd["execution_limit"]) == (10, 0, 0, 1)
        assert (odd["started_at"], odd["result"]) == (None, None)
        assert (bare["priority"], bare["retry_count"], bare["max_retries"]) == (5, 0, 3)
        assert (worn["retry_count"], worn["max_retries"]) == (2**31 - 3, 2**31 - 2)
        with PromptStudioDatabase(old.location, "tester") as database:
            assert database.retry_job_record(worn["id"])

    def test_of_the_future_can_be_acquired_now(self, place: Place) -> None:
        make_old(place, rows=[job(created_at="2098-01-01 00:00:00")])
        migrate(place.location)
        with PromptStudioDatabase(place.location, "tester") as database:
            assert database.acquire_next_job() is not None

    def test_never_give_an_id_twice(self, place: Place) -> None:
        make_old(place, rows=[job(), job()], keys=[key("a", 1), key("b", 2)])
        place.run(f"DELETE FROM {JOBS} WHERE id = 2")
        place.run(f"DELETE FROM {KEYS}")
        migrate(place.location)
        with PromptStudioDatabase(place.location, "tester") as database:
            assert database.create_job("evaluation", 1, {})["id"] == 3
            database.record_idempotency("prompt", "c", 3, None)
        assert place.run(f"SELECT id FROM {KEYS}") == [(3,)]

    def test_of_a_table_that_counted_no_ids_go_on_after_the_highest(self, place: Place) -> None:
        place.run(
            f"CREATE TABLE {JOBS} (id BIGINT PRIMARY KEY, job_type TEXT, entity_id INTEGER, status TEXT, payload TEXT,"
            " client_id TEXT, created_at TIMESTAMP)"
        )
        add_rows(place, JOBS, [job(id=7, status="processing", created_at=LONG_AGO)])
        assert migrate(place.location).keys == 0
        with PromptStudioDatabase(place.location, "tester") as database:
            assert database.create_job("evaluation", 1, {})["id"] == 8
            assert database.get_job(7) is not None

    def test_are_counted_where_they_were_changed(self, old: Place) -> None:
        report = migrate(old.location)
        assert report.changes == {
            "lease_kept": 1,
            "lease_given": 1,
            "owner_given": 1,
            "lease_cleared": 1,
            "error_cleared": 1,
            "result_cleared": 2,
            "time_cleared": 1,
            "time_given": 3,
            "priority_limited": 1,
            "count_limited": 2,
            "default_given": 1,
            "key_repeated": 2,
            "key_unaskable": 3,
            "key_time_given": 1,
        }


@pytest.mark.verifies("PS-MIGRATION-5")
class TestTextTimes:
    @pytest.mark.parametrize(
        ("text", "milliseconds"),
        [
            ("2024-05-06 07:08:09", 0),
            ("2024-05-06 07:08:09.1236", 124),
            ("2024-05-06T07:08:09.999Z", 999),
            ("2024-05-06T09:08:09.5+02:00", 500),
            ("2024-05-06T07:08:09.123456+00:00", 123),
        ],
    )
    def test_become_milliseconds(self, path: Path, text: str, milliseconds: int) -> None:
        place = SqlitePlace(str(path))
        make_old(place, rows=[job(created_at=text, status="processing", started_at=text, leased_until=text)])
        migrate(path)
        expected = int(INSTANT.timestamp()) * 1000 + milliseconds
        assert place.run(f"SELECT created_at, started_at, leased_until FROM {JOBS}") == [(expected,) * 3]


@pytest.mark.verifies("PS-MIGRATION-7")
class TestARunningLease:
    def test_is_nobody_elses_until_its_end_and_somebodys_after(self, place: Place) -> None:
        make_old(place, rows=[job(status="processing", started_at=LONG_AGO, lease_owner="w", leased_until=FAR)])
        migrate(place.location)
        with PromptStudioDatabase(place.location, "tester") as database:
            assert database.acquire_next_job() is None
            end = "1" if isinstance(place, SqlitePlace) else "TIMESTAMPTZ '1970-01-02'"
            place.run(f"UPDATE {JOBS} SET revision = revision + 1, leased_until = {end}")
            taken = database.acquire_next_job()
            assert taken is not None
            assert (taken["id"], taken["was_reclaim"], taken["lease_token"]) == (1, True, 2)
            assert database.complete_job(1, lease_token=2)


@pytest.mark.verifies("PS-MIGRATION-8")
class TestKeys:
    def test_stand_for_what_the_first_writer_said(self, old: Place) -> None:
        migrate(old.location)
        with PromptStudioDatabase(old.location, "tester") as database:
            assert database.lookup_idempotency("prompt", "k", None) == 10
            assert database.lookup_idempotency("prompt", "k", "u") == 12
            assert database.lookup_idempotency("prompt", "k", "v") == 13
            assert not database.record_idempotency("prompt", "k", 99, None).created
        rows = old.run(f"SELECT id, entity_id, canonical_id FROM {SUPERSEDED} ORDER BY id")
        assert rows == [(2, 11, 1), (5, 14, None), (6, 15, None), (7, 16, None), (8, 17, 1)]
        assert old.run(f"SELECT COUNT(*) FROM {KEYS} WHERE created_at IS NULL") == [(0,)]

    def test_need_no_second_table_when_each_is_the_only_one(self, place: Place) -> None:
        make_old(place, keys=[key("a", 1), key("a", 2, "u")])
        assert migrate(place.location).changes == {}
        with PromptStudioDatabase(place.location, "tester") as database:
            assert database.lookup_idempotency("prompt", "a", "u") == 2
        assert SUPERSEDED not in str(place.dump())

    def test_from_before_there_were_users_belong_to_nobody(self, place: Place) -> None:
        place.run(
            f"CREATE TABLE {KEYS} (id INTEGER PRIMARY KEY, entity_type TEXT, idempotency_key TEXT, entity_id INTEGER)"
        )
        add_rows(place, KEYS, [{"id": n, "entity_type": "p", "idempotency_key": "k", "entity_id": n} for n in (5, 4)])
        report = migrate(place.location)
        assert report.changes == {"key_repeated": 1, "key_time_given": 2}
        with PromptStudioDatabase(place.location, "tester") as database:
            assert database.lookup_idempotency("p", "k", None) == 4
            assert database.lookup_idempotency("p", "k", "u") is None


@pytest.mark.verifies("PS-MIGRATION-2")
class TestADryRun:
    def test_changes_nothing_and_says_what_would_be_done(self, old: Place) -> None:
        before = old.dump()
        looked = migrate(old.location, dry_run=True)
        assert old.dump() == before
        assert looked.locks
        assert looked.estimated_seconds >= migrating.SECONDS_MIN
        text = "\n".join(looked.lines())
        for part in ("would be migrated", f"rows: {len(ROWS)} jobs", "locks:", "time: ", "index idx_ps_jobs_status"):
            assert part in text
        done = migrate(old.location)
        assert (done.changes, done.steps, done.drops) == (looked.changes, looked.steps, looked.drops)
        assert "was migrated" in next(iter(done.lines()))

    def test_waits_for_no_reader_and_no_writer(self, old: Place) -> None:
        connection: Any
        if isinstance(old, SqlitePlace):
            old.run("PRAGMA journal_mode = WAL")
            connection = sqlite3.connect(old.location, isolation_level=None)
            connection.execute("BEGIN IMMEDIATE")
        else:
            connection = psycopg.connect(old.location)
        connection.execute(f"UPDATE {JOBS} SET client_id = 'somebody'")
        try:
            assert migrate(old.location, dry_run=True, settings=Settings(write_retry_seconds=0.01)).jobs == len(ROWS)
            with pytest.raises(TransientConflict):
                migrate(old.location, settings=Settings(write_retry_seconds=0.01))
        finally:
            connection.rollback()
            connection.close()

    def test_makes_no_file(self, path: Path) -> None:
        assert migrate(path, dry_run=True).steps == ("make version 1 of the schema",)
        assert not path.exists()


@pytest.mark.verifies("PS-MIGRATION-3")
class TestAMigration:
    def test_is_done_once(self, old: Place) -> None:
        migrate(old.location)
        before = old.dump()
        again = migrate(old.location)
        assert (again.steps, again.from_version) == ((), 1)
        assert list(again.lines()) == [f"{again.place} has version 1 of the schema: there is nothing to do"]
        assert migrate(old.location, dry_run=True).steps == ()
        assert old.dump() == before

    def test_initialises_an_empty_database(self, place: Place) -> None:
        report = migrate(place.location)
        assert (report.from_version, report.steps) == (None, ("make version 1 of the schema",))
        assert "has no schema of ours, and was migrated" in next(report.lines())
        with PromptStudioDatabase(place.location, "tester", create=False) as database:
            assert database.count_jobs() == 0

    def test_makes_the_tables_beside_another_programs(self, place: Place) -> None:
        place.run("CREATE TABLE books (title TEXT)")
        place.run("INSERT INTO books VALUES ('mine')")
        with pytest.raises(SchemaError, match=r"it has books.*prompt_studio migrate"):
            PromptStudioDatabase(place.location, "tester")
        migrate(place.location)
        with PromptStudioDatabase(place.location, "tester") as database:
            assert database.count_jobs() == 0
        assert place.run("SELECT * FROM books") == [("mine",)]

    def test_leaves_a_newer_database_alone(self, place: Place) -> None:
        PromptStudioDatabase(place.location, "tester").close()
        now = "0" if isinstance(place, SqlitePlace) else "now()"
        place.run(f"INSERT INTO prompt_studio_schema VALUES (2, {now})")
        before = place.dump()
        for dry_run in (True, False):
            with pytest.raises(SchemaError, match=r"version 2 .* knows 1: use a newer version of this library"):
                migrate(place.location, dry_run=dry_run)
        with pytest.raises(SchemaError, match="use a newer version"):
            PromptStudioDatabase(place.location, "tester")
        assert place.dump() == before

    def test_is_done_by_one_of_several_at_once(self, old: Place) -> None:
        def work(_: int) -> int | None:
            return migrate(old.location).from_version

        assert sorted(filter(None, at_once(PROCESSES, work))) == [1] * (PROCESSES - 1)
        assert sorted(jobs(old)) == list(range(1, len(ROWS) + 1))

    @pytest.mark.parametrize("name", ["convert_keys", "drop_old_keys", "record_schema_version", "store_keys", "commit"])
    def test_that_breaks_leaves_everything_as_it_was(
        self, old: Place, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        run = Session.run

        def break_down(session: Session, statement: Statement, parameters: Mapping[str, object] = {}) -> Any:  # noqa: ANN401 - as the one that it replaces
            if statement.name == name:
                raise DatabaseError("as arranged")
            return run(session, statement, parameters)

        before = old.dump()
        with monkeypatch.context() as patched:
            patched.setattr(Session, "run", break_down)
            with pytest.raises(DatabaseError, match="as arranged"):
                migrate(old.location)
        assert old.dump() == before
        assert migrate(old.location).jobs == len(ROWS)

    @pytest.mark.parametrize("name", ["drop_old_jobs", "store_keys"])
    def test_that_is_killed_leaves_everything_as_it_was(self, old: Place, name: str) -> None:
        program = (
            "import os, signal, sys\n"
            "from prompt_studio import migrate\n"
            "from prompt_studio.storage.transactions import Session\n"
            "run = Session.run\n"
            "def die(session, statement, parameters={}):\n"
            "    answer = run(session, statement, parameters)\n"
            f"    if statement.name == {name!r}:\n"
            "        os.kill(os.getpid(), signal.SIGKILL)\n"
            "    return answer\n"
            "Session.run = die\n"
            "migrate(sys.argv[1])\n"
        )
        before = old.dump()
        died = subprocess.run([sys.executable, "-c", program, old.location], check=False, timeout=60)
        assert died.returncode == -signal.SIGKILL
        assert old.dump() == before
        assert migrate(old.location).jobs == len(ROWS)

    def test_of_an_older_version_adds_what_is_missing(self, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        PromptStudioDatabase(place.location, "tester").close()
        standing = versions.Standing(contents=["prompt_studio_schema"], version=1, known=2)
        with pytest.raises(SchemaError, match=r"version 1 .* knows 2: see .* migrate --database here --dry-run"):
            standing.refuse_to_open(versions.Place(name="it", location="here", kind="file"))

        second = Statements(
            {
                "more": Statement(
                    "more", "INSERT INTO prompt_studio_schema SELECT 2, applied_at FROM prompt_studio_schema"
                )
            }
        )
        made = migrating.Migration.__init__

        def with_a_second_version(
            self: migrating.Migration, site: migrating.Site, begun: float, *, dry_run: bool
        ) -> None:
            made(self, replace(site, schema=[*site.schema, second]), begun, dry_run=dry_run)

        monkeypatch.setattr(migrating.Migration, "__init__", with_a_second_version)
        report = migrate(place.location)
        assert (report.from_version, report.steps) == (1, ("make version 2 of the schema",))
        assert "had version 1, and was migrated to version 2" in next(report.lines())
        assert place.run("SELECT version FROM prompt_studio_schema ORDER BY 1") == [(1,), (2,)]


@pytest.mark.verifies("PS-MIGRATION-4")
class TestTheSchema:
    def test_is_that_of_a_fresh_database(self, old: Place, tmp_path: Path, postgres_server: Server) -> None:
        migrate(old.location)
        fresh: Place
        if isinstance(old, SqlitePlace):
            fresh = SqlitePlace(str(tmp_path / "fresh.db"))
        else:
            fresh = PostgresPlace(postgres_server.dsn(postgres_server.create_database()))
        fresh.run(fresh.tables[0])
        migrate(fresh.location)
        assert old.run(SEEN[type(old)]) == fresh.run(SEEN[type(old)])


@pytest.mark.verifies("PS-MIGRATION-9")
class TestWhatCannotBeConverted:
    @pytest.mark.parametrize(
        ("values", "says"),
        [
            ({"payload": "{"}, "job 2: the payload is not JSON"),
            ({"payload": '{"x": NaN}'}, "job 2: the payload is not JSON"),
            ({"result": "oops"}, "job 2: the result is not JSON"),
            ({"created_at": "yesterday"}, "job 2: a time cannot be read"),
            ({"leased_until": "2024-13-01 00:00:00"}, "job 2: a time cannot be read"),
            ({"entity_id": "seven"}, "job 2: a number is none"),
            ({"priority": 1.5}, "job 2: a number is none"),
        ],
    )
    def test_is_named_in_a_file_that_stays_as_it_is(self, path: Path, values: dict[str, object], says: str) -> None:
        place = SqlitePlace(str(path))
        make_old(place, rows=[job(), job(**values)])
        before = place.dump()
        for dry_run in (True, False):
            with pytest.raises(SchemaError, match=f"nothing was changed, .*{says}.: mend or delete them"):
                migrate(path, dry_run=dry_run)
        assert place.dump() == before

    def test_is_named_on_a_server_that_stays_as_it_is(self, postgres_database: str) -> None:
        place = PostgresPlace(postgres_database)
        make_old(place, rows=[job(), job(created_at="infinity")], keys=[key("a", 1, created_at="-infinity")])
        before = place.dump()
        with pytest.raises(SchemaError, match=r"job 2: a time cannot be read; key 1: a time cannot be read"):
            migrate(place.location)
        assert place.dump() == before

    def test_may_be_a_table_that_nobody_knows(self, place: Place) -> None:
        place.run(f"CREATE TABLE {JOBS} (id INTEGER PRIMARY KEY, status TEXT)")
        with pytest.raises(SchemaError, match="without client_id, created_at, entity_id, job_type, payload"):
            migrate(place.location)

    def test_may_be_what_others_refer_to(self, old: Place) -> None:
        old.run(f"CREATE TABLE notes (job_id BIGINT REFERENCES {JOBS} (id))")
        old.run(f"CREATE VIEW shelf AS SELECT id FROM {JOBS}")
        before = old.dump()
        for dry_run in (True, False):
            with pytest.raises(SchemaError, match="table notes, view shelf refers to"):
                migrate(old.location, dry_run=dry_run)
        assert old.dump() == before

    def test_is_said_of_columns_that_go_away(self, old: Place) -> None:
        old.run(f"ALTER TABLE {JOBS} ADD COLUMN colour TEXT")
        assert f"column {JOBS}.colour" in migrate(old.location, dry_run=True).drops


class TestOnPostgres:
    def test_owner_and_rights_stay(self, postgres_database: str) -> None:
        place = PostgresPlace(postgres_database)
        make_old(place, rows=[job()])
        suffix = os.urandom(4).hex()
        owner, worker = f"owner_{suffix}", f"worker_{suffix}"
        try:
            for statement in (
                f"CREATE ROLE {owner}",
                f"CREATE ROLE {worker}",
                f"ALTER TABLE {JOBS} OWNER TO {owner}",
                f"GRANT SELECT, UPDATE ON {JOBS} TO {worker}",
            ):
                place.run(statement)
            migrate(place.location)
            rights = place.run(
                "SELECT has_table_privilege(?, 'prompt_studio_job_queue', 'UPDATE'),"
                " has_table_privilege(?, 'prompt_studio_job_queue', 'DELETE'),"
                " has_table_privilege(?, 'prompt_studio_schema', 'SELECT'),"
                " CAST((SELECT tableowner FROM pg_tables WHERE tablename = 'prompt_studio_job_queue') AS TEXT)",
                [worker] * 3,
            )
            assert rights == [(True, False, True, owner)]
        finally:
            place.run(f"DROP OWNED BY {owner}, {worker}")
            place.run(f"DROP ROLE {owner}, {worker}")

    def test_no_password_is_shown(self, postgres_database: str) -> None:
        place = PostgresPlace(postgres_database)
        make_old(place)
        secret = f"{place.location}{'&' if '?' in place.location else '?'}password=sesame"
        with pytest.raises(SchemaError, match="migrate --database LOCATION --dry-run") as caught:
            PromptStudioDatabase(secret, "tester")
        report = migrate(secret)
        assert "sesame" not in f"{caught.value}{report}"


class TestTheCommand:
    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "prompt_studio", *arguments], check=False, capture_output=True, text=True, timeout=60
        )

    def test_migrates(self, old: Place) -> None:
        looked = self.run("migrate", "--database", old.location, "--dry-run")
        assert (looked.returncode, looked.stderr) == (0, "")
        assert "nothing was changed: run it again without --dry-run" in looked.stdout
        done = self.run("migrate", "--database", old.location, "--json")
        assert json.loads(done.stdout)["jobs"] == len(ROWS)
        assert sorted(jobs(old)) == list(range(1, len(ROWS) + 1))

    def test_says_what_is_wrong(self, path: Path) -> None:
        path.write_bytes(1000 * b"no database ")
        failed = self.run("migrate", "--database", str(path))
        assert (failed.returncode, failed.stdout) == (1, "")
        assert "not migrated: " in failed.stderr
        assert "name another file" in failed.stderr

    def test_explains_itself(self) -> None:
        assert "--dry-run" in self.run("migrate", "--help").stdout
        assert self.run().returncode == 2


TIMES = st.one_of(st.none(), st.datetimes(datetime(1980, 1, 1), datetime(2090, 1, 1)))  # noqa: DTZ001 - as they were stored
JSONS = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text("abé ", max_size=5),
    lambda some: st.lists(some, max_size=3) | st.dictionaries(st.text("ab", max_size=3), some, max_size=3),
    max_leaves=5,
)
OLD_JOBS = st.fixed_dictionaries(
    {
        "job_type": st.sampled_from(["evaluation", "optimization", "generation"]),
        "entity_id": st.integers(-(2**31), 2**31 - 1),
        "priority": st.none() | st.integers(-3, 14),
        "status": st.sampled_from(["queued", "processing", "completed", "failed", "cancelled"]),
        "payload": JSONS.map(json.dumps),
        "result": st.none() | JSONS.map(json.dumps),
        "error_message": st.none() | st.text("ab\n", max_size=5),
        "retry_count": st.none() | st.integers(-2, 5) | st.just(2**31 - 1),
        "max_retries": st.none() | st.integers(-2, 5) | st.just(2**31 - 1),
        "client_id": st.sampled_from(["a", "b"]),
        "created_at": TIMES,
        "started_at": TIMES,
        "completed_at": TIMES,
        "leased_until": TIMES,
        "lease_owner": st.sampled_from([None, "", "w"]),
    }
)
OLD_KEYS = st.fixed_dictionaries(
    {
        "entity_type": st.sampled_from(["prompt", "project"]),
        "idempotency_key": st.sampled_from(["a", "b", "", "c" * 300]),
        "user_id": st.sampled_from([None, "u", "v", ""]),
        "entity_id": st.integers(1, 9),
        "created_at": TIMES,
    }
)


def distinct(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without what the old unique index refused: the same key of the same user, unless there is none."""
    seen: set[tuple[str, str, str]] = set()
    kept = []
    for row in rows:
        scope = (row["entity_type"], row["idempotency_key"], row["user_id"])
        if row["user_id"] is None or scope not in seen:
            kept.append(row)
            seen.add(scope)
    return kept


def stored(place: Place, row: dict[str, Any]) -> dict[str, Any]:
    """The row with its times as the old program stored them."""
    if isinstance(place, PostgresPlace):
        return {name: value.replace(tzinfo=UTC) if name == "leased_until" and value else value
                for name, value in row.items()}  # fmt: skip
    return {name: value.isoformat(" ") if isinstance(value, datetime) else value for name, value in row.items()}


class TestAnyOldRows:
    @pytest.mark.verifies("PS-MIGRATION-5", "PS-MIGRATION-7", "PS-MIGRATION-8")
    @pytest.mark.parametrize("kind", ["sqlite", "postgres"])
    @settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(rows=st.lists(OLD_JOBS, max_size=6), keys=st.lists(OLD_KEYS, max_size=6).map(distinct))
    def test_survive(
        self, postgres_server: Server, kind: str, rows: list[dict[str, Any]], keys: list[dict[str, Any]]
    ) -> None:
        with tempfile.TemporaryDirectory() as directory:
            if kind == "sqlite":
                self.survive(SqlitePlace(f"{directory}/jobs.db"), rows, keys)
                return
            name = postgres_server.create_database()
            self.survive(PostgresPlace(postgres_server.dsn(name)), rows, keys)
            postgres_server.drop_database(name)

    def survive(self, place: Place, rows: list[dict[str, Any]], keys: list[dict[str, Any]]) -> None:
        make_old(place, rows=[stored(place, row) for row in rows], keys=[stored(place, row) for row in keys])
        report = migrate(place.location)
        assert (report.jobs, report.keys) == (len(rows), len(keys))
        found = jobs(place)
        for number, row in enumerate(rows, start=1):
            same_job(row, found[number])
        mappings_are_kept(place, keys)
        can_be_worked_on(place, found)


def same_job(before: Mapping[str, Any], after: JobRow) -> None:
    assert after["payload"] == json.loads(before["payload"])
    for name in ("job_type", "entity_id", "status", "client_id"):
        assert dict(after)[name] == before[name]
    if before["created_at"] is not None:
        assert abs(after["created_at"].timestamp() - before["created_at"].replace(tzinfo=UTC).timestamp()) < 0.001
    if before["status"] == "processing" and before["leased_until"] is not None:
        assert after["leased_until"] is not None
        assert abs(after["leased_until"].timestamp() - before["leased_until"].replace(tzinfo=UTC).timestamp()) < 0.001
        assert after["lease_owner"] == (before["lease_owner"] or "migrated")
    if before["status"] in {"completed", "failed", "cancelled"}:
        assert after["result"] == (None if before["result"] is None else json.loads(before["result"]))
        assert after["error_message"] == before["error_message"]


def mappings_are_kept(place: Place, keys: list[dict[str, Any]]) -> None:
    columns = "id, entity_type, idempotency_key, user_id, entity_id"
    kept = place.run(f"SELECT {columns} FROM {KEYS}")
    if SUPERSEDED in str(place.dump()):
        kept += place.run(f"SELECT {columns} FROM {SUPERSEDED}")
    expected = [
        (number, row["entity_type"], row["idempotency_key"], row["user_id"], row["entity_id"])
        for number, row in enumerate(keys, start=1)
    ]
    assert sorted(kept, key=lambda row: int(row[0])) == expected
    first: dict[tuple[str, str, str | None], int] = {}
    for _, entity_type, name, user_id, entity_id in expected:
        first.setdefault((entity_type, name, user_id), entity_id)
    with PromptStudioDatabase(place.location, "tester") as database:
        for (entity_type, name, user_id), entity_id in first.items():
            if 1 <= len(name) <= 255 and user_id != "":
                assert database.lookup_idempotency(entity_type, name, user_id) == entity_id


def can_be_worked_on(place: Place, found: Mapping[int, JobRow]) -> None:
    now = datetime.now(UTC)
    with PromptStudioDatabase(place.location, "tester") as database:
        taken = set()
        while (row := database.acquire_next_job(worker_id="new")) is not None:
            taken.add(row["id"])
            assert database.renew_job_lease(row["id"], lease_token=row["lease_token"])
            assert database.complete_job(row["id"], lease_token=row["lease_token"])
        assert database.create_job("evaluation", 1, {})["id"] == len(found) + 1
    for number, row in found.items():
        live = row["leased_until"] is not None and row["leased_until"] > now
        budget = row["executions"] < row["execution_limit"]
        assert (number in taken) == (
            row["status"] == "queued" or (row["status"] == "processing" and not live and budget)
        )


def test_a_report_is_a_plain_value(path: Path) -> None:
    report = migrate(path)
    assert isinstance(report, MigrationReport)
    assert report.place == str(path)
