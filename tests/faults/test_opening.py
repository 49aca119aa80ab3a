"""Files that cannot be opened: a typed error that says what to do, and a file that is left as it was."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from prompt_studio import (
    DatabaseError,
    PromptStudioDatabase,
    SchemaError,
    Settings,
    StoreUnavailable,
    TransientConflict,
)
from prompt_studio.storage.sqlite import schema
from tests.faults.conftest import unprivileged
from tests.faults.instrumented import interfere, sqlite_error
from tests.faults.processes import at_once

pytestmark = pytest.mark.faults

PROCESSES = 6


def sql(path: Path, *statements: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            rows = connection.execute(statement).fetchall()
    return rows


def journal_mode(path: Path) -> object:
    return sql(path, "PRAGMA journal_mode")[0][0]


class TestAMissingFile:
    def test_is_made(self, path: Path) -> None:
        with PromptStudioDatabase(str(path), "tester") as database:
            assert database.count_jobs() == 0
        assert path.is_file()
        assert sql(path, "SELECT version FROM prompt_studio_schema") == [(1,)]

    @pytest.mark.verifies("PS-FAULTS-2")
    def test_is_not_made_when_it_must_exist(self, path: Path) -> None:
        with pytest.raises(StoreUnavailable, match=r"does not exist: correct the location, or .*create=True") as caught:
            PromptStudioDatabase(path, "tester", create=False)
        assert not caught.value.outcome_unknown
        assert not path.exists()

    @pytest.mark.verifies("PS-FAULTS-2")
    def test_is_not_made_without_its_directory(self, path: Path) -> None:
        with pytest.raises(StoreUnavailable, match=r"directory .* does not exist: make it"):
            PromptStudioDatabase(path / "deeper" / "jobs.db", "tester")
        assert not path.exists()

    def test_may_have_an_odd_name_and_a_later_working_directory(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        odd = Path("a ?#%20 b\udcff.db")
        with PromptStudioDatabase(odd, "tester") as database:
            monkeypatch.chdir("/")
            database.close_connection()
            assert database.count_jobs() == 0
        assert [found.name for found in tmp_path.iterdir()] == [odd.name]


class TestAnEmptyFile:
    def test_becomes_a_database(self, path: Path) -> None:
        path.touch()
        with PromptStudioDatabase(path, "tester") as database:
            assert database.count_jobs() == 0

    @pytest.mark.verifies("PS-FAULTS-3")
    def test_stays_empty_when_it_must_be_one(self, path: Path) -> None:
        path.touch()
        with pytest.raises(SchemaError, match="is empty: open it with create=True"):
            PromptStudioDatabase(path, "tester", create=False)
        assert path.stat().st_size == 0

    @pytest.mark.verifies("PS-FAULTS-1")
    def test_waits_in_vain_for_an_idle_reader(self, path: Path, impatient: Settings) -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT * FROM sqlite_schema").fetchall()
            with pytest.raises(TransientConflict, match="a transaction that is left open"):
                PromptStudioDatabase(path, "tester", settings=impatient)
        assert sql(path, "SELECT * FROM sqlite_schema") == []


class TestWhatIsNoFile:
    @pytest.mark.verifies("PS-FAULTS-2")
    def test_is_a_directory(self, tmp_path: Path) -> None:
        with pytest.raises(StoreUnavailable, match="not a regular file: name a file"):
            PromptStudioDatabase(tmp_path, "tester")

    @pytest.mark.verifies("PS-FAULTS-2")
    def test_is_a_pipe_which_would_wait_for_ever(self, path: Path) -> None:
        os.mkfifo(path)
        with pytest.raises(StoreUnavailable, match="not a regular file"):
            PromptStudioDatabase(path, "tester")

    @pytest.mark.verifies("PS-FAULTS-2")
    def test_lies_under_a_file(self, path: Path) -> None:
        path.touch()
        with pytest.raises(StoreUnavailable, match="does not exist"):
            PromptStudioDatabase(path / "jobs.db", "tester")

    @pytest.mark.verifies("PS-FAULTS-2")
    def test_has_too_long_a_name(self, tmp_path: Path) -> None:
        with pytest.raises(StoreUnavailable, match="name too long: correct the location"):
            PromptStudioDatabase(tmp_path / (300 * "x"), "tester")


class TestAReadOnlyPlace:
    @pytest.mark.parametrize(("file_mode", "directory_mode"), [(0o444, 0o777), (0o666, 0o555), (0o666, 0o666)])
    @pytest.mark.verifies("PS-FAULTS-2")
    def test_is_refused_on_opening(self, open_directory: Path, file_mode: int, directory_mode: int) -> None:
        path = open_directory / "jobs.db"
        PromptStudioDatabase(path, "tester").close()
        content = path.read_bytes()
        path.chmod(file_mode)
        open_directory.chmod(directory_mode)
        with unprivileged(), pytest.raises(StoreUnavailable, match="read-only for this user: change its mode"):
            PromptStudioDatabase(path, "tester")
        open_directory.chmod(0o755)
        assert path.read_bytes() == content

    @pytest.mark.verifies("PS-FAULTS-2")
    def test_is_refused_when_nothing_can_be_seen_in_it(self, open_directory: Path) -> None:
        hidden = open_directory / "hidden"
        (hidden / "deeper").mkdir(parents=True)
        hidden.chmod(0o600)
        with unprivileged(), pytest.raises(StoreUnavailable, match=r"does not exist|cannot be found"):
            PromptStudioDatabase(hidden / "deeper" / "jobs.db", "tester")
        hidden.chmod(0o700)


class TestAForeignFile:
    @pytest.mark.parametrize("content", [b"xy", 1000 * b"not a database ", b"SQLite format 3\0" + 100 * b"\xff"])
    @pytest.mark.verifies("PS-FAULTS-3")
    def test_that_is_no_database_is_left_alone(self, path: Path, content: bytes) -> None:
        path.write_bytes(content)
        with pytest.raises(SchemaError, match="not an SQLite database: name another file"):
            PromptStudioDatabase(path, "tester")
        assert path.read_bytes() == content

    @pytest.mark.parametrize(
        ("statement", "says"),
        [
            ("CREATE TABLE books (title)", "another program .it has books.: name another file, or see by .*migrate"),
            ("CREATE VIEW shelf AS SELECT 1", "belongs to another program .it has shelf."),
            ("CREATE TABLE prompt_studio_job_queue (id)", "older than this library.*migrate --database .* --dry-run"),
            ("CREATE TABLE prompt_studio_idempotency (id)", "older than this library.*migrate --database .* --dry-run"),
        ],
    )
    @pytest.mark.verifies("PS-FAULTS-3", "PS-MIGRATION-1")
    def test_with_other_tables_is_left_alone(self, path: Path, statement: str, says: str) -> None:
        sql(path, statement)
        content = path.read_bytes()
        with pytest.raises(SchemaError, match=says):
            PromptStudioDatabase(path, "tester")
        assert path.read_bytes() == content
        assert list(path.parent.iterdir()) == [path]

    @pytest.mark.parametrize("version", [2, 99])
    @pytest.mark.verifies("PS-FAULTS-3")
    def test_of_a_newer_version_is_left_alone(self, made: Path, version: int) -> None:
        sql(made, "PRAGMA journal_mode = DELETE", f"INSERT INTO prompt_studio_schema VALUES ({version}, 0)")
        content = made.read_bytes()
        with pytest.raises(
            SchemaError, match=f"version {version} of the schema, and this program knows 1: use a newer"
        ):
            PromptStudioDatabase(made, "tester")
        assert made.read_bytes() == content

    @pytest.mark.verifies("PS-FAULTS-3")
    def test_of_no_version_is_left_alone(self, path: Path) -> None:
        sql(path, "CREATE TABLE prompt_studio_schema (version INTEGER)")
        with pytest.raises(SchemaError, match="version None"):
            PromptStudioDatabase(path, "tester")

    @pytest.mark.verifies("PS-FAULTS-2")
    def test_that_is_damaged_is_reported(self, made: Path) -> None:
        content = bytearray(made.read_bytes())
        content[100:4096] = bytes(3996)
        made.write_bytes(content)
        with pytest.raises(StoreUnavailable, match="integrity_check, and restore a backup"):
            PromptStudioDatabase(made, "tester")

    @pytest.mark.verifies("PS-FAULTS-4")
    def test_that_lost_a_table_is_reported(self, made: Path) -> None:
        with PromptStudioDatabase(made, "tester") as database:
            sql(made, "DROP TABLE prompt_studio_idempotency")
            with pytest.raises(DatabaseError, match=r"no such table.*restore"):
                database.lookup_idempotency("job", "k", None)


class TestAnOldSqlite:
    def test_is_refused(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 36, 0))
        with pytest.raises(DatabaseError, match=r"too old: use a Python that comes with SQLite 3\.37\.0 or newer"):
            PromptStudioDatabase(path, "tester")
        assert not path.exists()


class TestTheJournal:
    @pytest.mark.parametrize(("wal", "mode"), [(True, "wal"), (False, "delete")])
    def test_is_what_the_settings_say_also_for_a_file_that_exists(self, made: Path, *, wal: bool, mode: str) -> None:
        for settings in (Settings(sqlite_wal=not wal), Settings(sqlite_wal=wal)):
            PromptStudioDatabase(made, "tester", settings=settings).close()
        assert journal_mode(made) == mode

    def test_stays_as_it_is_beside_an_idle_reader(self, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(schema, "JOURNAL_SECONDS_MAX", 0.02)
        PromptStudioDatabase(made, "tester", settings=Settings(sqlite_wal=False)).close()
        with closing(sqlite3.connect(made, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT * FROM prompt_studio_job_queue").fetchall()
            with PromptStudioDatabase(made, "tester") as database:
                assert database.count_jobs() == 1
            assert journal_mode(made) == "delete"
        PromptStudioDatabase(made, "tester").close()
        assert journal_mode(made) == "wal"

    def test_lets_writers_pass_an_idle_reader(self, made: Path) -> None:
        with closing(sqlite3.connect(made, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT * FROM prompt_studio_job_queue").fetchall()
            settings = Settings(write_retry_seconds=0)
            with PromptStudioDatabase(made, "tester", settings=settings) as database:
                assert database.acquire_next_job() is not None

    def test_and_the_disk_are_in_step_after_each_commit(self, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        levels = []

        def look(connection: sqlite3.Connection, sql: str) -> None:
            if "acquire_best_job" in sql:
                (level,) = sqlite3.Connection.execute(connection, "PRAGMA synchronous").fetchone()
                (checked,) = sqlite3.Connection.execute(connection, "PRAGMA foreign_keys").fetchone()
                levels.append((level, checked))

        interfere(monkeypatch, look)
        with PromptStudioDatabase(made, "tester") as database:
            database.acquire_next_job()
        assert levels == [(3, 1)]


class TestManyProcessesAtOnce:
    @pytest.mark.parametrize("attempt", range(5))
    @pytest.mark.verifies("PS-FAULTS-1", "INV-NOTHING-LOST")
    def test_open_a_new_file(self, path: Path, attempt: int) -> None:
        def work(number: int) -> int:
            with PromptStudioDatabase(path, f"process-{number}") as database:
                return database.create_job("evaluation", attempt, {})["id"]

        ids = at_once(PROCESSES, work)
        assert sorted(ids) == list(range(1, PROCESSES + 1))
        assert sql(path, "SELECT version FROM prompt_studio_schema") == [(1,)]
        assert journal_mode(path) == "wal"

    def test_open_it_beside_an_idle_reader(self, made: Path) -> None:
        def work(number: int) -> int:
            with PromptStudioDatabase(made, f"process-{number}") as database:
                return database.create_job("evaluation", 1, {})["id"]

        with closing(sqlite3.connect(made, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT * FROM prompt_studio_job_queue").fetchall()
            ids = at_once(PROCESSES, work)
            reader.execute("COMMIT")
        assert sorted(ids) == list(range(2, PROCESSES + 2))

    def test_lose_a_race_to_initialise(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        raced: list[bool] = []

        def be_quicker(_: sqlite3.Connection, sql: str) -> None:
            if sql == "BEGIN IMMEDIATE" and not raced:
                raced.append(True)
                PromptStudioDatabase(path, "rival").close()

        interfere(monkeypatch, be_quicker)
        with PromptStudioDatabase(path, "tester") as database:
            assert database.count_jobs() == 0
        assert sql(path, "SELECT version FROM prompt_studio_schema") == [(1,)]


class TestAnOpeningThatFailsHalfWay:
    @pytest.mark.parametrize("statement", ["PRAGMA synchronous", "record_schema_version"])
    @pytest.mark.verifies("PS-FAULTS-2")
    def test_leaves_no_connection_and_no_half_of_a_schema(
        self, path: Path, monkeypatch: pytest.MonkeyPatch, statement: str
    ) -> None:
        def break_down(_: sqlite3.Connection, sql: str) -> None:
            if statement in sql:
                raise sqlite_error(sqlite3.SQLITE_IOERR)

        with monkeypatch.context() as patched:
            interfere(patched, break_down)
            with pytest.raises(StoreUnavailable, match="look at the disk"):
                PromptStudioDatabase(path, "tester")
        assert sql(path, "SELECT * FROM sqlite_schema") == []
        PromptStudioDatabase(path, "tester").close()

    def test_says_when_sqlite_cannot_open_the_file(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def cannot(*_: object, **__: object) -> sqlite3.Connection:
            raise sqlite_error(sqlite3.SQLITE_CANTOPEN)

        monkeypatch.setattr(sqlite3, "connect", cannot)
        with pytest.raises(StoreUnavailable, match="check that the file and its directory exist"):
            PromptStudioDatabase(path, "tester")
