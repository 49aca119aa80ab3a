"""Races of real processes: nobody owns the order of their calls, and the judges look at what they recorded."""

import pytest

from tests.processes import races
from tests.processes.conftest import Hold
from tests.processes.storm import storm

pytestmark = [pytest.mark.processes, pytest.mark.stateful, pytest.mark.timeout(900)]


@pytest.mark.verifies("PS-CONCURRENCY-1", "PS-CONCURRENCY-5", "PS-LOCKS-1", "INV-SINGLE-HOLDER", "INV-TOKEN-GROWS")
def test_one_job_goes_to_one_of_them(hold: Hold, *, full: bool) -> None:
    hold(races.one_job, 300 if full else 60)


@pytest.mark.verifies(
    "PS-CONCURRENCY-1",
    "PS-CONCURRENCY-7",
    "PS-CONCURRENCY-14",
    "PS-LOCKS-2",
    "PS-LOCKS-4",
    "INV-CLAIM-ORDER",
    "INV-EXECUTIONS-BOUNDED",
)
def test_hundreds_of_jobs_are_each_done_once(hold: Hold, *, full: bool) -> None:
    hold(races.drain, 20 if full else 1)


@pytest.mark.verifies("PS-CONCURRENCY-2", "PS-LOCKS-3", "INV-NO-EARLY-RECLAIM")
def test_an_expired_job_goes_to_one_of_them(hold: Hold, *, full: bool) -> None:
    hold(races.reclaim, 200 if full else 40)


@pytest.mark.verifies("PS-LOCKS-1", "PS-LOCKS-3", "PS-LOCKS-6", "PS-LOCKS-8", "INV-NONE-IS-EMPTY")
def test_a_job_is_kept_for_whoever_has_its_lock_until_he_learns(hold: Hold, *, full: bool) -> None:
    hold(races.locked_job, 100 if full else 20)


@pytest.mark.verifies("PS-CONCURRENCY-3", "PS-CONCURRENCY-11", "INV-LEASE-MONOTONE")
def test_an_expired_job_is_either_renewed_or_reclaimed(hold: Hold, *, full: bool) -> None:
    hold(races.renew_or_reclaim, 200 if full else 40)


@pytest.mark.verifies("PS-CONCURRENCY-10", "PS-CONCURRENCY-13", "INV-RESULT-FENCED")
def test_an_expired_job_is_either_completed_or_reclaimed(hold: Hold, *, full: bool) -> None:
    hold(races.complete_or_reclaim, 200 if full else 40)


@pytest.mark.verifies("PS-CONCURRENCY-10", "PS-CONCURRENCY-15", "INV-SINGLE-HOLDER")
def test_an_expired_job_is_either_given_back_or_reclaimed(hold: Hold, *, full: bool) -> None:
    hold(races.release_or_reclaim, 200 if full else 40)


@pytest.mark.verifies("PS-CONCURRENCY-10", "PS-LOCKS-8", "INV-SINGLE-HOLDER")
def test_a_holder_that_stood_still_can_change_nothing(hold: Hold, *, full: bool) -> None:
    hold(races.zombie, 100 if full else 20)


@pytest.mark.verifies("PS-CONCURRENCY-4", "INV-NO-EARLY-RECLAIM")
def test_a_lease_lasts_its_second(hold: Hold, *, full: bool) -> None:
    hold(races.reclaim_in_real_time, 5 if full else 1, real_time=True)


@pytest.mark.verifies("PS-IDEMPOTENCY-PG-2", "PS-IDEMPOTENCY-SCOPE-1", "INV-ONE-EFFECT-PER-KEY", "INV-NO-CROSS-USER")
def test_a_key_has_one_winner(hold: Hold, *, full: bool) -> None:
    hold(races.record, 200 if full else 40)


@pytest.mark.verifies("PS-IDEMPOTENCY-PG-5", "INV-ONE-EFFECT-PER-KEY", "INV-NOTHING-LOST")
def test_what_is_made_for_a_key_is_made_once(hold: Hold, *, full: bool) -> None:
    hold(races.create_once, 200 if full else 15)


@pytest.mark.verifies("PS-CONCURRENCY-8", "PS-CONCURRENCY-16", "INV-NOTHING-LOST", "INV-LOCKS-MATCH")
def test_workers_that_die_or_stand_still_lose_no_job_and_do_none_twice(hold: Hold, *, full: bool) -> None:
    hold(storm, 150 if full else 20)
