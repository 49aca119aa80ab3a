"""SQLite's answers to the questions of `storage.dialect`."""

from __future__ import annotations

import json
import sqlite3
from functools import cache
from pathlib import Path
from typing import Final

from prompt_studio.clock import Clock
from prompt_studio.config import Settings
from prompt_studio.errors import DatabaseError
from prompt_studio.jobs import ClosedBy, JobRow, JobStatus, JobType
from prompt_studio.storage.capabilities import BackendType, Capabilities
from prompt_studio.storage.dialect import Row
from prompt_studio.storage.sqlite.connection import (
    INJECTED_CLOCK,
    PRODUCTION_CLOCK,
    SQLITE_VERSION_MIN,
    SqliteConnection,
)
from prompt_studio.storage.sqlite.schema import prepare
from prompt_studio.storage.sqlite.transactions import BEGIN_WRITE
from prompt_studio.storage.statements import Statements, load_statements, query_text
from prompt_studio.storage.transactions import Session
from prompt_studio.values import instant


class SqliteDialect:
    """One SQLite file."""

    backend_type: Final = BackendType.SQLITE
    capabilities: Final = Capabilities(advisory_locks=False, one_writer=True, in_one_file=True)
    begin_write: Final = BEGIN_WRITE

    def __init__(self, path: Path, settings: Settings, *, clock: Clock | None, create: bool) -> None:
        if sqlite3.sqlite_version_info < SQLITE_VERSION_MIN:
            raise DatabaseError(
                f"SQLite {sqlite3.sqlite_version} is too old: use a Python that comes with SQLite "
                f"{'.'.join(map(str, SQLITE_VERSION_MIN))} or newer"
            )
        self._path = path.absolute()  # a later change of the working directory must not lead elsewhere
        self._settings = settings
        self._clock = clock
        self._create = create
        self._now = PRODUCTION_CLOCK if clock is None else INJECTED_CLOCK
        self._identity: tuple[int, int] | None = None
        self.statements = _statements(self._now)

    def prepare(self) -> None:
        """Initialise an empty file, accept one of this version, refuse and never alter anything else."""
        connection = SqliteConnection(self._path, clock=self._clock, identity=None, create=self._create)
        try:
            session = Session(connection, BEGIN_WRITE, retry_seconds=self._settings.write_retry_seconds)
            prepare(session, str(self._path), self._settings, now=self._now, create=self._create)
            self._identity = connection.identity
        finally:
            connection.close()

    def connect(self) -> SqliteConnection:
        """A new connection to the file that was prepared, and to no other that may have taken its place."""
        return SqliteConnection(self._path, clock=self._clock, identity=self._identity, create=False)

    def job(self, row: Row) -> JobRow:
        """A row of the job table as callers see it."""
        return {
            "id": row["id"],
            "uuid": row["uuid"],
            "job_type": JobType(row["job_type"]),
            "entity_id": row["entity_id"],
            "project_id": row["project_id"],
            "priority": row["priority"],
            "status": JobStatus(row["status"]),
            "payload": json.loads(row["payload"]),
            "result": None if row["result"] is None else json.loads(row["result"]),
            "error_message": row["error_message"],
            "retry_count": row["retry_count"],
            "max_retries": row["max_retries"],
            "client_id": row["client_id"],
            "created_at": instant(row["created_at"]),
            "started_at": None if row["started_at"] is None else instant(row["started_at"]),
            "completed_at": None if row["completed_at"] is None else instant(row["completed_at"]),
            "leased_until": None if row["leased_until"] is None else instant(row["leased_until"]),
            "lease_owner": row["lease_owner"],
            "lease_token": row["lease_token"],
            "available_at": instant(row["available_at"]),
            "executions": row["executions"],
            "execution_limit": row["execution_limit"],
            "was_reclaim": bool(row["was_reclaim"]),
            "late": bool(row["late"]),
            "closed_token": row["closed_token"],
            "closed_by": None if row["closed_by"] is None else ClosedBy(row["closed_by"]),
        }


@cache
def _statements(now: str) -> Statements:
    """The statements with this clock in them: the same for each opening, so rendered once."""
    return load_statements(query_text("common.sql"), None, now=now, placeholder=":{}".format)
