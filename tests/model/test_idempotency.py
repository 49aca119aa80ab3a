"""Idempotency keys in the model: scopes, the first writer, retention."""

import pytest

from prompt_studio_model import operations as op
from prompt_studio_model.state import Scope
from tests.model.play import KEY, Play

pytestmark = pytest.mark.model


def record(play: Play, entity_id: int, scope: Scope = KEY) -> op.Response:
    return play.do(op.Record(scope=scope, entity_id=entity_id))


def lookup(play: Play, scope: Scope = KEY) -> op.Response:
    return play.do(op.Lookup(scope=scope))


class TestLookup:
    @pytest.mark.verifies("PS-IDEMPOTENCY-PG-1")
    def test_gives_the_recorded_entity_or_none(self, play: Play) -> None:
        assert lookup(play) == op.Number(None)

        record(play, 7)

        assert lookup(play) == op.Number(7)


class TestRecord:
    @pytest.mark.verifies("PS-IDEMPOTENCY-PG-2", "INV-ONE-EFFECT-PER-KEY", "INV-REPLAY-SAFE")
    def test_tells_everybody_the_first_writers_entity(self, play: Play) -> None:
        assert record(play, 7) == op.Recorded(7, created=True)
        before = play.state

        assert record(play, 8) == op.Recorded(7, created=False)
        assert record(play, 7) == op.Recorded(7, created=False)
        assert play.state == before

    @pytest.mark.verifies("PS-IDEMPOTENCY-SCOPE-1", "PS-IDEMPOTENCY-SCOPE-3", "INV-NO-CROSS-USER")
    @pytest.mark.parametrize(
        "other", [KEY._replace(user_id="bob"), KEY._replace(key="2"), KEY._replace(entity_type="x")]
    )
    def test_says_nothing_to_another_scope(self, play: Play, other: Scope) -> None:
        record(play, 7)

        assert lookup(play, other) == op.Number(None)
        assert record(play, 8, other) == op.Recorded(8, created=True)
        assert lookup(play) == op.Number(7)

    @pytest.mark.verifies("PS-IDEMPOTENCY-SCOPE-4")
    @pytest.mark.parametrize(("first", "second"), [("ann", None), (None, "ann")])
    def test_keeps_users_and_nobody_apart(self, play: Play, first: str | None, second: str | None) -> None:
        record(play, 7, KEY._replace(user_id=first))

        assert lookup(play, KEY._replace(user_id=second)) == op.Number(None)

    @pytest.mark.verifies("PS-IDEMPOTENCY-SCOPE-4")
    def test_protects_the_key_of_nobody_too(self, play: Play) -> None:
        nobody = KEY._replace(user_id=None)
        record(play, 7, nobody)

        assert record(play, 8, nobody) == op.Recorded(7, created=False)


@pytest.mark.verifies("PS-IDEMPOTENCY-PG-3")
class TestRetention:
    @pytest.mark.parametrize(("elapsed", "found"), [(9, 7), (10, None), (11, None)])
    def test_ends_at_its_very_moment(self, elapsed: int, found: int | None) -> None:
        play = Play(retention=10)
        record(play, 7)
        play.tick(elapsed)

        assert lookup(play) == op.Number(found)

    def test_lets_an_expired_row_be_replaced_entity_and_time_together(self) -> None:
        play = Play(retention=10)
        record(play, 7)
        play.tick(10)

        assert record(play, 8) == op.Recorded(8, created=True)
        assert [(row.entity_id, row.created_at) for row in play.state.keys] == [(8, 10)]

    def test_is_for_ever_unless_it_is_set(self, play: Play) -> None:
        record(play, 7)
        play.tick(10**12)

        assert lookup(play) == op.Number(7)
