"""The judge of the order of claims finds who was passed over, and lets every excuse pass."""

from typing import Final

import pytest

from tests.harness.evidence import Evidence, Holding, Remains
from tests.harness.history import Asked, History, Told
from tests.harness.judged_claims import weighed
from tests.processes.story import LEASE, START, Story

pytestmark = pytest.mark.processes

HELD: Final = Holding(rows=True)
LOCKED: Final = Holding(locks=True)


def two_queued() -> Story:
    """Job 2 is better than job 1."""
    story = Story()
    story.create(1, at=(30, 40))
    story.create(2, priority=6, at=(50, 60))
    return story


def expired_and_queued() -> Story:
    """Job 1 is better, and expired; job 2 is queued."""
    story = Story()
    story.create(1, priority=6)
    story.acquire("a", 1)
    story.create(2)
    story.tick(LEASE)
    return story


def one_that_waits() -> Story:
    """A job whose first attempt has failed, and that waits for as long as a lease."""
    story = Story()
    story.create(1)
    story.acquire("a", 1)
    job = story._jobs[1] = story._jobs[1]._replace(
        status="queued", leased_until=None, started_at=None, available_at=START + LEASE
    )
    story.say("a", Asked("fail", 1, 1), Told("applied", job))
    return story


class TestClaimOrder:
    def test_finds_a_worse_job_that_was_taken_first(self) -> None:
        story = two_queued()
        story.acquire("a", 1)
        story.acquire("b", 2)
        story.rows_of([1, 2])
        assert story.names() == ["INV-CLAIM-ORDER"]

    def test_finds_it_also_when_nobody_took_the_better_one(self) -> None:
        story = two_queued()
        story.acquire("a", 1)
        story.rows_of([1, 2])
        assert story.names() == ["INV-CLAIM-ORDER"]

    @pytest.mark.parametrize(
        ("first", "second"),
        [((100, 200), (150, 250)), ((100, 200), (120, 130)), ((55, 200), (300, 310))],
        ids=["the better one's taker overlaps", "and within", "the better one came while it looked"],
    )
    def test_lets_a_worse_job_pass_when_the_better_one_was_not_free_throughout(
        self, first: tuple[int, int], second: tuple[int, int]
    ) -> None:
        story = two_queued()
        story.acquire("a", 1, at=first)
        story.acquire("b", 2, at=second)
        story.rows_of([1, 2])
        assert story.names() == []

    def test_lets_a_cancelled_one_pass(self) -> None:
        story = two_queued()
        story.say("operator", Asked("cancel", 2), Told("applied"))
        story.acquire("a", 1)
        story.row(1)
        story.row(2, status="cancelled")
        assert story.names() == []

    def test_lets_one_pass_that_an_acquire_without_an_answer_may_have(self) -> None:
        story = two_queued()
        story.say("b", Asked("acquire"), None)
        story.acquire("a", 1)
        story.row(1)
        story.row(2, status="processing", token=1, executions=1, leased_until=START + LEASE)
        assert story.names() == []

    @pytest.mark.parametrize(("later", "broken"), [(0, ["INV-CLAIM-ORDER"]), (1, [])])
    def test_goes_by_the_time_from_which_a_job_is_available(self, later: int, broken: list[str]) -> None:
        story = Story()
        story.create(1)
        story.create(2, priority=6)
        job = story._jobs[2]._replace(available_at=START + later)
        story.calls[-1] = story.calls[-1].__class__("maker", story.calls[-1].asked, 30, Told("row", job), 40)
        story.acquire("a", 1)
        story.rows_of([1, 2])
        assert story.names() == broken

    def test_goes_by_the_shared_clock_and_so_says_nothing_without_one(self) -> None:
        story = two_queued()
        story.calls = [call for call in story.calls if call.asked.operation != "tick"]
        story.acquire("a", 1)
        story.rows_of([1, 2])
        assert story.names() == []

    def test_finds_a_released_job_that_was_passed_over(self) -> None:
        story = two_queued()
        story.acquire("a", 2)
        story.close("a", "release", 2, 1)
        story.acquire("b", 1)
        story.rows_of([1, 2])
        assert story.names() == ["INV-CLAIM-ORDER"]

    def test_finds_an_expired_job_that_was_passed_over(self) -> None:
        story = expired_and_queued()
        story.acquire("b", 2)
        story.rows_of([1, 2])
        assert story.names() == ["INV-CLAIM-ORDER"]

    @pytest.mark.parametrize("operation", ["renew", "complete", "release"])
    def test_lets_one_pass_that_its_holder_may_have_saved(self, operation: str) -> None:
        story = expired_and_queued()
        story.say("a", Asked(operation, 1, 1), None)  # type: ignore[arg-type]
        story.acquire("b", 2)
        story.rows_of([1, 2])
        assert story.names() == []

    def test_lets_one_pass_that_was_renewed_late(self) -> None:
        story = expired_and_queued()
        story.renew("a", 1, 1)
        story.acquire("b", 2)
        story.rows_of([1, 2])
        assert story.names() == []

    def test_lets_one_pass_that_has_no_execution_left(self) -> None:
        story = Story()
        story.create(1, priority=6, limit=1)
        story.acquire("a", 1)
        story.create(2)
        story.tick(LEASE)
        story.acquire("b", 2)
        story.row(1, status="failed")
        story.row(2)
        assert story.names() == []


class TestWeighed:
    def weighed(self, story: Story, holding: Holding) -> tuple[int, int]:
        story.rows_of(story._jobs)
        return weighed(Evidence(History(story.calls), Remains(tuple(story.rows)), holding))

    @pytest.mark.parametrize("holding", [Holding(), HELD, LOCKED])
    def test_counts_a_claim_that_could_have_taken_nothing_else(self, holding: Holding) -> None:
        story = two_queued()
        story.acquire("a", 2)
        assert self.weighed(story, holding) == (1, 0)

    @pytest.mark.parametrize(("holding", "counts"), [(Holding(), (1, 0)), (HELD, (0, 1))])
    def test_excuses_one_whose_job_a_rival_may_have_held(self, holding: Holding, counts: tuple[int, int]) -> None:
        story = two_queued()
        story.say("c", Asked("acquire"), None, at=(90, 90))
        story.acquire("a", 2, at=(100, 110))
        assert self.weighed(story, holding) == counts

    def test_excuses_one_that_passed_a_job_by_which_somebody_may_have_locked(self) -> None:
        story = two_queued()
        story.say("z", Asked("acquire"), None)
        story.none("a")
        assert self.weighed(story, LOCKED) == (0, 1)

    def test_counts_none_that_could_have_been_answered_in_any_way(self) -> None:
        story = Story()
        story.none("a")
        story.create(1, at=(100, 200))
        story.acquire("b", 1, at=(150, 250))
        assert self.weighed(story, Holding()) == (0, 0)

    @pytest.mark.parametrize(("gone", "counts"), [(False, (0, 1)), (True, (1, 0))])
    @pytest.mark.parametrize("holding", [HELD, LOCKED])
    def test_excuses_nobody_for_one_who_is_gone(self, holding: Holding, counts: tuple[int, int], *, gone: bool) -> None:
        story = two_queued()
        story.say("dead", Asked("acquire"), None)
        if gone:
            story.say("umpire", Asked("gone", process="dead"), Told("gone"))
        story.acquire("a", 2)
        assert self.weighed(story, holding) == counts


class TestRows:
    """Where a call holds the rows that it looks at."""

    def names(self, story: Story) -> list[str]:
        return [name for finding in story.findings(holding=HELD) for name in finding.names]

    def test_of_the_dead_are_free(self) -> None:
        story = two_queued()
        story.say("dead", Asked("acquire"), None)
        story.say("umpire", Asked("gone", process="dead"), Told("gone"))
        story.none("a")
        story.rows_of([1, 2])
        assert "INV-NONE-IS-EMPTY" in self.names(story)

    @pytest.mark.parametrize(("failed_at", "broken"), [(START + LEASE, []), (START, ["INV-NONE-IS-EMPTY"])])
    def test_are_held_by_a_call_that_fails_an_exhausted_job_first(self, failed_at: int, broken: list[str]) -> None:
        """It holds the best queued one meanwhile, and then takes another, better one that was made since."""
        story = Story()
        story.create(1, priority=6, limit=1)
        story.acquire("a", 1)
        story.tick(LEASE)
        story.create(2, priority=4)
        story.create(3, priority=5, at=(150, 160))
        story.none("b", at=(130, 140))
        story.acquire("c", 3, at=(120, 200))
        story.row(1, status="failed", completed_at=failed_at)
        story.rows_of([2, 3])
        assert [name for name in self.names(story) if name == "INV-NONE-IS-EMPTY"] == broken


class TestNoEarlyClaim:
    @pytest.mark.parametrize(("after", "broken"), [(LEASE - 1, ["PS-CONCURRENCY-7"]), (LEASE, [])])
    def test_finds_a_job_that_was_taken_before_it_was_available(self, after: int, broken: list[str]) -> None:
        story = Story()
        story.create(1, later=LEASE)
        story.tick(after)
        story.acquire("a", 1)
        story.row(1)
        assert story.names() == broken

    @pytest.mark.parametrize(("after", "broken"), [(LEASE - 1, ["PS-CONCURRENCY-7"]), (LEASE, [])])
    def test_knows_of_the_pause_after_a_failure(self, after: int, broken: list[str]) -> None:
        story = one_that_waits()
        story.tick(after)
        story.acquire("b", 1)
        story.row(1)
        assert story.names() == broken

    def test_is_not_deceived_by_a_row_that_forgets_the_pause(self) -> None:
        story = one_that_waits()
        story.acquire("b", 1, available_at=START)
        story.row(1)
        assert story.names() == ["PS-CONCURRENCY-7"]

    def test_nor_by_one_that_names_a_time_which_the_clock_never_showed(self) -> None:
        story = one_that_waits()
        story.acquire("b", 1, started_at=START + LEASE)
        story.row(1)
        assert story.names() == ["PS-CONCURRENCY-7"]

    def test_lets_one_pass_during_whose_call_the_clock_came_to_it(self) -> None:
        story = one_that_waits()
        story.tick(LEASE, at=(200, 210))
        story.acquire("b", 1, at=(190, 205))
        story.row(1)
        assert story.names() == []


class TestNoneIsEmpty:
    def test_finds_a_free_job_that_was_not_seen(self) -> None:
        story = two_queued()
        story.none("a", at=(100, 110))
        story.rows_of([1, 2])
        assert story.names() == ["INV-NONE-IS-EMPTY"]

    def test_lets_nothing_pass_when_all_were_taken_or_made_meanwhile(self) -> None:
        story = two_queued()
        story.acquire("a", 2, at=(90, 200))
        story.acquire("a", 1, at=(300, 310))
        story.create(3, at=(290, 330))
        story.none("b", at=(305, 320))
        story.rows_of([1, 2, 3])
        assert story.names() == []

    @pytest.mark.parametrize(("after", "broken"), [(LEASE - 1, []), (LEASE, ["INV-NONE-IS-EMPTY"])])
    def test_finds_an_expired_job_that_was_not_seen(self, after: int, broken: list[str]) -> None:
        story = Story()
        story.create(1)
        story.acquire("a", 1)
        story.tick(after)
        story.none("b")
        story.row(1)
        assert story.names() == broken


class TestHolding:
    def test_of_a_row_is_an_excuse_where_rows_are_held(self) -> None:
        story = two_queued()
        story.none("c", at=(90, 120))
        story.acquire("a", 1, at=(100, 110))
        story.rows_of([1, 2])
        assert "INV-CLAIM-ORDER" in story.names()
        assert "INV-CLAIM-ORDER" not in story.names(holding=HELD)

    def test_is_none_by_a_call_that_took_another_job_of_the_same_sort(self) -> None:
        story = two_queued()
        story.create(3, priority=7)
        story.acquire("c", 3, at=(90, 120))
        story.acquire("a", 1, at=(100, 110))
        story.rows_of([1, 2, 3])
        assert story.names(holding=HELD) == ["INV-CLAIM-ORDER"]

    @pytest.mark.parametrize(("began", "broken"), [(59, []), (61, ["INV-CLAIM-ORDER"])])
    def test_may_be_by_a_call_that_saw_the_job_before_it_was_free(self, began: int, broken: list[str]) -> None:
        """Its lock was refused, since the holder had not unlocked; it went on to another job, as seen on Postgres."""
        story = two_queued()
        story.create(3, priority=7, at=(40, 50))
        story.acquire("c", 3, at=(began, 120))
        story.acquire("a", 1, at=(100, 110))
        story.rows_of([1, 2, 3])
        assert story.names(holding=HELD) == broken

    def test_may_be_by_one_that_met_such_a_call(self) -> None:
        story = two_queued()
        story.create(3, priority=7, at=(40, 50))
        story.create(4, priority=7, at=(40, 50))
        story.acquire("c", 3, at=(55, 80))
        story.acquire("d", 4, at=(70, 120))
        story.acquire("a", 1, at=(100, 110))
        story.acquire("b", 2)
        story.rows_of([1, 2, 3, 4])
        assert story.names(holding=HELD) == []

    def test_is_none_by_the_callers_own_process(self) -> None:
        story = two_queued()
        story.none("a", at=(70, 80))
        story.acquire("a", 1, at=(100, 110))
        story.rows_of([1, 2])
        assert "INV-CLAIM-ORDER" in story.names(holding=HELD)

    @pytest.mark.parametrize(("learned", "broken"), [(False, []), (True, ["INV-CLAIM-ORDER"])])
    def test_of_a_lock_is_an_excuse_until_the_holder_has_learned(self, *, learned: bool, broken: list[str]) -> None:
        story = two_queued()
        story.acquire("z", 2)
        story.tick(LEASE)
        story.acquire("a", 2)
        story.close("a", "release", 2, 2)
        if learned:
            story.refused("z", Asked("renew", 2, 1))
        story.acquire("b", 1)
        story.rows_of([1, 2])
        assert story.names() == ["INV-CLAIM-ORDER"]
        assert story.names(holding=LOCKED) == broken

    @pytest.mark.parametrize(
        ("holding", "learned", "broken"),
        [
            (Holding(rows=True, locks=True), False, []),
            (Holding(rows=True, locks=True), True, ["INV-CLAIM-ORDER"]),
            (HELD, False, ["INV-CLAIM-ORDER"]),
        ],
    )
    def test_of_the_callers_own_lock_makes_a_rival_hold_the_row(
        self, holding: Holding, *, learned: bool, broken: list[str]
    ) -> None:
        """It found the row, was refused its lock and went on; the row was passed by meanwhile, as seen in a storm."""
        story = two_queued()
        story.create(3, priority=6)
        story.acquire("a", 2)
        story.tick(LEASE)
        story.acquire("b", 2)
        story.close("b", "release", 2, 2)
        if learned:
            story.refused("a", Asked("renew", 2, 1))
        story.acquire("c", 3, at=(200, 230))
        story.acquire("a", 1, at=(210, 220))
        story.rows_of([1, 2, 3])
        assert story.names(holding=holding) == broken

    def test_of_a_lock_may_be_by_an_acquire_without_an_answer(self) -> None:
        story = two_queued()
        story.say("z", Asked("acquire"), None)
        story.acquire("a", 1)
        story.rows_of([1, 2])
        assert story.names() == ["INV-CLAIM-ORDER"]
        assert story.names(holding=LOCKED) == []
