"""What happened to each job, as the database itself noted it: one line for each change, by a trigger.

Times are whole microseconds since 1970, which loses nothing on either database.
"""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final, cast

import psycopg
from psycopg.rows import dict_row

from tests.harness.locations import SQLITE, WITH_LOCKS, WITHOUT_LOCKS, Location

_COLUMNS: Final = "job_id, status, lease_token, lease_owner, leased_until, started_at, result"

_SQLITE: Final = f"""
    CREATE TABLE journal (number INTEGER PRIMARY KEY, job_id, status, lease_token, lease_owner, leased_until,
        started_at, result);
    CREATE TRIGGER journal AFTER UPDATE ON prompt_studio_job_queue BEGIN
        INSERT INTO journal ({_COLUMNS}) VALUES (NEW.id, NEW.status, NEW.lease_token, NEW.lease_owner,
            NEW.leased_until * 1000, NEW.started_at * 1000, NEW.result);
    END;
"""
_POSTGRES: Final = f"""
    CREATE TABLE journal (number BIGSERIAL PRIMARY KEY, job_id BIGINT, status TEXT, lease_token BIGINT,
        lease_owner TEXT, leased_until BIGINT, started_at BIGINT, result TEXT);
    CREATE FUNCTION keep_journal() RETURNS TRIGGER LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO journal ({_COLUMNS}) VALUES (NEW.id, NEW.status, NEW.lease_token, NEW.lease_owner,
            CAST(EXTRACT(EPOCH FROM NEW.leased_until) * 1000000 AS BIGINT),
            CAST(EXTRACT(EPOCH FROM NEW.started_at) * 1000000 AS BIGINT), NEW.result);
        RETURN NULL;
    END $$;
    CREATE TRIGGER journal AFTER UPDATE ON prompt_studio_job_queue FOR EACH ROW EXECUTE FUNCTION keep_journal();
"""
_READ: Final = f"SELECT {_COLUMNS} FROM journal ORDER BY number"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A job as one statement left it."""

    job_id: int
    status: str
    lease_token: int
    lease_owner: str | None
    leased_until: int | None
    started_at: int | None
    result: str | None


def _sqlite_keep(address: str) -> None:
    with closing(sqlite3.connect(address)) as connection:
        connection.executescript(_SQLITE)


def _sqlite_read(address: str) -> list[dict[str, Any]]:
    with closing(sqlite3.connect(address, timeout=10)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(_READ)]


def _postgres_keep(address: str) -> None:
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(cast("Any", _POSTGRES))


def _postgres_read(address: str) -> list[dict[str, Any]]:
    with psycopg.connect(address, autocommit=True, row_factory=dict_row) as connection:
        return connection.execute(cast("Any", _READ)).fetchall()


_KEEP: Final[dict[str, Callable[[str], None]]] = {
    SQLITE.name: _sqlite_keep,
    WITH_LOCKS.name: _postgres_keep,
    WITHOUT_LOCKS.name: _postgres_keep,
}
_READERS: Final[dict[str, Callable[[str], list[dict[str, Any]]]]] = {
    SQLITE.name: _sqlite_read,
    WITH_LOCKS.name: _postgres_read,
    WITHOUT_LOCKS.name: _postgres_read,
}


def keep_journal(location: Location, address: str) -> None:
    """From now on note each change of a job."""
    _KEEP[location.name](address)


def read_journal(location: Location, address: str) -> list[Change]:
    """What was noted, in order."""
    return [Change(**row) for row in _READERS[location.name](address)]
