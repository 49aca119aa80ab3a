"""A Postgres database under test: how sessions are opened on it, its tables and locks, read behind the store's back.

Opening a session costs a process of the server, so a session that ends an example with nothing in its memory serves the
next one too.
"""

import select
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any, Final, cast

import psycopg
from psycopg.rows import DictRow, dict_row

from prompt_studio import PromptStudioDatabase, Settings
from prompt_studio.storage.postgres.claims import PostgresClaims
from tests.harness.adapter import SECOND, START, Seen, SessionSeen, VirtualClock, milliseconds_of
from tests.harness.violation import Violation

CLIENT: Final = "conformance"
PROMISE: Final = "INV-LOCKS-MATCH"
LIMIT_SECONDS: Final = 10.0
EXAMPLES_BETWEEN_TRUNCATIONS: Final = 50
WRONG_TOKEN: Final = -1
"""Shown for a lock that the server has and the store knows nothing of."""

_JOBS: Final = "prompt_studio_job_queue"
_KEYS: Final = "prompt_studio_idempotency"
_COLUMNS: Final = """
    SELECT column_name, data_type FROM information_schema.columns
    WHERE table_schema = current_schema() AND table_name = %s ORDER BY ordinal_position
"""
_LOCKS: Final = """
    SELECT pid, (CAST(classid AS BIGINT) << 32) | CAST(objid AS BIGINT) AS job_id FROM pg_locks
    WHERE locktype = 'advisory' AND objsubid = 1
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


class PostgresDatabase:
    """One database of the test server, used by one example after another."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self.control: psycopg.Connection[DictRow] = psycopg.connect(dsn, autocommit=True, row_factory=dict_row)
        self.control.execute("SET timezone = 'UTC'")
        self.control.execute("CREATE SEQUENCE prompt_studio_virtual_clock MINVALUE 0")
        PromptStudioDatabase(dsn, CLIENT, settings=Settings()).close()
        # One statement for all that is looked at after each step: a round trip takes longer than any of its parts.
        parts = {"jobs": self._rows_of(_JOBS), "keys": self._rows_of(_KEYS), "locks": _LOCKS}
        read = ", ".join(f"(SELECT json_agg(row) FROM ({part}) AS row) AS {name}" for name, part in parts.items())
        self._read = f"SELECT {read}"
        self._idle: dict[Settings, list[tuple[PromptStudioDatabase, _Dice]]] = {}
        self._examples = 0

    def _rows_of(self, table: str) -> str:
        """The table's rows as JSON says them best: instants in milliseconds, and JSON as the text that it is."""
        columns = [
            f"CAST(EXTRACT(EPOCH FROM {name}) * {SECOND} AS BIGINT) AS {name}"
            if kind.startswith("timestamp")
            else f"CAST({name} AS TEXT) AS {name}"
            if kind.startswith("json")
            else name
            for name, kind in ((column["column_name"], column["data_type"]) for column in self._run(_COLUMNS, table))
        ]
        return f"SELECT {', '.join(columns)} FROM {table} ORDER BY id"

    def _run(self, statement: str, *parameters: object) -> list[DictRow]:
        return self.control.execute(cast("Any", statement), parameters or None).fetchall()

    def read(self) -> dict[str, list[dict[str, Any]]]:
        """The rows of jobs and of keys, by id, and the advisory locks on jobs, as they are now."""
        (found,) = self._run(self._read)
        return {name: rows or [] for name, rows in found.items()}

    def emptied(self, settings: Settings) -> "PostgresDeployment":
        """The database with nothing in it, at the start of time."""
        self._examples += 1
        if self._examples % EXAMPLES_BETWEEN_TRUNCATIONS:
            # Only what is marked may be deleted, lest an older program does it.
            self.control.execute("UPDATE prompt_studio_job_queue SET revision = -revision")
            self.control.execute("DELETE FROM prompt_studio_job_queue")
            self.control.execute("DELETE FROM prompt_studio_idempotency")
        else:
            self.control.execute("TRUNCATE prompt_studio_job_queue, prompt_studio_idempotency")
        return PostgresDeployment(self, settings)

    def locks(self) -> list[tuple[int, int]]:
        """Every advisory lock on a job, as (server process, job id)."""
        return [(row["pid"], row["job_id"]) for row in self.control.execute(_LOCKS)]

    def take(self, settings: Settings, clock: VirtualClock) -> "tuple[PromptStudioDatabase, _Dice]":
        """An opened database object that nobody uses."""
        idle = self._idle.setdefault(settings, [])
        if idle:
            return idle.pop()
        dice = _Dice()
        return PromptStudioDatabase(self.dsn, CLIENT, settings=settings, clock=clock, jitter=dice), dice

    def give(self, settings: Settings, database: PromptStudioDatabase, dice: "_Dice") -> None:
        """Take it back for the next example, with nothing in its memory."""
        self._idle[settings].append((database, dice))
        if settings.advisory_locks:
            self._refuse_locks_that_stay(database)

    def _refuse_locks_that_stay(self, database: PromptStudioDatabase) -> None:
        claims, process = claims_of(database), server_process(database)
        for job_id in claims.memory().held:
            claims._unlock(job_id)
        claims.memory().held.clear()
        claims.refusals.clear()
        left = [job_id for owner, job_id in self.locks() if owner == process]
        if left or claims.counts.unlock_errors:
            errors, claims.counts.unlock_errors = claims.counts.unlock_errors, 0
            self.end_session(database)  # the next example starts clean
            raise Violation([PROMISE], f"unlocks that were denied: {errors}; jobs locked more than once: {left}")

    def end_session(self, database: PromptStudioDatabase) -> None:
        """End the server's process of the worker session, and wait until it is gone and the client knows."""
        handle = worker_handle(database)
        self.control.execute("SELECT pg_terminate_backend(%s)", (handle.info.backend_pid,))
        try:
            # The stream ends when the process does, after it has given back its locks.
            while select.select([handle.fileno()], [], [], LIMIT_SECONDS)[0]:
                handle.pgconn.consume_input()
        except psycopg.OperationalError:
            claims_of(database).memory()
        else:
            raise AssertionError(f"server process {handle.info.backend_pid} did not end within {LIMIT_SECONDS} s")

    def close(self) -> None:
        """Close every connection."""
        for opened in self._idle.values():
            for database, _ in opened:
                database.close()
        self.control.close()


class _Dice:
    """A back-off's spread, as the example says that has the session now."""

    def __init__(self) -> None:
        self.spread: Callable[[], int] = lambda: 1_000

    def __call__(self) -> int:
        return self.spread()


class PostgresDeployment:
    """The database for one example."""

    def __init__(self, database: PostgresDatabase, settings: Settings) -> None:
        self._database = database
        self._settings = settings
        self._dice: dict[PromptStudioDatabase, _Dice] = {}
        self.set_time(START)

    def open_session(self, clock: VirtualClock, spread: Callable[[], int]) -> PromptStudioDatabase:
        """A database object with a worker session of its own."""
        database, dice = self._database.take(self._settings, clock)
        dice.spread = spread
        self._dice[database] = dice
        return database

    def crash_session(self, database: PromptStudioDatabase) -> bool:
        """End the server process of the worker session. The object goes on as the next worker of that name.

        A worker that only loses his session remembers what he was refused; the model's crash is the end of the worker.
        """
        if self._settings.advisory_locks:
            self._database.end_session(database)
            claims_of(database).refusals.clear()
        return True

    def close(self, databases: list[PromptStudioDatabase]) -> None:
        """Keep the sessions for the next example. Raises Violation when one of them kept a lock."""
        with ExitStack() as every_one:
            for database in databases:
                every_one.callback(self._database.give, self._settings, database, self._dice[database])

    def set_time(self, milliseconds: int) -> None:
        """Move the sequence that the statements read."""
        self._database.control.execute("SELECT setval('prompt_studio_virtual_clock', %s)", (milliseconds,))

    def seen(self, databases: Mapping[str, PromptStudioDatabase]) -> Seen:
        """The rows, and the locks that the server says each session has."""
        found = self._database.read()
        return Seen(found["jobs"], found["keys"], self._sessions(databases, found["locks"]))

    def _sessions(
        self, databases: Mapping[str, PromptStudioDatabase], locks: list[dict[str, Any]]
    ) -> dict[str, SessionSeen]:
        """What each lock is for, and what was refused, the store says."""
        if not self._settings.advisory_locks:
            if locks:
                raise Violation([PROMISE], "a lock was taken, and locks are off")
            return {}
        held: dict[int, list[int]] = {}
        for lock in locks:
            held.setdefault(lock["pid"], []).append(lock["job_id"])
        seen = {}
        for name, database in databases.items():
            claims = claims_of(database)
            memory = claims.memory()
            holds = [
                (job_id, memory.held.get(job_id, WRONG_TOKEN))
                for job_id in held.pop(_handle_of(claims).info.backend_pid, [])
            ]
            refusals = [(*attempt, milliseconds_of(since)) for attempt, since in claims.refusals.items()]
            seen[name] = SessionSeen(holds, refusals)
        if held:
            raise Violation([PROMISE], f"sessions that run no job hold locks: {held}")
        return seen


def claims_of(database: PromptStudioDatabase) -> PostgresClaims:
    """The part of an opened database that knows about locks."""
    return cast("PostgresClaims", cast("Any", database)._store._claims)


def worker_handle(database: PromptStudioDatabase) -> psycopg.Connection[DictRow]:
    """The connection of the database's worker session."""
    claims = claims_of(database)
    claims.memory()  # there is a session from now on
    return _handle_of(claims)


def server_process(database: PromptStudioDatabase) -> int:
    """The server's process of the database's worker session."""
    return worker_handle(database).info.backend_pid


def _handle_of(claims: PostgresClaims) -> psycopg.Connection[DictRow]:
    return cast("psycopg.Connection[DictRow]", cast("Any", claims)._connection._handle)
