"""Writes that fail on the way: what happened to them, and that nothing else is broken by it."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from prompt_studio import (
    ConflictError,
    DatabaseError,
    InvariantViolation,
    PromptStudioDatabase,
    SchemaError,
    StoreUnavailable,
    TransientConflict,
)
from prompt_studio.storage.sqlite.trouble import typed
from tests.faults.instrumented import interfere, sqlite_error

pytestmark = pytest.mark.faults


def keep_small(connection: sqlite3.Connection, sql: str) -> None:
    """The disk is full as soon as the file needs one more page."""
    del sql
    (pages,) = sqlite3.Connection.execute(connection, "PRAGMA page_count").fetchone()
    sqlite3.Connection.execute(connection, f"PRAGMA max_page_count = {max(pages, 1)}").fetchall()


class TestAFullDisk:
    @pytest.mark.verifies("PS-FAULTS-2")
    def test_refuses_the_write_and_keeps_what_there_is(self, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        interfere(monkeypatch, keep_small)
        with PromptStudioDatabase(made, "tester") as database:
            with pytest.raises(StoreUnavailable, match="free some space") as caught:
                database.create_job("evaluation", 1, "x" * 100_000)
            assert not caught.value.outcome_unknown
            job = database.acquire_next_job()
            assert job is not None
            assert database.complete_job(job["id"], lease_token=1)
            assert database.count_jobs() == 1

    @pytest.mark.verifies("PS-FAULTS-2", "PS-FAULTS-4")
    def test_spoils_the_callers_transaction(self, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        interfere(monkeypatch, keep_small)

        def go_on(database: PromptStudioDatabase) -> None:
            with database.transaction():
                database.create_job("evaluation", 1, {})
                with pytest.raises(StoreUnavailable):
                    database.create_job("evaluation", 1, "x" * 100_000)
                with pytest.raises(DatabaseError, match="spoiled"):
                    database.create_job("evaluation", 1, {})

        with PromptStudioDatabase(made, "tester") as database:
            with pytest.raises(DatabaseError, match="spoiled"):
                go_on(database)
            assert database.count_jobs() == 1


class TestABrokenDisk:
    @pytest.mark.verifies("PS-FAULTS-2")
    def test_leaves_it_unknown_whether_a_commit_happened(self, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def break_down(_: sqlite3.Connection, sql: str) -> None:
            if sql == "COMMIT":
                raise sqlite_error(sqlite3.SQLITE_IOERR_FSYNC)

        with monkeypatch.context() as patched:
            interfere(patched, break_down)
            with PromptStudioDatabase(made, "tester") as database:
                with pytest.raises(StoreUnavailable, match="look at the disk") as caught:
                    database.acquire_next_job()
                assert caught.value.outcome_unknown
                assert database.count_jobs(status="queued") == 1

    @pytest.mark.verifies("PS-FAULTS-2")
    def test_is_known_to_have_done_nothing_before_the_commit(self, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def break_down(_: sqlite3.Connection, sql: str) -> None:
            if "acquire_best_job" in sql or sql == "ROLLBACK":
                raise sqlite_error(sqlite3.SQLITE_IOERR)

        with monkeypatch.context() as patched:
            interfere(patched, break_down)
            with PromptStudioDatabase(made, "tester") as database:
                with pytest.raises(StoreUnavailable, match="look at the disk") as caught:
                    database.acquire_next_job()
                assert not caught.value.outcome_unknown
                # The rollback failed too, so the connection was closed; others are not kept waiting, nor is this one.
                assert database.create_job("evaluation", 1, {})["id"] == 2
                assert database.count_jobs(status="queued") == 2

    def test_is_not_confused_with_an_interruption(self, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def interrupt(_: sqlite3.Connection, sql: str) -> None:
            if "acquire_best_job" in sql:
                raise KeyboardInterrupt

        interfere(monkeypatch, interrupt)
        with PromptStudioDatabase(made, "tester") as database:
            with pytest.raises(KeyboardInterrupt):
                database.acquire_next_job()
            assert database.create_job("evaluation", 1, {})["id"] == 2


class TestRowsThatBreakTheRules:
    @pytest.mark.parametrize(
        ("change", "rule"),
        [
            ("lease_owner = 'w'", "INV-LEASE-FIELDS"),
            ("leased_until = 1", "INV-LEASE-FIELDS"),
            ("executions = 4, lease_token = 4", "INV-EXECUTIONS-BOUNDED"),
            ("executions = -1", "INV-EXECUTIONS-BOUNDED"),
            ("executions = 1", "INV-TOKEN-GROWS"),
            ("result = '1'", "INV-RESULT-FENCED"),
            ("closed_token = 0", "INV-REPLAY-SAFE"),
            ("closed_by = 'fail'", "INV-REPLAY-SAFE"),
            ("closed_by = 'fail', closed_token = 1", "INV-REPLAY-SAFE"),
            ("closed_by = 'crash', closed_token = 0", "closed_by_is_known"),
            ("completed_at = 1", "terminal_is_completed"),
            ("status = 'cancelled'", "terminal_is_completed"),
            ("started_at = 1", "queued_is_not_started"),
            ("status = 'completed', completed_at = 1", "running_is_started"),
            ("status = 'asleep'", "status_is_known"),
            ("job_type = 'cooking'", "job_type_is_known"),
            ("priority = 0", "priority_in_range"),
            ("max_retries = -1", "max_retries_in_range"),
            ("retry_count = -1", "retry_count_in_range"),
            ("late = 2", "flags_are_flags"),
            ("payload = 'x'", "payload_is_json"),
        ],
    )
    @pytest.mark.verifies("INV-LEASE-FIELDS", "INV-EXECUTIONS-BOUNDED")
    def test_are_refused_by_the_database_whoever_writes(self, made: Path, change: str, rule: str) -> None:
        with (
            closing(sqlite3.connect(made, isolation_level=None)) as connection,
            pytest.raises(sqlite3.IntegrityError, match=f"CHECK constraint failed: {rule}$"),
        ):
            connection.execute(f"UPDATE prompt_studio_job_queue SET revision = revision + 1, {change}")

    @pytest.mark.verifies("INV-EXECUTIONS-BOUNDED", "PS-FAULTS-4")
    def test_are_reported_under_the_rules_name(self, made: Path) -> None:
        with closing(sqlite3.connect(made, isolation_level=None)) as connection:
            connection.execute("PRAGMA ignore_check_constraints = ON")
            connection.execute(
                "UPDATE prompt_studio_job_queue SET revision = revision + 1, executions = 4, lease_token = 4"
            )
        with PromptStudioDatabase(made, "tester") as database:
            with pytest.raises(InvariantViolation, match=r"INV-EXECUTIONS-BOUNDED.*report it") as caught:
                database.acquire_next_job()
            assert caught.value.invariant == "INV-EXECUTIONS-BOUNDED"
            assert database.count_jobs(status="queued") == 1


class TestTyped:
    @pytest.mark.parametrize(
        ("code", "kind"),
        [
            (sqlite3.SQLITE_BUSY, TransientConflict),
            (sqlite3.SQLITE_BUSY_SNAPSHOT, TransientConflict),
            (sqlite3.SQLITE_BUSY_RECOVERY, TransientConflict),
            (sqlite3.SQLITE_PROTOCOL, TransientConflict),
            (sqlite3.SQLITE_NOTADB, SchemaError),
            (sqlite3.SQLITE_READONLY, StoreUnavailable),
            (sqlite3.SQLITE_READONLY_DBMOVED, StoreUnavailable),
            (sqlite3.SQLITE_IOERR_WRITE, StoreUnavailable),
            (sqlite3.SQLITE_CORRUPT_VTAB, StoreUnavailable),
            (sqlite3.SQLITE_FULL, StoreUnavailable),
            (sqlite3.SQLITE_CANTOPEN, StoreUnavailable),
            (sqlite3.SQLITE_NOMEM, StoreUnavailable),
            (sqlite3.SQLITE_PERM, StoreUnavailable),
            (sqlite3.SQLITE_CONSTRAINT_UNIQUE, ConflictError),
            (sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY, ConflictError),
            (sqlite3.SQLITE_CONSTRAINT_CHECK, InvariantViolation),
            (sqlite3.SQLITE_CONSTRAINT_NOTNULL, InvariantViolation),
            (sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY, InvariantViolation),
            (sqlite3.SQLITE_LOCKED, DatabaseError),
            (sqlite3.SQLITE_ERROR, DatabaseError),
        ],
    )
    @pytest.mark.verifies("PS-FAULTS-4")
    def test_tells_the_kinds_apart(self, code: int, kind: type[DatabaseError]) -> None:
        error = typed(sqlite_error(code, "said: this"), "jobs.db", committing=False)
        assert type(error) is kind
        assert str(error).startswith("jobs.db")
        assert getattr(error, "outcome_unknown", False) is False

    @pytest.mark.parametrize(
        ("code", "unknown"),
        [(sqlite3.SQLITE_IOERR, True), (sqlite3.SQLITE_CORRUPT, True), (sqlite3.SQLITE_FULL, False)],
    )
    def test_knows_whether_a_commit_may_have_happened(self, code: int, *, unknown: bool) -> None:
        error = typed(sqlite_error(code), "jobs.db", committing=True)
        assert isinstance(error, StoreUnavailable)
        assert error.outcome_unknown is unknown

    def test_takes_an_error_without_a_number(self) -> None:
        assert type(typed(sqlite3.ProgrammingError("closed"), "jobs.db", committing=False)) is DatabaseError
