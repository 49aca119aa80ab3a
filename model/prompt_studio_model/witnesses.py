"""What must happen at least once in a run: the guard against a model, or a test, in which nothing ever happens.

Only what the pairs of the table do not already say. Grouped by the part of the world that it needs.
"""

from typing import Final

from prompt_studio_model import operations as op
from prompt_studio_model.checking.properties import sometimes
from prompt_studio_model.invariants import Transition


def _claimed_without_lock(seen: Transition, *, reclaim: bool) -> bool:
    got = seen.claimed
    if not seen.settings.advisory_locks or got is None or got.was_reclaim != reclaim:
        return False
    return all(lock.job_id != got.id for lock in seen.after.session(seen.asked.session).locks)


@sometimes("SEEN-LATE-COMPLETION", "PS-CONCURRENCY-3")
def late_completion(seen: Transition) -> bool:
    """a completion after the expiry is accepted, because nobody reclaimed"""
    return isinstance(seen.invocation, op.Complete) and isinstance(seen.response, op.Outcome) and seen.response.late


@sometimes("SEEN-LOST-REPLY-DONE", "PS-CONCURRENCY-1")
def lost_reply_done(seen: Transition) -> bool:
    """a call whose reply was lost had taken effect"""
    return isinstance(seen.invocation, op.LoseReply) and seen.after[1:4] != seen.before[1:4]


@sometimes("SEEN-LOST-REPLY-NOT-DONE", "PS-CONCURRENCY-1")
def lost_reply_not_done(seen: Transition) -> bool:
    """a call whose reply was lost had not taken effect"""
    return isinstance(seen.invocation, op.LoseReply) and seen.after[1:4] == seen.before[1:4]


@sometimes("SEEN-TIE", "PS-CONCURRENCY-1")
def tie(seen: Transition) -> bool:
    """two jobs of one priority and one creation time are told apart by id"""
    got = seen.claimed
    rivals = (job for job in seen.before.jobs if got is not None and job.id != got.id and job.eligible(seen.before.now))
    return got is not None and any(job[3:6:2] == got[3:6:2] for job in rivals)


@sometimes("SEEN-CRASH-WITH-LOCK", "PS-LOCKS-3")
def crash_with_lock(seen: Transition) -> bool:
    """a worker dies holding an advisory lock"""
    return isinstance(seen.invocation, op.Crash) and bool(seen.before.session(seen.invocation.session).locks)


@sometimes("SEEN-LOCK-REFUSED", "PS-LOCKS-1")
def lock_refused(seen: Transition) -> bool:
    """a queued row is passed over because another session holds its lock"""
    name = seen.asked.session
    return bool(seen.after.session(name).refusals - seen.before.session(name).refusals)


@sometimes("SEEN-RECLAIM-WITHOUT-LOCK", "PS-LOCKS-3")
def reclaim_without_lock(seen: Transition) -> bool:
    """an expired job is reclaimed although its lock is held"""
    return _claimed_without_lock(seen, reclaim=True)


@sometimes("SEEN-IMPATIENT", "PS-LOCKS-3")
def impatient(seen: Transition) -> bool:
    """a worker refused for longer than its patience claims without the lock"""
    return _claimed_without_lock(seen, reclaim=False)


@sometimes("SEEN-TWO-SCOPES", "PS-IDEMPOTENCY-SCOPE-1")
def two_scopes(seen: Transition) -> bool:
    """two users record the same key for different entities"""
    call, answer = seen.invocation, seen.response
    created = isinstance(call, op.Record) and isinstance(answer, op.Recorded) and answer.created
    return created and isinstance(call, op.Record) and any(row.scope[:2] == call.scope[:2] for row in seen.before.keys)


LEASES: Final = (late_completion, lost_reply_done, lost_reply_not_done)
LOCKS: Final = (crash_with_lock, lock_refused, reclaim_without_lock, impatient)
SOMETIMES: Final = (*LEASES, tie, *LOCKS, two_scopes)
