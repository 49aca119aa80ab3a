"""Bounded worlds to explore: who may do what, and how far. Time is counted in ticks of 1.

Each world leaves out what another one has, since independent parts multiply: `leases` is one job under every call and
every token; `locks` adds a second session with advisory locks; `order` is a queue of unequal jobs; `keys` is
idempotency, and `creates` what is made once for each key. `tiny` is a little of everything at once.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, Final

from prompt_studio_model import operations as op
from prompt_studio_model import witnesses
from prompt_studio_model.checking.explore import World
from prompt_studio_model.checking.properties import Invariant
from prompt_studio_model.invariants import ALWAYS, Transition, observe
from prompt_studio_model.state import Scope, Settings, State, Status
from prompt_studio_model.step import step

JobWorld = World[State, op.Invocation, op.Response, Transition]
SHORT: Final = Settings(patience=1, retention=2, lease_limit=2, backoff_first=1, backoff_limit=1)
SHORT_LOCKS: Final = SHORT._replace(advisory_locks=True)
QUICK: Final = SHORT_LOCKS._replace(patience=0, retention=1, backoff_first=0)
STATUSES: Final[tuple[Status, ...]] = ("queued", "processing", "completed", "failed", "cancelled")


def every_call(state: State, session: str) -> Iterator[op.Invocation]:
    """Yield every call that names a job, on every job and one that is not there, with every token that could matter."""
    for job_id in range(1, state.next_id + 1):
        job = state.job(job_id)
        for token in (None, *range(1, (job.lease_token if job else 0) + 2)):
            name: Any = {"session": session, "job_id": job_id, "token": token}
            yield from (op.Renew(**name, lease=2), op.Complete(**name, result='"result"'), op.Release(**name))
            yield from (op.Fail(**name, error="error", retryable=retryable) for retryable in (True, False))
            yield op.Retry(**name, error="error")
            yield from (op.UpdateStatus(**name, status=status, lease=1) for status in STATUSES)
        yield op.Cancel(session=session, job_id=job_id, error="cancelled")
        yield from (op.Renew(session=session, job_id=job_id, owner=owner, lease=1) for owner in ("a", "b"))


def closing_calls(state: State, session: str) -> Iterator[op.Invocation]:
    """Yield calls by which a session ends, or learns the end of, the attempts that it could know of."""
    for job in state.jobs:
        for token in range(1, job.lease_token + 1):
            name: Any = {"session": session, "job_id": job.id, "token": token}
            yield from (op.Complete(**name), op.Release(**name), op.Renew(**name, lease=1))
        yield op.Cancel(session=session, job_id=job.id)
        yield op.UpdateStatus(session=session, job_id=job.id, status="processing", lease=1)


def key_calls(users: Iterable[str | None], entities: Iterable[int]) -> Iterator[op.Invocation]:
    """Yield lookups and records of one key by each user, for each entity."""
    for scope in (Scope("prompt", "key", user) for user in users):
        yield op.Lookup(scope=scope)
        yield from (op.Record(scope=scope, entity_id=entity) for entity in entities)


def _world(  # noqa: PLR0913 - a world is its bounds
    name: str,
    actions: Callable[[State], Iterable[op.Invocation]],
    *,
    hoped: tuple[Invariant[Transition], ...],
    ticks: int,
    tokens: int = 0,
    jobs: int = 0,
    settings: Settings = SHORT,
) -> JobWorld:
    def within(state: State) -> bool:
        return state.now <= ticks and state.next_id <= jobs + 1 and all(job.lease_token <= tokens for job in state.jobs)

    return World(
        name=name,
        initial=State(),
        actions=actions,
        successors=partial(step, settings=settings),
        within=within,
        observe=partial(observe, settings),
        promises=(*ALWAYS, *hoped),
    )


TICK: Final = op.Tick(milliseconds=1)


def leases(state: State) -> Iterator[op.Invocation]:
    """One job, one worker, every call with every token."""
    acquire = op.Acquire(session="a", owner="a", lease=1)
    yield from (TICK, acquire, op.LoseReply(call=acquire), op.Cleanup(age=0))
    yield from (op.Create(max_retries=1, available_at=at) for at in (None, state.now + 1))
    yield from every_call(state, "a")


def locks(state: State) -> Iterator[op.Invocation]:
    """One job, two sessions that hold, refuse, lose patience and die."""
    yield from (TICK, op.Create(max_retries=2), op.Cleanup(age=0))
    for session in ("a", "b"):
        acquire = op.Acquire(session=session, owner=session, lease=1)
        yield from (acquire, op.LoseReply(session=session, call=acquire), op.Crash(session=session))
        yield from closing_calls(state, session)


def order(_: State) -> Iterator[op.Invocation]:
    """Unequal jobs, claimed by workers who want one type or all."""
    yield from (TICK, op.Acquire(session="a", owner="a", lease=1))
    yield op.Acquire(session="a", lease=2, job_types=frozenset({"generation"}))
    yield from (op.Create(priority=4, job_type=kind, max_retries=1) for kind in ("evaluation", "generation"))
    yield op.Create(priority=5, max_retries=0)


def keys(_: State) -> Iterator[op.Invocation]:
    """One key, two users and nobody."""
    yield from (TICK, op.CleanupKeys(), *key_calls(("ann", "bob", None), entities=(1, 2)))


def creates(state: State) -> Iterator[op.Invocation]:
    """Jobs that are made once for each key, of a user and of nobody, or recorded by hand; the first may be deleted."""
    yield from (TICK, op.CleanupKeys(), op.Cleanup(age=0), op.Cancel(job_id=1))
    for scope in (Scope("job", "key", user) for user in ("ann", None)):
        yield op.Lookup(scope=scope)
        for fingerprint in ("one", "two"):
            create = op.CreateOnce(scope=scope, fingerprint=fingerprint)
            yield from (create, op.LoseReply(call=create))
        if state.next_id > 1:
            yield op.Record(scope=scope, entity_id=1)


def tiny(state: State) -> Iterator[op.Invocation]:
    """A little of everything: two sessions with locks end job 1 while job 2 waits; one key of a user and of nobody."""
    yield TICK
    if state.now == 0:
        yield op.Create(max_retries=1)
        yield from key_calls(("ann", None) if state.keys else ("ann",), entities=(1,))
    yield from (op.Acquire(session=session, owner=session, lease=1) for session in ("a", "b"))
    yield op.Crash(session="a")
    for token in range(1, state.jobs[0].lease_token + 1 if state.jobs else 1):
        name: Any = {"job_id": 1, "token": token}
        yield from (op.Complete(**name, session="a"), op.Renew(**name, session="a", lease=1))
        yield from (op.Fail(**name, session="b"), op.LoseReply(call=op.Complete(**name, session="b")))


WORLDS: Final[dict[str, JobWorld]] = {
    world.name: world
    for world in (
        _world("tiny", tiny, hoped=witnesses.SOMETIMES, ticks=2, tokens=2, jobs=2, settings=QUICK),
        _world("leases", leases, hoped=witnesses.LEASES, ticks=2, tokens=2, jobs=1),
        _world("locks", locks, hoped=witnesses.LOCKS, ticks=3, tokens=2, jobs=1, settings=SHORT_LOCKS),
        _world("order", order, hoped=(witnesses.tie,), ticks=1, tokens=2, jobs=3),
        _world("keys", keys, hoped=(witnesses.two_scopes,), ticks=4),
        _world("creates", creates, hoped=(), ticks=3, jobs=3),
    )
}
