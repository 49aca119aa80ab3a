"""Stores that are wrong in one place, each as a real queue was: whatever judges the races must notice them.

Each is noticed by a race of free running processes.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final

from prompt_studio import JobRow, PromptStudioDatabase
from tests.harness.broken_stores import BrokenStore, Turn, looks_first, looks_up_first, waits_for_no_rival
from tests.harness.locations import SQLITE, WITH_LOCKS, WITHOUT_LOCKS, Location

BOTH: Final = (SQLITE, WITH_LOCKS)
"""One of each kind of database: the judges are the same without locks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken(BrokenStore):
    """A way to be wrong that a race shows.

    Attributes:
        race: by which it must be noticed, after at most so many rounds.
        names: the promises of which at least one must be named.
        locations: where it can be wrong in this way.
    """

    race: str
    rounds: int
    names: frozenset[str]
    locations: tuple[Location, ...] = BOTH


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


_BY_HOLDER: Final = r"lease_token = \S+ AND status = 'processing'"
_NOW: Final = r"(?:prompt_studio_now\(\)|\(SELECT now FROM clock\))"
_EXPIRED: Final = rf"status = 'processing' AND leased_until <= {_NOW}"
_KEPT: Final = r"WHERE known.created_at.*?(?=RETURNING)"

BROKEN: Final = (
    Broken(
        name="it looks for the best job, and then takes it",
        turns=(Turn("acquire_this_job", r"AND status = 'queued' AND available_at <= prompt_studio_now\(\)", ""),),
        race="one_job",
        rounds=20,
        names=frozenset({"INV-SINGLE-HOLDER"}),
        locations=(SQLITE,),
        besides=looks_first,
    ),
    Broken(
        name="it looks for the best job, and takes it under the token that it saw",
        turns=(
            Turn("acquire_this_job", r"AND status = 'queued' AND available_at <= prompt_studio_now\(\)", ""),
            Turn("acquire_this_job", r"lease_token = lease_token \+ 1", "lease_token = 1"),
            Turn("acquire_this_job", r"executions = executions \+ 1", "executions = 1"),
        ),
        race="one_job",
        rounds=20,
        names=frozenset({"INV-SINGLE-HOLDER"}),
        locations=(SQLITE,),
        besides=looks_first,
    ),
    Broken(
        name="it locks no row, thinks for a moment, and does not ask again whether the job may be taken",
        turns=(
            Turn("acquire_best_job", r"FROM candidate\n\)", "FROM candidate CROSS JOIN pg_sleep(0.003)\n)"),
            Turn("acquire_best_job", r"FOR NO KEY UPDATE SKIP LOCKED", ""),
            Turn("acquire_best_job", r"AND \( -- impl: PS-CONCURRENCY-1.*?\n {8}\)", ""),
        ),
        race="one_job",
        rounds=20,
        names=frozenset({"INV-SINGLE-HOLDER"}),
        locations=(WITHOUT_LOCKS,),
    ),
    Broken(
        name="a completion asks for no token",
        turns=(Turn("complete_job", _BY_HOLDER, "status = 'processing'"),),
        race="complete_or_reclaim",
        rounds=40,
        names=frozenset({"INV-SINGLE-HOLDER"}),
    ),
    Broken(
        name="no call asks for a token",
        turns=tuple(
            Turn(name, _BY_HOLDER, "status = 'processing'")
            for name in ("complete_job", "fail_job", "fail_or_requeue_job", "release_job", "renew_lease")
        ),
        race="zombie",
        rounds=4,
        names=frozenset({"INV-SINGLE-HOLDER"}),
    ),
    Broken(
        name="a reclaim keeps the token",
        turns=(
            Turn(
                "acquire_best_job",
                r"lease_token = lease_token \+ 1",
                "lease_token = lease_token + CASE WHEN status = 'queued' THEN 1 ELSE 0 END",
            ),
        ),
        race="reclaim",
        rounds=2,
        names=frozenset({"INV-SINGLE-HOLDER", "INV-TOKEN-GROWS"}),
    ),
    Broken(
        name="a reclaim is not counted as an execution",
        turns=(
            Turn(
                "acquire_best_job",
                r"executions = executions \+ 1",
                "executions = executions + CASE WHEN status = 'queued' THEN 1 ELSE 0 END",
            ),
        ),
        race="reclaim",
        rounds=2,
        names=frozenset({"INV-EXECUTIONS-BOUNDED"}),
    ),
    Broken(
        name="a lease does not last",
        turns=(Turn("acquire_best_job", _EXPIRED, "status = 'processing'"),),
        race="renew_or_reclaim",
        rounds=10,
        names=frozenset({"INV-NO-EARLY-RECLAIM"}),
    ),
    Broken(
        name="a dead worker's job is nobody's",
        turns=(Turn("acquire_best_job", _EXPIRED, "status = 'processing' AND id < 0"),),
        race="reclaim",
        rounds=2,
        names=frozenset({"INV-NONE-IS-EMPTY"}),
    ),
    Broken(
        name="a job is acknowledged before it is committed",
        turns=(),
        race="drain",
        rounds=1,
        names=frozenset({"INV-NOTHING-LOST"}),
        besides=_acknowledges_first,
    ),
    Broken(
        name="the lowest priority comes first",
        turns=(Turn("acquire_best_job", r"priority DESC", "priority ASC"),),
        race="drain",
        rounds=1,
        names=frozenset({"INV-CLAIM-ORDER"}),
    ),
    Broken(
        name="a renewal takes time away",
        turns=(
            Turn("renew_lease", r"leased_until = CASE.*?ELSE", "leased_until = CASE WHEN FALSE THEN leased_until ELSE"),
        ),
        race="storm",
        rounds=6,
        names=frozenset({"INV-LEASE-MONOTONE"}),
    ),
    Broken(
        name="the lowest id comes first, whenever it was made",
        turns=(Turn("acquire_best_job", r"created_at, id LIMIT", "id LIMIT"),),
        race="drain",
        rounds=1,
        names=frozenset({"INV-CLAIM-ORDER"}),
    ),
    Broken(
        name="a lease ends a millisecond too soon",
        turns=(Turn("acquire_best_job", r"AND leased_until <=", "AND leased_until - 1 <="),),
        race="reclaim",
        rounds=2,
        names=frozenset({"INV-NO-EARLY-RECLAIM"}),
        locations=(SQLITE,),
    ),
    Broken(
        name="a lease ends a thousandth of a second too soon",
        turns=(Turn("acquire_best_job", r"AND leased_until <=", "AND leased_until - INTERVAL '1 millisecond' <="),),
        race="reclaim",
        rounds=2,
        names=frozenset({"INV-NO-EARLY-RECLAIM"}),
        locations=(WITH_LOCKS,),
    ),
    Broken(
        name="a pause is not waited for",
        turns=(Turn("acquire_best_job", rf"status = 'queued' AND available_at <= {_NOW}", "status = 'queued'"),),
        race="drain",
        rounds=1,
        names=frozenset({"PS-CONCURRENCY-7"}),
    ),
    Broken(
        name="a job without an execution left is failed before its lease has ended",
        turns=(Turn("fail_best_exhausted_job", rf"{_EXPIRED}(?=\s+AND executions >= exec)", "status = 'processing'"),),
        race="storm",
        rounds=6,
        names=frozenset({"PS-CONCURRENCY-8"}),
        locations=(SQLITE,),
    ),
    Broken(
        name="a job without an execution left is failed in passing, before its lease has ended",
        turns=(
            Turn(
                "acquire_best_job",
                rf"AND leased_until <= {_NOW}(?=\s+AND \(executions < execution_limit OR)",
                "AND (executions >= execution_limit OR leased_until <= (SELECT now FROM clock))",
            ),
            Turn("acquire_best_job", rf"{_EXPIRED}(?= AND executions >= exec)", "status = 'processing'"),
        ),
        race="storm",
        rounds=6,
        names=frozenset({"PS-CONCURRENCY-8"}),
        locations=(WITH_LOCKS,),
    ),
    Broken(
        name="whoever had the job may give it back",
        turns=(Turn("release_job", _BY_HOLDER, "status = 'processing'"),),
        race="release_or_reclaim",
        rounds=40,
        names=frozenset({"INV-SINGLE-HOLDER"}),
    ),
    Broken(
        name="the last writer of a key wins",
        turns=tuple(Turn(name, _KEPT, "") for name in ("record_key_of_user", "record_key_without_user")),
        race="record",
        rounds=2,
        names=frozenset({"INV-ONE-EFFECT-PER-KEY"}),
    ),
    Broken(
        name="looks a key up, makes the entity, and records the key",
        besides=looks_up_first,
        race="create_once",
        rounds=10,
        names=frozenset({"INV-ONE-EFFECT-PER-KEY"}),
    ),
    Broken(
        name="who comes second for a key is told of a conflict",
        besides=waits_for_no_rival,
        race="create_once",
        rounds=1,
        names=frozenset({"PS-IDEMPOTENCY-PG-5"}),
    ),
    Broken(
        name="nobody locks",
        turns=(Turn("acquire_best_job", r"pg_try_advisory_lock\(id\)", "CAST(NULL AS BOOLEAN)"),),
        race="one_job",
        rounds=2,
        names=frozenset({"PS-LOCKS-1"}),
        locations=(WITH_LOCKS,),
    ),
    Broken(
        name="a lock is said to be held, and is not",
        turns=(Turn("acquire_best_job", r"pg_try_advisory_lock\(id\)", "TRUE"),),
        race="drain",
        rounds=1,
        names=frozenset({"INV-LOCKS-MATCH"}),
        locations=(WITH_LOCKS,),
    ),
    Broken(
        name="a lock that somebody has keeps nobody away",
        turns=(Turn("acquire_best_job", r"gate\.locked IS NOT FALSE OR gate\.expired", "TRUE"),),
        race="locked_job",
        rounds=2,
        names=frozenset({"PS-LOCKS-6"}),
        locations=(WITH_LOCKS,),
    ),
    Broken(
        name="nobody unlocks",
        turns=(Turn("unlock_job", r"pg_advisory_unlock\(.*\)", "TRUE"),),
        race="one_job",
        rounds=2,
        names=frozenset({"INV-LOCKS-MATCH"}),
        locations=(WITH_LOCKS,),
    ),
)
"""Known-bad stores. Their checks of the schema stay, so each is as wrong as the schema lets it be."""
