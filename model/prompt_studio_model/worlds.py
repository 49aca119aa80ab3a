"""Bounded worlds to explore: who may do what, and how far. Time is counted in ticks of 1.

Each world leaves out what another one has, since independent parts multiply: `leases` is one job under every call and
every token; `locks` adds a second session with advisory locks; `order` is a queue of unequal jobs; `keys` is idempotency.
`tiny` is a little of everything at once.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Final

from prompt_studio_model import operations as op
from prompt_studio_model import witnesses
from prompt_studio_model.checking.explore import World
from prompt_studio_model.checking.properties import Invariant
from prompt_studio_model.invariants import ALWAYS, Transition
from prompt_studio_model.state import PROCESSING, Scope, Settings, State
from prompt_studio_model.step import step
from prompt_studio_model.table import UPDATES

JobWorld = World[State, op.Invocation, op.Response, Transition]
SHORT: Final = Settings(patience=1, retention=2, lease_limit=2, backoff_first=1, backoff_limit=1)
STATUSES: Final = tuple(name.removeprefix("update_") for name in UPDATES.split())


def every_call(state: State, session: str) -> Iterator[op.Invocation]:
    """Yield every call that names a job, on every job and one that is not there, with every token that could matter."""
    for job_id in range(1, state.next_id + 1):
        job = state.job(job_id)
        name, tokens = partial(dict, session=session, job_id=job_id), range(1, (job.lease_token if job else 0) + 2)
        for token in (None, *tokens):
            yield op.Renew(**name(token=token), lease=2)
            yield op.Complete(**name(token=token), result="result")
            yield op.Fail(**name(token=token), error="error")
            yield op.Fail(**name(token=token), error="error", retryable=False)
            yield op.Release(**name(token=token))
            yield op.Retry(**name(token=token), error="error")
            yield from (op.UpdateStatus(**name(token=token), status=status, lease=1) for status in STATUSES)
        yield op.Cancel(**name(error="cancelled"))
        yield from (op.Renew(**name(owner=owner), lease=2) for owner in ("a", "b"))


def closing_calls(state: State, session: str) -> Iterator[op.Invocation]:
    """Yield the calls by which a session ends, or learns the end of, the attempts that it could know of."""
    for job in state.jobs:
        for token in range(1, job.lease_token + 1):
            yield op.Complete(session=session, job_id=job.id, token=token)
            yield op.Release(session=session, job_id=job.id, token=token)
            yield op.Renew(session=session, job_id=job.id, token=token, lease=1)
        yield op.Cancel(session=session, job_id=job.id)


def key_calls(users: Iterable[str | None], entities: Iterable[int] = (1, 2)) -> Iterator[op.Invocation]:
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
    locks: bool = False,
) -> JobWorld:
    settings = SHORT._replace(advisory_locks=locks)
    return World(
        name=name,
        initial=State(),
        actions=actions,
        successors=partial(step, settings=settings),
        within=lambda state: (
            state.now <= ticks and state.next_id <= jobs + 1 and all(job.lease_token <= tokens for job in state.jobs)
        ),
        observe=partial(Transition, settings),
        promises=(*ALWAYS, *hoped),
    )


TICK: Final = op.Tick(milliseconds=1)
CLEANUP: Final = op.Cleanup(age=0)


def leases(state: State) -> Iterator[op.Invocation]:
    """One job, one worker, every call with every token."""
    acquire = op.Acquire(session="a", owner="a", lease=1)
    yield from (TICK, CLEANUP, acquire, op.Create(max_retries=1), op.Create(max_retries=1, available_at=state.now + 1))
    yield op.LoseReply(call=acquire)
    yield from every_call(state, "a")


def locks(state: State) -> Iterator[op.Invocation]:
    """One job, two sessions that hold, refuse, lose patience and die."""
    yield from (TICK, CLEANUP, op.Create(max_retries=2))
    for session in ("a", "b"):
        acquire = op.Acquire(session=session, owner=session, lease=1)
        yield from (acquire, op.LoseReply(call=acquire), op.Crash(session=session))
        yield from closing_calls(state, session)
        yield from (op.UpdateStatus(session=session, job_id=job.id, status=PROCESSING, lease=1) for job in state.jobs)


def order(state: State) -> Iterator[op.Invocation]:
    """Three unequal jobs, claimed by workers who want one type or all."""
    yield from (TICK, op.Acquire(session="a", owner="a", lease=1))
    yield op.Acquire(session="a", lease=2, job_types=frozenset({"generation"}))
    for priority in (4, 5):
        yield from (op.Create(priority=priority, job_type=kind, max_retries=0) for kind in ("evaluation", "generation"))
    yield from (op.Release(session="a", job_id=job.id, token=1) for job in state.jobs)


def keys(_: State) -> Iterator[op.Invocation]:
    """One key, two users and nobody."""
    yield from (TICK, *key_calls(("ann", "bob", None)))


def tiny(state: State) -> Iterator[op.Invocation]:
    """A little of everything: two jobs, two sessions with locks, one key of two scopes."""
    yield from locks(state)
    yield from key_calls(("ann", None), entities=(1,))


WORLDS: Final[dict[str, JobWorld]] = {
    world.name: world
    for world in (
        _world("leases", leases, hoped=witnesses.LEASES, ticks=3, tokens=2, jobs=1),
        _world("locks", locks, hoped=witnesses.LOCKS, ticks=4, tokens=3, jobs=1, locks=True),
        _world("order", order, hoped=(witnesses.tie,), ticks=2, tokens=2, jobs=3),
        _world("keys", keys, hoped=(witnesses.two_scopes,), ticks=4),
    )
}
