"""Advisory locks in the model: what a session holds, remembers and gives back, and that they are no authority."""

import pytest

from prompt_studio_model import locks
from prompt_studio_model import operations as op
from prompt_studio_model.state import State
from tests.model.play import LEASE, Play

pytestmark = pytest.mark.model


@pytest.fixture
def play() -> Play:
    """An empty queue with advisory locks and a patience of ten."""
    return Play(advisory_locks=True, patience=10)


def hold_back(play: Play) -> None:
    """Job 1 is queued, and session `a`, which does not know yet that it was requeued, holds its lock."""
    play.create()
    play.acquire("a")
    play.update("queued")
    assert play.locks("a") == {(1, 1)}


class TestHold:
    @pytest.mark.verifies("PS-LOCKS-1", "INV-LOCKS-MATCH")
    def test_is_from_the_claim_on(self, play: Play) -> None:
        play.create()
        play.acquire("a")

        assert play.locks("a") == {(1, 1)}
        assert locks.holder(play.state, 1) == "a"
        assert locks.holder(play.state, 2) is None

    @pytest.mark.verifies("PS-LOCKS-4")
    def test_is_not_taken_where_locks_are_off(self) -> None:
        play = Play(advisory_locks=False)
        play.create()
        play.acquire("a")

        assert play.state.sessions == ()

    @pytest.mark.verifies("PS-LOCKS-7")
    def test_passes_to_the_new_token_when_the_same_session_acquires_again(self, play: Play) -> None:
        play.create()
        play.acquire("a")
        play.tick(LEASE)
        play.acquire("a")

        assert play.locks("a") == {(1, 2)}


@pytest.mark.verifies("PS-LOCKS-2")
class TestGiveBack:
    @pytest.mark.parametrize(
        "call",
        [
            op.Complete(session="a", job_id=1, token=1),
            op.Fail(session="a", job_id=1, token=1),
            op.Fail(session="a", job_id=1, token=1, retryable=False),
            op.Release(session="a", job_id=1, token=1),
            op.Retry(session="a", job_id=1, token=1),
            op.Cancel(session="a", job_id=1),
            op.UpdateStatus(session="a", job_id=1, status="queued", token=1),
            op.UpdateStatus(session="a", job_id=1, status="completed"),
        ],
        ids=lambda call: f"{call.operation} {'with' if call.token else 'without'} a token",
    )
    def test_is_part_of_every_closing_call(self, play: Play, call: op.JobCall) -> None:
        play.create()
        play.acquire("a")

        play.do(call)

        assert play.locks("a") == set()

    def test_is_no_part_of_a_renewal(self, play: Play) -> None:
        play.create()
        play.acquire("a")

        play.do(op.Renew(session="a", job_id=1, token=1, lease=LEASE))
        play.do(op.Renew(session="a", job_id=1, owner="a", lease=LEASE))

        assert play.locks("a") == {(1, 1)}

    def test_of_anothers_lock_is_not_possible(self, play: Play) -> None:
        play.create()
        play.acquire("a")

        play.do(op.Cancel(session="b", job_id=1))

        assert play.locks("a") == {(1, 1)}

    @pytest.mark.parametrize("deleted", [False, True], ids=["cancelled", "deleted"])
    def test_happens_when_the_worker_learns_its_fate(self, play: Play, *, deleted: bool) -> None:
        play.create()
        play.acquire("a")
        play.do(op.Cancel(session="b", job_id=1))
        if deleted:
            play.tick(1)
            play.do(op.Cleanup(age=0))

        renewed = play.told(op.Renew(session="a", job_id=1, token=1, lease=LEASE))

        assert renewed.kind == ("not_found" if deleted else "terminal")
        assert play.locks("a") == set()

    @pytest.mark.verifies("PS-LOCKS-8")
    def test_with_an_old_token_leaves_the_lock_of_a_new_attempt(self, play: Play) -> None:
        play.create()
        play.acquire("a")
        play.tick(LEASE)
        play.acquire("a")

        assert play.told(op.Complete(session="a", job_id=1, token=1)).kind == "lease_lost"
        assert play.locks("a") == {(1, 2)}

    def test_lets_another_session_take_the_lock(self, play: Play) -> None:
        play.create()
        play.acquire("a")
        play.do(op.Release(session="a", job_id=1, token=1))
        play.acquire("b")

        assert (play.locks("a"), play.locks("b")) == (set(), {(1, 2)})


class TestRefusal:
    @pytest.mark.verifies("PS-LOCKS-1", "PS-LOCKS-6")
    def test_passes_over_a_queued_row_that_another_session_holds(self, play: Play) -> None:
        hold_back(play)
        play.create(priority=1)

        assert play.acquire("b").id == 2

    @pytest.mark.verifies("PS-LOCKS-3", "PS-LOCKS-6")
    @pytest.mark.parametrize(("waited", "got"), [(10, False), (11, True)])
    def test_lasts_as_long_as_the_patience_and_counts_from_the_first(
        self, play: Play, waited: int, *, got: bool
    ) -> None:
        hold_back(play)
        assert play.given(play.claim("b")) is None
        play.tick(5)
        assert play.given(play.claim("b")) is None
        play.tick(waited - 5)

        assert (play.given(play.claim("b")) is not None) == got
        assert play.locks("b") == set()

    @pytest.mark.verifies("PS-LOCKS-6")
    def test_lasts_as_long_as_the_lease_asked_for_unless_patience_is_set(self) -> None:
        play = Play(advisory_locks=True)
        hold_back(play)
        play.do(play.claim("b", lease=20))
        play.tick(20)
        assert play.given(play.claim("b", lease=20)) is None

        assert play.given(play.claim("b", lease=19)) is not None

    @pytest.mark.verifies("PS-LOCKS-6")
    def test_of_an_older_attempt_makes_nobody_impatient(self, play: Play) -> None:
        hold_back(play)
        play.do(play.claim("b"))
        play.tick(11)
        play.acquire("a")
        play.update("queued")

        assert play.given(play.claim("b")) is None

    def test_is_forgotten_when_the_row_moves_on(self, play: Play) -> None:
        hold_back(play)
        play.do(play.claim("b"))
        assert play.state.session("b").refusals

        play.acquire("a")

        assert not play.state.session("b").refusals

    @pytest.mark.verifies("PS-LOCKS-3")
    def test_does_not_protect_an_expired_row(self, play: Play) -> None:
        play.create()
        play.acquire("a")
        play.tick(LEASE)

        assert play.acquire("b").lease_token == 2
        assert (play.locks("a"), play.locks("b")) == ({(1, 1)}, set())

    def test_does_not_bind_the_holder_itself(self, play: Play) -> None:
        hold_back(play)

        assert play.acquire("a").lease_token == 2

    @pytest.mark.verifies("PS-LOCKS-1")
    def test_also_meets_the_old_call_that_names_a_job(self, play: Play) -> None:
        hold_back(play)

        assert play.update("processing", session="b") is None
        assert play.job().status == "queued"
        assert play.update("processing", session="a") is not None


class TestCrash:
    @pytest.mark.verifies("PS-LOCKS-3")
    def test_takes_the_locks_with_it_and_leaves_the_rows(self, play: Play) -> None:
        play.create()
        job = play.acquire("a")

        assert play.do(op.Crash(session="a")) == op.Nothing()

        assert play.state == State(next_id=2, jobs=(job,))
        assert play.told(op.Complete(session="a", job_id=1, token=1)).kind == "applied"

    def test_of_one_session_leaves_the_others(self, play: Play) -> None:
        for worker in ("a", "b"):
            play.create()
            play.acquire(worker)

        play.do(op.Crash(session="a"))

        assert (play.locks("a"), play.locks("b")) == (set(), {(2, 1)})
