"""A Postgres database under test: how sessions are opened on it, its tables and locks, read behind the store's back.

Opening a session costs a process of the server, so a session that ends an example with nothing in its memory serves the
next one too.
"""

import select
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from datetime import datetime
from typing import Any, Final, cast

import psycopg
from psycopg.rows import DictRow, dict_row

from prompt_studio import PromptStudioDatabase, Settings
from prompt_studio.storage.postgres.claims import PostgresClaims
from tests.harness.adapter import START, SessionSeen, VirtualClock, milliseconds_of
from tests.harness.violation import Violation

CLIENT: Final = "conformance"
PROMISE: Final = "INV-LOCKS-MATCH"
LIMIT_SECONDS: Final = 10.0
EXAMPLES_BETWEEN_TRUNCATIONS: Final = 50
WRONG_TOKEN: Final = -1
"""Shown for a lock that the server has and the store knows nothing of."""

_JOBS: Final = "SELECT * FROM prompt_studio_job_queue ORDER BY id"
_KEYS: Final = "SELECT * FROM prompt_studio_idempotency ORDER BY id"
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
        self._idle: dict[Settings, list[tuple[PromptStudioDatabase, _Dice]]] = {}
        self._examples = 0

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

    def jobs(self) -> list[dict[str, Any]]:
        """Every row of the queue, by id."""
        return self._rows(_JOBS)

    def idempotency_rows(self) -> list[dict[str, Any]]:
        """Every idempotency row, by id."""
        return self._rows(_KEYS)

    def sessions(self, databases: Mapping[str, PromptStudioDatabase]) -> dict[str, SessionSeen]:
        """The locks that the server says each session has; what each is for, and what was refused, the store says."""
        if not self._settings.advisory_locks:
            if self._database.locks():
                raise Violation([PROMISE], "a lock was taken, and locks are off")
            return {}
        held: dict[int, list[int]] = {}
        for process, job_id in self._database.locks():
            held.setdefault(process, []).append(job_id)
        seen = {}
        for name, database in databases.items():
            claims = claims_of(database)
            memory = claims.memory()
            locks = [
                (job_id, memory.held.get(job_id, WRONG_TOKEN))
                for job_id in held.pop(_handle_of(claims).info.backend_pid, [])
            ]
            refusals = [(*attempt, milliseconds_of(since)) for attempt, since in claims.refusals.items()]
            seen[name] = SessionSeen(locks, refusals)
        if held:
            raise Violation([PROMISE], f"sessions that run no job hold locks: {held}")
        return seen

    def _rows(self, statement: str) -> list[dict[str, Any]]:
        return [
            {name: milliseconds_of(value) if isinstance(value, datetime) else value for name, value in row.items()}
            for row in self._database.control.execute(cast("Any", statement))
        ]


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
