"""The database of a run of schedules: brought back to its beginning for each, read when all is quiet, asked who waits.

Everything here is done on connections of the scheduler's own. Where the database has locks that a statement can wait
for, the ground also has the gates inside of statements, and knows who waits for whom.
"""

import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, Protocol, cast

import psycopg
from psycopg.rows import dict_row

from prompt_studio_model import operations as op
from prompt_studio_model.state import State
from tests.harness.adapter import START, Database, Seen, milliseconds_of
from tests.harness.interleaving.gates import NOTICE
from tests.harness.interleaving.scenario import Scenario
from tests.harness.interleaving.session import GATED, OneSession, SameIds, SessionWorker, Worker
from tests.harness.locations import SQLITE, WITH_LOCKS, Location, Tables
from tests.harness.processes import LIMIT_SECONDS, Pool, Trouble
from tests.harness.shared_time import SharedTime

Hold = Literal["row", "lock"]
"""By what a job is held: its row is locked, or its advisory lock is taken."""

LIMIT_MILLISECONDS: Final = 30_000
SNAPSHOT, ROW, WRITTEN = "0", "1", "2"
PLACES: Final = {SNAPSHOT: "has its snapshot", ROW: "has locked a row", WRITTEN: "has put a row in"}
_KEYS_OF_ONE: Final = 4
"""So many numbers each server process has for its places."""

_CLASS: Final = 1347636303
"""The first key of the locks for which a statement waits inside; the second is its server process and the place."""

_INSIDE: Final = f"""
    ALTER SEQUENCE prompt_studio_virtual_clock RENAME TO prompt_studio_test_time;
    CREATE FUNCTION prompt_studio_test_gate(place INTEGER) RETURNS VOID LANGUAGE plpgsql AS $$ BEGIN
        IF current_setting('prompt_studio_test.gated', TRUE) = 'on' THEN
            RAISE NOTICE '{NOTICE}%', place;
            PERFORM pg_advisory_lock_shared({_CLASS}, pg_backend_pid() * {_KEYS_OF_ONE} + place);
            PERFORM pg_advisory_unlock_shared({_CLASS}, pg_backend_pid() * {_KEYS_OF_ONE} + place);
        END IF;
    END $$;
    CREATE FUNCTION prompt_studio_test_now() RETURNS BIGINT LANGUAGE plpgsql AS $$ BEGIN
        PERFORM prompt_studio_test_gate({SNAPSHOT});
        RETURN (SELECT last_value FROM prompt_studio_test_time);
    END $$;
    CREATE VIEW prompt_studio_virtual_clock AS SELECT prompt_studio_test_now() AS last_value;
    CREATE FUNCTION prompt_studio_test_let_go(process INTEGER, key INTEGER) RETURNS VOID LANGUAGE plpgsql AS $$ BEGIN
        WHILE pg_backend_pid() <> ALL (pg_blocking_pids(process)) LOOP END LOOP; -- it said so a moment before it waits
        PERFORM pg_advisory_unlock({_CLASS}, key);
        PERFORM pg_advisory_lock({_CLASS}, key); -- it has the lock for a moment, and wants it no more
    END $$;
    CREATE FUNCTION prompt_studio_test_row() RETURNS TRIGGER LANGUAGE plpgsql AS $$ BEGIN
        PERFORM prompt_studio_test_gate({ROW});
        RETURN NEW;
    END $$;
    CREATE TRIGGER prompt_studio_test_gate BEFORE UPDATE OF status, leased_until ON prompt_studio_job_queue
    FOR EACH ROW EXECUTE FUNCTION prompt_studio_test_row();
    CREATE FUNCTION prompt_studio_test_written() RETURNS TRIGGER LANGUAGE plpgsql AS $$ BEGIN
        PERFORM prompt_studio_test_gate({WRITTEN});
        RETURN NULL;
    END $$;
    CREATE TRIGGER prompt_studio_test_written AFTER INSERT ON prompt_studio_job_queue
    FOR EACH ROW EXECUTE FUNCTION prompt_studio_test_written();
    CREATE TRIGGER prompt_studio_test_written AFTER INSERT OR UPDATE ON prompt_studio_idempotency
    FOR EACH ROW EXECUTE FUNCTION prompt_studio_test_written();
"""


class Left(NamedTuple):
    """What sessions have when all is quiet.

    Attributes:
        locks: each job that has an advisory lock, and of which server process.
        transactions: the server processes in whose sessions a transaction is open; 0 is whoever has the file.
    """

    locks: frozenset[tuple[int, int]] = frozenset()
    transactions: frozenset[int] = frozenset()


class Ground(Protocol):
    """What the scheduler needs of a database."""

    location: Location
    address: str
    worker: type[Worker]
    waits_inside: bool
    tells_waits: bool
    """Whether each wait for a lock is told by the session that waits, once it was looked at for a deadlock."""
    time: SharedTime

    def address_of_sessions(self) -> str:
        """Where the workers open it."""

    def begin(self, scenario: Scenario) -> State:
        """Bring the database to the scenario's beginning."""

    def forget(self, scenario: Scenario) -> None:
        """Drop what was kept of a scenario's beginning; it will not be played again."""

    def move_clock(self, milliseconds: int) -> None:
        """Let time go on."""

    def state(self) -> State:
        """What is in the tables."""

    def held(self) -> set[tuple[int, int, Hold]]:
        """Each job whose row is locked by an open transaction, or that has an advisory lock, and by which process."""

    def left(self) -> Left:
        """What sessions still have when everybody says that he has ended."""

    def guard(self, server_process: int) -> None:
        """From now on statements of this server process wait inside."""

    def let_go(self, server_process: int, place: str) -> None:
        """Let the statement that waits at this place go on."""

    def blockers(self, server_processes: Iterable[int]) -> dict[int, set[int]]:
        """Which of these server processes each of them waits for, if it waits for a lock."""

    def end_sessions(self, server_processes: Iterable[int]) -> None:
        """End these server processes, and wait until they are gone."""

    def close(self) -> None:
        """Let go of everything."""


_JOB_LOCKS: Final = f"""
    SELECT (CAST(classid AS BIGINT) << 32) | CAST(objid AS BIGINT) AS id, pid FROM pg_locks
    WHERE locktype = 'advisory' AND granted AND classid <> {_CLASS} AND objsubid = 1
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
_LEFT: Final = f"""
    SELECT id, pid FROM ({_JOB_LOCKS}) AS locked
    UNION ALL SELECT NULL, pid FROM pg_locks WHERE locktype = 'virtualxid' AND pid <> pg_backend_pid()
"""
_HELD: Final = """
    SELECT id, locks.pid FROM prompt_studio_job_queue AS job JOIN pg_locks AS locks
    ON locks.locktype = 'transactionid' AND locks.mode = 'ExclusiveLock' AND locks.transactionid = job.xmax
"""
JOBS, KEYS = "prompt_studio_job_queue", "prompt_studio_idempotency"
SCHEDULES_BETWEEN_VACUUMS: Final = 200


def play(scenario: Scenario, ground: "SqliteGround | PostgresGround") -> None:
    """Make the calls that bring an empty database to the scenario's beginning.

    Raises:
        Trouble: one of them did not do what it was to do.
    """
    database = ground.location.open(ground.address, ground.time)
    try:
        adapter = SameIds(OneSession(database))
        for call in scenario.setup:
            if isinstance(call, op.Tick):
                ground.move_clock(call.milliseconds)
            elif not adapter.perform(call):
                raise Trouble(f"{scenario.name} cannot begin: {call} was refused")
        ids = [job.id for job in ground.state().jobs]
        if ids != list(range(1, len(ids) + 1)):
            raise Trouble(f"{scenario.name} cannot begin: its jobs have the ids {ids}, and its calls name others")
    finally:
        database.close()


def state_of(tables: Tables, now: int) -> State:
    """The tables as the model sees them."""
    adapter = SameIds(_Read(tables))
    adapter.clock.milliseconds = now
    return adapter.state()


class _Read(OneSession):
    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def seen(self, databases: Mapping[str, Database]) -> Seen:
        del databases
        return Seen(self._tables.jobs, self._tables.keys, {})


class SqliteGround:
    """One file. A writer has all of it, so there is no place inside of a statement that another session could see."""

    waits_inside = False
    tells_waits = False
    worker: type[Worker] = SessionWorker

    def __init__(self, location: Location, directory: Path) -> None:
        self.location = location
        self.address = location.fresh(directory)
        self.time: SharedTime = location.share_time(self.address, directory)
        self._now = START
        self._saved: dict[str, int] = {}
        self._control = sqlite3.connect(self.address, isolation_level=None)
        self._control.row_factory = sqlite3.Row
        self._control.execute(
            "PRAGMA synchronous = OFF"
        ).fetchall()  # a schedule's beginning need not survive a power cut

    def address_of_sessions(self) -> str:
        """The same for everybody."""
        return self.address

    def begin(self, scenario: Scenario) -> State:
        """Bring the file to the scenario's beginning."""
        if scenario.name not in self._saved:
            self._empty()
            self._set_time(START)
            play(scenario, self)
            for table in (JOBS, KEYS):
                self._control.execute(f'CREATE TEMP TABLE "{table} {scenario.name}" AS SELECT * FROM {table}')
            self._saved[scenario.name] = self._now
        self._empty()
        for table in (JOBS, KEYS):
            self._control.execute(f'INSERT INTO {table} SELECT * FROM "{table} {scenario.name}"')
        self._set_time(self._saved[scenario.name])
        return self.state()

    def forget(self, scenario: Scenario) -> None:
        """Drop what was kept of a scenario's beginning; it will not be played again."""
        if self._saved.pop(scenario.name, None) is not None:
            for table in (JOBS, KEYS):
                self._control.execute(f'DROP TABLE "{table} {scenario.name}"')

    def move_clock(self, milliseconds: int) -> None:
        """Let time go on."""
        self._set_time(self._now + milliseconds)

    def state(self) -> State:
        """What is in the tables."""
        jobs, keys = (
            [dict(row) for row in self._control.execute(f"SELECT * FROM {table} ORDER BY id")] for table in (JOBS, KEYS)
        )
        return state_of(Tables(jobs, keys, 0), self._now)

    def held(self) -> set[tuple[int, int, Hold]]:
        """A writer has all or nothing, and nobody passes by what it has."""
        return set()

    def left(self) -> Left:
        """Somebody has the file if nobody else can write."""
        try:
            self._control.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            return Left(transactions=frozenset({0}))
        self._control.execute("ROLLBACK")
        return Left()

    def guard(self, server_process: int) -> None:
        """There is no server."""

    def let_go(self, server_process: int, place: str) -> None:
        """No statement waits inside."""

    def blockers(self, server_processes: Iterable[int]) -> dict[int, set[int]]:
        """Nobody waits: who finds the file locked is told so, at once."""
        del server_processes
        return {}

    def end_sessions(self, server_processes: Iterable[int]) -> None:
        """They ended with their process."""

    def close(self) -> None:
        """Close the file."""
        self._control.close()
        self.time.close()
        self.location.dispose(self.address)

    def _empty(self) -> None:
        self._control.executescript(
            f"BEGIN IMMEDIATE; UPDATE {JOBS} SET revision = -revision; DELETE FROM {JOBS}; DELETE FROM {KEYS};"
            "DELETE FROM sqlite_sequence; COMMIT"
        )

    def _set_time(self, milliseconds: int) -> None:
        self._now = milliseconds
        self.time.set_time(milliseconds)


def waits_among(control: "psycopg.Connection[dict[str, Any]]", server_processes: Iterable[int]) -> dict[int, set[int]]:
    """Which of these server processes each of them waits for, if it waits for a lock."""
    ours = list(server_processes)
    rows = control.execute("SELECT pid, pg_blocking_pids(pid) AS blockers FROM unnest(%s::int[]) AS pid", (ours,))
    return {row["pid"]: set(row["blockers"]).intersection(ours) for row in rows}


class PostgresGround:
    """One database of the test server."""

    waits_inside = True
    tells_waits = False
    worker: type[Worker] = SessionWorker

    def __init__(self, location: Location, directory: Path) -> None:
        self.location = location
        self.address = location.fresh(directory)
        self.time: SharedTime = location.share_time(self.address, directory)
        self._control = psycopg.connect(self.address, autocommit=True, row_factory=dict_row)
        self._control.execute("SET timezone = 'UTC'")
        self._control.execute(f"SET statement_timeout = {LIMIT_MILLISECONDS}")
        self._control.execute(_INSIDE)
        self._now = START
        self._saved: dict[str, int] = {}
        self._guarded: set[int] = set()
        self._opened: set[tuple[int, str]] = set()
        self._schedules = 0

    def address_of_sessions(self) -> str:
        """With the mark that lets their statements wait inside."""
        return f"{self.address}{'&' if '?' in self.address else '?'}{GATED}"

    def begin(self, scenario: Scenario) -> State:
        """Bring the database to the scenario's beginning."""
        self._schedules += 1
        if self._schedules % SCHEDULES_BETWEEN_VACUUMS == 0:
            self._control.execute(f"VACUUM {JOBS}")
            self._control.execute(f"VACUUM {KEYS}")
        if scenario.name not in self._saved:
            self._control.execute(f"{_EMPTIED}{_FROM_ONE}")
            self._set_time(START)
            play(scenario, self)
            self.wait_for_locks(LIMIT_SECONDS)
            for table in (JOBS, KEYS):
                self._run(f'CREATE TABLE "{table} {scenario.name}" AS SELECT * FROM {table}')
            self._saved[scenario.name] = self._now
        put_back = "".join(
            f'INSERT INTO {table} SELECT * FROM "{table} {scenario.name}";'
            f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), COALESCE(MAX(id) + 1, 1), FALSE) FROM {table};"
            for table in (JOBS, KEYS)
        )
        self._run(_EMPTIED + put_back)
        self._set_time(self._saved[scenario.name])
        return self.state()

    def forget(self, scenario: Scenario) -> None:
        """Drop what was kept of a scenario's beginning; it will not be played again."""
        if self._saved.pop(scenario.name, None) is not None:
            for table in (JOBS, KEYS):
                self._run(f'DROP TABLE "{table} {scenario.name}"')

    def move_clock(self, milliseconds: int) -> None:
        """Let time go on."""
        self._set_time(self._now + milliseconds)

    def state(self) -> State:
        """What is in the tables."""
        jobs, keys = (self._rows(f"SELECT * FROM {table} ORDER BY id") for table in (JOBS, KEYS))
        return state_of(Tables(jobs, keys, 0), self._now)

    def held(self) -> set[tuple[int, int, Hold]]:
        """Each job whose row is locked by an open transaction, or that has an advisory lock, and by which process."""
        rows: set[tuple[int, int, Hold]] = {(row["id"], row["pid"], "row") for row in self._rows(_HELD)}
        return rows | {(row["id"], row["pid"], "lock") for row in self._rows(_JOB_LOCKS)}

    def left(self) -> Left:
        """What sessions have when all is quiet."""
        rows = self._rows(_LEFT)
        return Left(
            locks=frozenset((row["id"], row["pid"]) for row in rows if row["id"] is not None),
            transactions=frozenset(row["pid"] for row in rows if row["id"] is None),
        )

    def wait_for_locks(self, limit_seconds: float) -> None:
        """Wait until nobody has a job's advisory lock: a server process that is told to end still has its own.

        Raises:
            Trouble: somebody still has one after so long.
        """
        deadline = time.monotonic() + limit_seconds
        while held := self._rows(_JOB_LOCKS):
            if time.monotonic() > deadline:
                raise Trouble(f"before the schedule begins jobs are locked: {held}")

    def guard(self, server_process: int) -> None:
        """From now on statements of this server process wait inside."""
        if server_process not in self._guarded:
            self._guarded.add(server_process)
            for place in PLACES:
                self._lock("pg_advisory_lock", server_process, place)

    def let_go(self, server_process: int, place: str) -> None:
        """Let the statement that waits at this place go on; it waits at the next place, if there is one."""
        key = server_process * _KEYS_OF_ONE + int(place)
        self._rows("SELECT prompt_studio_test_let_go(%s::int, %s::int)", (server_process, key))

    def blockers(self, server_processes: Iterable[int]) -> dict[int, set[int]]:
        """Which of these server processes each of them waits for, if it waits for a lock."""
        return waits_among(self._control, server_processes)

    def end_sessions(self, server_processes: Iterable[int]) -> None:
        """End these server processes, and wait until they are gone."""
        for pid in server_processes:
            self._rows(
                f"SELECT pg_terminate_backend(pid, {LIMIT_MILLISECONDS}) FROM pg_stat_activity WHERE pid = %s", (pid,)
            )
            if pid in self._guarded:
                self._guarded.remove(pid)
                for place in PLACES:
                    self._lock("pg_advisory_unlock", pid, place)

    def close(self) -> None:
        """Let go of the database, which nobody else has open."""
        self._control.close()
        self.time.close()
        self.location.dispose(self.address)

    def _lock(self, function: str, server_process: int, place: str) -> None:
        self._rows(f"SELECT {function}({_CLASS}, %s::int * {_KEYS_OF_ONE} + %s::int)", (server_process, int(place)))

    def _set_time(self, milliseconds: int) -> None:
        self._now = milliseconds
        self._rows("SELECT setval('prompt_studio_test_time', %s)", (milliseconds,))

    def _run(self, script: str) -> None:
        self._control.execute(cast("Any", script))

    def _rows(self, statement: str, parameters: tuple[object, ...] = ()) -> list[dict[str, Any]]:
        return [
            {name: milliseconds_of(value) if isinstance(value, datetime) else value for name, value in row.items()}
            for row in self._control.execute(cast("Any", statement), parameters)
        ]


_FROM_ONE: Final = "".join(
    f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), 1, FALSE);" for table in (JOBS, KEYS)
)
_EMPTIED: Final = f"UPDATE {JOBS} SET revision = -revision; DELETE FROM {JOBS}; DELETE FROM {KEYS};"


@contextmanager
def lent(pool: Pool[Any], location: Location, directory: Path) -> Iterator[Ground]:
    """A database at this location for these workers, who leave it first: what somebody has open is not dropped."""
    with ExitStack() as left:
        ground = ground_at(location, directory)
        left.callback(ground.close)
        left.callback(pool.all, SessionWorker.leave)
        left.callback(pool.restore)
        yield ground


def ground_at(location: Location, directory: Path) -> Ground:
    """The ground of a location, whatever store is opened there."""
    makes: dict[object, Callable[[Location, Path], Ground]] = {
        SQLITE.tables: SqliteGround,
        WITH_LOCKS.tables: PostgresGround,
    }
    return makes[location.tables](location, directory)
