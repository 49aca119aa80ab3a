"""Programs of ordinary SQL under the scheduler, judged by what they do one after another on the same database.

Nobody says what a program should do. Its serial orders are played, each program whole before the next begins, and what
they come to is what any other schedule may come to: the answer of each lane, and the tables. A lane that had ended
before another one began comes first in the order that explains them, as in real time.
"""

from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, combinations, permutations
from typing import Any, Final, NamedTuple

from prompt_studio_model.checking.history import Invoked, Returned
from tests.harness.interleaving.diagram import diagram
from tests.harness.interleaving.judging import HOLDS, Judgement
from tests.harness.interleaving.runs import Run, Step
from tests.harness.interleaving.scenario import Scenario
from tests.harness.interleaving.scheduler import Choose, Scheduler
from tests.harness.interleaving.session import Answer, Failed, Told
from tests.harness.processes import Trouble

NOT_SERIAL: Final = "no serial order"
"""No order of whole programs comes to the same."""


@dataclass(frozen=True, slots=True)
class Weaker:
    """What a lane may be answered, besides, when another one is in the middle of something; it then did nothing at all.

    The other lanes must have an order without it, and not all of them may be answered so. A value is what the program
    returns, a code the database's.

    Attributes:
        reason: why no more can be asked for.
        values: such return values.
        errors: such errors, by their codes.
        of_snapshots: it is enough that the other one did something while this one had a snapshot.
    """

    reason: str
    values: frozenset[Hashable] = frozenset()
    errors: frozenset[str] = frozenset()
    of_snapshots: bool = False

    def allows(self, answer: Answer) -> bool:
        """Whether this answer is one of them."""
        return answer.error in self.errors if isinstance(answer, Failed) else _value(answer) in self.values


@dataclass(frozen=True, slots=True, kw_only=True)
class Programs(Scenario):
    """Some lanes with one program each.

    Attributes:
        schema: makes the tables.
        rows: puts into them what is there at the beginning.
        reads: the queries that say what is in them at the end, in an order that does not depend on chance.
        weaker: what else is allowed.
        rebuilds: the tables are made anew for each schedule, since a program changes more than their rows.
        meant: other programs, of the same lanes, that mean the same: their serial orders are the ones that count. For
            what is wrong already when it is alone.
    """

    setup: tuple[Any, ...] = ()
    schema: str
    rows: str = ""
    reads: tuple[str, ...]
    weaker: Weaker | None = None
    rebuilds: bool = False
    meant: "Programs | None" = None


class Outcome(NamedTuple):
    """What a schedule came to: each lane's answer, in the order of the lanes, and the tables."""

    answers: tuple[tuple[str, Hashable], ...]
    tables: Hashable

    def without(self, lanes: Sequence[str]) -> "Outcome":
        """The same, but for these lanes."""
        return self._replace(answers=tuple(one for one in self.answers if one[0] not in lanes))

    def __str__(self) -> str:
        told = ", ".join(f"{lane}: {answer}" for lane, answer in self.answers)
        return f"{told}; tables {self.tables}"


def outcome_of(run: Run) -> Outcome:
    """What this schedule came to."""
    answers = _answers(run)
    return Outcome(tuple((lane, _comparable(answers[lane])) for lane in run.scenario.lanes), run.tables)


class ProgramScheduler(Scheduler):
    """Plays programs, and reads their tables when all is quiet."""

    def __init__(self, pool: Any, ground: Any) -> None:  # noqa: ANN401 - see Scheduler
        super().__init__(pool, ground)
        self._tables = ground.tables

    def run(self, scenario: Scenario, choose: Choose, **more: Any) -> Run:  # noqa: ANN401 - see Scheduler
        """Play one schedule."""
        run = super().run(scenario, choose, **more)
        run.tables = self._tables()
        return run


class SerialJudge:
    """Judges the schedules of one scheduler, and plays serial orders there to do so."""

    def __init__(self, scheduler: ProgramScheduler) -> None:
        self._scheduler = scheduler
        self._played: dict[tuple[str, tuple[str, ...]], Outcome] = {}

    def judge(self, run: Run) -> Judgement:
        """Say whether some serial order explains a schedule.

        Raises:
            Trouble: a program waits for one that has ended, so that there are no serial orders.
        """
        programs = run.scenario
        assert isinstance(programs, Programs)
        seen, allowed = outcome_of(run), []
        for left_out in _some_of(_excusable(run, programs.weaker), len(programs.lanes)):
            lanes = [lane for lane in programs.lanes if lane not in left_out]
            for order in permutations(lanes):
                if _in_real_time(run, order):
                    allowed.append(self.serial(programs.meant or programs, order))
                    if allowed[-1] == seen.without(left_out):
                        return replace(HOLDS, excused=bool(left_out))
        told = [diagram(run), f"came to {seen}", *sorted({f"allowed {outcome}" for outcome in allowed})]
        return Judgement("violated", (NOT_SERIAL,), "\n".join(told))

    def serial(self, programs: Programs, order: tuple[str, ...]) -> Outcome:
        """What these lanes come to, one after another; the other lanes do not run."""
        known = self._played.get((programs.name, order))
        if known is None:
            alone = replace(programs, lanes={lane: programs.lanes[lane] for lane in programs.lanes if lane in order})
            run = self._scheduler.run(alone, _one_after_another(order))
            changes = [now for last, now in zip([None, *run.choices], run.choices, strict=False) if last != now]
            if changes != list(order):
                raise Trouble(f"{programs.name} has no order {order}, since one waits for another:\n{diagram(run)}")
            known = self._played[programs.name, order] = outcome_of(run)
        return known


def _one_after_another(order: tuple[str, ...]) -> Choose:
    return lambda _step, _current, enabled: next(lane for lane in order if lane in enabled)


def _in_real_time(run: Run, order: tuple[str, ...]) -> bool:
    """Whether nobody comes before one that had ended before it began."""
    begun, ended = _moments(run)
    return not any(ended[after] < begun[before] for before, after in combinations(order, 2))


def _excusable(run: Run, weaker: Weaker | None) -> list[str]:
    """The lanes whose answer is allowed besides: somebody else was in the middle of something when they did a thing."""
    if weaker is None:
        return []
    cut_in = set(_cut_in(run.steps))
    excusable = []
    for lane, answer in _answers(run).items():
        met = any(one == lane or (weaker.of_snapshots and other == lane) for one, other in cut_in)
        excusable += [lane] if met and weaker.allows(answer) else []
    return excusable


def _cut_in(steps: Sequence[Step]) -> Iterator[tuple[str, str]]:
    """Each lane that did something while another one had done something and had not ended; and that other one."""
    begun: set[str] = set()
    left = Counter(step.lane for step in steps)
    for step in steps:
        yield from ((step.lane, other) for other in begun if other != step.lane and left[other])
        begun.add(step.lane)
        left[step.lane] -= 1


def _some_of(lanes: list[str], of: int) -> Iterator[tuple[str, ...]]:
    """Each choice of these, but for all that there are: somebody must have been in the others' way."""
    return chain.from_iterable(combinations(lanes, count) for count in range(min(len(lanes), of - 1) + 1))


def _moments(run: Run) -> tuple[dict[str, int], dict[str, int]]:
    """Where in the history each lane's program begins and ends."""
    lanes = {event.number: event.lane for event in run.events if isinstance(event, Invoked)}
    begun = {event.lane: place for place, event in enumerate(run.events) if isinstance(event, Invoked)}
    ended = {lanes[event.number]: place for place, event in enumerate(run.events) if isinstance(event, Returned)}
    return begun, ended


def _answers(run: Run) -> dict[str, Answer]:
    lanes = {event.number: event.lane for event in run.events if isinstance(event, Invoked)}
    return {lanes[event.number]: event.answer for event in run.events if isinstance(event, Returned)}


def _value(answer: Answer) -> Hashable:
    assert isinstance(answer, Told)
    return answer.value


def _comparable(answer: Answer) -> Hashable:
    """An answer without what depends on chance: messages name server processes."""
    return f"error {answer.error}" if isinstance(answer, Failed) else _value(answer)
