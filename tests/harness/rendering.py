"""A disagreement in words: what changed in the store, and what the model would have allowed instead."""

from collections.abc import Iterable, Iterator

from prompt_studio_model.operations import Response
from prompt_studio_model.state import Job, State


def explain(what: str, before: State, after: State, allowed: Iterable[tuple[State, Response]]) -> str:
    """Return the step, its observed changes, and each allowed answer with its changes."""
    lines = [what, f"  at {before.now} ms; observed changes:", *_changes(before, after)]
    for state, response in allowed:
        lines += [f"  the model allows: {response}", *_changes(before, state)]
    return "\n".join(lines)


def _changes(before: State, after: State) -> Iterator[str]:
    """Yield a line for each row or field that differs."""
    olds, news = ({job.id: job for job in state.jobs} for state in (before, after))
    for number in sorted(olds.keys() | news.keys()):
        old, new = olds.get(number), news.get(number)
        if old is None or new is None:
            yield f"    job {number}: {'appears' if old is None else 'is gone'}: {new or old}"
        elif old != new:
            yield f"    job {number}: " + ", ".join(_fields(old, new))
    for name in ("now", "next_id", "keys", "sessions"):
        was, is_now = getattr(before, name), getattr(after, name)
        if was != is_now:
            yield f"    {name}: {was} -> {is_now}"


def _fields(old: Job, new: Job) -> Iterator[str]:
    return (
        f"{name} {was!r} -> {is_now!r}"
        for name, was, is_now in zip(Job._fields, old, new, strict=True)
        if was != is_now
    )
