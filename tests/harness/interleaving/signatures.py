"""What a schedule has reached: each call with its answer and what it met on its way, and who was answered before whom.

A schedule with a signature that no other had is worth keeping. It is what coverage is to a fuzzer: lines of Python say
nothing of what happens in a server.
"""

from collections.abc import Iterator

from prompt_studio_model.checking.history import Happened, Invoked, Lost, Returned
from tests.harness.interleaving.runs import Run
from tests.harness.interleaving.session import in_a_word


def signatures(run: Run) -> frozenset[str]:
    """Those of a run, as texts."""
    return frozenset((*_of_calls(run), *_of_rivals(run)))


def _of_calls(run: Run) -> Iterator[str]:
    for number, (name, told) in _calls(run).items():
        yield f"{name} -> {told}, {_met(run, number)}"


def _of_rivals(run: Run) -> Iterator[str]:
    """Calls of two lanes that overlapped, in the order of their ends."""
    calls = _calls(run)
    under_way: list[tuple[str, int]] = []
    for event in run.events:
        if isinstance(event, Invoked):
            under_way.append((event.lane, event.number))
        elif isinstance(event, (Returned, Lost)):
            (lane,) = (lane for lane, number in under_way if number == event.number)
            under_way.remove((lane, event.number))
            for _, other in under_way:
                (name, told), rival = calls[event.number], calls[other]
                yield f"{name} -> {told} before {rival[0]} -> {rival[1]}"


def _calls(run: Run) -> dict[int, tuple[str, str]]:
    """Each call's name, and what it was told."""
    ends = {event.number: event for event in run.events if isinstance(event, (Returned, Lost))}
    found = {}
    for event in run.events:
        if isinstance(event, Invoked):
            end = ends.get(event.number)
            told = in_a_word(end.answer) if isinstance(end, Returned) else "no answer"
            found[event.number] = type(event.invocation).__name__, told
    return found


def _met(run: Run, number: int) -> str:
    """What hindered a call, and what happened to the world meanwhile."""
    first = next(
        during
        for event, during in zip(run.events, run.during, strict=True)
        if isinstance(event, Invoked) and event.number == number
    )
    lane = next(event.lane for event in run.events if isinstance(event, Invoked) and event.number == number)
    last = next(
        (
            during
            for event, during in zip(run.events, run.during, strict=True)
            if isinstance(event, (Returned, Lost)) and event.number == number
        ),
        len(run.steps),
    )
    steps = run.steps[first : last + 1]
    outcomes = {step.outcome for step in steps if step.lane == lane}
    happened = {
        type(event.event).__name__.lower()
        for event, during in zip(run.events, run.during, strict=True)
        if isinstance(event, Happened) and first <= during <= last
    }
    happened |= {"stopped" for step in steps if step.what == f"stop {lane}"}
    others = any(step.lane != lane for step in steps)
    hindered = "waited" if "blocked" in outcomes else "told to wait" if "busy" in outcomes else "free"
    return ", ".join([hindered, *(["beside others"] if others else ["alone"]), *sorted(happened)])
