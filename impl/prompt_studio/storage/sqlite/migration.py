"""What is SQLite's own about a migration: see `storage.migrating`."""

from __future__ import annotations

from typing import Final

from prompt_studio.storage.migrating import Site
from prompt_studio.storage.sqlite.connection import SqliteConnection
from prompt_studio.storage.sqlite.schema import LIST_CONTENTS, language, place_of, schema_versions
from prompt_studio.storage.statements import Statement, load_statements, query_text
from prompt_studio.storage.transactions import Session

BEGIN_LOOK: Final = Statement("begin_look", "BEGIN")
TIMES_THE_CONVERSION: Final = 3
"""Seen with 200,000 jobs: 1.0 s of 2.7 s."""
LOCKS: Final = (
    "the write lock of the file, from the beginning: other writers wait, and give up after their own limit",
    (
        "with a write-ahead log readers go on, and see the old tables until the end; with a rollback journal they wait "
        "while the end is written"
    ),
)


def site(connection: SqliteConnection, session: Session, *, now: str) -> Site:
    """The file as a migration sees it."""
    return Site(
        place=place_of(connection.path),
        connection=connection,
        session=session,
        statements=load_statements(query_text("migrate.sql") + query_text("migrate.sqlite.sql"), None, language(now)),
        schema=schema_versions(now),
        list_contents=LIST_CONTENTS,
        refuse_wrong_path=lambda: None,
        missing=not connection.path.exists(),
        begin_look=BEGIN_LOOK,
        one_at_a_time=(),
        before=lambda _: (),
        restores_rights=False,
        times_the_conversion=TIMES_THE_CONVERSION,
        id_counter="sqlite_sequence",
        old_column=lambda name, _, found: "NULL" if found is None else name,
        locks=LOCKS,
    )
