"""Which calls are worth making in a state: strategies that look at the model's state before they draw.

A uniform choice of arguments would spend most steps on unknown ids and live leases. Here a situation of the table is
drawn first and then a job in it, a token is drawn by what it means (current, stale, future), and time moves to where
something is about to happen, to the millisecond before it and after it.
"""

from collections import defaultdict
from collections.abc import Callable
from typing import Any, Final

from hypothesis import strategies as st

from prompt_studio_model import operations as op
from prompt_studio_model.state import Job, Scope, State, Status
from prompt_studio_model.table import situation
from tests.harness.adapter import DAY, FINGERPRINTS, JOB, SECOND

WORKERS: Final = ("ann", "bob")
SESSIONS: Final = ("session 1", "session 2", "operator")
TYPES: Final = ("evaluation", "optimization", "generation")
STATUSES: Final[tuple[Status, ...]] = ("queued", "processing", "completed", "failed", "cancelled")
ENTITY_TYPES: Final = ("prompt", "project")
KEYS: Final = ("key", "Key", "k" * 255)
USERS: Final = (None, "ann", "bob")
ERRORS: Final = (None, "timeout", "it's 100 % \N{PILE OF POO}")
RESULTS: Final = (None, "1", "1.0", '"text"', "[1e+23, true, null]", '{"a": {"b": []}}')

leases = st.sampled_from([SECOND, 2 * SECOND, 60 * SECOND, 3_600 * SECOND])
sessions = st.sampled_from(SESSIONS)
owners = st.sampled_from([None, *WORKERS])
job_types = st.sampled_from([None, None, *(frozenset({one}) for one in TYPES), frozenset(TYPES[:2])])
spreads = st.integers(500, 1_000)
errors = st.sampled_from(ERRORS)
results = st.sampled_from(RESULTS)
scopes = st.builds(Scope, st.sampled_from(ENTITY_TYPES), st.sampled_from(KEYS), st.sampled_from(USERS))


job_scopes = st.builds(Scope, st.just(JOB), st.sampled_from(KEYS), st.sampled_from(USERS))


@st.composite
def creations(draw: st.DrawFn, state: State) -> op.Create:
    """A job like one that is there, or not; available now, soon, or long since."""
    return op.Create(**_creation(draw, state))


@st.composite
def keyed_creations(draw: st.DrawFn, state: State) -> op.CreateOnce:
    """The same, once for each key; the request need not be the one that the key was used for."""
    scope, fingerprint = draw(job_scopes), draw(st.sampled_from(FINGERPRINTS))
    return op.CreateOnce(scope=scope, fingerprint=fingerprint, **_creation(draw, state))


def _creation(draw: st.DrawFn, state: State) -> dict[str, Any]:
    later = draw(st.sampled_from([None, None, None, state.now + SECOND, state.now + 1, state.now - SECOND]))
    payload = draw(st.sampled_from([text for text in RESULTS if text is not None]))
    entity_id, project_id = draw(st.integers(-1, 2)), draw(st.sampled_from([None, 7]))
    return {
        "session": draw(sessions),
        "job_type": draw(st.sampled_from(TYPES)),
        "priority": draw(st.sampled_from([5, 5, 5, 1, 10])),
        "max_retries": draw(st.sampled_from([0, 0, 1, 3])),
        "available_at": later,
        "request": (entity_id, project_id, payload, draw(st.sampled_from(WORKERS))),
    }


@st.composite
def acquisitions(draw: st.DrawFn) -> op.Acquire:
    """An acquire by a named or nameless worker, of some types or all."""
    return op.Acquire(session=draw(sessions), owner=draw(owners), lease=draw(leases), job_types=draw(job_types))


@st.composite
def key_calls(draw: st.DrawFn, state: State) -> op.Lookup | op.Record | op.CleanupKeys:
    """A lookup or a record of one of few keys by one of few users, for jobs that there are or were and other things."""
    session, about_jobs = draw(sessions), state.next_id > 1 and draw(st.booleans())
    scope = draw(job_scopes if about_jobs else scopes)
    call = draw(st.sampled_from(["lookup", "lookup", "record", "record", "cleanup"]))
    if call == "cleanup":
        return op.CleanupKeys(session=session)
    if call == "lookup":
        return op.Lookup(session=session, scope=scope)
    return op.Record(
        session=session, scope=scope, entity_id=draw(st.integers(1, state.next_id - 1 if about_jobs else 3))
    )


@st.composite
def targets(draw: st.DrawFn, state: State) -> tuple[int, Job | None]:
    """A job that is in a situation drawn evenly from those that occur, or an id that nobody has."""
    found: dict[str, list[Job | None]] = defaultdict(list, {"absent": [None]})
    for row in state.jobs:
        found[situation(row, state.now)].append(row)
    job = draw(st.sampled_from(found[draw(st.sampled_from(sorted(found, key=lambda name: name == "absent")))]))
    return (state.next_id + draw(st.integers(0, 1)) if job is None else job.id), job


@st.composite
def tokens(draw: st.DrawFn, job: Job | None) -> int:
    """A token that means something: the current one first, an older one, or one that nobody was given."""
    now = job.lease_token if job is not None else 0
    choices = [token for token in (now, now, now - 1, now + 1, 1, 2**63 - 1) if token >= 1]
    return draw(st.sampled_from(choices))


def _with_token(draw: st.DrawFn, name: dict[str, Any], call: str) -> op.JobCall:
    makers: dict[str, Callable[[], op.JobCall]] = {
        "renew": lambda: op.Renew(**name, lease=draw(leases), owner=draw(owners)),
        "complete": lambda: op.Complete(**name, result=draw(results)),
        "fail": lambda: op.Fail(**name, error=draw(errors), spread=draw(spreads), retryable=draw(st.booleans())),
        "release": lambda: op.Release(**name),
        "retry": lambda: op.Retry(**name, error=draw(errors), spread=draw(spreads)),
        "completed": lambda: op.UpdateStatus(**name, status="completed", result=draw(results)),
        "failed": lambda: op.UpdateStatus(**name, status="failed", error=draw(errors)),
        "queued": lambda: op.UpdateStatus(**name, status="queued"),
        "cancelled": lambda: op.UpdateStatus(**name, status="cancelled"),
        "processing": lambda: op.UpdateStatus(**name, status="processing"),
    }
    return makers[call]()


@st.composite
def calls_with_token(draw: st.DrawFn, state: State) -> op.JobCall:
    """A renewal or a closing call by somebody who has, or had, or never had a lease."""
    job_id, job = draw(targets(state))
    name = {"session": draw(sessions), "job_id": job_id, "token": draw(tokens(job))}
    call = draw(st.sampled_from(["renew", "complete", "fail", "release", "retry", *STATUSES]))
    return _with_token(draw, name, call)


@st.composite
def calls_without_token(draw: st.DrawFn, state: State) -> op.JobCall:
    """An operator's move, an old caller's, or a call that forgot its token."""
    job_id, job = draw(targets(state))
    name: dict[str, Any] = {"session": draw(sessions), "job_id": job_id}
    call = draw(st.sampled_from(["cancel", "retry", "renew", "update", "update", "forgot"]))
    if call == "cancel":
        return op.Cancel(**name, error=draw(errors))
    if call == "retry":
        return op.Retry(**name)
    if call == "renew":
        named = st.sampled_from(
            [*WORKERS, None, *([job.lease_owner] if job is not None and job.lease_owner in WORKERS else [])]
        )
        return op.Renew(**name, lease=draw(leases), owner=draw(named))
    if call == "forgot":
        return draw(st.sampled_from([op.Complete(**name), op.Fail(**name), op.Release(**name)]))
    status = draw(st.sampled_from(STATUSES))
    if status in {"queued", "processing"}:
        return op.UpdateStatus(**name, status=status, owner=draw(owners), lease=draw(leases))
    return op.UpdateStatus(**name, status=status, error=draw(errors), result=draw(results))


@st.composite
def ticks(draw: st.DrawFn, state: State, retention: int | None) -> op.Tick:
    """Time to, or just short of, or just past, the next thing that time does."""
    coming = [job.leased_until - state.now for job in state.jobs if job.leased_until is not None]
    coming += [job.available_at - state.now for job in state.jobs if job.status == "queued"]
    coming += [row.created_at + retention - state.now for row in state.keys if retention is not None]
    coming += [job.completed_at + DAY - state.now for job in state.jobs if job.completed_at is not None]
    near = {at + offset for at in coming for offset in (-1, 0, 1) if at + offset > 0}
    return op.Tick(milliseconds=draw(st.sampled_from([1, SECOND, *sorted(near)])))
