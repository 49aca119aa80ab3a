"""What came of one schedule: its steps, what calls were told in which order, and what everybody had at the end."""

from collections.abc import Hashable
from dataclasses import dataclass, field, replace
from typing import Literal

from prompt_studio_model import operations as op
from prompt_studio_model.checking.history import Event, History, Returned
from prompt_studio_model.state import State
from tests.harness.interleaving.ground import Hold
from tests.harness.interleaving.scenario import Scenario
from tests.harness.interleaving.session import Answer, Failed, Kept

Phase = Literal["ready", "gate", "inside", "running", "blocked", "busy", "ended"]
"""Where a lane is: before a call, before a statement, inside of one, on its way; waiting for a lock, told that the
database is locked, at its end."""


@dataclass(frozen=True, slots=True)
class Step:
    """What one lane did when it was let go.

    Attributes:
        lane: which.
        what: the statement, or the place inside of it that it went on from, or what happened to the world.
        enabled: the lanes that could have gone on instead, and this one.
        outcome: where the lane came to.
        job_id: the job that the statement names.
        server_process: the lane's, which is another one each time that the schedule is played.
        call: what the lane was asked to do.
        woken: the other lanes that had waited for a lock, and where they came to.
        answers: what kinds of answers were given in it, and to whom.
    """

    lane: str
    what: str
    enabled: tuple[str, ...]
    outcome: str
    job_id: int | None = None
    server_process: int = field(default=0, compare=False)
    call: str = ""
    woken: tuple[tuple[str, Phase], ...] = ()
    answers: tuple[tuple[str, str], ...] = ()


CallEvent = Event[op.Invocation, Answer, op.Invocation]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What everybody could see after a step: the tables, and who held which job's row or lock.

    `held`: each job with the lane that has its row locked in an open transaction, or its advisory lock.
    """

    state: State
    held: frozenset[tuple[int, str, Hold]]

    def without_locks(self) -> "Snapshot":
        """The same to a store that does not ask for advisory locks."""
        return replace(self, held=frozenset(one for one in self.held if one[2] == "row"))


@dataclass(slots=True)
class Run:
    """What came of one schedule.

    Attributes:
        events: calls, answers and what happened to the world, in the order of real time.
        during: of each event, the number of the step in which it was seen.
        waits: how often a statement was seen to wait for another session's lock.
        after: the tables, when all was quiet.
        kept: what each lane's session had then.
        unknown: what calls failed with of which nobody knows whether they were carried out, by their numbers.
        leaked: the jobs that somebody had locked when everybody had given back what it knew of.
        unfinished: the lanes in whose sessions a transaction was open then.
        has_locks: whether the store takes advisory locks.
        snapshots: one before the first step and one after each, if they were asked for.
        tables: what programs left in tables of their own.
    """

    scenario: Scenario
    before: State
    steps: list[Step] = field(default_factory=list)
    events: list[CallEvent] = field(default_factory=list)
    during: list[int] = field(default_factory=list)
    snapshots: list[Snapshot] = field(default_factory=list)
    has_locks: bool = False
    waits: int = 0
    after: State = field(default_factory=State)
    kept: dict[str, Kept] = field(default_factory=dict)
    unknown: dict[int, Failed] = field(default_factory=dict)
    leaked: frozenset[tuple[int, str]] = frozenset()
    unfinished: frozenset[str] = frozenset()
    tables: Hashable = ()

    @property
    def history(self) -> History[op.Invocation, Answer, op.Invocation]:
        """The events, checked."""
        return History(tuple(self.events))

    @property
    def failures(self) -> dict[int, Failed]:
        """What calls failed with, by their numbers."""
        told = {event.number: event.answer for event in self.events if isinstance(event, Returned)}
        return self.unknown | {number: answer for number, answer in told.items() if isinstance(answer, Failed)}

    @property
    def choices(self) -> list[str]:
        """The lane of each step."""
        return [step.lane for step in self.steps]
