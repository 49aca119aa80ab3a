"""Where races can be held: how to get an empty database there, and how a process opens it.

A location is sent to worker processes, so all that it is made of are functions of modules. A new one is one entry of
`LOCATIONS`, and a reader of its tables.
"""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from prompt_studio import PromptStudioDatabase, Settings
from tests.harness.shared_time import MappedTime, SharedTime

CLIENT: Final = "races"
RETRY_SECONDS: Final = 30.0
"""Longer than any starvation that was measured: who gives up has won no race, and lost none."""

Rows = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Tables:
    """What is in a database, read behind the store's back. Times are milliseconds since 1970."""

    jobs: Rows
    keys: Rows
    locks_left: int


@dataclass(frozen=True, slots=True)
class Location:
    """A place for races.

    Attributes:
        name: in tables, and in the ids of tests.
        fresh: makes an empty database, given a directory of its own, and returns where it is.
        share_time: makes the clock of that database, at its beginning, given the same directory.
        open: opens the database in a process; with the shared clock, or None for real time.
        tables: what is in it when all is quiet, and how many advisory locks are held.
        dispose: takes away what `fresh` made outside of the directory.
    """

    name: str
    fresh: Callable[[Path], str]
    share_time: Callable[[str, Path], SharedTime]
    open: Callable[[str, SharedTime | None], PromptStudioDatabase]
    tables: Callable[[str], Tables]
    dispose: Callable[[str], None]


def _sqlite_fresh(directory: Path) -> str:
    address = str(directory / "jobs.db")
    PromptStudioDatabase(address, CLIENT, settings=Settings()).close()
    return address


def _sqlite_time(address: str, directory: Path) -> SharedTime:
    del address
    return MappedTime(directory / "clock")


def _sqlite_open(address: str, time: SharedTime | None) -> PromptStudioDatabase:
    settings = Settings(write_retry_seconds=RETRY_SECONDS)
    return PromptStudioDatabase(address, CLIENT, settings=settings, clock=time, create=False)


def _sqlite_tables(address: str) -> Tables:
    with closing(sqlite3.connect(address, isolation_level=None)) as connection:
        connection.row_factory = sqlite3.Row
        jobs = connection.execute("SELECT * FROM prompt_studio_job_queue ORDER BY id").fetchall()
        keys = connection.execute("SELECT * FROM prompt_studio_idempotency ORDER BY id").fetchall()
    return Tables([dict(row) for row in jobs], [dict(row) for row in keys], locks_left=0)


def _keep(address: str) -> None:
    """Leave it to the directory's owner."""


SQLITE: Final = Location("sqlite", _sqlite_fresh, _sqlite_time, _sqlite_open, _sqlite_tables, _keep)
LOCATIONS: Final = (SQLITE,)
