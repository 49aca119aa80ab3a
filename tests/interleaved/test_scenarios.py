"""Every order of every scenario is judged: what each call was answered, what is in the tables, which locks are left."""

import random
import time
from collections.abc import Iterable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from prompt_studio_model.checking.history import Lost
from tests.harness.interleaved_layer import Exhausted, InterleavedLayer
from tests.harness.interleaving.explorers import Bounds, by_luck, every_order, one_of_each, switches
from tests.harness.interleaving.independence import TABLES
from tests.harness.interleaving.outcomes import outcome_of
from tests.harness.interleaving.runs import Run
from tests.harness.interleaving.scenario import Scenario, happens
from tests.harness.interleaving.scenarios import KILLED, LOST, REDUCED, SCENARIOS, TWO_SESSIONS, WHOLE, ends_processes
from tests.harness.interleaving.scheduler import Choose, Scheduler
from tests.harness.interleaving.schedules import DivergedError
from tests.harness.locations import SQLITE
from tests.harness.plugin import CERTIFICATE
from tests.interleaved.conftest import Holds, Tell

pytestmark = pytest.mark.interleaved

SCHEDULES_MAX = 120
"""Of one scenario, where there are more than a change can wait for; they are taken at random then, and not in order."""

DEPTH = 3


def named(scenario: Scenario) -> str:
    """A test's name."""
    return scenario.name.replace(", ", "-").replace(" ", "_")


SAMPLED = [scenario for scenario in SCENARIOS if scenario not in (*WHOLE, *REDUCED, *KILLED, *LOST)]
KILLED_EACH_TIME, KILLED_BESIDES = KILLED[:2], KILLED[2:]


@pytest.mark.stateful
@pytest.mark.verifies(
    "PS-CONCURRENCY-1", "INV-SINGLE-HOLDER", "INV-CLAIM-ORDER", "INV-NONE-IS-EMPTY", "INV-LOCKS-MATCH"
)
@pytest.mark.parametrize("scenario", WHOLE, ids=named)
def test_every_order_holds(scheduler: Scheduler, holds: Holds, scenario: Scenario, layer: InterleavedLayer) -> None:
    layer.exhaustive[scenario.name] = exhausted(every_order(scheduler, scenario), holds)


@pytest.mark.stateful
@pytest.mark.verifies("INV-ONE-EFFECT-PER-KEY", "INV-NOTHING-LOST", "INV-REPLAY-SAFE")
@pytest.mark.parametrize("scenario", REDUCED, ids=named)
def test_one_order_of_each_kind_holds(
    scheduler: Scheduler, holds: Holds, scenario: Scenario, layer: InterleavedLayer
) -> None:
    found = exhausted(one_of_each(scheduler, scenario, TABLES[scheduler.location]), holds)
    layer.exhaustive[scenario.name] = replace(found, reduced=True)


def exhausted(runs: Iterable[Run], holds: Holds) -> Exhausted:
    """Judge each of these."""
    begun = time.monotonic()
    orders, outcomes, found = set(), set(), Exhausted()
    for run in runs:
        holds(run)
        orders.add(tuple(run.choices))
        outcomes.add(outcome_of(run))
        found.schedules, found.steps, found.waits = (
            found.schedules + 1,
            found.steps + len(run.steps),
            found.waits + run.waits,
        )
    assert len(orders) == found.schedules > 1
    found.outcomes, found.seconds = len(outcomes), time.monotonic() - begun
    return found


@pytest.mark.verifies(
    "PS-CONCURRENCY-1", "INV-SINGLE-HOLDER", "INV-CLAIM-ORDER", "INV-NONE-IS-EMPTY", "INV-LOCKS-MATCH"
)
@pytest.mark.parametrize("scenario", SAMPLED, ids=named)
def test_some_orders_hold(
    scheduler: Scheduler, holds: Holds, scenario: Scenario, request: pytest.FixtureRequest
) -> None:
    seed = request.config.stash[CERTIFICATE].seed
    source = random.Random(f"{seed} {scenario.name}")  # noqa: S311 - the certificate names the seed
    few = SCHEDULES_MAX // 8 if ends_processes(scenario) else SCHEDULES_MAX
    for run in by_luck(scheduler, scenario, source, few, Bounds(DEPTH)):
        holds(run)


@pytest.mark.verifies("PS-FAULTS-1", "INV-NOTHING-LOST", "INV-REPLAY-SAFE")
@pytest.mark.parametrize(
    "scenario",
    [*KILLED_EACH_TIME, *(pytest.param(one, marks=pytest.mark.soak) for one in KILLED_BESIDES)],
    ids=named,
)
def test_a_kill_at_each_gate_loses_nothing(scheduler: Scheduler, holds: Holds, scenario: Scenario) -> None:
    killed, lost, told = set(), 0, set()
    for run in every_order(scheduler, scenario):
        holds(run)
        place = next(number for number, step in enumerate(run.steps) if step.what == "kill a")
        killed.add(place)
        lost += any(isinstance(event, Lost) for event in run.events)
        told |= {answer for step in run.steps for _, answer in step.answers}
    assert killed == set(range(max(killed) + 1))  # before each step, and after the last
    assert lost > 1
    if scenario is KILLED[0]:  # it was killed before it did anything, and after it had done all but tell
        assert {"applied", "already"} <= told


@pytest.mark.verifies("PS-FAULTS-1", "INV-NOTHING-LOST", "INV-REPLAY-SAFE")
@pytest.mark.parametrize("scenario", LOST, ids=named)
def test_a_lost_answer_loses_nothing_else(scheduler: Scheduler, holds: Holds, scenario: Scenario) -> None:
    lost, unknown = set(), 0
    for run in every_order(scheduler, scenario):
        holds(run)
        lost |= {step.what.split(",")[0] for step in run.steps if step.what.endswith("answer is lost")}
        unknown += any(isinstance(event, Lost) for event in run.events)
    if scheduler.location == SQLITE.name:  # nobody answers there
        assert not lost
    else:
        assert len(lost) > 0
        assert unknown > 0


@pytest.mark.soak
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("scenario", [one for one in TWO_SESSIONS if one not in WHOLE], ids=named)
def test_every_order_of_a_long_one_holds(
    scheduler: Scheduler, holds: Holds, scenario: Scenario, tell: Tell, request: pytest.FixtureRequest
) -> None:
    begun, played = time.monotonic(), 0
    for run in every_order(scheduler, scenario):
        holds(run)
        played += 1
        tell(f"{scheduler.location}, {scenario.name}: {played:,} schedules")
    told = f"{scheduler.location}, {scenario.name}: {played:,} schedules in {time.monotonic() - begun:.0f} s"
    request.config.stash[CERTIFICATE].told.append(told)


def test_every_test_of_schedules_keeps_what_does_not_hold() -> None:
    """One that judges by itself would tell of a schedule and leave no file to play it again."""
    judging = [
        path.name for path in Path(__file__).parent.glob("test_*.py") if "judge.require" + "(" in path.read_text()
    ]
    assert judging == ["test_judging.py"]


def test_a_scenario_is_played_as_it_is_written(scheduler: Scheduler) -> None:
    for scenario in SCENARIOS:
        if ends_processes(scenario):
            continue
        run = next(every_order(scheduler, scenario))
        calls = sum(not happens(move) for moves in scenario.lanes.values() for move in moves)
        left_out = sum(step.what == "left out" for step in run.steps)
        assert len(run.history.calls) == calls - left_out


class TestEveryOrder:
    def test_with_no_preemption_each_lane_goes_on_until_it_ends_or_waits(self, scheduler: Scheduler) -> None:
        runs = list(every_order(scheduler, TWO_SESSIONS[0], preemptions=0))
        assert [switches(run, run.choices) for run in runs] == [0] * len(runs)
        assert {run.choices[0] for run in runs} == {"a", "b"}

    def test_with_more_preemptions_there_are_more(self, scheduler: Scheduler) -> None:
        counts = [len(list(every_order(scheduler, TWO_SESSIONS[0], preemptions=most))) for most in (0, 1, 2)]
        assert counts == sorted(counts)
        assert counts[0] < counts[-1]
        assert counts[-1] <= len(list(islice(every_order(scheduler, TWO_SESSIONS[0]), 100)))

    @pytest.mark.parametrize("change", [{"what": "something else"}, {"lane": "c"}], ids=["statement", "lane"])
    def test_notices_a_beginning_that_has_become_another_one(
        self, scheduler: Scheduler, change: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        play, played = scheduler.run, 0

        def changing(scenario: Scenario, choose: Choose, **more: Any) -> Run:  # noqa: ANN401 - see Scheduler
            nonlocal played
            run = play(scenario, choose, **more)
            played += 1
            run.steps[0] = replace(run.steps[0], **change) if played > 1 else run.steps[0]
            return run

        monkeypatch.setattr(scheduler, "run", changing)
        for orders in (
            every_order(scheduler, TWO_SESSIONS[0]),
            one_of_each(scheduler, TWO_SESSIONS[0], TABLES[scheduler.location]),
        ):
            played = 0
            with pytest.raises(DivergedError, match="step 0 was"):
                list(orders)
