"""A migration beside a program of the old schema that goes on working, as programs.

The old one is what the migration must not overtake: what it has committed is converted, and what it does afterwards is
refused. There is no third possibility, as when a claim gets lost between the reading and the dropping of a table.
"""

from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import Any, Final

from prompt_studio import Settings
from prompt_studio.migration import migrate
from prompt_studio.storage.migrating import Site
from prompt_studio.storage.postgres.dialect import PostgresDialect
from tests.harness.interleaving.programs import Programs
from tests.harness.interleaving.scenario import Call
from tests.harness.old_tables import POSTGRES_TABLES, SQLITE_TABLES
from tests.interleaved.programs import Connection, Wrong

SETTINGS: Final = Settings(sqlite_wal=True, write_retry_seconds=30.0)
"""It waits for as long as the scheduler does, and leaves the journal as the scheduler's database has it."""

ROWS: Final = """
    INSERT INTO prompt_studio_job_queue (uuid, job_type, entity_id, status, payload, client_id, lease_owner,
        leased_until) VALUES
        ('one', 'evaluation', 1, 'queued', '{}', 'old', NULL, NULL),
        ('two', 'evaluation', 2, 'processing', '{}', 'old', 'old', '2099-01-01 00:00:00+00:00');
    INSERT INTO prompt_studio_idempotency (entity_type, idempotency_key, entity_id, user_id)
        VALUES ('prompt', 'k', 1, 'u')
"""
READS: Final = (
    """SELECT id, status, lease_owner, leased_until IS NULL, completed_at IS NULL
    FROM prompt_studio_job_queue ORDER BY id""",
    "SELECT idempotency_key, entity_id, user_id FROM prompt_studio_idempotency ORDER BY idempotency_key",
)
FIRST: Final = (
    "SELECT id FROM prompt_studio_job_queue WHERE status = 'queued' ORDER BY priority DESC, created_at LIMIT 1"
)


def migrated(address: str) -> tuple[Hashable, ...]:
    report = migrate(address, settings=SETTINGS)
    return report.to_version, report.jobs, report.keys


def migrated_without_locks(address: str) -> tuple[Hashable, ...]:
    """As it would be if the old tables were read like any others."""
    right = PostgresDialect.migration

    def without(dialect: PostgresDialect, **named: Any) -> Site:  # noqa: ANN401 - as the one that it replaces
        site = right(dialect, **named)
        return replace(
            site, before=lambda names: [one for one in site.before(names) if not one.name.startswith("lock_")]
        )

    PostgresDialect.migration = without  # type: ignore[assignment, method-assign]
    try:
        return migrated(address)
    finally:
        PostgresDialect.migration = right  # type: ignore[method-assign]


def claim_on_postgres(connection: Connection, owner: str) -> int | None:
    row = connection.execute(FIRST).fetchone()
    claimed = None
    if row is not None and connection.execute(f"SELECT pg_try_advisory_lock({row[0]:d})").fetchone()[0]:
        claimed = _take(connection, row[0], owner, "NOW() + INTERVAL '60 seconds'")
        connection.execute(f"SELECT pg_advisory_unlock({row[0]:d})")
    connection.commit()
    return claimed


def claim_on_sqlite(connection: Connection, owner: str) -> int | None:
    connection.execute("BEGIN IMMEDIATE")
    row = connection.execute(FIRST).fetchone()
    claimed = None if row is None else _take(connection, row[0], owner, "DATETIME('now', '+60 seconds')")
    connection.commit()
    return claimed


def _take(connection: Connection, job_id: int, owner: str, until: str) -> int | None:
    taken = connection.execute(
        f"UPDATE prompt_studio_job_queue SET status = 'processing', started_at = CURRENT_TIMESTAMP, "
        f"leased_until = {until}, lease_owner = '{owner}' WHERE id = {job_id:d} AND status = 'queued'"
    )
    return job_id if taken.rowcount else None


def complete(connection: Connection, owner: str) -> int:
    done: int = connection.execute(
        "UPDATE prompt_studio_job_queue SET status = 'completed', completed_at = CURRENT_TIMESTAMP, "
        f"leased_until = NULL, lease_owner = NULL WHERE id = 2 AND lease_owner = '{owner}'"
    ).rowcount
    connection.commit()
    return done


def record(connection: Connection, owner: str) -> int:
    made: int = connection.execute(
        "INSERT INTO prompt_studio_idempotency (entity_type, idempotency_key, entity_id, user_id) "
        f"VALUES ('prompt', 'new', 2, '{owner}')"
    ).rowcount
    connection.commit()
    return made


def _beside(
    name: str, tables: tuple[str, ...], old: Callable[..., Hashable], migration: Callable[..., Hashable] = migrated
) -> Programs:
    return Programs(
        name=name,
        schema=";".join(tables),
        rows=ROWS,
        reads=READS,
        rebuilds=True,
        lanes={
            "a": (Call(program=migration, connects=True),),
            "b": (Call(program=old, arguments=("old",)),),
        },
    )


RIGHT_MIGRATIONS_OF_SQLITE: Final = (
    _beside("migrate, old claim", SQLITE_TABLES, claim_on_sqlite),
    _beside("migrate, old completion", SQLITE_TABLES, complete),
    _beside("migrate, old record", SQLITE_TABLES, record),
)
RIGHT_MIGRATIONS_OF_POSTGRES: Final = (
    _beside("migrate, old claim", POSTGRES_TABLES, claim_on_postgres),
    _beside("migrate, old completion", POSTGRES_TABLES, complete),
    _beside("migrate, old record", POSTGRES_TABLES, record),
)
WRONG_MIGRATION: Final = Wrong(
    _beside("migrate without locks, old completion", POSTGRES_TABLES, complete, migrated_without_locks), "update"
)
