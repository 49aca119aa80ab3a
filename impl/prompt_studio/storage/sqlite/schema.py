"""Makes an SQLite file ready: its journal, its schema.

An empty file gets the newest schema, in one transaction: of several processes that open it at once one does so, and
the others find it done. A file with anything else in it is only looked at.
"""

from __future__ import annotations

import shlex
from contextlib import suppress
from pathlib import Path
from typing import Final

from prompt_studio.config import Settings
from prompt_studio.errors import SchemaError, TransientConflict
from prompt_studio.storage.patience import Patience
from prompt_studio.storage.statements import Language, Statement, Statements, load_statements, schema_texts
from prompt_studio.storage.transactions import Session
from prompt_studio.storage.versions import CREATE_IT, SCHEMA_TABLE, SCHEMA_VERSION, Place, Standing

LIST_CONTENTS: Final = Statement("list_contents", "SELECT name FROM sqlite_schema ORDER BY name")
JOURNAL_MODE: Final = Statement("journal_mode", "PRAGMA journal_mode")

STAMP: Final = "(datetime(${now} / 1000, 'unixepoch') || printf('.%03d', ${now} % 1000))"
"""As CURRENT_TIMESTAMP, and with milliseconds."""

JOURNAL_SECONDS_MAX: Final = 1.0
"""How long an opening tries to change the journal of a file that others use."""


def prepare(session: Session, place: Place, settings: Settings, *, now: str, create: bool) -> None:
    """Give an empty file the schema; accept a file that has it; refuse every other one, and leave that as it was.

    Raises:
        SchemaError: the file is not ours, or of another version.
    """
    contents = session.read(_contents)
    if contents:
        _standing(session, contents).refuse_to_open(place)
    elif not create:
        raise SchemaError(f"{place.name} is empty: {CREATE_IT}, or correct the location")
    choose_journal(
        session,
        write_ahead=settings.sqlite_wal,
        patience=Patience(min(JOURNAL_SECONDS_MAX, settings.write_retry_seconds)),
    )
    if not contents:
        session.write(lambda _: _initialise(session, now))
        _standing(session, session.read(_contents)).refuse_to_open(place)


def choose_journal(session: Session, *, write_ahead: bool, patience: Patience) -> None:
    """Readers and the writer do not wait for each other: `journal_mode = WAL` (or a rollback journal: DELETE).

    The mode is a property of the file, and can be changed only while nobody else uses it. So an idle reader of an
    older file keeps it as it is, which is slower and no less safe; the next opening tries again.
    """
    wanted = "wal" if write_ahead else "delete"
    if session.read(lambda _: session.run(JOURNAL_MODE))[0]["journal_mode"] == wanted:
        return
    change = Statement("choose_journal", f"PRAGMA journal_mode = {wanted}")
    with suppress(TransientConflict):
        patience.retry(lambda: session.run(change))


def schema_versions(now: str) -> list[Statements]:
    """The statements that make each version of the schema from the one before, oldest first."""
    return [load_statements(text, None, language(now)) for text in schema_texts("sqlite")]


def place_of(path: Path) -> Place:
    """What messages call this file."""
    return Place(name=str(path), location=shlex.quote(str(path)), kind="file")


def language(now: str) -> Language:
    """SQLite's words, with this clock: times are whole milliseconds since 1970, so numbers need no unit."""
    return Language(now=now, milliseconds="", epoch="0", placeholder=":{}".format, stamp=STAMP)


def _contents(session: Session) -> list[str]:
    return [row["name"] for row in session.run(LIST_CONTENTS)]


def _initialise(session: Session, now: str) -> None:
    # Looked at again, now that nobody else can write: a rival may have done it since.
    if not _contents(session):
        for statements in schema_versions(now):
            for statement in statements:
                session.run(statement)


def _standing(session: Session, contents: list[str]) -> Standing:
    version = session.read(lambda _: session.run(SCHEMA_VERSION))[0]["version"] if SCHEMA_TABLE in contents else None
    return Standing(contents=contents, version=version, known=len(schema_texts("sqlite")))
