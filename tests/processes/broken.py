"""Stores that are wrong in one place, each as a real queue was: whatever judges the races must notice them.

The wrong turn is taken in every process that opens the store, in the statements that it has loaded; the files stay as
they are. A pattern that is not found is an error, since a store that is not broken would prove nothing.
"""

import re
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, cast

from prompt_studio import JobRow, PromptStudioDatabase
from prompt_studio.storage.statements import Statement, Statements
from tests.harness.locations import SQLITE, WITH_LOCKS, WITHOUT_LOCKS, Location
from tests.harness.shared_time import SharedTime

BOTH: Final = (SQLITE, WITH_LOCKS)
"""One of each kind of database: the judges are the same without locks."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One statement, and what stands in it instead, wherever the pattern is found."""

    statement: str
    pattern: str
    instead: str


@dataclass(frozen=True, slots=True)
class Broken:
    """A way to be wrong.

    Attributes:
        name: what is wrong, in words.
        turns: what stands in the statements instead.
        race: by which it must be noticed, after at most so many rounds.
        names: the promises of which at least one must be named.
        locations: where it can be wrong in this way.
        besides: what is done to the opened database besides.
    """

    name: str
    turns: tuple[Turn, ...]
    race: str
    rounds: int
    names: frozenset[str]
    locations: tuple[Location, ...] = BOTH
    besides: Callable[[PromptStudioDatabase], None] | None = None

    def at(self, location: Location) -> Location:
        """The location with a store that is broken in this way."""
        return replace(location, name=f"{location.name}, broken", open=partial(_open, location, self))


def _open(location: Location, broken: Broken, address: str, time: SharedTime | None) -> PromptStudioDatabase:
    database = location.open(address, time)
    dialect = cast("Any", database)._store._dialect
    known = {statement.name: statement for statement in dialect.statements}
    for turn in broken.turns:
        text, found = re.subn(turn.pattern, turn.instead, known[turn.statement].sql, flags=re.DOTALL)
        if not found:
            raise LookupError(f"{broken.name}: there is no {turn.pattern!r} in {turn.statement}")
        known[turn.statement] = Statement(turn.statement, text)
    dialect.statements = Statements(known)
    if broken.besides is not None:
        broken.besides(database)
    return database


def _looks_first(database: PromptStudioDatabase) -> None:
    """Make acquire read which job is best, and take that one in a second transaction."""
    vars(database)["acquire_next_job"] = partial(_look_then_take, database)


def _acknowledges_first(database: PromptStudioDatabase) -> None:
    """Make create answer before it commits, which it then does not always do."""
    vars(database)["create_job"] = partial(_create_in_vain, database, type(database).create_job)


class _NeverCommittedError(Exception):
    pass


def _create_in_vain(
    database: PromptStudioDatabase, create: Callable[..., JobRow], *arguments: object, **named: object
) -> JobRow:
    with suppress(_NeverCommittedError), database.transaction():
        row = create(database, *arguments, **named)
        if row["entity_id"] % 10 == 0:
            raise _NeverCommittedError
    return row


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


_BY_HOLDER: Final = r"lease_token = \S+ AND status = 'processing'"
_EXPIRED: Final = r"status = 'processing' AND leased_until <= (?:prompt_studio_now\(\)|\(SELECT now FROM clock\))"
_KEPT: Final = r"WHERE known.created_at.*?(?=RETURNING)"

BROKEN: Final = (
    Broken(
        "it looks for the best job, and then takes it",
        (Turn("acquire_this_job", r"AND status = 'queued' AND available_at <= prompt_studio_now\(\)", ""),),
        "one_job",
        20,
        frozenset({"INV-SINGLE-HOLDER"}),
        (SQLITE,),
        besides=_looks_first,
    ),
    Broken(
        "it looks for the best job, and takes it under the token that it saw",
        (
            Turn("acquire_this_job", r"AND status = 'queued' AND available_at <= prompt_studio_now\(\)", ""),
            Turn("acquire_this_job", r"lease_token = lease_token \+ 1", "lease_token = 1"),
            Turn("acquire_this_job", r"executions = executions \+ 1", "executions = 1"),
        ),
        "one_job",
        20,
        frozenset({"INV-SINGLE-HOLDER"}),
        (SQLITE,),
        besides=_looks_first,
    ),
    Broken(
        "it locks no row, thinks for a moment, and does not ask again whether the job may be taken",
        (
            Turn("acquire_best_job", r"FROM candidate\n\)", "FROM candidate CROSS JOIN pg_sleep(0.003)\n)"),
            Turn("acquire_best_job", r"FOR NO KEY UPDATE SKIP LOCKED", ""),
            Turn("acquire_best_job", r"AND \( -- impl: PS-CONCURRENCY-1.*?\n {8}\)", ""),
        ),
        "one_job",
        20,
        frozenset({"INV-SINGLE-HOLDER"}),
        (WITHOUT_LOCKS,),
    ),
    Broken(
        "a completion asks for no token",
        (Turn("complete_job", _BY_HOLDER, "status = 'processing'"),),
        "complete_or_reclaim",
        40,
        frozenset({"INV-SINGLE-HOLDER"}),
    ),
    Broken(
        "no call asks for a token",
        tuple(
            Turn(name, _BY_HOLDER, "status = 'processing'")
            for name in ("complete_job", "fail_job", "fail_or_requeue_job", "release_job", "renew_lease")
        ),
        "zombie",
        4,
        frozenset({"INV-SINGLE-HOLDER"}),
    ),
    Broken(
        "a reclaim keeps the token",
        (
            Turn(
                "acquire_best_job",
                r"lease_token = lease_token \+ 1",
                "lease_token = lease_token + CASE WHEN status = 'queued' THEN 1 ELSE 0 END",
            ),
        ),
        "reclaim",
        2,
        frozenset({"INV-SINGLE-HOLDER", "INV-TOKEN-GROWS"}),
    ),
    Broken(
        "a reclaim is not counted as an execution",
        (
            Turn(
                "acquire_best_job",
                r"executions = executions \+ 1",
                "executions = executions + CASE WHEN status = 'queued' THEN 1 ELSE 0 END",
            ),
        ),
        "reclaim",
        2,
        frozenset({"INV-EXECUTIONS-BOUNDED"}),
    ),
    Broken(
        "a lease does not last",
        (Turn("acquire_best_job", _EXPIRED, "status = 'processing'"),),
        "renew_or_reclaim",
        10,
        frozenset({"INV-NO-EARLY-RECLAIM"}),
    ),
    Broken(
        "a dead worker's job is nobody's",
        (Turn("acquire_best_job", _EXPIRED, "status = 'processing' AND id < 0"),),
        "reclaim",
        2,
        frozenset({"INV-NONE-IS-EMPTY"}),
    ),
    Broken(
        "a job is acknowledged before it is committed",
        (),
        "drain",
        1,
        frozenset({"INV-NOTHING-LOST"}),
        besides=_acknowledges_first,
    ),
    Broken(
        "the lowest priority comes first",
        (Turn("acquire_best_job", r"priority DESC", "priority ASC"),),
        "drain",
        1,
        frozenset({"INV-CLAIM-ORDER"}),
    ),
    Broken(
        "a renewal takes time away",
        (Turn("renew_lease", r"leased_until = CASE.*?ELSE", "leased_until = CASE WHEN FALSE THEN leased_until ELSE"),),
        "storm",
        6,
        frozenset({"INV-LEASE-MONOTONE"}),
    ),
    Broken(
        "the last writer of a key wins",
        tuple(Turn(name, _KEPT, "") for name in ("record_key_of_user", "record_key_without_user")),
        "record",
        2,
        frozenset({"INV-ONE-EFFECT-PER-KEY"}),
    ),
    Broken(
        "nobody unlocks",
        (Turn("unlock_job", r"pg_advisory_unlock\(.*\)", "TRUE"),),
        "one_job",
        2,
        frozenset({"INV-LOCKS-MATCH"}),
        (WITH_LOCKS,),
    ),
)
"""Known-bad stores. Their checks of the schema stay, so each is as wrong as the schema lets it be."""
