"""Histories that are possible, and histories that are not, of things that anybody knows."""

from collections.abc import Hashable, Iterator
from typing import Final

import pytest

from prompt_studio_model.checking import linearizability
from prompt_studio_model.checking.history import Call, Happened, Lost
from prompt_studio_model.checking.linearizability import Judged, Silent, check
from tests.checking.sequential import (
    AnyEvent,
    AnyMove,
    Asked,
    Effect,
    OneAtATime,
    World,
    asks,
    counter,
    history,
    lock,
    queue,
    register,
    told,
)

pytestmark = pytest.mark.model

EMPTY: Final[dict[Effect, object]] = {register: 0, queue: (), counter: 0, lock: None}


def judged(effect: Effect, *events: AnyEvent, steps_limit: int = 1_000) -> Judged[World, Asked, Hashable, int]:
    return check(history(*events), World(EMPTY[effect]), OneAtATime(effect), steps_limit=steps_limit)


def numbers(found: Judged[World, Asked, Hashable, int]) -> list[int]:
    """The calls in the order of the witness."""
    return [step.source.number for step in found.witness if step.kind == "effect"]


POSSIBLE: Final[dict[str, tuple[Effect, list[AnyEvent]]]] = {
    "nothing": (register, []),
    "one after the other": (register, [asks(1, "write", 1), told(1), asks(2, "read"), told(2, 1)]),
    "a read while it is written, before": (register, [asks(1, "write", 1), asks(2, "read"), told(2, 0), told(1)]),
    "a read while it is written, after": (register, [asks(1, "write", 1), asks(2, "read"), told(2, 1), told(1)]),
    "two reads while it is written": (
        register,
        [asks(1, "write", 1), asks(2, "read"), told(2, 0), asks(3, "read"), told(3, 1), told(1)],
    ),
    "the later question takes effect first": (
        queue,
        [asks(1, "put", 1), asks(2, "put", 2), told(1), told(2), asks(3, "get"), told(3, 2)],
    ),
    "one of two that want the lock": (
        lock,
        [asks(1, "lock", "a"), asks(2, "lock", "b"), told(1, False), told(2, True)],
    ),
    "a write that nobody saw end": (register, [asks(1, "write", 1), Lost(1), asks(2, "read"), told(2, 1)]),
    "a write that nobody saw end, and nobody saw": (register, [asks(1, "write", 1), asks(2, "read"), told(2, 0)]),
    "a write that nobody saw end, and that came late": (
        register,
        [asks(1, "write", 1), Lost(1), asks(2, "read"), told(2, 0), asks(3, "read"), told(3, 1)],
    ),
    "between two parts": (
        counter,
        [asks(1, "both", ("add", 1), ("add", 1)), asks(2, "read"), told(2, 1), told(1, (0, 1))],
    ),
    "between two parts, of which the second never came": (
        counter,
        [asks(1, "both", ("add", 1), ("add", 1)), asks(2, "read"), told(2, 1), asks(3, "add", 0), told(3, 1)],
    ),
    "a clock that was read before it moved": (
        register,
        [asks(1, "until", 10), Happened(5), told(1), asks(2, "read"), told(2, 10)],
    ),
    "a clock that was read after it moved": (
        register,
        [asks(1, "until", 10), Happened(5), told(1), asks(2, "read"), told(2, 15)],
    ),
}

IMPOSSIBLE: Final[dict[str, tuple[Effect, list[AnyEvent], int]]] = {
    "a stale read": (register, [asks(1, "write", 1), told(1), asks(2, "read"), told(2, 0)], 2),
    "a read of what nobody wrote": (register, [asks(1, "read"), told(1, 7)], 1),
    "a new value and then the old one": (
        register,
        [asks(1, "write", 1), asks(2, "read"), told(2, 1), asks(3, "read"), told(3, 0), told(1)],
        3,
    ),
    "both swap": (
        register,
        [asks(1, "swap", 0, 1), asks(2, "swap", 0, 2), told(1, True), told(2, True)],
        2,
    ),
    "both got the lock": (lock, [asks(1, "lock", "a"), asks(2, "lock", "b"), told(1, True), told(2, True)], 2),
    "nobody got the lock": (lock, [asks(1, "lock", "a"), asks(2, "lock", "b"), told(1, False), told(2, False)], 2),
    "out of order": (
        queue,
        [asks(1, "put", 1), told(1), asks(2, "put", 2), told(2), asks(3, "get"), told(3, 2)],
        3,
    ),
    "given twice": (
        queue,
        [asks(1, "put", 1), told(1), asks(2, "get"), asks(3, "get"), told(3, 1), told(2, 1)],
        2,
    ),
    "a write that was undone": (
        register,
        [asks(1, "write", 1), Lost(1), asks(2, "read"), told(2, 1), asks(3, "read"), told(3, 0)],
        3,
    ),
    "a clock that was read before the question": (
        register,
        [Happened(5), asks(1, "until", 10), told(1), asks(2, "read"), told(2, 10)],
        2,
    ),
    "a clock that was read after the answer": (
        register,
        [asks(1, "until", 10), told(1), Happened(5), asks(2, "read"), told(2, 15)],
        2,
    ),
    "two parts in the wrong order": (
        register,
        [asks(1, "both", ("write", 1), ("write", 2)), asks(2, "read"), told(2, 2), told(1, ("ok", "ok")),
         asks(3, "read"), told(3, 1)],
        3,
    ),
}  # fmt: skip


class TestCheck:
    @pytest.mark.parametrize("name", POSSIBLE)
    def test_holds(self, name: str) -> None:
        effect, events = POSSIBLE[name]

        assert judged(effect, *events).verdict == "holds"

    @pytest.mark.parametrize("name", IMPOSSIBLE)
    def test_is_violated_by_the_first_answer_that_nothing_explains(self, name: str) -> None:
        effect, events, number = IMPOSSIBLE[name]
        found = judged(effect, *events)

        assert found.verdict == "violated"
        assert found.failure is not None
        assert found.failure.call.number == number
        assert judged(effect, *events[: found.failure.place]).verdict == "holds"
        assert judged(effect, *events[: found.failure.place + 1]).verdict == "violated"
        assert found.finals == frozenset()

    def test_of_many_calls_is_quick_and_shallow(self) -> None:
        events: list[AnyEvent] = []
        for number in range(2_000):
            events += [asks(number, "add", 1, lane="a"), told(number, number % 5)]
        found = judged(counter, *events, steps_limit=4_000)

        assert (found.verdict, found.steps, len(found.witness)) == ("holds", 4_000, 2_000)


class TestFinals:
    def test_are_all_that_an_answer_left_open(self) -> None:
        found = judged(counter, asks(1, "add", 1), Lost(1), asks(2, "both", ("add", 1), ("add", 2)))

        assert {state.content for state in found.finals} == {0, 1, 2, 3, 4}

    def test_are_before_and_after_the_world_moved_when_a_call_may_have_been(self) -> None:
        found = judged(register, asks(1, "until", 10), Happened(5))

        assert found.finals == {World(0, 5), World(10, 5), World(15, 5)}

    def test_have_a_way_to_each(self) -> None:
        found = judged(counter, asks(1, "add", 1), asks(2, "add", 2), told(2, 1))

        assert [step.source.number for step in found.order_to(World(3))] == [1, 2]

    def test_have_a_witness_with_every_step(self) -> None:
        found = judged(counter, asks(1, "both", ("add", 1), ("add", 1)), asks(2, "read"), told(2, 1), Happened(3))

        assert numbers(found) == [2]
        assert [(step.kind, step.answer, step.after) for step in found.witness] == [
            ("part", None, World(1)),
            ("effect", 1, World(1)),
            ("event", None, World(1, 3)),
        ]


class TestFailure:
    def test_says_what_would_have_been_answered_instead_and_after_what(self) -> None:
        events: list[AnyEvent] = [asks(1, "put", 1), told(1), asks(2, "put", 2), asks(3, "get"), told(3, 3)]
        failure = judged(queue, *events).failure

        assert failure is not None
        assert failure.place == 4
        assert [step.source.number for step in failure.order] == [1]
        assert {(one.answer, *(step.source.number for step in one.order)) for one in failure.otherwise} == {(1, 1, 3)}

    def test_has_each_other_answer_once(self) -> None:
        failure = judged(counter, asks(1, "add", 1), asks(2, "add", 2), asks(3, "read"), told(3, 9)).failure

        assert failure is not None
        assert [one.answer for one in failure.otherwise] == [0, 1, 2, 3]

    def test_is_not_an_earlier_answer_for_which_a_later_one_leaves_no_room(self) -> None:
        """With what the write is answered later, nobody can have read what it wrote; the reader is not to blame."""
        failure = judged(register, asks(1, "write", 1), asks(2, "read"), told(2, 1), told(1, "never")).failure

        assert failure is not None
        assert (failure.place, failure.call.number) == (3, 1)
        assert [one.answer for one in failure.otherwise] == ["ok"]

    def test_has_no_other_answer_where_the_model_has_none(self) -> None:
        class Stuck(OneAtATime):
            def successors(self, *_: object) -> Iterator[AnyMove]:
                yield from ()

        found = check(history(asks(1, "read"), told(1, 0)), World(0), Stuck(register))

        assert found.failure == linearizability.Impossible(1, found.history.calls[1], (), ())

    @pytest.mark.parametrize(("steps_limit", "place"), [(1_000, 9), (100, 5)], ids=["enough", "too few"])
    def test_is_the_first_search_s_if_the_second_does_not_come_to_its_end(self, steps_limit: int, place: int) -> None:
        """Five add at once, and only the last answer cannot be: to see that takes all their orders."""
        asked = [asks(number, "add", 1) for number in range(5)]
        ends = [told(number, 4 - number) for number in range(4)]
        found = judged(counter, *asked, *ends, told(4, 1), steps_limit=steps_limit)

        assert (found.verdict, found.failure and found.failure.place) == ("violated", place)


class TestLimit:
    def test_ends_the_search_and_nothing_holds(self) -> None:
        events = (asks(1, "write", 1), asks(2, "read"), told(2, 1), told(1))
        steps = judged(register, *events).steps

        assert judged(register, *events, steps_limit=steps).verdict == "holds"
        assert judged(register, *events, steps_limit=steps - 1).verdict == "inconclusive"
        assert judged(register, *events, steps_limit=steps - 1).finals == frozenset()

    def test_counts_what_may_have_been_after_all(self) -> None:
        assert judged(register, asks(1, "write", 1), steps_limit=1).verdict == "inconclusive"

    def test_reaches_into_a_model_that_goes_on_for_ever(self) -> None:
        class Endless(OneAtATime):
            def successors(
                self, state: World, call: Call[Asked, Hashable], progress: Hashable, instants: tuple[Hashable, ...]
            ) -> Iterator[AnyMove]:
                del call, progress, instants
                while True:
                    yield Silent(state, None)

        found = check(history(asks(1, "read"), told(1, 0)), World(0), Endless(register), steps_limit=50)

        assert (found.verdict, found.steps) == ("inconclusive", 51)

    def test_ends_parts_without_end(self) -> None:
        class Creeping(OneAtATime):
            def successors(
                self, state: World, call: Call[Asked, Hashable], progress: Hashable, instants: tuple[Hashable, ...]
            ) -> Iterator[AnyMove]:
                del call, instants
                yield Silent(state, 1 if progress is None else hash(progress) + 1)

        found = check(history(asks(1, "read"), told(1, 0)), World(0), Creeping(register), steps_limit=50)

        assert found.verdict == "inconclusive"
