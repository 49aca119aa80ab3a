"""Small worlds beside those of the model, for what they leave out: beats of two lengths, other lost replies, ids."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import Final

from prompt_studio_model import operations as op
from prompt_studio_model.invariants import ALWAYS, observe
from prompt_studio_model.state import Scope, Settings, State
from prompt_studio_model.step import step
from prompt_studio_model.worlds import TICK, WORLDS, JobWorld

KEY: Final = Scope("prompt", "key", None)
SHORT: Final = Settings(lease_limit=2, backoff_first=1, backoff_limit=1, exhausted_per_call=1)


def _world(
    name: str, actions: Callable[[State], Iterable[op.Invocation]], *, ticks: int, jobs: int, tokens: int = 1
) -> JobWorld:
    def within(state: State) -> bool:
        return state.now <= ticks and state.next_id <= jobs + 1 and all(job.lease_token <= tokens for job in state.jobs)

    return replace(
        WORLDS["leases"],
        name=name,
        actions=actions,
        within=within,
        successors=partial(step, settings=SHORT),
        observe=partial(observe, SHORT),
        promises=ALWAYS,
    )


def beats(_: State) -> Iterator[op.Invocation]:
    """One job, renewed for a longer and for a shorter time."""
    yield from (TICK, op.Create(max_retries=0), op.Acquire(session="a", owner="a", lease=1))
    yield from (op.Renew(session="a", job_id=1, token=1, lease=lease) for lease in (1, 2))
    yield from (op.Renew(session="a", job_id=1, owner="a", lease=lease) for lease in (1, 2))


def unacknowledged(state: State) -> Iterator[op.Invocation]:
    """Two jobs and a key, and any reply may be lost."""
    calls: list[op.Invocation] = [op.Create(max_retries=0), op.Acquire(session="a", owner="a", lease=1)]
    calls += [op.Cleanup(age=0), op.Record(scope=KEY, entity_id=len(state.jobs))]
    calls += [op.Cancel(job_id=job.id) for job in state.jobs]
    yield TICK
    for call in calls:
        yield from (call, op.LoseReply(session=call.session, call=call))


def spent(_: State) -> Iterator[op.Invocation]:
    """Three jobs with one execution each, of which one call may fail one."""
    yield from (TICK, op.Acquire(session="a", owner="a", lease=1))
    yield from (op.Create(max_retries=0, priority=priority) for priority in (4, 5))


EXTRA_WORLDS: Final[dict[str, JobWorld]] = {
    world.name: world
    for world in (
        _world("beats", beats, ticks=3, jobs=1),
        _world("unacknowledged", unacknowledged, ticks=1, jobs=2),
        _world("spent", spent, ticks=2, jobs=3),
    )
}
