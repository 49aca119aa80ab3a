"""The states that the world may be in, when replies were lost: a set, forked by doubt and filtered by answers.

Source of the idea: etcd's robustness tests wrap their deterministic model in a set of states in the same way.
"""

from collections.abc import Iterable

from prompt_studio_model import operations as op
from prompt_studio_model.state import Settings, State
from prompt_studio_model.step import DEFAULT, step


def after(
    states: Iterable[State], invocation: op.Invocation, response: op.Response, settings: Settings = DEFAULT
) -> frozenset[State]:
    """Return every state that the world may be in after this answer. Empty: the answer was not allowed."""
    return frozenset(
        reached for state in states for reached, allowed in step(state, invocation, settings) if allowed == response
    )
