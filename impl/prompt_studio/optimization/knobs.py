"""Every strategy and every knob, as data. Adding a knob is one row.

The first rows of each strategy are Prompt Studio's own, with its rules; the ones after "new" were defined here. Where a
rule comes from the literature, `meaning` names it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from prompt_studio.optimization.rules import Number, Rule, Span, Text, Texts, Whole, Word


@dataclass(frozen=True, slots=True)
class Strategy:
    """A way to look for a better prompt.

    Attributes:
        name: as it is stored.
        meaning: for people.
        aliases: other names for it.
        gated: whether it is refused where it has not been switched on.
    """

    name: str
    meaning: str
    aliases: tuple[str, ...] = ()
    gated: bool = False


@dataclass(frozen=True, slots=True)
class Choice:
    """That a knob has a value: what another knob depends on."""

    knob: str
    value: str

    def __str__(self) -> str:
        """As a condition, for people."""
        return f"{self.knob} is {self.value}"


@dataclass(frozen=True, slots=True)
class Knob:
    """One value that a strategy can be given.

    Attributes:
        name: where it is looked for: at the top, then within `strategy_params`.
        strategies: those that have it.
        rule: what it must be when it is present.
        meaning: for people.
        required: it must be present.
        required_when: it must be present when another knob has this value.
        only_when: it may be present only when another knob has this value, since it would do nothing otherwise.
    """

    name: str
    strategies: tuple[str, ...]
    rule: Rule
    meaning: str
    required: bool = False
    required_when: Choice | None = None
    only_when: Choice | None = None


@dataclass(frozen=True, slots=True)
class Relation:
    """What must hold between knobs. Asked only when all of them are present, and each by itself is right.

    Attributes:
        strategies: those that have them.
        knobs: the one that is blamed, then the others.
        sentence: what is asked of the first.
        holds: whether it is so, by their values.
    """

    strategies: tuple[str, ...]
    knobs: tuple[str, ...]
    sentence: str
    holds: Callable[[Mapping[str, Any]], bool]


STRATEGIES: Final = (
    Strategy("iterative", "improves the prompt step by step"),
    Strategy("mipro", "proposes instructions and examples together, and searches among the pairs"),
    Strategy("bootstrap", "collects examples from runs that went well"),
    Strategy("hill_climbing", "takes each neighbour that is better", aliases=("hill_climb",)),
    Strategy("greedy", "takes the best neighbour"),
    Strategy("grid_search", "tries every combination"),
    Strategy("bayesian", "tries what a model of the results expects most of"),
    Strategy("random_search", "tries combinations at random"),
    Strategy("hyperparameter", "searches the model's own parameters", aliases=("hyperparam", "hparam")),
    Strategy("beam_search", "keeps the best few candidates of each round"),
    Strategy(
        "simulated_annealing", "also takes worse candidates, ever more seldom as it cools down", aliases=("anneal",)
    ),
    Strategy("genetic", "crosses and mutates a population of prompts"),
    Strategy("mcts", "searches a tree of edits by Monte Carlo", gated=True),
)

_MODELS: Final = ("grid_search", "bayesian")
_BEAM: Final = ("beam_search",)
_ANNEAL: Final = ("simulated_annealing",)
_GENETIC: Final = ("genetic",)
_HYPER: Final = ("hyperparameter",)
_TRIALS: Final = ("hyperparameter", "random_search")
_MCTS: Final = ("mcts",)

_PRUNES: Final = "prune_policy"
_SCHEDULE: Final = "schedule"
_CROSSES: Final = "crossover_operator"

KNOBS: Final = (
    Knob("models_to_test", _MODELS, Texts(), "the models to compare", required=True),
    Knob("beam_width", _BEAM, Whole(2), "candidates that are kept in each round"),
    Knob(
        "prune_threshold",
        _BEAM,
        Number(0, 1),
        "a candidate scoring less is dropped",
        required_when=Choice(_PRUNES, "threshold"),
    ),
    Knob("max_candidates", _BEAM, Whole(2), "candidates that are tried in each round"),
    Knob("diversity_rate", _BEAM, Number(0, 1), "what similar candidates are charged"),
    Knob("length_penalty", _BEAM, Number(0, 2), "what long prompts are charged"),
    Knob("candidate_reranker", _BEAM, Word(("none", "score", "diversity", "hybrid")), "what the last order goes by"),
    # New: which candidates are dropped before the beam is filled (relative and threshold pruning: Freitag and
    # Al-Onaizan, 2017; the smallest set with this share of the whole: nucleus sampling, Holtzman et al., 2020).
    Knob(_PRUNES, _BEAM, Word(("threshold", "top_k", "top_p", "relative")), "how candidates are dropped"),
    Knob(
        "prune_top_k",
        _BEAM,
        Whole(1),
        "how many of the best stay",
        required_when=Choice(_PRUNES, "top_k"),
        only_when=Choice(_PRUNES, "top_k"),
    ),
    Knob(
        "prune_top_p",
        _BEAM,
        Number(above=0, at_most=1),
        "the share of all scores that the best together keep",
        required_when=Choice(_PRUNES, "top_p"),
        only_when=Choice(_PRUNES, "top_p"),
    ),
    Knob(
        "prune_relative",
        _BEAM,
        Number(above=0, at_most=1),
        "the share of the best score that a candidate must reach",
        required_when=Choice(_PRUNES, "relative"),
        only_when=Choice(_PRUNES, "relative"),
    ),
    Knob("cooling_rate", _ANNEAL, Number(above=0, at_most=1), "what is left of the temperature after a step"),
    Knob("initial_temp", _ANNEAL, Number(above=0), "the temperature at the beginning"),
    Knob(_SCHEDULE, _ANNEAL, Word(("exponential", "linear", "cosine", "adaptive", "restart")), "how it cools down"),
    Knob("min_temp", _ANNEAL, Number(at_least=0), "the temperature at the end"),
    Knob("step_size", _ANNEAL, Number(above=0), "by how much it cools in a step"),
    Knob("epochs", _ANNEAL, Whole(1), "how many steps there are"),
    # New: by the share of worse candidates that were taken (Lam and Delosme, 1988), and warm again now and then (warm
    # restarts: Loshchilov and Hutter, 2017).
    Knob(
        "target_acceptance",
        _ANNEAL,
        Number(above=0, below=1),
        "the share of worse candidates to take",
        required_when=Choice(_SCHEDULE, "adaptive"),
        only_when=Choice(_SCHEDULE, "adaptive"),
    ),
    Knob(
        "adaptation_rate",
        _ANNEAL,
        Number(above=0, at_most=1),
        "how fast the temperature follows",
        only_when=Choice(_SCHEDULE, "adaptive"),
    ),
    Knob(
        "restart_period",
        _ANNEAL,
        Whole(1),
        "steps until it is warm again",
        required_when=Choice(_SCHEDULE, "restart"),
        only_when=Choice(_SCHEDULE, "restart"),
    ),
    Knob(
        "restart_factor",
        _ANNEAL,
        Number(at_least=1),
        "how much longer each period is than the one before",
        only_when=Choice(_SCHEDULE, "restart"),
    ),
    Knob(
        "restart_temp",
        _ANNEAL,
        Number(above=0),
        "the temperature after a restart",
        only_when=Choice(_SCHEDULE, "restart"),
    ),
    Knob("population_size", _GENETIC, Whole(2), "prompts in a generation"),
    Knob("mutation_rate", _GENETIC, Number(0, 1), "the chance that a prompt is changed"),
    Knob("crossover_rate", _GENETIC, Number(0, 1), "the chance that two prompts are crossed"),
    Knob("elitism", _GENETIC, Whole(0), "prompts that pass to the next generation as they are"),
    Knob("selection", _GENETIC, Word(("tournament", "roulette", "rank")), "how parents are chosen"),
    Knob(_CROSSES, _GENETIC, Word(("one_point", "two_point", "uniform", "order", "blend")), "how two are crossed"),
    # New: order crossover (Davis, 1985), blend crossover (Eshelman and Schaffer, 1993).
    Knob(
        "blend_alpha",
        _GENETIC,
        Number(0, 1),
        "how far beyond its parents a child may be",
        required_when=Choice(_CROSSES, "blend"),
        only_when=Choice(_CROSSES, "blend"),
    ),
    Knob(
        "uniform_swap_probability",
        _GENETIC,
        Number(above=0, at_most=1),
        "the chance that a part is swapped",
        only_when=Choice(_CROSSES, "uniform"),
    ),
    Knob("search_method", _HYPER, Word(("bayesian", "grid", "random")), "how parameters are searched"),
    Knob("params_to_optimize", _HYPER, Texts(), "the parameters to search"),
    Knob("max_trials", _TRIALS, Whole(1), "combinations that are tried"),
    Knob("max_tokens_range", _TRIALS, Span(1, 100_000), "the length of an answer, in tokens"),
    Knob("mcts_simulations", _MCTS, Whole(1, 200), "simulations in a search"),
    Knob("mcts_max_depth", _MCTS, Whole(1, 10), "edits in a row"),
    Knob("mcts_exploration_c", _MCTS, Number(0.05, 5), "what the unknown is worth"),
    Knob("prompt_candidates_per_node", _MCTS, Whole(1, 10), "edits that are tried at each node"),
    Knob("score_dedup_bin", _MCTS, Number(0.01, 0.5), "scores nearer than this count as one"),
    Knob("feedback_threshold", _MCTS, Number(0, 10), "a score below it asks for feedback"),
    Knob("feedback_max_retries", _MCTS, Whole(0, 10), "how often feedback is asked for"),
    Knob("token_budget", _MCTS, Whole(1, 1_000_000), "tokens that the search may use"),
    Knob("early_stop_no_improve", _MCTS, Whole(1, 50), "simulations without a better score, after which it ends"),
    Knob("scorer_model", _MCTS, Text(), "the model that scores"),
    Knob("rollout_model", _MCTS, Text(), "the model that plays to the end"),
)


def _at_most(number: float, limit: float) -> bool:
    """Whether it is, but for what floats lose: three steps of 0.1 are 0.3."""
    return number <= limit or math.isclose(number, limit, rel_tol=1e-9)


RELATIONS: Final = (
    Relation(
        _BEAM,
        ("max_candidates", "beam_width"),
        "must be at least beam_width",
        lambda of: of["max_candidates"] >= of["beam_width"],
    ),
    Relation(
        _BEAM,
        ("prune_top_k", "max_candidates"),
        "must be at most max_candidates",
        lambda of: of["prune_top_k"] <= of["max_candidates"],
    ),
    Relation(
        _ANNEAL,
        ("min_temp", "initial_temp"),
        "must be at most initial_temp",
        lambda of: of["min_temp"] <= of["initial_temp"],
    ),
    Relation(
        _ANNEAL,
        ("restart_temp", "initial_temp"),
        "must be at most initial_temp",
        lambda of: of["restart_temp"] <= of["initial_temp"],
    ),
    Relation(
        _ANNEAL,
        ("restart_temp", "min_temp"),
        "must be at least min_temp",
        lambda of: of["min_temp"] <= of["restart_temp"],
    ),
    Relation(
        _ANNEAL,
        ("step_size", "epochs", "initial_temp", "min_temp", _SCHEDULE),
        "must be at most (initial_temp - min_temp) / epochs where schedule is linear",
        lambda of: (
            of[_SCHEDULE] != "linear" or _at_most(of["step_size"] * of["epochs"], of["initial_temp"] - of["min_temp"])
        ),
    ),
    Relation(
        _GENETIC,
        ("elitism", "population_size"),
        "must be at most population_size",
        lambda of: of["elitism"] <= of["population_size"],
    ),
)

FIELDS: Final = (
    "optimizer_type",
    "max_iterations",
    "target_metric",
    "target_value",
    "early_stopping",
    "early_stopping_patience",
    "temperature_range",
    "techniques_to_try",
    "models_to_test",
    "budget_limit",
    "strategy_params",
)
"""What every strategy's configuration may have besides its knobs."""
