"""Databases from before this library become databases of it, on SQLite and on Postgres, wholly or not at all."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from prompt_studio import (
    DatabaseError,
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
from tests.harness.old_tables import (
    JOBS,
    ROWS,
    Place,
    PostgresPlace,
    SqlitePlace,
    job,
    key,
    make_old,
)

pytestmark = pytest.mark.faults
PROCESSES = 4


def ids(place: Place) -> list[int]:
    return [row[0] for row in place.run(f"SELECT id FROM {JOBS} ORDER BY id")]


@pytest.mark.verifies("PS-MIGRATION-2")
class TestADryRun:
    def test_changes_nothing_and_says_what_would_be_done(self, old: Place) -> None:
        before = old.dump()
        looked = migrate(old.location, dry_run=True)
        assert old.dump() == before
        assert looked.locks
        assert looked.seconds > 0
        text = "\n".join(looked.lines())
        for part in ("would be migrated", f"rows: {len(ROWS)} jobs", "locks:", "time: ", "index idx_ps_jobs_status"):
            assert part in text
        done = migrate(old.location)
        assert (done.changes, done.steps, done.drops) == (looked.changes, looked.steps, looked.drops)
        assert "was migrated" in next(iter(done.lines()))

    def test_of_a_file_waits_for_no_reader_and_no_writer(self, path: Path) -> None:
        old = SqlitePlace(str(path))
        make_old(old, rows=ROWS)
        impatient = Settings(write_retry_seconds=0.01)
        with old.writing():
            assert migrate(old.location, dry_run=True, settings=impatient).jobs == len(ROWS)
            with pytest.raises(TransientConflict):
                migrate(old.location, settings=impatient)

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

    def test_finds_that_a_rival_initialised_the_database(self, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        run = Session.run
        raced: list[bool] = []

        def be_slower(session: Session, statement: Statement, parameters: Mapping[str, object] = {}) -> Any:  # noqa: ANN401 - as the one that it replaces
            if statement.name == "begin_write" and not raced:
                raced.append(True)
                PromptStudioDatabase(place.location, "rival").close()
            return run(session, statement, parameters)

        with pytest.raises(DatabaseError, match="create=True"):
            PromptStudioDatabase(place.location, "tester", create=False)
        monkeypatch.setattr(Session, "run", be_slower)
        PromptStudioDatabase(place.location, "tester").close()
        assert raced == [True]
        assert place.run("SELECT version FROM prompt_studio_schema") == [(1,)]

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
        place.run(f"INSERT INTO prompt_studio_schema VALUES (2, {place.a_past_instant})")
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
        assert ids(old) == list(range(1, len(ROWS) + 1))

    @pytest.mark.parametrize(
        "name", ["convert_keys", "drop_prompt_studio_idempotency", "record_schema_version", "store_keys", "commit"]
    )
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

    @pytest.mark.parametrize("name", ["drop_prompt_studio_job_queue", "store_keys"])
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
    def test_is_that_of_a_fresh_database(self, old: Place, another: Place) -> None:
        migrate(old.location)
        another.run(another.tables[0])
        migrate(another.location)
        assert old.schema() == another.schema()


@pytest.mark.verifies("PS-MIGRATION-9")
class TestWhatCannotBeConverted:
    @pytest.mark.parametrize(
        ("values", "says"),
        [
            ({"payload": "{"}, "job 2: the payload is not JSON"),
            ({"payload": '{"x": NaN}'}, "job 2: the payload is not JSON"),
            ({"payload": None}, "job 2: the payload is not JSON"),
            ({"result": "-Infinity"}, "job 2: the result is not JSON"),
            ({"payload": '["a\\u0000b"]'}, r"job 2: the payload has U\+0000 or a lone surrogate"),
            ({"result": '{"\\uDfff": 1}'}, r"job 2: the result has U\+0000 or a lone surrogate"),
        ],
    )
    def test_is_named_on_a_server_whose_json_is_text(
        self, postgres_database: str, values: dict[str, object], says: str
    ) -> None:
        place = PostgresPlace(postgres_database)
        place.tables = [table.replace("JSONB NOT NULL", "TEXT").replace("JSONB", "TEXT") for table in place.tables]
        make_old(place, rows=[job(), job(status="failed", **values)])
        before = place.dump()
        for dry_run in (True, False):
            with pytest.raises(SchemaError, match=f"nothing was changed, .*{says}.: mend or delete them"):
                migrate(place.location, dry_run=dry_run)
        assert place.dump() == before

    @pytest.mark.parametrize("column", ["payload", "result"])
    @pytest.mark.parametrize(
        "text",
        [
            '{"x": ' + 641 * "7" + "}",
            "[-" + 5_000 * "7" + "]",
            101 * "[" + 101 * "]",
            3_000 * '{"x":' + "1" + 3_000 * "}",
        ],
        ids=["641 digits", "5,000 digits", "101 levels", "3,000 levels"],
    )
    def test_may_be_what_the_store_could_not_read_back(self, place: Place, column: str, text: str) -> None:
        make_old(place, rows=[job(), job(**{"status": "failed", column: text})])
        before = place.dump()
        for dry_run in (True, False):
            with pytest.raises(
                SchemaError, match=rf"job 2: the {column} (?:is not JSON|is too deep|has too long a number)"
            ):
                migrate(place.location, dry_run=dry_run)
        assert place.dump() == before

    @pytest.mark.parametrize(
        "text",
        [
            '{"x": -' + 640 * "7" + "}",
            100 * "[" + 100 * "]",
            "[" + 200 * "[]," + "1]",
            '{"x": "' + 5_000 * "7" + '"}',
            '["\\ud83d\\ude00", "\\\\u0000"]',
        ],
        ids=["640 digits", "100 levels", "many lists", "digits in a string", "a pair of surrogates"],
    )
    def test_is_not_what_only_looks_like_it(self, place: Place, text: str) -> None:
        make_old(place, rows=[job(payload=text, status="completed", result=text)])
        migrate(place.location)
        with PromptStudioDatabase(place.location, "tester") as database:
            (found,) = database.list_jobs()
        assert found["payload"] == found["result"] == json.loads(text)

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
        assert ids(old) == list(range(1, len(ROWS) + 1))

    def test_says_what_is_wrong(self, path: Path) -> None:
        path.write_bytes(1000 * b"no database ")
        failed = self.run("migrate", "--database", str(path))
        assert (failed.returncode, failed.stdout) == (1, "")
        assert "not migrated: " in failed.stderr
        assert "name another file" in failed.stderr

    def test_explains_itself(self) -> None:
        assert "--dry-run" in self.run("migrate", "--help").stdout
        assert self.run().returncode == 2


def test_a_report_is_a_plain_value(path: Path) -> None:
    report = migrate(path)
    assert isinstance(report, MigrationReport)
    assert report.place == str(path)
