"""A caller's own transaction: what may be part of it, and what becomes of it when something goes wrong."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prompt_studio import DatabaseError, InputError, PromptStudioDatabase
from prompt_studio.storage.dialect import NO_PARAMETERS, Parameters
from prompt_studio.storage.patience import Patience
from prompt_studio.storage.statements import Statement
from prompt_studio.storage.transactions import Session
from tests.conformance.conftest import Create, Open
from tests.conformance.stores import Door

pytestmark = pytest.mark.conformance

Call = Callable[[PromptStudioDatabase], object]

OUTSIDE: dict[str, Call] = {
    "acquire": lambda database: database.acquire_next_job(),
    "renew": lambda database: database.renew_job_lease(1, lease_token=1),
    "renew by owner": lambda database: database.renew_job_lease(1, worker_id="w"),
    "complete": lambda database: database.complete_job(1, lease_token=1),
    "fail": lambda database: database.fail_job(1, lease_token=1, error_message="boom"),
    "release": lambda database: database.release_job(1, lease_token=1),
    "cancel": lambda database: database.cancel_job(1),
    "retry": lambda database: database.retry_job_record(1),
    "update": lambda database: database.update_job_status(1, "processing"),
    "cleanup": lambda database: database.cleanup_jobs(),
}


class TestTransaction:
    @pytest.mark.verifies("PS-CONCURRENCY-23")
    def test_commits_all_of_its_calls_at_the_end(
        self, database: PromptStudioDatabase, create: Create, opened: Open
    ) -> None:
        with opened("other") as other:
            with database.transaction():
                job = create()
                assert database.record_idempotency("job", "k", job["id"], "ann").created
                assert database.get_job(job["id"]) == job
                assert database.lookup_idempotency("job", "k", "ann") == job["id"]
                assert other.count_jobs() == 0
            assert other.get_job(job["id"]) == job
            assert other.lookup_idempotency("job", "k", "ann") == job["id"]

    @pytest.mark.verifies("PS-CONCURRENCY-23")
    def test_keeps_nothing_when_the_block_raises(self, database: PromptStudioDatabase, create: Create) -> None:
        def begin_and_fail() -> None:
            with database.transaction():
                create()
                database.record_idempotency("job", "k", 1, None)
                raise LookupError

        with pytest.raises(LookupError):
            begin_and_fail()
        assert database.count_jobs() == 0
        assert database.lookup_idempotency("job", "k", None) is None

    @pytest.mark.parametrize("call", OUTSIDE.values(), ids=OUTSIDE)
    @pytest.mark.verifies("PS-CONCURRENCY-23")
    def test_refuses_every_other_write_and_goes_on(
        self, database: PromptStudioDatabase, create: Create, call: Call
    ) -> None:
        create()
        with database.transaction():
            create()
            with pytest.raises(InputError, match="transaction"):
                call(database)
        assert database.count_jobs(status="queued") == 2

    def test_is_not_nested(self, database: PromptStudioDatabase, create: Create) -> None:
        with database.transaction():
            create()
            with pytest.raises(InputError, match="already"), database.transaction():
                pass
        assert database.count_jobs() == 1

    def test_is_not_cut_short_by_closing_the_connection(self, database: PromptStudioDatabase, create: Create) -> None:
        with database.transaction():
            create()
            with pytest.raises(InputError, match="leave its block"):
                database.close_connection()
        assert database.count_jobs() == 1

    def test_that_met_an_error_of_the_database_can_only_be_rolled_back(
        self, database: PromptStudioDatabase, create: Create, raw: Door
    ) -> None:
        raw.execute("ALTER TABLE prompt_studio_idempotency RENAME TO hidden")

        def go_on_after_the_error() -> None:
            with database.transaction():
                create()
                with pytest.raises(DatabaseError, match=r"no such table|does not exist"):
                    database.record_idempotency("job", "k", 1, None)
                with pytest.raises(DatabaseError, match="spoiled"):
                    create()
                with pytest.raises(DatabaseError, match="spoiled"):
                    database.get_job(1)

        with pytest.raises(DatabaseError, match="spoiled"):
            go_on_after_the_error()
        raw.execute("ALTER TABLE hidden RENAME TO prompt_studio_idempotency")
        assert database.count_jobs() == 0
        with database.transaction():
            create()
        assert database.count_jobs() == 1

    def test_is_lost_when_the_database_is_closed_in_it(self, opened: Open) -> None:
        def close_too_early() -> None:
            with opened() as database, database.transaction():
                database.create_job("evaluation", 1, {})
                database.close()

        with pytest.raises(DatabaseError, match="spoiled"):
            close_too_early()
        with opened() as database:
            assert database.count_jobs() == 0


class TestInterruption:
    @pytest.mark.parametrize("at", ["begin_write", "release_job", "commit"])
    def test_leaves_no_lock_behind(
        self, database: PromptStudioDatabase, create: Create, opened: Open, monkeypatch: pytest.MonkeyPatch, at: str
    ) -> None:
        job = create()
        run = Session.run

        def interrupted(session: Session, statement: Statement, parameters: Parameters = NO_PARAMETERS) -> object:
            rows = run(session, statement, parameters)
            if statement.name == at:
                raise KeyboardInterrupt
            return rows

        monkeypatch.setattr(Session, "run", interrupted)
        with pytest.raises(KeyboardInterrupt):
            database.release_job(job["id"], lease_token=1)
        monkeypatch.undo()

        with opened("rival", write_retry_seconds=0) as rival:
            assert rival.cancel_job(job["id"])
        assert database.cancel_job(job["id"])


class TestCommitOfALongBlock:
    def test_waits_for_others_although_the_block_took_long(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        # Of SQLite alone: only where there is one writer can a COMMIT meet others and be tried again in its place.
        limits: list[Patience] = []
        real = Patience.retry

        def retry(patience: Patience, *arguments: Any) -> Any:  # noqa: ANN401 - passed through
            limits.append(patience)
            return real(patience, *arguments)

        with PromptStudioDatabase(path, "tester") as database:
            monkeypatch.setattr(Patience, "retry", retry)
            with database.transaction():
                database.create_job("evaluation", 1, {})
            begin, commit = limits[0], limits[-1]
        assert begin is not commit
