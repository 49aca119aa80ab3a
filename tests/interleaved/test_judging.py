"""The judge of schedules notices what is wrong, and names it: each check has a schedule that was made wrong."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from prompt_studio_model import operations as op
from prompt_studio_model.checking.history import Returned
from tests.harness.interleaving.diagram import diagram
from tests.harness.interleaving.excuses import excuses
from tests.harness.interleaving.judging import CONFORMANCE, ERROR, LOCKS, LOSS, Judge
from tests.harness.interleaving.runs import Run
from tests.harness.interleaving.scenarios import SCENARIOS
from tests.harness.interleaving.scheduler import Scheduler, follow
from tests.harness.interleaving.session import Failed, Kept, Told
from tests.harness.violation import Violation

pytestmark = pytest.mark.interleaved

TWO = SCENARIOS[0]


def names_of(judge: Judge, run: Run) -> tuple[str, ...]:
    """What is broken by a run of two claims, one of which got the job. It cannot be played again as it was changed."""
    found = judge.explain(run)
    assert found.verdict == "violated"
    return found.names


def answered(run: Run, change: Callable[[op.Response], op.Response | Failed]) -> None:
    """Change the first answer."""
    place = next(place for place, event in enumerate(run.events) if isinstance(event, Returned))
    event = run.events[place]
    assert isinstance(event, Returned)
    assert not isinstance(event.answer, Failed | Told)
    run.events[place] = Returned(event.number, change(event.answer))


class TestARunThatWasChanged:
    def test_as_it_was_it_holds(self, scheduler: Scheduler, judge: Judge) -> None:
        assert judge.explain(scheduler.run(TWO, follow(()))).verdict == "holds"

    def test_an_answer_that_nothing_explains(self, scheduler: Scheduler, judge: Judge) -> None:
        run = scheduler.run(TWO, follow(()))
        answered(run, lambda _: op.Row(None))
        assert names_of(judge, run) == (CONFORMANCE,)

    def test_a_table_that_no_order_leaves(self, scheduler: Scheduler, judge: Judge) -> None:
        run = scheduler.run(TWO, follow(()))
        run.after = run.before
        assert names_of(judge, run) == (CONFORMANCE,)

    def test_a_lock_that_nobody_should_have(self, scheduler: Scheduler, judge: Judge) -> None:
        run = scheduler.run(TWO, follow(()))
        run.kept["b"] = Kept(locks=((1, 1),), running=(1,))
        assert names_of(judge, run) == (LOCKS,)

    def test_a_lock_that_was_taken_twice(self, scheduler: Scheduler, judge: Judge) -> None:
        run = scheduler.run(TWO, follow(()))
        run.kept["a"] = Kept(locks=((1, 1),), running=(1, 1))
        assert names_of(judge, run) == (LOCKS,)

    def test_a_lock_that_was_given_back_in_vain(self, scheduler: Scheduler, judge: Judge) -> None:
        run = scheduler.run(TWO, follow(()))
        run.kept["a"] = replace(run.kept["a"], unlock_errors=1)
        assert names_of(judge, run) == (LOCKS,)

    def test_an_id_that_was_given_before(self, scheduler: Scheduler, judge: Judge) -> None:
        run = scheduler.run(next(one for one in SCENARIOS if one.name == "cancel, create"), follow(()))
        assert judge.explain(run).verdict == "holds"
        made = next(event for event in run.events if isinstance(event, Returned) and isinstance(event.answer, op.Row))
        assert isinstance(made.answer, op.Row)
        assert made.answer.job is not None
        again = op.Row(made.answer.job._replace(id=run.before.jobs[0].id))
        run.events[run.events.index(made)] = Returned(made.number, again)
        assert names_of(judge, run) == (LOSS,)

    def test_an_error_that_nobody_provoked(self, scheduler: Scheduler, judge: Judge) -> None:
        run = scheduler.run(TWO, follow(()))
        answered(run, lambda _: Failed("StoreUnavailable", "for no reason"))
        assert names_of(judge, run) == (ERROR,)

    def test_an_error_of_the_schema_has_the_name_of_its_promise(self, scheduler: Scheduler, judge: Judge) -> None:
        run = scheduler.run(TWO, follow(()))
        answered(run, lambda _: Failed("InvariantViolation", "a check", invariant="INV-LEASE-FIELDS"))
        assert names_of(judge, run) == ("INV-LEASE-FIELDS",)

    def test_that_cannot_be_played_again_is_inconclusive(self, scheduler: Scheduler, judge: Judge) -> None:
        run = scheduler.run(TWO, follow(()))
        run.after = run.before
        assert judge.judge(run).verdict == "inconclusive"


class TestAnExcuse:
    def test_is_only_what_others_held(self, scheduler: Scheduler, judge: Judge) -> None:
        scenario = next(one for one in SCENARIOS if one.name == "acquire one queued, one expired")
        alone = scheduler.run(scenario, follow(["a"] * 9), look=True)
        assert excuses(alone)[1] == {2}  # which it claimed itself; nobody else had begun: its own row locks are none
        judge.require(alone)


class TestADiagram:
    def test_has_a_column_for_each_lane(self, scheduler: Scheduler) -> None:
        drawn = diagram(scheduler.run(TWO, follow(()))).splitlines()
        assert drawn[0].startswith("acquire, acquire, ")
        assert drawn[1].split() == ["a", "b"]
        assert any("acquire {" in line for line in drawn)
        assert any("} job 1/1 processing" in line for line in drawn)
        assert any("} none" in line for line in drawn)

    def test_is_what_a_violation_says(self, scheduler: Scheduler, judge: Judge) -> None:
        run = scheduler.run(TWO, follow(()))
        answered(run, lambda _: Failed("StoreUnavailable", "for no reason"))
        with pytest.raises(Violation, match="for no reason") as caught:
            judge.require(run)
        assert "acquire {" in str(caught.value)
