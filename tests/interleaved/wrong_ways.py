"""What the stores of `broken.py` do wrong: each is done to a database that is open, and changes what its calls do."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, cast

from prompt_studio import JobRow, PromptStudioDatabase, StoreUnavailable
from prompt_studio.storage.claims import Step
from prompt_studio.storage.statements import Statement
from tests.harness.broken_stores import Turn, with_turn

HELD: Final = r"lease_token = \S+ AND status = 'processing'"
RUNNING: Final = "status = 'processing'"


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


def is_current(row: JobRow, named: dict[str, Any]) -> bool:
    return row["lease_token"] == named["lease_token"] and row["status"] == "processing"


def has_not_ended(row: JobRow, _named: dict[str, Any]) -> bool:
    return row["status"] in {"queued", "processing"}


def looks_at_the_token(call: str, statement: str) -> LooksFirst:
    return LooksFirst(call, Turn(statement, HELD, RUNNING), is_current)


_RESULT_ONLY: Final = Statement(
    "result_only",
    "UPDATE prompt_studio_job_queue SET result = %(result)s, revision = revision + 1 WHERE id = %(job_id)s",
)


def keeps_the_result_of_the_late(database: PromptStudioDatabase) -> None:
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


def records_after_a_look(database: PromptStudioDatabase) -> None:
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


def unlocks_before_it_commits(database: PromptStudioDatabase) -> None:
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


def keeps_what_it_lost(database: PromptStudioDatabase) -> None:
    """A lock that was taken for a claim which then lost the row is not given back."""
    claims = _inside(database)._claims
    note = claims._note

    def noted(memory: Any, row: Any) -> None:  # noqa: ANN401 - the store's own
        if row["id"] is not None or not row["locked"]:
            note(memory, row)

    claims._note = noted


def forgets_nothing(database: PromptStudioDatabase) -> None:
    """What was given back stays in the session's map."""
    claims = _inside(database)._claims

    def give_back(job_id: int, lease_token: int) -> None:
        if claims._remembered().held.get(job_id) == lease_token:
            claims._unlock(job_id)

    claims._give_back = give_back


def unlocks_elsewhere(database: PromptStudioDatabase) -> None:
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


def gives_up_when_refused(database: PromptStudioDatabase) -> None:
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


def never_loses_patience(database: PromptStudioDatabase) -> None:
    _inside(database)._claims.patience_seconds = 10**6


# Stores that trust a session or a transaction too much.


def creates_again(database: PromptStudioDatabase) -> None:
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


def renews_in_two_steps(database: PromptStudioDatabase) -> None:
    store, renew = _inside(database), database.renew_job_lease

    def call(job_id: int, *arguments: Any, **named: Any) -> Any:  # noqa: ANN401 - as the one that it replaces
        session = store._sessions.current()
        with session.transaction():
            session.run(_SHORTER, {"job_id": job_id})
        return renew(job_id, *arguments, **named)

    vars(database)["renew_job_lease"] = call


_READ: Final = Statement("read", "SELECT id FROM prompt_studio_job_queue")


def leaves_a_transaction(database: PromptStudioDatabase) -> None:
    """A look that is no part of the call begins a transaction, which nobody ends."""
    store, complete = _inside(database), database.complete_job

    def call(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401 - as the one that it replaces
        outcome = complete(*arguments, **named)
        store._sessions.current().run(Statement("begin", "BEGIN"))
        store._sessions.current().run(_READ)
        return outcome

    vars(database)["complete_job"] = call


def begins_without_a_lock(database: PromptStudioDatabase) -> None:
    """A transaction that will write begins as one that reads: at its first write another may have the file."""
    store = _inside(database)
    store._dialect.begin_write = store._sessions.current()._begin_write = Statement("begin", "BEGIN")


def never_comes_back(database: PromptStudioDatabase) -> None:
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
