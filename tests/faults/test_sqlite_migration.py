"""What only a file of SQLite can hold, and a migration of it must name, keep or refuse."""

import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from prompt_studio import PromptStudioDatabase, SchemaError, Settings, TransientConflict, migrate
from prompt_studio.storage.sqlite import migration as sqlite_migration
from prompt_studio.storage.statements import Statement
from prompt_studio.storage.transactions import Session
from tests.harness.old_tables import JOBS, KEYS, ROWS, SqlitePlace, TextOfBytes, add_rows, job, key, make_old

pytestmark = pytest.mark.faults
INVALID_UTF8 = TextOfBytes(b'"\xff"')
LONE_SURROGATE = TextOfBytes(b'"\xed\xa0\x80"')


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
            ({"created_at": "2024-02-31 00:00:00"}, "job 2: a time cannot be read"),
            ({"started_at": "2023-02-29T07:08:09Z"}, "job 2: a time cannot be read"),
            ({"completed_at": "2024-05-06 24:00:00"}, "job 2: a time cannot be read"),
            ({"leased_until": "9999-12-31 23:59:59.9999"}, "job 2: a time cannot be read"),
            ({"payload": INVALID_UTF8}, "job 2: the payload is not Unicode"),
            ({"result": INVALID_UTF8}, "job 2: the result is not Unicode"),
            ({"payload": LONE_SURROGATE}, "job 2: the payload is not Unicode"),
            ({"client_id": INVALID_UTF8}, "job 2: a text is not Unicode"),
            ({"error_message": LONE_SURROGATE}, "job 2: a text is not Unicode"),
            ({"client_id": b"old"}, "job 2: a text is missing, or is none"),
            ({"error_message": b"old"}, "job 2: a text is missing, or is none"),
            ({"lease_owner": b"old"}, "job 2: a text is missing, or is none"),
            ({"uuid": b"old"}, "job 2: a text is missing, or is none"),
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

    @pytest.mark.parametrize(
        ("values", "says"),
        [
            ({"client_id": None}, "job 2: a text is missing, or is none"),
            ({"job_type": None}, "job 2: the type or status is unknown"),
            ({"job_type": "Evaluation"}, "job 2: the type or status is unknown"),
            ({"status": "QUEUED"}, "job 2: the type or status is unknown"),
            ({"uuid": "twice"}, "job 1: another job has its id or uuid; job 2: another job has its id or uuid"),
            ({"id": 1}, "job 1: another job has its id or uuid; job 1: another job has its id or uuid"),
            ({"id": None}, "job None: the id is none"),
        ],
    )
    def test_is_named_in_a_file_without_rules(self, path: Path, values: dict[str, object], says: str) -> None:
        place = SqlitePlace(str(path))
        place.run(
            f"CREATE TABLE {JOBS} (id BIGINT, uuid TEXT, job_type TEXT COLLATE NOCASE, entity_id INTEGER,"
            " status TEXT COLLATE NOCASE, payload TEXT, client_id TEXT, created_at TIMESTAMP)"
        )
        add_rows(place, JOBS, [job(id=1, uuid="twice", status="queued"), job(id=2, status="queued") | values])
        before = place.dump()
        for dry_run in (True, False):
            with pytest.raises(SchemaError, match=f"nothing was changed, .*{says}.: mend or delete them"):
                migrate(path, dry_run=dry_run)
        assert place.dump() == before

    @pytest.mark.parametrize(
        ("values", "says"),
        [
            ({"entity_type": b"prompt"}, "key 1: a text is none"),
            ({"idempotency_key": LONE_SURROGATE}, "key 1: a text is not Unicode"),
            ({"user_id": INVALID_UTF8}, "key 1: a text is not Unicode"),
            ({"entity_id": "seven"}, "key 1: a number is none"),
            ({"created_at": "2024-04-31"}, "key 1: a time cannot be read"),
        ],
    )
    def test_may_be_a_key_in_a_file(self, path: Path, values: dict[str, object], says: str) -> None:
        place = SqlitePlace(str(path))
        make_old(place, keys=[key("k", 1) | values])
        before = place.dump()
        for dry_run in (True, False):
            with pytest.raises(SchemaError, match=f"nothing was changed, .*{says}.: mend or delete them"):
                migrate(path, dry_run=dry_run)
        assert place.dump() == before

    @pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16le", "UTF-16be"])
    def test_is_no_text_in_another_encoding(self, path: Path, encoding: str) -> None:
        place = SqlitePlace(str(path))
        with closing(sqlite3.connect(path)) as connection:  # a file keeps the encoding in which it began
            connection.execute(f"PRAGMA encoding = '{encoding}'")
            connection.execute("CREATE TABLE books (title)")
        make_old(place, rows=[job(payload='{"x": "é"}', client_id="ü"), job(payload="1.5")], keys=[key("é", 1, "ü")])
        migrate(path)
        with PromptStudioDatabase(place.location, "tester") as database:
            found = {row["id"]: (row["payload"], row["client_id"]) for row in database.list_jobs()}
            assert found == {1: ({"x": "é"}, "ü"), 2: (1.5, "old")}
            assert database.lookup_idempotency("prompt", "é", "ü") == 1

    @pytest.mark.parametrize("column", ["payload", "result"])
    @pytest.mark.parametrize(
        "text",
        [
            '"a\\u0000b"',
            '{"a\\u0000": 1}',
            '["\\ud800"]',
            '["\\uDFff\\uD800"]',
        ],
        ids=["NUL", "NUL in a key", "high surrogate", "surrogates in the wrong order"],
    )
    def test_may_be_a_character_that_the_store_refuses(self, path: Path, column: str, text: str) -> None:
        place = SqlitePlace(str(path))
        make_old(place, rows=[job(), job(**{"status": "failed", column: text})])
        before = place.dump()
        for dry_run in (True, False):
            with pytest.raises(SchemaError, match=rf"job 2: the {column} has U\+0000 or a lone surrogate"):
                migrate(place.location, dry_run=dry_run)
        assert place.dump() == before

    def test_may_be_what_follows_a_nul(self, path: Path) -> None:
        place = SqlitePlace(str(path))
        make_old(place, rows=[job(payload="12\0x")])
        with pytest.raises(SchemaError, match="job 1: the payload is not JSON"):
            migrate(place.location)

    def test_is_counted_when_it_is_too_much_to_be_shown(self, path: Path) -> None:
        place = SqlitePlace(str(path))
        make_old(place, rows=[job(payload="oops") for _ in range(25)])
        with pytest.raises(
            SchemaError, match=r"25 rows cannot be converted \(job 1: .*; job 20: .*; and 5 more\):"
        ) as one:
            migrate(place.location)
        assert "job 21:" not in str(one.value)
        place.run(f"UPDATE {JOBS} SET payload = ?", ['"\\u0000"'])
        with pytest.raises(SchemaError, match=r"25 rows cannot be converted \(job 1: .*; job 20: .*; and 5 more\):"):
            migrate(place.location)


class TestADryRun:
    @pytest.fixture(params=["wal", "delete"])
    def old(self, request: pytest.FixtureRequest, path: Path) -> SqlitePlace:
        place = SqlitePlace(str(path))
        place.run(f"PRAGMA journal_mode = {request.param}")
        make_old(place, rows=ROWS)
        return place

    @pytest.mark.verifies("PS-MIGRATION-2")
    def test_finds_what_the_migration_would_find(self, old: SqlitePlace) -> None:
        old.run("CREATE TABLE books (title)")
        old.run("CREATE INDEX prompt_studio_job_queue_entity ON books (title)")
        before = old.dump()
        for dry_run in (True, False):
            with pytest.raises(
                SchemaError, match=r"prompt_studio_job_queue_entity already exists: .*: rename or drop it"
            ):
                migrate(old.location, dry_run=dry_run)
        assert old.dump() == before

    @pytest.mark.verifies("PS-MIGRATION-2")
    def test_finds_a_view_in_the_place_of_a_table(self, path: Path) -> None:
        old = SqlitePlace(str(path))
        make_old(old, rows=ROWS)
        old.run(f"ALTER TABLE {JOBS} RENAME TO jobs")
        old.run(f"CREATE VIEW {JOBS} AS SELECT * FROM jobs")
        before = old.dump()
        for dry_run in (True, False):
            with pytest.raises(SchemaError, match=r"use DROP VIEW .*: bring it into the known form"):
                migrate(old.location, dry_run=dry_run)
        assert old.dump() == before

    @pytest.mark.verifies("PS-MIGRATION-2")
    def test_sees_one_state(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        old = SqlitePlace(str(path))
        make_old(old, rows=ROWS)
        old.run("PRAGMA journal_mode = WAL")

        class WriterInBetween:
            Error = sqlite3.Error

            @staticmethod
            def connect(name: str, **options: Any) -> Any:  # noqa: ANN401 - as the one that it replaces
                assert name == "", "the original was opened before"
                add_rows(old, JOBS, [job()])
                return sqlite3.connect(name, **options)

        monkeypatch.setattr(sqlite_migration, "sqlite3", WriterInBetween)
        assert migrate(path, dry_run=True).jobs == len(ROWS)
        assert len(old.run(f"SELECT id FROM {JOBS}")) == len(ROWS) + 1

    @pytest.mark.verifies("PS-FAULTS-1")
    def test_waits_within_the_limit_for_a_writer_that_keeps_everybody_out(self, path: Path) -> None:
        old = SqlitePlace(str(path))
        make_old(old, rows=ROWS)
        with closing(sqlite3.connect(path, isolation_level=None)) as writer:
            writer.execute("BEGIN EXCLUSIVE")
            with pytest.raises(TransientConflict, match=r"others were in the way for 0\.01 s"):
                migrate(old.location, dry_run=True, settings=Settings(write_retry_seconds=0.01))
        assert migrate(old.location, dry_run=True).jobs == len(ROWS)

    @pytest.mark.verifies("PS-FAULTS-4")
    def test_says_where_there_is_no_space(self, path: Path) -> None:
        old = SqlitePlace(str(path))
        make_old(old, rows=[job(payload=json.dumps("x" * 100_000)) for _ in range(100)])
        before = old.dump()
        program = (
            "import resource, sys\n"
            "from prompt_studio import migrate\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))\n"
            "migrate(sys.argv[1], dry_run=True)\n"
        )
        ended = subprocess.run(
            [sys.executable, "-c", program, old.location], check=False, timeout=60, capture_output=True, text=True
        )
        assert "StoreUnavailable: the copy of" in ended.stderr
        assert "SQLite's directory for temporary files (SQLITE_TMPDIR): " in ended.stderr
        assert old.dump() == before

    def test_leaves_no_file(self, old: SqlitePlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        temporary = tmp_path / "temporary"
        temporary.mkdir()
        monkeypatch.setenv("SQLITE_TMPDIR", str(temporary))
        migrate(old.location, dry_run=True)
        assert list(temporary.iterdir()) == []


@pytest.mark.verifies("PS-MIGRATION-9")
class TestWhatRefersToTheOldTables:
    @pytest.mark.parametrize(
        "statement",
        [
            f'CREATE VIEW shelf AS SELECT 1 FROM "{JOBS}"',
            f"CREATE VIEW shelf AS SELECT 1 FROM [{JOBS}]",
            f"CREATE VIEW shelf AS SELECT 1 FROM `{JOBS.upper()}`",
            f"CREATE VIEW shelf AS SELECT 1 FROM '{JOBS}'",
            f"CREATE VIEW shelf AS SELECT 1 FROM main.{KEYS}",
            f"CREATE VIEW shelf AS SELECT 'it''s' FROM /* -- */ {KEYS}",
            f'CREATE VIEW shelf AS SELECT 1 AS "a""b" -- \'\n FROM {KEYS}',
            f"CREATE TRIGGER shelf AFTER INSERT ON books BEGIN DELETE FROM {JOBS}; END",
        ],
    )
    def test_is_named_in_whatever_quotes(self, path: Path, statement: str) -> None:
        place = SqlitePlace(str(path))
        make_old(place, rows=ROWS)
        place.run("CREATE TABLE books (title)")
        place.run(statement)
        for dry_run in (True, False):
            with pytest.raises(SchemaError, match=r"(view|trigger) shelf refers to"):
                migrate(path, dry_run=dry_run)

    @pytest.mark.parametrize(
        "statement",
        [
            f"CREATE VIEW x{JOBS}_archive AS SELECT * FROM books",
            f"CREATE VIEW shelf AS SELECT title AS {JOBS}_title FROM books",
            f"CREATE VIEW shelf AS SELECT title /* of {JOBS} */ FROM books -- not {KEYS}",
            f"CREATE VIEW shelf AS SELECT title, 'see {JOBS}' FROM books",
        ],
    )
    def test_is_nothing_that_only_looks_like_it(self, path: Path, statement: str) -> None:
        place = SqlitePlace(str(path))
        make_old(place, rows=ROWS)
        place.run("CREATE TABLE books (title)")
        place.run(statement)
        assert migrate(path).jobs == len(ROWS)

    def test_loses_no_row_of_its_own(self, path: Path) -> None:
        place = SqlitePlace(str(path))
        make_old(place, rows=ROWS)
        place.run(f"CREATE TABLE notes (job INTEGER REFERENCES {JOBS.upper()} (id) ON DELETE CASCADE)")
        place.run("INSERT INTO notes VALUES (1)")
        with pytest.raises(SchemaError, match="table notes refers to"):
            migrate(path)
        assert place.run("SELECT * FROM notes") == [(1,)]

    def test_is_listed_when_the_old_table_refers_to_it(self, path: Path) -> None:
        place = SqlitePlace(str(path))
        make_old(place, rows=ROWS)
        assert f"foreign key {JOBS}.project_id to prompt_studio_projects" in migrate(path).drops


@pytest.mark.verifies("PS-FAULTS-1")
def test_a_long_migration_has_patience_left_for_its_commit(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = SqlitePlace(str(path))
    make_old(place, rows=ROWS)
    limit, run = 0.05, Session.run
    refused: list[Statement] = []

    def be_slow(session: Session, statement: Statement, parameters: Mapping[str, object] = {}) -> Any:  # noqa: ANN401 - as the one that it replaces
        begun = time.monotonic()
        while statement.name == "convert_jobs" and time.monotonic() < begun + 2 * limit:
            pass
        if statement.name == "commit" and not refused:
            refused.append(statement)
            raise TransientConflict("a reader is in the way")
        return run(session, statement, parameters)

    monkeypatch.setattr(Session, "run", be_slow)
    assert migrate(path, settings=Settings(write_retry_seconds=limit)).jobs == len(ROWS)
    assert refused


def test_a_rival_is_told_that_another_migration_may_be_under_way(path: Path) -> None:
    place = SqlitePlace(str(path))
    make_old(place, rows=ROWS)
    with place.writing(), pytest.raises(TransientConflict, match="or for another migration that is under way"):
        migrate(path, settings=Settings(write_retry_seconds=0.01))
