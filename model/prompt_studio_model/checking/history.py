"""What was asked and answered, in real time: a sequence of events, and the calls that it tells of.

A call that is not answered may have taken effect or not, in whole or in part, at any time after it was asked. So may
one whose answer is *lost*; the difference is only that its lane goes on to its next call. An error that leaves open
what was done, and what may still be done, is a lost answer. What happened to the world happened at that very place.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar, Union

Asked = TypeVar("Asked")
Asked_co = TypeVar("Asked_co", covariant=True)
Answer = TypeVar("Answer")
Answer_co = TypeVar("Answer_co", covariant=True)
Happening = TypeVar("Happening")
Happening_co = TypeVar("Happening_co", covariant=True)

# The generic events have no slots: Python 3.11 cannot make a frozen one that has them by `Returned[Number](...)`.


@dataclass(frozen=True)
class Invoked(Generic[Asked_co]):
    """A call began. `number` is its own in the whole history; a lane has one call at a time."""

    number: int
    lane: str
    invocation: Asked_co


@dataclass(frozen=True)
class Returned(Generic[Answer_co]):
    """A call came to its end, with its answer."""

    number: int
    answer: Answer_co


@dataclass(frozen=True, slots=True)
class Lost:
    """Nobody waits for the call's answer any more: its process died, say. It may still take effect."""

    number: int


@dataclass(frozen=True)
class Happened(Generic[Happening_co]):
    """The world moved, here and at once: no call takes effect at the same time."""

    event: Happening_co


Event = Union[Invoked[Asked], Returned[Answer], Lost, Happened[Happening]]  # noqa: UP007 - a bar cannot be subscripted


@dataclass(frozen=True, slots=True)
class Call(Generic[Asked, Answer]):
    """One call of a history. `answer` means something only if it `returned`."""

    number: int
    lane: str
    invocation: Asked
    returned: bool = False
    answer: Answer | None = None

    def unanswered(self) -> "Call[Asked, Answer]":
        """The same call, as it is seen before its answer is known."""
        return Call(self.number, self.lane, self.invocation)


class MalformedHistory(Exception):
    """The events cannot have been in this order, so nothing can be concluded from them: mend whoever recorded them."""

    def __init__(self, place: int, number: int, trouble: str) -> None:
        super().__init__(f"event {place}, call {number}: {trouble}")
        self.place = place
        self.number = number


class NumberUsedTwice(MalformedHistory):
    """Two calls have one number."""


class LaneIsBusy(MalformedHistory):
    """A lane began a call before its last one had ended."""


class NeverInvoked(MalformedHistory):
    """A call ended that had not begun."""


class EndedTwice(MalformedHistory):
    """A call ended that had ended already."""


@dataclass(frozen=True, slots=True)
class History(Generic[Asked, Answer, Happening]):
    """Events in the order of real time, and the calls by their number.

    Raises:
        MalformedHistory: no system and no observer can have made this order of events.
    """

    events: tuple[Event[Asked, Answer, Happening], ...]
    calls: Mapping[int, Call[Asked, Answer]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "calls", {call.number: call for call in self._calls()})

    def _calls(self) -> Iterator[Call[Asked, Answer]]:
        begun: dict[int, Invoked[Asked]] = {}
        ended: dict[int, Returned[Answer] | Lost] = {}
        busy: dict[str, int] = {}
        for place, event in enumerate(self.events):
            if isinstance(event, Happened):
                continue
            if isinstance(event, Invoked):
                if event.number in begun:
                    raise NumberUsedTwice(place, event.number, "another call has this number; count on")
                if event.lane in busy:
                    trouble = (
                        f"{event.lane} still waits for call {busy[event.lane]}; record its end, or that it is Lost"
                    )
                    raise LaneIsBusy(place, event.number, trouble)
                begun[event.number] = event
                busy[event.lane] = event.number
                continue
            if event.number not in begun:
                raise NeverInvoked(place, event.number, "it ended before it began; record its Invoked first")
            if event.number in ended:
                raise EndedTwice(place, event.number, "it had ended already; a call is either Returned or Lost, once")
            ended[event.number] = event
            del busy[begun[event.number].lane]
        for number, invoked in begun.items():
            end = ended.get(number)
            answer = (True, end.answer) if isinstance(end, Returned) else ()
            yield Call(number, invoked.lane, invoked.invocation, *answer)
