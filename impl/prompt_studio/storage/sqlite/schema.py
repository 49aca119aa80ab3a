"""Makes an SQLite file ready: its journal, its schema.

An empty file gets the newest schema, in one transaction: of several processes that open it at once one does so, and
the others find it done. A file with anything else in it is only looked at.
"""

from __future__ import annotations

from typing import Final

from prompt_studio.errors import SchemaError, TransientConflict
from prompt_studio.storage.patience import Patience
from prompt_studio.storage.sqlite.connection import SqliteConnection
from prompt_studio.storage.statements import Statement, Statements, load_statements, schema_texts
from prompt_studio.storage.transactions import Session

LIST_TABLES: Final = Statement("list_tables", "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
SCHEMA_VERSION: Final = Statement("schema_version", "SELECT MAX(version) AS version FROM prompt_studio_schema")
JOURNAL_MODE: Final = Statement("journal_mode", "PRAGMA journal_mode")


def choose_journal(connection: SqliteConnection, *, write_ahead: bool, patience: Patience) -> None:
    """Readers and the writer do not wait for each other: `journal_mode = WAL` (or a rollback journal: DELETE).

    The mode is a property of the file, and can be changed only while nobody else uses it. So an idle reader of an
    older file keeps it as it is, which is slower and no less safe; the next opening tries again.
    """
    wanted = "wal" if write_ahead else "delete"
    if connection.run(JOURNAL_MODE)[0]["journal_mode"] == wanted:
        return
    change = Statement("choose_journal", f"PRAGMA journal_mode = {wanted}")
    try:
        patience.retry(lambda: connection.run(change))
    except TransientConflict:
        return


def initialise_or_refuse(session: Session, path: str, *, now: str, create: bool) -> None:
    """Give an empty file the schema; accept a file that has it; refuse every other one.

    Raises:
        SchemaError: the file is not ours, or of another version; it was not altered.
    """
    versions = [load_statements(text, None, now=now, placeholder=":{}".format) for text in schema_texts("sqlite")]
    tables = session.read(_tables)
    if not tables and create:
        tables = session.write(lambda _: _initialised(session, versions))
    _refuse_foreign(tables, path)
    found = session.read(lambda _: session.run(SCHEMA_VERSION))[0]["version"]
    if found != len(versions):
        raise SchemaError(
            f"{path} has version {found} of the schema and this program knows {len(versions)}: upgrade the program"
        )


def _tables(session: Session) -> list[str]:
    return [row["name"] for row in session.run(LIST_TABLES)]


def _initialised(session: Session, versions: list[Statements]) -> list[str]:
    # Looked at again, now that nobody else can write: a rival may have done it since.
    if not _tables(session):
        for statements in versions:
            for statement in statements:
                session.run(statement)
    return _tables(session)


def _refuse_foreign(tables: list[str], path: str) -> None:
    if not tables:
        raise SchemaError(f"{path} is empty: open it with create=True, or correct the location")
    if "prompt_studio_schema" in tables:
        return
    if "prompt_studio_job_queue" in tables:
        raise SchemaError(
            f"{path} was made by a program older than this library, and this version cannot convert it: "
            "keep it, and name a new file"
        )
    raise SchemaError(f"{path} belongs to another program (it has the table {tables[0]}): name another file")
