"""The life of a job: what each accepted call does to the row.

Whether a call is accepted is decided by `table` alone. Here are the effects, and the two operations that name no job:
acquire and cleanup. Everything is a function of the state and the invocation.
"""

from collections.abc import Callable
from typing import Any, Final

from prompt_studio_model import locks
from prompt_studio_model import operations as op
from prompt_studio_model.state import TERMINAL, Job, Settings, State, Status, claim_order
from prompt_studio_model.table import CLOSES, TABLE, pair

EXHAUSTED_ERROR: Final = "lease expired, attempts exhausted"


def insert(state: State, call: op.Create) -> tuple[State, Job]:
    """Insert a queued job with token 0."""
    available_at = state.now if call.available_at is None else call.available_at
    asked = (state.next_id, call.request, call.job_type, call.priority, call.max_retries)
    job = Job(*asked, state.now, available_at, call.max_retries + 1)
    return state._replace(next_id=state.next_id + 1, jobs=(*state.jobs, job)), job


def create(_: Settings, state: State, call: op.Create) -> tuple[State, op.Response]:
    """Insert a queued job, whatever there is."""
    after, job = insert(state, call)
    return after, op.Row(job)


def claim(job: Job, now: int, owner: str | None, lease: int) -> Job:
    """Return the row as a new attempt: next token, one more execution, nothing left of the last attempt."""
    reclaim = job.status == "processing"
    return job._replace(
        status="processing",
        lease_token=job.lease_token + 1,
        lease_owner=f"fresh {job.id}/{job.lease_token + 1}" if owner is None else owner,
        leased_until=now + lease,
        executions=job.executions + 1,
        retry_count=job.retry_count + reclaim,
        started_at=now,
        was_reclaim=reclaim,
        late=False,
        closed_token=None,
        closed_by=None,
        error=None,
        result=None,
    )


def end(job: Job, now: int, status: Status, **changes: Any) -> Job:  # noqa: ANN401 - any column of the row
    """Return the row in a terminal status, without a lease."""
    return job._replace(status=status, completed_at=now, lease_owner=None, leased_until=None, **changes)


def requeue(job: Job, available_at: int, **changes: Any) -> Job:  # noqa: ANN401 - any column of the row
    """Return the row in the queue, without a lease and without a start."""
    return job._replace(
        status="queued",
        available_at=available_at,
        started_at=None,
        completed_at=None,
        lease_owner=None,
        leased_until=None,
        **changes,
    )


def backoff(settings: Settings, executions: int, spread: int) -> int:
    """Return the delay of the next attempt: doubled each time, bounded, and shortened by the caller's dice."""
    doubled: int = settings.backoff_first << (executions - 1)
    return min(settings.backoff_limit, doubled) * spread // 1_000


def _renew(_: Settings, job: Job, now: int, call: op.Renew) -> Job:
    assert job.leased_until is not None
    return job._replace(leased_until=max(job.leased_until, now + call.lease), late=job.expired(now))


def _complete(_: Settings, job: Job, now: int, call: op.Complete | op.UpdateStatus) -> Job:
    return end(job, now, "completed", error=None, result=call.result)


def _fail(settings: Settings, job: Job, now: int, call: op.Fail | op.Retry) -> Job:
    if job.executions >= job.execution_limit:
        return _fail_for_good(settings, job, now, call)
    later = now + backoff(settings, job.executions, call.spread)
    return requeue(job, later, retry_count=job.retry_count + 1, error=call.error, result=None)


def _fail_for_good(_: Settings, job: Job, now: int, call: op.Fail | op.Retry | op.UpdateStatus) -> Job:
    return end(job, now, "failed", error=call.error, result=None)


def _release(_: Settings, job: Job, now: int, __: op.Release | op.UpdateStatus) -> Job:
    return requeue(job, now, executions=job.executions - 1)


def _operator_ends(_: Settings, job: Job, now: int, call: op.Cancel | op.UpdateStatus) -> Job:
    status = "cancelled" if isinstance(call, op.Cancel) else call.status
    result = job.result if isinstance(call, op.Cancel) or call.result is None else call.result
    return end(job, now, status, error=job.error if call.error is None else call.error, result=result)


def _operator_requeues(_: Settings, job: Job, now: int, __: op.Retry | op.UpdateStatus) -> Job:
    limit = max(job.execution_limit, job.executions + 1)
    revived = job.status == "failed"
    return requeue(job, now, execution_limit=limit, retry_count=job.retry_count + revived, error=None, result=None)


Effect = Callable[[Settings, Job, int, Any], Job]

# The effect of an accepted call: with the current token, and without one. None: the table accepts no such call.
EFFECTS: Final[dict[str, tuple[Effect | None, Effect | None]]] = {
    "renew": (_renew, _renew),
    "complete": (_complete, None),
    "fail": (_fail, None),
    "fail_for_good": (_fail_for_good, None),
    "release": (_release, None),
    "retry": (_fail, _operator_requeues),
    "cancel": (None, _operator_ends),
    "update_queued": (_release, _operator_requeues),
    "update_completed": (_complete, _operator_ends),
    "update_failed": (_fail_for_good, _operator_ends),
    "update_cancelled": (None, _operator_ends),
}


def _effect(settings: Settings, job: Job, now: int, call: op.JobCall) -> Job:
    """Return the row after an accepted call, with the marks that let a closing call be repeated."""
    effect = EFFECTS[call.operation][call.token is None]
    assert effect is not None, f"the table accepts {call}, which has no effect"
    changed = effect(settings, job, now, call)
    if call.token is None:
        return changed if call.operation == "renew" else changed._replace(closed_token=None, closed_by=None)
    if call.operation != "renew":
        changed = changed._replace(closed_token=call.token, closed_by=CLOSES[call.operation])
    return changed._replace(late=job.expired(now))


def change(settings: Settings, state: State, call: op.JobCall) -> tuple[State, op.Response]:
    """Decide a call that names a job by the table, and apply its effect."""
    job = state.job(call.job_id)
    decision = TABLE[pair(call, job, state.now)]
    if decision == "rejected":
        return state, op.Rejected()
    after, changed = state, job
    if job is not None and decision == "applied":
        if isinstance(call, op.UpdateStatus) and call.status == "processing":
            after, claimed = _claim_at_gate(settings, state, job, call)
            return locks.forget_stale_refusals(after), op.Row(claimed)
        changed = _effect(settings, job, state.now, call)
        after = state.with_job(changed)
    if settings.advisory_locks:
        after = _learn(after, call, job, decision)
    told = changed if decision in {"applied", "already"} else None
    if isinstance(call, op.UpdateStatus):
        return after, op.Row(told)
    late = told is not None and told.late and (call.token is not None or isinstance(call, op.Renew))
    return after, op.Outcome(decision, None if changed is None else changed.status, late, told)


def _learn(after: State, call: op.JobCall, before: Job | None, decision: str) -> State:
    """Give the lock back when the answer shows that the attempt it was taken for is over."""
    if call.token is not None:
        over = decision in {"lease_lost", "terminal", "not_found"} or call.operation in CLOSES
        after = locks.give_back(after, call.session, call.job_id, call.token) if over else after
    elif before is not None and decision == "applied" and call.operation != "renew":
        after = locks.give_back(after, call.session, call.job_id, before.lease_token)
    return locks.forget_stale_refusals(after)


def _claim_at_gate(
    settings: Settings, state: State, job: Job, call: op.Acquire | op.UpdateStatus
) -> tuple[State, Job | None]:
    """Claim one row if the advisory gate lets the session through; else remember the refusal."""
    gate = locks.gate(settings, state, call.session, job, call.lease)
    if gate == "refused":
        return locks.refuse(state, call.session, job), None
    claimed = claim(job, state.now, call.owner, call.lease)
    state = state.with_job(claimed)
    if gate == "taken":
        state = locks.hold(state, call.session, job.id, claimed.lease_token)
    return state, claimed


def acquire(settings: Settings, state: State, call: op.Acquire) -> tuple[State, op.Response]:
    """Claim the first eligible job that the gate lets through; on the way, fail the exhausted rows that are better."""
    wanted = sorted(
        (job for job in state.jobs if call.job_types is None or job.job_type in call.job_types), key=claim_order
    )
    claimed = None
    for job in wanted:
        if job.eligible(state.now):
            state, claimed = _claim_at_gate(settings, state, job, call)
            if claimed is not None:
                break
    better = (job for job in wanted if claimed is None or claim_order(job) < claim_order(claimed))
    exhausted = [job for job in better if job.exhausted(state.now)]
    for job in exhausted[: settings.exhausted_per_call]:
        state = state.with_job(end(job, state.now, "failed", error=EXHAUSTED_ERROR, closed_token=None, closed_by=None))
    return locks.forget_stale_refusals(state), op.Row(claimed)


def cleanup(_: Settings, state: State, call: op.Cleanup) -> tuple[State, op.Response]:
    """Delete terminal rows strictly older than the given age."""
    horizon = state.now - call.age
    kept = tuple(
        job
        for job in state.jobs
        if not (job.status in TERMINAL and job.completed_at is not None and job.completed_at < horizon)
    )
    return state._replace(jobs=kept), op.Number(len(state.jobs) - len(kept))
