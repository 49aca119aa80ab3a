"""Stores that are wrong in one place, as real queues were: whatever judges them must notice.

The wrong turn is taken in every process that opens the store, in the statements that it has loaded; the files stay as
they are. A pattern that is not found is an error, since a store that is not broken would prove nothing.
"""

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

from prompt_studio import JobRow, PromptStudioDatabase, TransientConflict
from prompt_studio.storage.keyed_creates import Made, Once
from prompt_studio.storage.statements import Statement, Statements
from prompt_studio.storage.transactions import Session
from tests.harness.locations import Jitter, Location
from tests.harness.shared_time import SharedTime

Create = Callable[[Session], tuple[int, Any]]
Find = Callable[[Session, int], Any]


@dataclass(frozen=True, slots=True)
class Turn:
    """One statement, and what stands in it instead, wherever the pattern is found."""

    statement: str
    pattern: str
    instead: str


@dataclass(frozen=True, slots=True)
class BrokenStore:
    """A way to be wrong.

    Attributes:
        name: what is wrong, in words.
        turns: what stands in the statements instead.
        besides: what is done to the opened database besides.
    """

    name: str
    turns: tuple[Turn, ...] = ()
    besides: Callable[[PromptStudioDatabase], None] | None = None

    def at(self, location: Location) -> Location:
        """The location with a store that is broken in this way."""
        return replace(location, name=f"{location.name}, broken", open=partial(_open, location, self))


def _open(
    location: Location, broken: BrokenStore, address: str, time: SharedTime | None, *, jitter: Jitter | None = None
) -> PromptStudioDatabase:
    database = location.open(address, time, jitter=jitter)
    dialect = cast("Any", database)._store._dialect
    for turn in broken.turns:
        dialect.statements = with_turn(dialect.statements, turn)
    if broken.besides is not None:
        broken.besides(database)
    return database


def with_turn(statements: Statements, turn: Turn) -> Statements:
    """The same statements, but for one.

    Raises:
        LookupError: the pattern is not in it.
    """
    known = {statement.name: statement for statement in statements}
    text, found = re.subn(turn.pattern, turn.instead, known[turn.statement].sql, flags=re.DOTALL)
    if not found:
        raise LookupError(f"there is no {turn.pattern!r} in {turn.statement}")
    return Statements(known | {turn.statement: Statement(turn.statement, text)})


def looks_first(database: PromptStudioDatabase) -> None:
    """Make acquire read which job is best, and take that one in a second transaction."""
    vars(database)["acquire_next_job"] = partial(_look_then_take, database)


def _look_then_take(
    database: PromptStudioDatabase,
    *,
    worker_id: str | None = None,
    lease_seconds: int | None = None,
    job_types: Collection[str] | None = None,
) -> JobRow | None:
    del job_types
    best = database.list_jobs(status="queued", limit=1)
    if not best:
        return None
    return database.update_job_status(best[0]["id"], "processing", worker_id=worker_id, lease_seconds=lease_seconds)


def looks_up_first(database: PromptStudioDatabase) -> None:
    """Make a create with a key look for the key, then make the entity, then record the key: three transactions."""
    store = cast("Any", database)._store

    def made(once: Once | None, create: Create, find: Find, *, alone: bool) -> Made[Any]:
        del alone
        sessions = store._sessions
        found = None if once is None else store.lookup_idempotency(once.key)
        if found is not None:
            return Made(sessions.current().read(lambda session: find(session, found)), replayed=True)
        entity_id, entity = sessions.current().write(create)
        if once is not None:
            store.record_idempotency(once.key, entity_id)
        return Made(entity, replayed=False)

    vars(store)["_made"] = made


def waits_for_no_rival(database: PromptStudioDatabase) -> None:
    """Make a create with a key that comes second end in a conflict, and not in the entity of the first."""
    store = cast("Any", database)._store
    right = store._made

    def made(once: Once | None, create: Create, find: Find, *, alone: bool) -> Made[Any]:
        made: Made[Any] = right(once, create, find, alone=alone)
        if made.replayed:
            raise TransientConflict("somebody else came first")
        return made

    vars(store)["_made"] = made


def claims_in_a_transaction_of_its_own(database: PromptStudioDatabase) -> None:
    """Make a create with a key commit the claimed key before it makes the entity."""
    store = cast("Any", database)._store
    right = store._made

    def made(once: Once | None, create: Create, find: Find, *, alone: bool) -> Made[Any]:
        def create_later(session: Session) -> tuple[int, Any]:
            session.run(Statement("commit", "COMMIT"))
            session.run(store._dialect.begin_write)
            return create(session)

        made: Made[Any] = right(once, create if once is None else create_later, find, alone=alone)
        return made

    vars(store)["_made"] = made
