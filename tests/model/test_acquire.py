"""How a job comes into the queue and is claimed: create, acquire, and exhaustion on the way."""

import pytest

from prompt_studio_model import operations as op
from prompt_studio_model.leases import EXHAUSTED_ERROR
from tests.model.play import LEASE, Play

pytestmark = pytest.mark.model


class TestCreate:
    @pytest.mark.verifies("PS-CONCURRENCY-20")
    def test_inserts_a_queued_job_with_token_nought(self, play: Play) -> None:
        play.tick(7)

        job = play.create(job_type="generation", priority=9, max_retries=2, request="payload")

        assert job == play.job()
        assert (job.status, job.lease_token, job.created_at, job.available_at) == ("queued", 0, 7, 7)
        assert (job.job_type, job.priority, job.request) == ("generation", 9, "payload")

    @pytest.mark.verifies("PS-CONCURRENCY-16")
    def test_allows_one_execution_more_than_retries(self, play: Play) -> None:
        assert (play.create(max_retries=2).execution_limit, play.job().executions) == (3, 0)

    @pytest.mark.verifies("PS-CONCURRENCY-20", "INV-NOTHING-LOST")
    def test_never_gives_an_id_again(self, play: Play) -> None:
        play.create()
        play.do(op.Cancel(job_id=1))
        play.tick(1)
        play.do(op.Cleanup(age=0))

        assert play.create().id == 2
        assert play.state.job(1) is None


class TestAcquire:
    @pytest.mark.verifies("PS-CONCURRENCY-5", "PS-CONCURRENCY-16")
    def test_begins_an_attempt(self, play: Play) -> None:
        play.create()
        play.tick(5)

        job = play.acquire("a")

        assert (job.status, job.lease_owner, job.leased_until) == ("processing", "a", 5 + LEASE)
        assert (job.lease_token, job.executions, job.started_at, job.was_reclaim) == (1, 1, 5, False)
        assert job == play.job()

    @pytest.mark.verifies("PS-CONCURRENCY-1", "PS-CONCURRENCY-7")
    def test_gives_no_job_to_two_workers(self, play: Play) -> None:
        play.create()
        play.acquire("a")

        assert play.given(play.claim("b")) is None

    def test_of_an_empty_queue_is_none(self, play: Play) -> None:
        assert play.given(play.claim()) is None

    @pytest.mark.verifies("PS-CONCURRENCY-4", "PS-CONCURRENCY-2")
    @pytest.mark.parametrize(("elapsed", "token"), [(LEASE - 1, None), (LEASE, 2), (LEASE + 1, 2)])
    def test_reclaims_at_the_very_moment_of_expiry_and_not_before(
        self, play: Play, elapsed: int, token: int | None
    ) -> None:
        play.create()
        play.acquire("a")
        play.tick(elapsed)

        job = play.given(play.claim("b"))

        assert (None if job is None else job.lease_token) == token

    @pytest.mark.verifies("PS-CONCURRENCY-5")
    def test_of_an_expired_job_says_that_it_was_a_reclaim(self, play: Play) -> None:
        play.create()
        play.acquire("a")
        play.tick(LEASE)

        job = play.acquire("b")

        assert (job.was_reclaim, job.retry_count, job.executions, job.lease_owner) == (True, 1, 2, "b")

    def test_clears_what_the_last_attempt_left(self, play: Play) -> None:
        play.create()
        play.acquire("a")
        play.tick(LEASE)
        play.do(op.Fail(job_id=1, token=1, error="broken"))
        play.tick(1_000)
        assert (play.job().error, play.job().late, play.job().closed_by) == ("broken", True, "fail")

        job = play.acquire("a")

        assert (job.error, job.result, job.late, job.closed_token, job.closed_by) == (None, None, False, None, None)
        assert not job.was_reclaim

    def test_makes_up_a_fresh_owner_for_a_worker_without_a_name(self, play: Play) -> None:
        play.create()

        first = play.acquire(owner=None)
        play.tick(LEASE)
        second = play.acquire(owner=None)

        assert first.lease_owner is not None
        assert second.lease_owner is not None
        assert first.lease_owner != second.lease_owner

    @pytest.mark.verifies("PS-CONCURRENCY-7")
    def test_takes_the_higher_priority_then_the_older_then_the_lower_id(self, play: Play) -> None:
        for priority, after in ((5, 0), (5, 0), (9, 1), (5, 0)):
            play.tick(after)
            play.create(priority=priority)

        assert [play.acquire().id for _ in range(4)] == [3, 1, 2, 4]

    @pytest.mark.verifies("PS-CONCURRENCY-7")
    def test_gives_a_reclaimed_job_no_special_place(self, play: Play) -> None:
        play.create()
        play.acquire("a", lease=1)
        play.tick(1)
        play.create(priority=6)

        assert [play.acquire("b").id for _ in range(2)] == [2, 1]

    @pytest.mark.verifies("PS-CONCURRENCY-7")
    def test_passes_over_what_is_delayed_or_not_wanted(self, play: Play) -> None:
        play.create(priority=9, available_at=10)
        play.create(priority=8, job_type="generation")
        play.create(priority=1)

        assert play.acquire(job_types=frozenset({"evaluation"})).id == 3
        assert play.given(play.claim(job_types=frozenset({"optimization"}))) is None

    @pytest.mark.verifies("PS-CONCURRENCY-7")
    def test_takes_a_delayed_job_from_its_very_moment_on(self, play: Play) -> None:
        play.create(available_at=10)
        play.tick(9)
        assert play.given(play.claim()) is None
        play.tick(1)

        assert play.acquire().id == 1


@pytest.mark.verifies("PS-CONCURRENCY-8")
class TestExhaustion:
    def exhausted(self, play: Play, *priorities: int) -> None:
        for priority in priorities:
            play.create(priority=priority, max_retries=0)
            play.acquire("a", lease=1)
        play.tick(1)

    def test_fails_the_better_rows_on_the_way(self, play: Play) -> None:
        self.exhausted(play, 9, 5)
        play.create(priority=6)

        assert play.acquire("b").id == 3
        assert [job.status for job in play.state.jobs] == ["failed", "processing", "processing"]

    def test_fails_all_of_them_when_there_is_nothing_to_take(self, play: Play) -> None:
        self.exhausted(play, 9, 5)

        assert play.given(play.claim("b")) is None
        assert [job.status for job in play.state.jobs] == ["failed", "failed"]

    def test_fails_none_of_a_type_that_is_not_wanted(self, play: Play) -> None:
        self.exhausted(play, 9)

        play.do(play.claim("b", job_types=frozenset({"generation"})))

        assert play.job().status == "processing"

    def test_fails_none_whose_lease_is_live(self, play: Play) -> None:
        play.create(max_retries=0)
        play.acquire("a")

        play.do(play.claim("b"))

        assert play.job().status == "processing"

    def test_fails_so_many_in_one_call_best_first(self) -> None:
        play = Play(exhausted_per_call=2)
        self.exhausted(play, 5, 7, 6)

        play.do(play.claim("b"))

        assert [job.status for job in play.state.jobs] == ["processing", "failed", "failed"]

    def test_says_why_and_keeps_what_the_attempt_was(self, play: Play) -> None:
        self.exhausted(play, 5)
        play.tick(3)
        before = play.job()

        play.do(play.claim("b"))

        assert play.job() == before._replace(
            status="failed", error=EXHAUSTED_ERROR, completed_at=4, lease_owner=None, leased_until=None
        )
