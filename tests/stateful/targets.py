"""Which calls are worth making in a state: strategies that look at the machine that runs, before they draw.

A uniform choice of arguments would spend most steps on unknown ids and live leases. Here a situation of the table is
drawn first and then a job in it, a token is drawn by what it means (current, stale, future), and time moves to where
something is about to happen, to the millisecond before it and after it.

Tens of thousands of steps make a dozen choices each, so a choice is an index drawn from a strategy that is made once:
to make a strategy costs Hypothesis more than to draw from it.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Final, Protocol, TypeVar

from hypothesis import strategies as st

from prompt_studio_model import operations as op
from prompt_studio_model.state import Job, Scope, State, Status
from prompt_studio_model.table import ABSENT, RUNNING, situation
from tests.harness.adapter import DAY, FINGERPRINTS, JOB, SECOND

WORKERS: Final = ("ann", "bob")
SESSIONS: Final = ("session 1", "session 2", "operator")
TYPES: Final = ("evaluation", "optimization", "generation")
STATUSES: Final[tuple[Status, ...]] = ("queued", "processing", "completed", "failed", "cancelled")
ENTITY_TYPES: Final = ("prompt", "project")
KEYS: Final = ("key", "Key", "k" * 255)
USERS: Final = (None, "ann", "bob")
YES_OR_NO: Final = (False, True)
ERRORS: Final = (None, "timeout", "it's 100 % \N{PILE OF POO}")
PAYLOADS: Final = ("1", "1.0", '"text"', "[1e+23, true, null]", '{"a": {"b": []}}')
RESULTS: Final = (None, *PAYLOADS)

LEASES: Final = (SECOND, 2 * SECOND, 60 * SECOND, 3_600 * SECOND)
OWNERS: Final = (None, *WORKERS)
WANTED: Final = (None, None, None, None, *(frozenset({one}) for one in TYPES), frozenset(TYPES[:2]))

spreads: Final = st.integers(500, 1_000)
_MACHINES: Final = st.runner()
_LIKELY: Final = frozenset(RUNNING.split())
"""Situations that are drawn twice as often, since most that a call can do is done there."""

Option = TypeVar("Option")


class Running(Protocol):
    """What a strategy sees of the machine that draws from it."""

    @property
    def now(self) -> State:
        """The state that store and model agree on."""

    @property
    def retention(self) -> int | None:
        """How long keys are kept, in milliseconds; None for ever."""


@cache
def _indices(count: int) -> st.SearchStrategy[int]:
    return st.integers(0, count - 1)


def pick(draw: st.DrawFn, options: Sequence[Option]) -> Option:
    """One of these; of a failure's the first that still fails."""
    return options[draw(_indices(len(options)))] if len(options) > 1 else options[0]


def _scope(draw: st.DrawFn, *entity_types: str) -> Scope:
    return Scope(pick(draw, entity_types), pick(draw, KEYS), pick(draw, USERS))


def _machine(draw: st.DrawFn) -> Running:
    running: Running = draw(_MACHINES)
    return running


@st.composite
def creations(draw: st.DrawFn) -> op.Create:
    """A job like one that is there, or not; available now, soon, or long since."""
    return op.Create(**_creation(draw))


@st.composite
def keyed_creations(draw: st.DrawFn) -> op.CreateOnce:
    """The same, once for each key; the request need not be the one that the key was used for."""
    scope, fingerprint = _scope(draw, JOB), pick(draw, FINGERPRINTS)
    return op.CreateOnce(scope=scope, fingerprint=fingerprint, **_creation(draw))


def _creation(draw: st.DrawFn) -> dict[str, Any]:
    now = _machine(draw).now.now
    later = pick(draw, (None, None, None, now + SECOND, now + 1, now - SECOND))
    entity_id, project_id, payload = pick(draw, (-1, 0, 1, 2)), pick(draw, (None, 7)), pick(draw, PAYLOADS)
    return {
        "session": pick(draw, SESSIONS),
        "job_type": pick(draw, TYPES),
        "priority": pick(draw, (5, 5, 5, 1, 10)),
        "max_retries": pick(draw, (0, 0, 1, 3)),
        "available_at": later,
        "request": (entity_id, project_id, payload, pick(draw, WORKERS)),
    }


@st.composite
def acquisitions(draw: st.DrawFn) -> op.Acquire:
    """An acquire by a named or nameless worker, of some types or all."""
    return op.Acquire(
        session=pick(draw, SESSIONS), owner=pick(draw, OWNERS), lease=pick(draw, LEASES), job_types=pick(draw, WANTED)
    )


@st.composite
def beginnings(draw: st.DrawFn) -> list[op.Create | op.Acquire]:
    """What an example begins with: a few jobs, and workers who may have got some. To an empty queue little happens."""
    created = [draw(_CREATION) for _ in range(pick(draw, (1, 2, 3)))]
    return [*created, *(draw(_ACQUISITION) for _ in range(pick(draw, (0, 1, 2))))]


_CREATION: Final = creations()
_ACQUISITION: Final = acquisitions()


@st.composite
def key_calls(draw: st.DrawFn) -> op.Lookup | op.Record | op.CleanupKeys:
    """A lookup or a record of one of few keys by one of few users, for jobs that there are or were and other things."""
    state, session = _machine(draw).now, pick(draw, SESSIONS)
    about_jobs = state.next_id > 1 and pick(draw, YES_OR_NO)
    scope = _scope(draw, JOB) if about_jobs else _scope(draw, *ENTITY_TYPES)
    call = pick(draw, ("lookup", "lookup", "record", "record", "cleanup"))
    if call == "cleanup":
        return op.CleanupKeys(session=session)
    if call == "lookup":
        return op.Lookup(session=session, scope=scope)
    ids = range(1, state.next_id if about_jobs else 4)
    return op.Record(session=session, scope=scope, entity_id=pick(draw, ids))


def _target(draw: st.DrawFn) -> tuple[int, Job | None]:
    state = _machine(draw).now
    found: dict[str, list[Job | None]] = defaultdict(list, {ABSENT: [None]})
    for row in state.jobs:
        found[situation(row, state.now)].append(row)
    names = sorted(found, key=lambda name: name == ABSENT)
    job = pick(draw, found[pick(draw, [*(name for name in names if name in _LIKELY), *names])])
    return (state.next_id + pick(draw, (0, 1)) if job is None else job.id), job


@st.composite
def targets(draw: st.DrawFn) -> tuple[int, Job | None]:
    """A job that is in a situation drawn evenly from those that occur, or an id that nobody has."""
    return _target(draw)


def _token(draw: st.DrawFn, job: Job | None) -> int:
    """A token that means something: the current one first, an older one, or one that nobody was given."""
    now = job.lease_token if job is not None else 0
    return pick(draw, [token for token in (now, now, now, now, now - 1, now + 1, 1, 2**63 - 1) if token >= 1])


def _with_token(draw: st.DrawFn, name: dict[str, Any], call: str) -> op.JobCall:
    makers: dict[str, Callable[[], op.JobCall]] = {
        "renew": lambda: op.Renew(**name, lease=pick(draw, LEASES), owner=pick(draw, OWNERS)),
        "complete": lambda: op.Complete(**name, result=pick(draw, RESULTS)),
        "fail": lambda: op.Fail(
            **name, error=pick(draw, ERRORS), spread=draw(spreads), retryable=pick(draw, YES_OR_NO)
        ),
        "release": lambda: op.Release(**name),
        "retry": lambda: op.Retry(**name, error=pick(draw, ERRORS), spread=draw(spreads)),
        "completed": lambda: op.UpdateStatus(**name, status="completed", result=pick(draw, RESULTS)),
        "failed": lambda: op.UpdateStatus(**name, status="failed", error=pick(draw, ERRORS)),
        "queued": lambda: op.UpdateStatus(**name, status="queued"),
        "cancelled": lambda: op.UpdateStatus(**name, status="cancelled"),
        "processing": lambda: op.UpdateStatus(**name, status="processing"),
    }
    return makers[call]()


@st.composite
def calls_with_token(draw: st.DrawFn) -> op.JobCall:
    """A renewal or a closing call by somebody who has, or had, or never had a lease."""
    job_id, job = _target(draw)
    name = {"session": pick(draw, SESSIONS), "job_id": job_id, "token": _token(draw, job)}
    call = pick(draw, ("renew", "complete", "fail", "release", "retry", *STATUSES))
    return _with_token(draw, name, call)


@st.composite
def calls_without_token(draw: st.DrawFn) -> op.JobCall:
    """An operator's move, an old caller's, or a call that forgot its token."""
    job_id, job = _target(draw)
    name: dict[str, Any] = {"session": pick(draw, SESSIONS), "job_id": job_id}
    call = pick(draw, ("cancel", "retry", "renew", "update", "update", "forgot"))
    if call == "cancel":
        return op.Cancel(**name, error=pick(draw, ERRORS))
    if call == "retry":
        return op.Retry(**name)
    if call == "renew":
        holder = [job.lease_owner] if job is not None and job.lease_owner in WORKERS else []
        return op.Renew(**name, lease=pick(draw, LEASES), owner=pick(draw, [*WORKERS, None, *holder]))
    if call == "forgot":
        return pick(draw, (op.Complete(**name), op.Fail(**name), op.Release(**name)))
    status = pick(draw, STATUSES)
    if status in {"queued", "processing"}:
        return op.UpdateStatus(**name, status=status, owner=pick(draw, OWNERS), lease=pick(draw, LEASES))
    return op.UpdateStatus(**name, status=status, error=pick(draw, ERRORS), result=pick(draw, RESULTS))


@st.composite
def ticks(draw: st.DrawFn) -> op.Tick:
    """Time to, or just short of, or just past, the next thing that time does."""
    machine = _machine(draw)
    state, retention = machine.now, machine.retention
    coming = [job.leased_until - state.now for job in state.jobs if job.leased_until is not None]
    coming += [job.available_at - state.now for job in state.jobs if job.status == "queued"]
    coming += [row.created_at + retention - state.now for row in state.keys if retention is not None]
    coming += [job.completed_at + DAY - state.now for job in state.jobs if job.completed_at is not None]
    near = {at + offset for at in coming for offset in (-1, 0, 1) if at + offset > 0}
    return op.Tick(milliseconds=pick(draw, [1, SECOND, *sorted(near)]))


_CALLS: Final = st.one_of(_ACQUISITION, calls_with_token(), _CREATION, keyed_creations())


@st.composite
def troubles(draw: st.DrawFn) -> op.LoseReply | op.Crash | op.Cleanup:
    """A call whose reply is lost, the end of a session, or an operator who tidies up."""
    kind = pick(draw, ("lose", "lose", "crash", "cleanup"))
    if kind == "crash":
        return op.Crash(session=pick(draw, SESSIONS))
    if kind == "cleanup":
        return op.Cleanup(age=pick(draw, (0, DAY)))
    return op.LoseReply(call=draw(_CALLS))
