"""Many schedules of scenarios that nobody thought of: by priorities, at random, and as Hypothesis draws and shrinks.

`--schedules` says how many for each store, `--depth` up to how many switches of priority.
"""

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from fractions import Fraction
from itertools import islice, permutations, product
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis.database import InMemoryExampleDatabase

from prompt_studio_model.state import State
from tests.harness.broken_stores import BrokenStore, Turn
from tests.harness.interleaved_layer import InterleavedLayer, Volume
from tests.harness.interleaving import runs
from tests.harness.interleaving.drawing import require_drawn
from tests.harness.interleaving.explorers import (
    Bounds,
    branched,
    by_luck,
    by_priorities,
    every_order,
    missed,
    prioritized,
)
from tests.harness.interleaving.generated import Chooser, generated
from tests.harness.interleaving.ground import Ground
from tests.harness.interleaving.judging import Judge
from tests.harness.interleaving.runs import Run
from tests.harness.interleaving.scenario import Move, Scenario
from tests.harness.interleaving.scenarios import THREE_SESSIONS, TWO_SESSIONS, acquire, job
from tests.harness.interleaving.scheduler import Choose, Scheduler, deviations
from tests.harness.interleaving.schedules import CHOICES_OF_A_SERVER, DivergedError, Schedule, replay
from tests.harness.interleaving.session import SessionWorker
from tests.harness.locations import SQLITE, WITHOUT_LOCKS, Location
from tests.harness.plugin import CERTIFICATE
from tests.harness.processes import Pool, Trouble
from tests.harness.violation import Violation
from tests.interleaved.conftest import Holds, Tell

pytestmark = pytest.mark.interleaved

SCHEDULES_OF_ONE = 20
"""A scenario is set up once for so many schedules of it."""

EXAMPLES = 60
SEED = 1
KEEPS_THE_TOKEN = Turn("acquire_best_job", r"lease_token = lease_token \+ 1,", "lease_token = lease_token,")


@pytest.mark.stateful
@pytest.mark.timeout(3_600)
def test_generated_scenarios_hold(
    scheduler: Scheduler, holds: Holds, layer: InterleavedLayer, tell: Tell, request: pytest.FixtureRequest
) -> None:
    wanted, depth = request.config.getoption("schedules"), request.config.getoption("depth")
    seed = request.config.stash[CERTIFICATE].seed
    source = random.Random(seed)  # noqa: S311 - the certificate names the seed
    bounds, found = Bounds(depth), Volume()
    layer.generated = found
    begun = time.monotonic()
    while found.schedules < wanted:
        drawn_from = source.randrange(2**32)
        scenario = generated(drawn_from)
        # Of its own, so that a schedule with one step more changes nothing of the scenarios that come after it.
        luck = random.Random(drawn_from)  # noqa: S311 - the certificate names the seed
        for run in by_luck(scheduler, scenario, luck, SCHEDULES_OF_ONE, bounds):
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
    found.missed, found.longer = bounds.all, bounds.longer
    request.config.stash[CERTIFICATE].told.append(f"{scheduler.location}: {found.line()}")


Step = tuple[str, int]
"""A lane, and the number of its step, counted from 1."""


def order_of(choose: Choose, lanes: dict[str, int]) -> list[Step]:
    """What lanes with so many steps do that are in nobody's way."""
    done = dict.fromkeys(lanes, 0)
    order: list[Step] = []
    current = None
    while enabled := [lane for lane, steps in lanes.items() if done[lane] < steps]:
        current = choose(len(order), current, enabled)
        done[current] += 1
        order.append((current, done[current]))
    return order


def hits(order: list[Step], bug: Sequence[tuple[Step, Step]]) -> bool:
    """Whether all conditions of a bug are met: one step is done before another. Their number is its depth."""
    return all(order.index(first) < order.index(second) for first, second in bug)


def exact(lanes: dict[str, int], bug: Sequence[tuple[Step, Step]]) -> Fraction:
    """The probability that a schedule by priorities of its depth hits it: all that can be drawn is."""
    steps, depth = sum(lanes.values()), len(bug)
    draws = [
        by_priorities(order, changes)
        for order in permutations(lanes)
        for changes in product(range(1, steps + 1), repeat=depth - 1)
    ]
    return Fraction(sum(hits(order_of(choose, lanes), bug) for choose in draws), len(draws))


def to_the_bottom(order: Sequence[str], changes: Sequence[int]) -> Choose:
    """As by priorities, but whoever is put back is below all others, always."""
    left = list(order)

    def choose(step: int, current: str | None, enabled: Sequence[str]) -> str:
        if step in changes and current is not None:
            left.append(left.pop(left.index(current)))
        return next(lane for lane in left if lane in enabled)

    return choose


class TestPriorities:
    """By themselves, where everything that can be drawn can be tried: what they find, and how likely it is."""

    TWO: ClassVar = {"a": 5, "b": 5}
    THREE: ClassVar = {"a": 2, "b": 2, "c": 2}
    NESTED: ClassVar = {"".join([*lanes, *reversed(lanes)]) for lanes in permutations("abc")}

    @pytest.mark.parametrize(("before", "at"), list(product(range(1, 5), range(1, 6))))
    def test_hit_a_bug_of_depth_2_as_often_as_they_claim(self, before: int, at: int) -> None:
        bug = [(("a", before), ("b", at)), (("b", at), ("a", before + 1))]
        assert exact(self.TWO, bug) >= Fraction(1, 2 * 10)

    @pytest.mark.parametrize(("second", "third"), list(product((1, 2), (1, 2))))
    def test_hit_a_bug_of_depth_3_as_often_as_they_claim(self, second: int, third: int) -> None:
        bug = [(("a", 1), ("b", second)), (("b", second), ("c", third)), (("c", third), ("a", 2))]
        assert exact(self.THREE, bug) >= Fraction(1, 3 * 6**2)

    @pytest.mark.parametrize(("steps", "enough"), [(10, True), (30, False)])
    def test_are_drawn_so_if_they_are_told_how_many_steps_there_are(self, steps: int, enough: bool) -> None:  # noqa: FBT001 - a parameter of the test
        """With a k that is too large most changes come after the end, and the bound of the right k is not kept."""
        bug = [(("a", 4), ("b", 5)), (("b", 5), ("a", 5))]
        source, draws = random.Random(0), 4_000  # noqa: S311 - the same draws each time
        hit = sum(hits(order_of(prioritized(source, "ab", steps, 2), self.TWO), bug) for _ in range(draws))
        assert (hit / draws > 0.9 * (1 - missed(2, 10, 2, 1))) is enough

    @pytest.mark.parametrize(("explorer", "reached"), [(by_priorities, True), (to_the_bottom, False)])
    def test_of_depth_3_put_two_lanes_back_in_either_order(
        self,
        explorer: Callable[[Sequence[str], Sequence[int]], Choose],
        reached: bool,  # noqa: FBT001 - a parameter of the test
    ) -> None:
        orders = {
            "".join(lane for lane, _ in order_of(explorer(lanes, changes), self.THREE))
            for lanes in permutations("abc")
            for changes in product(range(1, 7), repeat=2)
        }
        assert (orders & self.NESTED == self.NESTED) is reached
        assert bool(orders & self.NESTED) is reached

    def test_draw_every_such_order(self) -> None:
        source = random.Random(0)  # noqa: S311 - the same draws each time
        drawn = (order_of(prioritized(source, "abc", 6, 3), self.THREE) for _ in range(5_000))
        assert {"".join(lane for lane, _ in order) for order in drawn} >= self.NESTED


class TestBounds:
    def run(self, steps: int) -> Run:
        """A run of two lanes with so many steps."""
        step = runs.Step("a", "begin", ("a",), "ready")
        return Run(Scenario("some", (), {"a": (), "b": ()}), State(), [step] * steps)

    def test_are_those_of_each_depth_and_multiplied(self) -> None:
        bounds = Bounds(3)
        assert bounds.all == {1: 1.0, 2: 1.0, 3: 1.0}
        for _ in range(2):
            bounds.count(self.run(10), 10, 2)
        bounds.count(self.run(4), 5, 1)
        assert bounds.all == pytest.approx({1: 0.5, 2: 0.95**2, 3: 1.0})
        assert bounds.worst == 1.0

    def test_do_not_count_what_was_longer_than_it_may_be(self) -> None:
        bounds = Bounds(1)
        bounds.count(self.run(11), 10, 1)
        assert (bounds.all, bounds.longer) == ({1: 1.0}, 1)

    def test_are_of_what_was_played(self, scheduler: Scheduler) -> None:
        bounds, scenario = Bounds(2), TWO_SESSIONS[0]
        runs = list(by_luck(scheduler, scenario, random.Random(0), 12, bounds))  # noqa: S311 - the same each time
        longest = max(len(run.steps) for run in runs[:6])
        counted = [depth for run, depth in zip(runs[6:], [2, 1] * 3, strict=True) if len(run.steps) <= longest]
        expected = {depth: missed(2, longest, depth, counted.count(depth)) for depth in (1, 2)}
        assert bounds.all == pytest.approx(expected)
        assert bounds.longer == 6 - len(counted)


class TestABranch:
    """On which a commit has woken two lanes: a server says who goes on first, and may say otherwise the next time."""

    ALL = ("a", "b", "c")

    def run(self, first: str, what: str = "commit") -> Run:
        """Lane a commits, and wakes this one; then each goes on."""
        steps = [
            runs.Step("a", what, self.ALL, "ready", woken=((first, "gate"),), answers=(("a", "made"),)),
            runs.Step(first, "begin", self.ALL, "gate"),
            runs.Step("a", "begin", self.ALL, "gate"),
        ]
        return Run(Scenario("three", (), dict.fromkeys(self.ALL, ())), State(), steps)

    def played(self, others: list[Run]) -> tuple[list[Run], Run | None]:
        """What is given besides, and the run that is the branch; none if it cannot be had."""
        source, was = iter(others), self.run("b")
        prefix = ["a", "b", "a"]
        besides: list[Run] = []
        branch = branched(lambda: next(source), prefix, was.steps)
        while True:
            try:
                besides.append(next(branch))
            except StopIteration as end:
                return besides, end.value
            except DivergedError:
                return besides, None

    def test_is_tried_again_until_the_server_chooses_as_before(self) -> None:
        others = [self.run("c"), self.run("c"), self.run("b"), self.run("b")]
        assert self.played(others) == (others[:2], others[2])

    def test_is_given_up_if_it_never_does(self) -> None:
        others = [self.run("c")] * (CHOICES_OF_A_SERVER + 1)
        assert self.played(others) == (others[:-1], None)

    def test_is_another_one_if_anything_else_is(self) -> None:
        assert self.played([self.run("c", what="rollback"), self.run("b")]) == ([], None)

    def test_of_three_that_want_one_key_is_played_whichever_goes_on_first(
        self, opened: Callable[[Location], AbstractContextManager[Ground]], pool: Pool[SessionWorker]
    ) -> None:
        scenario = next(one for one in THREE_SESSIONS if one.name == "three create a job once")
        with opened(WITHOUT_LOCKS) as ground:
            scheduler = Scheduler(pool, ground)
            judge = Judge(scheduler)
            some = list(islice(every_order(scheduler, scenario, preemptions=1), 100))
            assert any(len({lane for lane, _ in step.woken} & set("abc")) for run in some for step in run.steps)
            assert {judge.judge(run).verdict for run in some} == {"holds"}


def one_or_two_claims(name: str, choose: Chooser) -> Scenario:
    """Small, so that little is tried to make it smaller."""
    lanes: dict[str, tuple[Move, ...]] = {lane: (acquire(lane),) for lane in choose(("a", "ab"))}
    return Scenario(name, (job(),), lanes)


def seldom_a_claim(name: str, choose: Chooser) -> Scenario:
    """One claim, in few of all scenarios, and none in the smallest."""
    move: Move = acquire("a") if choose(range(20)) == 19 else job()
    return Scenario(name, (job(),), {"a": (move,)})


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
        require_drawn(scheduler, judge, failures, SEED, examples=EXAMPLES)

    def test_what_does_not_hold_is_shrunk_and_kept(
        self, opened: Callable[[Location], AbstractContextManager[Ground]], pool: Pool[SessionWorker], tmp_path: Path
    ) -> None:
        with opened(BrokenStore("a claim keeps the token", turns=(KEEPS_THE_TOKEN,)).at(SQLITE)) as ground:
            scheduler = Scheduler(pool, ground)
            judge = Judge(scheduler)
            with pytest.raises(Violation, match="--replay=") as caught:
                require_drawn(scheduler, judge, tmp_path, SEED, examples=EXAMPLES, generate=one_or_two_claims)
            (path,) = tmp_path.glob("*.json")
            kept = Schedule.read(path)
            assert kept.names == tuple(caught.value.names)
            assert list(kept.scenario.lanes) == ["a"]
            assert judge.judge(replay(scheduler, kept.scenario, kept)).names == kept.names

    def test_what_failed_is_drawn_first_the_next_time(
        self, opened: Callable[[Location], AbstractContextManager[Ground]], pool: Pool[SessionWorker], tmp_path: Path
    ) -> None:
        seen, failed_before = Counter[bool](), InMemoryExampleDatabase()
        with opened(BrokenStore("a claim keeps the token", turns=(KEEPS_THE_TOKEN,)).at(SQLITE)) as ground:
            scheduler = Scheduler(pool, ground)

            def found(seed: int, examples: int) -> bool:
                try:
                    require_drawn(
                        scheduler,
                        Judge(scheduler),
                        tmp_path,
                        seed,
                        examples=examples,
                        generate=seldom_a_claim,
                        tell=lambda _, judged: seen.update([judged.verdict == "holds"]),
                        failed_before=failed_before,
                    )
                except Violation:
                    return True
                return False

            assert not found(SEED, examples=1)
            assert found(SEED, examples=10 * EXAMPLES)
            assert seen[True] > 1
            seen.clear()
            assert found(SEED + 1, examples=1)
            assert seen[True] == 0  # it was looked for among nothing else

    def test_trouble_is_no_example_and_nothing_is_played_after_it(
        self, scheduler: Scheduler, judge: Judge, failures: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        played = third_time_trouble(scheduler, monkeypatch)
        with pytest.raises(Trouble, match="a worker died"):
            require_drawn(scheduler, judge, failures, SEED, examples=EXAMPLES)
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
                require_drawn(scheduler, judge, tmp_path, SEED, examples=EXAMPLES, generate=one_or_two_claims)
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
