"""What is SQLite's own about a migration: see `storage.migrating`."""

from __future__ import annotations

import sqlite3
from typing import Final

from prompt_studio.storage.migrating import TIME, Site
from prompt_studio.storage.old_json import is_suspect
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

_INSTANT: Final = """COALESCE(
    CASE
        WHEN {0} GLOB '[0-9][0-9][0-9][0-9]-*' AND {0} >= '0001-01-02' AND {0} < '9999-12-31'
            AND date(julianday(substr({0}, 1, 10))) = substr({0}, 1, 10) AND substr({0}, 12, 2) < '24'
        THEN CAST(ROUND((julianday({0}) - 2440587.5) * 86400000) AS INTEGER)
    END,
    CAST({0} AS TEXT)
)"""
"""A time in milliseconds, or the text that is none. SQLite by itself takes 31 February for 2 March."""


class MigratingConnection(SqliteConnection):
    """A connection with the functions of `queries/migrate.sqlite.sql`."""

    def _set_up(self, handle: sqlite3.Connection) -> None:
        super()._set_up(handle)
        handle.create_function("prompt_studio_text", 2, text_of, deterministic=True)
        handle.create_function("prompt_studio_is_suspect", 1, is_suspect, deterministic=True)


def text_of(value: object, encoding: str) -> str | None:
    """The text of a payload or result, which the old columns may have turned into a number; None when it is none.

    Args:
        value: a number, of which SQLite itself would write 15 digits only; or the bytes of a text, since SQLite does
            not look at them, and gives no function a text that is not Unicode.
        encoding: that of the file.
    """
    if not isinstance(value, bytes):
        return None if value is None else repr(value)
    try:
        return value.decode(encoding)
    except UnicodeDecodeError:
        return None


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
        old_column=_old_column,
        locks=LOCKS,
    )


def _old_column(name: str, kind: str, found: str | None) -> str:
    if found is None:
        return "NULL"
    if kind == TIME:
        return _INSTANT.format(name)
    if name in {"payload", "result"}:
        return f"CASE typeof({name}) WHEN 'text' THEN CAST({name} AS BLOB) ELSE {name} END"
    return f"{name} COLLATE BINARY"  # keys that differed by case may have been unequal to the old table only
