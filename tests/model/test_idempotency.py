"""Idempotency keys in the model: scopes, the first writer, retention."""

import pytest

from prompt_studio_model import operations as op
from prompt_studio_model.state import Scope
from tests.model.play import JOB_KEY, KEY, Play

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


def create(play: Play, fingerprint: str = "one", scope: Scope = JOB_KEY) -> op.Response:
    return play.do(op.CreateOnce(scope=scope, fingerprint=fingerprint))


@pytest.mark.verifies("PS-IDEMPOTENCY-PG-5", "INV-ONE-EFFECT-PER-KEY", "INV-REPLAY-SAFE")
class TestCreateOnce:
    def test_makes_the_job_and_the_key_of_the_first_and_tells_everybody_of_it(self, play: Play) -> None:
        assert create(play) == op.Made(play.job(), created=True)
        before = play.state

        assert lookup(play, JOB_KEY) == op.Number(1)
        assert create(play) == op.Made(play.job(), created=False)
        assert play.state == before

    def test_tells_of_the_job_as_it_is_by_now(self, play: Play) -> None:
        create(play)
        claimed = play.acquire()

        assert create(play) == op.Made(claimed, created=False)

    @pytest.mark.verifies("PS-IDEMPOTENCY-PG-6")
    def test_refuses_another_request_and_changes_nothing(self, play: Play) -> None:
        create(play)
        before = play.state

        assert create(play, "two") == op.Mismatch()
        assert play.state == before

    @pytest.mark.verifies("PS-IDEMPOTENCY-PG-6")
    def test_takes_any_request_for_a_key_that_was_recorded_by_hand(self, play: Play) -> None:
        job = play.create()
        record(play, job.id, JOB_KEY)

        assert [create(play, name) for name in ("one", "two")] == [op.Made(job, created=False)] * 2

    @pytest.mark.verifies("PS-IDEMPOTENCY-PG-8")
    def test_does_not_make_again_what_was_deleted(self, play: Play) -> None:
        create(play)
        play.do(op.Cancel(job_id=1))
        play.tick(1)
        play.do(op.Cleanup(age=0))

        assert create(play) == op.Gone()
        assert create(play, "two") == op.Mismatch()
        assert play.state.jobs == ()

    @pytest.mark.verifies("INV-NO-CROSS-USER", "PS-IDEMPOTENCY-SCOPE-1", "PS-IDEMPOTENCY-SCOPE-4")
    @pytest.mark.parametrize("user", ["bob", None])
    def test_makes_another_job_for_another_user(self, play: Play, user: str | None) -> None:
        create(play)

        assert create(play, "two", JOB_KEY._replace(user_id=user)) == op.Made(play.job(2), created=True)

    @pytest.mark.verifies("PS-IDEMPOTENCY-PG-3")
    def test_makes_another_job_when_the_key_has_expired(self) -> None:
        play = Play(retention=10)
        create(play)
        play.tick(10)

        assert create(play, "two") == op.Made(play.job(2), created=True)
        assert [(row.entity_id, row.created_at, row.fingerprint) for row in play.state.keys] == [(2, 10, "two")]


@pytest.mark.verifies("PS-IDEMPOTENCY-PG-7")
class TestCleanupKeys:
    def test_deletes_what_has_expired_and_nothing_else(self) -> None:
        play = Play(retention=10)
        record(play, 7)
        play.tick(9)
        create(play)

        assert play.do(op.CleanupKeys()) == op.Number(0)
        play.tick(1)
        assert play.do(op.CleanupKeys()) == op.Number(1)
        assert [row.scope for row in play.state.keys] == [JOB_KEY]
