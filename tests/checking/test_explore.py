"""The explorer, on systems whose states others have counted."""

import pytest

from prompt_studio_model.checking.explore import explore
from prompt_studio_model.checking.properties import violated
from tests.checking import toys

pytestmark = pytest.mark.model


class TestExplore:
    @pytest.mark.parametrize(("managers", "distinct"), [(3, 288), (5, 8_832)])
    def test_visits_as_many_states_of_two_phase_commit_as_others_have_counted(
        self, managers: int, distinct: int
    ) -> None:
        found = explore(toys.two_phase_commit(managers))

        assert (found.verdict, found.distinct) == ("holds", distinct)

    def test_visits_each_state_of_the_jugs_once_and_tries_every_pouring_there(self) -> None:
        found = explore(toys.jugs(toys.fits))

        assert (found.distinct, found.transitions, found.depth) == (16, 16 * 6, 7)

    def test_starts_at_depth_nought(self) -> None:
        found = explore(toys.counter(bound=0))

        assert (found.distinct, found.depth, found.verdict) == (1, 0, "holds")

    def test_counts_every_outcome_of_a_step_that_has_several(self) -> None:
        found = explore(toys.counter(bound=10))

        assert (found.distinct, found.transitions, found.depth) == (11, 22, 10 // 2 + 10 % 2)

    def test_judges_a_step_that_leaves_the_bounds_and_does_not_enter_there(self) -> None:
        found = explore(toys.counter(bound=99, start=99))

        assert (found.verdict, found.distinct) == ("violated", 1)
        assert found.counterexample[-1].after == 100

    def test_keeps_the_first_step_with_each_label(self) -> None:
        found = explore(toys.jugs(toys.fits))

        assert found.first_seen.keys() == {("big", litres) for litres in range(6)}
        assert found.first_seen["big", 5].before == toys.Jugs(0, 0)


class TestCounterexample:
    def test_is_a_shortest_path(self) -> None:
        found = explore(toys.jugs(toys.fits, toys.never_four))

        assert found.verdict == "violated"
        assert tuple(step.action for step in found.counterexample) == toys.LITRES_IN_SIX_STEPS

    def test_is_connected_from_the_initial_state(self) -> None:
        path = explore(toys.jugs(toys.never_four)).counterexample

        assert path[0].before == toys.Jugs()
        assert [step.after for step in path[:-1]] == [step.before for step in path[1:]]
        assert all(step.after == toys.poured(step.before, step.action) for step in path)

    def test_names_the_broken_promise_and_no_other(self) -> None:
        found = explore(toys.jugs(toys.fits, toys.never_four, toys.four))

        assert found.broken == ["TOY-NEVER-FOUR"]

    def test_may_be_the_first_step(self) -> None:
        found = explore(toys.counter(bound=0, start=99))

        assert [step.before for step in found.counterexample] == [99]


class TestVerdict:
    def test_holds_when_all_was_visited_and_all_was_seen(self) -> None:
        found = explore(toys.jugs(toys.fits, toys.four))

        assert (found.verdict, found.complete, found.unwitnessed) == ("holds", True, [])
        assert found.witnessed["TOY-FOUR"] > 0

    def test_is_inconclusive_when_something_hoped_for_never_happens(self) -> None:
        found = explore(toys.jugs(toys.fits, toys.four, toys.six))

        assert (found.verdict, found.complete, found.unwitnessed) == ("inconclusive", True, ["TOY-SIX"])

    def test_is_inconclusive_when_the_limit_is_reached(self) -> None:
        found = explore(toys.jugs(toys.fits), states_limit=10)

        assert (found.verdict, found.complete) == ("inconclusive", False)
        assert found.distinct > 10

    def test_holds_when_the_limit_is_just_enough(self) -> None:
        assert explore(toys.jugs(toys.fits), states_limit=16).verdict == "holds"

    def test_is_violated_even_when_something_hoped_for_was_not_seen_yet(self) -> None:
        assert explore(toys.jugs(toys.never_four, toys.six)).verdict == "violated"


class TestProgress:
    def test_is_told_after_each_layer_with_its_depth_and_the_states_so_far(self) -> None:
        told: list[tuple[int, int]] = []

        found = explore(toys.jugs(toys.fits), progress=lambda depth, distinct: told.append((depth, distinct)))

        assert [depth for depth, _ in told] == [1, 2, 3, 4, 5, 6, 7, 7]
        assert [distinct for _, distinct in told] == sorted(distinct for _, distinct in told)
        assert told[-1] == (found.depth, found.distinct)


class TestPromise:
    def test_has_its_docstring_as_its_sentence(self) -> None:
        assert toys.never_four.sentence == "The big jug never holds four litres."
        assert (toys.never_four.id, toys.never_four.requirements) == ("TOY-NEVER-FOUR", ("TOY-1",))

    def test_is_broken_by_a_transition_only_if_it_is_about_every_transition(self) -> None:
        promises = (toys.fits, toys.never_four, toys.six)

        assert violated(toys.Jugs(0, 4), promises) == ["TOY-NEVER-FOUR"]
        assert violated(toys.Jugs(0, 3), promises) == []
