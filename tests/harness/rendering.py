"""A disagreement in words: how it came about, what was observed, and what the model would have allowed instead."""

from collections.abc import Iterable, Sequence

from prompt_studio_model.checking.explore import Step
from prompt_studio_model.checking.rendering import INDENT, difference, path, step, value
from prompt_studio_model.operations import Invocation, Response
from prompt_studio_model.state import State

Observed = Step[State, Invocation, Response]


def explain(history: Sequence[Observed], seen: Observed, allowed: Iterable[tuple[State, Response]]) -> str:
    """Return the steps before, the step itself, and each answer that was allowed with its changes."""
    action, answer, changes = step(seen)
    lines = [path(history), f"then, at {seen.before.now} ms, {action}", f"  the store answered {answer} and changed"]
    lines += [f"{INDENT}{change}" for change in changes or ["nothing"]]
    for state, response in allowed:
        lines.append(f"  the model allows {value(response, state.jobs)} and")
        lines += [f"{INDENT}{change}" for change in difference(seen.before, state)] or [f"{INDENT}nothing"]
    return "\n".join(lines)
