"""A Postgres that cannot be reached, refuses, or is not spoken to directly: what the opening says."""

import sys
import threading
from pathlib import Path

import psycopg
import pytest

from prompt_studio import InputError, PromptStudioDatabase, SchemaError, Settings, StoreUnavailable
from prompt_studio.storage.dialect import NO_PARAMETERS, Parameters, Row
from prompt_studio.storage.postgres.connection import PooledHandles, PostgresConnection, Server, is_alive
from prompt_studio.storage.postgres.dialect import PostgresDialect
from prompt_studio.storage.statements import Statement
from tests.conformance.rows import claimed
from tests.faults.server_sessions import interfered, stranger_at
from tests.harness.postgres_server import PrivateServer

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

    def test_without_a_right_to_set_up_a_session_closes_it(
        self, postgres_database: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object) -> None:
            raise psycopg.errors.InsufficientPrivilege("as arranged")

        monkeypatch.setattr("prompt_studio.storage.postgres.connection.bound_every_wait", refuse)
        with pytest.raises(StoreUnavailable, match="give this user the right"):
            PromptStudioDatabase(postgres_database, "tester", settings=BRIEF)

    @pytest.mark.verifies("PS-LOCKS-4")
    def test_through_a_proxy_that_changes_sessions_is_refused(
        self, postgres_database: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        direct = PostgresDialect._alone
        with PromptStudioDatabase(postgres_database, "tester", settings=Settings()):
            pass  # there is a schema, so that the proxy is all that can be wrong
        dialect = PostgresDialect(postgres_database, Settings(), clock=None, create=False)
        proxy = Proxy([direct(dialect), direct(dialect)])
        monkeypatch.setattr(PostgresDialect, "_alone", lambda _: ProxiedConnection(proxy))
        with pytest.raises(
            StoreUnavailable, match=r"a proxy changes .* advisory_locks=False and transaction_pooler=True"
        ):
            PromptStudioDatabase(postgres_database, "tester", settings=Settings())
        proxy.close()

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
        handles.close()  # before there is a pool: nothing to do
        assert handles.give(handles.take())
        handles.close()
        with pytest.raises(StoreUnavailable, match="closed: open it again"):
            handles.take()

    def test_that_are_closed_are_not_alive(self, postgres_database: str) -> None:
        handle = Server(postgres_database, Settings()).connect()
        assert is_alive(handle)
        handle.close()
        assert not is_alive(handle)


class Proxy:
    """A stand-in for a transaction-pooling proxy: whoever begins a transaction gets the session that was left last."""

    def __init__(self, sessions: list[PostgresConnection]) -> None:
        self.free = sessions

    def close(self) -> None:
        for session in self.free:
            session.close()


class ProxiedConnection:
    """A client's side of it."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._pinned: PostgresConnection | None = None
        self.busy = threading.RLock()

    @property
    def in_transaction(self) -> bool:
        return self._pinned is not None

    def run(self, statement: Statement, parameters: Parameters = NO_PARAMETERS) -> list[Row]:
        session = self._pinned or self._proxy.free.pop()
        rows = session.run(statement, parameters)
        self._pinned = session if session.in_transaction else None
        if self._pinned is None:
            self._proxy.free.append(session)
        return rows

    def close(self) -> None:
        assert self._pinned is None
