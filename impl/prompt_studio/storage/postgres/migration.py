"""What is Postgres's own about a migration: see `storage.migrating`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from prompt_studio.errors import InputError
from prompt_studio.storage.migrating import NUMBER, TIME, UTC, Site
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
from prompt_studio.values import shown

BEGIN_DRY_RUN: Final = Statement("begin_dry_run", "BEGIN")
TIMES: Final = ("timestamp without time zone", "timestamp with time zone", "date")
INTEGERS: Final = ("bigint", "integer", "smallint")
ALSO_UTC: Final = ("Etc/UTC", "GMT", "Etc/GMT")
LOCKS: Final = (
    (
        "ACCESS EXCLUSIVE on prompt_studio_job_queue and prompt_studio_idempotency, from the beginning: every other "
        "session waits, readers too, and gives up after its own lock_timeout; a dry run has them as long"
    ),
    "the advisory lock (1347636301, 1), which whoever initialises or migrates this database takes first",
)


def set_up(seconds: float) -> Statement:
    """What holds for this transaction only, so that it may be set behind a transaction pooler too.

    Nobody is waited for longer than so many seconds.
    """
    return Statement("set_up", f"SELECT set_config('lock_timeout', '{max(1, round(seconds * 1000))}ms', TRUE)")


def site(connection: PostgresConnection, session: Session, *, now: str, seconds: float, timezone: str) -> Site:
    """The database as a migration sees it, which waits for others for so many seconds.

    `timezone`: that of the times that have none.
    """
    statements = load_statements(query_text("migrate.sql") + query_text("migrate.postgres.sql"), None, language(now))

    def before(tables: Sequence[str]) -> list[Statement]:
        return [
            statements["stay_in_schema"],
            statements["lift_limit"],
            statements["make_is_json"],
            statements["make_time"],
            statements["make_number"],
            statements["view_sequences"],
            *(statements[f"lock_{table}"] for table in tables),
        ]

    def zone() -> str:
        servers = session.run(statements["read_zone"])[0]["name"]
        found = session.run(statements["find_zone"], {"name": timezone}) if timezone != UTC else [{"name": UTC}]
        if not found:
            raise InputError(
                f"timezone must be one that the server knows (see pg_timezone_names), not {shown(timezone)}"
            )
        name = found[0]["name"]
        session.run(statements["set_zone"], {"name": name})
        hint = "" if servers == name or (name == UTC and servers in ALSO_UTC) else f"; the server's zone is {servers}"
        return f"times without a zone are those of {name}{hint}"

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
        has_owners=True,
        zone=zone,
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
    if kind == NUMBER and found not in INTEGERS:
        return f"pg_temp.prompt_studio_number(CAST({name} AS TEXT))"
    return f"CAST({name} AS {kind})"
