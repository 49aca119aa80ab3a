"""Stores with a bug that concurrency shows, as real queues had it. Each has the scenario that must show it.

`ONE_PREEMPTION` are those that are right whenever nobody is interrupted: only an order of statements shows them.
`OTHERS` need no preemption, but a fault, a lock that somebody keeps, or the look at what a session has at the end.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, cast

from prompt_studio import JobRow, PromptStudioDatabase, StoreUnavailable
from prompt_studio.storage.claims import Step
from prompt_studio.storage.statements import Statement
from tests.harness.broken_stores import (
    BrokenStore,
    Turn,
    claims_in_a_transaction_of_its_own,
    looks_first,
    looks_up_first,
    with_turn,
)
from tests.harness.interleaving.scenario import Scenario
from tests.harness.interleaving.scenarios import SCENARIOS
from tests.harness.locations import SQLITE, WITH_LOCKS, WITHOUT_LOCKS, Location

NO_ROW_LOCK: Final = Turn("acquire_best_job", r"FOR NO KEY UPDATE SKIP LOCKED", "")
NO_GUARD: Final = Turn("acquire_best_job", r"AND \( -- impl: PS-CONCURRENCY-1.*?\n {8}\)", "")
NO_EXPIRY: Final = Turn(
    "acquire_best_job", r"\(status = 'processing' AND leased_until <= .*? -- impl: PS-CONCURRENCY-2", "(TRUE --"
)
ANY_STATUS: Final = Turn("acquire_this_job", r"AND status = 'queued' AND available_at <= prompt_studio_now\(\)", "")
_HELD: Final = r"lease_token = \S+ AND status = 'processing'"
_RUNNING: Final = "status = 'processing'"


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


def _inside(database: PromptStudioDatabase) -> Any:  # noqa: ANN401 - the store's own
    return cast("Any", database)._store


# Stores that look, and then act on what they saw.


@dataclass(frozen=True, slots=True)
class LooksFirst:
    """A call looks at the row, and if all is well does what it does without asking the row again.

    Attributes:
        call: the call's name.
        turn: its statement without the guard.
        may: whether the row allows the call, which was made with these arguments.
    """

    call: str
    turn: Turn
    may: Callable[[JobRow, dict[str, Any]], bool]

    def __call__(self, database: PromptStudioDatabase) -> None:
        dialect = _inside(database)._dialect
        guarded, method = dialect.statements, getattr(database, self.call)
        unguarded = with_turn(guarded, self.turn)

        def call(job_id: int, *arguments: Any, **named: Any) -> Any:  # noqa: ANN401 - as the one that it replaces
            row = database.get_job(job_id)
            dialect.statements = unguarded if row is not None and self.may(row, named) else guarded
            try:
                return method(job_id, *arguments, **named)
            finally:
                dialect.statements = guarded

        vars(database)[self.call] = call


def _is_current(row: JobRow, named: dict[str, Any]) -> bool:
    return row["lease_token"] == named["lease_token"] and row["status"] == "processing"


def _has_not_ended(row: JobRow, _named: dict[str, Any]) -> bool:
    return row["status"] in {"queued", "processing"}


def _looks_at_the_token(call: str, statement: str) -> LooksFirst:
    return LooksFirst(call, Turn(statement, _HELD, _RUNNING), _is_current)


_RESULT_ONLY: Final = Statement(
    "result_only",
    "UPDATE prompt_studio_job_queue SET result = %(result)s, revision = revision + 1 WHERE id = %(job_id)s",
)


def _keeps_the_result_of_the_late(database: PromptStudioDatabase) -> None:
    """Whoever has lost the lease is told so, and its result is kept all the same, since it was paid for."""
    store, complete = _inside(database), database.complete_job

    def call(job_id: int, *, lease_token: int, result: Any = None) -> Any:  # noqa: ANN401 - as the one that it replaces
        outcome = complete(job_id, lease_token=lease_token, result=result)
        if not outcome:
            session = store._sessions.current()
            with session.transaction():
                session.run(_RESULT_ONLY, {"job_id": job_id, "result": json.dumps(result)})
        return outcome

    vars(database)["complete_job"] = call


def _records_after_a_look(database: PromptStudioDatabase) -> None:
    dialect, record = _inside(database)._dialect, database.record_idempotency
    guarded = dialect.statements
    replacing = with_turn(guarded, Turn("record_key_of_user", r"WHERE known.created_at.*?(?=RETURNING)", ""))

    def call(entity_type: str, key: str, entity_id: int, user_id: str | None) -> Any:  # noqa: ANN401 - as before
        is_new = database.lookup_idempotency(entity_type, key, user_id) is None
        dialect.statements = replacing if is_new else guarded
        try:
            return record(entity_type, key, entity_id, user_id)
        finally:
            dialect.statements = guarded

    vars(database)["record_idempotency"] = call


# Stores whose advisory lock does not do what it is there for.

_LOOK: Final = Statement(
    "look", "SELECT id FROM prompt_studio_job_queue WHERE status = 'queued' ORDER BY priority DESC, created_at LIMIT 1"
)
_LOCK: Final = Statement("lock", "SELECT pg_try_advisory_lock(CAST(%(job_id)s AS BIGINT)) AS locked")
_UNLOCK: Final = Statement("unlock", "SELECT pg_advisory_unlock(CAST(%(job_id)s AS BIGINT)) AS unlocked")
_TAKEN_BLINDLY: Final = Turn("acquire_this_job", r"\s+AND status = 'queued'(\s+FOR NO KEY UPDATE)?", "")


def _unlocks_before_it_commits(database: PromptStudioDatabase) -> None:
    """The lock is the only guard, and is given back while the claim is not committed."""
    store = _inside(database)
    take = with_turn(store._dialect.statements, _TAKEN_BLINDLY)["acquire_this_job"]

    def claim(*, worker_id: str, lease_seconds: int, **_: Any) -> Any:  # noqa: ANN401 - as the one that it replaces
        session = store._sessions.current()
        with session.transaction():
            found = session.run(_LOOK)
            if not found or not session.run(_LOCK, {"job_id": found[0]["id"]})[0]["locked"]:
                return None
            lease = {"worker_id": worker_id, "lease_milliseconds": 1_000 * lease_seconds}
            nothing = {"advisory_locks": False, "held": [], "impatient": [], "refused": []}
            (row,) = session.run(take, {"job_id": found[0]["id"], **lease, **nothing})
            session.run(_UNLOCK, {"job_id": found[0]["id"]})
        return store._dialect.job(row)

    vars(database)["acquire_next_job"] = claim


def _keeps_what_it_lost(database: PromptStudioDatabase) -> None:
    """A lock that was taken for a claim which then lost the row is not given back."""
    claims = _inside(database)._claims
    note = claims._note

    def noted(memory: Any, row: Any) -> None:  # noqa: ANN401 - the store's own
        if row["id"] is not None or not row["locked"]:
            note(memory, row)

    claims._note = noted


def _forgets_nothing(database: PromptStudioDatabase) -> None:
    """What was given back stays in the session's map."""
    claims = _inside(database)._claims

    def give_back(job_id: int, lease_token: int) -> None:
        if claims._remembered().held.get(job_id) == lease_token:
            claims._unlock(job_id)

    claims._give_back = give_back


def _unlocks_elsewhere(database: PromptStudioDatabase) -> None:
    """Give locks back on whatever connection the pool has: the server says that it did not have them."""
    claims = _inside(database)._claims
    worker = claims._worker

    class Elsewhere:
        def run(self, statement: Any, *parameters: Any) -> Any:  # noqa: ANN401 - the store's own
            session = claims._sessions.current() if statement.name == "unlock_job" else worker
            return session.run(statement, *parameters)

        def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - the store's own
            return getattr(worker, name)

    claims._worker = Elsewhere()


class _Refused(Exception):
    pass


def _gives_up_when_refused(database: PromptStudioDatabase) -> None:
    """One job whose lock another has, and the queue counts as empty."""
    claims = _inside(database)._claims
    begin = claims.begin

    def begun(lease_seconds: int, parameters: Any) -> Any:  # noqa: ANN401 - the store's own
        claim = begin(lease_seconds, parameters)
        step, note = claim.step, claim._note_refusal

        def refused(row: Any) -> None:  # noqa: ANN401 - the store's own
            note(row)
            raise _Refused

        def once(*, fails_exhausted: bool) -> Step:
            try:
                taken: Step = step(fails_exhausted=fails_exhausted)
            except _Refused:
                return Step(exhausted=False)
            return taken

        claim._note_refusal, claim.step = refused, once
        return claim

    claims.begin = begun


def _never_loses_patience(database: PromptStudioDatabase) -> None:
    _inside(database)._claims.patience_seconds = 10**6


# Stores that trust a session or a transaction too much.


def _creates_again(database: PromptStudioDatabase) -> None:
    """Nobody knows whether a COMMIT was done whose answer is lost: it is taken for not done."""
    create = database.create_job

    def again(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401 - as the one that it replaces
        try:
            return create(*arguments, **named)
        except StoreUnavailable:
            return create(*arguments, **named)

    vars(database)["create_job"] = again


_SHORTER: Final = Statement(
    "shorter",
    "UPDATE prompt_studio_job_queue SET leased_until = leased_until - INTERVAL '1 ms', revision = revision + 1"
    " WHERE id = %(job_id)s AND status = 'processing'",
)


def _renews_in_two_steps(database: PromptStudioDatabase) -> None:
    store, renew = _inside(database), database.renew_job_lease

    def call(job_id: int, *arguments: Any, **named: Any) -> Any:  # noqa: ANN401 - as the one that it replaces
        session = store._sessions.current()
        with session.transaction():
            session.run(_SHORTER, {"job_id": job_id})
        return renew(job_id, *arguments, **named)

    vars(database)["renew_job_lease"] = call


_READ: Final = Statement("read", "SELECT id FROM prompt_studio_job_queue")


def _leaves_a_transaction(database: PromptStudioDatabase) -> None:
    """A look that is no part of the call begins a transaction, which nobody ends."""
    store, complete = _inside(database), database.complete_job

    def call(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401 - as the one that it replaces
        outcome = complete(*arguments, **named)
        store._sessions.current().run(Statement("begin", "BEGIN"))
        store._sessions.current().run(_READ)
        return outcome

    vars(database)["complete_job"] = call


def _begins_without_a_lock(database: PromptStudioDatabase) -> None:
    """A transaction that will write begins as one that reads: at its first write another may have the file."""
    store = _inside(database)
    store._dialect.begin_write = store._sessions.current()._begin_write = Statement("begin", "BEGIN")


def _never_comes_back(database: PromptStudioDatabase) -> None:
    """A session that was lost is lost for ever."""
    acquire, lost = database.acquire_next_job, False

    def claim(**named: Any) -> Any:  # noqa: ANN401 - as the one that it replaces
        nonlocal lost
        try:
            if not lost:
                return acquire(**named)
        except StoreUnavailable:
            lost = True
            raise
        raise StoreUnavailable("it was lost")

    vars(database)["acquire_next_job"] = claim


EARLY: Final = frozenset({"INV-NO-EARLY-RECLAIM", "INV-SINGLE-HOLDER", "conformance"})
TOKENS: Final = frozenset({"INV-SINGLE-HOLDER"})
LOCKS: Final = frozenset({"INV-LOCKS-MATCH"})
WRONG: Final = frozenset({"conformance"})
ERROR: Final = frozenset({"unexpected error"})

ONE_PREEMPTION: Final = (
    Interleaved(
        name="unlocks before it commits",
        bug="the advisory lock is released before COMMIT, and a rival's snapshot still sees the row queued",
        besides=_unlocks_before_it_commits,
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
        besides=_looks_at_the_token("renew_job_lease", "renew_lease"),
        scenario="renew, reclaim",
        location=SQLITE,
        names=TOKENS,
    ),
    Interleaved(
        name="looks at the token, and then completes",
        bug="a stale completer overwrites the work of the next holder",
        besides=_looks_at_the_token("complete_job", "complete_job"),
        scenario="complete, reclaim",
        location=WITH_LOCKS,
        names=TOKENS,
    ),
    Interleaved(
        name="looks at the token, is stopped past its lease, and completes",
        bug="a pause between the check and the write: the reason for fencing tokens",
        besides=_looks_at_the_token("complete_job", "complete_job"),
        scenario="complete, stopped past the lease",
        location=WITHOUT_LOCKS,
        names=TOKENS,
    ),
    Interleaved(
        name="looks at the token, and then fails the job",
        bug="the late failure of one attempt turns the next one's state back",
        besides=_looks_at_the_token("fail_job", "fail_or_requeue_job"),
        scenario="fail, acquire",
        location=SQLITE,
        names=TOKENS,
    ),
    Interleaved(
        name="looks at the token, and then releases",
        bug="a slot is given back twice, by a stale finisher and by the reaper",
        besides=_looks_at_the_token("release_job", "release_job"),
        scenario="release, reclaim",
        location=WITHOUT_LOCKS,
        names=TOKENS,
    ),
    Interleaved(
        name="looks at the status, and then cancels",
        bug="cancel and finish overwrite each other",
        besides=LooksFirst(
            "cancel_job", Turn("set_cancelled", r"AND status IN \('queued', 'processing'\)", ""), _has_not_ended
        ),
        scenario="cancel, complete",
        location=SQLITE,
        names=frozenset({"INV-TERMINAL-ABSORBS"}),
    ),
    Interleaved(
        name="looks for the key, and then records it",
        bug="check, then insert: both clients believe that they were first",
        besides=_records_after_a_look,
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
        besides=_keeps_what_it_lost,
        scenario="complete mine, acquire",
        location=WITH_LOCKS,
        names=LOCKS,
    ),
    Interleaved(
        name="gives up at the first job that is locked",
        bug="an empty answer of a claim that skips what is locked is taken for an empty queue",
        besides=_gives_up_when_refused,
        scenario="release mine, acquire, two jobs",
        location=WITH_LOCKS,
        names=WRONG,
    ),
    Interleaved(
        name="begins to write without the write lock",
        bug="a deferred BEGIN is upgraded at its first write, fails at once, and no busy timeout helps",
        besides=_begins_without_a_lock,
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
        besides=_unlocks_elsewhere,
        scenario="release mine, acquire",
        location=WITH_LOCKS,
        names=LOCKS,
    ),
    Interleaved(
        name="believes that it has what it gave back",
        bug="'I hold the lock' is kept in a flag that nobody resets",
        besides=_forgets_nothing,
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
        besides=_never_loses_patience,
        scenario="requeue under a lock, acquire past one's patience",
        location=WITH_LOCKS,
        names=WRONG,
    ),
    Interleaved(
        name="does not connect again",
        bug="a lost session is found out once, and every later call fails",
        besides=_never_comes_back,
        scenario="lose the session, and go on",
        location=WITHOUT_LOCKS,
        names=ERROR,
    ),
    Interleaved(
        name="creates again when it does not know",
        bug="a connection fails at COMMIT, the client tries again, and the job is there twice",
        besides=_creates_again,
        scenario="create, lose an answer, create",
        location=WITHOUT_LOCKS,
        names=WRONG,
    ),
    Interleaved(
        name="renews in two steps",
        bug="what must be one change is two, and between them the lease ends earlier than its holder was told",
        besides=_renews_in_two_steps,
        scenario="renew, complete",
        location=WITH_LOCKS,
        names=frozenset({"INV-LEASE-MONOTONE"}),
    ),
    Interleaved(
        name="leaves a transaction open",
        bug="idle in transaction: rows stay locked, and dead ones cannot be removed",
        besides=_leaves_a_transaction,
        scenario="complete, reclaim",
        location=WITHOUT_LOCKS,
        names=frozenset({"open transaction"}),
    ),
    Interleaved(
        name="keeps the result of one who has lost the lease",
        bug="the state is fenced, and the result is not: a late completer's is kept beside the next holder's state",
        besides=_keeps_the_result_of_the_late,
        scenario="complete, reclaim",
        location=WITH_LOCKS,
        names=frozenset({"INV-RESULT-FENCED"}),
    ),
    Interleaved(
        name="a completion asks for no token",
        bug="finish by id only: a stale completer overwrites the next holder's work",
        turns=(Turn("complete_job", _HELD, _RUNNING),),
        scenario="complete, reclaim",
        location=WITH_LOCKS,
        names=TOKENS,
    ),
)
BROKEN: Final = (*ONE_PREEMPTION, *OTHERS)
