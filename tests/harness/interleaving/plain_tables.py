"""The database of a run of schedules, where it has a program's own tables and no queue."""

import sqlite3
from collections.abc import Callable, Hashable, Iterable
from pathlib import Path
from typing import Any, Final, Protocol, cast

import psycopg
from psycopg import errors
from psycopg.rows import dict_row

from prompt_studio_model.state import State
from tests.harness.interleaving.ground import LIMIT_MILLISECONDS, Ground, Hold, Left, waits_among
from tests.harness.interleaving.program_session import ProgramWorker
from tests.harness.interleaving.programs import Programs
from tests.harness.interleaving.scenario import Scenario
from tests.harness.interleaving.session import Worker
from tests.harness.locations import SQLITE, WITH_LOCKS, Location
from tests.harness.postgres_server import shared_server
from tests.harness.shared_time import MappedTime, SharedTime

WATCHED: Final = "options=-c%20deadlock_timeout%3D1ms%20-c%20log_lock_waits%3Don%20-c%20client_min_messages%3Dlog"
"""What a session adds to the address of its database. The server looks for a deadlock once in each wait, after this
time, and then tells the session that it goes on waiting. Whoever is let go on only after that is who closes the circle,
and whom the server ends."""

_NO_QUEUE: Final = State()


class PlainTables(Ground, Protocol):
    """A ground for programs."""

    def tables(self) -> Hashable:
        """What is in the tables of the programs that were begun last, as they say that they are read."""


class _Plain:
    """What both databases have in common: there is no queue, no clock of its own, and no gate inside of a statement."""

    worker: type[Worker] = ProgramWorker
    tells_waits = False
    address: str

    def __init__(self, location: Location, directory: Path) -> None:
        self.location = location
        self.time: SharedTime = MappedTime(directory / "clock")
        self._programs: Programs | None = None
        self._names: list[str] = []

    def _must_build(self, scenario: Programs) -> bool:
        before = self._programs
        return before is None or before.schema != scenario.schema or before.rebuilds

    def move_clock(self, milliseconds: int) -> None:
        """Programs have none."""
        raise NotImplementedError

    def state(self) -> State:
        """There is no queue."""
        return _NO_QUEUE

    def held(self) -> set[tuple[int, int, Hold]]:
        """There are no jobs."""
        return set()

    def left(self) -> Left:
        """Nothing: a program's connection is as good as closed at its end."""
        return Left()

    def guard(self, server_process: int) -> None:
        """No statement waits inside."""

    def let_go(self, server_process: int, place: str) -> None:
        """No statement waits inside."""
        raise NotImplementedError

    def forget(self, scenario: Scenario) -> None:
        """Nothing is kept of it."""


class PlainSqlite(_Plain):
    """One file, with a log that readers read beside a writer."""

    waits_inside = False

    def __init__(self, directory: Path) -> None:
        super().__init__(SQLITE, directory)
        self.address = str(directory / "plain.db")
        self._control = sqlite3.connect(self.address, isolation_level=None)
        for pragma in ("journal_mode = WAL", "synchronous = OFF"):
            self._control.execute(f"PRAGMA {pragma}").fetchall()

    def address_of_sessions(self) -> str:
        """The same for everybody."""
        return self.address

    def begin(self, scenario: Scenario) -> State:
        """Put the scenario's rows into empty tables."""
        assert isinstance(scenario, Programs)
        if self._must_build(scenario):
            found = self._control.execute(_OBJECTS_OF_SQLITE).fetchall()
            drop = "".join(f'DROP {kind} IF EXISTS "{name}";' for kind, name in found)
            self._control.executescript(f"BEGIN IMMEDIATE;{drop}{scenario.schema};COMMIT")
            self._names = [f'"{name}"' for (name,) in self._control.execute(_TABLES_OF_SQLITE).fetchall()]
        self._programs = scenario
        empty = "".join(f"DELETE FROM {table};" for table in self._names)
        self._control.executescript(f"BEGIN IMMEDIATE;{empty}{scenario.rows};COMMIT")
        return _NO_QUEUE

    def tables(self) -> Hashable:
        """What each of the scenario's queries gives."""
        assert self._programs is not None
        return tuple(tuple(self._control.execute(query).fetchall()) for query in self._programs.reads)

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


_TABLES_OF_POSTGRES: Final = """
    SELECT quote_ident(tablename) AS name FROM pg_tables WHERE schemaname = 'public' ORDER BY tablename
"""
_OBJECTS_OF_SQLITE: Final = """
    SELECT type, name FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%' AND type IN ('view', 'table')
    ORDER BY type DESC
"""
_TABLES_OF_SQLITE: Final = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"


class PlainPostgres(_Plain):
    """One database of the test server."""

    waits_inside = True

    def __init__(self, directory: Path) -> None:
        super().__init__(WITH_LOCKS, directory)
        self._name = shared_server().create_database()
        self.address = shared_server().dsn(self._name)
        self._control = psycopg.connect(self.address, autocommit=True, row_factory=dict_row)
        self._control.execute(f"SET statement_timeout = {LIMIT_MILLISECONDS}")
        self._control.execute("SET client_min_messages = warning")
        self.tells_waits = self._may_say_so()

    def address_of_sessions(self) -> str:
        """With what lets a session tell that it waits."""
        return f"{self.address}{'&' if '?' in self.address else '?'}{WATCHED}" if self.tells_waits else self.address

    def begin(self, scenario: Scenario) -> State:
        """Put the scenario's rows into empty tables, which are as they were when they were made."""
        assert isinstance(scenario, Programs)
        if self._must_build(scenario):
            self._run(f"DROP SCHEMA public CASCADE; CREATE SCHEMA public; {scenario.schema}")
            self._names = [str(row["name"]) for row in self._control.execute(_TABLES_OF_POSTGRES)]
        self._programs = scenario
        self._run(f"TRUNCATE {', '.join(self._names)} RESTART IDENTITY; {scenario.rows}")
        return _NO_QUEUE

    def tables(self) -> Hashable:
        """What each of the scenario's queries gives."""
        assert self._programs is not None
        return tuple(
            tuple(tuple(row.values()) for row in self._control.execute(cast("Any", query)))
            for query in self._programs.reads
        )

    def blockers(self, server_processes: Iterable[int]) -> dict[int, set[int]]:
        """Which of these server processes each of them waits for, if it waits for a lock."""
        return waits_among(self._control, server_processes)

    def end_sessions(self, server_processes: Iterable[int]) -> None:
        """No process is killed in the midst of a program."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of the database, which nobody else has open."""
        self._control.close()
        self.time.close()
        shared_server().drop_database(self._name)

    def _run(self, script: str) -> None:
        self._control.execute(cast("Any", script))

    def _may_say_so(self) -> bool:
        """Whether the server's user may set this; if not, chance says whom the server ends."""
        try:
            self._control.execute("SET log_lock_waits = on")
        except errors.InsufficientPrivilege:
            return False
        return True


PLAIN: Final[dict[str, Callable[[Path], PlainTables]]] = {SQLITE.name: PlainSqlite, WITH_LOCKS.name: PlainPostgres}
"""The grounds for programs, by the name of the store that a schedule has."""
