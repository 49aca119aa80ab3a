"""Makes a Postgres database ready: its schema, and the certainty that a session is one.

An empty database gets the newest schema, in one transaction: of several processes that open it at once one does so, and
the others find it done. A database with anything else in it is only looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from prompt_studio.errors import SchemaError, StoreUnavailable
from prompt_studio.storage.postgres.connection import PostgresConnection
from prompt_studio.storage.statements import Language, Statement, Statements, load_statements, schema_texts
from prompt_studio.storage.transactions import Session
from prompt_studio.storage.versions import SCHEMA_TABLE, SCHEMA_VERSION, Place, Standing

PRODUCTION_CLOCK: Final = "clock_timestamp()"
"""`now()` stands still within a transaction. Bare in a condition this one would forbid every index: it is read once, in
a table of its own."""

INJECTED_CLOCK: Final = "TIMESTAMPTZ 'epoch' + (SELECT last_value FROM prompt_studio_virtual_clock) * INTERVAL '1 ms'"
"""A sequence, since it is the same for all sessions, and no transaction of theirs holds it back or undoes it."""

LIST_CONTENTS: Final = Statement(
    "list_contents", "SELECT tablename AS name FROM pg_tables WHERE schemaname = current_schema() ORDER BY tablename"
)
BACKEND: Final = Statement("backend", "SELECT pg_backend_pid() AS pid")
BEGIN: Final = Statement("begin", "BEGIN")
ROLLBACK: Final = Statement("rollback", "ROLLBACK")
# The form with two keys, which shares nothing with the one-key locks of jobs.
ONE_AT_A_TIME: Final = Statement("lock_schema", "SELECT pg_advisory_xact_lock(1347636301, 1)")


def language(now: str) -> Language:
    """Postgres's words, with this clock: times are timestamps, so a number of milliseconds is made an interval."""
    return Language(
        now="(SELECT now FROM clock)",
        milliseconds="* INTERVAL '1 ms'",
        epoch="TIMESTAMPTZ 'epoch'",
        placeholder="%({})s".format,
        clock=f"clock AS MATERIALIZED (SELECT {now} AS now)",
    )


def prepare(session: Session, place: str, *, now: str, create: bool) -> None:
    """Give an empty database the schema; accept one that has it; refuse every other one, and leave that as it was.

    Raises:
        SchemaError: the database is not ours, or of another version.
    """
    contents = session.read(_contents)
    if not contents:
        if not create:
            raise SchemaError(f"{place} is empty: open it with create=True, or correct the location")
        session.write(lambda _: _initialise(session, now))
        contents = session.read(_contents)
    _standing(session, contents).refuse_to_open(place_of(place))


def place_of(name: str) -> Place:
    """What messages call this database; its URL may hold a password."""
    return Place(name=name, location="LOCATION", kind="database")


def schema_versions(now: str) -> list[Statements]:
    """The statements that make each version of the schema from the one before, oldest first."""
    return [load_statements(text, None, language(now)) for text in schema_texts("postgres")]


def refuse_transaction_pooler(connect: Callable[[], PostgresConnection], place: str) -> None:
    """Refuse a proxy that changes server connections between transactions: a session's locks would be a stranger's.

    Such a proxy gives a transaction the server connection that was left last. So a second client takes that one, and
    keeps it while the first begins another transaction.

    Raises:
        StoreUnavailable: two transactions of one client saw two servers' processes.
    """
    ours, other = connect(), connect()
    try:
        first = ours.run(BACKEND)[0]["pid"]
        other.run(BEGIN)
        other.run(BACKEND)
        second = ours.run(BACKEND)[0]["pid"]
        other.run(ROLLBACK)
    finally:
        ours.close()
        other.close()
    if first != second:
        raise StoreUnavailable(
            f"{place}: a proxy changes server connections between transactions, and advisory locks need one that "
            "stays: connect to the server itself, or set advisory_locks=False and transaction_pooler=True"
        )


def _contents(session: Session) -> list[str]:
    return [row["name"] for row in session.run(LIST_CONTENTS)]


def _initialise(session: Session, now: str) -> None:
    session.run(ONE_AT_A_TIME)
    # Looked at again, now that nobody else can do the same: a rival may have done it since.
    if not _contents(session):
        for statements in schema_versions(now):
            for statement in statements:
                session.run(statement)


def _standing(session: Session, contents: list[str]) -> Standing:
    version = session.read(lambda _: session.run(SCHEMA_VERSION))[0]["version"] if SCHEMA_TABLE in contents else None
    return Standing(contents=contents, version=version, known=len(schema_texts("postgres")))
