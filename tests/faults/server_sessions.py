"""The sessions of a Postgres server as somebody else sees them, and what he can do to them."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any, Final, cast

import psycopg
import pytest
from psycopg.rows import DictRow, dict_row

from prompt_studio import PromptStudioDatabase, TransientConflict
from prompt_studio.storage.dialect import NO_PARAMETERS, Parameters, Row
from prompt_studio.storage.postgres.claims import PostgresClaims
from prompt_studio.storage.postgres.connection import PostgresConnection
from prompt_studio.storage.statements import Statement, Statements

LIMIT_SECONDS: Final = 10.0

Interference = Callable[[PostgresConnection], None]

_LOCKS: Final = """
    SELECT (CAST(classid AS BIGINT) << 32) | CAST(objid AS BIGINT) AS job_id FROM pg_locks
    WHERE locktype = 'advisory' AND objsubid = 1
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    ORDER BY job_id
"""
# The form with two keys, which shares nothing with the locks of jobs.
_GATE: Final = """
    CREATE FUNCTION wait_at_the_gate() RETURNS TRIGGER LANGUAGE plpgsql AS
    'BEGIN PERFORM pg_advisory_lock(1, 1); PERFORM pg_advisory_unlock(1, 1); RETURN NEW; END';
    CREATE TRIGGER gate BEFORE UPDATE ON prompt_studio_job_queue
    FOR EACH ROW EXECUTE FUNCTION wait_at_the_gate()
"""


class Stranger:
    """Another client of the database, who may do anything."""

    def __init__(self, session: psycopg.Connection[DictRow]) -> None:
        self.session = session

    def run(self, sql: str, *parameters: object) -> list[dict[str, Any]]:
        """The rows of a statement, which is committed at once."""
        cursor = self.session.execute(cast("Any", sql), parameters or None)
        return cursor.fetchall() if cursor.description else []

    def locked(self) -> list[int]:
        """The jobs that have an advisory lock, whoever holds it."""
        return [row["job_id"] for row in self.run(_LOCKS)]

    def try_lock(self, job_id: int) -> bool:
        """Whether we have the job's lock now."""
        return bool(self.run("SELECT pg_try_advisory_lock(%s::bigint) AS got", job_id)[0]["got"])

    def unlock(self, job_id: int) -> None:
        """Give it back."""
        assert self.run("SELECT pg_advisory_unlock(%s::bigint) AS had", job_id) == [{"had": True}]

    def can_lock(self, job_id: int) -> bool:
        """Whether nobody holds the job's lock."""
        if got := self.try_lock(job_id):
            self.unlock(job_id)
        return got

    def pooled(self, database: PromptStudioDatabase) -> list[int]:
        """The server processes of a database object's pool: it must be the only one that is open."""
        worker = worker_process(database)
        rows = self.run(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'prompt_studio'"
        )
        return [row["pid"] for row in rows if row["pid"] != worker]

    def end(self, *processes: int) -> None:
        """End server processes, and wait until they are gone."""
        assert processes
        for process in processes:
            assert self.run("SELECT pg_terminate_backend(%s, 10000) AS ended", process) == [{"ended": True}]

    def await_wait(self, process: int) -> None:
        """Wait until a server process waits for a lock."""
        waits = "SELECT 1 FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock'"
        await_that(lambda: bool(self.run(waits, process)), f"process {process} waits for a lock")

    @contextmanager
    def holding(self, job_id: int) -> Iterator[None]:
        """Have the job's row locked by a transaction, as long as the block lasts."""
        with self.session.transaction():
            self.run("SELECT 1 FROM prompt_studio_job_queue WHERE id = %s FOR UPDATE", job_id)
            yield

    @contextmanager
    def closed_gate(self) -> Iterator[None]:
        """Keep every update of a job waiting, as long as the block lasts."""
        self.run(_GATE)
        self.run("SELECT pg_advisory_lock(1, 1)")
        try:
            yield
        finally:
            self.run("SELECT pg_advisory_unlock(1, 1)")


@contextmanager
def stranger_at(dsn: str) -> Iterator[Stranger]:
    """Another client."""
    with closing(psycopg.connect(dsn, autocommit=True, row_factory=dict_row)) as session:
        session.execute("SET lock_timeout = '10s'")
        yield Stranger(session)


def await_that(happens: Callable[[], bool], what: str) -> None:
    """Wait for what the server does not announce."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while not happens():
        assert time.monotonic() < deadline, f"not within {LIMIT_SECONDS:g} s: {what}"
        threading.Event().wait(0.002)


@contextmanager
def interfered(monkeypatch: pytest.MonkeyPatch, name: str, interference: Interference) -> Iterator[None]:
    """Before each statement of this name, something happens."""
    run = PostgresConnection.run

    def run_after(
        connection: PostgresConnection, statement: Statement, parameters: Parameters = NO_PARAMETERS
    ) -> list[Row]:
        if statement.name == name:
            interference(connection)
        return run(connection, statement, parameters)

    with monkeypatch.context() as patched:
        patched.setattr(PostgresConnection, "run", run_after)
        yield


@contextmanager
def interrupted_after(monkeypatch: pytest.MonkeyPatch, name: str) -> Iterator[None]:
    """After each statement of this name, when its answer is there, somebody presses Ctrl-C."""
    run = PostgresConnection.run

    def run_before(
        connection: PostgresConnection, statement: Statement, parameters: Parameters = NO_PARAMETERS
    ) -> list[Row]:
        rows = run(connection, statement, parameters)
        if statement.name == name:
            raise KeyboardInterrupt
        return rows

    with monkeypatch.context() as patched:
        patched.setattr(PostgresConnection, "run", run_before)
        yield


def interrupt(_: PostgresConnection) -> None:
    raise KeyboardInterrupt


def fail(_: PostgresConnection) -> None:
    raise TransientConflict("as arranged")


def claims_of(database: PromptStudioDatabase) -> PostgresClaims:
    """The part of an opened database that knows about locks."""
    return cast("PostgresClaims", cast("Any", database)._store._claims)


def statements_of(database: PromptStudioDatabase) -> Statements:
    """The statements of an opened database."""
    return claims_of(database).dialect.statements


def worker_process(database: PromptStudioDatabase) -> int:
    """The server process of the worker session."""
    claims = claims_of(database)
    claims.memory()  # there is a session from now on
    return int(cast("Any", claims)._connection._handle.info.backend_pid)
