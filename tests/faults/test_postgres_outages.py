"""Servers that are away, stand still, or became a standby: what the next call says, and that the one after is well."""

import os
import signal
import threading
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

import psycopg
import pytest
from prometheus_client import CollectorRegistry

from prompt_studio import DatabaseError, PromptStudioDatabase, Settings, StoreUnavailable
from prompt_studio.prometheus_metrics import PrometheusMetrics
from prompt_studio.storage.postgres.connection import PerProcess
from prompt_studio.storage.statements import Statement
from tests.conformance.rows import claimed
from tests.faults.server_sessions import LIMIT_SECONDS, await_that, claims_of, stranger_at, worker_process
from tests.harness.postgres_server import PrivateServer

pytestmark = pytest.mark.faults

BRIEF = Settings(write_retry_seconds=0.15, pool_connections=2)
CALLS = 5
LOOPBACK = "127.0.0.1"
SCRAPE_LIMIT_SECONDS = 25
"""Less than a statement may take as the settings are, and more than a scrape takes on any machine."""


@contextmanager
def stopped(server: PrivateServer) -> Iterator[None]:
    """Without the server, as long as the block lasts."""
    server._pg_ctl("stop", "-m", "fast")
    try:
        yield
    finally:
        server._pg_ctl("start")


@contextmanager
def standing_still(process: int) -> Iterator[None]:
    """A process of the server does nothing, as long as the block lasts."""
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process, signal.SIGCONT)


class TestAnOutage:
    @pytest.mark.verifies("PS-FAULTS-2")
    def test_is_named_by_each_call_and_over_with_the_first_call_after_it(self, private_server: PrivateServer) -> None:
        dsn = private_server.dsn(private_server.create_database())
        with PromptStudioDatabase(dsn, "tester", settings=BRIEF) as database:
            database.create_job("evaluation", 1, {})
            with stopped(private_server):
                for _ in range(CALLS):
                    with pytest.raises(StoreUnavailable, match="see that the server runs") as caught:
                        database.count_jobs()
                    assert not caught.value.outcome_unknown
            assert database.create_job("evaluation", 1, {})["id"] == 2
            assert claimed(database)["id"] == 1


class TestAServerProcessThatStandsStill:
    @pytest.mark.parametrize("lent", [True, False], ids=["of the pool", "of the worker"])
    @pytest.mark.verifies("PS-FAULTS-1", "PS-FAULTS-2", "INV-LOCKS-MATCH")
    def test_is_left_when_its_answer_is_overdue(self, private_server: PrivateServer, *, lent: bool) -> None:
        dsn = private_server.dsn(private_server.create_database())
        settings = replace(BRIEF, statement_seconds=0.1, answer_seconds=0.1)
        with PromptStudioDatabase(dsn, "tester", settings=settings) as database, stranger_at(dsn) as stranger:
            job = database.create_job("evaluation", 1, {})
            claimed(database)
            process = stranger.pooled(database)[0] if lent else worker_process(database)
            call: Callable[[], object] = (
                (lambda: database.create_job("evaluation", 1, {}))
                if lent
                else (lambda: database.complete_job(job["id"], lease_token=1))
            )
            with standing_still(process):
                with pytest.raises(StoreUnavailable, match=r"no answer for 0\.2 s: the call may have been") as caught:
                    call()
                assert caught.value.outcome_unknown
                assert database.count_jobs() == 1
                assert database.renew_job_lease(job["id"], 60, lease_token=1)
            await_that(lambda: process not in stranger.pooled(database), "the process sees that nobody waits")
            assert database.complete_job(job["id"], lease_token=1)
            assert claims_of(database).counts.unlock_errors == 0


class TestAServerThatIsReadOnly:
    @pytest.mark.verifies("PS-FAULTS-2")
    def test_is_left_so_that_the_next_call_may_find_another(self, postgres_database: str) -> None:
        name = psycopg.conninfo.conninfo_to_dict(postgres_database)["dbname"]
        with stranger_at(postgres_database) as stranger:
            PromptStudioDatabase(postgres_database, "tester", settings=BRIEF).close()
            stranger.run(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
            with PromptStudioDatabase(postgres_database, "tester", settings=BRIEF) as database:
                with pytest.raises(StoreUnavailable, match="connect to the primary") as caught:
                    database.create_job("evaluation", 1, {})
                assert not caught.value.outcome_unknown
                stranger.run("SET default_transaction_read_only = off")
                stranger.run(f"ALTER DATABASE {name} RESET default_transaction_read_only")
                assert database.create_job("evaluation", 1, {})["id"] == 1


class TestAnAnswerThatCannotBeRead:
    @pytest.mark.verifies("PS-FAULTS-4", "INV-LOCKS-MATCH")
    def test_is_reported_as_what_it_is(self, postgres_database: str) -> None:
        german = Statement("german", "SET DateStyle = 'German'")
        one = replace(BRIEF, pool_connections=1)
        with (
            PromptStudioDatabase(postgres_database, "tester", settings=one) as database,
            stranger_at(postgres_database) as stranger,
        ):
            database.create_job("evaluation", 1, {})
            claims = claims_of(database)
            claims._sessions.current().run(german)
            with pytest.raises(DatabaseError, match="nothing was written; see that nobody changed") as caught:
                database.list_jobs()
            assert type(caught.value) is DatabaseError
            claims._worker.run(german)
            with pytest.raises(StoreUnavailable, match="may have been carried out: ask for the row") as lost:
                database.acquire_next_job()
            assert lost.value.outcome_unknown
            assert stranger.locked() == []
            assert database.count_jobs(status="processing") == 1


class TestPerProcess:
    def test_is_made_once_for_all_threads_of_a_child(self, monkeypatch: pytest.MonkeyPatch) -> None:
        both = threading.Barrier(2)

        def make() -> object:
            if in_the_child:
                both.wait(LIMIT_SECONDS)  # each has seen that there is none
            return object()

        in_the_child: list[bool] = []
        things = PerProcess(make)
        parents = things.get()
        in_the_child.append(True)
        monkeypatch.setattr(os, "getpid", lambda: -1)
        with ThreadPoolExecutor(2) as pool:
            first, second = pool.map(lambda _: things.get(), range(2), timeout=LIMIT_SECONDS)
        assert first is second
        assert first is not parents


class TestAScrape:
    @pytest.mark.verifies("PS-LEASE-HB-23")
    def test_is_answered_while_the_server_stands_still(self, private_server: PrivateServer) -> None:
        dsn = private_server.dsn(private_server.create_database())
        metrics = PrometheusMetrics(CollectorRegistry())
        with PromptStudioDatabase(dsn, "tester", settings=Settings()) as database, stranger_at(dsn) as stranger:
            database.create_job("evaluation", 1, {})
            metrics.watch_queue(database)
            first, (pooled,) = private_server.process_id, stranger.pooled(database)
            assert first is not None
            address = f"http://{LOOPBACK}:{metrics.serve(0, LOOPBACK)}/metrics"
            with (
                standing_still(first),
                standing_still(pooled),
                urllib.request.urlopen(address, timeout=SCRAPE_LIMIT_SECONDS) as answer,
            ):
                told = answer.read().decode()
            assert "prompt_studio_database_up 0.0" in told
            assert 'prompt_studio_jobs_scheduled_total{job_type="evaluation"} 1.0' in told
            assert metrics.registry.get_sample_value("prompt_studio_jobs", {"status": "queued"}) == 1
