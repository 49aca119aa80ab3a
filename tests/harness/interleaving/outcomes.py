"""What a schedule came to, without how: two orders are told apart by it, and runs that nobody scheduled are judged."""

from typing import NamedTuple

from prompt_studio_model.checking.history import Happened, Invoked, Returned
from prompt_studio_model.state import IdempotencyRow, Job
from tests.harness.interleaving.runs import Run
from tests.harness.interleaving.session import Answer, Kept


class Outcome(NamedTuple):
    """What everybody was told, and what is left.

    Attributes:
        answers: of each lane, in the order of its calls.
        jobs: the rows at the end.
        keys: those at the end. They have no order, since that of their commits need not be that of their ids.
        kept: which locks each lane's session had.
    """

    answers: tuple[tuple[str, tuple[Answer, ...]], ...]
    jobs: tuple[Job, ...]
    keys: frozenset[IdempotencyRow]
    kept: tuple[tuple[str, Kept], ...]


Place = tuple[str, int]
"""A call: its lane, and which of the lane's it is. What happens to the world is in a lane without a name."""


def real_time_of(run: Run) -> frozenset[tuple[Place, Place]]:
    """Which calls had ended when which began: what everybody could see of their order."""
    calls: dict[int, Place] = {}
    counts: dict[str, int] = {}
    ended: list[Place] = []
    seen: set[tuple[Place, Place]] = set()
    for event in run.events:
        if isinstance(event, (Invoked, Happened)):
            lane = event.lane if isinstance(event, Invoked) else ""
            counts[lane] = counts.get(lane, 0) + 1
            place = lane, counts[lane]
            seen |= {(other, place) for other in ended}
            if isinstance(event, Invoked):
                calls[event.number] = place
            else:
                ended.append(place)
        else:
            ended.append(calls[event.number])
    return frozenset(seen)


def outcome_of(run: Run) -> Outcome:
    """The outcome of a schedule. A lane that was not answered has no entry."""
    lanes = {event.number: event.lane for event in run.events if isinstance(event, Invoked)}
    answers: dict[str, list[Answer]] = {}
    for event in run.events:
        if isinstance(event, Returned):
            answers.setdefault(lanes[event.number], []).append(event.answer)
    told = tuple(sorted((lane, tuple(given)) for lane, given in answers.items()))
    return Outcome(told, run.after.jobs, frozenset(run.after.keys), tuple(sorted(run.kept.items())))
