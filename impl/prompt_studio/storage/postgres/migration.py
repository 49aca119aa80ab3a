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

BEGIN_LOOK: Final = Statement("begin_look", "BEGIN ISOLATION LEVEL REPEATABLE READ")
WITHOUT_ZONE: Final = "timestamp without time zone"
TIMES_THE_CONVERSION: Final = 3
"""Seen with 200,000 jobs: 1.1 s of 3.4 s."""
LOCKS: Final = (
    (
        "ACCESS EXCLUSIVE on prompt_studio_job_queue and prompt_studio_idempotency, from the beginning: every other "
        "session waits, readers too, and gives up after its own lock_timeout"
    ),
    "the advisory lock (1347636301, 1), which whoever initialises or migrates this database takes first",
)


def site(connection: PostgresConnection, session: Session, *, now: str) -> Site:
    """The database as a migration sees it."""
    statements = load_statements(query_text("migrate.sql") + query_text("migrate.postgres.sql"), None, language(now))

    def before(tables: Sequence[str]) -> list[Statement]:
        return [
            statements["stay_in_schema"],
            statements["see_every_row"],
            statements["lift_limit"],
            statements["make_is_json"],
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
        begin_look=BEGIN_LOOK,
        one_at_a_time=(ONE_AT_A_TIME,),
        before=before,
        restores_rights=True,
        times_the_conversion=TIMES_THE_CONVERSION,
        id_counter=None,
        old_column=_old_column,
        locks=LOCKS,
    )


def _old_column(name: str, kind: str, found: str | None) -> str:
    if found is None:
        return f"CAST(NULL AS {kind})"
    if found == WITHOUT_ZONE:
        return f"{name} AT TIME ZONE 'UTC'"
    return f"CAST({name} AS {kind})"
