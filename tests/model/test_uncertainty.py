"""Lost replies: the world may be in several states, and answers tell which."""

import pytest

from prompt_studio_model import operations as op
from prompt_studio_model.state import Settings, State
from prompt_studio_model.step import step
from prompt_studio_model.uncertainty import after
from tests.model.play import LEASE, Play

pytestmark = pytest.mark.model


@pytest.fixture
def running(play: Play) -> frozenset[State]:
    play.create()
    play.acquire("a")
    return frozenset({play.state})


COMPLETE = op.Complete(session="a", job_id=1, token=1)
RENEW = op.Renew(session="b", job_id=1, token=1, lease=LEASE)


class TestLostReply:
    def test_forks_into_done_and_not_done(self, running: frozenset[State]) -> None:
        possible = after(running, op.LoseReply(call=COMPLETE), op.Nothing())

        assert {state.jobs[0].status for state in possible} == {"processing", "completed"}

    def test_of_a_call_that_changes_nothing_does_not_fork(self, running: frozenset[State]) -> None:
        stale = op.LoseReply(call=op.Complete(session="a", job_id=1, token=2))

        assert after(running, stale, op.Nothing()) == running

    @pytest.mark.verifies("INV-NOTHING-LOST")
    def test_of_a_create_leaves_none_or_one_job(self) -> None:
        possible = after([State()], op.LoseReply(call=op.Create()), op.Nothing())

        assert sorted(len(state.jobs) for state in possible) == [0, 1]

    def test_takes_the_session_and_its_locks_with_it_done_or_not(self) -> None:
        play = Play(advisory_locks=True)
        play.create()
        play.acquire("a")

        reached = step(play.state, op.LoseReply(session="a", call=COMPLETE), play.settings)

        assert [state.sessions for state, _ in reached] == [(), ()]

    def test_may_be_lost_again(self, running: frozenset[State]) -> None:
        once = after(running, op.LoseReply(call=COMPLETE), op.Nothing())

        assert after(once, op.LoseReply(call=COMPLETE), op.Nothing()) == once


class TestAnswer:
    def test_filters_the_states_in_which_it_could_not_be_given(self, running: frozenset[State]) -> None:
        possible = after(running, op.LoseReply(call=COMPLETE), op.Nothing())

        (state,) = after(possible, RENEW, op.Outcome("terminal", "completed"))

        assert state.jobs[0].status == "completed"

    def test_that_no_state_allows_empties_the_set(self, running: frozenset[State]) -> None:
        assert after(running, RENEW, op.Outcome("terminal", "completed")) == frozenset()

    def test_moves_each_state_on(self) -> None:
        doubtful = after([State()], op.LoseReply(call=op.Create()), op.Nothing())

        possible = after(doubtful, op.Tick(milliseconds=5), op.Nothing(), Settings())

        assert {state.now for state in possible} == {5}
        assert len(possible) == 2

    def test_to_a_repeated_call_settles_what_happened(self, running: frozenset[State]) -> None:
        """Whether the lost call was applied or not, its repetition makes it so: that is what already is for."""
        possible = after(running, op.LoseReply(call=COMPLETE), op.Nothing())
        answers = {answer for state in possible for _, answer in step(state, COMPLETE)}

        assert {answer.kind for answer in answers if isinstance(answer, op.Outcome)} == {"applied", "already"}
        settled = {reached for answer in answers for reached in after(possible, COMPLETE, answer)}
        assert len(settled) == 1
