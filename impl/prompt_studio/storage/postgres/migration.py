"""What is Postgres's own about a migration: see `storage.migrating`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from prompt_studio.storage.migrating import Site
from prompt_studio.storage.postgres.connection import PostgresConnection
from prompt_studio.storage.postgres.schema import (
    LIST_CONTENTS,
    ONE_AT_A_TIME,
    language,
    place_of,
    refuse_wrong_path,
    schema_versions,
)
from prompt_studio.storage.statements import Statement, load_statements, query_text
from prompt_studio.storage.transactions import Session

BEGIN_DRY_RUN: Final = Statement("begin_dry_run", "BEGIN")
TIME: Final = "TIMESTAMPTZ"
WITHOUT_ZONE: Final = "timestamp without time zone"
TIMES: Final = (WITHOUT_ZONE, "timestamp with time zone", "date")
LOCKS: Final = (
    (
        "ACCESS EXCLUSIVE on prompt_studio_job_queue and prompt_studio_idempotency, from the beginning: every other "
        "session waits, readers too, and gives up after its own lock_timeout; a dry run has them as long"
    ),
    "the advisory lock (1347636301, 1), which whoever initialises or migrates this database takes first",
)


def set_up(seconds: float) -> Statement:
    """What holds for this transaction only, so that it may be set behind a transaction pooler too.

    Nobody is waited for longer than so many seconds, and the times that are texts without a zone are UTC.
    """
    return Statement(
        "set_up",
        f"SELECT set_config('lock_timeout', '{max(1, round(seconds * 1000))}ms', TRUE), "
        "set_config('timezone', 'UTC', TRUE)",
    )


def site(connection: PostgresConnection, session: Session, *, now: str, seconds: float) -> Site:
    """The database as a migration sees it, which waits for others for so many seconds."""
    statements = load_statements(query_text("migrate.sql") + query_text("migrate.postgres.sql"), None, language(now))

    def before(tables: Sequence[str]) -> list[Statement]:
        return [
            statements["stay_in_schema"],
            statements["see_every_row"],
            statements["lift_limit"],
            statements["make_is_json"],
            statements["make_time"],
            *(statements[f"lock_{table}"] for table in tables),
        ]

    return Site(
        place=place_of(connection.place),
        connection=connection,
        session=session,
        statements=statements,
        schema=schema_versions(now),
        list_contents=LIST_CONTENTS,
        refuse_wrong_path=lambda: refuse_wrong_path(session, connection.place),
        missing=False,
        begin_dry_run=BEGIN_DRY_RUN,
        one_at_a_time=(set_up(seconds), ONE_AT_A_TIME),
        before=before,
        restores_rights=True,
        measured="measured: everything was done, and taken back",
        id_counter=None,
        old_column=_old_column,
        locks=LOCKS,
    )


def _old_column(name: str, kind: str, found: str | None) -> str:
    if found is None:
        return f"CAST(NULL AS {kind})"
    if kind == TIME and found not in TIMES:  # a text
        return f"pg_temp.prompt_studio_time(CAST({name} AS TEXT))"
    if found == WITHOUT_ZONE:
        return f"{name} AT TIME ZONE 'UTC'"
    return f"CAST({name} AS {kind})"
