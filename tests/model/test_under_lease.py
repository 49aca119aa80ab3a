"""What a worker may do under its lease: renew it, and end it by one of the closing calls with a token."""

import pytest

from prompt_studio_model import operations as op
from prompt_studio_model.leases import backoff
from prompt_studio_model.state import Settings
from tests.model.play import LEASE, Play

pytestmark = pytest.mark.model

CLOSING_CALLS = [op.Complete, op.Fail, op.Release, op.Retry]


class TestRenew:
    @pytest.mark.verifies("PS-CONCURRENCY-3", "INV-LEASE-MONOTONE")
    @pytest.mark.parametrize(("lease", "until"), [(LEASE, 10 + LEASE), (1, LEASE), (LEASE - 10, LEASE)])
    def test_takes_the_later_of_the_two_ends(self, play: Play, lease: int, until: int) -> None:
        play.create()
        play.acquire()
        play.tick(10)

        renewed = play.told(op.Renew(job_id=1, token=1, lease=lease))

        assert (renewed.kind, renewed.late, play.job().leased_until) == ("applied", False, until)

    @pytest.mark.verifies("PS-CONCURRENCY-11")
    def test_is_accepted_late_and_says_so(self, play: Play) -> None:
        play.create()
        play.acquire()
        play.tick(LEASE)

        renewed = play.told(op.Renew(job_id=1, token=1, lease=LEASE))

        assert (renewed.kind, renewed.late, play.job().leased_until) == ("applied", True, 2 * LEASE)

    def test_in_time_forgets_an_earlier_lateness(self, play: Play) -> None:
        play.create()
        play.acquire()
        play.tick(LEASE)
        play.do(op.Renew(job_id=1, token=1, lease=LEASE))

        assert not play.told(op.Renew(job_id=1, token=1, lease=LEASE)).late
        assert not play.job().late

    @pytest.mark.verifies("PS-CONCURRENCY-18")
    def test_of_a_cancelled_job_is_how_a_worker_learns(self, play: Play) -> None:
        play.create()
        play.acquire()
        play.do(op.Cancel(job_id=1))

        renewed = play.told(op.Renew(job_id=1, token=1, lease=LEASE))

        assert (renewed.kind, renewed.status, bool(renewed), renewed.job) == ("terminal", "cancelled", False, None)

    @pytest.mark.verifies("PS-CONCURRENCY-9")
    @pytest.mark.parametrize(
        ("owner", "kind"), [("a", "applied"), ("b", "lease_lost")], ids=["the owner", "another name"]
    )
    def test_without_a_token_goes_by_the_name(self, play: Play, owner: str, kind: str) -> None:
        play.create()
        play.acquire("a")

        assert play.told(op.Renew(job_id=1, owner=owner, lease=LEASE)).kind == kind

    @pytest.mark.verifies("PS-CONCURRENCY-9")
    def test_by_name_says_late_too(self, play: Play) -> None:
        play.create()
        play.acquire("a")
        play.tick(LEASE)

        assert play.told(op.Renew(job_id=1, owner="a", lease=LEASE)).late

    @pytest.mark.verifies("PS-CONCURRENCY-9")
    def test_with_a_token_ignores_the_name(self, play: Play) -> None:
        play.create()
        play.acquire("a")

        assert play.told(op.Renew(job_id=1, token=1, owner="b", lease=LEASE)).kind == "applied"
        assert play.told(op.Renew(job_id=1, token=2, owner="a", lease=LEASE)).kind == "lease_lost"

    @pytest.mark.verifies("PS-CONCURRENCY-9")
    def test_with_neither_is_refused_before_a_row_is_looked_at(self, play: Play) -> None:
        assert play.do(op.Renew(job_id=1, lease=LEASE)) == op.Rejected()


class TestComplete:
    @pytest.mark.verifies("PS-CONCURRENCY-13")
    def test_writes_the_result_and_ends_the_lease(self, play: Play) -> None:
        play.create()
        play.acquire()
        play.tick(3)

        done = play.told(op.Complete(job_id=1, token=1, result="answer"))

        job = play.job()
        assert (done.kind, done.status, done.job) == ("applied", "completed", job)
        assert (job.result, job.error, job.completed_at, job.leased_until) == ("answer", None, 3, None)
        assert (job.closed_token, job.closed_by) == (1, "complete")

    @pytest.mark.verifies("PS-CONCURRENCY-10", "INV-SINGLE-HOLDER")
    def test_with_a_stale_token_changes_nothing(self, play: Play) -> None:
        play.create()
        play.acquire("a")
        play.tick(LEASE)
        play.acquire("b")
        before = play.state

        lost = play.told(op.Complete(job_id=1, token=1, result="late answer"))

        assert (lost.kind, lost.status, bool(lost)) == ("lease_lost", "processing", False)
        assert play.state == before

    @pytest.mark.verifies("PS-CONCURRENCY-10")
    def test_with_a_stale_token_on_a_terminal_row_is_lost_and_not_terminal(self, play: Play) -> None:
        play.create()
        play.acquire("a")
        play.tick(LEASE)
        play.acquire("b")
        play.do(op.Complete(job_id=1, token=2))

        assert play.told(op.Complete(job_id=1, token=1)).kind == "lease_lost"

    @pytest.mark.verifies("PS-CONCURRENCY-11")
    def test_is_accepted_late_as_long_as_nobody_reclaimed(self, play: Play) -> None:
        play.create(max_retries=0)
        play.acquire()
        play.tick(10 * LEASE)

        done = play.told(op.Complete(job_id=1, token=1))

        assert (done.kind, done.late) == ("applied", True)

    @pytest.mark.verifies("PS-CONCURRENCY-18")
    def test_of_a_cancelled_job_is_refused(self, play: Play) -> None:
        play.create()
        play.acquire()
        play.do(op.Cancel(job_id=1))

        assert play.told(op.Complete(job_id=1, token=1)) == op.Outcome("terminal", "cancelled")

    def test_of_a_job_that_is_not_there_has_no_status(self, play: Play) -> None:
        assert play.told(op.Complete(job_id=1, token=1)) == op.Outcome("not_found", None)


class TestFail:
    @pytest.mark.verifies("PS-CONCURRENCY-14")
    def test_requeues_while_the_budget_lasts_and_keeps_the_error(self, play: Play) -> None:
        play.create(max_retries=1)
        play.acquire()

        failed = play.told(op.Fail(job_id=1, token=1, error="broken"))

        job = play.job()
        assert (failed.kind, job.status, job.error, job.result) == ("applied", "queued", "broken", None)
        assert (job.available_at, job.retry_count, job.executions, job.started_at) == (1_000, 1, 1, None)

    @pytest.mark.verifies("PS-CONCURRENCY-14")
    def test_ends_the_job_with_the_last_execution(self, play: Play) -> None:
        play.create(max_retries=0)
        play.acquire()

        play.do(op.Fail(job_id=1, token=1, error="broken"))

        job = play.job()
        assert (job.status, job.completed_at, job.retry_count, job.error) == ("failed", 0, 0, "broken")

    @pytest.mark.verifies("PS-CONCURRENCY-14")
    def test_for_good_does_not_requeue(self, play: Play) -> None:
        play.create(max_retries=3)
        play.acquire()

        assert play.told(op.Fail(job_id=1, token=1, retryable=False)).status == "failed"

    @pytest.mark.verifies("PS-CONCURRENCY-14")
    @pytest.mark.parametrize(
        ("executions", "spread", "delay"),
        [
            (1, 1_000, 1_000),
            (1, 500, 500),
            (2, 1_000, 2_000),
            (3, 750, 3_000),
            (10, 1_000, 512_000),
            (11, 1_000, 600_000),
            (11, 500, 300_000),
            (20, 1_000, 600_000),
            (200, 999, 599_400),
        ],
    )
    def test_backs_off_twice_as_long_each_time_up_to_ten_minutes(
        self, executions: int, spread: int, delay: int
    ) -> None:
        assert backoff(Settings(), executions, spread) == delay


class TestRelease:
    @pytest.mark.verifies("PS-CONCURRENCY-15")
    def test_gives_the_execution_back_and_the_job_at_once(self, play: Play) -> None:
        play.create(max_retries=0)
        play.acquire()
        play.tick(3)

        play.do(op.Release(job_id=1, token=1))

        job = play.job()
        assert (job.status, job.executions, job.available_at, job.retry_count) == ("queued", 0, 3, 0)
        assert (job.lease_token, job.started_at) == (1, None)
        assert play.acquire("b").lease_token == 2


class TestRetryWithAToken:
    @pytest.mark.verifies("PS-CONCURRENCY-17")
    @pytest.mark.parametrize("retries", [0, 1])
    def test_is_fail_with_a_retry(self, retries: int) -> None:
        calls: tuple[op.JobCall, ...] = (
            op.Retry(job_id=1, token=1, error="broken", spread=700),
            op.Fail(job_id=1, token=1, error="broken", spread=700),
        )
        ends = []
        for call in calls:
            play = Play()
            play.create(max_retries=retries)
            play.acquire()
            ends.append((play.told(call), play.state))

        assert ends[0] == ends[1]


class TestClosingAgain:
    @pytest.mark.verifies("PS-CONCURRENCY-12", "INV-REPLAY-SAFE")
    @pytest.mark.parametrize("call", CLOSING_CALLS)
    @pytest.mark.parametrize("retries", [0, 1])
    def test_with_the_same_token_is_already_and_changes_nothing(
        self, play: Play, call: type[op.JobCall], retries: int
    ) -> None:
        play.create(max_retries=retries)
        play.acquire()
        first = play.told(call(job_id=1, token=1))
        play.tick(5)
        before = play.state

        again = play.told(call(job_id=1, token=1))

        assert (again.kind, again.job, bool(again)) == ("already", first.job, True)
        assert play.state == before

    @pytest.mark.verifies("PS-CONCURRENCY-12")
    def test_does_not_compare_the_arguments(self, play: Play) -> None:
        play.create()
        play.acquire()
        play.do(op.Complete(job_id=1, token=1, result="first"))

        again = play.told(op.Complete(job_id=1, token=1, result="second"))

        assert again.job is not None
        assert (again.kind, again.job.result) == ("already", "first")

    @pytest.mark.verifies("PS-CONCURRENCY-11")
    def test_says_again_that_it_was_late(self, play: Play) -> None:
        play.create()
        play.acquire()
        play.tick(LEASE)
        play.do(op.Release(job_id=1, token=1))

        assert play.told(op.Release(job_id=1, token=1)).late

    @pytest.mark.verifies("PS-CONCURRENCY-10")
    @pytest.mark.parametrize(
        ("first", "second", "kind"),
        [
            (op.Complete, op.Fail, "terminal"),
            (op.Complete, op.Release, "terminal"),
            (op.Fail, op.Complete, "lease_lost"),
            (op.Fail, op.Release, "lease_lost"),
            (op.Release, op.Complete, "lease_lost"),
            (op.Release, op.Retry, "lease_lost"),
            (op.Retry, op.Fail, "already"),
            (op.Fail, op.Retry, "already"),
        ],
    )
    def test_by_another_operation_is_refused_unless_it_is_the_same_under_another_name(
        self, play: Play, first: type[op.JobCall], second: type[op.JobCall], kind: str
    ) -> None:
        play.create()
        play.acquire()
        play.do(first(job_id=1, token=1))
        before = play.state

        assert play.told(second(job_id=1, token=1)).kind == kind
        assert play.state == before

    @pytest.mark.verifies("PS-CONCURRENCY-12")
    @pytest.mark.parametrize("call", CLOSING_CALLS)
    def test_after_the_job_was_acquired_anew_is_lost(self, play: Play, call: type[op.JobCall]) -> None:
        play.create()
        play.acquire("a")
        play.do(op.Release(job_id=1, token=1))
        play.acquire("b")

        assert play.told(call(job_id=1, token=1)).kind == "lease_lost"


class TestTokenlessClosing:
    @pytest.mark.verifies("PS-CONCURRENCY-19")
    @pytest.mark.parametrize("call", [op.Complete, op.Fail, op.Release])
    def test_is_refused_as_bad_input(self, play: Play, call: type[op.JobCall]) -> None:
        play.create()
        play.acquire()
        before = play.state

        assert play.do(call(job_id=1)) == op.Rejected()
        assert play.state == before


class TestTruth:
    @pytest.mark.parametrize(
        ("answer", "true"),
        [
            (op.Outcome("applied"), True),
            (op.Outcome("already"), True),
            (op.Outcome("not_found"), False),
            (op.Outcome("lease_lost"), False),
            (op.Outcome("terminal"), False),
            (op.Outcome("refused"), False),
            (op.Row(None), False),
        ],
        ids=str,
    )
    @pytest.mark.verifies("PS-CONCURRENCY-10")
    def test_of_an_answer_is_that_the_caller_may_go_on(self, answer: op.Outcome | op.Row, *, true: bool) -> None:
        assert bool(answer) is true

    def test_of_a_row_is_that_there_is_one(self, play: Play) -> None:
        assert op.Row(play.create())
