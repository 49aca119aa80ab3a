"""What a knob may be and may not be, derived from its row of the table: boundaries, confused types, no numbers at all.

Each case is named, so that a wrong validator is caught by something that one can point at.
"""

import copy
import math
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any, Final, NamedTuple

from prompt_studio.optimization import KNOBS, Knob, KnobError, Problem, validate_strategy_config
from prompt_studio.optimization.knobs import Choice
from prompt_studio.optimization.rules import TEXTS_MAX, Number, Rule, Span, Text, Texts, Whole, Word
from prompt_studio.values import TEXT_CHARACTERS_MAX

Config = dict[str, Any]

ALL: Final = frozenset({"mcts"})
"""The strategies that must be switched on."""

NAMES: Final = sorted({knob.name for knob in KNOBS})

HUGE: Final = 10**400
"""More than a float can be."""

KELVIN: Final = "\N{KELVIN SIGN}"
"""By the rules of Unicode it is a k in lower case."""

DOTTED: Final = "\N{LATIN CAPITAL LETTER I WITH DOT ABOVE}"
"""By the same rules it is two characters in lower case."""


class Case(NamedTuple):
    """A value of a knob, what is special about it, and whether the knob may have it."""

    knob: Knob
    what: str
    value: object
    right: bool

    @property
    def strategy(self) -> str:
        """The first strategy that has the knob."""
        return self.knob.strategies[0]

    def config(self, strategy: str) -> dict[str, Any]:
        """A configuration that is right in everything but, perhaps, this knob."""
        there = company(self.knob, strategy) | {self.knob.name: self.value}
        chosen = self.value.lower() if isinstance(self.value, str) else None
        needed = {one.name: some(one.rule) for one in KNOBS if one.required_when == Choice(self.knob.name, str(chosen))}
        return there | needed

    def __str__(self) -> str:
        """The test's name."""
        return f"{self.strategy}.{self.knob.name}: {self.what}"


def some(rule: Rule) -> object:
    """A value that is right."""
    return next(value for _, value in _right(rule))


def company(knob: Knob, strategy: str) -> dict[str, Any]:
    """What else must be there for this knob to be looked at by itself."""
    there = {one.name: some(one.rule) for one in KNOBS if one.required and strategy in one.strategies}
    if knob.only_when is not None:
        there[knob.only_when.knob] = knob.only_when.value
        for other in KNOBS:
            if other.required_when == knob.only_when:
                there[other.name] = some(other.rule)
    return there


def cases() -> Iterator[Case]:
    """Every case of every knob."""
    for knob in KNOBS:
        for what, value in _right(knob.rule):
            yield Case(knob, what, value, right=True)
        for what, value in (*_wrong(knob.rule), *_confused(knob.rule)):
            yield Case(knob, what, value, right=False)


def _right(rule: Rule) -> Iterator[tuple[str, object]]:
    match rule:
        case Whole(at_least, at_most):
            yield from (("least", at_least), ("next to least", at_least + 1), ("most", at_most))
        case Number():
            low, high = _ends(rule)
            yield from (("middle", (low + high) / 2), ("near the low end", math.nextafter(low, math.inf)))
            if rule.at_least is not None:
                yield from (("least", rule.at_least), ("least, as a float", float(rule.at_least)))
            if rule.at_most is not None:
                yield from (("most", rule.at_most), ("below most", math.nextafter(high, 0)))
            if rule.at_most is None and rule.below is None:
                yield "large", 1e308
        case Word(words):
            yield from ((word, word) for word in words)
            yield from ((f"{word.upper()}, in capitals", word.upper()) for word in words)
        case Text():
            yield from (("one character", "x"), ("longest", "x" * TEXT_CHARACTERS_MAX), ("of any script", "模型"))
        case Texts():
            yield from (("one", ["x"]), ("two", ["x", "y"]), ("most", ["x"] * TEXTS_MAX), ("a tuple", ("x", "y")))
        case Span(low, high):
            yield from (("widest", [low, high]), ("narrowest", [low, low + 1]), ("last", [high - 1, high]))
            yield "a tuple", (low, high)


def _wrong(rule: Rule) -> Iterator[tuple[str, object]]:
    match rule:
        case Whole(at_least, at_most):
            yield from (("below least", at_least - 1), ("far below", -(10**30)), ("above most", at_most + 1))
        case Number():
            low, high = _ends(rule)
            yield from (("below", math.nextafter(low, -math.inf)), ("far below", -1e308))
            if rule.above is not None:
                yield "low end itself", rule.above
            if rule.below is not None:
                yield "high end itself", rule.below
            if rule.at_most is not None or rule.below is not None:
                yield from (("above", math.nextafter(high, math.inf)), ("far above", 1e308))
        case Word(words):
            yield from (("another word", "perhaps"), ("nothing", ""), ("with a space", f" {words[0]}"))
            yield from (("two words", "|".join(words)), ("with a line", f"{words[0]}\n"), ("begun", words[0][:-1]))
            yield from _foreign(words)
        case Text():
            yield from (("nothing", ""), ("blank", " \t\n"), ("too long", "x" * (TEXT_CHARACTERS_MAX + 1)))
        case Texts():
            yield from (
                ("none", []),
                ("one empty", ["x", ""]),
                ("one blank", [" "]),
                ("too many", ["x"] * (TEXTS_MAX + 1)),
            )
            yield from (("a number in it", ["x", 1]), ("null in it", [None]), ("a list in it", [["x"]]))
            yield "one too long", ["x" * (TEXT_CHARACTERS_MAX + 1)]
            yield from (("an empty tuple", ()), ("a tuple with one empty", ("x", "")), ("a set", {"x"}))
        case Span(low, high):
            yield from (("equal", [low, low]), ("falling", [low + 1, low]), ("one", [low]), ("none", []))
            yield from (("three", [low, low + 1, low + 2]), ("below", [low - 1, high]), ("above", [low, high + 1]))
            yield from (
                ("true in it", [True, high]),
                ("a fraction in it", [low, low + 0.5]),
                ("null in it", [low, None]),
                ("a falling tuple", (low + 1, low)),
                ("one in a tuple", (low,)),
                ("a set", {low, high}),
            )
            yield from (("text in it", [str(low), str(high)]), ("not a number in it", [low, math.nan]))


def _foreign(words: Iterable[str]) -> Iterator[tuple[str, object]]:
    """Letters that are none of a word's, though Unicode's lower case makes some of them so, and others longer."""
    for what, letter, other in (("Kelvin sign", "k", KELVIN), ("dotted I", "i", DOTTED)):
        yield from ((f"{word} with a {what}", word.replace(letter, other)) for word in words if letter in word)
    yield "as long as it may be, and longer in lower case", DOTTED * TEXT_CHARACTERS_MAX


def _confused(rule: Rule) -> Iterator[tuple[str, object]]:
    """Values of other types, and numbers that are none."""
    kinds: dict[str, object] = {"an object": {}, "an object with something": {"value": 1}, "false": False, "true": True}
    if not isinstance(rule, Texts | Span):
        kinds |= {"an empty list": [], "a list": [1]}
    if isinstance(rule, Whole | Number):
        kinds |= {"a number as text": "1", "text": "many", "no text": "", "bytes": b"1", "a decimal": Decimal("0.5")}
    else:
        kinds |= {"a number": 1, "zero": 0}
    if isinstance(rule, Texts | Span):
        kinds |= {"text": "x, y", "no text": ""}
    if isinstance(rule, Whole):
        kinds |= {"a fraction": rule.at_least + 0.5, "a whole float": float(rule.at_least + 1)}
    kinds |= {"not a number": math.nan, "infinity": math.inf, "minus infinity": -math.inf, "more than a float": HUGE}
    yield from kinds.items()


def _ends(rule: Number) -> tuple[float, float]:
    """The ends of a number's range; a range without one is taken to end somewhere."""
    low = rule.at_least if rule.at_least is not None else rule.above
    high = rule.at_most if rule.at_most is not None else rule.below
    assert low is not None, "every number of the table has a low end"
    return float(low), float(low + 10 if high is None else high)


def problems_of(strategy: str, config: Any, **options: Any) -> tuple[Problem, ...]:  # noqa: ANN401 - wrong on purpose
    """All that is wrong, and nothing changed."""
    before = copy.deepcopy(config)
    problems: tuple[Problem, ...] = ()
    told = ""
    try:
        validate_strategy_config(strategy, config, **({"switched_on": ALL} | options))
    except KnobError as error:
        problems, told = error.problems, str(error)
    assert all(problem.rule in told for problem in problems)
    assert all(problem.knob in told for problem in problems if problem.knob.isidentifier())
    assert repr(config) == repr(before)
    return problems


def refused(strategy: str, config: Any, **options: Any) -> list[tuple[str, str]]:  # noqa: ANN401 - the same
    """The knobs that are refused, each with its rule."""
    return [(problem.knob, problem.rule) for problem in problems_of(strategy, config, **options)]


def told_of(strategy: str, config: Any, **options: Any) -> list[str]:  # noqa: ANN401 - the same
    """What people are told of each problem."""
    return [str(problem) for problem in problems_of(strategy, config, **options)]


def blamed(strategy: str, config: Any, **options: Any) -> list[str]:  # noqa: ANN401 - the same
    """The knobs that are refused."""
    return [knob for knob, _ in refused(strategy, config, **options)]
