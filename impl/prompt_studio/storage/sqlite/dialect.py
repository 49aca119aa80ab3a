"""SQLite's answers to the questions of `storage.dialect`."""

from __future__ import annotations

import sqlite3
from functools import cache
from pathlib import Path
from typing import Final

from prompt_studio.clock import Clock
from prompt_studio.config import Settings
from prompt_studio.errors import DatabaseError, InputError
from prompt_studio.jobs import JobRow
from prompt_studio.storage.capabilities import BackendType, Capabilities
from prompt_studio.storage.claims import OneWriterClaims
from prompt_studio.storage.dialect import Row
from prompt_studio.storage.migrating import UTC, Site
from prompt_studio.storage.rows import job_row
from prompt_studio.storage.sqlite.connection import (
    INJECTED_CLOCK,
    PRODUCTION_CLOCK,
    SQLITE_VERSION_MIN,
    SqliteConnection,
)
from prompt_studio.storage.sqlite.migration import CopyConnection, MigratingConnection, site
from prompt_studio.storage.sqlite.schema import language, place_of, prepare
from prompt_studio.storage.sqlite.transactions import BEGIN_WRITE
from prompt_studio.storage.statements import Statements, load_statements, query_text
from prompt_studio.storage.transactions import Session, Sessions
from prompt_studio.values import instant, shown


class SqliteDialect:
    """One SQLite file."""

    backend_type: Final = BackendType.SQLITE
    capabilities: Final = Capabilities(advisory_locks=False, one_writer=True, in_one_file=True, notifications=False)
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
            session = Session(
                connection, BEGIN_WRITE, retry_seconds=self._settings.write_retry_seconds, one_writer=True
            )
            prepare(session, place_of(self._path), self._settings, now=self._now, create=self._create)
            self._identity = connection.identity
        finally:
            connection.close()

    def connect(self) -> SqliteConnection:
        """A new connection to the file that was prepared, and to no other that may have taken its place."""
        return SqliteConnection(self._path, clock=self._clock, identity=self._identity, create=False)

    def job(self, row: Row) -> JobRow:
        """A row of the job table as callers see it."""
        return job_row(row, instant)

    def claims(self, sessions: Sessions) -> OneWriterClaims:
        """How jobs are claimed: under the write lock, and no other."""
        return OneWriterClaims(self, sessions)

    def migration(self, *, dry_run: bool, timezone: str) -> Site:
        """How the file is migrated, on a connection of its own; on a dry run a private copy of it.

        Raises:
            InputError: another zone than UTC.
        """
        if timezone != UTC:
            raise InputError(f"timezone must be UTC for a file, since SQLite wrote the times, not {shown(timezone)}")
        kind = CopyConnection if dry_run else MigratingConnection
        connection = kind(self._path, clock=self._clock, identity=None, create=self._create)
        session = Session(connection, BEGIN_WRITE, retry_seconds=self._settings.write_retry_seconds, one_writer=True)
        return site(connection, session, now=self._now)

    def close(self) -> None:
        """Nothing is held but the connections, which are closed one by one."""


@cache
def _statements(now: str) -> Statements:
    """The statements with this clock in them: the same for each opening, so rendered once."""
    return load_statements(
        query_text("common.sql") + query_text("entities.sql"), query_text("sqlite.sql"), language(now)
    )
