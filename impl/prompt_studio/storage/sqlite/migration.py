"""What is SQLite's own about a migration: see `storage.migrating`."""

from __future__ import annotations

import re
import sqlite3
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Final

from prompt_studio.clock import Clock
from prompt_studio.storage.migrating import TIME, Site
from prompt_studio.storage.old_json import is_suspect
from prompt_studio.storage.sqlite.connection import SqliteConnection
from prompt_studio.storage.sqlite.forks import FileIdentity
from prompt_studio.storage.sqlite.schema import LIST_CONTENTS, language, place_of, schema_versions
from prompt_studio.storage.sqlite.trouble import typed
from prompt_studio.storage.statements import Statement, load_statements, query_text
from prompt_studio.storage.transactions import Session
from prompt_studio.storage.versions import JOB_TABLE, KEY_TABLE

BEGIN_DRY_RUN: Final = Statement("begin_dry_run", "BEGIN")
LOCKS: Final = (
    "the write lock of the file, from the beginning: other writers wait, and give up after their own limit",
    (
        "with a write-ahead log readers go on, and see the old tables until the end; with a rollback journal they wait "
        "too, and give up, from when the changes no longer fit into the page cache (2 MB, if nobody altered it)"
    ),
)

_TOKEN: Final = re.compile(
    r"--[^\n]*|/\*.*?(?:\*/|$)|(?P<quote>[\"'`])(?P<quoted>(?:(?!(?P=quote)).|(?P=quote){2})*)(?P=quote)"
    r"|\[(?P<bracketed>[^\]]*)\]|(?P<word>[\w$]+)",
    re.DOTALL,
)
"""A comment, a name or text in quotes, or a word. SQLite takes each kind of quotes for a name where one is due."""

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
        handle.create_function("prompt_studio_refers", 1, refers_to_old, deterministic=True)


class CopyConnection(MigratingConnection):
    """A connection with a private copy of the file, which nobody waits for, and which is gone when it is closed."""

    def __init__(self, path: Path, *, clock: Clock | None, identity: FileIdentity | None, create: bool) -> None:
        super().__init__(path, clock=clock, identity=identity, create=create)
        self.name = f"the copy of {path} for the dry run, in SQLite's directory for temporary files (SQLITE_TMPDIR)"

    def _open(self) -> sqlite3.Connection:
        original = super()._open()
        self._handle = None
        with closing(original), ExitStack() as undo:
            try:
                # A transaction of the backup's own would wait for writers as long as there are any.
                original.execute("BEGIN").fetchall()
                original.execute("SELECT COUNT(*) FROM sqlite_schema").fetchall()
                copy = sqlite3.connect("", isolation_level=None, timeout=0, check_same_thread=False)
                undo.callback(copy.close)
                original.backup(copy)
                self._set_up(copy)
            except sqlite3.Error as error:
                raise typed(error, self.name, committing=False) from error
            undo.pop_all()
        self._handle = copy
        return copy


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


def refers_to_old(sql: str) -> bool:
    """Whether a statement names one of the old tables, in whatever quotes; not in a comment, nor as part of a name."""
    return any({JOB_TABLE, KEY_TABLE} & {*match.groups()} for match in _TOKEN.finditer(sql.lower()))


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
        begin_dry_run=BEGIN_DRY_RUN,
        one_at_a_time=(),
        before=lambda _: (),
        has_owners=False,
        zone=lambda: "times without a zone are UTC",
        measured="measured on a private copy, of which nothing must be durable",
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
