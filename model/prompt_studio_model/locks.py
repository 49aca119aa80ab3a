"""Session advisory locks: a courtesy gate before a queued row, and never the authority.

Every safety property holds with `Settings.advisory_locks` off. A lock says that some session believes it runs the
job; a refusal delays a worker for at most its patience, and an expired lease is reclaimed whatever the lock says
(PS-LOCKS-3). Session locks are released by their own session only, after the state change, or die with it.
"""

from typing import Literal

from prompt_studio_model.state import AdvisoryLock, Job, Refusal, Session, Settings, State

Gate = Literal["taken", "open", "refused"]  # claim and hold the lock; claim without it; leave the row alone


def holder(state: State, job_id: int) -> str | None:
    """Return the session that holds the job's lock, or None."""
    for session in state.sessions:
        if any(lock.job_id == job_id for lock in session.locks):
            return session.name
    return None


def gate(settings: Settings, state: State, session: str, job: Job, lease: int) -> Gate:
    """Say whether the session may claim the row. Refusals count only against queued rows."""
    if not settings.advisory_locks:
        return "open"
    if holder(state, job.id) in {None, session}:
        return "taken"
    if job.status != "queued":
        return "open"
    patience = lease if settings.patience is None else settings.patience
    refused = [refusal for refusal in state.session(session).refusals if refusal[:2] == (job.id, job.lease_token)]
    return "open" if any(state.now - refusal.since > patience for refusal in refused) else "refused"


def refuse(state: State, name: str, job: Job) -> State:
    """Remember when this row was first refused to the session. Another attempt at the job has another token."""
    session = state.session(name)
    known = any(refusal[:2] == (job.id, job.lease_token) for refusal in session.refusals)
    new = frozenset() if known else frozenset({Refusal(job.id, job.lease_token, state.now)})
    return state.with_session(session._replace(refusals=session.refusals | new))


def hold(state: State, name: str, job_id: int, lease_token: int) -> State:
    """Give the session the job's lock for the attempt with this token; an older entry passes to it."""
    session = state.session(name)
    others = frozenset(lock for lock in session.locks if lock.job_id != job_id)
    return state.with_session(session._replace(locks=others | {AdvisoryLock(job_id, lease_token)}))


def give_back(state: State, name: str, job_id: int, lease_token: int) -> State:
    """Release the session's lock on the job, if it is still held for the attempt with this token (PS-LOCKS-2)."""
    session, lock = state.session(name), AdvisoryLock(job_id, lease_token)
    return state.with_session(session._replace(locks=session.locks - {lock})) if lock in session.locks else state


def forget_stale_refusals(state: State) -> State:
    """Drop memories of rows that have moved on: their (id, token) never comes back, so no answer depends on them."""
    waiting = {(job.id, job.lease_token) for job in state.jobs if job.status == "queued"}
    for session in state.sessions:
        kept = frozenset(refusal for refusal in session.refusals if refusal[:2] in waiting)
        if kept != session.refusals:
            state = state.with_session(session._replace(refusals=kept))
    return state


def end_session(state: State, name: str) -> State:
    """Drop the session with its locks. The jobs it ran go on under their leases."""
    return state.with_session(Session(name))
