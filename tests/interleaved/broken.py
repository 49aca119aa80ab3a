"""Stores with a bug that only an interleaving shows, as real queues had it. Each has the scenario that must show it."""

from dataclasses import dataclass
from typing import Any, Final, cast

from prompt_studio import PromptStudioDatabase
from tests.harness.broken_stores import (
    BrokenStore,
    Turn,
    claims_in_a_transaction_of_its_own,
    looks_first,
    looks_up_first,
)
from tests.harness.locations import SQLITE, WITH_LOCKS, WITHOUT_LOCKS, Location

NO_ROW_LOCK: Final = Turn("acquire_best_job", r"FOR NO KEY UPDATE SKIP LOCKED", "")
NO_GUARD: Final = Turn("acquire_best_job", r"AND \( -- impl: PS-CONCURRENCY-1.*?\n {8}\)", "")
NO_EXPIRY: Final = Turn(
    "acquire_best_job", r"\(status = 'processing' AND leased_until <= .*? -- impl: PS-CONCURRENCY-2", "(TRUE --"
)
ANY_STATUS: Final = Turn("acquire_this_job", r"AND status = 'queued' AND available_at <= prompt_studio_now\(\)", "")
_BY_HOLDER: Final = r"lease_token = \S+ AND status = 'processing'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Interleaved(BrokenStore):
    """A way to be wrong that an interleaving shows.

    Attributes:
        number: of the bug in other queues' trackers, as specs/verification names it.
        scenario: in which it must be found.
        names: the promises of which at least one must be named.
        location: where.
    """

    scenario: str
    location: Location
    names: frozenset[str]


def _unlocks_elsewhere(database: PromptStudioDatabase) -> None:
    """Give locks back on whatever connection the pool has: the server says that it did not have them."""
    claims: Any = cast("Any", database)._store._claims
    worker = claims._worker

    class Elsewhere:
        def run(self, statement: Any, *parameters: Any) -> Any:  # noqa: ANN401 - the store's own
            session = claims._sessions.current() if statement.name == "unlock_job" else worker
            return session.run(statement, *parameters)

        def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - the store's own
            return getattr(worker, name)

    claims._worker = Elsewhere()


TOKENS: Final = frozenset({"INV-SINGLE-HOLDER"})
EARLY: Final = frozenset({"INV-NO-EARLY-RECLAIM", "INV-SINGLE-HOLDER", "conformance"})

BROKEN: Final = (
    Interleaved(
        name="unlocks before it commits",
        turns=(
            NO_ROW_LOCK,
            NO_GUARD,
            Turn(
                "acquire_best_job", r"pg_try_advisory_lock\(id\)", "pg_try_advisory_lock(id) AND pg_advisory_unlock(id)"
            ),
        ),
        scenario="acquire, acquire",
        location=WITH_LOCKS,
        names=EARLY | {"INV-LOCKS-MATCH"},
    ),
    Interleaved(
        name="trusts the lock, and does not look at the row again",
        turns=(NO_ROW_LOCK, NO_GUARD),
        scenario="complete mine, acquire",
        location=WITH_LOCKS,
        names=frozenset({"INV-TERMINAL-ABSORBS", "terminal_is_completed"}),
    ),
    Interleaved(
        name="finds a row and takes it by its id",
        turns=(NO_ROW_LOCK, NO_GUARD),
        scenario="acquire, acquire",
        location=WITHOUT_LOCKS,
        names=EARLY,
    ),
    Interleaved(
        name="looks for the best job, and then takes it",
        turns=(ANY_STATUS,),
        besides=looks_first,
        scenario="acquire, acquire",
        location=SQLITE,
        names=EARLY,
    ),
    Interleaved(
        name="does not ask again whether the lease is over",
        turns=(NO_ROW_LOCK, NO_EXPIRY),
        scenario="renew, reclaim",
        location=WITHOUT_LOCKS,
        names=EARLY,
    ),
    Interleaved(
        name="a renewal asks for no token",
        turns=(Turn("renew_lease", _BY_HOLDER, "status = 'processing'"),),
        scenario="renew, reclaim",
        location=SQLITE,
        names=TOKENS,
    ),
    Interleaved(
        name="a completion asks for no token",
        turns=(Turn("complete_job", _BY_HOLDER, "status = 'processing'"),),
        scenario="complete, reclaim",
        location=WITH_LOCKS,
        names=TOKENS,
    ),
    Interleaved(
        name="a process that was stopped past its lease completes",
        turns=(Turn("complete_job", _BY_HOLDER, "status = 'processing'"),),
        scenario="complete, stopped past the lease",
        location=WITHOUT_LOCKS,
        names=TOKENS,
    ),
    Interleaved(
        name="a failure asks for no token",
        turns=(Turn("fail_or_requeue_job", _BY_HOLDER, "status = 'processing'"),),
        scenario="fail, acquire",
        location=SQLITE,
        names=TOKENS,
    ),
    Interleaved(
        name="a release asks for no token",
        turns=(Turn("release_job", _BY_HOLDER, "status = 'processing'"),),
        scenario="release, reclaim",
        location=WITHOUT_LOCKS,
        names=TOKENS,
    ),
    Interleaved(
        name="a completion overwrites a cancellation",
        turns=(
            Turn("complete_job", r" AND status = 'processing'", ""),
            Turn("complete_job", r"late = \(.*?\)\n", "late = FALSE\n"),
        ),
        scenario="cancel, complete",
        location=SQLITE,
        names=frozenset({"INV-TERMINAL-ABSORBS"}),
    ),
    Interleaved(
        name="the last writer of a key wins",
        turns=(Turn("record_key_of_user", r"WHERE known.created_at.*?(?=RETURNING)", ""),),
        scenario="record, record",
        location=WITH_LOCKS,
        names=frozenset({"INV-ONE-EFFECT-PER-KEY"}),
    ),
    Interleaved(
        name="looks a key up, makes the job, and records the key",
        besides=looks_up_first,
        scenario="create once, create once",
        location=WITHOUT_LOCKS,
        names=frozenset({"INV-ONE-EFFECT-PER-KEY"}),
    ),
    Interleaved(
        name="a claimed key is committed before its job",
        besides=claims_in_a_transaction_of_its_own,
        scenario="create once, lookup",
        location=SQLITE,
        names=frozenset({"INV-ONE-EFFECT-PER-KEY"}),
    ),
    Interleaved(
        name="exhaustion does not see a renewal",
        turns=(
            NO_ROW_LOCK,
            Turn(
                "acquire_best_job",
                r"AND status = 'processing' AND leased_until <= \S+ \S+ \S+ \S+ AND executions >= execution_limit",
                "",
            ),
        ),
        scenario="exhaustion, renew",
        location=WITHOUT_LOCKS,
        names=frozenset({"INV-RESULT-FENCED"}),
    ),
    Interleaved(
        name="unlocks on another connection",
        besides=_unlocks_elsewhere,
        scenario="release mine, acquire",
        location=WITH_LOCKS,
        names=frozenset({"INV-LOCKS-MATCH"}),
    ),
)
