"""Makes a Postgres database ready: its schema, and the certainty that a session is one.

An empty database gets the newest schema, in one transaction: of several processes that open it at once one does so, and
the others find it done. A database with anything else in it is only looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from prompt_studio.config import TRANSACTION_POOLER_VARIABLE
from prompt_studio.errors import SchemaError, StoreUnavailable
from prompt_studio.storage.postgres.connection import PostgresConnection
from prompt_studio.storage.statements import Language, Statement, Statements, load_statements, schema_texts
from prompt_studio.storage.transactions import Session
from prompt_studio.storage.versions import (
    CREATE_IT,
    JOB_TABLE,
    KEY_TABLE,
    SCHEMA_TABLE,
    SCHEMA_VERSION,
    Place,
    Standing,
)

CHANNEL: Final = "prompt_studio_jobs"
"""On which workers hear that a job was queued. Nothing is said of which one: whoever hears it acquires the best."""

PROBES: Final = 3
"""How often two clients take turns before a session is believed to be one."""

PRODUCTION_CLOCK: Final = "clock_timestamp()"
"""`now()` stands still within a transaction. Bare in a condition this one would forbid every index: it is read once, in
a table of its own."""

INJECTED_CLOCK: Final = "TIMESTAMPTZ 'epoch' + (SELECT last_value FROM prompt_studio_virtual_clock) * INTERVAL '1 ms'"
"""A sequence, since it is the same for all sessions, and no transaction of theirs holds it back or undoes it."""

# What has rows, as tables and views have; but not what an extension brought, which belongs to nobody's program.
LIST_CONTENTS: Final = Statement(
    "list_contents",
    """
    SELECT relname AS name FROM pg_class
    WHERE relnamespace = to_regnamespace(quote_ident(current_schema())) AND relkind IN ('r', 'p', 'v', 'm', 'f')
        AND NOT EXISTS (
            SELECT 1 FROM pg_depend
            WHERE classid = CAST('pg_class' AS REGCLASS) AND objid = pg_class.oid AND deptype = 'e'
        )
    ORDER BY relname
    """,
)
PATH: Final = Statement(
    "path",
    # A table that the first schema lacks would be made there, and hide the one further down.
    """
    SELECT current_schema() AS first, (
        SELECT MIN(nspname) FROM pg_namespace JOIN pg_class ON relnamespace = pg_namespace.oid
        WHERE nspname = ANY(current_schemas(false)) AND relname = ANY(%(tables)s) AND relname NOT IN (
            SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace(quote_ident(current_schema()))
        )
    ) AS ours
    """,
)
BEGIN: Final = Statement("begin", "BEGIN")
ROLLBACK: Final = Statement("rollback", "ROLLBACK")
BACKEND: Final = Statement("backend", "SELECT pg_backend_pid() AS pid")
# The forms with two keys, which share nothing with the one-key locks of jobs.
LOCK_PROBE: Final = Statement("lock_probe", "SELECT pg_try_advisory_lock(1347636301, pg_backend_pid())")
UNLOCK_PROBE: Final = Statement(
    "unlock_probe", "SELECT pg_advisory_unlock(1347636301, pg_backend_pid()) AS kept, pg_backend_pid() AS pid"
)
ONE_AT_A_TIME: Final = Statement("lock_schema", "SELECT pg_advisory_xact_lock(1347636301, 1)")


def language(now: str, *, notifications: bool = False) -> Language:
    """Postgres's words, with this clock: times are timestamps, so a number of milliseconds is made an interval.

    A notification goes out when the statement's transaction commits, and not at all when it does not.
    """
    return Language(
        now="(SELECT now FROM clock)",
        milliseconds="* INTERVAL '1 ms'",
        epoch="TIMESTAMPTZ 'epoch'",
        placeholder="%({})s".format,
        clock=f"clock AS MATERIALIZED (SELECT {now} AS now)",
        instant=now,
        wakes=f", pg_notify('{CHANNEL}', '')" if notifications else "",
    )


def prepare(session: Session, place: str, *, now: str, create: bool) -> None:
    """Give an empty database the schema; accept one that has it; refuse every other one, and leave that as it was.

    Raises:
        SchemaError: the database is not ours, or of another version.
    """
    contents = session.read(_contents)
    if SCHEMA_TABLE not in contents:
        session.read(lambda _: refuse_wrong_path(session, place))
    if not contents:
        if not create:
            raise SchemaError(f"{place} is empty: {CREATE_IT}, or correct the location")
        session.write(lambda _: _initialise(session, now))
        contents = session.read(_contents)
    _standing(session, contents).refuse_to_open(place_of(place))


def place_of(name: str) -> Place:
    """What messages call this database; its URL may hold a password."""
    return Place(name=name, location="LOCATION", kind="database")


def schema_versions(now: str) -> list[Statements]:
    """The statements that make each version of the schema from the one before, oldest first."""
    return [load_statements(text, None, language(now)) for text in schema_texts("postgres")]


def refuse_wrong_path(session: Session, place: str) -> None:
    """Refuse a search_path by which the queue's tables would be made in no schema, or before those that are used.

    Raises:
        SchemaError: it is such a path.
    """
    path = session.run(PATH, {"tables": [JOB_TABLE, KEY_TABLE]})[0]
    if path["first"] is None:
        raise SchemaError(
            f"{place}: the search_path names no schema that there is and that this user may use: create "
            "one, or correct the path"
        )
    if path["ours"] is not None:
        raise SchemaError(
            f"{place}: the queue is in the schema {path['ours']!r}, and the search_path begins with {path['first']!r}, "
            "where a second one would be made: set the path so that it begins with the queue's schema, as by "
            "ALTER ROLE or by options=-csearch_path%3D... in the location"
        )


def refuse_transaction_pooler(connect: Callable[[], PostgresConnection], place: str) -> None:
    """Refuse a proxy that changes server connections between transactions: a session's locks would be a stranger's.

    Such a proxy gives a transaction the server connection that was left last, or first. So a second client takes one
    and keeps it while the first begins another transaction; then the first begins two with nothing in between. A proxy
    with a single server connection gives that to both, and this is seen before one keeps it and the other waits.

    Args:
        connect: opens a connection on which nothing was set or prepared, since it may be a stranger's tomorrow.
        place: for the message.

    Raises:
        StoreUnavailable: two transactions of one client saw two servers' processes, or two clients saw one, or a lock
            did not last from one transaction to the next.
    """
    ours, other = connect(), connect()
    try:
        stays = _keeps_its_server(ours, other)
    finally:
        ours.close()
        other.close()
    if not stays:
        raise StoreUnavailable(
            f"{place}: a proxy changes server connections between transactions, and advisory locks need one that "
            "stays: connect to the server itself, or set advisory_locks=False and transaction_pooler=True "
            f"({TRANSACTION_POOLER_VARIABLE}=1)"
        )


def _keeps_its_server(ours: PostgresConnection, other: PostgresConnection) -> bool:
    first = _server(ours)
    if _server(other) == first:
        return False
    for _ in range(PROBES):
        other.run(BEGIN)
        others = _server(other)
        seen = {_server(ours), _server(ours)}
        other.run(ROLLBACK)
        seen |= {_server(ours), _server(ours)}
        if seen != {first} or others == first:
            return False
    ours.run(LOCK_PROBE)
    _server(other)
    row = ours.run(UNLOCK_PROBE)[0]
    return bool(row["kept"]) and row["pid"] == first


def _server(connection: PostgresConnection) -> int:
    return int(connection.run(BACKEND)[0]["pid"])


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
