"""Gates in a worker process: before each statement that its session sends, it says so and waits until it is let go.

The store under test is not edited and does not know. psycopg is instrumented where commands leave, below everything
that sends one by itself; SQLite calls its trace hook before a statement has done anything, the implicit BEGIN and
COMMIT of Python's module included. What these rely on is pinned in tests/interleaved/test_gates.py.

A statement of Postgres has gates inside, too: the database under test calls a function where the statement has its
snapshot and has locked nothing yet, and again where it has locked a row and has not changed it. The function says so
with a notice, and waits for an advisory lock that the scheduler has.
"""

import marshal
import re
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import psycopg
from psycopg import _connection_base, _cursor_base

from tests.harness.processes import End

STATEMENT, INSIDE, WAITS, LOST = "statement", "inside", "waits", "lost"
ANSWER: Final = "answer"
"""What is done at the last gate of a call that may be cut off: nothing but to tell what was done."""

GO_ON, LOSE = b"", b"lose"
"""What a gate is told: go on; or go on, and then hear nothing of what came of it."""

NOTICE: Final = "prompt_studio_test_gate "
"""What the function inside of a statement says, followed by the number of the place."""

_WAITS: Final = "ProcSleep"
"""Where in the server it is said that a session goes on waiting: messages are in any language."""

_NAMED: Final = re.compile(r"\s*/\* (\w+) \*/")
_WORD: Final = re.compile(r"\s*(\w+)")
_NOTHING_SENT: Final = 0


class Gate:
    """The gate of one worker process. It stands open, until a call is to be scheduled, and on other threads always."""

    def __init__(self, wire: End) -> None:
        self._wire: Any = wire
        self._thread: int | None = None
        self._busy = False
        self.server_processes: Final[set[int]] = set()
        """Those that have served this process."""

    @contextmanager
    def closed(self) -> Iterator[None]:
        """What this thread sends in the meantime waits."""
        self._thread, self._busy = threading.get_ident(), False
        try:
            yield
        finally:
            self._thread = None

    def reach(self, statement: str, server_process: int = _NOTHING_SENT, job_id: int | None = None) -> bool:
        """Wait before a statement; whether its answer is to be lost. `server_process`: where it will run."""
        if self._thread != threading.get_ident():
            return False
        busy, self._busy = self._busy, False
        self._wire.send_bytes(marshal.dumps((STATEMENT, name_of(statement), server_process, job_id, busy)))
        return bool(self._wire.recv_bytes() == LOSE)

    def lose(self, pgconn: Any) -> None:  # noqa: ANN401 - psycopg's own
        """Lose what the server has just answered, and the connection with it.

        Raises:
            OperationalError: as psycopg says it of a connection that ended.
        """
        self._wire.send_bytes(marshal.dumps((LOST, "", pgconn.backend_pid, None, False)))
        self._wire.recv_bytes()
        pgconn.finish()
        raise psycopg.OperationalError("the connection is lost, and the answer with it")

    def inside(self, place: int, server_process: int) -> None:
        """Say that a statement waits on its way; it is the scheduler who lets it go on."""
        if self._thread == threading.get_ident():
            self._wire.send_bytes(marshal.dumps((INSIDE, str(place), server_process, None, False)))

    def waits(self, server_process: int) -> None:
        """Say that a statement waits for a lock, and that the server has found no deadlock in it."""
        if self._thread == threading.get_ident():
            self._wire.send_bytes(marshal.dumps((WAITS, "", server_process, None, False)))

    def was_busy(self) -> None:
        """The last statement found the database locked, and did nothing."""
        self._busy = True

    def install(self) -> None:
        """Put the gate before everything that this process sends to a database. There is no way back."""
        _gate_psycopg(self)
        _gate_sqlite(self)
        # A store that waits for others does so for real time, in which nobody moves: it is the scheduler who waits.
        time.sleep = lambda _seconds: None


def name_of(statement: str) -> str:
    """The name that a statement brings with it in a comment; else its first word."""
    found = _NAMED.match(statement) or _WORD.match(statement)
    return found[1].lower() if found else "?"


def _gate_psycopg(gate: Gate) -> None:
    cursor: Any = _cursor_base.BaseCursor
    connection: Any = _connection_base.BaseConnection
    run, command, copy = cursor._maybe_prepare_gen, connection._exec_command, cursor._start_copy_gen

    def gated_run(self: Any, pgq: Any, **named: Any) -> Any:  # noqa: ANN401 - psycopg's own
        _listen(gate, self._conn)
        loses = gate.reach(pgq.query.decode(errors="replace"), self._pgconn.backend_pid, _job_id(pgq))
        answer = yield from run(self, pgq, **named)
        if loses:
            gate.lose(self._pgconn)
        return answer

    def gated_command(self: Any, text: Any, *rest: Any, **named: Any) -> Any:  # noqa: ANN401 - psycopg's own
        said = text if isinstance(text, bytes) else str(text).encode()
        loses = gate.reach(said.decode(errors="replace"), self.pgconn.backend_pid)
        answer = yield from command(self, text, *rest, **named)
        if loses:
            gate.lose(self.pgconn)
        return answer

    def gated_copy(self: Any, statement: Any, *rest: Any, **named: Any) -> Any:  # noqa: ANN401 - psycopg's own
        gate.reach("COPY", self._pgconn.backend_pid)
        return (yield from copy(self, statement, *rest, **named))

    cursor._maybe_prepare_gen = gated_run
    connection._exec_command = gated_command
    cursor._start_copy_gen = gated_copy


def _listen(gate: Gate, connection: Any) -> None:  # noqa: ANN401 - psycopg's own
    """Hear the notices of a connection, from its first statement on."""
    gate.server_processes.add(connection.pgconn.backend_pid)
    if getattr(connection, "_gate", None) is gate:
        return

    def heard(notice: psycopg.errors.Diagnostic) -> None:
        said, process = notice.message_primary or "", connection.pgconn.backend_pid
        if said.startswith(NOTICE):
            gate.inside(int(said.removeprefix(NOTICE)), process)
        elif notice.severity_nonlocalized == "LOG" and notice.source_function == _WAITS:
            gate.waits(process)

    connection._gate = gate
    connection.add_notice_handler(heard)


def _job_id(pgq: Any) -> int | None:  # noqa: ANN401 - psycopg's own
    """The job that a statement names, for whoever asks what two statements have in common."""
    order, values = pgq._order, pgq.params
    if not order or not values or "job_id" not in order:
        return None
    value, is_binary = values[order.index("job_id")], pgq.formats[order.index("job_id")]
    return int.from_bytes(value, "big", signed=True) if is_binary else int(value)


class GatedConnection(sqlite3.Connection):
    """A connection that waits before each statement, and remembers when it found the database locked."""

    gate: Gate

    def __init__(self, *arguments: Any, **named: Any) -> None:  # noqa: ANN401 - sqlite3's own
        super().__init__(*arguments, **named)
        self.set_trace_callback(self._begins)

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:  # noqa: ANN401 - sqlite3's own
        with self._noting():
            return super().execute(sql, parameters)

    def commit(self) -> None:
        with self._noting():
            super().commit()

    def _begins(self, statement: str) -> None:
        if not statement.startswith("--"):  # what a trigger does is part of the statement that fired it
            self.gate.reach(statement)

    @contextmanager
    def _noting(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
                self.gate.was_busy()
            raise


def _gate_sqlite(gate: Gate) -> None:
    GatedConnection.gate = gate
    connect: Any = sqlite3.connect

    def gated_connect(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401 - sqlite3's own
        return connect(*arguments, **{"factory": GatedConnection, **named})

    sqlite3.connect = gated_connect
