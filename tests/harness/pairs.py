"""Which pair of the table of outcomes a transition met, and what else a conformance run must witness.

The pairs of calls that name a job derive from the model's table. Calls that name none have no row to be in a situation;
what they can meet is listed here: operation/what they found/what they were told.
"""

from typing import Final

from prompt_studio_model import operations as op
from prompt_studio_model.idempotency import live_row
from prompt_studio_model.invariants import Transition
from prompt_studio_model.state import Scope
from prompt_studio_model.table import PAIRS, Key, pair

_NAMELESS: Final = """
    create/ready/row create/delayed/row cleanup/queue/none cleanup/queue/some
    acquire/exhausted/fresh acquire/exhausted/reclaim acquire/exhausted/none
    acquire/no_exhausted/fresh acquire/no_exhausted/reclaim acquire/no_exhausted/none
    lookup/absent_key/user lookup/live_key/user lookup/expired_key/user
    lookup/absent_key/nobody lookup/live_key/nobody lookup/expired_key/nobody
    record/absent_key/user record/live_key/user record/expired_key/user
    record/absent_key/nobody record/live_key/nobody record/expired_key/nobody
    createonce/absent_key/user createonce/expired_key/user createonce/same_request/user createonce/other_request/user
    createonce/recorded_key/user createonce/gone_job/user
    createonce/absent_key/nobody createonce/expired_key/nobody createonce/same_request/nobody
    createonce/other_request/nobody createonce/recorded_key/nobody createonce/gone_job/nobody
    cleanupkeys/keys/none cleanupkeys/keys/some
"""
NAMELESS: Final[frozenset[Key]] = frozenset(
    (operation, found, told) for operation, found, told in (text.split("/") for text in _NAMELESS.split())
)
ALL_PAIRS: Final = PAIRS | NAMELESS

Signature = tuple[Key | None, tuple[bool, ...]]
"""The pair that a transition met, if any, and what else was so."""


def signature(seen: Transition) -> Signature:
    """Return the pair with what else the state carries into it: finer than the table, for choosing what to play."""
    call = seen.invocation
    gate = _gate(seen)
    if isinstance(call, op.Create):
        newest = seen.before.next_id - 1
        return met(seen), (newest > 0 and seen.before.job(newest) is None,)  # is there an id that could come back?
    job = seen.before.job(call.job_id) if isinstance(call, op.JobCall) else None
    if job is None:
        return met(seen), gate
    row = (job.late, job.was_reclaim, job.error is not None, job.result is not None, job.retry_count > 0)
    return met(seen), (*row, *gate)


def _gate(seen: Transition) -> tuple[bool, ...]:
    """Say what the advisory locks had to do with it: nothing at all where there are none."""
    if not seen.settings.advisory_locks:
        return ()
    before, after = seen.before.session(seen.asked.session), seen.after.session(seen.asked.session)
    named = getattr(seen.asked, "job_id", None) or getattr(seen.claimed, "id", None)
    had = [lock.lease_token for lock in before.locks if lock.job_id == named]
    has = [lock.lease_token for lock in after.locks if lock.job_id == named]
    elsewhere = any(lock.job_id == named for one in seen.before.sessions if one != before for lock in one.locks)
    return bool(had), bool(has), had != has, elsewhere, after.refusals != before.refusals


def met(seen: Transition) -> Key | None:
    """Return the pair that this transition witnessed; None for what only happens to a system."""
    call, answer = seen.invocation, seen.response
    match call:
        case op.JobCall():
            return pair(call, seen.before.job(call.job_id), seen.before.now)
        case op.CreateOnce():
            return (call.operation, _request_met(seen, call), "nobody" if call.scope.user_id is None else "user")
        case op.Create():
            return (call.operation, "delayed" if (call.available_at or 0) > seen.before.now else "ready", "row")
        case op.CleanupKeys():
            return (call.operation, "keys", "none" if answer == op.Number(0) else "some")
        case op.Cleanup():
            return (call.operation, "queue", "none" if answer == op.Number(0) else "some")
        case op.Acquire():
            failed = any(old.status == "processing" and new.status == "failed" for old, new in seen.changed)
            got = seen.claimed
            told = "none" if got is None else "reclaim" if got.was_reclaim else "fresh"
            return (call.operation, "exhausted" if failed else "no_exhausted", told)
        case op.Lookup() | op.Record():
            live = live_row(seen.settings, seen.before, call.scope) is not None
            found = "live_key" if live else _no_key_met(seen, call.scope)
            return (call.operation, found, "nobody" if call.scope.user_id is None else "user")
        case _:
            return None


def _no_key_met(seen: Transition, scope: Scope) -> str:
    return "expired_key" if any(row.scope == scope for row in seen.before.keys) else "absent_key"


def _request_met(seen: Transition, call: op.CreateOnce) -> str:
    """Say what a create found under its key."""
    row = live_row(seen.settings, seen.before, call.scope)
    if row is None:
        return _no_key_met(seen, call.scope)
    if row.fingerprint not in {None, call.fingerprint}:
        return "other_request"
    if seen.before.job(row.entity_id) is None:
        return "gone_job"
    return "recorded_key" if row.fingerprint is None else "same_request"
