"""The only dispatcher: one state and one invocation give every (state, response) that is allowed.

A call has exactly one outcome. A call whose reply is lost has up to two, since it may have taken effect or not.
Pure: the same arguments give the same pairs in the same order, and nothing is changed in place.
"""

from prompt_studio_model import environment, idempotency, leases
from prompt_studio_model import operations as op
from prompt_studio_model.state import Settings, State

Allowed = tuple[tuple[State, op.Response], ...]
DEFAULT = Settings()


def step(state: State, invocation: op.Invocation, settings: Settings = DEFAULT) -> Allowed:
    """Return the allowed (state, response) pairs, without duplicates."""
    match invocation:
        case op.JobCall():
            return (leases.change(settings, state, invocation),)
        case op.Acquire():
            return (leases.acquire(settings, state, invocation),)
        case op.Tick():
            return ((environment.tick(state, invocation), op.Nothing()),)
        case op.Create():
            return (leases.create(state, invocation),)
        case op.Lookup():
            return (idempotency.lookup(settings, state, invocation),)
        case op.Record():
            return (idempotency.record(settings, state, invocation),)
        case op.Cleanup():
            return (leases.cleanup(state, invocation),)
        case op.Crash():
            return ((environment.crash(state, invocation), op.Nothing()),)
        case op.LoseReply():
            return _lost(state, invocation, settings)
        case _:
            raise TypeError(invocation)


def _lost(state: State, invocation: op.LoseReply, settings: Settings) -> Allowed:
    """The client cannot know whether the call took effect; its session is closed either way."""
    session = op.Crash(session=invocation.call.session)
    before = environment.crash(state, session)
    after = [environment.crash(reached, session) for reached, _ in step(state, invocation.call, settings)]
    return tuple((reached, op.Nothing()) for reached in dict.fromkeys([before, *after]))
