"""SQLite's tables, read with a connection of our own: what the store says it did is not evidence of what it did."""

import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class SqliteTables:
    """Reads the tables of one database file."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.row_factory = sqlite3.Row

    def jobs(self) -> list[dict[str, Any]]:
        """Every row of the queue, by id."""
        return self._rows("SELECT * FROM prompt_studio_job_queue ORDER BY id")

    def idempotency_rows(self) -> list[dict[str, Any]]:
        """Every idempotency row, by id."""
        return self._rows("SELECT * FROM prompt_studio_idempotency ORDER BY id")

    def locks(self) -> Mapping[str, list[tuple[int, int]]]:
        """No session holds an advisory lock: SQLite has none."""
        return {}

    def close(self) -> None:
        """Close our connection."""
        self._connection.close()

    def _rows(self, statement: str) -> list[dict[str, Any]]:
        return [dict(row) for row in self._connection.execute(statement).fetchall()]
