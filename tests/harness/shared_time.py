"""Virtual time that several processes share, and that one of them moves; and the real time of a database."""

import mmap
import os
import time
from pathlib import Path
from typing import Final, LiteralString, Protocol, Self

import psycopg
from psycopg.rows import tuple_row

BYTES: Final = 8
NANOSECONDS: Final = 1_000_000
"""In a millisecond."""


class Readable(Protocol):
    """A clock that can be read."""

    def now_milliseconds(self) -> int:
        """Whole milliseconds since 1970-01-01 UTC."""

    def close(self) -> None:
        """Let go of whatever this process opened."""


class SharedTime(Readable, Protocol):
    """A clock that can be sent to another process, and is the same there."""

    def set_time(self, milliseconds: int) -> None:
        """Let it be this time, for everybody at once."""


class MachineTime:
    """This machine's clock, by which a database goes that is a file here."""

    def now_milliseconds(self) -> int:
        """Whole milliseconds since 1970-01-01 UTC."""
        return time.time_ns() // NANOSECONDS

    def close(self) -> None:
        """There is nothing to let go of."""


class MappedTime:
    """Time in a file that every process maps into its memory: a reading costs no call of the system.

    The number is written and read as one machine word, so nobody ever sees half of an old one and half of a new one.
    """

    def __init__(self, path: Path) -> None:
        """Take the file; one that is not there begins at 0."""
        self._path = path
        file = os.open(path, os.O_RDWR | os.O_CREAT)
        try:
            if os.fstat(file).st_size < BYTES:
                os.ftruncate(file, BYTES)
            self._memory = mmap.mmap(file, BYTES)
        finally:
            os.close(file)
        self._word = memoryview(self._memory).cast("q")

    def __reduce__(self) -> tuple[type[Self], tuple[Path]]:
        return type(self), (self._path,)

    def now_milliseconds(self) -> int:
        """Whole milliseconds since 1970-01-01 UTC."""
        return self._word[0]

    def set_time(self, milliseconds: int) -> None:
        """Let it be this time, for everybody at once."""
        self._word[0] = milliseconds

    def close(self) -> None:
        """Unmap the file."""
        self._word.release()
        self._memory.close()


class ServerTime:
    """The clock of a database's server, which may be another machine."""

    def __init__(self, dsn: str) -> None:
        """Name the database."""
        self._dsn = dsn
        self._connection: psycopg.Connection[tuple[int]] | None = None

    def now_milliseconds(self) -> int:
        """Whole milliseconds since 1970-01-01 UTC."""
        return self._answer("SELECT CAST(floor(extract(epoch FROM clock_timestamp()) * 1000) AS BIGINT)", ())

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()

    def _answer(self, statement: LiteralString, parameters: tuple[int, ...]) -> int:
        if self._connection is None:
            self._connection = psycopg.connect(self._dsn, autocommit=True, row_factory=tuple_row)
        row = self._connection.execute(statement, parameters).fetchone()
        assert row is not None, "a clock always shows something"
        return row[0]


class SequenceTime(ServerTime):
    """Time in a database: the last value of a sequence, which no transaction holds back. Statements read it there.

    The sequence is made by whoever made the database.
    """

    def __reduce__(self) -> tuple[type[Self], tuple[str]]:
        return type(self), (self._dsn,)

    def now_milliseconds(self) -> int:
        """Whole milliseconds since 1970-01-01 UTC."""
        return self._answer("SELECT last_value FROM prompt_studio_virtual_clock", ())

    def set_time(self, milliseconds: int) -> None:
        """Let it be this time, for everybody at once."""
        self._answer("SELECT setval('prompt_studio_virtual_clock', %s)", (milliseconds,))
