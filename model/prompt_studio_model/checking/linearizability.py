"""Can each call have taken effect at one instant between its question and its answer, as the model allows?

Just-in-time linearization (Lowe, "Testing for linearizability", 2017): the events are taken in their order, with the
set of all configurations that they allow. A configuration is a state, and of each open call how far it has come. Only
when a call returns must it have taken effect, and only then other open calls are tried before it. What happens to the
world divides time for everybody, so before it whatever the open calls may do is tried.

An answer that the history knows is looked up in advance: an effect that would be answered otherwise is not followed.
A failure is explained by a second search that does not look ahead, so that it names the first answer that nothing
explains, and not an earlier one for which a later one leaves no room. The search knows nothing of jobs, does not
recurse, and has a limit for its steps.
"""

import typing
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Generic, Literal, NamedTuple, Protocol, TypeVar

from prompt_studio_model.checking.explore import Verdict
from prompt_studio_model.checking.history import Call, Happened, History, Invoked, Returned

State = TypeVar("State", bound=Hashable)
Asked = TypeVar("Asked")
Answer = TypeVar("Answer")
Happening = TypeVar("Happening")
Happening_contra = TypeVar("Happening_contra", contravariant=True)

STEPS_LIMIT: typing.Final = 200_000


class Silent(NamedTuple, Generic[State]):
    """A part of a call's effect that others may see before the rest. `progress` is what is known of it so far."""

    state: State
    progress: Hashable


class Final(NamedTuple, Generic[State, Answer]):
    """What remains of a call's effect, which as a rule is all of it, and what the call is answered."""

    state: State
    answer: Answer


class Moves(Protocol[State, Asked, Answer, Happening_contra]):
    """What the calls of a history do, and what happens to its world. Pure: it is asked often, in any order."""

    def successors(
        self, state: State, call: Call[Asked, Answer], progress: Hashable, instants: tuple[Hashable, ...]
    ) -> Iterable[Silent[State] | Final[State, Answer]]:
        """Give every next part, or last part, of a call's effect in this state.

        `progress` is None, or that of its last `Silent`. `instants` are the readings of the clock since the call was
        asked, each once. A call that has not `returned`, as far as it is known, needs all that it may do,
        each with an answer that can be hashed; the answer of one that has may spare guesses, and must not forbid more
        than `agrees` does.
        """

    def agrees(self, predicted: Answer, observed: Answer) -> bool:
        """Say whether an answer of the model's is the one that was recorded."""

    def happened(self, state: State, event: Happening_contra) -> State:
        """Return the state after the world has moved."""

    def instant(self, state: State) -> Hashable:
        """Return what the clock shows in this state. Only the world's events may change it."""


class Placed(NamedTuple):
    """One step of a linearization: a call's effect, a part of it, or an event of the world's.

    `answer` is the model's, of an effect; `after` is the state that it led to.
    """

    kind: Literal["effect", "part", "event"]
    source: Any
    answer: Any
    after: Any


class Trail(NamedTuple):
    """The last step of a linearization, and the way to it."""

    last: Placed
    before: "Trail | None"


def order(trail: Trail | None) -> tuple[Placed, ...]:
    """Return the steps of a linearization from the first on."""
    steps = []
    while trail is not None:
        steps.append(trail.last)
        trail = trail.before
    return tuple(reversed(steps))


@dataclass(frozen=True, slots=True)
class Otherwise(Generic[Answer]):
    """What the model would have answered instead, and one order of effects after which it would."""

    answer: Answer
    order: tuple[Placed, ...]


@dataclass(frozen=True, slots=True)
class Impossible(Generic[Asked, Answer]):
    """The first answer that nothing explains.

    Attributes:
        place: the number of events before it, which together are the longest legal prefix.
        call: which was answered so.
        order: one linearization of the prefix.
        otherwise: what the model would have answered, each answer once.
    """

    place: int
    call: Call[Asked, Answer]
    order: tuple[Placed, ...]
    otherwise: tuple[Otherwise[Answer], ...]


@dataclass(frozen=True, slots=True)
class Judged(Generic[State, Asked, Answer, Happening]):
    """What the search came to.

    Attributes:
        history: which was searched.
        initial: the state that it began in.
        verdict: `inconclusive` if the limit was reached first, wherever that was.
        steps: how often the model was asked, and how many successors it gave.
        configurations: how many of them were looked at.
        endings: each state in which the world may be after all, with a way to it; all of them, if it holds.
        failure: what is impossible, if it is violated.
    """

    history: History[Asked, Answer, Happening]
    initial: State
    verdict: Verdict
    steps: int
    configurations: int
    endings: Mapping[State, Trail | None]
    failure: Impossible[Asked, Answer] | None

    @property
    def finals(self) -> frozenset[State]:
        """The states in which the world may be after all."""
        return frozenset(self.endings)

    def order_to(self, state: State) -> tuple[Placed, ...]:
        """Return a linearization that ends in one of the `finals`."""
        return order(self.endings[state])

    @property
    def witness(self) -> tuple[Placed, ...]:
        """A linearization in which as little as possible was done by calls that were never answered."""
        return self.order_to(next(iter(self.endings)))


def check(
    history: History[Asked, Answer, Happening],
    initial: State,
    moves: Moves[State, Asked, Answer, Happening],
    *,
    steps_limit: int = STEPS_LIMIT,
) -> Judged[State, Asked, Answer, Happening]:
    """Search for the orders of effects that explain a history which began in the state `initial`.

    More than `steps_limit` steps end the search with the verdict inconclusive. To explain a violation takes a second
    search with a limit of its own; if it is reached, the first search's explanation is kept.
    """
    judged = _Search(history, initial, moves, steps_limit, looks_ahead=True).run()
    if judged.verdict != "violated":
        return judged
    explained = _Search(history, initial, moves, steps_limit, looks_ahead=False).run()
    return explained if explained.verdict == "violated" else judged


class _Exhausted(Exception):
    """The limit was reached."""


@dataclass(frozen=True, slots=True)
class _Effective:
    """A call has taken effect, with this answer."""

    answer: Any


class _Open(NamedTuple):
    """A call that has begun, what of it the model is shown, and the readings of the clock since then."""

    call: Call[Any, Any]
    shown: Call[Any, Any]
    instants: tuple[Hashable, ...]


_DONE: typing.Final = _Effective(None)
"""A call has taken effect, and its answer was right, or will never be known."""

# A state, and for each open call None, its progress, or that it has taken effect.
_Configuration = tuple[State, tuple[Hashable, ...]]


class _Search(Generic[State, Asked, Answer, Happening]):
    """One walk through a history."""

    def __init__(
        self,
        history: History[Asked, Answer, Happening],
        initial: State,
        moves: Moves[State, Asked, Answer, Happening],
        limit: int,
        *,
        looks_ahead: bool,
    ) -> None:
        self._history = history
        self._initial = initial
        self._moves = moves
        self._limit = limit
        self._looks_ahead = looks_ahead
        self._steps = 0
        self._configurations = 1
        self._open: list[_Open] = []
        self._now: tuple[Hashable, ...] = (moves.instant(initial),)
        self._frontier: dict[_Configuration[State], Trail | None] = {(initial, ()): None}
        self._otherwise: dict[Answer, Trail | None] = {}

    def run(self) -> Judged[State, Asked, Answer, Happening]:
        endings: dict[State, Trail | None] = {}
        try:
            failure = self._walk()
            if failure is not None:
                return self._judged("violated", failure=failure)
            for (state, _), way in self._reached().items():
                endings.setdefault(state, way)
        except _Exhausted:
            return self._judged("inconclusive")
        return self._judged("holds", endings)

    def _judged(
        self,
        verdict: Verdict,
        endings: Mapping[State, Trail | None] = MappingProxyType({}),
        failure: Impossible[Asked, Answer] | None = None,
    ) -> Judged[State, Asked, Answer, Happening]:
        return Judged(self._history, self._initial, verdict, self._steps, self._configurations, endings, failure)

    def _walk(self) -> Impossible[Asked, Answer] | None:
        for place, event in enumerate(self._history.events):
            if isinstance(event, Invoked):
                call = self._history.calls[event.number]
                shown = call if self._looks_ahead else call.unanswered()
                self._open.append(_Open(call, shown, self._now))
                self._frontier = {(state, (*marks, None)): way for (state, marks), way in self._frontier.items()}
            elif isinstance(event, Happened):
                self._happen(event)
            elif isinstance(event, Returned):
                at = next(at for at, opened in enumerate(self._open) if opened.call.number == event.number)
                kept = self._return(at, event.answer)
                if not kept:
                    otherwise = tuple(Otherwise(answer, order(way)) for answer, way in self._otherwise.items())
                    way = next(iter(self._frontier.values()))
                    return Impossible(place, self._history.calls[event.number], order(way), otherwise)
                self._frontier = kept
        return None

    def _happen(self, event: Happened[Happening]) -> None:
        """Whatever open calls may do they may have done before."""
        moved: dict[_Configuration[State], Trail | None] = {}
        for (state, marks), way in self._reached().items():
            after = self._moves.happened(state, event.event)
            moved.setdefault((after, marks), Trail(Placed("event", event, None, after), way))
        self._frontier = moved
        self._now = tuple(dict.fromkeys(self._moves.instant(state) for state, _ in moved))
        self._open = [
            opened._replace(instants=tuple(dict.fromkeys((*opened.instants, *self._now)))) for opened in self._open
        ]

    def _return(self, at: int, observed: Answer) -> dict[_Configuration[State], Trail | None]:
        """The configurations in which the call has taken effect with this answer; it is no longer open in them."""
        self._otherwise = {}
        kept: dict[_Configuration[State], Trail | None] = {}
        for (state, marks), way in self._reached(at).items():
            mark: Any = marks[at]
            if mark is _DONE or self._agrees(mark.answer, observed, way):
                kept.setdefault((state, marks[:at] + marks[at + 1 :]), way)
        if kept:
            del self._open[at]
        return kept

    def _agrees(self, predicted: Answer, observed: Answer, way: Trail | None) -> bool:
        agrees = self._moves.agrees(predicted, observed)
        if not agrees:
            self._otherwise.setdefault(predicted, way)
        return agrees

    def _reached(self, until: int | None = None) -> dict[_Configuration[State], Trail | None]:
        """Every configuration that open calls can have led to, and a way to each.

        With `until`, the place of an open call, only those in which it has taken effect: nothing is done after it.
        """
        reached = dict(self._frontier)
        arrived = {}
        waiting = list(reached)
        for configuration in waiting:  # which grows meanwhile
            way = reached[configuration]
            if until is not None and isinstance(configuration[1][until], _Effective):
                arrived[configuration] = way
                continue
            for after, step in self._next(configuration, way, until):
                if after not in reached:
                    reached[after] = Trail(step, way)
                    waiting.append(after)
        self._configurations += len(waiting)
        return reached if until is None else arrived

    def _next(
        self, configuration: _Configuration[State], way: Trail | None, until: int | None
    ) -> Iterator[tuple[_Configuration[State], Placed]]:
        """Let each open call go on by one move."""
        state, marks = configuration
        for at, (call, shown, instants) in enumerate(self._open):
            if isinstance(marks[at], _Effective):
                continue
            self._spend()
            mark: Hashable
            observed: Any = shown.answer
            for move in self._moves.successors(state, shown, marks[at], instants):
                self._spend()
                if isinstance(move, Silent):
                    mark, step = move.progress, Placed("part", call, None, move.state)
                else:
                    # An answer is kept only if it must be compared later: one answer more is one configuration more.
                    mark = _Effective(move.answer) if call.returned and not shown.returned else _DONE
                    step = Placed("effect", call, move.answer, move.state)
                    if shown.returned and not self._moves.agrees(move.answer, observed):
                        if at == until:
                            self._otherwise.setdefault(move.answer, Trail(step, way))
                        continue
                yield (move.state, (*marks[:at], mark, *marks[at + 1 :])), step

    def _spend(self) -> None:
        """Each question to the model costs a step, and so does each successor that it gives."""
        self._steps += 1
        if self._steps > self._limit:
            raise _Exhausted
