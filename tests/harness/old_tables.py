"""Databases from before this library, and the statements of the program that wrote to them.

The tables are those of Prompt Studio: times are text on SQLite and `timestamp` on Postgres, a lease is an owner and an
end, and a unique index over a nullable user lets keys without a user be recorded more than once.
"""

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any, Final

import psycopg

Values = Mapping[str, object]

_INDEXES: Final = (
    "CREATE INDEX idx_ps_jobs_status ON prompt_studio_job_queue (status, priority)",
    "CREATE INDEX idx_ps_jobs_type ON prompt_studio_job_queue (job_type)",
    "CREATE INDEX idx_ps_jobs_entity ON prompt_studio_job_queue (entity_id, job_type)",
    "CREATE INDEX idx_ps_jobs_client ON prompt_studio_job_queue (client_id)",
    "CREATE INDEX idx_ps_jobs_created ON prompt_studio_job_queue (created_at)",
)
_KEY_INDEXES: Final = (
    "CREATE UNIQUE INDEX uq_ps_idem_user ON prompt_studio_idempotency (entity_type, idempotency_key, user_id)",
    "CREATE INDEX idx_ps_idem_entity ON prompt_studio_idempotency (entity_type, user_id)",
)
SQLITE_TABLES: Final = (
    "CREATE TABLE prompt_studio_projects (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL)",
    """CREATE TABLE prompt_studio_job_queue (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        uuid TEXT UNIQUE NOT NULL DEFAULT (lower(hex(randomblob(16)))),
        job_type TEXT NOT NULL CHECK (job_type IN ('evaluation', 'optimization', 'generation')),
        entity_id INTEGER NOT NULL,
        project_id INTEGER REFERENCES prompt_studio_projects (id) ON DELETE CASCADE,
        priority INTEGER DEFAULT 5,
        status TEXT DEFAULT 'queued' CHECK (status IN ('queued', 'processing', 'completed', 'failed', 'cancelled')),
        payload JSON NOT NULL,
        result JSON,
        error_message TEXT,
        retry_count INTEGER DEFAULT 0,
        max_retries INTEGER DEFAULT 3,
        client_id TEXT NOT NULL,
        created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
        started_at TIMESTAMP,
        completed_at TIMESTAMP,
        leased_until TEXT,
        lease_owner TEXT
    )""",
    *_INDEXES,
    """CREATE TABLE prompt_studio_idempotency (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        entity_type TEXT NOT NULL,
        idempotency_key TEXT NOT NULL,
        entity_id INTEGER NOT NULL,
        user_id TEXT,
        created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP
    )""",
    *_KEY_INDEXES,
)
POSTGRES_TABLES: Final = (
    "CREATE TABLE prompt_studio_projects (id BIGSERIAL PRIMARY KEY, name TEXT NOT NULL)",
    """CREATE TABLE prompt_studio_job_queue (
        id BIGSERIAL PRIMARY KEY,
        uuid TEXT UNIQUE NOT NULL DEFAULT replace(CAST(gen_random_uuid() AS TEXT), '-', ''),
        job_type TEXT NOT NULL CHECK (job_type IN ('evaluation', 'optimization', 'generation')),
        entity_id INTEGER NOT NULL,
        project_id BIGINT REFERENCES prompt_studio_projects (id) ON DELETE CASCADE,
        priority INTEGER DEFAULT 5,
        status TEXT DEFAULT 'queued' CHECK (status IN ('queued', 'processing', 'completed', 'failed', 'cancelled')),
        payload JSONB NOT NULL,
        result JSONB,
        error_message TEXT,
        retry_count INTEGER DEFAULT 0,
        max_retries INTEGER DEFAULT 3,
        client_id TEXT NOT NULL,
        created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
        started_at TIMESTAMP,
        completed_at TIMESTAMP,
        leased_until TIMESTAMPTZ,
        lease_owner TEXT
    )""",
    *_INDEXES,
    """CREATE TABLE prompt_studio_idempotency (
        id BIGSERIAL PRIMARY KEY,
        entity_type TEXT NOT NULL,
        idempotency_key TEXT NOT NULL,
        entity_id BIGINT NOT NULL,
        user_id TEXT,
        created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP
    )""",
    *_KEY_INDEXES,
)

OLD_SQLITE_WRITES: Final = {
    "create": "INSERT INTO prompt_studio_job_queue (uuid, job_type, entity_id, project_id, priority, status, payload,"
    " max_retries, client_id) VALUES ('new', 'evaluation', 1, NULL, 5, 'queued', '{}', 3, 'old')",
    "create or ignore": "INSERT OR IGNORE INTO prompt_studio_job_queue (job_type, entity_id, payload, client_id)"
    " VALUES ('evaluation', 1, '{}', 'old')",
    "acquire": "UPDATE prompt_studio_job_queue SET status = 'processing', started_at = CURRENT_TIMESTAMP,"
    " leased_until = DATETIME('now', '+60 seconds'), lease_owner = 'old' WHERE id = 1 AND (status = 'queued'"
    " OR (status = 'processing' AND (leased_until IS NULL OR leased_until <= CURRENT_TIMESTAMP)))",
    "renew": "UPDATE prompt_studio_job_queue SET leased_until = DATETIME('now', '+60 seconds')"
    " WHERE id = 2 AND status = 'processing' AND (lease_owner IS NULL OR lease_owner = 'w')",
    "complete": "UPDATE prompt_studio_job_queue SET status = 'completed', result = '{}',"
    " completed_at = CURRENT_TIMESTAMP, leased_until = NULL, lease_owner = NULL WHERE id = 2",
    "start": "UPDATE prompt_studio_job_queue SET status = 'processing', started_at = CURRENT_TIMESTAMP WHERE id = 1",
    "cancel or ignore": "UPDATE OR IGNORE prompt_studio_job_queue SET status = 'cancelled',"
    " completed_at = CURRENT_TIMESTAMP WHERE id = 1",
    "retry": "UPDATE prompt_studio_job_queue SET status = 'queued', retry_count = retry_count + 1,"
    " error_message = NULL, started_at = NULL, completed_at = NULL, leased_until = NULL, lease_owner = NULL"
    " WHERE id = 3",
    "clean up": "DELETE FROM prompt_studio_job_queue WHERE status IN ('completed', 'failed', 'cancelled')"
    " AND completed_at < DATETIME('now', '-30 days')",
    "record": "INSERT OR IGNORE INTO prompt_studio_idempotency (entity_type, idempotency_key, entity_id, user_id)"
    " VALUES ('prompt', 'new', 1, NULL)",
    "record of a user": "INSERT OR IGNORE INTO prompt_studio_idempotency"
    " (entity_type, idempotency_key, entity_id, user_id) VALUES ('prompt', 'new', 1, 'u')",
}
OLD_POSTGRES_WRITES: Final = {
    "create": "INSERT INTO prompt_studio_job_queue (uuid, job_type, entity_id, project_id, priority, status, payload,"
    " max_retries, client_id) VALUES ('new', 'evaluation', 1, NULL, 5, 'queued', '{}', 3, 'old') RETURNING *",
    "acquire": "UPDATE prompt_studio_job_queue SET status = 'processing', started_at = CURRENT_TIMESTAMP,"
    " leased_until = NOW() + INTERVAL '60 seconds', lease_owner = 'old' WHERE id = (SELECT id FROM"
    " prompt_studio_job_queue WHERE status = 'queued' OR (status = 'processing' AND leased_until <= NOW())"
    " ORDER BY priority DESC, created_at LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING *",
    "renew": "UPDATE prompt_studio_job_queue SET leased_until = NOW() + INTERVAL '60 seconds'"
    " WHERE id = 2 AND status = 'processing' AND (lease_owner IS NULL OR lease_owner = 'w')",
    "complete": "UPDATE prompt_studio_job_queue SET status = 'completed', result = CAST('{}' AS JSONB),"
    " completed_at = CURRENT_TIMESTAMP, leased_until = NULL, lease_owner = NULL WHERE id = 2",
    "start": "UPDATE prompt_studio_job_queue SET status = 'processing', started_at = CURRENT_TIMESTAMP WHERE id = 1",
    "retry": "UPDATE prompt_studio_job_queue SET status = 'queued', retry_count = retry_count + 1,"
    " error_message = NULL, started_at = NULL, completed_at = NULL, leased_until = NULL, lease_owner = NULL"
    " WHERE id = 3",
    "clean up": "DELETE FROM prompt_studio_job_queue WHERE status IN ('completed', 'failed', 'cancelled')"
    " AND completed_at < NOW() + INTERVAL '30 days'",
    "record": "INSERT INTO prompt_studio_idempotency (entity_type, idempotency_key, entity_id, user_id)"
    " VALUES ('prompt', 'new', 1, NULL) ON CONFLICT DO NOTHING",
    "record of a user": "INSERT INTO prompt_studio_idempotency (entity_type, idempotency_key, entity_id, user_id)"
    " VALUES ('prompt', 'new', 1, 'u')",
}
NO_SUCH_INDEX: Final = (
    "INSERT INTO prompt_studio_idempotency (entity_type, idempotency_key, entity_id, user_id)"
    " VALUES ('prompt', 'new', 1, 'u') ON CONFLICT (entity_type, idempotency_key, user_id) DO NOTHING"
)


class Place(ABC):
    """A database, seen without the store."""

    tables: Sequence[str]
    writes: Mapping[str, str]

    def __init__(self, location: str) -> None:
        self.location = location

    @abstractmethod
    def run(self, sql: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Run one statement by itself; a parameter is `?`."""

    @abstractmethod
    def dump(self) -> list[str]:
        """Everything that is in it: its schema and its rows. A number that was drawn and not used is no trace."""


class SqlitePlace(Place):
    """A file."""

    tables = SQLITE_TABLES
    writes = OLD_SQLITE_WRITES

    def run(self, sql: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Run one statement by itself."""
        with closing(sqlite3.connect(self.location, isolation_level=None)) as connection:
            return connection.execute(sql, values).fetchall()

    def dump(self) -> list[str]:
        """Everything that is in it."""
        with closing(sqlite3.connect(self.location)) as connection:
            return list(connection.iterdump())


class PostgresPlace(Place):
    """A database of a server."""

    tables = POSTGRES_TABLES
    writes = OLD_POSTGRES_WRITES

    def run(self, sql: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Run one statement by itself."""
        with psycopg.connect(self.location, autocommit=True) as connection:
            cursor = connection.execute(sql.replace("%", "%%").replace("?", "%s").encode(), values)
            return cursor.fetchall() if cursor.description else []

    def dump(self) -> list[str]:
        """Everything that is in it."""
        objects = self.run(
            "SELECT CAST(relname AS TEXT), CAST(relkind AS TEXT), oid, relfilenode FROM pg_class"
            " WHERE relnamespace = CAST('public' AS REGNAMESPACE) ORDER BY relname"
        )
        rows = [
            (name, self.run(f"SELECT CAST({name} AS TEXT) FROM {name} ORDER BY 1"))
            for name, kind, _, _ in objects
            if kind == "r"
        ]
        return [str(one) for one in (*objects, *rows)]


def make_old(place: Place, *, rows: Sequence[Values] = (), keys: Sequence[Values] = ()) -> None:
    """The old tables, with these rows; what a row leaves out is the column's default."""
    for statement in place.tables:
        place.run(statement)
    add_rows(place, "prompt_studio_job_queue", rows)
    add_rows(place, "prompt_studio_idempotency", keys)


def add_rows(place: Place, table: str, rows: Sequence[Values]) -> None:
    """More rows."""
    for row in rows:
        marks = ", ".join("?" for _ in row)
        place.run(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", list(row.values()))
