"""A schedule as a picture in text: a column for each lane, time runs down."""

from collections.abc import Mapping
from typing import Final

from prompt_studio_model import operations as op
from prompt_studio_model.checking.history import Happened, Invoked, Lost
from tests.harness.interleaving.runs import CallEvent, Run
from tests.harness.interleaving.session import Answer, Failed, Told

WIDTH: Final = 34
NOTHING_BROKEN: Final[Mapping[str, int]] = {}


def diagram(run: Run, broken: Mapping[str, int] = NOTHING_BROKEN) -> str:
    """Draw a schedule: what each lane did in each step, when it waited, and what it was answered.

    `broken`: the promises that were broken, each with the step that did it.
    """
    lanes = list(run.scenario.lanes)
    names = {event.number: event.lane for event in run.events if isinstance(event, Invoked)}
    lines = [f"{run.scenario.name}, {len(run.steps)} steps", _line("", dict(zip(lanes, lanes, strict=True)), lanes)]
    for number, step in enumerate(run.steps):
        events = [event for event, during in zip(run.events, run.during, strict=True) if during == number]
        begun = (event for event in events if isinstance(event, Invoked))
        lines += [_line("", {event.lane: f"{_asked(event.invocation)} {{"}, lanes) for event in begun]
        what = step.what if step.job_id is None else f"{step.what} {step.job_id}"
        waits = {"blocked": " (waits)", "busy": " (locked)"}.get(step.outcome, "")
        lines.append(_line(str(number), {step.lane: f"  {what}{waits}"}, lanes))
        ended = (event for event in events if not isinstance(event, (Invoked, Happened)))
        lines += [_line("", {names[event.number]: f"}} {_told(event)}"}, lanes) for event in ended]
        lines += [f"      ^ step {number} breaks {name}" for name, where in broken.items() if where == number]
    return "\n".join(line.rstrip() for line in lines)


def _line(number: str, cells: dict[str, str], lanes: list[str]) -> str:
    return f"{number:>4}  " + "".join(f"{cells.get(lane, '|'):<{WIDTH}}" for lane in lanes)


def _asked(call: op.Invocation) -> str:
    named = (str(value) for value in (getattr(call, "job_id", None), getattr(call, "token", None)) if value is not None)
    return " ".join([call.operation, "/".join(named)]).strip()


def _told(event: CallEvent) -> str:
    if isinstance(event, Lost):
        return "answer lost"
    answer: Answer | None = getattr(event, "answer", None)
    match answer:
        case op.Row(job):
            return "none" if job is None else f"job {job.id}/{job.lease_token} {job.status}"
        case op.Outcome():
            return f"{answer.kind}{' late' if answer.late else ''}"
        case Failed():
            return answer.error
        case Told(value):
            return str(value)
    return str(answer)
