"""Postgres's answers to the questions of `storage.dialect`."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from typing import Final

from prompt_studio.clock import Clock
from prompt_studio.config import Settings
from prompt_studio.jobs import JobRow
from prompt_studio.storage.capabilities import BackendType, Capabilities
from prompt_studio.storage.dialect import Row
from prompt_studio.storage.migrating import Site
from prompt_studio.storage.postgres.claims import PostgresClaims
from prompt_studio.storage.postgres.connection import OwnHandles, PostgresConnection, Server
from prompt_studio.storage.postgres.migration import site
from prompt_studio.storage.postgres.pool import PooledHandles
from prompt_studio.storage.postgres.schema import (
    INJECTED_CLOCK,
    PRODUCTION_CLOCK,
    language,
    prepare,
    refuse_transaction_pooler,
)
from prompt_studio.storage.rows import job_row
from prompt_studio.storage.statements import Statement, Statements, load_statements, query_text
from prompt_studio.storage.transactions import Session, Sessions

BEGIN_WRITE: Final = Statement("begin_write", "BEGIN")


class PostgresDialect:
    """One Postgres database."""

    backend_type: Final = BackendType.POSTGRESQL
    begin_write: Final = BEGIN_WRITE

    def __init__(self, dsn: str, settings: Settings, *, clock: Clock | None, create: bool) -> None:
        self._dsn = dsn
        self._server = Server(dsn, settings)
        self._settings = settings
        self._create = create
        self._now = PRODUCTION_CLOCK if clock is None else INJECTED_CLOCK
        self._pool = PooledHandles(self._server)
        # Behind a transaction pooler nobody can listen: the session that did would be another's a moment later.
        notifications = settings.notifications and not settings.transaction_pooler
        self.capabilities = Capabilities(
            advisory_locks=settings.advisory_locks, one_writer=False, in_one_file=False, notifications=notifications
        )
        self.statements = _statements(self._now, notifications=notifications)

    def prepare(self) -> None:
        """Initialise an empty database, accept one of this version, refuse and never alter anything else."""
        if self._settings.advisory_locks:  # first of all: what is set and prepared would stay with a proxy's sessions
            refuse_transaction_pooler(self._bare, self._server.place)
        connection = self._alone()
        try:
            session = Session(
                connection, BEGIN_WRITE, retry_seconds=self._settings.write_retry_seconds, one_writer=False
            )
            prepare(session, self._server.place, now=self._now, create=self._create)
        finally:
            connection.close()

    def connect(self) -> PostgresConnection:
        """A connection that borrows from the pool."""
        return PostgresConnection(self._server, self._pool)

    def claims(self, sessions: Sessions) -> PostgresClaims:
        """How jobs are claimed: by row locks and advisory locks, on a session of their own."""
        return PostgresClaims(self, sessions, self._settings, self._alone)

    def migration(self, *, dry_run: bool, timezone: str) -> Site:  # noqa: ARG002 - a dry run is rolled back
        """How the database is migrated, on a connection of its own, and without a limit."""
        connection = PostgresConnection(self._server, OwnHandles(self._server, endless=True))
        seconds = self._settings.write_retry_seconds
        return site(
            connection,
            Session(connection, BEGIN_WRITE, retry_seconds=seconds, one_writer=False),
            now=self._now,
            seconds=seconds,
            timezone=timezone,
        )

    def close(self) -> None:
        """Close the pool."""
        self._pool.close()

    def job(self, row: Row) -> JobRow:
        """A row of the job table as callers see it."""
        return job_row(row, _in_utc)

    def _alone(self) -> PostgresConnection:
        return PostgresConnection(self._server, OwnHandles(self._server))

    def _bare(self) -> PostgresConnection:
        """A connection with nothing set and nothing prepared, as behind a proxy."""
        return PostgresConnection(self._server, OwnHandles(Server(self._dsn, self._settings, bare=True)))


def _in_utc(time: datetime) -> datetime:
    return time.astimezone(UTC)


@cache
def _statements(now: str, *, notifications: bool) -> Statements:
    """The statements with this clock in them: the same for each opening, so rendered once."""
    words = language(now, notifications=notifications)
    return load_statements(query_text("common.sql") + query_text("entities.sql"), query_text("postgres.sql"), words)
