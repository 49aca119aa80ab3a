"""Advisory locks that others hold, that are given back, and that no error leaves behind."""

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from prompt_studio import DatabaseError, JobRow, PromptStudioDatabase, Settings, StoreUnavailable, TransientConflict
from prompt_studio.storage.postgres import claims as claims_module
from prompt_studio.storage.postgres.connection import PostgresConnection
from tests.conformance.rows import claimed, stored
from tests.conformance.stores import PostgresStore, postgres_store
from tests.faults.server_sessions import (
    Interference,
    Stranger,
    await_that,
    claims_of,
    fail,
    interfered,
    interrupt,
    interrupted_after,
    statements_of,
    stranger_at,
    worker_process,
)

pytestmark = pytest.mark.faults

End = Callable[[PromptStudioDatabase, JobRow], object]

ENDS: dict[str, End] = {
    "complete": lambda database, job: database.complete_job(job["id"], lease_token=job["lease_token"]),
    "fail": lambda database, job: database.fail_job(
        job["id"], lease_token=job["lease_token"], error_message="boom", retryable=False
    ),
    "requeue": lambda database, job: database.fail_job(job["id"], lease_token=job["lease_token"], error_message="boom"),
    "retry": lambda database, job: database.retry_job_record(job["id"], lease_token=job["lease_token"]),
    "release": lambda database, job: database.release_job(job["id"], lease_token=job["lease_token"]),
    "cancel": lambda database, job: database.cancel_job(job["id"]),
    "operator's word": lambda database, job: database.update_job_status(job["id"], "completed"),
    "operator's requeue": lambda database, job: database.update_job_status(job["id"], "queued"),
}


@pytest.fixture
def virtual(postgres_database: str) -> Iterator[PostgresStore]:
    """The same database in virtual time."""
    with postgres_store(postgres_database, advisory_locks=True) as store:
        yield store


class TestALockThatIsGivenBack:
    @pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
    @pytest.mark.verifies("PS-LOCKS-2", "INV-LOCKS-MATCH")
    def test_when_the_attempt_ends_can_be_taken_by_another_session(
        self, served: PromptStudioDatabase, observer: Stranger, end: End
    ) -> None:
        served.create_job("evaluation", 1, {})
        job = claimed(served)
        assert not observer.can_lock(job["id"])
        assert end(served, job)
        assert observer.can_lock(job["id"])
        assert claims_of(served).memory().held == {}
        assert claims_of(served).counts.unlock_errors == 0

    @pytest.mark.parametrize("end", [ENDS["cancel"], ENDS["operator's requeue"]], ids=["terminal", "lease_lost"])
    @pytest.mark.verifies("PS-LOCKS-2", "INV-LOCKS-MATCH")
    def test_when_the_worker_learns_what_another_has_done(
        self, served: PromptStudioDatabase, observer: Stranger, postgres_database: str, end: End
    ) -> None:
        served.create_job("evaluation", 1, {})
        job = claimed(served)
        with PromptStudioDatabase(postgres_database, "operator", settings=Settings()) as operator:
            assert end(operator, job)
        assert observer.locked() == [job["id"]]
        assert not served.renew_job_lease(job["id"], 60, lease_token=1)
        assert observer.locked() == []

    @pytest.mark.verifies("PS-LOCKS-7")
    def test_is_so_after_the_change_was_committed(
        self, served: PromptStudioDatabase, observer: Stranger, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen: list[object] = []

        def look(_: PostgresConnection) -> None:
            seen.extend(row["status"] for row in observer.run("SELECT status FROM prompt_studio_job_queue"))
            assert observer.locked() == [1]

        served.create_job("evaluation", 1, {})
        claimed(served)
        with interfered(monkeypatch, "unlock_job", look):
            assert served.complete_job(1, lease_token=1)
        assert seen == ["completed"]
        assert observer.locked() == []

    @pytest.mark.verifies("PS-LOCKS-8", "PS-CONCURRENCY-10")
    def test_stays_with_the_new_attempt_of_the_same_session(
        self, postgres_database: str, virtual: PostgresStore
    ) -> None:
        with (
            PromptStudioDatabase(postgres_database, "tester", settings=Settings(), clock=virtual.clock) as database,
            stranger_at(postgres_database) as stranger,
        ):
            job_id = database.create_job("evaluation", 1, {})["id"]
            claimed(database, lease_seconds=1)
            virtual.clock.tick(1)
            assert claimed(database)["lease_token"] == 2
            assert database.complete_job(job_id, lease_token=1).kind == "lease_lost"
            assert stranger.locked() == [job_id]
            assert database.complete_job(job_id, lease_token=2).kind == "applied"
            assert stranger.locked() == []  # it was taken once, and given back once
            assert claims_of(database).counts.unlock_errors == 0

    @pytest.mark.parametrize("when", ["before", "after"])
    @pytest.mark.verifies("INV-LOCKS-MATCH", "PS-LOCKS-8")
    def test_is_not_kept_by_an_interruption(
        self, served: PromptStudioDatabase, observer: Stranger, monkeypatch: pytest.MonkeyPatch, when: str
    ) -> None:
        served.create_job("evaluation", 1, {})
        job = claimed(served)
        arranged = {
            "before": interfered(monkeypatch, "unlock_job", interrupt),
            "after": interrupted_after(monkeypatch, "unlock_job"),
        }
        with arranged[when], pytest.raises(KeyboardInterrupt):
            served.release_job(job["id"], lease_token=1)
        await_that(lambda: observer.can_lock(job["id"]), "the session's lock ends with it")
        assert claimed(served)["lease_token"] == 2
        assert served.complete_job(job["id"], lease_token=2).kind == "applied"
        assert observer.locked() == []  # it was taken once
        assert claims_of(served).counts.unlock_errors == 0

    def test_twice_is_an_error_that_is_counted(self, served: PromptStudioDatabase, observer: Stranger) -> None:
        served.create_job("evaluation", 1, {})
        job = claimed(served)
        claims_of(served)._worker.run(statements_of(served)["unlock_job"], {"job_id": job["id"]})
        assert served.complete_job(job["id"], lease_token=1).kind == "applied"
        assert claims_of(served).counts.unlock_errors == 1
        assert observer.locked() == []

    @pytest.mark.parametrize("noticed", ["before", "by an error"])
    def test_by_the_end_of_the_session_leaves_the_answer_as_it_was(
        self, served: PromptStudioDatabase, observer: Stranger, monkeypatch: pytest.MonkeyPatch, noticed: str
    ) -> None:
        served.create_job("evaluation", 1, {})
        job = claimed(served)
        process = worker_process(served)
        ways: dict[str, Interference] = {"before": lambda _: observer.end(process), "by an error": fail}
        with interfered(monkeypatch, "unlock_job", ways[noticed]):
            assert served.complete_job(job["id"], lease_token=1).kind == "applied"
        await_that(lambda: observer.locked() == [], "the session's lock ends with it")
        assert stored(served, job["id"])["status"] == "completed"
        served.create_job("evaluation", 1, {})
        assert claimed(served)["id"] == 2
        assert observer.locked() == [2]
        assert claims_of(served).counts.unlock_errors == 0


class TestALockThatAnotherSessionHolds:
    @pytest.mark.verifies("PS-LOCKS-5", "PS-LOCKS-6")
    def test_makes_a_worker_take_the_next_job(self, served: PromptStudioDatabase, observer: Stranger) -> None:
        first, second = (served.create_job("evaluation", 1, {})["id"] for _ in range(2))
        assert observer.try_lock(first)
        assert claimed(served)["id"] == second
        assert served.acquire_next_job() is None
        assert claims_of(served).counts.refused == 2
        observer.unlock(first)
        assert claimed(served)["id"] == first

    @pytest.mark.verifies("PS-LOCKS-5")
    def test_ten_times_does_not_hide_the_eleventh_job(self, served: PromptStudioDatabase, observer: Stranger) -> None:
        *heads, last = (served.create_job("evaluation", 1, {})["id"] for _ in range(11))
        assert all(observer.try_lock(job_id) for job_id in heads)
        assert claimed(served)["id"] == last
        assert claims_of(served).counts.refused == 10
        assert observer.locked() == [*heads, last]

    @pytest.mark.parametrize("patience", [None, 3], ids=["as long as the lease", "as set"])
    @pytest.mark.verifies("PS-LOCKS-6")
    def test_delays_a_queued_job_no_longer_than_the_workers_patience(
        self, postgres_database: str, virtual: PostgresStore, patience: int | None
    ) -> None:
        settings = Settings(patience_seconds=patience)
        seconds = 60 if patience is None else patience
        with (
            PromptStudioDatabase(postgres_database, "tester", settings=settings, clock=virtual.clock) as database,
            stranger_at(postgres_database) as stranger,
        ):
            job_id = database.create_job("evaluation", 1, {})["id"]
            assert stranger.try_lock(job_id)
            assert database.acquire_next_job(lease_seconds=60) is None
            virtual.clock.tick(seconds)
            assert database.acquire_next_job(lease_seconds=60) is None
            virtual.clock.tick(0.001)
            assert claimed(database)["id"] == job_id
            counts = claims_of(database).counts
            assert (counts.refused, counts.without_lock) == (2, 1)
            # With the next attempt the patience begins anew, and nobody unlocks what he does not hold.
            assert database.release_job(job_id, lease_token=1)
            assert database.update_job_status(job_id, "processing") is None
            assert (counts.refused, counts.without_lock, counts.unlock_errors) == (3, 1, 0)
            assert stranger.locked() == [job_id]

    @pytest.mark.verifies("PS-LOCKS-3", "PS-LOCKS-6")
    def test_delays_no_reclaim(self, postgres_database: str, virtual: PostgresStore) -> None:
        with (
            PromptStudioDatabase(postgres_database, "stopped", settings=Settings(), clock=virtual.clock) as stopped,
            PromptStudioDatabase(postgres_database, "tester", settings=Settings(), clock=virtual.clock) as database,
            stranger_at(postgres_database) as stranger,
        ):
            job_id = stopped.create_job("evaluation", 1, {})["id"]
            claimed(stopped, lease_seconds=1)
            virtual.clock.tick(1)
            assert claimed(database)["lease_token"] == 2
            assert claims_of(database).counts.without_lock == 1
            assert database.complete_job(job_id, lease_token=2)
            assert claims_of(database).counts.unlock_errors == 0
            assert stranger.locked() == [job_id]
            assert stopped.complete_job(job_id, lease_token=1).kind == "lease_lost"
            assert stranger.locked() == []

    @pytest.mark.verifies("PS-LOCKS-6")
    def test_is_remembered_when_the_workers_session_is_lost(
        self, postgres_database: str, virtual: PostgresStore
    ) -> None:
        with (
            PromptStudioDatabase(postgres_database, "tester", settings=Settings(), clock=virtual.clock) as database,
            stranger_at(postgres_database) as stranger,
        ):
            job_id = database.create_job("evaluation", 1, {})["id"]
            assert stranger.try_lock(job_id)
            assert database.acquire_next_job(lease_seconds=60) is None
            for _ in range(2):
                virtual.clock.tick(30)
                stranger.end(worker_process(database))
                assert database.acquire_next_job(lease_seconds=60) is None
            virtual.clock.tick(0.001)
            stranger.end(worker_process(database))
            assert claimed(database, lease_seconds=60)["id"] == job_id

    @pytest.mark.verifies("PS-LOCKS-6", "PS-FAULTS-1")
    def test_of_too_many_jobs_ends_the_call_which_remembers_them(
        self, postgres_database: str, virtual: PostgresStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def be_slow(_: PostgresConnection) -> None:
            stranger.run("SELECT pg_sleep(0.15)")

        brief = Settings(statement_seconds=0.1)
        with (
            PromptStudioDatabase(postgres_database, "tester", settings=brief, clock=virtual.clock) as database,
            stranger_at(postgres_database) as stranger,
        ):
            first, second = (database.create_job("evaluation", 1, {})["id"] for _ in range(2))
            assert stranger.try_lock(first)
            assert stranger.try_lock(second)
            with (
                interfered(monkeypatch, "acquire_best_job", be_slow),
                pytest.raises(TransientConflict, match="locks of too many queued jobs"),
            ):
                database.acquire_next_job(lease_seconds=60)
            assert [job_id for job_id, _ in claims_of(database).refusals] == [first]
            virtual.clock.tick(61)
            assert claimed(database, lease_seconds=60)["id"] == first

    @pytest.mark.verifies("PS-LOCKS-4")
    def test_is_not_asked_for_without_locks(self, postgres_database: str) -> None:
        without = Settings(advisory_locks=False)
        with (
            PromptStudioDatabase(postgres_database, "tester", settings=without) as database,
            stranger_at(postgres_database) as stranger,
        ):
            job_id = database.create_job("evaluation", 1, {})["id"]
            assert stranger.try_lock(job_id)
            assert claimed(database)["id"] == job_id
            assert database.complete_job(job_id, lease_token=1)
            assert stranger.locked() == [job_id]

    def test_is_remembered_for_so_many_jobs_only(
        self, served: PromptStudioDatabase, observer: Stranger, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(claims_module, "REFUSALS_MAX", 2)
        ids = [served.create_job("evaluation", 1, {})["id"] for _ in range(3)]
        assert all(observer.try_lock(job_id) for job_id in ids)
        assert served.acquire_next_job() is None
        assert [job_id for job_id, _ in claims_of(served).refusals] == ids[1:]
        remembered = dict(claims_of(served).refusals)
        assert served.update_job_status(ids[1], "processing") is None  # asked for again, the oldest is not forgotten
        assert claims_of(served).refusals == remembered


class TestAClaimThatFails:
    @pytest.mark.parametrize(
        ("does", "error"),
        [
            ("RAISE EXCEPTION 'as arranged'; RETURN NEW;", DatabaseError),
            ("PERFORM pg_sleep(60); RETURN NEW;", StoreUnavailable),
            ("RETURN NULL;", TransientConflict),
        ],
        ids=["in the update", "by a timeout", "to update"],
    )
    @pytest.mark.verifies("INV-LOCKS-MATCH", "PS-FAULTS-4")
    def test_after_its_lock_was_granted_gives_it_back(
        self, postgres_database: str, does: str, error: type[DatabaseError]
    ) -> None:
        settings = Settings(write_retry_seconds=0.2, statement_seconds=0.1)
        with (
            PromptStudioDatabase(postgres_database, "tester", settings=settings) as database,
            stranger_at(postgres_database) as stranger,
        ):
            job = database.create_job("evaluation", 1, {})
            stranger.run(f"CREATE FUNCTION spoil() RETURNS TRIGGER LANGUAGE plpgsql AS $$ BEGIN {does} END $$")
            stranger.run(
                "CREATE TRIGGER spoiled BEFORE UPDATE ON prompt_studio_job_queue FOR EACH ROW EXECUTE FUNCTION spoil()"
            )
            calls: tuple[Callable[[], object], ...] = (
                database.acquire_next_job,
                lambda: database.update_job_status(job["id"], "processing"),
            )
            for call in calls:
                with pytest.raises(error):
                    call()
                assert stranger.can_lock(job["id"])
                assert stranger.locked() == []
            assert claims_of(database).memory().held == {}
            stranger.run("DROP TRIGGER spoiled ON prompt_studio_job_queue")
            assert stored(database, job["id"]) == job
            assert claimed(database)["id"] == job["id"]
            assert claims_of(database).counts.unlock_errors == 0

    @pytest.mark.verifies("INV-LOCKS-MATCH")
    def test_keeps_the_locks_of_the_jobs_that_it_has(
        self, served: PromptStudioDatabase, observer: Stranger, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for _ in range(2):
            served.create_job("evaluation", 1, {})
        first = claimed(served)
        observer.run("ALTER TABLE prompt_studio_job_queue ADD CONSTRAINT never CHECK (lease_token = 0) NOT VALID")
        with pytest.raises(DatabaseError, match="never"):
            served.acquire_next_job()
        assert observer.locked() == [first["id"]]

        # When it cannot even ask which locks it has, the session ends, and all of them with it.
        with interfered(monkeypatch, "own_locks", fail), pytest.raises(DatabaseError, match="never"):
            served.acquire_next_job()
        await_that(lambda: observer.locked() == [], "the session's locks end with it")
        assert claims_of(served).memory().held == {}
        assert claims_of(served).counts.sessions_lost == 1

    @pytest.mark.verifies("INV-LOCKS-MATCH")
    def test_on_a_session_that_replaces_a_lost_one_gives_its_lock_back(
        self, served: PromptStudioDatabase, observer: Stranger, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        job = served.create_job("evaluation", 1, {})
        process = worker_process(served)
        observer.run("ALTER TABLE prompt_studio_job_queue ADD CONSTRAINT never CHECK (lease_token = 0) NOT VALID")
        with (
            interfered(monkeypatch, "acquire_best_job", lambda _: observer.end(process)),
            pytest.raises(DatabaseError, match="never"),
        ):
            served.acquire_next_job()
        assert worker_process(served) != process
        assert observer.can_lock(job["id"])
        assert claims_of(served).counts.unlock_errors == 0

    @pytest.mark.verifies("INV-LOCKS-MATCH")
    def test_by_an_interruption_ends_its_session(
        self, served: PromptStudioDatabase, observer: Stranger, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        execute = psycopg.Connection.execute

        def interrupted(connection: Any, query: Any, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - passed on
            cursor = execute(connection, query, *arguments, **options)
            if "acquire_best_job" in str(query):
                raise KeyboardInterrupt
            return cursor

        job = served.create_job("evaluation", 1, {})
        with monkeypatch.context() as patched:
            patched.setattr(psycopg.Connection, "execute", interrupted)
            with pytest.raises(KeyboardInterrupt):
                served.acquire_next_job()
        await_that(lambda: observer.can_lock(job["id"]), "the session's lock ends with it")
        assert stored(served, job["id"])["lease_token"] == 1
        assert served.complete_job(job["id"], lease_token=1).kind == "applied"
        assert claims_of(served).counts.unlock_errors == 0

    @pytest.mark.parametrize("statement", ["acquire_best_job", "own_locks", "unlock_job"])
    @pytest.mark.verifies("INV-LOCKS-MATCH")
    def test_by_an_interruption_before_its_lock_was_noted_ends_its_session(
        self, served: PromptStudioDatabase, observer: Stranger, monkeypatch: pytest.MonkeyPatch, statement: str
    ) -> None:
        job = served.create_job("evaluation", 1, {})
        if statement != "acquire_best_job":  # it fails, and what it has locked is given back
            observer.run("ALTER TABLE prompt_studio_job_queue ADD CONSTRAINT never CHECK (lease_token = 0) NOT VALID")
        with interrupted_after(monkeypatch, statement), pytest.raises(KeyboardInterrupt):
            served.acquire_next_job()
        await_that(lambda: observer.can_lock(job["id"]), "the session's lock ends with it")
        assert claims_of(served).memory().held == {}
        assert claims_of(served).counts.unlock_errors == 0


class TestARowThatCannotBeRead:
    @pytest.mark.parametrize("spoilt", ["payload = repeat('9', 5000)", "available_at = '-infinity'"])
    @pytest.mark.parametrize("call", ["any", "named"])
    @pytest.mark.verifies("PS-FAULTS-4")
    def test_is_named_and_said_to_be_claimed(
        self, served: PromptStudioDatabase, observer: Stranger, call: str, spoilt: str
    ) -> None:
        job_id = served.create_job("evaluation", 1, {})["id"]
        observer.run(f"UPDATE prompt_studio_job_queue SET revision = revision + 1, {spoilt}")
        calls: dict[str, Callable[[], object]] = {
            "any": served.acquire_next_job,
            "named": lambda: served.update_job_status(job_id, "processing"),
        }
        with pytest.raises(DatabaseError, match=rf"job {job_id} cannot be read: .*claimed all the same.*token 1"):
            calls[call]()
        with pytest.raises(DatabaseError, match=rf"job {job_id} cannot be read: .*: if its row was changed by hand"):
            served.get_job(job_id)
        observer.run(
            "UPDATE prompt_studio_job_queue SET revision = revision + 1, payload = '{}', available_at = created_at"
        )
        assert served.complete_job(job_id, lease_token=1).kind == "applied"
        assert observer.locked() == []
