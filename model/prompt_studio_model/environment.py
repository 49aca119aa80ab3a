"""What happens to the system without being asked: time, death, and answers that never arrive."""

from prompt_studio_model import locks
from prompt_studio_model import operations as op
from prompt_studio_model.state import Settings, State


def tick(_: Settings, state: State, event: op.Tick) -> tuple[State, op.Response]:
    """Move the one clock. op.Nothing else happens: an expired lease is a fact about time, not an event."""
    return state._replace(now=state.now + event.milliseconds), op.Nothing()


def crash(_: Settings, state: State, event: op.Crash) -> tuple[State, op.Response]:
    """Kill a worker. Its advisory locks die with its session; its rows, leases included, stay as they are."""
    return locks.end_session(state, event.session), op.Nothing()
