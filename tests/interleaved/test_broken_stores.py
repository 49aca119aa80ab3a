"""Each store with a bug of other queues is caught, shrunk to a schedule of two preemptions at most, and replayed."""

import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.harness.interleaving.explorers import every_order, missed, prioritized
from tests.harness.interleaving.failing import require
from tests.harness.interleaving.generated import generated
from tests.harness.interleaving.ground import Ground
from tests.harness.interleaving.judging import Judge
from tests.harness.interleaving.plain_tables import PlainSqlite
from tests.harness.interleaving.program_session import ProgramWorker
from tests.harness.interleaving.programs import ProgramScheduler
from tests.harness.interleaving.reducing import reduced
from tests.harness.interleaving.runs import Run
from tests.harness.interleaving.scenario import Scenario
from tests.harness.interleaving.scenarios import SCENARIOS
from tests.harness.interleaving.scheduler import Scheduler, follow
from tests.harness.interleaving.schedules import (
    DivergedError,
    Schedule,
    preemptions,
    replay,
    scenario_as_json,
    scenario_from_json,
)
from tests.harness.interleaving.session import SessionWorker
from tests.harness.locations import Location
from tests.harness.processes import Pool
from tests.harness.violation import Violation
from tests.interleaved.broken import BROKEN, ONE_PREEMPTION, Interleaved, scenario_of
from tests.interleaved.programs import PROGRAMS

pytestmark = pytest.mark.interleaved

SCHEDULES_MAX = 200
PREEMPTIONS_MAX = 2
DEPTH = 3
REPLAYS = 5
ROOT = Path(__file__).resolve().parents[2]
Opened = Callable[[Location], AbstractContextManager[Ground]]


def schedules(scheduler: Scheduler, scenario: Scenario) -> Iterator[Run]:
    """Schedules by priorities, always the same."""
    source = random.Random(0)  # noqa: S311 - the same schedules each time
    for _ in range(SCHEDULES_MAX):
        yield scheduler.run(scenario, prioritized(source, list(scenario.lanes), 15, DEPTH))


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.name)
def test_it_is_found_and_shrunk_and_replayed(
    broken: Interleaved, opened: Opened, pool: Pool[SessionWorker], tmp_path: Path
) -> None:
    scenario = scenario_of(broken)
    with opened(broken.at(broken.location)) as ground:
        scheduler = Scheduler(pool, ground)
        judge = Judge(scheduler)
        found = next(run for run in schedules(scheduler, scenario) if judge.judge(run).verdict == "violated")
        names = judge.judge(found).names
        assert broken.names & set(names)
        shortest, _ = reduced(scheduler, found, lambda run: judge.judge(run).names == names)
        assert preemptions(shortest) <= PREEMPTIONS_MAX
        Schedule.of(shortest, scheduler.location, names).write(tmp_path / "schedule.json")
        kept = Schedule.read(tmp_path / "schedule.json")
        for _ in range(REPLAYS):
            assert judge.judge(replay(scheduler, scenario, kept)).names == kept.names


@pytest.mark.parametrize("broken", ONE_PREEMPTION, ids=lambda broken: broken.name)
def test_it_is_right_when_nobody_is_interrupted(broken: Interleaved, opened: Opened, pool: Pool[SessionWorker]) -> None:
    with opened(broken.at(broken.location)) as ground:
        scheduler = Scheduler(pool, ground)
        judge = Judge(scheduler)
        for run in every_order(scheduler, scenario_of(broken), preemptions=0):
            assert judge.judge(run).verdict == "holds"


@pytest.mark.parametrize("scenario", [*SCENARIOS, *map(generated, range(50))], ids=lambda scenario: scenario.name)
def test_a_scenario_comes_back_from_its_file_as_it_was(scenario: Scenario) -> None:
    written = json.loads(json.dumps(scenario_as_json(scenario)))
    assert scenario_from_json(written) == scenario


def test_a_schedule_that_does_not_hold_is_shortened_and_kept(
    opened: Opened, pool: Pool[SessionWorker], tmp_path: Path
) -> None:
    broken = next(one for one in BROKEN if one.scenario == "acquire, acquire")
    with opened(broken.at(broken.location)) as ground:
        scheduler = Scheduler(pool, ground)
        judge = Judge(scheduler)
        runs = schedules(scheduler, scenario_of(broken))
        found = next(run for run in runs if judge.judge(run).verdict == "violated")
        with pytest.raises(Violation, match="--replay=") as caught:
            require(scheduler, judge, found, tmp_path / "kept")
        (path,) = (tmp_path / "kept").iterdir()
        assert str(path) in str(caught.value)
        assert Schedule.read(path).names == tuple(caught.value.names)


class TestAReplay:
    """`pytest -m stateful --replay=FILE`, as people run it."""

    def run(self, file: Path) -> subprocess.CompletedProcess[str]:
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-m",
            "stateful",
            f"--replay={file}",
        ]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    def test_of_a_schedule_that_holds_is_green_and_draws_it(self, scheduler: Scheduler, tmp_path: Path) -> None:
        kept = Schedule.of(scheduler.run(SCENARIOS[0], follow(["a", "b"])), scheduler.location)
        kept.write(tmp_path / "one.json")
        told = self.run(tmp_path / "one.json")
        assert told.returncode == 0, told.stdout
        assert "1 passed" in told.stdout
        assert "acquire {" in told.stdout

    def test_of_programs_is_judged_by_their_serial_orders(self, tmp_path: Path) -> None:
        workers: Pool[ProgramWorker] = Pool(2, ProgramWorker, preload=("psycopg",))
        ground = PlainSqlite(tmp_path)
        try:
            scheduler = ProgramScheduler(workers, ground)
            for number, choices in enumerate((["a", "b"], ["a", "a", "b", "b"])):
                run = scheduler.run(PROGRAMS["sqlite", "lost update"], follow(choices))
                Schedule.of(run, scheduler.location).write(tmp_path / f"{number}.json")
        finally:
            workers.all(ProgramWorker.leave)
            ground.close()
            workers.close()
        told = [self.run(tmp_path / f"{number}.json") for number in (0, 1)]
        assert sorted(one.returncode for one in told) == [0, 1]
        assert any("no serial order" in one.stdout for one in told)
        assert any("1 passed" in one.stdout for one in told)

    def test_of_another_one_is_red_at_its_first_other_step(self, scheduler: Scheduler, tmp_path: Path) -> None:
        kept = Schedule.of(scheduler.run(SCENARIOS[0], follow(["a", "b"])), scheduler.location)
        replace(kept, steps=(kept.steps[0], kept.steps[1] | {"what": "something else"}, *kept.steps[2:])).write(
            tmp_path / "one.json"
        )
        told = self.run(tmp_path / "one.json")
        assert told.returncode == 1
        assert "DivergedError: step 1 was" in told.stdout


class TestASchedule:
    def test_that_has_become_another_one_is_refused_at_its_first_other_step(self, scheduler: Scheduler) -> None:
        run = scheduler.run(SCENARIOS[0], follow(["a", "b"]))
        kept = Schedule.of(run, scheduler.location)
        changed = kept.steps[1] | {"what": "something else"}
        with pytest.raises(DivergedError, match="something else") as diverged:
            replay(
                scheduler,
                SCENARIOS[0],
                Schedule(kept.store, kept.scenario, kept.choices, (kept.steps[0], changed, *kept.steps[2:])),
            )
        assert diverged.value.number == 1

    def test_that_has_become_longer_is_refused(self, scheduler: Scheduler) -> None:
        kept = Schedule.of(scheduler.run(SCENARIOS[0], follow(())), scheduler.location)
        with pytest.raises(DivergedError, match="steps"):
            replay(scheduler, SCENARIOS[0], Schedule(kept.store, kept.scenario, kept.choices, kept.steps[:-1]))

    def test_of_another_version_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "old.json").write_text('{"version": 0}')
        with pytest.raises(ValueError, match="version 2"):
            Schedule.read(tmp_path / "old.json")


def test_the_bound_on_having_missed_a_bug() -> None:
    assert missed(2, 10, 1, 1) == 0.5
    assert missed(2, 10, 2, 1) == 0.95
    assert missed(2, 10, 2, 200) < 0.001
