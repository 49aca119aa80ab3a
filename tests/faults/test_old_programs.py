"""A program from before this schema, beside it: every one of its writes is refused, and says why."""

import sqlite3
from pathlib import Path

import psycopg
import pytest

from prompt_studio import PromptStudioDatabase, SchemaError
from tests.harness.old_tables import (
    NO_SUCH_INDEX,
    OLD_POSTGRES_WRITES,
    OLD_SQLITE_WRITES,
    Place,
    PostgresPlace,
    SqlitePlace,
)

pytestmark = pytest.mark.faults

TOO_OLD = "this database was migrated, and this program is too old to change it: stop it, and use prompt-studio-core"


def with_a_job_of_each_kind(place: Place) -> None:
    with PromptStudioDatabase(place.location, "tester") as database:
        for priority in (1, 9, 10):
            database.create_job("evaluation", 1, {}, priority=priority)
        last = database.acquire_next_job(worker_id="w", lease_seconds=600)
        assert last is not None
        assert database.complete_job(last["id"], lease_token=last["lease_token"])
        assert database.acquire_next_job(worker_id="w", lease_seconds=600)
        assert [job["status"] for job in database.list_jobs()] == ["completed", "processing", "queued"]
        assert [job["id"] for job in database.list_jobs()] == [3, 2, 1]
        database.record_idempotency("prompt", "known", 1, None)


@pytest.fixture
def file(path: Path) -> Place:
    place = SqlitePlace(str(path))
    with_a_job_of_each_kind(place)
    return place


@pytest.fixture
def server(postgres_database: str) -> Place:
    place = PostgresPlace(postgres_database)
    with_a_job_of_each_kind(place)
    return place


@pytest.mark.verifies("PS-MIGRATION-6")
class TestAnOldProgram:
    @pytest.mark.parametrize("write", OLD_SQLITE_WRITES)
    def test_changes_nothing_in_a_file(self, file: Place, write: str) -> None:
        before = file.dump()
        with pytest.raises(sqlite3.IntegrityError, match=TOO_OLD):
            file.run(OLD_SQLITE_WRITES[write])
        assert file.dump() == before

    def test_changes_nothing_on_a_server(self, server: Place) -> None:
        before = server.dump()
        for write in OLD_POSTGRES_WRITES.values():
            with pytest.raises(psycopg.errors.RaiseException, match=TOO_OLD):
                server.run(write)
        with pytest.raises(psycopg.errors.InvalidColumnReference, match="no unique or exclusion constraint"):
            server.run(NO_SUCH_INDEX)
        assert server.dump() == before

    def test_may_be_this_library_when_it_is_older_than_the_schema(self, place: Place) -> None:
        with_a_job_of_each_kind(place)
        with PromptStudioDatabase(place.location, "tester") as database:
            place.run_all((statement, ()) for statement in place.refuse_every_update)
            with pytest.raises(SchemaError, match=TOO_OLD):
                database.cancel_job(1)
