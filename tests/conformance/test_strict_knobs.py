"""Strict mode: names that nobody knows, with the nearest that somebody does, and knobs that are given twice."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prompt_studio.optimization import STRATEGIES, KnobError, validate_strategy_config
from prompt_studio.optimization.knobs import FIELDS
from prompt_studio.optimization.validation import PROBLEMS_SHOWN
from prompt_studio.web.schemas import OptimizationConfig
from tests.conformance.knob_cases import NAMES, Config, cases, refused, told_of

pytestmark = [pytest.mark.conformance, pytest.mark.verifies("PS-VALIDATION-EXPAND-4")]

RIGHT = [case for case in cases() if case.right]


class TestStrict:
    @pytest.mark.parametrize(
        ("strategy", "config", "rule"),
        [
            ("beam_serach", {}, "is not known; the nearest name is beam_search"),
            ("qqqqqqqq", {}, f"is not known; the nearest name is {STRATEGIES[0].name}"),
            ("genetic", {"elitism" + "-" * 500: 4}, "is not known; the nearest name is elitism"),
            ("genetic", {"popluation_size": 4}, "is not known; the nearest name is population_size"),
            ("genetic", {"POPULATION_SIZE": 4}, "is not known; the nearest name is population_size"),
            ("genetic", {"strategy_params": {"elitsm": 1}}, "is not known; the nearest name is elitism"),
            ("genetic", {"beam_width": 4}, "is a knob of beam_search, and no knob of genetic"),
            ("genetic", {"beam_wdth": 4}, "is not known; the nearest name is beam_width, a knob of beam_search"),
            (
                "anneal",
                {"max_trials": 4},
                "is a knob of hyperparameter and random_search, and no knob of simulated_annealing",
            ),
            ("genetic", {"strategy_params": {"strategy_params": {}}}, "is a field at the top, and no knob of genetic"),
            (
                "genetic",
                {"strategy_params": {"max_iteration": 3}},
                "is not known; the nearest name is max_iterations, a field at the top",
            ),
            ("iterative", {"strategy_params": {"elitism": None}}, "is a knob of genetic, and no knob of iterative"),
            (
                "genetic",
                {"elitism": 1, "strategy_params": {"elitism": 2}},
                "must be given once, and is 2 in strategy_params",
            ),
        ],
    )
    def test_refuses_what_else_passes(self, strategy: str, config: Config, rule: str) -> None:
        assert refused(strategy, config) == []
        assert [told for _, told in refused(strategy, config, strict=True)] == [rule]

    def test_refuses_names_that_are_none_and_tells_a_few_of_many(self) -> None:
        assert refused("iterative", {5: 1}, strict=True) == [("5", f"is not known; the nearest name is {FIELDS[0]}")]
        with pytest.raises(KnobError, match="a whole number of 16610 bits' is 1: it is not known"):
            validate_strategy_config("iterative", {10**5_000: 1}, strict=True)  # type: ignore[dict-item]
        with pytest.raises(KnobError, match="and 80 more") as caught:
            validate_strategy_config("genetic", {f"x{number}" * 30: 1 for number in range(100)}, strict=True)
        assert len(caught.value.problems) == 100
        told = [problem.rule for problem in caught.value.problems]
        assert all("nearest name" in rule for rule in told[:PROBLEMS_SHOWN])
        assert set(told[PROBLEMS_SHOWN:]) == {"is not known"}  # nobody reads them, and comparing takes its time
        assert len(str(caught.value)) < 5_000

    @pytest.mark.parametrize(
        ("strategy", "top", "within"),
        [
            ("genetic", {"selection": "RANK"}, {"selection": "rank"}),
            ("genetic", {"mutation_rate": 1}, {"mutation_rate": 1.0}),
            ("hyperparameter", {"max_tokens_range": [1, 2]}, {"max_tokens_range": (1, 2)}),
            ("genetic", {"elitism": 1}, {"elitism": None}),
        ],
        ids=["words", "numbers", "lists", "null"],
    )
    def test_takes_a_knob_that_is_given_twice_with_one_meaning(
        self, strategy: str, top: Config, within: Config
    ) -> None:
        assert refused(strategy, top | {"strategy_params": within}, strict=True) == []

    def test_refuses_a_second_value_that_is_wrong(self) -> None:
        config = {"elitism": 1, "strategy_params": {"elitism": True}}
        assert refused("genetic", config) == []
        assert told_of("genetic", config, strict=True) == [
            "elitism is 1: it must be given once, and is True in strategy_params"
        ]

    @given(name=st.text(max_size=80), nested=st.booleans())
    def test_always_tells_a_name_that_is_known(self, name: str, *, nested: bool) -> None:
        config = {"strategy_params": {name: 1}} if nested else {name: 1}
        for _, rule in refused("iterative", config, strict=True):
            assert name in {*FIELDS, *NAMES} or any(f"name is {known}" in rule for known in (*FIELDS, *NAMES))
        for _, rule in refused(f"-{name}", {}, strict=True):
            assert rule.removeprefix("is not known; the nearest name is ") in {
                known for one in STRATEGIES for known in (one.name, *one.aliases)
            }

    def test_has_the_fields_of_the_schema(self) -> None:
        assert set(FIELDS) == set(OptimizationConfig.model_fields)

    def test_knows_every_field_and_every_knob_of_the_strategy(self) -> None:
        for case in RIGHT:
            fields = {field: "anything" for field in FIELDS if field not in {"strategy_params", case.knob.name}}
            fields.pop("models_to_test", None)
            config = case.config(case.strategy)
            assert refused(case.strategy, config | fields, strict=True) == []
            nested = {"strategy_params": config}
            assert refused(case.strategy, nested, strict=True) == []
