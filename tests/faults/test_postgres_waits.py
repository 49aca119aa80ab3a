"""Waits that are cut short, plans that are out of date, and the type that each error of Postgres's becomes."""

import secrets
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

import psycopg
import pytest

from prompt_studio import (
    ConflictError,
    DatabaseError,
    InvariantViolation,
    PromptStudioDatabase,
    SchemaError,
    Settings,
    StoreUnavailable,
    TransientConflict,
)
from prompt_studio.storage.job_operations import CLEANUP_BATCH_JOBS
from prompt_studio.storage.postgres.connection import PostgresConnection
from prompt_studio.storage.postgres.trouble import typed
from tests.conformance.rows import claimed, stored
from tests.conformance.stores import postgres_store
from tests.faults.server_sessions import (
    LIMIT_SECONDS,
    Stranger,
    await_that,
    claims_of,
    interfered,
    stranger_at,
    worker_process,
)

pytestmark = pytest.mark.faults

BRIEF = Settings(write_retry_seconds=0.15)

# Another session has the row, and one of the two limits ends the wait. The second one is not waited for again: who made
# the statement too long is unknown, and it may be the statement itself.
LIMITS: dict[str, tuple[Settings, type[DatabaseError], str]] = {
    "lock_timeout": (BRIEF, TransientConflict, "others were in the way .*; nothing was written: repeat"),
    "statement_timeout": (
        replace(BRIEF, write_retry_seconds=10, statement_seconds=0.1),
        StoreUnavailable,
        "nothing was written: raise statement_seconds",
    ),
}
every_limit = pytest.mark.parametrize(("settings", "error", "says"), LIMITS.values(), ids=LIMITS)


class TestARowThatAnotherSessionHolds:
    @every_limit
    @pytest.mark.verifies("PS-FAULTS-1")
    def test_is_waited_for_within_the_limit_and_nothing_is_changed(
        self, postgres_database: str, settings: Settings, error: type[DatabaseError], says: str
    ) -> None:
        with (
            PromptStudioDatabase(postgres_database, "tester", settings=settings) as database,
            stranger_at(postgres_database) as stranger,
        ):
            job_id = database.create_job("evaluation", 1, {})["id"]
            job = claimed(database)
            with stranger.holding(job_id), pytest.raises(error, match=says) as caught:
                database.complete_job(job_id, lease_token=1)
            assert not getattr(caught.value, "outcome_unknown", False)
            assert stored(database, job_id) == job
            assert stranger.locked() == [job_id]
            assert database.complete_job(job_id, lease_token=1).kind == "applied"
            assert stranger.locked() == []

    @every_limit
    @pytest.mark.verifies("PS-FAULTS-1", "INV-LOCKS-MATCH")
    def test_is_not_locked_by_a_claim_that_names_it(
        self, postgres_database: str, settings: Settings, error: type[DatabaseError], says: str
    ) -> None:
        with (
            PromptStudioDatabase(postgres_database, "tester", settings=settings) as database,
            stranger_at(postgres_database) as stranger,
        ):
            job = database.create_job("evaluation", 1, {})
            with stranger.holding(job["id"]), pytest.raises(error, match=says):
                database.update_job_status(job["id"], "processing")
            assert stored(database, job["id"]) == job
            assert stranger.locked() == []
            assert database.update_job_status(job["id"], "processing")

    @pytest.mark.verifies("PS-CONCURRENCY-4")
    def test_is_leased_from_the_end_of_the_wait(self, postgres_database: str) -> None:
        with (
            postgres_store(postgres_database, advisory_locks=True) as store,
            PromptStudioDatabase(postgres_database, "tester", settings=Settings(), clock=store.clock) as database,
            stranger_at(postgres_database) as stranger,
            ThreadPoolExecutor(1) as pool,
        ):
            job_id = database.create_job("evaluation", 1, {})["id"]
            process = worker_process(database)
            with stranger.holding(job_id):
                call = pool.submit(database.update_job_status, job_id, "processing", lease_seconds=60)
                with stranger_at(postgres_database) as third:
                    third.await_wait(process)
                store.clock.tick(60)
            job = call.result(LIMIT_SECONDS)
            assert job is not None
            assert job["leased_until"] == store.clock.now + timedelta(seconds=60)

    @pytest.mark.verifies("PS-CONCURRENCY-6", "PS-CONCURRENCY-19")
    def test_and_gives_back_before_a_refusal_is_explained_is_leased(
        self, served: PromptStudioDatabase, postgres_database: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def give_back(_: PostgresConnection) -> None:
            if stored(served, job_id)["lease_token"] == 1:
                assert rival.release_job(job_id, lease_token=1)

        with PromptStudioDatabase(postgres_database, "rival", settings=Settings()) as rival:
            job_id = served.create_job("evaluation", 1, {})["id"]
            claimed(rival)
            with interfered(monkeypatch, "hold_job", give_back):
                job = served.update_job_status(job_id, "processing")
        assert job is not None
        assert (job["status"], job["lease_token"]) == ("processing", 2)

    @pytest.mark.verifies("PS-CONCURRENCY-7")
    def test_is_passed_by_in_a_claim(self, served: PromptStudioDatabase, observer: Stranger) -> None:
        first, second = (served.create_job("evaluation", 1, {})["id"] for _ in range(2))
        with observer.holding(first):
            assert claimed(served)["id"] == second
            assert served.acquire_next_job() is None
        assert claimed(served)["id"] == first


class TestACallersTransaction:
    @pytest.mark.verifies("PS-FAULTS-4")
    def test_that_idles_too_long_is_ended_by_the_server(self, postgres_database: str) -> None:
        def idle() -> None:
            with database.transaction():
                database.create_job("evaluation", 1, {})
                (process,) = stranger.pooled(database)
                await_that(lambda: process not in stranger.pooled(database), "the server ends the idle session")
                database.create_job("evaluation", 1, {})

        settings = Settings(idle_in_transaction_seconds=0.1)
        with (
            PromptStudioDatabase(postgres_database, "tester", settings=settings) as database,
            stranger_at(postgres_database) as stranger,
        ):
            with pytest.raises(StoreUnavailable, match="raise idle_in_transaction_seconds") as caught:
                idle()
            assert not caught.value.outcome_unknown
            assert database.count_jobs() == 0

    @pytest.mark.verifies("PS-FAULTS-4", "PS-CONCURRENCY-23")
    def test_that_met_a_deadlock_is_rolled_back_and_the_other_goes_on(
        self, served: PromptStudioDatabase, observer: Stranger, postgres_database: str
    ) -> None:
        record = (
            "INSERT INTO prompt_studio_idempotency (entity_type, idempotency_key, entity_id, created_at)"
            " VALUES ('job', %s, 7, clock_timestamp())"
        )
        process = observer.session.info.backend_pid
        observer.run("SET deadlock_timeout = '1min'")  # so that the other is the one that looks, and gives way

        def cross() -> None:
            with served.transaction():
                served.record_idempotency("job", "ours", 1, None)
                other = pool.submit(observer.run, record, "ours")
                with stranger_at(postgres_database) as third:
                    third.await_wait(process)
                waiting.append(other)
                served.record_idempotency("job", "theirs", 1, None)

        waiting: list[Any] = []
        with ThreadPoolExecutor(1) as pool, observer.session.transaction():
            observer.run(record, "theirs")
            with pytest.raises(TransientConflict, match="deadlock detected"):
                cross()
            waiting[0].result(LIMIT_SECONDS)
        assert [served.lookup_idempotency("job", key, None) for key in ("ours", "theirs")] == [7, 7]


class TestAKeyWhoseOwnerIsGone:
    @pytest.mark.verifies("PS-IDEMPOTENCY-PG-2", "INV-ONE-EFFECT-PER-KEY")
    def test_before_the_loser_could_read_it_is_recorded_by_the_loser(
        self, served: PromptStudioDatabase, observer: Stranger, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def forget(_: PostgresConnection) -> None:
            observer.run("DELETE FROM prompt_studio_idempotency")

        served.record_idempotency("job", "k", 1, None)
        with interfered(monkeypatch, "lookup_key_without_user", forget):
            assert served.record_idempotency("job", "k", 2, None).created
        assert served.lookup_idempotency("job", "k", None) == 2

    @pytest.mark.verifies("PS-FAULTS-1", "PS-IDEMPOTENCY-PG-4")
    def test_each_time_is_not_asked_for_without_end(
        self, postgres_database: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def take(_: PostgresConnection) -> None:
            stranger.run(
                "INSERT INTO prompt_studio_idempotency (entity_type, idempotency_key, entity_id, created_at)"
                " VALUES ('job', 'k', 1, clock_timestamp())"
            )

        def forget(_: PostgresConnection) -> None:
            stranger.run("DELETE FROM prompt_studio_idempotency")

        with (
            PromptStudioDatabase(postgres_database, "tester", settings=BRIEF) as database,
            stranger_at(postgres_database) as stranger,
            interfered(monkeypatch, "record_key_without_user", take),
            interfered(monkeypatch, "lookup_key_without_user", forget),
            pytest.raises(TransientConflict, match="nothing was written: repeat"),
        ):
            database.record_idempotency("job", "k", 2, None)


class TestACleanup:
    @pytest.mark.verifies("PS-CONCURRENCY-21", "PS-CONCURRENCY-17")
    def test_leaves_a_job_that_was_retried_after_it_was_listed(
        self, served: PromptStudioDatabase, postgres_database: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        job_id = served.create_job("evaluation", 1, {})["id"]
        served.fail_job(job_id, lease_token=claimed(served)["lease_token"], error_message="boom", retryable=False)
        with PromptStudioDatabase(postgres_database, "rival", settings=Settings()) as rival:

            def retry(_: PostgresConnection) -> None:
                assert rival.retry_job_record(job_id)

            with interfered(monkeypatch, "pick_jobs_to_clean_up", retry):
                assert served.cleanup_jobs(0) == 0
        assert stored(served, job_id)["status"] == "queued"

    @pytest.mark.verifies("PS-CONCURRENCY-21")
    def test_goes_on_when_another_has_deleted_a_whole_batch(
        self, served: PromptStudioDatabase, observer: Stranger, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        observer.run(
            "INSERT INTO prompt_studio_job_queue (uuid, job_type, entity_id, status, payload, client_id, created_at,"
            " available_at, completed_at, execution_limit) SELECT 'ended-' || n, 'evaluation', n, 'cancelled', '{}',"
            " 'tester', now(), now(), now(), 4 FROM generate_series(1, %s) AS n",
            CLEANUP_BATCH_JOBS + 1,
        )
        taken: list[bool] = []

        def take(_: PostgresConnection) -> None:
            if not taken:
                taken.append(True)
                last = f"ended-{CLEANUP_BATCH_JOBS + 1}"
                observer.run("UPDATE prompt_studio_job_queue SET revision = -revision WHERE uuid <> %s", last)
                observer.run("DELETE FROM prompt_studio_job_queue WHERE revision < 0")

        with interfered(monkeypatch, "pick_jobs_to_clean_up", take):
            assert served.cleanup_jobs(0) == 1
        assert served.count_jobs() == 0


class TestAPlanFromBeforeAChangeOfTheSchema:
    def test_is_made_anew_without_a_word(self, served: PromptStudioDatabase, observer: Stranger) -> None:
        for _ in range(3):
            served.create_job("evaluation", 1, {})
        other, job = claimed(served), claimed(served)
        assert served.renew_job_lease(job["id"], 60, lease_token=1)
        observer.run("ALTER TABLE prompt_studio_job_queue ADD COLUMN another TEXT")
        assert served.renew_job_lease(job["id"], 60, lease_token=1)
        assert observer.locked() == [other["id"], job["id"]]
        assert served.create_job("evaluation", 1, {})["id"] == 4
        second = claimed(served)  # the worker session ended, and its locks with it
        assert observer.locked() == [second["id"]]
        assert served.complete_job(job["id"], lease_token=1).kind == "applied"
        assert served.complete_job(second["id"], lease_token=1).kind == "applied"
        assert observer.locked() == []
        assert (claims_of(served).counts.sessions_lost, claims_of(served).counts.unlock_errors) == (1, 0)

    def test_ends_a_callers_transaction(self, served: PromptStudioDatabase, observer: Stranger) -> None:
        def change_it_meanwhile() -> None:
            with served.transaction():
                served.record_idempotency("job", "k", 1, None)
                observer.run("ALTER TABLE prompt_studio_job_queue ADD COLUMN another TEXT")
                served.create_job("evaluation", 1, {})

        served.create_job("evaluation", 1, {})
        with pytest.raises(TransientConflict, match="the schema was changed while it was in use") as caught:
            change_it_meanwhile()
        assert cast("psycopg.Error", caught.value.__cause__).diag.source_function == "RevalidateCachedQuery"
        assert served.count_jobs() == 1
        assert served.lookup_idempotency("job", "k", None) is None
        assert served.create_job("evaluation", 1, {})

    @pytest.mark.verifies("PS-FAULTS-4")
    def test_is_known_by_the_place_in_the_server_that_refuses_it(
        self, served: PromptStudioDatabase, observer: Stranger
    ) -> None:
        observer.run(
            "CREATE FUNCTION spoil() RETURNS TRIGGER LANGUAGE plpgsql AS $$ BEGIN"
            " RAISE EXCEPTION USING ERRCODE = '0A000', MESSAGE = 'my cached plan'; END $$"
        )
        observer.run(
            "CREATE TRIGGER spoiled BEFORE INSERT ON prompt_studio_job_queue FOR EACH ROW EXECUTE FUNCTION spoil()"
        )
        with pytest.raises(DatabaseError, match="my cached plan") as caught:
            served.create_job("evaluation", 1, {})
        assert type(caught.value) is DatabaseError

    def test_is_known_by_its_words_when_a_proxy_leaves_out_the_place(self) -> None:
        error = psycopg.errors.FeatureNotSupported("cached plan must not change result type")
        assert type(typed(error, "here", unknown=True)) is TransientConflict


class TestTyped:
    @pytest.mark.parametrize(
        ("kind", "becomes"),
        [
            (psycopg.errors.LockNotAvailable, TransientConflict),
            (psycopg.errors.QueryCanceled, StoreUnavailable),
            (psycopg.errors.DeadlockDetected, TransientConflict),
            (psycopg.errors.SerializationFailure, TransientConflict),
            (psycopg.errors.IdleInTransactionSessionTimeout, StoreUnavailable),
            (psycopg.errors.InsufficientPrivilege, StoreUnavailable),
            (psycopg.errors.ReadOnlySqlTransaction, StoreUnavailable),
            (psycopg.errors.DiskFull, StoreUnavailable),
            (psycopg.errors.OutOfMemory, StoreUnavailable),
            (psycopg.errors.ProgramLimitExceeded, DatabaseError),
            (psycopg.errors.AdminShutdown, StoreUnavailable),
            (psycopg.OperationalError, StoreUnavailable),
            (psycopg.InterfaceError, StoreUnavailable),
            (psycopg.errors.UndefinedTable, SchemaError),
            (psycopg.errors.UndefinedColumn, SchemaError),
            (psycopg.errors.UniqueViolation, ConflictError),
            (psycopg.errors.CheckViolation, DatabaseError),
            (psycopg.errors.FeatureNotSupported, DatabaseError),
            (psycopg.errors.SyntaxError, DatabaseError),
            (psycopg.ProgrammingError, DatabaseError),
        ],
    )
    @pytest.mark.verifies("PS-FAULTS-4")
    def test_tells_the_kinds_apart(self, kind: type[psycopg.Error], becomes: type[DatabaseError]) -> None:
        error: Any = typed(kind("said: this"), "here/jobs", unknown=False)
        assert type(error) is becomes
        assert str(error).startswith("here/jobs: said: this")
        assert getattr(error, "outcome_unknown", False) is False

    @pytest.mark.verifies("PS-FAULTS-2")
    def test_knows_that_nothing_was_written_when_the_server_refuses_and_goes_on(
        self, served: PromptStudioDatabase, observer: Stranger
    ) -> None:
        observer.run("CREATE INDEX wide ON prompt_studio_job_queue (payload)")
        with pytest.raises(
            DatabaseError, match=r"index row .*: nothing was written: make the values shorter"
        ) as caught:
            served.create_job("evaluation", 1, {"noise": secrets.token_hex(16_000)})
        assert type(caught.value) is DatabaseError
        observer.run(
            "CREATE FUNCTION spoil() RETURNS TRIGGER LANGUAGE plpgsql AS"
            " $$ BEGIN RAISE EXCEPTION USING ERRCODE = 'io_error', MESSAGE = 'bad disk'; END $$"
        )
        observer.run(
            "CREATE TRIGGER spoiled BEFORE INSERT ON prompt_studio_job_queue FOR EACH ROW EXECUTE FUNCTION spoil()"
        )
        with pytest.raises(StoreUnavailable, match=r"bad disk.*: nothing was written; see that") as unavailable:
            served.create_job("evaluation", 1, {})
        assert not unavailable.value.outcome_unknown
        assert served.count_jobs() == 0

    @pytest.mark.verifies("INV-EXECUTIONS-BOUNDED", "PS-FAULTS-4")
    def test_reports_a_broken_rule_under_its_name(self, served: PromptStudioDatabase, observer: Stranger) -> None:
        job = served.create_job("evaluation", 1, {}, max_retries=0)
        observer.run("ALTER TABLE prompt_studio_job_queue ADD CONSTRAINT never_two CHECK (lease_token < 2) NOT VALID")
        claimed(served)
        assert served.release_job(job["id"], lease_token=1)
        with pytest.raises(InvariantViolation, match=r"never_two.*report it") as caught:
            served.acquire_next_job()
        assert caught.value.invariant == "never_two"
        assert observer.locked() == []


class TestTextThatIsNoJson:
    @pytest.mark.parametrize("text", ["x", '{"a": NaN}', "", '{"a": 1'])
    @pytest.mark.parametrize("column", ["payload", "result"])
    @pytest.mark.verifies("PS-FAULTS-4", "PS-CONCURRENCY-22")
    def test_is_refused_under_the_rules_name(
        self, served: PromptStudioDatabase, observer: Stranger, column: str, text: str
    ) -> None:
        served.cancel_job(served.create_job("evaluation", 1, {})["id"])
        change = f"UPDATE prompt_studio_job_queue SET revision = revision + 1, {column} = %s"
        with pytest.raises(psycopg.errors.CheckViolation) as caught:
            observer.run(change, text)
        error = typed(caught.value, "it", unknown=False)
        assert isinstance(error, InvariantViolation)
        assert error.invariant == f"{column}_is_json"
        assert observer.run(change, '{"a": 1}') == []

    @pytest.mark.verifies("PS-FAULTS-4")
    def test_is_refused_in_a_new_row(self, served: PromptStudioDatabase, observer: Stranger) -> None:
        served.create_job("evaluation", 1, {})
        with pytest.raises(psycopg.errors.CheckViolation, match="not JSON"):
            observer.run(
                "INSERT INTO prompt_studio_job_queue (uuid, job_type, entity_id, payload, client_id, created_at,"
                " available_at, execution_limit) SELECT 'new', job_type, 1, 'x', client_id, created_at, available_at, 4"
                " FROM prompt_studio_job_queue"
            )

    @pytest.mark.verifies("PS-CONCURRENCY-3")
    def test_is_looked_for_in_a_new_value_only(self, served: PromptStudioDatabase, observer: Stranger) -> None:
        """So a renewal does not become slower with the payload: it would meet the one that is broken here."""
        served.create_job("evaluation", 1, {})
        claimed(served)
        observer.run("ALTER TABLE prompt_studio_job_queue DISABLE TRIGGER prompt_studio_payload_is_json")
        observer.run("UPDATE prompt_studio_job_queue SET revision = revision + 1, payload = 'x'")
        observer.run("ALTER TABLE prompt_studio_job_queue ENABLE TRIGGER prompt_studio_payload_is_json")
        renewal = "UPDATE prompt_studio_job_queue SET revision = revision + 1, leased_until = now() RETURNING payload"
        assert observer.run(renewal) == [{"payload": "x"}]
