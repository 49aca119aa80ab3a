"""When to beat and when a lease is lost: decisions on numbers, and what must hold of them whatever the numbers."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prompt_studio import InputError, JobStatus, Outcome, OutcomeKind
from prompt_studio.running import beats
from prompt_studio.running.beats import JITTER, Beat, Loss, Pace, first_beat, is_over, loss, pace, renewed, unanswered

pytestmark = pytest.mark.conformance

LEASE = 60
SPREADS = st.floats(1 - JITTER, 1 + JITTER)
LEASES = st.integers(1, 3600)


@dataclass
class Played:
    """A holder's story: what it knows, when it last asked with success, and what the database has written by then."""

    beat: Beat
    answered_at: float
    now: float


class TestPace:
    @pytest.mark.verifies("PS-LEASE-HB-4")
    def test_is_a_third_of_the_lease_unless_overridden(self) -> None:
        assert pace(LEASE, None) == Pace(LEASE, 20)
        assert pace(LEASE, 7.5) == Pace(LEASE, 7.5)

    @pytest.mark.parametrize("seconds", [LEASE, LEASE + 1, 1e9])
    @pytest.mark.verifies("PS-LEASE-HB-5")
    def test_refuses_an_interval_that_the_lease_does_not_outlive(self, seconds: float) -> None:
        with pytest.raises(InputError, match=r"TLDW_PS_HEARTBEAT_SECONDS.* shorter than the lease of 60 s"):
            pace(LEASE, seconds)

    @pytest.mark.parametrize(("seconds", "slow"), [(None, False), (20, False), (20.1, True), (59.9, True)])
    @pytest.mark.verifies("PS-LEASE-HB-5")
    def test_is_slow_above_a_third_of_the_lease(self, seconds: float | None, *, slow: bool) -> None:
        assert pace(LEASE, seconds).is_slow is slow

    @pytest.mark.verifies("PS-LEASE-HB-6")
    @given(lease=LEASES, share=st.none() | st.floats(0.001, 0.999))
    def test_gives_no_beat_as_long_as_the_lease_is(self, lease: int, share: float | None) -> None:
        kept = pace(lease, None if share is None else lease * share)
        assert beats.BEAT_SECONDS_MIN <= kept.beat_seconds < lease / 2


class TestTheFirstBeat:
    def test_comes_after_one_interval(self) -> None:
        assert first_beat(Pace(LEASE, 20), 100, 1) == Beat(Pace(LEASE, 20), due=120, deadline=160)


class TestAnAnsweredBeat:
    @pytest.mark.verifies("PS-LEASE-HB-7")
    def test_moves_the_deadline_to_a_lease_after_the_call_began(self) -> None:
        beat = first_beat(Pace(LEASE, 20), 100, 1)
        assert renewed(beat, 120, 1) == Beat(Pace(LEASE, 20), due=140, deadline=180)

    def test_never_moves_the_deadline_back(self) -> None:
        beat = Beat(Pace(LEASE, 20), due=0, deadline=200)
        assert renewed(beat, 120, 1).deadline == 200


class TestABeatWithoutAnAnswer:
    @pytest.mark.verifies("PS-LEASE-HB-7")
    def test_is_tried_again_soon_and_moves_no_deadline(self) -> None:
        beat = first_beat(Pace(LEASE, 20), 100, 1)
        tried = unanswered(beat, 125, 1)
        assert (tried.due, tried.deadline) == (131, 160)

    def test_is_tried_again_no_later_than_an_interval(self) -> None:
        assert unanswered(first_beat(Pace(LEASE, 2), 0, 1), 10, 1).due == 12

    @pytest.mark.verifies("PS-LEASE-HB-25")
    def test_is_tried_again_soon_however_long_the_lease(self) -> None:
        assert unanswered(first_beat(Pace(3600, 1200), 100, 1), 1300, 1).due == 1310


@dataclass
class Rival:
    """One of several jobs whose beats are made one at a time; while it is locked its beats wait in vain."""

    beat: Beat
    locked: bool


class TestSeveralThatAreDue:
    def test_are_taken_by_the_time_that_they_have_left(self) -> None:
        early, late = (Beat(Pace(LEASE, 20), due, deadline) for due, deadline in ((9, 40), (1, 50)))
        assert min(late, early, key=lambda beat: beat.turn) == early
        assert min(late, unanswered(early, 10, 1), key=lambda beat: beat.turn) == late

    @pytest.mark.verifies("PS-LEASE-HB-2", "PS-LEASE-HB-6")
    @given(lease=LEASES, locked=st.integers(1, 30), free=st.integers(1, 30), waits=st.floats(0.5, 1))
    def test_keep_their_leases_however_many_others_are_waited_for_in_vain(
        self, lease: int, locked: int, free: int, waits: float
    ) -> None:
        """Each wait takes up to a whole beat's time, far more than the limit for locks: turns alone are enough."""
        kept, now = pace(lease, None), 0.0
        tried = unanswered(first_beat(kept, 0, 1), 0, 1)
        rivals = [Rival(tried, locked=True) for _ in range(locked)]
        rivals += [Rival(first_beat(kept, 0, 1), locked=False) for _ in range(free)]
        while now < 3 * lease:
            due = [rival for rival in rivals if rival.beat.due <= now]
            if not due:
                now = min(rival.beat.due for rival in rivals)
                continue
            rival = min(due, key=lambda rival: rival.beat.turn)
            if rival.locked:
                now += waits * kept.beat_seconds
                rival.beat = unanswered(rival.beat, now, 1)
            else:
                rival.beat = renewed(rival.beat, now, 1)
            assert not any(is_over(rival.beat, now) for rival in rivals if not rival.locked)

    @given(count=st.integers(2, 30))
    def test_are_all_tried_again_in_turn(self, count: int) -> None:
        """Though the pause between two tries is over by then, and the first has always the least time left."""
        beats = {number: unanswered(Beat(Pace(LEASE, 20), 0, LEASE + number), 0, 1) for number in range(count)}
        order, now = [], 100.0
        for _ in range(2 * count):
            number = min(beats, key=lambda number: beats[number].turn)
            order.append(number)
            now += 6
            beats[number] = unanswered(beats[number], now, 1)
        assert order == 2 * list(range(count))


class TestALease:
    @pytest.mark.verifies("PS-LEASE-HB-7")
    def test_is_lost_at_its_deadline(self) -> None:
        beat = first_beat(Pace(LEASE, 20), 100, 1)
        assert not is_over(beat, 159.999)
        assert is_over(beat, 160)

    @pytest.mark.verifies("PS-LEASE-HB-1", "PS-LEASE-HB-2", "PS-LEASE-HB-7")
    @given(
        lease=LEASES,
        share=st.none() | st.floats(0.01, 0.99),
        rounds=st.lists(st.tuples(st.booleans(), SPREADS, st.floats(0, 0.2)), max_size=30),
    )
    def test_is_kept_by_each_answer_in_time_and_believed_in_no_longer_than_the_database_does(
        self, lease: int, share: float | None, rounds: list[tuple[bool, float, float]]
    ) -> None:
        """The database writes the end somewhere within the call, so never before the call's beginning + the lease."""
        kept = pace(lease, None if share is None else lease * share)
        story = Played(first_beat(kept, 0, 1), answered_at=0, now=0)
        for answered, spread, took in rounds:
            asked_at = max(story.beat.due, story.now)
            if is_over(story.beat, asked_at):
                break
            story.now = asked_at + took * kept.beat_seconds
            if answered:
                assert asked_at < story.answered_at + lease  # before the lease that is there has ended
                story.beat, story.answered_at = renewed(story.beat, asked_at, spread), asked_at
            else:
                story.beat = unanswered(story.beat, story.now, spread)
            assert story.beat.deadline == story.answered_at + lease
            assert asked_at < story.beat.due

    @given(lease=LEASES, share=st.floats(0.01, 0.999), spread=SPREADS)
    def test_is_renewed_before_it_ends_whatever_the_jitter(self, lease: int, share: float, spread: float) -> None:
        beat = renewed(first_beat(pace(lease, lease * share), 0, spread), 0, spread)
        assert 0 < beat.due < beat.deadline


class TestAnAnswer:
    @pytest.mark.parametrize(
        ("outcome", "found"),
        [
            (Outcome(OutcomeKind.APPLIED, JobStatus.PROCESSING), None),
            (Outcome(OutcomeKind.APPLIED, JobStatus.PROCESSING, late=True), None),
            (Outcome(OutcomeKind.LEASE_LOST, JobStatus.PROCESSING), Loss.LEASE_LOST),
            (Outcome(OutcomeKind.LEASE_LOST, JobStatus.QUEUED), Loss.LEASE_LOST),
            (Outcome(OutcomeKind.TERMINAL, JobStatus.CANCELLED), Loss.CANCELLED),
            (Outcome(OutcomeKind.TERMINAL, JobStatus.COMPLETED), Loss.ENDED),
            (Outcome(OutcomeKind.TERMINAL, JobStatus.FAILED), Loss.ENDED),
            (Outcome(OutcomeKind.NOT_FOUND), Loss.GONE),
        ],
    )
    @pytest.mark.verifies("PS-LEASE-HB-7", "PS-LEASE-HB-10")
    def test_says_whether_the_lease_is_lost_and_why(self, outcome: Outcome, found: Loss | None) -> None:
        assert loss(outcome) is found
