"""What people read when a history is impossible."""

from collections.abc import Hashable, Iterator

import pytest

from prompt_studio_model.checking.explanation import explained
from prompt_studio_model.checking.history import Happened, Lost
from prompt_studio_model.checking.linearizability import check
from tests.checking.sequential import (
    AnyEvent,
    AnyMove,
    Effect,
    OneAtATime,
    World,
    asks,
    counter,
    history,
    queue,
    register,
    told,
)

pytestmark = pytest.mark.model


def words(effect: Effect, content: Hashable, *events: AnyEvent, steps_limit: int = 1_000) -> list[str]:
    return explained(check(history(*events), World(content), OneAtATime(effect), steps_limit=steps_limit)).splitlines()


class TestExplained:
    def test_says_all_of_a_short_history(self) -> None:
        events: list[AnyEvent] = [
            *(asks(1, "put", 1), told(1), Happened(5), asks(2, "put", 2), Lost(2)),
            *(asks(3, "both", ("get",), ("get",)), asks(4, "get"), told(4, 2), told(3, (1, 2))),
        ]
        assert words(queue, (), *events) == [
            "violated: no order of effects explains the answer to call 3 of lane 3 (32 steps, 20 configurations)",
            "  asked     ('both', ('get'), ('get'))",
            "  answered  (1, 2)",
            "  the model's answers instead",
            "    (1, None)   in the order 1 [5] 3… 3 2 4",
            "  one order of effects that explains everything before",
            "     1  call 1 of lane 1: ('put', 1) → 'ok'",
            "            content: () → (1)",
            "     2  5",
            "            now: 0 → 5",
            "     3  call 2 of lane 2: ('put', 2) → 'ok'",
            "            content: (1) → (1, 2)",
            "     4  call 3 of lane 3: ('both', ('get'), ('get')), in part",
            "            content: (1, 2) → (2)",
            "     5  call 4 of lane 4: ('get') → 2",
            "            content: (2) → ()",
            "  what was seen",
            "     0  call 1 of lane 1 asks ('put', 1)",
            "     1  call 1 of lane 1 is told 'ok'",
            "     2  5",
            "     3  call 2 of lane 2 asks ('put', 2)",
            "     4  call 2 of lane 2 waits no longer",
            "     5  call 3 of lane 3 asks ('both', ('get'), ('get'))",
            "     6  call 4 of lane 4 asks ('get')",
            "     7  call 4 of lane 4 is told 2",
            "     8  call 3 of lane 3 is told (1, 2)",
        ]

    def test_says_that_the_model_has_no_answer(self) -> None:
        class Stuck(OneAtATime):
            def successors(self, *_: object) -> Iterator[AnyMove]:
                yield from ()

        found = check(history(asks(1, "read"), told(1, 0)), World(0), Stuck(register))

        assert "    none" in explained(found).splitlines()

    def test_cuts_what_was_long_before(self) -> None:
        events: list[AnyEvent] = []
        for number in range(30):
            events += [asks(number, "add", 1), told(number, number % 5)]
        text = words(counter, 0, *events, asks(30, "read"), told(30, 1))

        assert "        (10 before)" in text
        assert "    11  call 10 of lane 10: ('add', 1) → 0" in text
        assert "        (22 before)" in text
        assert "    61  call 30 of lane 30 is told 1" in text
        assert "    22  call 11 of lane 11 asks ('add', 1)" in text
        assert len(text) == 1 + 2 + 1 + 1 + 1 + (1 + 20 * 2) + 1 + (1 + 40)

    def test_cuts_many_answers(self) -> None:
        writes = [asks(number, "write", number) for number in range(1, 8)]
        text = words(register, 0, *writes, asks(8, "read"), told(8, 9), steps_limit=100_000)

        assert "    ... and 3 more" in text

    def test_says_in_a_line_what_holds_and_what_is_not_known(self) -> None:
        events = (asks(1, "read"), told(1, 0))

        assert words(register, 0, *events) == [
            "holds: there is an order of effects that explains every answer (2 steps, 4 configurations)"
        ]
        assert words(register, 0, *events, steps_limit=1) == [
            "inconclusive: the limit was reached (2 steps, 1 configurations)"
        ]
