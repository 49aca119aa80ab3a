"""Things that calls can be made on, one at a time, as `Moves`: small enough to see what each history of theirs means.

A call's invocation is a tuple of its name and its arguments. A step of the world is the seconds that pass.
"""

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from prompt_studio_model.checking.history import Call, Event, History, Invoked, Returned
from prompt_studio_model.checking.linearizability import Final, Silent

Asked = tuple[Any, ...]
AnyEvent = Event[Asked, Hashable, int]
AnyHistory = History[Asked, Hashable, int]
AnyMove = Silent["World"] | Final["World", Hashable]
Effect = Callable[[Any, Asked], tuple[Any, Hashable]]


class World(NamedTuple):
    """What the thing is in, and what the clock shows."""

    content: Any
    now: int = 0


def register(content: Any, asked: Asked) -> tuple[Any, Hashable]:  # noqa: ANN401 - whatever was written
    """One value."""
    match asked:
        case ("write", value):
            return value, "ok"
        case ("swap", expected, value):
            return (value, True) if content == expected else (content, False)
        case _:
            return content, content


def queue(content: Any, asked: Asked) -> tuple[Any, Hashable]:  # noqa: ANN401 - a tuple
    """First in, first out; an empty one gives None."""
    match asked:
        case ("put", value):
            return (*content, value), "ok"
        case _:
            return content[1:], content[0] if content else None


def counter(content: Any, asked: Asked) -> tuple[Any, Hashable]:  # noqa: ANN401 - a number
    """Adds, and answers with what it was before. Below five: then it starts again."""
    match asked:
        case ("add", number):
            return (content + number) % 5, content
        case _:
            return content, content


def lock(content: Any, asked: Asked) -> tuple[Any, Hashable]:  # noqa: ANN401 - who holds it
    """One holder; whoever does not hold it cannot give it back."""
    match asked:
        case ("lock", who):
            return (who, True) if content is None else (content, False)
        case _:
            return (None, True) if content == asked[1] else (content, False)


@dataclass(frozen=True, slots=True)
class OneAtATime:
    """Every effect is one step, except ("both", first, second): two effects, and others may come between them.

    ("stamp",) writes what the clock shows. ("until", seconds) writes when that time will be over, by a clock that was
    read at any time from the question to the effect.
    """

    effect: Effect

    def successors(
        self, state: World, call: Call[Asked, Hashable], progress: Hashable, instants: tuple[Hashable, ...]
    ) -> Iterator[AnyMove]:
        match call.invocation:
            case ("both", first, _) if progress is None:
                content, answer = self.effect(state.content, first)
                yield Silent(state._replace(content=content), ("first", answer))
            case ("both", _, second):
                assert isinstance(progress, tuple)
                content, answer = self.effect(state.content, second)
                yield Final(state._replace(content=content), (progress[1], answer))
            case ("stamp",):
                yield Final(state._replace(content=state.now), "ok")
            case ("until", seconds):
                for instant in instants:
                    assert isinstance(instant, int)
                    yield Final(state._replace(content=instant + seconds), "ok")
            case asked:
                content, answer = self.effect(state.content, asked)
                yield Final(state._replace(content=content), answer)

    def agrees(self, predicted: Hashable, observed: Hashable) -> bool:
        return predicted == observed

    def happened(self, state: World, event: int) -> World:
        return state._replace(now=state.now + event)

    def instant(self, state: World) -> Hashable:
        return state.now


def asks(number: int, *asked: Any, lane: str = "") -> Invoked[Asked]:  # noqa: ANN401 - whatever a call is about
    """A call begins, in a lane of its own."""
    return Invoked(number, lane or f"lane {number}", asked)


def told(number: int, answer: Hashable = "ok") -> Returned[Hashable]:
    """A call ends."""
    return Returned(number, answer)


def history(*events: AnyEvent) -> AnyHistory:
    """These events."""
    return History(events)
