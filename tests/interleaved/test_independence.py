"""What the table says may change places is played in both orders; and the search that relies on it misses nothing."""

import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any, Final

import pytest

from tests.harness.interleaving.explorers import every_order, one_of_each
from tests.harness.interleaving.independence import TABLES, Footprint, Table, Use, footprints, independent
from tests.harness.interleaving.outcomes import outcome_of
from tests.harness.interleaving.scenario import Scenario
from tests.harness.interleaving.scenarios import THREE_SESSIONS, WHOLE
from tests.harness.interleaving.scheduler import Run, Scheduler, Step, follow
from tests.interleaved.conftest import EXPLORED, Holds, Tell

pytestmark = pytest.mark.interleaved

STEPS_MAX = 12
"""Of the default schedule, up to which every order is played to compare."""
ORDERS_MAX = 25
PAIRS_MAX = 2
"""So often is each pair of statements played in both orders, in different places."""

NOTHING: Final[frozenset[Use]] = frozenset()

LONG = [scenario for scenario in THREE_SESSIONS if "job" in scenario.name]
"""Those with tens of thousands of orders."""
QUICK = [scenario for scenario in THREE_SESSIONS if scenario not in LONG]


def small(scheduler: Scheduler, scenarios: tuple[Scenario, ...]) -> Iterator[Scenario]:
    """The scenarios of which every order can be played."""
    for scenario in scenarios:
        if len(scheduler.run(scenario, follow(())).steps) <= STEPS_MAX:
            yield scenario


def swapped(scheduler: Scheduler, scenario: Scenario, table: Table) -> Iterator[tuple[str, str, Run, Run]]:
    """Neighbours that may change places, the run that has them so, and the one that has them the other way round."""
    seen: dict[tuple[str, str], int] = {}
    for run in islice(every_order(scheduler, scenario), ORDERS_MAX):
        pairs = zip(run.steps, run.steps[1:], footprints(table, run.steps), strict=False)
        followers = [*footprints(table, run.steps)][1:]
        for number, ((first, second, found), after) in enumerate(zip(pairs, followers, strict=True)):
            names = first.what, second.what
            if first.lane == second.lane or second.lane not in first.enabled or not independent(found, after):
                continue
            seen[names] = seen.get(names, 0) + 1
            if seen[names] <= PAIRS_MAX:
                choices = [*run.choices[:number], second.lane, first.lane, *run.choices[number + 2 :]]
                yield *names, run, scheduler.run(scenario, follow(choices))


class TestTheTable:
    @pytest.mark.parametrize("scenario", [*WHOLE, *THREE_SESSIONS], ids=lambda scenario: scenario.name)
    def test_lets_change_places_what_nobody_can_tell_apart(self, scheduler: Scheduler, scenario: Scenario) -> None:
        for first, second, run, other in swapped(scheduler, scenario, TABLES[scheduler.location]):
            assert outcome_of(other) == outcome_of(run), (first, second)

    def test_lets_something_change_places(self, scheduler: Scheduler) -> None:
        table = TABLES[scheduler.location]
        assert any(True for scenario in WHOLE for _ in swapped(scheduler, scenario, table))

    def test_that_forgets_what_a_statement_writes_is_found_out(self, scheduler: Scheduler) -> None:
        right = TABLES[scheduler.location]
        for name in ("begin",) if right.inside is not None else ("acquire_best_job", "record_key_of_user"):
            outside = {**right.outside, name: NOTHING, "commit": NOTHING}
            wrong = replace(right, outside=outside, ending=NOTHING)
            assert any(
                outcome_of(run) != outcome_of(other)
                for scenario in WHOLE
                for _, _, run, other in swapped(scheduler, scenario, wrong)
            ), name

    def test_says_nothing_of_what_it_does_not_know(self, scheduler: Scheduler) -> None:
        (scenario, *_) = WHOLE
        run = scheduler.run(scenario, follow(()))
        nothing = Table(outside={})
        assert all(found.uses is None for found in footprints(nothing, run.steps))

    def test_tells_jobs_apart(self) -> None:
        one, two, all_jobs = (Use("writes", "jobs", number) for number in (1, 2, None))
        of = {use: Footprint(frozenset({use})) for use in (one, two, all_jobs)}
        assert independent(of[one], of[two])
        assert not independent(of[one], of[all_jobs])
        assert not independent(of[all_jobs], of[two])


class TestTheReader:
    """Of steps as a scheduler tells them: whose call begins, and whose ends."""

    def read(self, *steps: Step) -> list[Footprint]:
        """The footprints of these steps, on Postgres."""
        return list(footprints(TABLES["postgres"], list(steps)))

    def test_knows_that_a_call_which_waited_has_ended_when_another_lane_let_it_go(self) -> None:
        both = ("a", "b")
        found = self.read(
            Step("b", "complete_job", both, "inside", job_id=1),
            Step("a", "renew_lease", both, "blocked", job_id=1),
            Step("b", "... has locked a row", ("b",), "ready", job_id=1, woken=(("a", "ready"),)),
            Step("a", "lookup_key_of_user", both, "inside"),
            Step("b", "get_job", both, "ready", job_id=2),
        )
        assert found[2].ends
        assert found[3] == Footprint(frozenset({Use("reads", "keys")}), begins=True)
        assert not independent(found[3], found[4])

    def test_knows_that_one_which_goes_on_has_not(self) -> None:
        both = ("a", "b")
        *_, last = self.read(
            Step("a", "complete_job", both, "blocked", job_id=1),
            Step("b", "commit", both, "gate", woken=(("a", "gate"),)),
            Step("a", "hold_job", both, "gate", job_id=1),
        )
        assert (last.begins, last.ends) == (False, False)

    def test_says_no_more_of_everything_once_nobody_waits(self) -> None:
        """Also when whoever waited has nothing left to do, and is never seen again."""
        found = self.read(
            Step("a", "complete_job", ("a", "b"), "blocked", job_id=1),
            Step("b", "get_job", ("b",), "gate", job_id=2),
            Step("b", "commit", ("b",), "gate", woken=(("a", "ready"),)),
            Step("b", "get_job", ("b",), "gate", job_id=2),
        )
        assert [one.uses is None for one in found] == [True, True, True, False]

    def test_knows_that_the_call_of_a_killed_process_has_ended(self) -> None:
        found = self.read(
            Step("a", "complete_job", ("a", "fate"), "inside", job_id=1),
            Step("fate", "kill a", ("a", "fate"), "done"),
            Step("a", "renew_lease", ("a",), "inside", job_id=1),
        )
        assert found[1].ends
        assert found[2].begins


class TestOneOfEach:
    def test_reaches_every_outcome_that_every_order_reaches(self, scheduler: Scheduler) -> None:
        table = TABLES[scheduler.location]
        compared, fewer = 0, 0
        for scenario in small(scheduler, WHOLE):
            every = list(every_order(scheduler, scenario))
            some = list(one_of_each(scheduler, scenario, table))
            assert {outcome_of(run) for run in some} == {outcome_of(run) for run in every}, scenario.name
            assert len({tuple(run.choices) for run in some}) == len(some) <= len(every)
            compared, fewer = compared + 1, fewer + (len(some) < len(every))
        assert compared > 5
        assert fewer

    def test_plays_no_more_than_it_may_in_vain_or_not(self, scheduler: Scheduler) -> None:
        played: list[int] = []
        run, table = scheduler.run, TABLES[scheduler.location]

        class Counting(Scheduler):
            def run(self, *arguments: Any, **named: Any) -> Run:  # noqa: ANN401 - as the one that it replaces
                played.append(1)
                return run(*arguments, **named)

        counting = Counting.__new__(Counting)
        assert len(list(one_of_each(counting, LONG[0], table, most=30))) <= len(played) == 30

    def test_misses_outcomes_with_a_wrong_table(self, scheduler: Scheduler) -> None:
        right = TABLES[scheduler.location]
        wrong = replace(right, outside=dict.fromkeys(right.outside, NOTHING))
        missed = 0
        for scenario in small(scheduler, WHOLE):
            every = {outcome_of(run) for run in every_order(scheduler, scenario)}
            missed += len(every - {outcome_of(run) for run in one_of_each(scheduler, scenario, wrong)})
        # Where there is one writer the order in which calls begin and end already says everything.
        assert bool(missed) is (right.inside is None)

    @pytest.mark.parametrize("scenario", QUICK, ids=lambda scenario: scenario.name)
    def test_of_three_sessions_holds(self, scheduler: Scheduler, holds: Holds, scenario: Scenario) -> None:
        for run in one_of_each(scheduler, scenario, TABLES[scheduler.location]):
            holds(run)

    @pytest.mark.soak
    @pytest.mark.timeout(3_600)
    @pytest.mark.parametrize("scenario", LONG, ids=lambda scenario: scenario.name)
    def test_of_three_sessions_holds_up_to_three_preemptions(
        self, scheduler: Scheduler, holds: Holds, scenario: Scenario, tell: Tell, request: pytest.FixtureRequest
    ) -> None:
        begun, played = time.monotonic(), 0
        for run in every_order(scheduler, scenario, preemptions=3):
            holds(run)
            played += 1
            tell(f"{scheduler.location}, {scenario.name}: {played:,} schedules")
        told = f"{scheduler.location}, {scenario.name}: {played:,} schedules in {time.monotonic() - begun:.0f} s"
        request.config.stash.setdefault(EXPLORED, []).append(told)
