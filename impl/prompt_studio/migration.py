"""`migrate`: a database from before this library, or of an older version of it, becomes one of this version."""

from __future__ import annotations

import os

from prompt_studio import values
from prompt_studio.clock import Clock
from prompt_studio.config import Settings
from prompt_studio.migration_report import MigrationReport
from prompt_studio.storage import migrating
from prompt_studio.storage.migrating import UTC
from prompt_studio.storage.opening import dialect_of


def migrate(
    location: str | os.PathLike[str],
    *,
    dry_run: bool = False,
    timezone: str = UTC,
    settings: Settings | None = None,
    clock: Clock | None = None,
) -> MigrationReport:
    """Bring the database at `location` to this library's schema: wholly, or not at all.

    An empty or missing one is initialised, the queue's tables are made beside another program's, and one of this
    version is left alone. See `specs/migration.md` for what becomes of old rows.

    Args:
        location: a path (SQLite), or a `postgresql://` URL.
        dry_run: change nothing, and say what would be done, under which locks, and for how long.
        timezone: the zone in which an old program on Postgres wrote times that have none, by its name on the server.
            It is that of the program's sessions, and `timestamp` columns do not tell.
        settings: None reads the environment; `write_retry_seconds` is how long others are waited for.
        clock: the time to go by, for tests.

    Raises:
        InputError: an argument or setting breaks its rule.
        SchemaError: the database is newer, or holds what cannot be converted; it was not altered.
        StoreUnavailable: it cannot be opened or written.
        TransientConflict: others kept it locked for too long; it was not altered.
    """
    timezone = values.text("timezone", timezone)
    settings = Settings.from_environment(os.environ) if settings is None else settings
    dialect = dialect_of(location, settings, clock=clock, create=not dry_run)
    try:
        return migrating.migrate(dialect.migration(dry_run=dry_run, timezone=timezone), dry_run=dry_run)
    finally:
        dialect.close()
