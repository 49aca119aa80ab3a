"""Many schedules of scenarios that nobody thought of: by priorities, at random, and as Hypothesis draws and shrinks.

`--schedules` says how many for each store, `--depth` up to how many switches of priority.
"""

import random
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from tests.harness.broken_stores import BrokenStore, Turn
from tests.harness.interleaved_layer import InterleavedLayer, Volume
from tests.harness.interleaving.drawing import require_drawn
from tests.harness.interleaving.explorers import missed, prioritized, uniform
from tests.harness.interleaving.generated import Chooser, generated
from tests.harness.interleaving.ground import Ground
from tests.harness.interleaving.judging import Judge
from tests.harness.interleaving.scenario import Move, Scenario
from tests.harness.interleaving.scenarios import acquire, job
from tests.harness.interleaving.scheduler import Run, Scheduler, deviations
from tests.harness.interleaving.schedules import Schedule, replay
from tests.harness.interleaving.session import SessionWorker
from tests.harness.locations import SQLITE, Location
from tests.harness.processes import Pool, Trouble
from tests.harness.violation import Violation
from tests.interleaved.conftest import EXPLORED, Holds, Tell

pytestmark = pytest.mark.interleaved

SCHEDULES_OF_ONE = 20
"""A scenario is set up once for so many schedules of it."""

EXAMPLES = 60
KEEPS_THE_TOKEN = Turn("acquire_best_job", r"lease_token = lease_token \+ 1,", "lease_token = lease_token,")
STEPS = 30
LANES_MAX = 4
"""More than most schedules have; deviations after the end do no harm."""


@pytest.mark.stateful
@pytest.mark.timeout(3_600)
def test_generated_scenarios_hold(
    scheduler: Scheduler, holds: Holds, layer: InterleavedLayer, tell: Tell, request: pytest.FixtureRequest
) -> None:
    wanted, depth = request.config.getoption("schedules"), request.config.getoption("depth")
    seed = int(request.config.option.hypothesis_seed)
    source = random.Random(seed)  # noqa: S311 - the certificate names the seed
    found = layer.generated = Volume(depth=depth)
    begun = time.monotonic()
    while found.schedules < wanted:
        scenario = generated(source.randrange(2**32))
        for number in range(SCHEDULES_OF_ONE):
            lanes = list(scenario.lanes)
            choose = uniform(source) if number % 2 else prioritized(source, lanes, STEPS, source.randint(1, depth))
            run = scheduler.run(scenario, choose)
            found.excused += holds(run).excused
            found.schedules, found.steps, found.waits = (
                found.schedules + 1,
                found.steps + len(run.steps),
                found.waits + run.waits,
            )
            tell(f"{scheduler.location}: {found.schedules:,} of {wanted:,} schedules")
        scheduler.forget(scenario)
        found.scenarios += 1
    found.seconds = time.monotonic() - begun
    # Half of them by priorities, and with a depth below the deepest in all but one of so many.
    counted = found.schedules // (2 * depth)
    found.missed = missed(LANES_MAX, found.steps // found.schedules, depth, counted)
    request.config.stash.setdefault(EXPLORED, []).append(f"{scheduler.location}: {found.line()}")


def one_or_two_claims(name: str, choose: Chooser) -> Scenario:
    """Small, so that little is tried to make it smaller."""
    lanes: dict[str, tuple[Move, ...]] = {lane: (acquire(lane),) for lane in choose(("a", "ab"))}
    return Scenario(name, (job(),), lanes)


def third_time_trouble(scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let the third schedule end in trouble. The list has an item for each that was played."""
    play = scheduler.run
    played: list[int] = []

    def run(*arguments: Any, **named: Any) -> Run:  # noqa: ANN401 - see Scheduler
        played.append(len(played))
        if len(played) == 3:
            raise Trouble("a worker died")
        return play(*arguments, **named)

    monkeypatch.setattr(scheduler, "run", run)
    return played


class TestDrawnByHypothesis:
    def test_scenarios_hold(self, scheduler: Scheduler, judge: Judge, failures: Path) -> None:
        require_drawn(scheduler, judge, failures, examples=EXAMPLES)

    def test_what_does_not_hold_is_shrunk_and_kept(
        self, opened: Callable[[Location], AbstractContextManager[Ground]], pool: Pool[SessionWorker], tmp_path: Path
    ) -> None:
        with opened(BrokenStore("a claim keeps the token", turns=(KEEPS_THE_TOKEN,)).at(SQLITE)) as ground:
            scheduler = Scheduler(pool, ground)
            judge = Judge(scheduler)
            with pytest.raises(Violation, match="--replay=") as caught:
                require_drawn(scheduler, judge, tmp_path, examples=EXAMPLES, generate=one_or_two_claims)
            (path,) = tmp_path.glob("*.json")
            kept = Schedule.read(path)
            assert kept.names == tuple(caught.value.names)
            assert list(kept.scenario.lanes) == ["a"]
            assert judge.judge(replay(scheduler, kept.scenario, kept)).names == kept.names

    def test_trouble_is_no_example_and_nothing_is_played_after_it(
        self, scheduler: Scheduler, judge: Judge, failures: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        played = third_time_trouble(scheduler, monkeypatch)
        with pytest.raises(Trouble, match="a worker died"):
            require_drawn(scheduler, judge, failures, examples=EXAMPLES)
        assert len(played) == 3

    def test_what_was_found_before_trouble_is_kept_as_it_is(
        self,
        opened: Callable[[Location], AbstractContextManager[Ground]],
        pool: Pool[SessionWorker],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        with opened(BrokenStore("a claim keeps the token", turns=(KEEPS_THE_TOKEN,)).at(SQLITE)) as ground:
            scheduler = Scheduler(pool, ground)
            judge = Judge(scheduler)
            played = third_time_trouble(scheduler, monkeypatch)
            with pytest.raises(Violation, match=r"not shortened(?s:.*)--replay="):
                require_drawn(scheduler, judge, tmp_path, examples=EXAMPLES, generate=one_or_two_claims)
            assert len(played) == 3
            assert len(list(tmp_path.glob("*.json"))) == 1


def test_a_generated_scenario_is_always_the_same() -> None:
    assert generated(7) == generated(7)
    assert len({str(generated(seed)) for seed in range(100)}) == 100


def test_lanes_that_cannot_be_played_are_refused(scheduler: Scheduler) -> None:
    four = dict.fromkeys("abcd", ()) | dict(generated(1).lanes)
    with pytest.raises(ValueError, match="needs"):
        scheduler.run(
            Scenario("too many", (), {f"{name}{n}": moves for n in (1, 2) for name, moves in four.items()}),
            deviations(()),
        )
