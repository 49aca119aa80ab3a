"""What a search for linearizations came to, as text: which answer is impossible, what would have been, and why.

Long histories are cut to what came last before the impossible answer: what was long before seldom explains it.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from prompt_studio_model.checking import rendering
from prompt_studio_model.checking.history import Call, Happened, History, Invoked, Lost
from prompt_studio_model.checking.linearizability import Impossible, Judged, Placed

ANSWERS_SHOWN: Final = 5
STEPS_SHOWN: Final = 20
EVENTS_SHOWN: Final = 40


def explained(judged: Judged[Any, Any, Any, Any]) -> str:
    """Return the verdict in words; of a violation also its reasons."""
    effort = f"{judged.steps:,} steps, {judged.configurations:,} configurations"
    if judged.failure is None:
        reason = {
            "holds": "there is an order of effects that explains every answer",
            "inconclusive": "the limit was reached",
        }
        return f"{judged.verdict}: {reason[judged.verdict]} ({effort})"
    return "\n".join(
        [
            f"violated: no order of effects explains the answer to {_name(judged.failure.call)} ({effort})",
            *_lines(judged, judged.failure),
        ]
    )


def _lines(judged: Judged[Any, Any, Any, Any], failure: Impossible[Any, Any]) -> Iterator[str]:
    yield f"  asked     {rendering.value(failure.call.invocation)}"
    yield f"  answered  {rendering.value(failure.call.answer)}"
    yield "  the model's answers instead"
    for other in failure.otherwise[:ANSWERS_SHOWN]:
        yield f"    {rendering.value(other.answer)}   in the order {_order(other.order)}"
    if not failure.otherwise:
        yield "    none"
    if len(failure.otherwise) > ANSWERS_SHOWN:
        yield f"    ... and {len(failure.otherwise) - ANSWERS_SHOWN} more"
    yield "  one order of effects that explains everything before"
    yield from _steps(failure.order, judged.initial)
    yield "  what was seen"
    yield from _events(judged.history, failure.place)


def _name(call: Call[Any, Any]) -> str:
    return f"call {call.number} of {call.lane}"


def _short(step: Placed) -> str:
    if step.kind == "event":
        return f"[{rendering.value(step.source.event)}]"
    return f"{step.source.number}{'…' if step.kind == 'part' else ''}"


def _order(steps: Sequence[Placed]) -> str:
    shown = _last(steps, STEPS_SHOWN)
    return " ".join([*["..."][: len(steps) - len(shown)], *map(_short, shown)])


def _last(things: Sequence[Any], count: int) -> Sequence[Any]:
    return things[max(0, len(things) - count) :]


def _steps(steps: Sequence[Placed], initial: object) -> Iterator[str]:
    shown = _last(steps, STEPS_SHOWN)
    left_out = len(steps) - len(shown)
    if left_out:
        yield f"        ({left_out} before)"
    before = steps[left_out - 1].after if left_out else initial
    for number, step in enumerate(shown, start=left_out + 1):
        yield f"{number:>6}  {_told(step)}"
        changes = list(rendering.difference(before, step.after))
        yield from (f"            {change}" for change in changes or ["(nothing changed)"])
        before = step.after


def _told(step: Placed) -> str:
    if step.kind == "event":
        return rendering.value(step.source.event)
    what = f"{_name(step.source)}: {rendering.value(step.source.invocation)}"
    return f"{what}, in part" if step.kind == "part" else f"{what} → {rendering.value(step.answer)}"


def _events(history: History[Any, Any, Any], place: int) -> Iterator[str]:
    begin = max(0, place + 1 - EVENTS_SHOWN)
    if begin:
        yield f"        ({begin} before)"
    for number, event in enumerate(history.events[begin : place + 1], start=begin):
        if isinstance(event, Happened):
            yield f"{number:>6}  {rendering.value(event.event)}"
            continue
        name = _name(history.calls[event.number])
        if isinstance(event, Invoked):
            yield f"{number:>6}  {name} asks {rendering.value(event.invocation)}"
        elif isinstance(event, Lost):
            yield f"{number:>6}  {name} waits no longer"
        else:
            yield f"{number:>6}  {name} is told {rendering.value(event.answer)}"
