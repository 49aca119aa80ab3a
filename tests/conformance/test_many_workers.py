"""Threads and processes that use one database at the same time."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import Any, cast

import pytest

from prompt_studio import PromptStudioDatabase, StoreUnavailable
from tests.conformance.conftest import Open
from tests.conformance.virtual_time import VirtualClock
from tests.faults.processes import LIMIT_SECONDS, at_once

pytestmark = pytest.mark.conformance

WORKERS = 4
JOBS = 40


def drained(database: PromptStudioDatabase, worker_id: str) -> list[tuple[int, int]]:
    """Claim and complete until there is nothing left."""
    had = []
    while (job := database.acquire_next_job(worker_id=worker_id)) is not None:
        assert database.renew_job_lease(job["id"], 60, lease_token=job["lease_token"]).kind == "applied"
        assert database.complete_job(job["id"], lease_token=job["lease_token"]).kind == "applied"
        had.append((job["id"], job["lease_token"]))
    return had


class TestProcesses:
    @pytest.mark.verifies("PS-CONCURRENCY-1", "PS-CONCURRENCY-6", "INV-TOKEN-GROWS", "INV-NOTHING-LOST")
    def test_never_get_the_same_job(self, opened: Open) -> None:
        with opened(in_real_time=True) as database:
            for _ in range(JOBS):
                database.create_job("evaluation", 1, {})
            answers = at_once(WORKERS, lambda number: drained(database, f"worker-{number}"))
            assert Counter(chain(*answers)) == Counter({(number, 1): 1 for number in range(1, JOBS + 1)})
            assert database.count_jobs(status="completed") == JOBS

    @pytest.mark.verifies("PS-CONCURRENCY-2", "PS-CONCURRENCY-1")
    def test_reclaim_an_expired_job_once(self, opened: Open, clock: VirtualClock) -> None:
        with opened() as database:
            database.create_job("evaluation", 1, {})
            database.acquire_next_job(lease_seconds=1)
            clock.tick(1)
            answers = at_once(WORKERS, lambda _: database.acquire_next_job())
        assert [job["lease_token"] for job in answers if job is not None] == [2]

    @pytest.mark.verifies("PS-IDEMPOTENCY-PG-2", "INV-ONE-EFFECT-PER-KEY")
    def test_are_told_one_winner_of_a_key(self, opened: Open) -> None:
        with opened(in_real_time=True) as database:
            answers = at_once(WORKERS, lambda number: database.record_idempotency("job", "k", number, "ann"))
            winner = database.lookup_idempotency("job", "k", "ann")
        assert [record.entity_id for record in answers] == WORKERS * [winner]
        assert [record.entity_id for record in answers if record.created] == [winner]


class TestThreads:
    @pytest.mark.verifies("PS-CONCURRENCY-1")
    def test_have_connections_of_their_own(self, database: PromptStudioDatabase) -> None:
        for _ in range(JOBS):
            database.create_job("evaluation", 1, {})
        with ThreadPoolExecutor(WORKERS) as pool:
            answers = list(
                pool.map(lambda name: drained(database, name), map(str, range(WORKERS)), timeout=LIMIT_SECONDS)
            )
        assert sorted(chain(*answers)) == [(number, 1) for number in range(1, JOBS + 1)]

    def test_leave_no_connection_behind_when_they_end(self, database: PromptStudioDatabase) -> None:
        for _ in range(3):
            thread = threading.Thread(target=database.count_jobs)
            thread.start()
            thread.join(LIMIT_SECONDS)
        database.count_jobs()
        sessions = cast("Any", database._store)._sessions._all
        assert set(sessions) == {threading.main_thread()}

    def test_may_close_their_own(self, database: PromptStudioDatabase) -> None:
        database.create_job("evaluation", 1, {})
        database.close_connection()
        assert database.count_jobs() == 1

    def test_can_be_stopped_by_another_that_closes_the_database(self, database: PromptStudioDatabase) -> None:
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(database.count_jobs).result(LIMIT_SECONDS) == 0
            database.close()
            with pytest.raises(StoreUnavailable, match="closed"):
                pool.submit(database.count_jobs).result(LIMIT_SECONDS)
        with pytest.raises(StoreUnavailable, match="closed"):
            database.count_jobs()
        database.close()
