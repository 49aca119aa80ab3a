"""One database object that is shared: by threads, and by a process with its forked child."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from prompt_studio import DatabaseError, PromptStudioDatabase, Settings, StoreUnavailable
from prompt_studio.storage.postgres.connection import PostgresConnection
from tests.conformance.rows import claimed
from tests.faults.processes import at_once
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

WORKERS = 8
JOBS = 80


class TestAFork:
    @pytest.mark.verifies("INV-LOCKS-MATCH")
    def test_gives_the_child_sessions_and_locks_of_its_own(
        self, served: PromptStudioDatabase, observer: Stranger, postgres_database: str
    ) -> None:
        def in_the_child(_: int) -> tuple[int, list[int], str]:
            job = claimed(served)
            with stranger_at(postgres_database) as stranger:
                locked = stranger.locked()
            return job["id"], locked, served.complete_job(job["id"], lease_token=1).kind

        ids = [served.create_job("evaluation", 1, {})["id"] for _ in range(3)]
        mine = claimed(served)
        process = worker_process(served)
        assert at_once(1, in_the_child) == [(ids[1], ids[:2], "applied")]
        assert observer.locked() == [mine["id"]]
        assert worker_process(served) == process
        assert claimed(served)["id"] == ids[2]
        assert served.complete_job(mine["id"], lease_token=1).kind == "applied"
        assert observer.locked() == [ids[2]]
        assert (claims_of(served).counts.sessions_lost, claims_of(served).counts.unlock_errors) == (0, 0)

    @pytest.mark.verifies("INV-NOTHING-LOST", "PS-CONCURRENCY-23")
    def test_in_a_transaction_gives_the_child_none_of_it(self, served: PromptStudioDatabase) -> None:
        def go_on(_: int) -> str:
            with pytest.raises(DatabaseError) as caught:
                served.create_job("evaluation", 1, {})
            return str(caught.value)

        with served.transaction():
            served.create_job("evaluation", 1, {})
            (said,) = at_once(1, go_on)
            served.create_job("evaluation", 1, {})
        assert "spoiled" in said
        assert served.count_jobs() == 2

    def test_lets_the_child_close_what_it_inherited(self, served: PromptStudioDatabase, observer: Stranger) -> None:
        def close(_: int) -> bool:
            served.close()
            return True

        served.create_job("evaluation", 1, {})
        job = claimed(served)
        assert at_once(1, close) == [True]
        assert observer.locked() == [job["id"]]
        assert served.count_jobs() == 1


class TestThreads:
    @pytest.mark.verifies("PS-CONCURRENCY-1", "PS-LOCKS-1", "INV-LOCKS-MATCH")
    def test_share_a_database_object_and_get_each_job_once(
        self, served: PromptStudioDatabase, observer: Stranger
    ) -> None:
        def drained(_: int) -> list[int]:
            assert together.wait(LIMIT_SECONDS) >= 0
            had = []
            while (job := served.acquire_next_job()) is not None:
                assert served.complete_job(job["id"], lease_token=job["lease_token"]).kind == "applied"
                had.append(job["id"])
            return had

        together = threading.Barrier(WORKERS)
        ids = [served.create_job("evaluation", number, {})["id"] for number in range(JOBS)]
        with ThreadPoolExecutor(WORKERS) as pool:
            answers = list(pool.map(drained, range(WORKERS), timeout=LIMIT_SECONDS))
        assert sorted(job_id for had in answers for job_id in had) == ids
        assert observer.locked() == []
        assert claims_of(served).counts.unlock_errors == 0

    @pytest.mark.verifies("PS-CONCURRENCY-3")
    def test_renew_beside_a_slow_call_of_another(self, served: PromptStudioDatabase, observer: Stranger) -> None:
        for _ in range(2):
            served.create_job("evaluation", 1, {})
        slow, other = claimed(served), claimed(served)
        process = worker_process(served)
        with ThreadPoolExecutor(1) as pool, observer.holding(slow["id"]):
            call = pool.submit(served.complete_job, slow["id"], lease_token=1)
            observer.await_wait(process)
            assert served.renew_job_lease(other["id"], 60, lease_token=1)
            assert not call.done()
        assert call.result(LIMIT_SECONDS)

    @pytest.mark.verifies("INV-LOCKS-MATCH")
    def test_in_the_middle_of_a_claim_are_waited_for_by_close(
        self, postgres_database: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        begun, ended = threading.Event(), threading.Event()

        def stay(_: PostgresConnection) -> None:
            begun.set()
            assert ended.wait(LIMIT_SECONDS)

        database = PromptStudioDatabase(postgres_database, "tester", settings=Settings(write_retry_seconds=0.1))
        job = database.create_job("evaluation", 1, {})
        with (
            interfered(monkeypatch, "acquire_best_job", stay),
            stranger_at(postgres_database) as stranger,
            ThreadPoolExecutor(1) as pool,
        ):
            call = pool.submit(database.acquire_next_job)
            assert begun.wait(LIMIT_SECONDS)
            with pytest.raises(StoreUnavailable, match="in the middle of a claim"):
                database.close()
            others = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            await_that(lambda: len(stranger.run(others)) == 1, "everything is closed but the session that claims")
            ended.set()
            had = call.result(LIMIT_SECONDS)
            assert had is not None
            assert stranger.locked() == [job["id"]] == [had["id"]]
            database.close()
            await_that(lambda: stranger.can_lock(job["id"]), "the session's lock ends with it")
        with pytest.raises(StoreUnavailable, match="closed"):
            database.acquire_next_job()
