"""What the table says may change places is played in both orders; and the search that relies on it misses nothing."""

import random
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any, Final, NamedTuple

import pytest

from tests.harness.interleaving.explorers import every_order, one_of_each, uniform
from tests.harness.interleaving.independence import TABLES, Footprint, Table, Use, footprints, independent
from tests.harness.interleaving.outcomes import outcome_of, real_time_of
from tests.harness.interleaving.runs import Run, Step
from tests.harness.interleaving.scenario import Scenario
from tests.harness.interleaving.scenarios import ANN, KILLED, REDUCED, SCENARIOS, THREE_SESSIONS, WHOLE
from tests.harness.interleaving.scheduler import Scheduler, follow
from tests.harness.interleaving.schedules import CHOICES_OF_A_SERVER
from tests.harness.locations import SQLITE, WITH_LOCKS, WITHOUT_LOCKS
from tests.harness.plugin import CERTIFICATE
from tests.interleaved.conftest import Holds, Tell
from tests.interleaved.meetings import apart, meetings, on_keys, together

pytestmark = pytest.mark.interleaved

STEPS_MAX, STEPS_MAX_EACH_TIME = 12, 8
"""Of the default schedule, up to which every order is played to compare; and in each run, where a server plays them."""
RUNS = 10
"""At random, of each scenario."""
PAIRS_MAX = 2
"""So often is each pair of neighbours in them played in both orders, in different places."""

NOTHING: Final[frozenset[Use]] = frozenset()
OF_ONE_JOB: Final = frozenset(
    {
        "hold_job",
        "renew_lease",
        "complete_job",
        "fail_job",
        "fail_or_requeue_job",
        "release_job",
        "set_cancelled",
        "retry_failed_job",
        "unlock_job",
        "get_job",
    }
)
"""The statements that name a job."""
ONLY_LATER: Final = frozenset({"lookup_key_of_user", "lookup_key_without_user"})
"""What begins and ends its call by itself: it could be told by the end of another, which it may not pass anyway."""
NEEDLESS: Final = frozenset({"get_job", "fill_key"})
"""What reads or writes only a row that its transaction has locked. They stay in the table: others may do so without."""

LONG = [scenario for scenario in THREE_SESSIONS if "job" in scenario.name or "two users" in scenario.name]
"""Those with tens of thousands of orders, or too many kinds of them for each run."""
QUICK = [scenario for scenario in THREE_SESSIONS if scenario not in LONG]


def small(scheduler: Scheduler, scenarios: Sequence[Scenario], most: int) -> Iterator[Scenario]:
    """The scenarios of which every order can be played, since the default one has few steps."""
    for scenario in scenarios:
        if len(scheduler.run(scenario, follow(())).steps) <= most:
            yield scenario


def compare(scheduler: Scheduler, scenario: Scenario) -> tuple[list[Run], list[Run]]:
    """Every order, and one of each kind, of which each comes to something and none is played twice."""
    every = list(every_order(scheduler, scenario))
    some = list(one_of_each(scheduler, scenario, TABLES[scheduler.location]))
    assert set(map(told, some)) == set(map(told, every)), scenario.name
    assert len({tuple(run.choices) for run in some}) == len(some) <= len(every)
    return every, some


def told(run: Run) -> Hashable:
    """All that anybody could tell a schedule by."""
    return outcome_of(run), real_time_of(run)


class Swapped(NamedTuple):
    """Two neighbours that may change places, the run that has them so, and one with them the other way round."""

    names: tuple[str, str]
    at: int
    run: Run
    play: Callable[[], Run]


def swapped(scheduler: Scheduler, scenario: Scenario, table: Table) -> Iterator[Swapped]:
    """Neighbours that may change places, in schedules at random."""
    seen: dict[tuple[str, str], int] = {}
    source = random.Random(scenario.name)  # noqa: S311 - the same schedules each time
    for _ in range(RUNS):
        run = scheduler.run(scenario, uniform(source))
        pairs = zip(run.steps, run.steps[1:], footprints(table, run.steps), strict=False)
        followers = [*footprints(table, run.steps)][1:]
        for number, ((first, second, found), after) in enumerate(zip(pairs, followers, strict=True)):
            names = first.what, second.what
            if first.lane == second.lane or second.lane not in first.enabled or not independent(found, after):
                continue
            seen[names] = seen.get(names, 0) + 1
            if seen[names] <= PAIRS_MAX:
                choices = [*run.choices[:number], second.lane, first.lane, *run.choices[number + 2 :]]
                yield Swapped(names, number, run, partial(scheduler.run, scenario, follow(choices)))


def is_the_same(swapped: Swapped, other: Run) -> bool:
    """Whether neither step hindered the other, and nobody can tell the two runs apart."""
    *before, first, second = done(swapped.run)[: swapped.at + 2]
    return done(other)[: swapped.at + 2] == [*before, second, first] and told(other) == told(swapped.run)


def done(run: Run) -> list[Step]:
    """What its steps did, whoever could have gone on instead."""
    return [replace(step, enabled=()) for step in run.steps]


def in_any_time(found: Footprint) -> Footprint:
    """As if nobody could tell which call had ended when another one began."""
    return replace(found, begins=False, ends=False)


def pairs_of(table: Table) -> set[frozenset[str]]:
    """The statements that may change places, if they are about different jobs and in the midst of their calls."""
    if table.inside is not None:  # all that is hidden in a transaction is alike
        return {frozenset({"inside", name}) for name in table.outside if name != "commit"}

    def footprint(name: str, job_id: int) -> Footprint:
        uses = table.outside[name]
        return Footprint(
            frozenset(
                use._replace(job_id=job_id) if name in OF_ONE_JOB and use.resource == "jobs" else use for use in uses
            )
        )

    both = product(table.outside, repeat=2)
    return {frozenset(names) for names in both if independent(footprint(names[0], 1), footprint(names[1], 2))}


def never_met(scheduler: Scheduler, table: Table) -> set[frozenset[str]]:
    """Those of them that no two calls can bring together, by the order of their calls in real time, or here."""
    if table.inside is not None:
        return set()
    lookup = "lookup_key_of_user"  # it begins and ends its call, and unlocking ends one
    if scheduler.store.name == WITHOUT_LOCKS.name:
        return {frozenset({lookup}), *(pair for pair in pairs_of(table) if "unlock_job" in pair)}
    return {frozenset({lookup}), frozenset({lookup, "unlock_job"})}


def needed(scheduler: Scheduler, table: Table, name: str, alone: dict[str, Run]) -> bool:
    """Whether two steps can be told apart that would be independent if this statement used nothing.

    For `ONLY_LATER` by what they come to, whichever call had ended: that these change places is forbidden anyway.
    """
    wrong = replace(table, outside={**table.outside, name: NOTHING})
    seen: Callable[[Footprint], Footprint] = lambda found: found  # noqa: E731 - one of two
    tell: Callable[[Run], Hashable] = told
    if name in ONLY_LATER:
        wrong, seen, tell = replace(wrong, ending=NOTHING), in_any_time, outcome_of

    def may_be(names: tuple[str, str], found: tuple[Footprint, Footprint]) -> bool:
        return name in names and independent(*map(seen, found))

    for scenario in together():
        run = alone.setdefault(scenario.name, alone.get(scenario.name) or scheduler.run(scenario, follow(())))
        for met in meetings(scheduler, scenario, wrong, may_be, run):
            if independent(*map(seen, met.found)) and tell(met.runs[0]) != tell(met.runs[1]):
                return True
    return False


class TestTheTable:
    @pytest.mark.parametrize("scenario", [*WHOLE, *REDUCED, *THREE_SESSIONS], ids=lambda scenario: scenario.name)
    def test_lets_neighbours_change_places_that_nobody_can_tell_apart(
        self, scheduler: Scheduler, scenario: Scenario
    ) -> None:
        for one in swapped(scheduler, scenario, TABLES[scheduler.location]):
            # It is played until a server lets the same one go on first of those that wait.
            assert any(is_the_same(one, one.play()) for _ in range(CHOICES_OF_A_SERVER)), one.names

    def test_lets_each_pair_of_statements_change_places_for_a_reason(self, scheduler: Scheduler) -> None:
        """Each pair that may change places is played in both orders, but for those that cannot meet."""
        table = TABLES[scheduler.location]
        left = pairs_of(table) - never_met(scheduler, table)
        assert left

        def is_left(names: tuple[str, str], found: tuple[Footprint, Footprint]) -> bool:
            return frozenset(names) in left and independent(*found)

        for scenario in apart():
            for met in meetings(scheduler, scenario, table, is_left):
                if independent(*met.found):
                    assert told(met.runs[0]) == told(met.runs[1]), (scenario.name, met.names)
                    left.discard(frozenset(met.names))
            if not left:
                break
        assert sorted(map(sorted, left)) == []

    @pytest.mark.parametrize("ground", [SQLITE, WITH_LOCKS], ids=lambda location: location.name, indirect=True)
    def test_needs_each_entry(self, scheduler: Scheduler) -> None:
        """One that said that its statement uses nothing would let steps change places that can be told apart."""
        table = TABLES[scheduler.location]
        alone: dict[str, Run] = {}
        needless = {name for name, uses in table.outside.items() if uses and not needed(scheduler, table, name, alone)}
        assert needless == (NEEDLESS & table.outside.keys())

    @pytest.mark.parametrize("ground", [SQLITE, WITH_LOCKS], ids=lambda location: location.name, indirect=True)
    def test_needs_to_know_which_call_had_ended_when_another_began(self, scheduler: Scheduler) -> None:
        table = replace(TABLES[scheduler.location], ending=NOTHING)
        scenario = Scenario("lookup, lookup", (), {"a": on_keys("a", ANN)["lookup"], "b": on_keys("b", ANN)["lookup"]})
        (met,) = meetings(scheduler, scenario, table, lambda *_: True)
        assert independent(*map(in_any_time, met.found))
        assert outcome_of(met.runs[0]) == outcome_of(met.runs[1])
        assert told(met.runs[0]) != told(met.runs[1])
        assert not independent(*met.found)

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
    @pytest.mark.timeout(600)  # some thousand schedules
    def test_reaches_every_outcome_that_every_order_reaches_and_misses_some_with_a_wrong_table(
        self, scheduler: Scheduler
    ) -> None:
        right = TABLES[scheduler.location]
        wrong = replace(right, outside=dict.fromkeys(right.outside, NOTHING))
        most = STEPS_MAX if scheduler.store.name == SQLITE.name else STEPS_MAX_EACH_TIME
        compared, fewer, missed = 0, 0, False
        for scenario in small(scheduler, WHOLE, most):
            every, some = compare(scheduler, scenario)
            compared, fewer = compared + 1, fewer + (len(some) < len(every))
            missed = missed or bool(
                set(map(outcome_of, every)) - set(map(outcome_of, one_of_each(scheduler, scenario, wrong)))
            )
        assert compared > 5
        assert fewer
        # Where there is one writer the order in which calls begin and end already says everything.
        assert missed is (right.inside is None)

    @pytest.mark.soak
    @pytest.mark.timeout(7_200)
    def test_reaches_every_outcome_of_all_that_are_small(
        self, scheduler: Scheduler, tell: Tell, request: pytest.FixtureRequest
    ) -> None:
        begun, played, compared = time.monotonic(), 0, []
        for scenario in small(scheduler, SCENARIOS, STEPS_MAX):
            played += sum(map(len, compare(scheduler, scenario)))
            compared.append(scenario.name)
            tell(f"{scheduler.location}: {len(compared)} scenarios, {played:,} schedules")
        assert {REDUCED[0].name, KILLED[0].name} <= set(compared) or scheduler.store.name != SQLITE.name
        found = f"{len(compared)} scenarios of at most {STEPS_MAX} steps, by kinds and in every order"
        took = f"{played:,} schedules in {time.monotonic() - begun:.0f} s"
        request.config.stash[CERTIFICATE].told.append(f"{scheduler.location}: {found}, {took}")

    def test_plays_no_more_than_it_may_in_vain_or_not(self, scheduler: Scheduler) -> None:
        played: list[int] = []
        run, table = scheduler.run, TABLES[scheduler.location]

        class Counting(Scheduler):
            def run(self, *arguments: Any, **named: Any) -> Run:  # noqa: ANN401 - as the one that it replaces
                played.append(1)
                return run(*arguments, **named)

        counting = Counting.__new__(Counting)
        assert len(list(one_of_each(counting, LONG[0], table, most=30))) <= len(played) == 30

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
        request.config.stash[CERTIFICATE].told.append(told)
