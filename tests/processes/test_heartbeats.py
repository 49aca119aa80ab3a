"""Real workers, real time, real kills: a lease is kept while its holder lives, and taken when it is over, not before.

The figures are small here; `python -m tests.benchmarks.heartbeats` has those of the issue that asked for them, and so
has `pytest -m soak tests/benchmarks`. What is judged stands in the database's journal and in the rivals' notes.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from prompt_studio import Outcome, PromptStudioDatabase
from prompt_studio.running import beats
from tests.harness.heartbeats import trials
from tests.harness.heartbeats.journal import Change
from tests.harness.heartbeats.judged_beats import Look, Stop, Watch, broken, disordered, late, misdone, unwatched
from tests.harness.heartbeats.workers import BLOCKS, BURNS, HANGS, RESTS, WAITS, Beater, Plan
from tests.harness.locations import SQLITE, Location
from tests.harness.processes import Pool, Seat
from tests.harness.violation import Violation

pytestmark = [pytest.mark.processes, pytest.mark.untraced, pytest.mark.timeout(180)]

PRELOAD: Final = ("prompt_studio", "psycopg", "tests.harness.heartbeats.workers")
PROCESSES: Final = 3
OF_ALL_KINDS: Final = (WAITS, RESTS, BURNS, BLOCKS)


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool[Beater]]:
    pool = Pool(PROCESSES, Beater, preload=PRELOAD)
    yield pool
    pool.close()


@pytest.fixture
def plan(pool: Pool[Beater], location: Location, tmp_path: Path) -> Iterator[Plan]:
    pool.restore()
    with trials.place(location, tmp_path) as address:
        yield Plan(
            location=location,
            address=address,
            jobs=4,
            job_seconds=9.5,
            lease_seconds=3,
            beat_seconds=0.5,
            poll_seconds=0.1,
        )


def require(outcome: trials.Outcome) -> None:
    if outcome.found:
        names = list(dict.fromkeys(found.name for found in outcome.found))
        raise Violation(names, "\n".join(found.story for found in outcome.found))


@pytest.mark.verifies("PS-LEASE-HB-1", "PS-LEASE-HB-2", "PS-LEASE-HB-6", "PS-LEASE-HB-14", "INV-NO-EARLY-RECLAIM")
def test_a_worker_keeps_its_leases_whatever_its_handlers_do(pool: Pool[Beater], plan: Plan) -> None:
    outcome = trials.alive(pool, plan, OF_ALL_KINDS)
    require(outcome)
    assert outcome.reclaims == []
    assert outcome.losses == Counter()
    assert outcome.endings == {"completed": 4}
    assert [job["executions"] for job in outcome.jobs] == [1] * 4
    assert outcome.beats >= 4 * 2  # without which nothing was kept
    assert any(look.job_id is None for look in outcome.looks)


@pytest.mark.verifies("PS-LEASE-HB-3", "PS-CONCURRENCY-2", "INV-NO-EARLY-RECLAIM", "INV-NONE-IS-EMPTY")
def test_the_jobs_of_a_worker_that_was_killed_are_taken_when_their_leases_are_over(
    pool: Pool[Beater], plan: Plan
) -> None:
    outcome = trials.killed(pool, replace(plan, jobs=3, job_seconds=600, lease_seconds=2), (WAITS, BURNS, BLOCKS))
    require(outcome)
    assert len(outcome.reclaims) == 3
    assert all("process-0" not in finisher for finisher in outcome.finishers)


@pytest.mark.verifies("PS-LEASE-HB-3", "PS-LEASE-HB-7", "PS-LEASE-HB-8", "INV-SINGLE-HOLDER", "INV-RESULT-FENCED")
def test_a_worker_that_was_stopped_wakes_up_to_leases_that_are_lost_and_changes_nothing(
    pool: Pool[Beater], plan: Plan
) -> None:
    brief = replace(plan, jobs=4, job_seconds=4, lease_seconds=2)
    outcome = trials.stopped(pool, brief, (WAITS, RESTS, BURNS, HANGS))
    require(outcome)
    assert len(outcome.reclaims) == 4
    assert outcome.endings == {"lost": 4}
    assert sum(outcome.losses.values()) == 4
    assert all("process-0" not in finisher for finisher in outcome.finishers)


@pytest.mark.verifies("PS-LEASE-HB-11", "PS-LEASE-HB-12", "PS-LEASE-HB-21", "INV-NOTHING-LOST")
def test_workers_that_are_stopped_in_order_lose_nothing_and_run_nothing_twice(pool: Pool[Beater], plan: Plan) -> None:
    brief = replace(plan, jobs=150, job_seconds=0.05, lease_seconds=2, beat_seconds=0.2, grace_seconds=0.5)
    outcome = trials.stops(pool, brief, 4)
    require(outcome)
    assert outcome.reclaims == []
    assert outcome.endings["interrupted"] > 0


class Credulous(Beater):
    """A process whose worker believes in a lease until it is told that it is over, in a store without fences."""

    def __init__(self, seat: Seat) -> None:
        super().__init__(seat)
        beats.is_over = never
        for name in ("renew_job_lease", "complete_job"):
            setattr(PromptStudioDatabase, name, with_the_last_token(getattr(PromptStudioDatabase, name)))


def never(beat: beats.Beat, now: float) -> bool:
    """Whether the lease is over, as who does not look."""
    del beat, now
    return False


def with_the_last_token(call: Callable[..., Outcome]) -> Callable[..., Outcome]:
    """The call as if nobody had asked for its token."""

    def unfenced(
        database: PromptStudioDatabase, job_id: int, *arguments: object, lease_token: int, **named: object
    ) -> Outcome:
        job = database.get_job(job_id)
        token = lease_token if job is None else job["lease_token"]
        return call(database, job_id, *arguments, lease_token=token, **named)

    return unfenced


def test_a_worker_that_wakes_up_in_a_store_without_fences_is_found(tmp_path: Path) -> None:
    """What it would do to a job that is over nobody would see: no store lets it."""
    pool: Pool[Beater] = Pool(2, Credulous, preload=PRELOAD)
    try:
        with trials.place(SQLITE, tmp_path) as address:
            plan = Plan(
                location=SQLITE,
                address=address,
                jobs=2,
                job_seconds=600,
                lease_seconds=1,
                beat_seconds=0.2,
                poll_seconds=0.1,
            )
            outcome = trials.stopped(pool, plan, (WAITS, HANGS))
    finally:
        pool.close()
    assert {found.name for found in outcome.found} == {"INV-SINGLE-HOLDER"}


def change(token: int, until: int | None, *, started: int, status: str = "processing", owner: str = "a") -> Change:
    return Change(
        job_id=1,
        status=status,
        lease_token=token,
        lease_owner=owner,
        leased_until=until,
        started_at=started,
        result=None,
    )


HELD: Final = change(1, 5_000_000, started=0)
LOOKS: Final = [Look(4_000, 4_001, None), Look(5_001, 5_002, 1)]
AWAKE: Final = list(range(5_000, 36_000, 20))
"""The ticks of a rival that nothing keeps."""

SELDOM: Final = [Look(5_000, 5_001, None), Look(7_900, 7_901, None)]
OFTEN: Final = [Look(moment, moment + 1, None) for moment in range(5_000, 6_500, 500)]


class TestTheJudge:
    """Each kind of wrong history turns it red, and a right one does not."""

    def test_accepts_a_reclaim_by_the_first_look_after_the_end(self) -> None:
        assert broken([HELD, change(2, 9_000_000, started=5_001_500, owner="b")], LOOKS, []) == []

    @pytest.mark.parametrize(
        ("journal", "looks", "alive", "name"),
        [
            ([HELD, change(2, 9_000_000, started=4_999_999)], [], [], "INV-NO-EARLY-RECLAIM"),
            ([HELD, change(2, 9_000_000, started=5_001_500)], [], ["a"], "PS-LEASE-HB-2"),
            ([HELD, change(2, 9_000_000, started=6_000_000)], [Look(5_001, 5_002, None)], [], "PS-LEASE-HB-3"),
            (
                [HELD, change(2, 9_000_000, started=5_001_500), change(1, None, started=0, status="completed")],
                [],
                [],
                "INV-SINGLE-HOLDER",
            ),
        ],
        ids=["early", "alive", "passed by", "old token"],
    )
    def test_refuses_what_is_wrong(self, journal: list[Change], looks: list[Look], alive: list[str], name: str) -> None:
        assert [found.name for found in broken(journal, looks, alive)] == [name]

    @pytest.mark.parametrize(
        ("taken", "ticks", "names"),
        [
            (7_000, AWAKE, []),
            (8_000, AWAKE, ["PS-LEASE-HB-3"]),
            (8_000, AWAKE[:60], []),
            (35_000, AWAKE, ["PS-LEASE-HB-3"]),
        ],
        ids=["a pause and a look later", "later than that", "on a machine that was busy", "after half a minute"],
    )
    def test_wants_a_job_to_be_taken_when_its_lease_is_over(
        self, taken: int, ticks: list[int], names: list[str]
    ) -> None:
        journal = [HELD, change(2, 90_000_000, started=taken * 1_000, owner="b")]
        idle = Watch([], AWAKE)
        assert [found.name for found in late(journal, [Watch([], ticks), idle], 0.5)] == names

    def test_gives_each_job_that_is_taken_first_its_time(self) -> None:
        others = [replace(HELD, job_id=number) for number in range(2, 12)]
        taken = [change(2, 90_000_000, started=6_000_000 + number, owner="b") for number in range(2, 12)]
        drained = [replace(one, job_id=number) for number, one in enumerate(taken, start=2)]
        last = change(2, 90_000_000, started=8_000_000, owner="b")
        assert list(late([HELD, *others, *drained, last], [Watch([], AWAKE)], 0.5)) == []

    @pytest.mark.parametrize(
        ("watch", "names"),
        [
            (Watch([Look(5_001, 6_900, 1)], AWAKE), []),
            (Watch([Look(5_001, 35_001, 1)], AWAKE), ["PS-LEASE-HB-3"]),
            (Watch([Look(5_001, 35_001, None)], AWAKE[:60]), []),
            (Watch(SELDOM, AWAKE[:150]), []),
            (Watch(SELDOM, AWAKE[:150], manages=True), ["PS-LEASE-HB-14"]),
            (Watch(SELDOM[:1], AWAKE[:150], manages=True), ["PS-LEASE-HB-14"]),
            (Watch(SELDOM, AWAKE[:60], manages=True), []),
            (Watch(OFTEN, AWAKE[:60], manages=True), []),
        ],
        ids=[
            "a look",
            "that takes for ever",
            "on a machine that was busy",
            "pauses of a rival of our own",
            "of a manager",
            "in the end",
            "on a machine that was busy, too",
            "as they must be",
        ],
    )
    def test_wants_looks_that_end_and_come_again(self, watch: Watch, names: list[str]) -> None:
        assert [found.name for found in late([], [watch], 0.5)] == names

    @pytest.mark.parametrize(
        ("look", "names"),
        [
            (Look(3_001, 3_002, None), []),
            (Look(2_999, 3_001, None), ["PS-LEASE-HB-6"]),
            (Look(3_001, 9_001, None), ["PS-LEASE-HB-6"]),
        ],
        ids=["during the block", "before a lease was over", "until after it"],
    )
    def test_wants_looks_while_a_loop_is_blocked(self, look: Look, names: list[str]) -> None:
        assert [found.name for found in unwatched([(1_000, 9_000)], [look], 2)] == names
        assert unwatched([], [look], 2) == []

    @pytest.mark.parametrize(
        ("status", "executions", "hows", "names"),
        [
            ("completed", 1, ["interrupted", "finished"], []),
            ("queued", 0, ["interrupted"], []),
            ("processing", 0, [], ["PS-LEASE-HB-11"]),
            ("completed", 1, ["finished", "finished"], ["PS-LEASE-HB-12"]),
            ("completed", 1, [], ["PS-LEASE-HB-12"]),
            ("queued", 0, ["finished"], ["PS-LEASE-HB-12"]),
            ("queued", 1, ["interrupted"], ["PS-LEASE-HB-12"]),
        ],
    )
    def test_wants_each_job_run_once(self, status: str, executions: int, hows: list[str], names: list[str]) -> None:
        job = {"id": 1, "status": status, "executions": executions}
        found = misdone([job], [(1, how) for how in hows], {"queued", "completed"})
        assert [one.name for one in found] == names

    @pytest.mark.parametrize(
        ("stop", "names"),
        [
            (Stop(0.5, begun=4, interrupted=[0.5, 0.6]), []),
            (Stop(0, interrupted=[0.001]), []),
            (Stop(0.5, begun=5), ["PS-LEASE-HB-11"]),
            (Stop(0.5, interrupted=[0.6, 0.499]), ["PS-LEASE-HB-11"]),
        ],
        ids=["in order", "without a grace time", "acquires on", "a grace time that is cut"],
    )
    def test_wants_stops_in_order(self, stop: Stop, names: list[str]) -> None:
        assert [found.name for found in disordered([stop], 4)] == names
