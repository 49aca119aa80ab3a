"""Is a history linearizable? By trying every order there is: too slow for more than a few calls, and too simple to err.

It shares nothing with the checker but the events and the effects. `histories` makes the histories to compare them on.
"""

from collections.abc import Hashable, Iterator
from typing import Any, Final, NamedTuple

from hypothesis import strategies as st

from prompt_studio_model.checking.history import Happened, History, Invoked, Lost, Returned
from tests.checking.sequential import (
    AnyEvent,
    AnyHistory,
    Asked,
    Effect,
    World,
    asks,
    counter,
    lock,
    queue,
    register,
    told,
)

FOR_EVER: Final = 1_000_000
ITEMS_MOST: Final = 6
TICKS_MOST: Final = 2
Told = tuple[tuple[int, Hashable], ...]


class Item(NamedTuple):
    """A part of a call's effect, or the world's move, and between which events it was."""

    begin: int
    end: int
    number: int
    part: int
    what: Any


def possible(events: tuple[AnyEvent, ...], effect: Effect, content: object) -> set[World]:
    """In which states the world may be after these events; in none, if they are impossible."""
    ends = {event.number: (place, event.answer) for place, event in enumerate(events) if isinstance(event, Returned)}
    choices: list[list[Item]] = [[]]
    answers: dict[int, Hashable] = {}
    for place, event in enumerate(events):
        if isinstance(event, Happened):
            choices = [[*items, Item(place, place, -place, 0, event.event)] for items in choices]
        if isinstance(event, Invoked):
            is_two = event.invocation[0] == "both"
            parts = event.invocation[1:] if is_two else (event.invocation,)
            end, answer = ends.get(event.number, (FOR_EVER, None))
            mine = [Item(place, end, event.number, part, what) for part, what in enumerate(parts)]
            done = range(len(mine) + 1) if end == FOR_EVER else [len(mine)]
            choices = [[*items, *mine[:count]] for items in choices for count in done]
            if end != FOR_EVER:
                answers[event.number] = answer if is_two else (answer,)
    return {
        world
        for items in choices
        for order in orders(items)
        for world, told_all in played(order, effect, content)
        if all(tuple(one for of, one in told_all if of == number) == answer for number, answer in answers.items())
    }


def orders(items: list[Item]) -> Iterator[list[Item]]:
    """Every order in which nothing comes before what had ended when it began, nor before an earlier part of its own."""
    if not items:
        yield []
    for one in items:
        rest = [other for other in items if other is not one]
        if not any(comes_before(other, one) for other in rest):
            yield from ([one, *more] for more in orders(rest))


def comes_before(one: Item, other: Item) -> bool:
    """Whether real time, or the call of which both are parts, says so."""
    return one.end < other.begin or (one.number == other.number and one.part < other.part)


def played(order: list[Item], effect: Effect, content: object) -> list[tuple[World, Told]]:
    """Where this order ends, and what each part was answered; clocks are read at any time since the question."""
    runs: list[tuple[object, Told]] = [(content, ())]
    clock = [(-1, 0)]  # from which event on it shows what
    for begin, _, number, _, what in order:
        if isinstance(what, int):
            clock.append((begin, clock[-1][1] + what))
        elif what[0] == "stamp":
            runs = [(clock[-1][1], (*before, (number, "ok"))) for _, before in runs]
        elif what[0] == "until":
            first = max(place for place, _ in clock if place <= begin)
            readings = [now for place, now in clock if place >= first]
            runs = [(now + what[1], (*before, (number, "ok"))) for _, before in runs for now in readings]
        else:
            after = [(effect(content, what), before) for content, before in runs]
            runs = [(content, (*before, (number, answer))) for (content, answer), before in after]
    return [(World(content, clock[-1][1]), told_all) for content, told_all in runs]


TWICE: Final = (("both", ("write", 2), ("read",)), ("both", ("swap", 0, 1), ("swap", 1, 0)))
CALLS: dict[Effect, st.SearchStrategy[Asked]] = {
    register: st.sampled_from(
        [("read",), ("write", 1), ("write", 2), ("swap", 0, 1), ("swap", 1, 2), ("until", 2), ("stamp",), *TWICE]
    ),
    queue: st.sampled_from([("put", 1), ("put", 2), ("get",), ("both", ("put", 3), ("get",))]),
    counter: st.sampled_from([("read",), ("add", 1), ("add", 2), ("both", ("add", 1), ("add", 1))]),
    lock: st.sampled_from([("lock", "a"), ("lock", "b"), ("unlock", "a"), ("both", ("unlock", "b"), ("lock", "a"))]),
}
EMPTY: dict[Effect, object] = {register: 0, queue: (), counter: 0, lock: None}
WRONG = st.sampled_from([0, 1, 2, None, True, False, "ok", "a", (0, 1), ("ok", "ok"), (True, True)])


@st.composite
def histories(draw: st.DrawFn, effect: Effect) -> AnyHistory:
    """A history as a thing that works would make it, except that some answers are not what it said."""
    events: list[AnyEvent] = []
    answer: Hashable
    content, now, asked_last, items = EMPTY[effect], 0, 0, 0
    under_way: dict[int, tuple[list[Asked], list[Hashable], bool]] = {}
    for what in draw(
        st.lists(st.sampled_from(["ask", "ask", "do", "do", "end", "end", "lose", "tick"]), min_size=6, max_size=20)
    ):
        number = draw(st.sampled_from(sorted(under_way))) if under_way else 0
        if what == "ask" and items < ITEMS_MOST:
            asked_last += 1
            asked = draw(CALLS[effect])
            is_two = asked[0] == "both"
            items += 1 + is_two
            under_way[asked_last] = (list(asked[1:]) if is_two else [asked], [], is_two)
            events.append(asks(asked_last, *asked))
        elif what == "tick" and now < TICKS_MOST:
            now += 1
            events.append(Happened(1))
        elif what == "do" and number and under_way[number][0]:
            left, answers, _ = under_way[number]
            part = left.pop(0)
            if part[0] in {"until", "stamp"}:
                content, answer = sum(part[1:], now), "ok"
            else:
                content, answer = effect(content, part)
            answers.append(answer)
        elif what == "lose" and number:
            del under_way[number]
            events.append(Lost(number))
        elif what == "end" and number:
            left, answers, is_two = under_way.pop(number)
            is_right = not left and draw(st.integers(0, 5)) > 0
            right = tuple(answers) if is_two else (answers or [None])[0]
            events.append(told(number, right if is_right else draw(WRONG)))
    return History(tuple(events))
