"""How transitions are made by hand: rows and states before and after, and the calls in between."""

from typing import Any, Final, NamedTuple

from prompt_studio_model import operations as op
from prompt_studio_model.invariants import Transition, observe
from prompt_studio_model.state import AdvisoryLock, IdempotencyRow, Job, Refusal, Scope, Session, Settings, State
from tests.model.rows import CURRENT, NOW, ROWS

SETTINGS: Final = Settings(patience=3, retention=5, lease_limit=100)
LOCKED: Final = SETTINGS._replace(advisory_locks=True)
ANN, BOB, NOBODY = (Scope("prompt", "key", user) for user in ("ann", "bob", None))
NOTHING: Final = op.Nothing()
APPLIED: Final = op.Outcome("applied")


class Case(NamedTuple):
    """One transition, and what it is. `promise` is the id of the promise that it is made for."""

    promise: str
    what: str
    seen: Transition


def row(situation: str, **changes: Any) -> Job:  # noqa: ANN401 - any column of the row
    """The row in this situation, with some columns changed."""
    job = ROWS[situation]
    assert job is not None
    return job._replace(**changes)


def world(*jobs: Job, **rest: Any) -> State:  # noqa: ANN401 - any field of State
    """A state with these rows."""
    fields: dict[str, Any] = {"now": NOW, "next_id": 5, "jobs": jobs} | rest
    return State(**fields)


def went(
    before: State, call: op.Invocation, answer: op.Response, after: State, settings: Settings = SETTINGS
) -> Transition:
    """The transition that was observed."""
    return observe(settings, before, call, answer, after)


def job_went(before: Job, call: op.Invocation, after: Job, answer: op.Response = APPLIED) -> Transition:
    """The transition of one row."""
    return went(world(before), call, answer, world(after))


def taken(job: Job, **changes: Any) -> Job:  # noqa: ANN401 - any column of the row
    """The row after an acquire by `a`."""
    columns: dict[str, Any] = {
        "status": "processing",
        "lease_token": job.lease_token + 1,
        "executions": job.executions + 1,
        "lease_owner": "a",
        "leased_until": NOW + 60,
        "started_at": NOW,
    }
    return job._replace(**(columns | changes))


def ended(job: Job, status: Any = "completed", **changes: Any) -> Job:  # noqa: ANN401 - any status and column
    """The row after its end."""
    columns: dict[str, Any] = {"status": status, "completed_at": NOW, "lease_owner": None, "leased_until": None}
    return job._replace(**(columns | changes))


def holding(name: str, *locks: tuple[int, int]) -> Session:
    """A session that holds the locks of these jobs for the attempts with these tokens."""
    return Session(name, frozenset(AdvisoryLock(*lock) for lock in locks))


def key(scope: Scope, entity_id: int, created_at: int = NOW, fingerprint: str | None = None) -> IdempotencyRow:
    """A recorded key; with a fingerprint, one of a create."""
    return IdempotencyRow(scope, entity_id, created_at, fingerprint)


QUEUED, LIVE, EXPIRED, EXHAUSTED = row("queued"), row("live"), row("expired"), row("exhausted")
COMPLETED, FAILED, CANCELLED = row("completed"), row("failed"), row("cancelled")
SECOND: Final = QUEUED._replace(id=2)
ACQUIRE: Final = op.Acquire(session="a", owner="a", lease=60)
COMPLETE: Final = op.Complete(session="a", job_id=1, token=CURRENT, result="r")
CLOSED: Final = ended(LIVE, result="r", closed_token=CURRENT, closed_by="complete")
REQUEUED: Final = row("requeued", lease_owner=None)

REFUSED_LONG_AGO: Final = Session("a", refusals=frozenset({Refusal(1, CURRENT, NOW - 4)}))
REFUSED_JUST_NOW: Final = Session("a", refusals=frozenset({Refusal(1, CURRENT, NOW - 3)}))
WORSE: Final = QUEUED._replace(id=2, priority=4)


def acquired(before: State, job: Job, **rest: Any) -> Transition:  # noqa: ANN401 - settings
    """The acquire by which `a` got this row."""
    after = before.with_job(job)
    return went(before, ACQUIRE, op.Row(job), after, **rest)


def got_none(before: State, settings: Settings = SETTINGS) -> Transition:
    """The acquire by which `a` got nothing."""
    return went(before, ACQUIRE, op.Row(None), before, settings)


def told(before: State, call: op.Lookup | op.Record, answer: op.Response, *keys: IdempotencyRow) -> Transition:
    """A call about a key, and the keys that there are after it."""
    return went(before, call, answer, before._replace(keys=keys))


KEYED: Final = world(keys=(key(ANN, 7), key(BOB, 8, NOW - 5)))  # Bob's has just expired

JOB_KEY: Final = Scope("job", "key", "ann")
ONCE: Final = op.CreateOnce(scope=JOB_KEY, fingerprint="one")
MADE_ONCE: Final = row("queued", id=5)
MADE_KEY: Final = key(JOB_KEY, 5, fingerprint="one")
USED: Final = world(QUEUED, keys=(key(JOB_KEY, 1, fingerprint="one"),))  # the key stands for job 1


def once(answer: op.Response, *jobs: Job, keys: tuple[IdempotencyRow, ...], before: State | None = None) -> Transition:
    """A create with a key, in an empty world, and what there is after it."""
    before = before or world()
    made = max([before.next_id, *(job.id + 1 for job in jobs)])
    return went(before, ONCE, answer, before._replace(next_id=made, jobs=jobs, keys=keys))
