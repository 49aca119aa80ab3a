"""The judges of leases and tokens each find the history that breaks their promise, and let its neighbour pass."""

from dataclasses import replace

import pytest

from tests.harness.history import Asked, Kind, Operation, Told
from tests.processes.story import LEASE, START, Story

pytestmark = pytest.mark.processes


def one_job() -> Story:
    """A job that "a" has taken."""
    story = Story()
    story.create(1)
    story.acquire("a", 1)
    return story


def reclaimed(*, after: int = LEASE) -> Story:
    """A job that "a" took and "b" took over so many milliseconds later."""
    story = one_job()
    story.tick(after)
    story.acquire("b", 1)
    return story


def exhausted() -> Story:
    """A job that "a" has taken for the last time."""
    story = Story()
    story.create(1, limit=1)
    story.acquire("a", 1)
    return story


class TestSingleHolder:
    def test_finds_a_job_that_was_given_out_twice(self) -> None:
        story = one_job()
        story.acquire("b", 1, token=1)
        story.row(1)
        assert story.names() == ["INV-SINGLE-HOLDER", "INV-TOKEN-GROWS", "INV-EXECUTIONS-BOUNDED"]

    def test_lets_a_reclaim_with_a_token_of_its_own_pass(self) -> None:
        story = reclaimed()
        story.row(1)
        assert story.names() == []

    @pytest.mark.parametrize("operation", ["complete", "fail", "release", "renew"])
    def test_finds_a_stale_call_that_was_obeyed(self, operation: str) -> None:
        story = reclaimed()
        kept = story._jobs[1]
        if operation == "renew":
            story.renew("a", 1, 1)
        else:
            story.close("a", operation, 1, 1)  # type: ignore[arg-type]
        story._jobs[1] = kept
        story.row(1)
        assert "INV-SINGLE-HOLDER" in story.names()

    def test_finds_a_stale_call_that_was_told_that_it_had_been_obeyed_before(self) -> None:
        story = reclaimed()
        story.refused("a", Asked("complete", 1, 1), "already")
        story.row(1)
        assert story.names() == ["INV-SINGLE-HOLDER"]

    def test_lets_a_stale_call_that_was_refused_pass(self) -> None:
        story = reclaimed()
        story.refused("a", Asked("complete", 1, 1))
        story.refused("a", Asked("renew", 1, 1))
        story.row(1)
        assert story.names() == []

    def test_lets_a_call_pass_that_overlaps_the_one_that_superseded_it(self) -> None:
        story = one_job()
        story.tick(LEASE, at=(100, 110))
        job = story._jobs[1]
        story.say("a", Asked("renew", 1, 1), Told("applied", job), at=(120, 150))  # first, and granting no more
        story.acquire("b", 1, at=(140, 160))
        story.row(1)
        assert story.names() == []

    def test_finds_two_endings_of_one_attempt(self) -> None:
        story = one_job()
        story.close("a", "fail", 1, 1, at=(100, 200))
        story.close("a", "complete", 1, 1, at=(100, 200))
        story.row(1, ("a", "complete"))
        assert story.names() == ["INV-SINGLE-HOLDER", "INV-TERMINAL-ABSORBS"]

    def test_lets_an_ending_that_is_asked_for_twice_pass(self) -> None:
        story = one_job()
        story.close("a", "complete", 1, 1)
        story.refused("a", Asked("complete", 1, 1), "already")
        story.row(1, ("a", "complete"))
        assert story.names() == []

    def test_finds_a_renewal_after_the_end(self) -> None:
        story = one_job()
        story.close("a", "release", 1, 1)
        closed = story._jobs[1]
        story.renew("a", 1, 1)
        story._jobs[1] = closed
        story.row(1)
        assert story.names() == ["INV-SINGLE-HOLDER"]


class TestAttemptsAgree:
    @pytest.mark.parametrize("at", [(95, 130), (115, 140)], ids=["asked before", "asked meanwhile"])
    @pytest.mark.parametrize("operation", ["complete", "fail", "release"])
    def test_finds_a_closing_that_was_obeyed_beside_the_reclaim_of_its_attempt(
        self, operation: Operation, at: tuple[int, int]
    ) -> None:
        story = one_job()
        story.tick(LEASE, at=(30, 40))
        story.acquire("b", 1, at=(100, 120))
        held = story._jobs[1]
        story.close("a", operation, 1, 1, at=at)
        story._jobs[1] = held
        story.row(1, executions=1 if operation == "release" else 2)
        assert "INV-SINGLE-HOLDER" in story.names()

    @pytest.mark.parametrize("operation", ["complete", "fail"])
    def test_finds_an_attempt_after_one_that_was_told_to_be_the_last(self, operation: Operation) -> None:
        story = one_job()
        story.close("a", operation, 1, 1, at=(100, 120))
        story.acquire("b", 1, at=(110, 130))
        story.row(1)
        assert "INV-SINGLE-HOLDER" in story.names()

    def test_lets_a_release_pass_whose_job_was_then_taken_from_the_queue(self) -> None:
        story = one_job()
        story.tick(LEASE, at=(30, 40))
        story.close("a", "release", 1, 1, at=(95, 130))
        story.acquire("b", 1, at=(100, 120))
        story.row(1)
        assert story.names() == []

    @pytest.mark.parametrize("kind", ["lease_lost", None])
    def test_lets_a_reclaim_pass_beside_a_release_that_was_not_obeyed_or_may_not_have_been(
        self, kind: Kind | None
    ) -> None:
        story = one_job()
        story.tick(LEASE, at=(30, 40))
        story.acquire("b", 1, at=(100, 120))
        story.say("a", Asked("release", 1, 1), None if kind is None else Told(kind), at=(95, 130))
        story.row(1)
        assert story.names() == []

    def test_finds_a_job_taken_from_a_queue_into_which_nobody_put_it(self) -> None:
        story = reclaimed()
        story.calls[-1] = replace(story.calls[-1], told=Told("row", story._jobs[1]._replace(was_reclaim=False)))
        story.row(1)
        assert story.names() == ["INV-SINGLE-HOLDER"]

    def test_finds_a_job_taken_from_nobody(self) -> None:
        story = Story()
        story.create(1)
        story.acquire("a", 1, was_reclaim=True)
        story.row(1)
        assert story.names() == ["INV-SINGLE-HOLDER"]


class TestTokenGrows:
    def test_finds_a_token_that_went_back(self) -> None:
        story = one_job()
        story.tick(LEASE)
        story.acquire("b", 1, token=3)
        story.acquire("c", 1, token=2, was_reclaim=False, started_at=START + 3 * LEASE, executions=2)
        story.row(1, token=3, executions=3)
        assert "INV-TOKEN-GROWS" in story.names()

    def test_lets_tokens_that_overlapping_calls_return_pass(self) -> None:
        story = one_job()
        story.tick(LEASE, at=(30, 40))
        story.acquire("b", 1, at=(100, 200))
        story.tick(LEASE, at=(100, 110))
        story.acquire("c", 1, at=(150, 160))  # token 3 was answered before token 2
        story.row(1)
        assert story.names() == []

    def test_finds_a_row_whose_token_was_put_back(self) -> None:
        story = reclaimed()
        story.row(1, token=1, executions=1)
        assert story.names() == ["INV-TOKEN-GROWS"]

    def test_finds_an_attempt_that_nobody_made(self) -> None:
        story = one_job()
        story.row(1, token=2, executions=2)
        assert story.names() == ["INV-TOKEN-GROWS"]

    def test_lets_an_attempt_of_a_call_without_an_answer_pass(self) -> None:
        story = one_job()
        story.say("b", Asked("acquire"), None)
        story.row(1, token=2, executions=2)
        assert story.names() == []

    def test_finds_two_attempts_of_one_call_without_an_answer(self) -> None:
        story = one_job()
        story.create(2)
        story.say("b", Asked("acquire"), None)
        story.row(1, token=2, executions=2)
        story.row(2, token=1, executions=1, status="processing", leased_until=START + LEASE)
        assert story.names() == ["INV-TOKEN-GROWS"]


class TestExecutionsBounded:
    def test_finds_an_attempt_that_was_not_counted(self) -> None:
        story = reclaimed()
        story.row(1, executions=1)
        assert story.names() == ["INV-EXECUTIONS-BOUNDED"]

    def test_finds_an_uncounted_attempt_in_an_answer(self) -> None:
        story = one_job()
        story.tick(LEASE)
        story.acquire("b", 1, executions=1)
        story.row(1, executions=2)
        assert story.names() == ["INV-EXECUTIONS-BOUNDED"]

    def test_lets_an_attempt_that_was_given_back_pass(self) -> None:
        story = one_job()
        story.close("a", "release", 1, 1)
        story.acquire("b", 1)
        story.row(1)
        assert story.names() == []

    @pytest.mark.parametrize("executions", [0, 1])
    def test_lets_a_release_without_an_answer_count_or_not(self, executions: int) -> None:
        story = one_job()
        story.say("a", Asked("release", 1, 1), None)
        story.row(1, status="queued", leased_until=None, executions=executions)
        assert story.names() == []

    def test_finds_an_attempt_that_was_given_back_twice(self) -> None:
        story = one_job()
        story.tick(LEASE)
        story.acquire("b", 1)
        story.close("b", "release", 1, 2)
        story.row(1, executions=0)
        assert story.names() == ["INV-EXECUTIONS-BOUNDED"]

    @pytest.mark.parametrize(("limit", "broken"), [(1, ["INV-EXECUTIONS-BOUNDED"]), (2, [])])
    def test_finds_one_attempt_too_many(self, limit: int, broken: list[str]) -> None:
        story = Story()
        story.create(1, limit=limit)
        story.acquire("a", 1)
        story.tick(LEASE)
        story.acquire("b", 1)
        story.row(1)
        assert story.names() == broken


class TestNoEarlyReclaim:
    @pytest.mark.parametrize(("after", "broken"), [(LEASE - 1, ["INV-NO-EARLY-RECLAIM"]), (LEASE, [])])
    def test_finds_a_reclaim_a_millisecond_too_soon(self, after: int, broken: list[str]) -> None:
        story = reclaimed(after=after)
        story.row(1)
        assert story.names() == broken

    @pytest.mark.parametrize(("after", "broken"), [(LEASE, ["INV-NO-EARLY-RECLAIM"]), (2 * LEASE, [])])
    def test_knows_of_renewals(self, after: int, broken: list[str]) -> None:
        story = one_job()
        story.renew("a", 1, 1, by=2 * LEASE)
        story.tick(after)
        story.acquire("b", 1)
        story.row(1)
        assert story.names() == broken

    def test_is_not_deceived_by_a_row_that_calls_itself_fresh(self) -> None:
        story = one_job()
        story.acquire("b", 1, was_reclaim=False)
        story.row(1)
        assert story.names() == ["INV-SINGLE-HOLDER", "INV-NO-EARLY-RECLAIM"]

    def test_nor_by_one_that_names_a_time_which_the_clock_never_showed(self) -> None:
        story = one_job()
        story.acquire("b", 1, started_at=START + LEASE)
        story.row(1)
        assert story.names() == ["INV-NO-EARLY-RECLAIM"]

    @pytest.mark.parametrize("answered", [True, False])
    def test_lets_a_job_pass_that_may_have_been_given_back(self, *, answered: bool) -> None:
        story = one_job()
        if answered:
            story.close("a", "release", 1, 1)
        else:
            story.say("a", Asked("release", 1, 1), None)
        story.acquire("b", 1, was_reclaim=False, executions=1)
        story.row(1)
        assert story.names() == []


class TestLeaseMonotone:
    @pytest.mark.parametrize(("by", "broken"), [(LEASE - 1, ["INV-LEASE-MONOTONE"]), (LEASE, [])])
    def test_finds_a_renewal_that_took_time_away(self, by: int, broken: list[str]) -> None:
        story = one_job()
        story.renew("a", 1, 1, by=by)
        story.row(1)
        assert story.names() == broken


class TestEndings:
    def test_finds_an_acknowledged_completion_that_is_not_there(self) -> None:
        story = one_job()
        story.close("a", "complete", 1, 1)
        story.row(1, status="processing", leased_until=START + LEASE)
        assert story.names() == ["INV-TERMINAL-ABSORBS"]

    def test_finds_a_result_that_somebody_else_wrote(self) -> None:
        story = one_job()
        story.close("a", "complete", 1, 1)
        story.row(1, ("b", "complete"))
        assert story.names() == ["INV-RESULT-FENCED"]

    def test_finds_an_end_that_nobody_brought_about(self) -> None:
        story = one_job()
        story.row(1, ("a", "complete"), status="completed")
        assert story.names() == ["INV-SINGLE-HOLDER", "INV-TERMINAL-ABSORBS"]

    def test_lets_an_end_by_a_call_without_an_answer_pass(self) -> None:
        story = one_job()
        story.say("a", Asked("complete", 1, 1), None)
        story.row(1, ("a", "complete"), status="completed")
        assert story.names() == []

    @pytest.mark.parametrize(("limit", "broken"), [(1, []), (2, ["INV-SINGLE-HOLDER", "INV-TERMINAL-ABSORBS"])])
    def test_lets_an_exhausted_job_end_by_itself(self, limit: int, broken: list[str]) -> None:
        story = Story()
        story.create(1, limit=limit)
        story.acquire("a", 1)
        story.tick(LEASE)
        story.row(1, status="failed")
        assert story.names() == broken

    @pytest.mark.parametrize(("after", "broken"), [(LEASE - 1, ["PS-CONCURRENCY-8"]), (LEASE, [])])
    def test_finds_an_exhausted_job_that_was_failed_while_its_lease_was_live(
        self, after: int, broken: list[str]
    ) -> None:
        story = exhausted()
        story.tick(after)
        story.row(1, status="failed")
        assert story.names() == broken

    @pytest.mark.parametrize(("after", "broken"), [(LEASE, ["PS-CONCURRENCY-8"]), (2 * LEASE, [])])
    def test_knows_that_its_lease_was_renewed(self, after: int, broken: list[str]) -> None:
        story = exhausted()
        story.renew("a", 1, 1, by=2 * LEASE)
        story.tick(after)
        story.row(1, status="failed")
        assert story.names() == broken

    def test_is_not_deceived_by_an_end_at_a_time_that_the_clock_had_not_shown(self) -> None:
        story = exhausted()
        failed = story._jobs[1]._replace(status="failed")
        story.say("a", Asked("renew", 1, 1), Told("terminal", failed))
        story.row(1, status="failed", completed_at=START + LEASE)
        assert story.names() == ["PS-CONCURRENCY-8"]

    @pytest.mark.parametrize(("status", "broken"), [("queued", ["INV-TERMINAL-ABSORBS"]), ("cancelled", [])])
    def test_finds_a_cancelled_job_that_came_back(self, status: str, broken: list[str]) -> None:
        story = Story()
        story.create(1)
        story.say("operator", Asked("cancel", 1), Told("applied"))
        story.row(1, status=status)
        assert story.names() == broken

    def test_finds_a_cancellation_by_nobody(self) -> None:
        story = Story()
        story.create(1)
        story.row(1, status="cancelled")
        assert story.names() == ["INV-SINGLE-HOLDER", "INV-TERMINAL-ABSORBS"]
