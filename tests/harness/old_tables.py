"""Databases from before this library, and the statements of the program that wrote to them.

The tables are those of Prompt Studio: times are text on SQLite and `timestamp` on Postgres, a lease is an owner and an
end, and a unique index over a nullable user lets keys without a user be recorded more than once.
"""

import json
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

import psycopg

Values = Mapping[str, object]

JOBS: Final = "prompt_studio_job_queue"
KEYS: Final = "prompt_studio_idempotency"
SUPERSEDED: Final = "prompt_studio_idempotency_superseded"

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
POSTGRES_SCHEMA: Final = """
        SELECT CAST(c.relname AS TEXT), CAST(a.attname AS TEXT), format_type(a.atttypid, a.atttypmod), a.attnotnull,
            CAST(a.attidentity AS TEXT), pg_get_expr(d.adbin, d.adrelid), CAST(c.reloptions AS TEXT)
        FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        LEFT JOIN pg_attrdef AS d ON d.adrelid = c.oid AND d.adnum = a.attnum
        WHERE c.relnamespace = CAST('public' AS REGNAMESPACE) AND c.relname NOT LIKE '%superseded%'
        UNION ALL SELECT CAST(conname AS TEXT), pg_get_constraintdef(oid), '', NULL, NULL, NULL, NULL
        FROM pg_constraint WHERE connamespace = CAST('public' AS REGNAMESPACE) AND conname NOT LIKE '%superseded%'
        UNION ALL SELECT CAST(indexname AS TEXT), indexdef, '', NULL, NULL, NULL, NULL
        FROM pg_indexes WHERE schemaname = 'public' AND indexname NOT LIKE '%superseded%'
        UNION ALL SELECT CAST(tgname AS TEXT), pg_get_triggerdef(oid), '', NULL, NULL, NULL, NULL FROM pg_trigger
        WHERE NOT tgisinternal
        UNION ALL SELECT CAST(proname AS TEXT), prosrc, '', NULL, NULL, NULL, NULL FROM pg_proc
        WHERE pronamespace = CAST('public' AS REGNAMESPACE)
        ORDER BY 1, 2, 3
"""
NO_SUCH_INDEX: Final = (
    "INSERT INTO prompt_studio_idempotency (entity_type, idempotency_key, entity_id, user_id)"
    " VALUES ('prompt', 'new', 1, 'u') ON CONFLICT (entity_type, idempotency_key, user_id) DO NOTHING"
)


@dataclass(frozen=True)
class TextOfBytes:
    """What an old program stored as text in an SQLite file, whatever bytes it had."""

    data: bytes


class Place(ABC):
    """A database, seen without the store.

    Attributes:
        tables: the statements that make the old tables.
        writes: the statements of the old program.
        refuse_every_update: statements after which the trigger of the new table takes everybody for an old program.
        a_past_instant: a time long ago, as the new tables hold it.
        id_column: how the host application makes an id.
        json_type: in which columns it keeps JSON.
    """

    tables: Sequence[str]
    writes: Mapping[str, str]
    refuse_every_update: Sequence[str]
    a_past_instant: str
    id_column: str
    json_type: str

    def __init__(self, location: str) -> None:
        self.location = location

    @abstractmethod
    def run_all(self, statements: Iterable[tuple[str, Sequence[object]]]) -> list[tuple[Any, ...]]:
        """Run each by itself, a parameter being `?`; the rows of the last."""

    def run(self, sql: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Run one statement by itself; a parameter is `?`."""
        return self.run_all([(sql, values)])

    @abstractmethod
    def dump(self) -> list[str]:
        """Everything that is in it: its schema and its rows. A number that was drawn and not used is no trace."""

    @abstractmethod
    def schema(self) -> list[tuple[Any, ...]]:
        """Everything that is in it but rows, and but the table of superseded keys."""

    @abstractmethod
    def stored_time(self, column: str, time: datetime) -> object:
        """A time, without a zone, as the old program stored it in this column."""

    @abstractmethod
    def read_json(self, text: str) -> object:
        """What the old program, which stored this text, read back."""

    @abstractmethod
    def writing(self) -> AbstractContextManager[None]:
        """Another program is in the middle of a write, and reads are possible."""


class SqlitePlace(Place):
    """A file."""

    tables: Sequence[str] = SQLITE_TABLES
    id_column = "id INTEGER PRIMARY KEY AUTOINCREMENT"
    json_type = "JSON"
    writes = OLD_SQLITE_WRITES
    refuse_every_update = (
        "DROP TRIGGER prompt_studio_refuse_old_update",
        (
            "CREATE TRIGGER refuse_all BEFORE UPDATE ON prompt_studio_job_queue BEGIN SELECT RAISE(ABORT, 'this"
            " database was migrated, and this program is too old to change it: stop it, and use prompt-studio-core');"
            " END"
        ),
    )
    a_past_instant = "1"

    def run_all(self, statements: Iterable[tuple[str, Sequence[object]]]) -> list[tuple[Any, ...]]:
        """Run each by itself."""
        rows = []
        with closing(sqlite3.connect(self.location, isolation_level=None)) as connection:
            for statement, values in statements:
                rows = connection.execute(statement, values).fetchall()
        return rows

    def dump(self) -> list[str]:
        """Everything that is in it."""
        with closing(sqlite3.connect(self.location)) as connection:
            connection.text_factory = lambda data: data.decode(errors="backslashreplace")
            return list(connection.iterdump())

    def schema(self) -> list[tuple[Any, ...]]:
        """Everything that is in it but rows."""
        return self.run(
            "SELECT type, name, sql FROM sqlite_schema WHERE tbl_name NOT LIKE '%superseded%' ORDER BY name"
        )

    def stored_time(self, column: str, time: datetime) -> object:
        """As text."""
        del column
        return time.isoformat(" ")

    def read_json(self, text: str) -> object:
        """The same."""
        return json.loads(text)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Another program is in the middle of a write."""
        self.run("PRAGMA journal_mode = WAL")
        with closing(sqlite3.connect(self.location, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield


class PostgresPlace(Place):
    """A database of a server."""

    tables: Sequence[str] = POSTGRES_TABLES
    id_column = "id BIGSERIAL PRIMARY KEY"
    json_type = "JSONB"
    writes = OLD_POSTGRES_WRITES
    refuse_every_update = (
        (
            "CREATE TRIGGER refuse_all BEFORE UPDATE ON prompt_studio_job_queue FOR EACH ROW"
            " EXECUTE FUNCTION prompt_studio_refuse_old_program()"
        ),
    )
    a_past_instant = "TIMESTAMPTZ '1970-01-02'"

    def run_all(self, statements: Iterable[tuple[str, Sequence[object]]]) -> list[tuple[Any, ...]]:
        """Run each by itself."""
        with psycopg.connect(self.location, autocommit=True) as connection:
            for statement, values in statements:
                cursor = connection.execute(statement.replace("%", "%%").replace("?", "%s").encode(), values)
            return cursor.fetchall() if cursor.description else []

    def dump(self) -> list[str]:
        """Everything that is in it."""
        objects = self.run(
            "SELECT CAST(relname AS TEXT), CAST(relkind AS TEXT), oid, relfilenode FROM pg_class"
            " WHERE relnamespace = CAST('public' AS REGNAMESPACE) ORDER BY relname"
        )
        tables = [name for name, kind, _, _ in objects if kind == "r"]
        rows = [(name, self.run(f"SELECT CAST({name} AS TEXT) FROM {name} ORDER BY 1")) for name in tables]
        return [str(one) for one in (*objects, *rows)]

    def schema(self) -> list[tuple[Any, ...]]:
        """Everything that is in it but rows."""
        return self.run(POSTGRES_SCHEMA)

    def stored_time(self, column: str, time: datetime) -> object:
        """As a timestamp; the end of a lease has a zone."""
        return time.replace(tzinfo=UTC) if column == "leased_until" else time

    def read_json(self, text: str) -> object:
        """The same, but JSONB has no exponents: 1e+22 became a one with twenty-two noughts, which reads as an int."""
        return json.loads(text, parse_float=_without_exponent)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Another program is in the middle of a write."""
        with psycopg.connect(self.location) as connection:
            connection.execute("UPDATE prompt_studio_job_queue SET client_id = 'somebody'")
            yield
            connection.rollback()


def _without_exponent(digits: str) -> int | float:
    written = format(Decimal(digits), "f")
    return float(digits) if "." in written else int(written)


def make_old(place: Place, *, rows: Sequence[Values] = (), keys: Sequence[Values] = ()) -> None:
    """The old tables, with these rows; what a row leaves out is the column's default."""
    place.run_all(
        [
            *((statement, ()) for statement in place.tables),
            *_insertions(JOBS, rows),
            *_insertions(KEYS, keys),
        ]
    )


def add_rows(place: Place, table: str, rows: Sequence[Values]) -> None:
    """More rows."""
    place.run_all(_insertions(table, rows))


def _insertions(table: str, rows: Sequence[Values]) -> Iterator[tuple[str, Sequence[object]]]:
    for row in rows:
        marks = ", ".join("CAST(? AS TEXT)" if isinstance(value, TextOfBytes) else "?" for value in row.values())
        values = [value.data if isinstance(value, TextOfBytes) else value for value in row.values()]
        yield f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", values


def job(**values: object) -> dict[str, object]:
    return {"job_type": "evaluation", "entity_id": 1, "payload": "{}", "client_id": "old"} | values


def key(name: str, entity_id: int, user_id: str | None = None, **values: object) -> dict[str, object]:
    return {"entity_type": "prompt", "idempotency_key": name, "entity_id": entity_id, "user_id": user_id} | values


LONG_AGO = "2024-05-06 07:08:09"
INSTANT = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
FAR = "2099-01-01 00:00:00+00:00"
ROWS = (
    job(uuid="a", created_at=LONG_AGO, priority=9, retry_count=1, payload='{"x": [1.50, "é"]}'),
    job(
        status="processing", created_at=LONG_AGO, started_at=LONG_AGO, leased_until=FAR, lease_owner="w", retry_count=2
    ),
    job(status="processing", created_at=LONG_AGO, error_message="earlier", result="1"),
    job(status="completed", created_at=LONG_AGO, started_at=LONG_AGO, completed_at=LONG_AGO, result='{"score": 1}'),
    job(status="failed", created_at=LONG_AGO, retry_count=3, error_message="broke", leased_until=FAR),
    job(status="cancelled", created_at=LONG_AGO, completed_at=LONG_AGO),
    job(created_at=LONG_AGO, started_at=LONG_AGO, result="2", priority=11, retry_count=-1, max_retries=-1),
    job(created_at=None, priority=None, retry_count=None, max_retries=None, status=None),
    job(status="failed", created_at=LONG_AGO, retry_count=2**31 - 1, max_retries=2**31 - 1),
)
KEY_ROWS = (
    key("k", 10),
    key("k", 11),
    key("k", 12, "u"),
    key("k", 13, "v", created_at=None),
    key("", 14, "u"),
    key("k" * 256, 15, "u"),
    key("k", 16, ""),
    key("k", 17),
)
