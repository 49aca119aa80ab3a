"""The only dispatcher: one state and one invocation give every (state, response) that is allowed.

A call has exactly one outcome. A call whose reply is lost has up to two, since it may have taken effect or not.
Pure: the same arguments give the same pairs in the same order, and nothing is changed in place.
"""

from collections.abc import Callable
from typing import Any, Final

from prompt_studio_model import environment, idempotency, leases
from prompt_studio_model import operations as op
from prompt_studio_model.state import Settings, State

Allowed = tuple[tuple[State, op.Response], ...]
DEFAULT: Final = Settings()

HANDLERS: Final[dict[type[op.Invocation], Callable[[Settings, State, Any], tuple[State, op.Response]]]] = {
    **dict.fromkeys(op.JobCall.__subclasses__(), leases.change),
    op.Acquire: leases.acquire,
    op.Create: leases.create,
    op.CreateOnce: idempotency.create,
    op.CleanupKeys: idempotency.cleanup,
    op.Cleanup: leases.cleanup,
    op.Lookup: idempotency.lookup,
    op.Record: idempotency.record,
    op.Tick: environment.tick,
    op.Crash: environment.crash,
}


def step(state: State, invocation: op.Invocation, settings: Settings = DEFAULT) -> Allowed:
    """Return the allowed (state, response) pairs, without duplicates."""
    if not isinstance(invocation, op.LoseReply):
        return (HANDLERS[type(invocation)](settings, state, invocation),)
    # The client cannot know whether the call took effect; its session is closed either way.
    lost = op.Crash(session=invocation.call.session)
    possible = [state, *(reached for reached, _ in step(state, invocation.call, settings))]
    return tuple(dict.fromkeys(environment.crash(settings, reached, lost) for reached in possible))
