"""The scheduler owns the order of statements: each order of two calls is played, and each is answered as it must be."""

from typing import Final

import psycopg
import pytest

from prompt_studio_model import operations as op
from prompt_studio_model.checking.history import Lost, Returned
from prompt_studio_model.state import Job
from tests.harness.interleaving.explorers import every_order
from tests.harness.interleaving.ground import Ground, PostgresGround
from tests.harness.interleaving.runs import Run, Step
from tests.harness.interleaving.scenario import Continue, Kill, Mine, Scenario, Stop
from tests.harness.interleaving.scheduler import Scheduler, deviations, follow
from tests.harness.interleaving.session import Answer, SessionWorker
from tests.harness.processes import LIMIT_SECONDS, Pool, Trouble, stat_of

pytestmark = pytest.mark.interleaved

ONE_JOB: Final = (op.Create(request=(1, None, "{}", "client")),)
ACQUIRES: Final = {name: op.Acquire(session=name, owner=name, lease=1_000) for name in ("a", "b")}
TWO: Final = Scenario("two acquire", ONE_JOB, {name: (call,) for name, call in ACQUIRES.items()})


def answers(run: Run) -> list[Answer]:
    """What the calls were answered, in the order of their ends."""
    return [event.answer for event in run.events if isinstance(event, Returned)]


def acquired(run: Run) -> list[Job]:
    """The jobs that acquires got."""
    return [answer.job for answer in answers(run) if isinstance(answer, op.Row) and answer.job is not None]


@pytest.mark.verifies("PS-CONCURRENCY-1", "INV-SINGLE-HOLDER")
class TestEveryOrder:
    def test_of_two_acquires_gives_the_job_to_one_of_them(self, scheduler: Scheduler, ground: Ground) -> None:
        runs = list(every_order(scheduler, TWO))
        assert all(len(acquired(run)) == 1 and len(answers(run)) == 2 for run in runs)
        assert {acquired(run)[0].lease_owner for run in runs} == {"a", "b"}
        assert len({tuple(run.choices) for run in runs}) == len(runs)  # no order is played twice
        places = {step.what for run in runs for step in run.steps}
        assert ("... has its snapshot" in places) == ground.waits_inside

    def test_leaves_no_lock_behind(self, scheduler: Scheduler) -> None:
        for run in every_order(scheduler, TWO):
            held = {job_id for kept in run.kept.values() for job_id, _ in kept.locks}
            assert held <= {job.id for job in run.after.jobs if job.status == "processing"}
            assert all(sorted(job_id for job_id, _ in kept.locks) == sorted(kept.running) for kept in run.kept.values())
            assert not any(kept.unlock_errors for kept in run.kept.values())


class TestASchedule:
    def test_that_is_played_again_is_the_same(self, scheduler: Scheduler) -> None:
        first = scheduler.run(TWO, deviations([(1, 1)]))
        assert len(first.steps) > 2
        assert scheduler.run(TWO, follow(first.choices)).steps == first.steps

    def test_begins_where_the_scenario_does(self, scheduler: Scheduler) -> None:
        first, second = (scheduler.run(TWO, deviations(())) for _ in range(2))
        assert first.before == second.before
        assert [job.status for job in second.before.jobs] == ["queued"]

    def test_does_not_begin_while_a_job_is_locked(self, ground: Ground) -> None:
        if not isinstance(ground, PostgresGround):
            return
        with psycopg.connect(ground.address, autocommit=True) as other:
            other.execute("SELECT pg_advisory_lock(1)")
            with pytest.raises(Trouble, match="'id': 1"):
                ground.wait_for_locks(0)
        ground.wait_for_locks(LIMIT_SECONDS)  # its server process ends some time after it was told to

    def test_goes_on_with_another_process_after_a_kill(self, scheduler: Scheduler) -> None:
        killed = Scenario(
            "a kill", ONE_JOB, {"a": (ACQUIRES["a"], Mine(op.Complete)), "fate": (Kill("a"),), "b": (ACQUIRES["b"],)}
        )
        run = scheduler.run(killed, follow(["a", "fate"]))
        assert [step.what for step in run.steps].count("kill a") == 1
        assert Lost(1) in run.events  # whoever judges the history must know that nobody waits for the answer
        assert not run.history.calls[1].returned
        assert [job.lease_owner for job in acquired(run)] == ["b"]  # what the first process had begun was undone


class TestAStoppedProcess:
    STOPPED: Final = Scenario(
        "a stop",
        ONE_JOB,
        {
            "a": (ACQUIRES["a"], Mine(op.Complete)),
            "b": (ACQUIRES["b"],),
            "fate": (Stop("a"), op.Tick(milliseconds=1_000), Continue("a")),
        },
    )

    def test_stands_still_wherever_it_is_until_it_is_continued(
        self, scheduler: Scheduler, pool: Pool[SessionWorker]
    ) -> None:
        process, stopped = pool.process_id(pool.numbers[0]), False

        def look(step: Step) -> None:
            nonlocal stopped
            assert not (stopped and step.lane == "a")
            stopped = step.what == "stop a" or (stopped and step.what != "continue a")
            assert (stat_of(process)[0] == "T") is stopped

        for begun in range(4):
            run = scheduler.run(self.STOPPED, follow([*["a"] * begun, "fate"]), tell=look)
            assert [step.what for step in run.steps[begun:] if step.lane == "fate"] == [
                "stop a",
                "tick 1000",
                "continue a",
            ]

    def test_that_is_woken_after_its_lease_completes_nothing(self, scheduler: Scheduler) -> None:
        to_its_claim = scheduler.run(self.STOPPED, deviations(()))
        until = next(number for number, step in enumerate(to_its_claim.steps) if step.outcome == "ready") + 1
        run = scheduler.run(self.STOPPED, follow([*["a"] * until, "fate", "fate", *["b"] * len(to_its_claim.steps)]))
        assert [job.lease_owner for job in acquired(run)] == ["a", "b"]
        assert [job.status for job in run.after.jobs] == ["processing"]
        assert [str(answer.kind) for answer in answers(run) if isinstance(answer, op.Outcome)] == ["lease_lost"]

    def test_is_not_stopped_while_it_waits(self, scheduler: Scheduler) -> None:
        for run in every_order(scheduler, self.STOPPED, preemptions=2):
            came_to = ""
            for step in run.steps:
                assert not (step.what == "stop a" and came_to == "blocked" and "a" not in step.enabled)
                came_to = step.outcome if step.lane == "a" else came_to

    def test_can_be_killed(self, scheduler: Scheduler) -> None:
        fate = (Stop("a"), Kill("a"), Continue("a"))
        killed = Scenario("a stop and a kill", ONE_JOB, {**self.STOPPED.lanes, "fate": fate})
        run = scheduler.run(killed, follow(["a", "fate", "fate"]))
        assert Lost(1) in run.events
        assert [job.lease_owner for job in acquired(run)] == ["b"]

    @pytest.mark.parametrize("fate", [(Stop("a"),), (Continue("a"), Stop("a")), (Stop("a"), Continue("b"))])
    def test_that_nobody_continues_is_no_scenario(self, fate: tuple[Stop | Continue, ...]) -> None:
        with pytest.raises(ValueError, match="stopped"):
            Scenario("a stop", ONE_JOB, {"a": (ACQUIRES["a"],), "fate": fate})
