"""A Postgres that cannot be reached, refuses, or is not spoken to directly: what the opening says."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

import psycopg
import pytest

from prompt_studio import InputError, PromptStudioDatabase, SchemaError, Settings, StoreUnavailable
from prompt_studio.storage.postgres import pool as pool_module
from prompt_studio.storage.postgres.connection import PostgresConnection, Server, is_alive
from prompt_studio.storage.postgres.pool import PooledHandles
from prompt_studio.storage.statements import Statement
from tests.conformance.rows import claimed, stored
from tests.faults.server_sessions import Stranger, interfered, stranger_at
from tests.harness.pooling_proxy import Order, pooling_proxy
from tests.harness.postgres_server import SUPERUSER, PrivateServer

pytestmark = pytest.mark.faults

BRIEF = Settings(write_retry_seconds=0.15)


class TestOpening:
    @pytest.mark.verifies("PS-FAULTS-2")
    def test_without_a_server_says_so(self, tmp_path: Path) -> None:
        with pytest.raises(StoreUnavailable, match="see that the server runs") as caught:
            PromptStudioDatabase(f"postgresql:///jobs?host={tmp_path}", "tester")
        assert not caught.value.outcome_unknown

    @pytest.mark.verifies("PS-FAULTS-2")
    def test_of_an_unknown_database_says_so(self, private_server: PrivateServer) -> None:
        with pytest.raises(StoreUnavailable, match="create the database, or correct the location"):
            PromptStudioDatabase(private_server.dsn("nowhere"), "tester")

    @pytest.mark.verifies("PS-FAULTS-2")
    def test_with_a_wrong_password_says_so(self, private_server: PrivateServer) -> None:
        parameters = psycopg.conninfo.conninfo_to_dict(private_server.dsn("postgres"))
        dsn = f"postgresql://postgres:wrong@127.0.0.1:{parameters['port']}/postgres"
        with pytest.raises(StoreUnavailable, match="correct the user and password") as caught:
            PromptStudioDatabase(dsn, "tester")
        assert "wrong" not in str(caught.value)

    @pytest.mark.parametrize(
        "location",
        [
            "postgresql://joe:hunter%2@db/queue",
            "postgresql://joe:1/hunter2@db/queue",
            "postgresql://joe:1@hunter2@db/queue",
            "postgresql://joe:1?@hunter2@db/queue",
            "postgresql://joe:1/hunter2?more@db/queue",
        ],
    )
    @pytest.mark.verifies("PS-INPUT-1")
    def test_with_a_password_that_needs_escapes_says_so_without_it(self, location: str) -> None:
        with pytest.raises(InputError, match=r"must be a postgresql:// URL .*percent-encode") as caught:
            PromptStudioDatabase(location, "tester")
        assert "hunter" not in str(caught.value)
        assert caught.value.__cause__ is None

    def test_reads_what_may_stand_behind_the_user(self) -> None:
        server = Server("postgresql://joe:h%40%2F?@db:5433/queue?options=-c%20a%3Db@c", Settings())
        assert server.place == "db/queue"

    @pytest.mark.verifies("PS-FAULTS-3", "PS-INPUT-4")
    def test_of_a_database_that_cannot_keep_every_text_is_refused(self, private_server: PrivateServer) -> None:
        with stranger_at(private_server.dsn("postgres")) as stranger:
            stranger.run("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
            try:
                with pytest.raises(SchemaError, match="has the encoding LATIN1: make a database with"):
                    PromptStudioDatabase(private_server.dsn("latin"), "tester", settings=BRIEF)
                with stranger_at(private_server.dsn("latin")) as inside:
                    assert inside.run("SELECT 1 FROM pg_tables WHERE schemaname = current_schema()") == []
            finally:
                stranger.run("DROP DATABASE latin WITH (FORCE)")

    @pytest.mark.verifies("PS-INPUT-4")
    def test_sends_every_text_whatever_the_environment_says(
        self, postgres_database: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
        with PromptStudioDatabase(postgres_database, "tester", settings=BRIEF) as database:
            job = database.create_job("evaluation", 1, {})
            claimed(database)
            assert database.fail_job(job["id"], lease_token=1, error_message="漢", retryable=False)
            assert stored(database, job["id"])["error_message"] == "漢"

    @pytest.mark.verifies("PS-FAULTS-4")
    def test_of_a_database_with_another_style_of_dates_reads_its_times(self, postgres_database: str) -> None:
        name = psycopg.conninfo.conninfo_to_dict(postgres_database)["dbname"]
        with stranger_at(postgres_database) as stranger:
            stranger.run(f"ALTER DATABASE {name} SET datestyle = 'German'")
        with PromptStudioDatabase(postgres_database, "tester", settings=BRIEF) as database:
            job = database.create_job("evaluation", 1, {})
            assert claimed(database)["id"] == job["id"]
        with pytest.raises(StoreUnavailable, match=r"style German, DMY.*ALTER ROLE"):
            PromptStudioDatabase(
                postgres_database, "tester", settings=Settings(advisory_locks=False, transaction_pooler=True)
            )

    def test_without_a_right_to_set_up_a_session_closes_it(
        self, postgres_database: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object) -> None:
            raise psycopg.errors.InsufficientPrivilege("as arranged")

        monkeypatch.setattr("prompt_studio.storage.postgres.connection.bound_every_wait", refuse)
        with pytest.raises(StoreUnavailable, match="give this user the right"):
            PromptStudioDatabase(postgres_database, "tester", settings=BRIEF)

    @pytest.mark.parametrize("order", get_args(Order))
    @pytest.mark.parametrize("sessions", [1, 2, 3])
    @pytest.mark.verifies("PS-LOCKS-4")
    def test_through_a_proxy_that_changes_sessions_is_refused(
        self, private_server: PrivateServer, order: Order, sessions: int
    ) -> None:
        with proxied(private_server, order, sessions) as (dsn, stranger):
            for _ in range(2):
                with pytest.raises(
                    StoreUnavailable, match=r"a proxy changes .* advisory_locks=False and transaction_pooler=True"
                ):
                    PromptStudioDatabase(dsn, "tester", settings=Settings())
            assert stranger.run("SELECT relname FROM pg_class WHERE relname LIKE 'prompt_studio%%'") == []
            assert stranger.run("SELECT 1 FROM pg_locks WHERE locktype = 'advisory'") == []
            with psycopg.connect(dsn, autocommit=True, prepare_threshold=None) as client:
                for _ in range(sessions):  # nothing was left on the sessions that everybody shares
                    assert client.execute("SELECT 1 FROM pg_prepared_statements").fetchall() == []
                    assert client.execute("SHOW enable_bitmapscan").fetchone() == ("on",)

    @pytest.mark.parametrize("lost", [False, True])
    @pytest.mark.verifies("PS-LOCKS-4")
    def test_through_a_proxy_that_resets_sessions_is_refused(
        self, postgres_database: str, monkeypatch: pytest.MonkeyPatch, *, lost: bool
    ) -> None:
        """What keeps the session for each client, and yet clears it between transactions, keeps no lock."""

        def reset(connection: PostgresConnection) -> None:
            connection.run(Statement("reset", "DISCARD ALL"))

        with interfered(monkeypatch, "unlock_probe" if lost else "lock_probe", reset):
            if lost:
                with pytest.raises(StoreUnavailable, match="a proxy changes"):
                    PromptStudioDatabase(postgres_database, "tester", settings=Settings())
            else:
                PromptStudioDatabase(postgres_database, "tester", settings=Settings()).close()

    @pytest.mark.parametrize("order", get_args(Order))
    @pytest.mark.verifies("PS-LOCKS-4")
    def test_through_an_announced_proxy_serves_every_call(self, private_server: PrivateServer, order: Order) -> None:
        behind = Settings(advisory_locks=False, transaction_pooler=True)
        with proxied(private_server, order, 3) as (dsn, stranger):
            with PromptStudioDatabase(dsn, "tester", settings=behind) as database:
                ids = [database.create_job("evaluation", number, {})["id"] for number in range(3)]
                for job_id in ids:
                    assert claimed(database)["id"] == job_id
                    assert database.renew_job_lease(job_id, 60, lease_token=1)
                    assert database.complete_job(job_id, lease_token=1).kind == "applied"
                assert database.complete_job(ids[0], lease_token=1).kind == "already"
                with database.transaction():
                    assert database.record_idempotency("job", "k", 1, None).created
                    database.create_job("evaluation", 1, {})
                assert database.acquire_next_job() is not None
                assert database.acquire_next_job() is None
            assert stranger.locked() == []

    @pytest.mark.verifies("PS-LOCKS-4")
    def test_behind_an_announced_proxy_sets_and_prepares_nothing(self, postgres_database: str) -> None:
        behind = Settings(advisory_locks=False, transaction_pooler=True)
        with (
            PromptStudioDatabase(postgres_database, "tester", settings=behind) as database,
            stranger_at(postgres_database) as stranger,
        ):
            job = database.create_job("evaluation", 1, {})
            assert claimed(database)["id"] == job["id"]
            assert database.complete_job(job["id"], lease_token=1).kind == "applied"
            assert stranger.locked() == []

    @pytest.mark.verifies("PS-INPUT-1")
    def test_of_no_location_says_so(self) -> None:
        with pytest.raises(InputError, match="must be a postgresql:// URL"):
            PromptStudioDatabase("postgresql://host/jobs?nonsense=1", "tester")

    @pytest.mark.verifies("PS-INPUT-1")
    def test_without_the_library_says_what_to_install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "prompt_studio.storage.postgres.dialect", None)
        with pytest.raises(InputError, match=r"install the extra, prompt-studio-core\[postgres\]"):
            PromptStudioDatabase("postgresql:///jobs", "tester")

    @pytest.mark.verifies("PS-FAULTS-3")
    def test_of_an_empty_database_that_must_exist_leaves_it_empty(self, postgres_database: str) -> None:
        with pytest.raises(SchemaError, match="is empty: open it with create=True"):
            PromptStudioDatabase(postgres_database, "tester", settings=Settings(), create=False)
        with stranger_at(postgres_database) as stranger:
            assert stranger.run("SELECT tablename FROM pg_tables WHERE schemaname = current_schema()") == []

    @pytest.mark.verifies("PS-FAULTS-3")
    def test_with_the_queue_further_down_the_path_makes_no_second_one(
        self, served: PromptStudioDatabase, observer: Stranger, postgres_database: str
    ) -> None:
        assert served.create_job("evaluation", 1, {})
        observer.run("CREATE SCHEMA newer")
        path = f"{postgres_database}&options=-csearch_path%3Dnewer,public"
        for create in (True, False):
            with pytest.raises(SchemaError, match=r"the queue is in the schema 'public', and .* begins with 'newer'"):
                PromptStudioDatabase(path, "tester", settings=Settings(), create=create)
        assert observer.run("SELECT 1 FROM pg_tables WHERE schemaname = 'newer'") == []

    @pytest.mark.verifies("PS-FAULTS-3")
    def test_without_a_schema_in_the_path_says_so(self, postgres_database: str) -> None:
        with pytest.raises(SchemaError, match="search_path names no schema"):
            PromptStudioDatabase(f"{postgres_database}&options=-csearch_path%3Dnowhere", "tester", settings=Settings())

    @pytest.mark.verifies("PS-FAULTS-3")
    def test_of_a_database_with_a_view_makes_no_tables(self, postgres_database: str) -> None:
        with stranger_at(postgres_database) as stranger:
            stranger.run("CREATE VIEW somebodys AS SELECT 1 AS one")
            with pytest.raises(SchemaError, match=r"another program .it has somebodys"):
                PromptStudioDatabase(postgres_database, "tester", settings=Settings())

    @pytest.mark.verifies("PS-FAULTS-3")
    def test_of_an_empty_database_by_two_at_once_initialises_it_once(
        self, postgres_database: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def be_faster(_: PostgresConnection) -> None:
            if not rivals:
                rivals.append("here")
                with PromptStudioDatabase(postgres_database, "rival", settings=Settings()) as rival:
                    assert rival.create_job("evaluation", 1, {})["id"] == 1

        rivals: list[str] = []
        with interfered(monkeypatch, "lock_schema", be_faster):
            database = PromptStudioDatabase(postgres_database, "tester", settings=Settings())
        with database:
            assert database.count_jobs() == 1


class TestHandles:
    def test_of_a_closed_pool_are_refused(self, postgres_database: str) -> None:
        handles = PooledHandles(Server(postgres_database, Settings()))
        idle, lent = handles.take(), handles.take()
        handles.give(idle)
        handles.close()
        handles.give(lent)
        assert idle.closed
        assert lent.closed
        with pytest.raises(StoreUnavailable, match="closed: open it again"):
            handles.take()

    def test_that_are_old_are_replaced(self, postgres_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
        handles = PooledHandles(Server(postgres_database, Settings(pool_connections=1)))
        first = handles.take()
        handles.give(first)
        assert handles.take() is first
        monkeypatch.setattr(pool_module, "AGE_SECONDS_MAX", -1.0)
        handles.give(first)
        assert first.closed
        second = handles.take()
        assert not second.closed
        handles.give(second)
        assert second.closed

    def test_that_come_back_while_the_pool_is_closed_are_closed(
        self, postgres_database: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def close_first() -> float:
            handles.close()
            return 0.0

        handles = PooledHandles(Server(postgres_database, Settings()))
        handle = handles.take()
        with monkeypatch.context() as patched:
            patched.setattr("prompt_studio.storage.postgres.pool.time.monotonic", close_first)
            handles.give(handle)
        assert handle.closed

    def test_that_are_closed_are_not_alive(self, postgres_database: str) -> None:
        handle = Server(postgres_database, Settings()).connect()
        assert is_alive(handle)
        handle.close()
        assert not is_alive(handle)


@contextmanager
def proxied(server: PrivateServer, order: Order, sessions: int) -> Iterator[tuple[str, Stranger]]:
    """The location of an empty database by way of a proxy, and somebody who is connected with it directly."""
    name = server.create_database()
    dsn = server.dsn(name)
    port = psycopg.conninfo.conninfo_to_dict(dsn)["port"]
    with (
        stranger_at(dsn) as stranger,
        pooling_proxy(
            server.directory / f".s.PGSQL.{port}", SUPERUSER, name, order=order, sessions=sessions
        ) as by_proxy,
    ):
        yield by_proxy, stranger
    server.drop_database(name)
