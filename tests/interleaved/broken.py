"""Stores with a bug that concurrency shows, as real queues had it. Each has the scenario that must show it.

`ONE_PREEMPTION` are those that are right whenever nobody is interrupted: only an order of statements shows them.
`OTHERS` need no preemption, but a fault, a lock that somebody keeps, or the look at what a session has at the end.
"""

from dataclasses import dataclass
from typing import Final

from tests.harness.broken_stores import (
    BrokenStore,
    Turn,
    claims_in_a_transaction_of_its_own,
    looks_first,
    looks_up_first,
)
from tests.harness.interleaving.scenario import Scenario
from tests.harness.interleaving.scenarios import SCENARIOS
from tests.harness.locations import SQLITE, WITH_LOCKS, WITHOUT_LOCKS, Location
from tests.interleaved.wrong_ways import (
    HELD,
    RUNNING,
    LooksFirst,
    begins_without_a_lock,
    creates_again,
    forgets_nothing,
    gives_up_when_refused,
    has_not_ended,
    keeps_the_result_of_the_late,
    keeps_what_it_lost,
    leaves_a_transaction,
    looks_at_the_token,
    never_comes_back,
    never_loses_patience,
    records_after_a_look,
    renews_in_two_steps,
    unlocks_before_it_commits,
    unlocks_elsewhere,
)

NO_ROW_LOCK: Final = Turn("acquire_best_job", r"FOR NO KEY UPDATE SKIP LOCKED", "")
NO_GUARD: Final = Turn("acquire_best_job", r"AND \( -- impl: PS-CONCURRENCY-1.*?\n {8}\)", "")
NO_EXPIRY: Final = Turn(
    "acquire_best_job", r"\(status = 'processing' AND leased_until <= .*? -- impl: PS-CONCURRENCY-2", "(TRUE --"
)
ANY_STATUS: Final = Turn("acquire_this_job", r"AND status = 'queued' AND available_at <= prompt_studio_now\(\)", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Interleaved(BrokenStore):
    """A way to be wrong that concurrency shows.

    Attributes:
        bug: how other queues had it.
        scenario: in which it must be found.
        names: the promises of which at least one must be named.
        location: where.
    """

    bug: str
    scenario: str
    location: Location
    names: frozenset[str]


def scenario_of(broken: Interleaved) -> Scenario:
    """Where it must be found."""
    return next(scenario for scenario in SCENARIOS if scenario.name == broken.scenario)


EARLY: Final = frozenset({"INV-NO-EARLY-RECLAIM", "INV-SINGLE-HOLDER", "conformance"})
TOKENS: Final = frozenset({"INV-SINGLE-HOLDER"})
LOCKS: Final = frozenset({"INV-LOCKS-MATCH"})
WRONG: Final = frozenset({"conformance"})
ERROR: Final = frozenset({"unexpected error"})

ONE_PREEMPTION: Final = (
    Interleaved(
        name="unlocks before it commits",
        bug="the advisory lock is released before COMMIT, and a rival's snapshot still sees the row queued",
        besides=unlocks_before_it_commits,
        scenario="acquire, acquire",
        location=WITHOUT_LOCKS,
        names=EARLY,
    ),
    Interleaved(
        name="trusts the lock, and does not look at the row again",
        bug="the lock is the gate, and the UPDATE does not ask for the state again, so that an old snapshot passes",
        turns=(NO_ROW_LOCK, NO_GUARD),
        scenario="complete mine, acquire",
        location=WITH_LOCKS,
        names=frozenset({"INV-TERMINAL-ABSORBS", "terminal_is_completed"}),
    ),
    Interleaved(
        name="finds a row and takes it by its id",
        bug="a sub-select picks the row, the update matches its id only, and nothing is locked",
        turns=(NO_ROW_LOCK, NO_GUARD),
        scenario="acquire, acquire",
        location=WITHOUT_LOCKS,
        names=EARLY,
    ),
    Interleaved(
        name="looks for the best job, and then takes it",
        bug="SELECT, then UPDATE by id without a guard: two runners execute the same row",
        turns=(ANY_STATUS,),
        besides=looks_first,
        scenario="acquire, acquire",
        location=SQLITE,
        names=EARLY,
    ),
    Interleaved(
        name="does not ask again whether the lease is over",
        bug="a reclaim that a renewal has overtaken takes a live lease",
        turns=(NO_ROW_LOCK, NO_EXPIRY),
        scenario="renew, reclaim",
        location=WITHOUT_LOCKS,
        names=EARLY,
    ),
    Interleaved(
        name="exhaustion does not see a renewal",
        bug="a job is failed as orphaned while its worker, which was slow, renews",
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
        name="looks at the token, and then renews",
        bug="the old owner's heartbeat steals the lease back",
        besides=looks_at_the_token("renew_job_lease", "renew_lease"),
        scenario="renew, reclaim",
        location=SQLITE,
        names=TOKENS,
    ),
    Interleaved(
        name="looks at the token, and then completes",
        bug="a stale completer overwrites the work of the next holder",
        besides=looks_at_the_token("complete_job", "complete_job"),
        scenario="complete, reclaim",
        location=WITH_LOCKS,
        names=TOKENS,
    ),
    Interleaved(
        name="looks at the token, is stopped past its lease, and completes",
        bug="a pause between the check and the write: the reason for fencing tokens",
        besides=looks_at_the_token("complete_job", "complete_job"),
        scenario="complete, stopped past the lease",
        location=WITHOUT_LOCKS,
        names=TOKENS,
    ),
    Interleaved(
        name="looks at the token, and then fails the job",
        bug="the late failure of one attempt turns the next one's state back",
        besides=looks_at_the_token("fail_job", "fail_or_requeue_job"),
        scenario="fail, acquire",
        location=SQLITE,
        names=TOKENS,
    ),
    Interleaved(
        name="looks at the token, and then releases",
        bug="a slot is given back twice, by a stale finisher and by the reaper",
        besides=looks_at_the_token("release_job", "release_job"),
        scenario="release, reclaim",
        location=WITHOUT_LOCKS,
        names=TOKENS,
    ),
    Interleaved(
        name="looks at the status, and then cancels",
        bug="cancel and finish overwrite each other",
        besides=LooksFirst(
            "cancel_job", Turn("set_cancelled", r"AND status IN \('queued', 'processing'\)", ""), has_not_ended
        ),
        scenario="cancel, complete",
        location=SQLITE,
        names=frozenset({"INV-TERMINAL-ABSORBS"}),
    ),
    Interleaved(
        name="looks for the key, and then records it",
        bug="check, then insert: both clients believe that they were first",
        besides=records_after_a_look,
        scenario="record, record",
        location=WITH_LOCKS,
        names=frozenset({"INV-ONE-EFFECT-PER-KEY"}),
    ),
    Interleaved(
        name="a claimed key is committed before its job",
        bug="the key is claimed in a transaction of its own, and stands for nothing for a while, or for ever",
        besides=claims_in_a_transaction_of_its_own,
        scenario="create once, lookup",
        location=SQLITE,
        names=frozenset({"INV-ONE-EFFECT-PER-KEY"}),
    ),
    Interleaved(
        name="explains a refusal by a row that it did not lock",
        bug="the answer is made from a later read, and tells of a state that did not refuse anything",
        turns=(Turn("hold_job", "FOR NO KEY UPDATE", ""),),
        scenario="cancel, retry",
        location=WITHOUT_LOCKS,
        names=WRONG,
    ),
    Interleaved(
        name="keeps the lock of a claim that lost",
        bug="a claim locks a job, loses the row to a rival, and goes on without unlocking",
        turns=(NO_ROW_LOCK,),
        besides=keeps_what_it_lost,
        scenario="complete mine, acquire",
        location=WITH_LOCKS,
        names=LOCKS,
    ),
    Interleaved(
        name="gives up at the first job that is locked",
        bug="an empty answer of a claim that skips what is locked is taken for an empty queue",
        besides=gives_up_when_refused,
        scenario="release mine, acquire, two jobs",
        location=WITH_LOCKS,
        names=WRONG,
    ),
    Interleaved(
        name="begins to write without the write lock",
        bug="a deferred BEGIN is upgraded at its first write, fails at once, and no busy timeout helps",
        besides=begins_without_a_lock,
        scenario="acquire, acquire",
        location=SQLITE,
        names=ERROR,
    ),
)
OTHERS: Final = (
    Interleaved(
        name="looks a key up, makes the job, and records the key",
        bug="a create is made twice: each of two clients found no key",
        besides=looks_up_first,
        scenario="create once, create once",
        location=WITHOUT_LOCKS,
        names=frozenset({"INV-ONE-EFFECT-PER-KEY"}),
    ),
    Interleaved(
        name="unlocks on another connection",
        bug="the unlock runs on another pooled connection, and its false is ignored",
        besides=unlocks_elsewhere,
        scenario="release mine, acquire",
        location=WITH_LOCKS,
        names=LOCKS,
    ),
    Interleaved(
        name="believes that it has what it gave back",
        bug="'I hold the lock' is kept in a flag that nobody resets",
        besides=forgets_nothing,
        scenario="release mine, acquire",
        location=WITH_LOCKS,
        names=LOCKS,
    ),
    Interleaved(
        name="waits for the lock of an expired job",
        bug="a host dies or stands still, the server keeps its session and the lock with it: the job is stranded",
        turns=(Turn("acquire_best_job", r" OR gate\.expired", ""),),
        scenario="expire under a lock, acquire",
        location=WITH_LOCKS,
        names=WRONG,
    ),
    Interleaved(
        name="never loses patience with a lock",
        bug="a job that was put back into the queue stays locked by a session that never learns of it",
        besides=never_loses_patience,
        scenario="requeue under a lock, acquire past one's patience",
        location=WITH_LOCKS,
        names=WRONG,
    ),
    Interleaved(
        name="does not connect again",
        bug="a lost session is found out once, and every later call fails",
        besides=never_comes_back,
        scenario="lose the session, and go on",
        location=WITHOUT_LOCKS,
        names=ERROR,
    ),
    Interleaved(
        name="creates again when it does not know",
        bug="a connection fails at COMMIT, the client tries again, and the job is there twice",
        besides=creates_again,
        scenario="create, lose an answer, create",
        location=WITHOUT_LOCKS,
        names=WRONG,
    ),
    Interleaved(
        name="renews in two steps",
        bug="what must be one change is two, and between them the lease ends earlier than its holder was told",
        besides=renews_in_two_steps,
        scenario="renew, complete",
        location=WITH_LOCKS,
        names=frozenset({"INV-LEASE-MONOTONE"}),
    ),
    Interleaved(
        name="leaves a transaction open",
        bug="idle in transaction: rows stay locked, and dead ones cannot be removed",
        besides=leaves_a_transaction,
        scenario="complete, reclaim",
        location=WITHOUT_LOCKS,
        names=frozenset({"open transaction"}),
    ),
    Interleaved(
        name="keeps the result of one who has lost the lease",
        bug="the state is fenced, and the result is not: a late completer's is kept beside the next holder's state",
        besides=keeps_the_result_of_the_late,
        scenario="complete, reclaim",
        location=WITH_LOCKS,
        names=frozenset({"INV-RESULT-FENCED"}),
    ),
    Interleaved(
        name="a completion asks for no token",
        bug="finish by id only: a stale completer overwrites the next holder's work",
        turns=(Turn("complete_job", HELD, RUNNING),),
        scenario="complete, reclaim",
        location=WITH_LOCKS,
        names=TOKENS,
    ),
)
BROKEN: Final = (*ONE_PREEMPTION, *OTHERS)
