"""An SQLite file under test: how sessions are opened on it, and its tables, read behind the store's back."""

import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from prompt_studio import PromptStudioDatabase, Settings
from tests.harness.adapter import Seen, VirtualClock

CLIENT: Final = "conformance"


class SqliteDeployment:
    """One file. What the store says it did is no evidence of what it did, so we read with a connection of our own."""

    def __init__(self, path: Path, settings: Settings) -> None:
        self._path = path
        self._settings = settings
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.row_factory = sqlite3.Row

    def open_session(self, clock: VirtualClock, spread: Callable[[], int]) -> PromptStudioDatabase:
        """A database object with a connection of its own."""
        return PromptStudioDatabase(self._path, CLIENT, settings=self._settings, clock=clock, jitter=spread)

    def crash_session(self, database: PromptStudioDatabase) -> bool:
        """Close it: nothing of a session of SQLite's outlives it."""
        database.close()
        return False

    def close(self, databases: list[PromptStudioDatabase]) -> None:
        """Close the sessions that are left, and our connection."""
        for database in databases:
            database.close()
        self._connection.close()

    def set_time(self, milliseconds: int) -> None:
        """Nothing to do: the store asks the clock itself."""

    def seen(self, databases: Mapping[str, PromptStudioDatabase]) -> Seen:
        """The rows. No session holds an advisory lock: SQLite has none."""
        del databases
        jobs = self._rows("SELECT * FROM prompt_studio_job_queue ORDER BY id")
        return Seen(jobs, self._rows("SELECT * FROM prompt_studio_idempotency ORDER BY id"), {})

    def _rows(self, statement: str) -> list[dict[str, Any]]:
        return [dict(row) for row in self._connection.execute(statement).fetchall()]
