"""Every promise of the queue as a named value: an id, a sentence, and a predicate over one observed transition.

A transition is *what was observed*: the state before, what was asked, what was answered, the state after. The model's
own transitions are judged by these predicates when it is explored, and a real store's when it runs in lockstep, so a
red run names the promise that was broken. The predicates say what must not happen in their own words; none of
them asks the model what it would have done, except INV-BACKENDS-AGREE, whose subject is that question.
"""

from typing import Final, NamedTuple

from prompt_studio_model import operations as op
from prompt_studio_model.checking.properties import Invariant, always
from prompt_studio_model.leases import EXHAUSTED_ERROR
from prompt_studio_model.state import TERMINAL, IdempotencyRow, Job, Scope, Settings, State
from prompt_studio_model.step import step
from prompt_studio_model.table import CLOSES


class Transition(NamedTuple):
    """One step as it was seen. After a lost reply `response` is Nothing, and `after` what the tables say."""

    settings: Settings
    before: State
    invocation: op.Invocation
    response: op.Response
    after: State
    asked: op.Invocation  # the call itself, also when its reply was lost
    changed: list[tuple[Job, Job]]  # each row that is there before and after, and differs

    @property
    def claimed(self) -> Job | None:
        """The job that an acquire returned, or None."""
        acquired = isinstance(self.invocation, op.Acquire) and isinstance(self.response, op.Row)
        return self.response.job if acquired and isinstance(self.response, op.Row) else None


def observe(
    settings: Settings, before: State, invocation: op.Invocation, response: op.Response, after: State
) -> Transition:
    """Return the transition that these observations make."""
    asked = invocation.call if isinstance(invocation, op.LoseReply) else invocation
    there = {job.id: job for job in after.jobs}
    changed = [(job, there[job.id]) for job in before.jobs if job.id in there and there[job.id] != job]
    return Transition(settings, before, invocation, response, after, asked, changed)


def _claimed(old: Job, new: Job) -> bool:
    """Say whether the row was acquired. Only an acquire moves the token."""
    return new.lease_token != old.lease_token


@always("INV-SINGLE-HOLDER", "PS-CONCURRENCY-1", "PS-CONCURRENCY-10", "PS-LEASE-HB-2")
def single_holder(seen: Transition) -> bool:
    """no call that carries a token other than the current one changes a job"""
    call = seen.asked
    if not isinstance(call, op.JobCall) or call.token is None:
        return True
    job = seen.before.job(call.job_id)
    if job is None or call.token != job.lease_token:  # and being told that it was done is as bad as doing it
        return not seen.changed and getattr(seen.response, "job", None) is None
    return all(old.id == call.job_id for old, _ in seen.changed)


@always("INV-TOKEN-GROWS", "PS-CONCURRENCY-1", "PS-CONCURRENCY-5")
def token_grows(seen: Transition) -> bool:
    """a job's token only grows, by one, on acquire; no two acquires return the same (job, token)"""
    call, answer = seen.asked, seen.response
    claims = isinstance(call, op.Acquire) or (isinstance(call, op.UpdateStatus) and call.status == "processing")
    moved = [(old, new) for old, new in seen.changed if _claimed(old, new)]
    if len(moved) > int(claims) or any(new.lease_token != old.lease_token + 1 for old, new in moved):
        return False
    told = answer.job if claims and isinstance(answer, op.Row) else None
    return told is None or told in [new for _, new in moved]


@always("INV-LEASE-FIELDS", "PS-CONCURRENCY-2", "PS-CONCURRENCY-6")
def lease_fields(seen: Transition) -> bool:
    """lease fields are set exactly while the job is processing"""
    holder = [(job.lease_owner is not None, job.leased_until is not None) for job in seen.after.jobs]
    return holder == [(job.status == "processing",) * 2 for job in seen.after.jobs]


@always("INV-TERMINAL-ABSORBS", "PS-CONCURRENCY-1", "PS-CONCURRENCY-17", "PS-CONCURRENCY-18", "PS-CONCURRENCY-19")
def terminal_absorbs(seen: Transition) -> bool:
    """completed and cancelled are left only by cleanup; failed only by an operator's retry (tokenless failed →
    queued is the same call) or cleanup
    """
    call = seen.asked
    retry = call.operation in {"retry", "update_queued"} and getattr(call, "token", None) is None
    revived = getattr(call, "job_id", None) if retry else None
    left = [(old, new) for old, new in seen.changed if old.status in TERMINAL]
    return all(old.id == revived and old.status == "failed" and new.status == "queued" for old, new in left)


def _spent(job: Job, now: int) -> bool:
    return job.leased_until is not None and job.leased_until <= now and job.executions >= job.execution_limit


@always("INV-RESULT-FENCED", "PS-CONCURRENCY-1", "PS-CONCURRENCY-8", "PS-CONCURRENCY-13")
def result_fenced(seen: Transition) -> bool:
    """a call that carries a token writes a result or error only if the token is current; tokenless calls write
    what their caller passed; the system writes only its own named errors, and clears
    """
    call = seen.asked
    for old, new in seen.changed:
        written = (new.error, new.result)
        if written in {(old.error, old.result), (None, None)}:
            continue
        if isinstance(call, op.JobCall):
            passed = (getattr(call, "error", None), getattr(call, "result", None))
            fenced = call.job_id == old.id and call.token in {None, old.lease_token}
            if not fenced or written[0] not in {passed[0], old.error} or written[1] not in {passed[1], old.result}:
                return False
        elif not isinstance(call, op.Acquire) or written != (EXHAUSTED_ERROR, None) or not _spent(old, seen.before.now):
            return False
    return True


@always("INV-LEASE-MONOTONE", "PS-CONCURRENCY-3")
def lease_monotone(seen: Transition) -> bool:
    """while processing under one token `leased_until` never decreases, and no write raises it above its clock
    reading + the longest lease
    """
    latest = seen.after.now + seen.settings.lease_limit
    for old, new in seen.changed:
        if new.leased_until is None or new.leased_until == old.leased_until:
            continue
        shortened = old.leased_until is not None and not _claimed(old, new) and new.leased_until < old.leased_until
        if shortened or new.leased_until > latest:
            return False
    return True


@always("INV-NO-EARLY-RECLAIM", "PS-CONCURRENCY-2", "PS-CONCURRENCY-4", "PS-LEASE-HB-2")
def no_early_reclaim(seen: Transition) -> bool:
    """acquire never returns a job whose lease was live throughout the call"""
    claimed = [old for old, new in seen.changed if _claimed(old, new)]
    return all(old.leased_until is None or old.leased_until <= seen.before.now for old in claimed)


def _free(seen: Transition, call: op.Acquire, job: Job) -> bool:
    """Say whether the job was eligible for this acquire and not held against it."""
    now = seen.before.now
    if call.job_types is not None and job.job_type not in call.job_types:
        return False
    if job.status == "queued":
        return job.available_at <= now and not _held_against(seen, call, job)
    return job.leased_until is not None and job.leased_until <= now and job.executions < job.execution_limit


def _held_against(seen: Transition, call: op.Acquire, job: Job) -> bool:
    """Say whether another session holds the queued row's lock, and the caller has not lost its patience over it."""
    others = [session for session in seen.before.sessions if session.name != call.session]
    if not any(lock.job_id == job.id for session in others for lock in session.locks):
        return False
    patience = call.lease if seen.settings.patience is None else seen.settings.patience
    own = seen.before.session(call.session).refusals
    since = [at for job_id, token, at in own if (job_id, token) == (job.id, job.lease_token)]
    return all(seen.before.now - at <= patience for at in since)


def _better(job: Job, than: Job) -> bool:
    return (than.priority, job.created_at, job.id) < (job.priority, than.created_at, than.id)


@always("INV-CLAIM-ORDER", "PS-CONCURRENCY-1", "PS-CONCURRENCY-7")
def claim_order(seen: Transition) -> bool:
    """acquire returns a job only if no better one was eligible and unheld throughout the call"""
    call = seen.asked
    if seen.claimed is None or not isinstance(call, op.Acquire):
        return True
    got = seen.before.job(seen.claimed.id)
    if got is None or not _free(seen, call, got):
        return False
    return not any(_free(seen, call, job) and _better(job, got) for job in seen.before.jobs)


@always("INV-NONE-IS-EMPTY", "PS-CONCURRENCY-2", "PS-CONCURRENCY-7", "PS-LOCKS-3")
def none_is_empty(seen: Transition) -> bool:
    """acquire returns None only if no job was eligible and unheld throughout the call"""
    call = seen.asked
    if not isinstance(call, op.Acquire) or seen.response != op.Row(None):
        return True
    return not any(_free(seen, call, job) for job in seen.before.jobs)


@always("INV-EXECUTIONS-BOUNDED", "PS-CONCURRENCY-2", "PS-CONCURRENCY-14", "PS-CONCURRENCY-15", "PS-CONCURRENCY-16")
def executions_bounded(seen: Transition) -> bool:
    """executions never exceed execution_limit; acquires minus releases equal executions"""
    call = seen.asked
    by_token = isinstance(call, op.UpdateStatus) and call.status == "queued" and call.token is not None
    for old, new in seen.changed:
        released = old.status == "processing" != new.status and (by_token or isinstance(call, op.Release))
        raised = new.execution_limit != old.execution_limit and getattr(call, "token", 0) is not None  # operators may
        if raised or new.executions != old.executions + _claimed(old, new) - released:
            return False
    created = all(job.executions == job.lease_token == 0 for job in seen.after.jobs if seen.before.job(job.id) is None)
    return created and all(0 <= job.executions <= job.execution_limit for job in seen.after.jobs)


@always("INV-LOCKS-MATCH", "PS-LOCKS-2", "PS-LOCKS-7", "PS-LOCKS-8")
def locks_match(seen: Transition) -> bool:
    """when quiet and every worker has learned its fate, a session's locks are a subset of its running jobs,
    each once; then, and after a closing call by the session that holds the lock, another session can take it
    """
    call = seen.invocation
    held = {(lock.job_id, session.name): lock.lease_token for session in seen.after.sessions for lock in session.locks}
    rows = {job.id: job for job in seen.after.jobs}
    ahead = [job_id for (job_id, _), token in held.items() if job_id in rows and token > rows[job_id].lease_token]
    dead = isinstance(call, op.Crash) and any(name == call.session for _, name in held)
    if ahead or dead or len({job_id for job_id, _ in held}) < len(held):
        return False
    if not isinstance(call, op.JobCall) or isinstance(seen.response, op.Rejected):
        return True
    before, over = seen.before.job(call.job_id), call.token
    if over is None and before is not None and before.status == "processing" != rows[call.job_id].status:
        over = before.lease_token  # a closing call without a token closes the attempt that ran
    told = call.token is None or call.operation in CLOSES or not seen.response  # ending it, or being told that it ended
    return over is None or not told or held.get((call.job_id, call.session)) != over


def _counting(seen: Transition, scope: Scope) -> IdempotencyRow | None:
    """Return the row that spoke for this scope, and for no other, before the call."""
    oldest = -1 if seen.settings.retention is None else seen.before.now - seen.settings.retention
    return next((row for row in seen.before.keys if row.scope == scope and row.created_at > oldest), None)


def _made_once(seen: Transition, call: op.CreateOnce, own: IdempotencyRow | None) -> bool:
    """Say whether a keyed create made row and job, both or neither, and told of them and of no other."""
    answer, there = seen.response, {row.scope: row for row in seen.after.keys}
    new = [job for job in seen.after.jobs if seen.before.job(job.id) is None]
    if own is None:
        row = there.get(call.scope)
        both = row is not None and [job.id for job in new] == [row.entity_id] and row.fingerprint == call.fingerprint
        neither = not new and seen.after.keys == seen.before.keys
        return both and answer == op.Made(new[0], created=True) if answer != op.Nothing() else both or neither
    job = seen.before.job(own.entity_id)
    right: op.Response = op.Gone() if job is None else op.Made(job, created=False)
    if own.fingerprint is not None and own.fingerprint != call.fingerprint:
        right = op.Mismatch()
    return not new and answer in {right, op.Nothing()}


@always(
    "INV-ONE-EFFECT-PER-KEY",
    "PS-IDEMPOTENCY-PG-1",
    "PS-IDEMPOTENCY-PG-2",
    "PS-IDEMPOTENCY-PG-3",
    "PS-IDEMPOTENCY-PG-5",
    "PS-IDEMPOTENCY-PG-6",
    "PS-IDEMPOTENCY-PG-7",
    "PS-IDEMPOTENCY-PG-8",
)
def one_effect_per_key(seen: Transition) -> bool:
    """within retention a scope has one idempotency row, everybody is told the same id, and idempotent creates
    made one entity
    """
    call, answer = seen.asked, seen.response
    there = {row.scope: row for row in seen.after.keys}
    live = [row for row in seen.before.keys if _counting(seen, row.scope) is not None]
    if len(there) < len(seen.after.keys) or any(there.get(row.scope) != row for row in live):
        return False
    if isinstance(call, op.CreateOnce):
        return _made_once(seen, call, _counting(seen, call.scope))
    own = _counting(seen, call.scope) if isinstance(call, op.Lookup | op.Record) else None
    if own is not None and not isinstance(answer, op.Nothing):
        return answer in {op.Number(own.entity_id), op.Recorded(own.entity_id, created=False)}
    if not isinstance(call, op.Record) or not isinstance(answer, op.Recorded):
        return True
    return call.scope in there and there[call.scope].entity_id == answer.entity_id


def _told_id(answer: op.Response) -> int | None:
    told = (
        answer.job.id if isinstance(answer, op.Made) else getattr(answer, "entity_id", getattr(answer, "value", None))
    )
    return told if isinstance(told, int) else None


@always(
    "INV-NO-CROSS-USER",
    "PS-IDEMPOTENCY-PG-5",
    "PS-IDEMPOTENCY-SCOPE-1",
    "PS-IDEMPOTENCY-SCOPE-3",
    "PS-IDEMPOTENCY-SCOPE-4",
)
def no_cross_user(seen: Transition) -> bool:
    """no answer to one user depends on another user's keys"""
    call, answer = seen.asked, seen.response
    if not isinstance(call, op.Lookup | op.Record | op.CreateOnce):
        return True
    own = _counting(seen, call.scope)
    others = [[row for row in state.keys if row.scope != call.scope] for state in (seen.before, seen.after)]
    if own is not None:
        return others[0] == others[1] and _told_id(answer) not in {row.entity_id for row in others[0]} - {own.entity_id}
    alone = op.Recorded(call.entity_id, created=True) if isinstance(call, op.Record) else op.Number(None)
    fresh = isinstance(call, op.CreateOnce) and isinstance(answer, op.Made) and seen.before.job(answer.job.id) is None
    return others[0] == others[1] and (fresh or answer in {alone, op.Nothing()})


@always("INV-NOTHING-LOST", "PS-CONCURRENCY-1", "PS-CONCURRENCY-20", "PS-CONCURRENCY-21")
def nothing_lost(seen: Transition) -> bool:
    """every job whose create was acknowledged is there exactly once, or was deleted by a cleanup that found it
    terminal and old; ids are never reused; an unacknowledged create counts 0 or 1
    """
    call, before = seen.asked, {job.id for job in seen.before.jobs}
    after = {job.id for job in seen.after.jobs}
    if len(after) < len(seen.after.jobs) or any(old[:6] != new[:6] for old, new in seen.changed):
        return False
    made = seen.response.created if isinstance(seen.response, op.Made) else type(seen.invocation) is op.Create
    if not int(made) <= len(after - before) <= int(isinstance(call, op.Create)):
        return False
    fresh = all(seen.before.next_id <= job_id < seen.after.next_id for job_id in after - before)
    horizon = seen.before.now - (call.age if isinstance(call, op.Cleanup) else 0)
    gone = [job for job in seen.before.jobs if job.id not in after]
    old = all(job.status in TERMINAL and (job.completed_at or 0) < horizon for job in gone)
    return fresh and old and seen.before.next_id <= seen.after.next_id and (isinstance(call, op.Cleanup) or not gone)


@always("INV-REPLAY-SAFE", "PS-CONCURRENCY-12", "PS-IDEMPOTENCY-PG-2", "PS-IDEMPOTENCY-PG-5")
def replay_safe(seen: Transition) -> bool:
    """repeating complete, fail, release or retry with the same token, cancel, record_idempotency or a keyed
    create changes nothing
    """
    call = seen.asked
    if isinstance(call, op.Record | op.CreateOnce):
        return _counting(seen, call.scope) is None or seen.after[2:4] == seen.before[2:4]
    if not isinstance(call, op.JobCall):
        return True
    before, after = seen.before.job(call.job_id), seen.after.job(call.job_id)
    if before is None or after is None or (call.token is None and not isinstance(call, op.Cancel)):
        return True
    marks = (call.token, CLOSES.get(call.operation))
    if marks[1] is None:
        return not isinstance(call, op.Cancel) or before.status != "cancelled" or before == after
    if (before.closed_token, before.closed_by) == marks:
        return before == after and bool(seen.response)
    return before == after or (after.closed_token, after.closed_by) == marks


@always("INV-BACKENDS-AGREE", "PS-IDEMPOTENCY-PG-1", "PS-LOCKS-1", "PS-LOCKS-4")
def backends_agree(seen: Transition) -> bool:
    """in sequential runs without foreign locks equal inputs give equal traces on both backends, ids and times
    aside
    """
    if any(session.locks for session in seen.before.sessions if session.name != seen.asked.session):
        return True
    other = seen.settings._replace(advisory_locks=not seen.settings.advisory_locks)
    return (seen.after[:4], seen.response) in [
        (state[:4], told) for state, told in step(seen.before, seen.invocation, other)
    ]


LEASE_PROMISES: Final = (single_holder, token_grows, lease_fields, terminal_absorbs, result_fenced, lease_monotone)
CLAIM_PROMISES: Final = (no_early_reclaim, claim_order, none_is_empty, executions_bounded, locks_match)
OTHER_PROMISES: Final = (one_effect_per_key, no_cross_user, nothing_lost, replay_safe, backends_agree)
ALWAYS: Final[tuple[Invariant[Transition], ...]] = (*LEASE_PROMISES, *CLAIM_PROMISES, *OTHER_PROMISES)
