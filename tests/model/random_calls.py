"""Hypothesis strategies: calls that may meet each other, and worlds in which they do.

`test_properties` checks that these runs get somewhere: a property of runs in which nothing happens is none.
"""

from dataclasses import replace
from typing import Any, Final

from hypothesis import strategies as st

from prompt_studio_model import operations as op
from prompt_studio_model.state import Scope, Settings, State, Status

SESSIONS: Final = st.sampled_from(["a", "b", "c"])
OWNERS: Final = st.sampled_from([None, "a", "b"])
JOB_IDS: Final = st.sampled_from([1, 1, 1, 2, 2, 9])
TOKENS: Final = st.sampled_from([None, None, 0, 0, 0, -1, 1])
LEASES: Final = st.integers(1, 4)
TYPES: Final = st.sampled_from(["evaluation", "evaluation", "generation"])
TEXTS: Final = st.sampled_from([None, "x", "y"])
SPREADS: Final = st.integers(500, 1_000)
SCOPES: Final = st.builds(
    Scope, st.sampled_from(["prompt", "job"]), st.sampled_from(["k", "l"]), st.sampled_from([None, "ann", "bob"])
)
STATUSES: Final[st.SearchStrategy[Status]] = st.sampled_from(
    ["queued", "processing", "completed", "failed", "cancelled"]
)
SETTINGS: Final = st.builds(
    Settings,
    advisory_locks=st.booleans(),
    patience=st.none() | st.integers(0, 3),
    retention=st.none() | st.integers(1, 4),
    exhausted_per_call=st.integers(1, 3),
    lease_limit=st.just(4),
    backoff_first=st.integers(0, 2),
    backoff_limit=st.integers(0, 4),
)

_NAMED: Final = {"session": SESSIONS, "job_id": JOB_IDS, "token": TOKENS, "owner": OWNERS}
JOB_CALLS: Final[st.SearchStrategy[op.JobCall]] = st.one_of(
    st.builds(op.Renew, lease=LEASES, **_NAMED),
    st.builds(op.Complete, result=TEXTS, **_NAMED),
    st.builds(op.Fail, error=TEXTS, retryable=st.booleans(), spread=SPREADS, **_NAMED),
    st.builds(op.Release, **_NAMED),
    st.builds(op.Retry, error=TEXTS, spread=SPREADS, **_NAMED),
    st.builds(op.Cancel, session=SESSIONS, job_id=JOB_IDS, error=TEXTS),
    st.builds(op.UpdateStatus, status=STATUSES, lease=LEASES, **_NAMED),
)
ACQUIRES: Final = st.builds(
    op.Acquire, session=SESSIONS, owner=OWNERS, lease=LEASES, job_types=st.none() | st.frozensets(TYPES, min_size=1)
)
CREATES: Final = st.builds(
    op.Create,
    job_type=TYPES,
    priority=st.integers(4, 6),
    max_retries=st.integers(0, 2),
    available_at=st.none() | st.integers(0, 6),
    request=TEXTS,
)
CREATES_ONCE: Final = st.builds(
    op.CreateOnce,
    job_type=TYPES,
    max_retries=st.integers(0, 2),
    scope=SCOPES,
    fingerprint=st.sampled_from(["one", "two"]),
    request=TEXTS,
)
OTHER_CALLS: Final[st.SearchStrategy[op.Invocation]] = st.one_of(
    st.builds(op.Cleanup, age=st.integers(0, 2)),
    st.builds(op.CleanupKeys),
    CREATES_ONCE,
    st.builds(op.Lookup, scope=SCOPES),
    st.builds(op.Record, scope=SCOPES, entity_id=st.integers(1, 2)),
)


def _one_of(*strategies: st.SearchStrategy[op.Invocation]) -> st.SearchStrategy[op.Invocation]:
    """Draw from each equally often, also where one is itself a choice: `st.one_of` would flatten it."""
    return st.integers(0, len(strategies) - 1).flatmap(strategies.__getitem__)


CALLS: Final = _one_of(ACQUIRES, JOB_CALLS, JOB_CALLS, CREATES, OTHER_CALLS)
TICKS: Final = st.builds(op.Tick, milliseconds=st.integers(1, 3))
CRASHES: Final = st.builds(op.Crash, session=SESSIONS)
LOST: Final = st.builds(lambda call: op.LoseReply(session=call.session, call=call), CALLS)
INVOCATIONS: Final = _one_of(ACQUIRES, JOB_CALLS, TICKS, ACQUIRES, JOB_CALLS, TICKS, CALLS, CRASHES, LOST)

# A run that begins with an empty queue mostly ends with one: so jobs come first, and then enough for them to live.
RUNS: Final[st.SearchStrategy[list[op.Invocation]]] = st.builds(
    lambda creates, run: [*creates, *run],
    st.lists(CREATES, min_size=1, max_size=3),
    st.lists(INVOCATIONS, min_size=10, max_size=30),
)


def aimed(state: State, call: op.Invocation) -> Any:  # noqa: ANN401 - the same class of call
    """Return the call with a job and a token that mean something in this state.

    The token is drawn as a distance from the row's, and the job as a place among the rows; beyond them there is none.
    """
    if isinstance(call, op.LoseReply):
        return replace(call, call=aimed(state, call.call))
    if not isinstance(call, op.JobCall):
        return call
    there = dict(enumerate(((job.id, job.lease_token) for job in state.jobs), start=1))
    job_id, newest = there.get(call.job_id, (call.job_id, 1))
    return replace(call, job_id=job_id, token=None if call.token is None else max(1, newest + call.token))
