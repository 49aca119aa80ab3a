"""Calls without a token: operators, and callers from before there were tokens. Also cleanup."""

import pytest

from prompt_studio_model import operations as op
from prompt_studio_model.state import Job, Status
from tests.model.play import LEASE, Play

pytestmark = pytest.mark.model

STATUSES: tuple[Status, ...] = ("queued", "processing", "completed", "failed", "cancelled")


def brought_to(play: Play, status: Status) -> Job:
    """Bring job 1 to this status, by a worker or, for cancelled, by an operator."""
    play.create()
    if status in {"processing", "completed", "failed"}:
        play.acquire()
    if status == "completed":
        play.do(op.Complete(job_id=1, token=1, result="answer"))
    if status == "failed":
        play.do(op.Fail(job_id=1, token=1, retryable=False, error="broken"))
    if status == "cancelled":
        play.do(op.Cancel(job_id=1))
    assert play.job().status == status
    return play.job()


class TestCancel:
    @pytest.mark.verifies("PS-CONCURRENCY-18", "INV-LEASE-FIELDS")
    @pytest.mark.parametrize("status", ["queued", "processing"])
    def test_ends_a_job_and_its_lease(self, play: Play, status: Status) -> None:
        brought_to(play, status)
        play.tick(3)

        cancelled = play.told(op.Cancel(job_id=1, error="not wanted"))

        job = play.job()
        assert (cancelled.kind, cancelled.status, job.error) == ("applied", "cancelled", "not wanted")
        assert (job.lease_owner, job.leased_until, job.completed_at) == (None, None, 3)

    @pytest.mark.verifies("PS-CONCURRENCY-18", "INV-REPLAY-SAFE")
    def test_again_is_already_and_changes_nothing(self, play: Play) -> None:
        brought_to(play, "cancelled")
        before = play.state

        assert play.told(op.Cancel(job_id=1, error="twice")).kind == "already"
        assert play.state == before

    @pytest.mark.verifies("PS-CONCURRENCY-18", "INV-TERMINAL-ABSORBS")
    @pytest.mark.parametrize("status", ["completed", "failed"])
    def test_of_an_ended_job_is_terminal(self, play: Play, status: Status) -> None:
        brought_to(play, status)

        assert play.told(op.Cancel(job_id=1)) == op.Outcome("terminal", status)

    def test_keeps_the_error_of_the_last_attempt_where_none_is_given(self, play: Play) -> None:
        play.create()
        play.acquire()
        play.do(op.Fail(job_id=1, token=1, error="broken"))

        play.do(op.Cancel(job_id=1))

        assert play.job().error == "broken"

    @pytest.mark.verifies("PS-CONCURRENCY-12")
    def test_forgets_by_which_call_the_row_was_closed(self, play: Play) -> None:
        play.create()
        play.acquire()
        play.do(op.Release(job_id=1, token=1))

        play.do(op.Cancel(job_id=1))

        assert play.told(op.Release(job_id=1, token=1)) == op.Outcome("terminal", "cancelled")


class TestRetry:
    @pytest.mark.verifies("PS-CONCURRENCY-17", "PS-CONCURRENCY-16")
    def test_allows_one_more_execution_when_the_budget_is_spent(self, play: Play) -> None:
        play.create(max_retries=0)
        play.fail_for_good()
        play.tick(9)

        retried = play.told(op.Retry(job_id=1))

        job = play.job()
        assert (retried.kind, job.status, job.available_at) == ("applied", "queued", 9)
        assert (job.execution_limit, job.executions, job.retry_count, job.lease_token) == (2, 1, 1, 1)
        assert (job.error, job.result, job.started_at, job.completed_at) == (None, None, None, None)
        assert job.created_at == 0

    @pytest.mark.verifies("PS-CONCURRENCY-17")
    def test_leaves_a_budget_that_is_not_spent(self, play: Play) -> None:
        play.create(max_retries=3)
        play.fail_for_good()

        play.do(op.Retry(job_id=1))

        assert play.job().execution_limit == 4

    @pytest.mark.verifies("PS-CONCURRENCY-17")
    def test_is_the_same_as_the_old_call(self, play: Play) -> None:
        other = Play()
        for one in (play, other):
            one.create()
            one.fail_for_good()

        play.do(op.Retry(job_id=1))
        other.update("queued")

        assert play.state == other.state

    @pytest.mark.verifies("PS-CONCURRENCY-17", "INV-SINGLE-HOLDER")
    def test_does_not_give_a_worker_its_lost_lease_back(self, play: Play) -> None:
        play.create(max_retries=0)
        play.fail_for_good()
        play.do(op.Retry(job_id=1))

        assert play.told(op.Fail(job_id=1, token=1)).kind == "lease_lost"

    @pytest.mark.verifies("PS-CONCURRENCY-19")
    @pytest.mark.parametrize(
        ("status", "kind"),
        [("queued", "refused"), ("processing", "refused"), ("completed", "terminal"), ("cancelled", "terminal")],
    )
    def test_of_anything_but_a_failed_job_is_refused(self, play: Play, status: Status, kind: str) -> None:
        before = brought_to(play, status)

        answer = play.told(op.Retry(job_id=1))

        assert (answer.kind, answer.status) == (kind, status)
        assert play.job() == before


class TestUpdateStatus:
    @pytest.mark.verifies("PS-CONCURRENCY-19")
    @pytest.mark.parametrize("status", STATUSES)
    @pytest.mark.parametrize("target", STATUSES)
    def test_without_a_token_moves_only_along_the_table(self, play: Play, status: Status, target: Status) -> None:
        moves = {
            "queued": {"cancelled", "processing"},
            "processing": {"completed", "failed", "cancelled", "queued"},
            "failed": {"queued"},
        }
        before = brought_to(play, status)
        play.tick(1)

        row = play.update(target)

        if target in moves.get(status, set()):
            assert (row, row.status if row else None) == (play.job(), target)
        else:
            assert play.job() == before
            assert row == (before if status == target != "processing" else None)

    @pytest.mark.verifies("PS-CONCURRENCY-19")
    @pytest.mark.parametrize("target", STATUSES)
    def test_of_a_job_that_is_not_there_gives_none(self, play: Play, target: Status) -> None:
        assert play.update(target) is None

    @pytest.mark.verifies("PS-CONCURRENCY-19", "PS-CONCURRENCY-16")
    def test_to_queued_counts_the_execution_and_allows_one_more(self, play: Play) -> None:
        play.create(max_retries=0)
        play.acquire()
        play.tick(3)

        row = play.update("queued")

        assert row is not None
        assert (row.executions, row.execution_limit, row.available_at, row.retry_count) == (1, 2, 3, 0)
        assert (row.started_at, row.closed_by, row.lease_token) == (None, None, 1)

    @pytest.mark.verifies("PS-CONCURRENCY-19", "INV-TOKEN-GROWS")
    def test_to_processing_is_an_acquire_of_that_job(self, play: Play) -> None:
        play.create(priority=9)
        play.create(priority=1)

        row = play.given(op.UpdateStatus(job_id=2, status="processing", owner="a", lease=LEASE))

        assert row is not None
        assert (row.id, row.lease_token, row.executions, row.lease_owner) == (2, 1, 1, "a")

    @pytest.mark.verifies("PS-CONCURRENCY-19")
    def test_to_processing_is_refused_while_the_job_is_delayed_and_even_when_its_lease_has_expired(
        self, play: Play
    ) -> None:
        play.create(available_at=1)
        assert play.update("processing") is None
        play.tick(1)
        assert play.update("processing") is not None
        play.tick(LEASE)

        assert play.update("processing") is None

    def test_to_a_terminal_status_writes_what_is_passed_and_keeps_the_rest(self, play: Play) -> None:
        play.create()
        play.acquire()

        row = play.update("completed", result="answer", error="with a warning")

        assert row is not None
        assert (row.result, row.error, row.closed_by) == ("answer", "with a warning", None)

    @pytest.mark.verifies("PS-CONCURRENCY-10")
    @pytest.mark.parametrize(
        ("status", "call"),
        [
            ("completed", op.Complete(job_id=1, token=1)),
            ("failed", op.Fail(job_id=1, token=1, retryable=False)),
            ("queued", op.Release(job_id=1, token=1)),
        ],
    )
    def test_with_a_token_is_another_spelling_of_a_closing_call(
        self, play: Play, status: Status, call: op.JobCall
    ) -> None:
        other = Play()
        for one in (play, other):
            one.create()
            one.acquire()

        row = play.update(status, token=1)
        answer = other.told(call)

        assert (play.state, row) == (other.state, answer.job)
        assert play.told(call).kind == "already"

    @pytest.mark.parametrize("status", ["processing", "cancelled"])
    def test_with_a_token_to_any_other_status_is_bad_input(self, play: Play, status: Status) -> None:
        play.create()
        play.acquire()
        before = play.state

        assert play.do(op.UpdateStatus(job_id=1, status=status, token=1)) == op.Rejected()
        assert play.state == before


@pytest.mark.verifies("PS-CONCURRENCY-21", "INV-NOTHING-LOST")
class TestCleanup:
    @pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
    @pytest.mark.parametrize(("elapsed", "deleted"), [(10, 0), (11, 1)])
    def test_deletes_what_ended_strictly_earlier(self, play: Play, status: Status, elapsed: int, deleted: int) -> None:
        brought_to(play, status)
        play.tick(elapsed)

        assert play.do(op.Cleanup(age=10)) == op.Number(deleted)
        assert len(play.state.jobs) == 1 - deleted

    @pytest.mark.parametrize("status", ["queued", "processing"])
    def test_leaves_what_has_not_ended(self, play: Play, status: Status) -> None:
        brought_to(play, status)
        play.tick(1_000)

        assert play.do(op.Cleanup(age=0)) == op.Number(0)
        assert play.job().status == status
