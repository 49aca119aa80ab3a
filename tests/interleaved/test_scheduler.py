"""The scheduler owns the order of statements: each order of two calls is played, and each is answered as it must be."""

from typing import Final

import pytest

from prompt_studio_model import operations as op
from prompt_studio_model.checking.history import Lost, Returned
from prompt_studio_model.state import Job
from tests.harness.interleaving.explorers import every_order
from tests.harness.interleaving.ground import Ground
from tests.harness.interleaving.scenario import Kill, Mine, Scenario
from tests.harness.interleaving.scheduler import Run, Scheduler, deviations, follow
from tests.harness.interleaving.session import Answer

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

    def test_goes_on_with_another_process_after_a_kill(self, scheduler: Scheduler) -> None:
        killed = Scenario(
            "a kill", ONE_JOB, {"a": (ACQUIRES["a"], Mine(op.Complete)), "fate": (Kill("a"),), "b": (ACQUIRES["b"],)}
        )
        run = scheduler.run(killed, follow(["a", "fate"]))
        assert [step.what for step in run.steps].count("kill a") == 1
        assert Lost(1) in run.events  # whoever judges the history must know that nobody waits for the answer
        assert not run.history.calls[1].returned
        assert [job.lease_owner for job in acquired(run)] == ["b"]  # what the first process had begun was undone
