"""Strategy knobs: every boundary of every row, how knobs depend on each other, where they are looked for."""

import math
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prompt_studio.optimization import KNOBS, RELATIONS, STRATEGIES
from prompt_studio.optimization.knobs import FIELDS
from prompt_studio.optimization.rules import TEXTS_MAX, Word
from prompt_studio.optimization.validation import Absence, strategy_named
from prompt_studio.values import TEXT_CHARACTERS_MAX
from tests.conformance.knob_cases import (
    DOTTED,
    HUGE,
    NAMES,
    Case,
    Config,
    blamed,
    cases,
    company,
    problems_of,
    refused,
    some,
    told_of,
)

pytestmark = [pytest.mark.conformance, pytest.mark.verifies("PS-VALIDATION-EXPAND-1")]

CASES = list(cases())
RIGHT = [case for case in CASES if case.right]
WRONG = [case for case in CASES if not case.right]
DEPENDENT = [knob for knob in KNOBS if knob.only_when is not None]
CHOICES = [knob for knob in KNOBS if knob.required_when is not None]

Values = Sequence[object]
NO_VALUE = {"neither": "a number, nor a text, nor a list"}


SHORTENED = {
    repr(value): told
    for value, told in (
        (-(10**30), "a whole number of 100 bits"),
        (HUGE, "a whole number of 1329 bits"),
        (b"1", "a value of type bytes"),
        (Decimal("0.5"), "a value of type Decimal"),
        ({"x"}, "a value of type set"),
        ({1, 100_000}, "a value of type set"),
        ("x" * (TEXT_CHARACTERS_MAX + 1), f"'{'x' * 80}'... (256 characters)"),
        (DOTTED * TEXT_CHARACTERS_MAX, f"'{DOTTED * 80}'... (255 characters)"),
        (["x" * (TEXT_CHARACTERS_MAX + 1)], f"['{'x' * 80}'... (256 characters)]"),
        (["x"] * (TEXTS_MAX + 1), "['x', 'x', 'x', 'x', 'x', ...] (1001 in it)"),
    )
}
"""How values are told that are too long, or are none of JSON; all others as Python writes them."""


class TestAKnob:
    @pytest.mark.parametrize("case", RIGHT, ids=str)
    def test_may_be(self, case: Case) -> None:
        for strategy in case.knob.strategies:
            assert refused(strategy, case.config(strategy)) == []

    @pytest.mark.verifies("PS-VALIDATION-EXPAND-2")
    @pytest.mark.parametrize("case", WRONG, ids=str)
    def test_may_not_be(self, case: Case) -> None:
        knob = case.knob
        told = SHORTENED.get(repr(case.value), repr(case.value))
        for strategy in knob.strategies:
            config = case.config(strategy)
            for there in (config, {"strategy_params": config}):
                (problem,) = problems_of(strategy, there)
                assert problem.value is case.value
                assert str(problem) == f"{knob.name} is {told}: it must be {knob.rule.sentence}"

    @pytest.mark.verifies("PS-VALIDATION-EXPAND-3")
    @pytest.mark.parametrize("knob", KNOBS, ids=lambda knob: f"{knob.strategies[0]}.{knob.name}")
    def test_is_looked_for_in_the_parameters_too(self, knob: Any) -> None:  # noqa: ANN401 - a Knob
        case = Case(knob, "right", some(knob.rule), right=True)
        for strategy in knob.strategies:
            there = case.config(strategy)
            right, wrong = {knob.name: there.pop(knob.name)}, {knob.name: NO_VALUE}
            assert refused(strategy, there | {"strategy_params": right}) == []
            assert refused(strategy, {"strategy_params": there | right}) == []
            assert knob.name in blamed(strategy, there | {"strategy_params": wrong})
            # What stands at the top is what counts.
            assert refused(strategy, there | right | {"strategy_params": wrong}) == []
            assert knob.name in blamed(strategy, there | wrong | {"strategy_params": right})

    @pytest.mark.verifies("PS-VALIDATION-EXPAND-3")
    @pytest.mark.parametrize("knob", KNOBS, ids=lambda knob: f"{knob.strategies[0]}.{knob.name}")
    def test_is_not_hidden_by_a_null(self, knob: Any) -> None:  # noqa: ANN401 - a Knob
        for strategy in knob.strategies:
            there = company(knob, strategy) | {knob.name: None, "strategy_params": {knob.name: some(knob.rule)}}
            assert knob.name in blamed(strategy, there)

    @pytest.mark.parametrize("knob", KNOBS, ids=lambda knob: f"{knob.strategies[0]}.{knob.name}")
    def test_may_be_absent_or_null_unless_it_is_required(self, knob: Any) -> None:  # noqa: ANN401 - a Knob
        for strategy in knob.strategies:
            there = company(knob, strategy)
            there.pop(knob.name, None)
            needed = knob.required or (knob.required_when is not None and knob.required_when == knob.only_when)
            for config in (there, there | {knob.name: None}, there | {"strategy_params": {knob.name: None}}):
                assert (knob.name in blamed(strategy, config)) is needed

    @pytest.mark.parametrize("knob", CHOICES, ids=lambda knob: knob.name)
    def test_is_required_by_a_choice(self, knob: Any) -> None:  # noqa: ANN401 - a Knob
        choice = knob.required_when
        for strategy in knob.strategies:
            config = {choice.knob: choice.value.upper()}
            assert knob.name in blamed(strategy, config)
            assert refused(strategy, config | {knob.name: some(knob.rule)}) == []

    @pytest.mark.parametrize("knob", DEPENDENT, ids=lambda knob: knob.name)
    def test_that_would_do_nothing_is_refused(self, knob: Any) -> None:  # noqa: ANN401 - a Knob
        chooser = next(one for one in KNOBS if one.name == knob.only_when.knob)
        assert isinstance(chooser.rule, Word)
        given_ = {knob.name: some(knob.rule)}
        for strategy in knob.strategies:
            assert refused(strategy, given_) == [(knob.name, f"does nothing unless {knob.only_when}")]
            for word in set(chooser.rule.words) - {knob.only_when.value}:
                assert knob.name in blamed(strategy, given_ | {chooser.name: word})


@pytest.mark.verifies("PS-VALIDATION-EXPAND-2")
class TestARefusal:
    @pytest.mark.parametrize(
        ("strategy", "config", "told"),
        [
            (
                "anneal",
                {"min_temp": 5, "initial_temp": 4},
                "min_temp is 5: it must be at most initial_temp (initial_temp is 4)",
            ),
            (
                "anneal",
                {"step_size": 3, "epochs": 2, "initial_temp": 5, "min_temp": 0, "schedule": "LINEAR"},
                (
                    "step_size is 3: it must be at most (initial_temp - min_temp) / epochs where schedule is linear "
                    "(epochs is 2, initial_temp is 5, min_temp is 0, schedule is 'LINEAR')"
                ),
            ),
            ("anneal", {"restart_temp": 5}, "restart_temp is 5: it does nothing unless schedule is restart"),
            (
                "anneal",
                {"schedule": "Restart"},
                (
                    "restart_period is missing: it must be a whole number of 64 bits, at least 1, "
                    "since schedule is restart"
                ),
            ),
        ],
        ids=["a relation", "of several", "a condition", "a requirement"],
    )
    def test_tells_values_as_they_were_given(self, strategy: str, config: Config, told: str) -> None:
        assert told_of(strategy, config) == [told]
        assert told_of(strategy, {"strategy_params": config}) == [told]

    @pytest.mark.parametrize(
        ("value", "told"),
        [
            ({"a": 1}, "{'a': 1}"),
            ({"a": {"b": [1], "c": {}}}, "{'a': {'b': [...], 'c': {}}}"),
            ({str(number): number for number in range(7)}, "{'0': 0, '1': 1, '2': 2, '3': 3, '4': 4, ...} (7 in it)"),
            ([[[[]]], None, True], "[[[...]], None, True]"),
            (("a",), "('a',)"),
            ((1, "b"), "(1, 'b')"),
            (["x" * 80] * 5, repr(["x" * 80] * 5)),
            ({"x" * 300: ["y" * 300] * 9}, f"{{'{'x' * 80}'... (300 characters): ['{'y' * 80}'... (300 characters)"),
        ],
        ids=["object", "deep", "many", "lists", "one in a tuple", "tuple", "just short enough", "too long"],
    )
    def test_tells_what_is_in_a_value_as_far_as_there_is_room(self, value: object, told: str) -> None:
        (found,) = told_of("genetic", {"selection": value})
        assert found.startswith(f"selection is {told}")
        assert len(found) < 600

    def test_tells_null_from_nothing(self) -> None:
        wanted = "it must be a list of 1 to 1,000 texts, none of them blank or above 255 characters"
        assert told_of("bayesian", {"models_to_test": None}) == [f"models_to_test is None: {wanted}"]
        assert told_of("bayesian", {"strategy_params": {"models_to_test": None}}) == [
            f"models_to_test is None: {wanted}"
        ]
        assert told_of("bayesian", {}) == [f"models_to_test is missing: {wanted}"]
        assert [problem.value for problem in problems_of("bayesian", {})] == [Absence.MISSING]
        assert told_of("bayesian", None) == ["optimization_config is None: it must be an object"]

    @pytest.mark.parametrize("knob", DEPENDENT, ids=lambda knob: knob.name)
    def test_of_a_choice_blames_no_knob_that_may_belong_to_it(self, knob: Any) -> None:  # noqa: ANN401 - a Knob
        choice = knob.only_when
        for strategy in knob.strategies:
            there = company(knob, strategy) | {knob.name: some(knob.rule)}
            assert blamed(strategy, there | {choice.knob: choice.value[:-1]}) == [choice.knob]
            hidden = {choice.knob: None, "strategy_params": {choice.knob: choice.value}}
            assert blamed(strategy, there | hidden) == [choice.knob]


NAN, INF = math.nan, math.inf
SHARE = ([0, 1, 0.5], [-0.1, 1.1, NAN, True])
TRIALS = ([1, 10_000], [0, 1.5, True])
TOKENS = ([[1, 2], [1, 100_000], (1, 2)], [[0, 2], (2, 1), [2, 2], [1, 100_001], [1], "1-2"])
NAMED = (["gpt-4o"], ["", "  ", 5])

PROMPT_STUDIO: dict[tuple[str, str], tuple[Values, Values]] = {
    ("beam_search", "beam_width"): ([2, 3], [1, 2.5, True]),
    ("beam_search", "prune_threshold"): SHARE,
    ("beam_search", "max_candidates"): ([2, 100], [1, "5"]),
    ("beam_search", "diversity_rate"): SHARE,
    ("beam_search", "length_penalty"): ([0, 2], [-0.1, 2.1]),
    ("beam_search", "candidate_reranker"): (["none", "score", "diversity", "Hybrid"], ["best"]),
    ("anneal", "cooling_rate"): ([0.0001, 1], [0, 1.1, INF]),
    ("anneal", "initial_temp"): ([0.0001, 1e9], [0, -1, INF, NAN]),
    ("anneal", "schedule"): (["exponential", "linear", "COSINE"], ["quadratic"]),
    ("simulated_annealing", "min_temp"): ([0, 5], [-0.1]),
    ("simulated_annealing", "step_size"): ([0.1, 3], [0, -1]),
    ("simulated_annealing", "epochs"): ([1, 500], [0, 1.5]),
    ("genetic", "population_size"): ([2, 50], [1, "2"]),
    ("genetic", "mutation_rate"): SHARE,
    ("genetic", "crossover_rate"): SHARE,
    ("genetic", "elitism"): ([0, 5], [-1, 0.5]),
    ("genetic", "selection"): (["tournament", "roulette", "Rank"], ["lottery"]),
    ("genetic", "crossover_operator"): (["one_point", "two_point", "UNIFORM"], ["three_point"]),
    ("hyperparameter", "search_method"): (["bayesian", "grid", "Random"], ["greedy"]),
    ("hparam", "params_to_optimize"): ([["temperature"], ["a", "b"], ("a",)], [[], (), [""], [5], "temperature"]),
    ("hyperparam", "max_trials"): TRIALS,
    ("hyperparameter", "max_tokens_range"): TOKENS,
    ("random_search", "max_trials"): TRIALS,
    ("random_search", "max_tokens_range"): TOKENS,
    ("mcts", "mcts_simulations"): ([1, 200], [0, 201]),
    ("mcts", "mcts_max_depth"): ([1, 10], [0, 11]),
    ("mcts", "mcts_exploration_c"): ([0.05, 5], [0.04, 5.1]),
    ("mcts", "prompt_candidates_per_node"): ([1, 10], [0, 11]),
    ("mcts", "score_dedup_bin"): ([0.01, 0.5], [0, 0.6]),
    ("mcts", "feedback_threshold"): ([0, 10], [-0.1, 10.1]),
    ("mcts", "feedback_max_retries"): ([0, 10], [-1, 11]),
    ("mcts", "token_budget"): ([1, 1_000_000], [0, 1_000_001]),
    ("mcts", "early_stop_no_improve"): ([1, 50], [0, 51]),
    ("mcts", "scorer_model"): NAMED,
    ("mcts", "rollout_model"): NAMED,
    ("grid_search", "models_to_test"): ([["a"], ["a", "b"]], [[], None]),
    ("bayesian", "models_to_test"): ([["a"]], [[], None]),
}
"""What Prompt Studio asks of these knobs, by hand: what derives from the table cannot see that the table is wrong."""

NEW: dict[tuple[str, str], tuple[Values, Values]] = {
    ("beam_search", "prune_policy"): (["threshold", "top_k", "top_p", "relative"], ["best"]),
    ("beam_search", "prune_top_k"): ([1, 5], [0, 1.5]),
    ("beam_search", "prune_top_p"): ([0.1, 1], [0, 1.1]),
    ("beam_search", "prune_relative"): ([0.1, 1], [0, 1.1]),
    ("anneal", "schedule"): (["adaptive", "restart"], ["warm"]),
    ("anneal", "target_acceptance"): ([0.01, 0.99], [0, 1]),
    ("anneal", "adaptation_rate"): ([0.01, 1], [0, 1.1]),
    ("anneal", "restart_period"): ([1, 100], [0, 1.5]),
    ("anneal", "restart_factor"): ([1, 2.5], [0.9]),
    ("anneal", "restart_temp"): ([0.1, 7], [0]),
    ("genetic", "crossover_operator"): (["order", "blend"], ["mixed"]),
    ("genetic", "blend_alpha"): ([0, 0.5, 1], [-0.1, 1.1]),
    ("genetic", "uniform_swap_probability"): ([0.1, 1], [0, 1.1]),
}


AGREED = [(*key, *values) for table in (PROMPT_STUDIO, NEW) for key, values in table.items()]


class TestTheTable:
    @pytest.mark.parametrize(
        ("strategy", "name", "right", "wrong"), AGREED, ids=[f"{strategy}.{name}" for strategy, name, *_ in AGREED]
    )
    def test_says_what_was_agreed(
        self, strategy: str, name: str, right: Sequence[object], wrong: Sequence[object]
    ) -> None:
        for value in right:
            assert name not in [knob for knob, rule in refused(strategy, {name: value}) if "unless" not in rule]
        for value in wrong:
            assert name in [knob for knob, rule in refused(strategy, {name: value}) if rule.startswith("must be")]

    def test_has_no_other_knob(self) -> None:
        assert {name for _, name, *_ in AGREED} == set(NAMES)


BEAM: Config = {"beam_width": 3}
LINEAR: Config = {"schedule": "linear", "step_size": 2, "epochs": 4, "initial_temp": 10.0, "min_temp": 2}

RELATED: dict[str, tuple[str, Config, Config]] = {
    "as many candidates as the beam is wide": ("beam_search", BEAM | {"max_candidates": 3}, {"max_candidates": 2}),
    "no more stay than were tried": (
        "beam_search",
        {"prune_policy": "top_k", "prune_top_k": 4, "max_candidates": 4},
        {"prune_top_k": 5},
    ),
    "it does not end warmer than it began": ("anneal", {"min_temp": 2, "initial_temp": 2.0}, {"min_temp": 2.1}),
    "it is not warmer after a restart than at the beginning": (
        "anneal",
        {"schedule": "restart", "restart_period": 1, "restart_temp": 5, "initial_temp": 5},
        {"restart_temp": 5.5},
    ),
    "it is not colder after a restart than at the end": (
        "anneal",
        {"schedule": "restart", "restart_period": 1, "min_temp": 5, "restart_temp": 5},
        {"restart_temp": 4.5},
    ),
    "it does not cool below its end": ("simulated_annealing", LINEAR, {"step_size": 2.1}),
    "no more of the best than there are": ("genetic", {"elitism": 4, "population_size": 4}, {"elitism": 5}),
}


class TestARelation:
    @pytest.mark.parametrize(("strategy", "right", "change"), RELATED.values(), ids=list(RELATED))
    def test_holds_up_to_its_boundary(self, strategy: str, right: Config, change: Config) -> None:
        (name,) = change
        assert refused(strategy, right) == []
        assert blamed(strategy, right | change) == [name]
        assert blamed(strategy, {"strategy_params": right | change}) == [name]
        assert blamed(strategy, right | {name: None, "strategy_params": change}) == [name]

    @pytest.mark.parametrize(("strategy", "right", "change"), RELATED.values(), ids=list(RELATED))
    def test_is_asked_only_of_what_is_there_and_right(self, strategy: str, right: Config, change: Config) -> None:
        (name,) = change
        relation = next(one for one in RELATIONS if one.knobs[0] == name and set(one.knobs) <= right.keys())
        for other in relation.knobs[1:]:
            without = {key: value for key, value in (right | change).items() if key != other}
            found = refused(strategy, without)
            assert not any(knob == name and rule.startswith(relation.sentence) for knob, rule in found)
            assert other in blamed(strategy, right | change | {other: NO_VALUE})
            assert len(blamed(strategy, right | change | {other: NO_VALUE})) == 1

    def test_of_a_linear_schedule_is_not_asked_of_another(self) -> None:
        steep = LINEAR | {"step_size": 1_000}
        assert blamed("anneal", steep) == ["step_size"]
        for schedule in ("exponential", "cosine"):
            assert refused("anneal", steep | {"schedule": schedule}) == []

    def test_of_steps_that_come_to_the_limit_but_for_what_floats_lose_holds(self) -> None:
        assert (
            refused("anneal", {"schedule": "linear", "step_size": 0.1, "epochs": 3, "initial_temp": 0.3, "min_temp": 0})
            == []
        )

    def test_of_numbers_as_large_as_they_may_be_is_answered(self) -> None:
        assert blamed("anneal", LINEAR | {"epochs": 2**63 - 1, "step_size": 1e308}) == ["step_size"]

    def test_is_played_here_whatever_it_is(self) -> None:
        asked = {(strategy, *sorted(right)) for strategy, right, _ in RELATED.values()}
        assert len(asked) == len(RELATIONS)


class TestAStrategy:
    @pytest.mark.parametrize(("alias", "name"), [(alias, one.name) for one in STRATEGIES for alias in one.aliases])
    def test_has_other_names(self, alias: str, name: str) -> None:
        for knob in (knob for knob in KNOBS if name in knob.strategies):
            assert blamed(alias, {knob.name: NO_VALUE}) == blamed(name, {knob.name: NO_VALUE}) != []

    @pytest.mark.parametrize("name", [" beam_search", "BEAM_SEARCH", "Beam_Search\n"])
    def test_is_known_whatever_its_case_and_the_spaces_around_it(self, name: str) -> None:
        assert blamed(name, {"beam_width": 1}) == ["beam_width"]

    def test_is_not_known_by_foreign_letters(self) -> None:
        assert strategy_named(f"h{DOTTED}ll_climbing") is None
        assert strategy_named(" HILL_CLIMBING ") is not None

    @pytest.mark.parametrize("name", ["", "  ", None, 5, True, ["beam_search"]])
    def test_has_a_name(self, name: Any) -> None:  # noqa: ANN401 - is none
        assert blamed(name, {}) == ["optimizer_type"]

    @pytest.mark.parametrize("config", [None, 5, "beam_width", [], [("beam_width", 2)]])
    def test_takes_an_object(self, config: object) -> None:
        assert blamed("beam_search", config) == ["optimization_config"]

    @pytest.mark.parametrize("malformed", [5, "beam_width", [], [1], True, 0, ""], ids=repr)
    def test_takes_no_malformed_parameters(self, malformed: object) -> None:
        for strategy in ("beam_search", "iterative", "somebody's own"):
            assert refused(strategy, {"strategy_params": malformed}) == [("strategy_params", "must be an object")]
        assert blamed("beam_search", {"strategy_params": malformed, "beam_width": 1}) == [
            "strategy_params",
            "beam_width",
        ]

    def test_takes_none_for_no_parameters(self) -> None:
        assert refused("beam_search", {"strategy_params": None, "beam_width": 2}) == []

    @pytest.mark.verifies("PS-VALIDATION-EXPAND-4")
    def test_that_nobody_knows_takes_any_knob(self) -> None:
        assert refused("hill_climbing_2", {"beam_width": math.nan, "strategy_params": {"beam_width": "x"}}) == []
        assert blamed("hill_climbing_2", {"strategy_params": 5}, strict=True) == ["strategy_params", "optimizer_type"]

    def test_does_not_look_at_the_knobs_of_another(self) -> None:
        for knob in KNOBS:
            for other in STRATEGIES:
                if other.name not in knob.strategies:
                    there = {one.name: some(one.rule) for one in KNOBS if one.required and other.name in one.strategies}
                    assert refused(other.name, there | {knob.name: NO_VALUE}) == []

    def test_that_must_be_switched_on_is_refused_until_it_is(self) -> None:
        assert blamed("mcts", {}, switched_on=()) == ["optimizer_type"]
        assert refused("mcts", {}, switched_on={"mcts"}) == []


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
configs = st.dictionaries(
    st.sampled_from([*NAMES, *FIELDS, "strategy_params"]) | st.text(max_size=5),
    json_values | st.dictionaries(st.sampled_from(NAMES), json_values, max_size=3),
    max_size=8,
)


class TestAnyConfiguration:
    @given(
        strategy=st.sampled_from([name for one in STRATEGIES for name in (one.name, *one.aliases)]) | st.text(),
        config=configs,
    )
    def test_is_right_or_refused_by_name_and_never_changed(self, strategy: str, config: Config) -> None:
        found, strictly = refused(strategy, config), refused(strategy, config, strict=True)
        assert all(rule for _, rule in strictly)
        assert set(found) <= set(strictly)
