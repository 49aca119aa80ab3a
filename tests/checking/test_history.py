"""A history knows its calls, and refuses what nobody can have seen."""

import pytest

from prompt_studio_model.checking.history import (
    Call,
    EndedTwice,
    Happened,
    Invoked,
    LaneIsBusy,
    Lost,
    MalformedHistory,
    NeverInvoked,
    NumberUsedTwice,
    Returned,
)
from tests.checking.sequential import AnyEvent, asks, history, told

pytestmark = pytest.mark.model


class TestCalls:
    def test_have_their_answer_or_none(self) -> None:
        seen = history(asks(1, "put", 1), asks(2, "get"), told(1), Happened(5), asks(3, "get"), Lost(3), told(2, None))

        assert seen.calls == {
            1: Call(1, "lane 1", ("put", 1), returned=True, answer="ok"),
            2: Call(2, "lane 2", ("get",), returned=True, answer=None),
            3: Call(3, "lane 3", ("get",)),
        }

    def test_are_seen_without_their_answer_before_it_is_known(self) -> None:
        assert history(asks(1, "get"), told(1, 7)).calls[1].unanswered() == Call(1, "lane 1", ("get",))

    def test_follow_each_other_in_a_lane(self) -> None:
        assert set(history(asks(1, "get", lane="a"), told(1), asks(2, "get", lane="a")).calls) == {1, 2}

    def test_follow_one_whose_answer_was_lost(self) -> None:
        assert set(history(asks(1, "get", lane="a"), Lost(1), asks(2, "get", lane="a")).calls) == {1, 2}


class TestHistory:
    def test_has_events_that_can_be_made_with_their_types(self) -> None:
        made = (Invoked[str](1, "a", "get"), Returned[int](1, 7), Happened[float](0.5))

        assert made == (Invoked(1, "a", "get"), Returned(1, 7), Happened(0.5))

    def test_is_a_value(self) -> None:
        one, other = (history(asks(1, "get"), told(1, 7)) for _ in range(2))

        assert one == other
        assert len({one, other, history()}) == 2

    @pytest.mark.parametrize(
        ("events", "error", "place", "number", "advice"),
        [
            ([asks(1, "get"), asks(1, "get", lane="b")], NumberUsedTwice, 1, 1, "count on"),
            ([asks(1, "get"), told(1), asks(1, "get")], NumberUsedTwice, 2, 1, "count on"),
            ([asks(1, "get", lane="a"), asks(2, "get", lane="a")], LaneIsBusy, 1, 2, "a still waits for call 1"),
            ([told(1)], NeverInvoked, 0, 1, "record its Invoked first"),
            ([Lost(1)], NeverInvoked, 0, 1, "record its Invoked first"),
            ([told(1), asks(1, "get")], NeverInvoked, 0, 1, "record its Invoked first"),
            ([asks(1, "get"), told(1), told(1)], EndedTwice, 2, 1, "either Returned or Lost"),
            ([asks(1, "get"), Lost(1), told(1)], EndedTwice, 2, 1, "either Returned or Lost"),
            ([asks(1, "get"), told(1), Lost(1)], EndedTwice, 2, 1, "either Returned or Lost"),
        ],
    )
    def test_refuses_an_order_of_events_that_cannot_have_been(
        self, events: list[AnyEvent], error: type[MalformedHistory], place: int, number: int, advice: str
    ) -> None:
        with pytest.raises(error, match=advice) as refused:
            history(*events)

        assert (refused.value.place, refused.value.number) == (place, number)
