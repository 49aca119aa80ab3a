"""Whether a strategy's knobs are what the table says. Nothing is changed, and nothing is missing from the answer.

A knob is looked for at the top of the configuration, then within `strategy_params`, and checked when it is there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from enum import Enum
from functools import cache
from itertools import islice
from typing import Any, Final, NamedTuple

from pydantic import TypeAdapter, ValidationError

from prompt_studio.errors import InputError
from prompt_studio.optimization.knobs import FIELDS, KNOBS, RELATIONS, STRATEGIES, Knob, Strategy
from prompt_studio.optimization.nearest import nearest
from prompt_studio.optimization.rules import Rule, folded
from prompt_studio.values import shown

NESTED: Final = "strategy_params"
ITEMS_SHOWN: Final = 5
LEVELS_SHOWN: Final = 2
NAME_SHOWN: Final = 64
PROBLEMS_SHOWN: Final = 20
VALUE_SHOWN: Final = 500

_NAMES: Final = {name: strategy for strategy in STRATEGIES for name in (strategy.name, *strategy.aliases)}


_KNOBS_OF: Final = {
    name: tuple(dict.fromkeys(one for knob in KNOBS if knob.name == name for one in knob.strategies))
    for name in dict.fromkeys(knob.name for knob in KNOBS)
}


class Absence(Enum):
    """What stands for the value of a knob that was not given at all, and is no value that can be given."""

    MISSING = "missing"


class Problem(NamedTuple):
    """What is wrong with one knob.

    Attributes:
        knob: its name.
        value: what was given, as it was given; `Absence.MISSING` if nothing was.
        rule: what it offends, as a sentence about "it".
    """

    knob: str
    value: object
    rule: str

    def __str__(self) -> str:
        """The knob, its value, and the rule."""
        name = self.knob if self.knob.isidentifier() and len(self.knob) <= NAME_SHOWN else shown(self.knob)
        # impl: PS-VALIDATION-EXPAND-2
        return f"{name} is {_told(self.value)}: it {self.rule}"


class KnobError(InputError):
    """A configuration breaks the rules of its strategy.

    Attributes:
        problems: all that is wrong, in the order of the table.
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        few = "; ".join(str(problem) for problem in self.problems[:PROBLEMS_SHOWN])
        more = len(self.problems) - PROBLEMS_SHOWN
        super().__init__(few if more <= 0 else f"{few}; and {more:,} more")


def validate_strategy_config(
    optimizer_type: str,
    config: Mapping[str, Any],
    *,
    strict: bool = False,
    switched_on: Iterable[str] = (),
) -> None:
    """Raise KnobError if the configuration breaks a rule of its strategy (PS-VALIDATION-EXPAND-1).

    Args:
        optimizer_type: the strategy; spaces around it and its case do not matter.
        config: the knobs, at the top or within `strategy_params`. It is not changed.
        strict: whether names that nobody knows are refused, too, and a knob that is given twice.
        switched_on: the strategies that are only there where they are switched on, and are.
    """
    problems = list(_problems(optimizer_type, config, strict=strict, switched_on=frozenset(switched_on)))
    if problems:
        raise KnobError(problems)


def strategy_named(optimizer_type: str) -> Strategy | None:
    """The strategy of this name or alias, if there is one."""
    return _NAMES.get(folded(optimizer_type.strip()))


def knobs_of(strategy: Strategy) -> tuple[Knob, ...]:
    """The knobs of a strategy, in the order of the table."""
    return tuple(knob for knob in KNOBS if strategy.name in knob.strategies)


def _problems(
    optimizer_type: object, config: object, *, strict: bool, switched_on: frozenset[str]
) -> Iterator[Problem]:
    if not isinstance(optimizer_type, str) or not optimizer_type.strip():
        yield Problem("optimizer_type", optimizer_type, "must be the name of a strategy")
        return
    if not isinstance(config, Mapping):
        yield Problem("optimization_config", config, "must be an object")
        return
    nested = config.get(NESTED)
    if nested is not None and not isinstance(nested, Mapping):  # whose parameters they are does not matter
        yield Problem(NESTED, nested, "must be an object")
        nested = None
    strategy = strategy_named(optimizer_type)
    if strategy is None:
        if strict:
            rule = f"is not known; the nearest name is {nearest(optimizer_type, _NAMES)}"
            yield Problem("optimizer_type", optimizer_type, rule)
        return
    if strategy.gated and strategy.name not in switched_on:
        yield Problem("optimizer_type", optimizer_type, "is not switched on here")
    yield from _of_knobs(strategy, config, nested or {}, strict=strict)


def _of_knobs(
    strategy: Strategy, config: Mapping[str, Any], nested: Mapping[str, Any], *, strict: bool
) -> Iterator[Problem]:
    knobs = knobs_of(strategy)
    given: dict[str, Any] = {}  # as people know them
    values: dict[str, Any] = {}  # those that are right, as they compare
    for knob in knobs:
        top, within = config.get(knob.name), nested.get(knob.name)
        if within is not None and knob.name in config and top is None:
            # impl: PS-VALIDATION-EXPAND-3
            yield Problem(knob.name, within, f"is in {NESTED}, and hidden by the null at the top: give it once")
            continue
        value = within if top is None else top
        if value is None:
            continue
        given[knob.name] = value
        try:  # impl: PS-VALIDATION-EXPAND-1
            values[knob.name] = _adapter(knob.rule).validate_python(value)
        except ValidationError:
            yield Problem(knob.name, value, f"must be {knob.rule.sentence}")
            continue
        if strict and top is not None and within is not None and not _means(knob.rule, within, values[knob.name]):
            yield Problem(knob.name, top, f"must be given once, and is {_told(within)} in {NESTED}")
    yield from _of_presence(knobs, given, values, config, nested)
    yield from _of_relations(strategy, given, values)
    if strict:
        known = tuple(knob.name for knob in knobs)
        yield from _of_names(strategy, config, (*known, *FIELDS))
        yield from _of_names(strategy, nested, known)


def _means(rule: Rule, value: object, other: object) -> bool:
    """Whether a value comes to the same as another one, which is right: words do in any case, and tuples as lists."""
    try:
        return bool(_adapter(rule).validate_python(value) == other)
    except ValidationError:
        return False


def _of_presence(
    knobs: Iterable[Knob],
    given: Mapping[str, Any],
    values: Mapping[str, Any],
    config: Mapping[str, Any],
    nested: Mapping[str, Any],
) -> Iterator[Problem]:
    def absent(name: str) -> bool:
        return config.get(name) is None and nested.get(name) is None

    for knob in knobs:
        null = None if knob.name in config or knob.name in nested else Absence.MISSING
        needs, only = knob.required_when, knob.only_when
        if absent(knob.name) and knob.required:
            yield Problem(knob.name, null, f"must be {knob.rule.sentence}")
        elif absent(knob.name) and needs is not None and values.get(needs.knob) == needs.value:
            yield Problem(knob.name, null, f"must be {knob.rule.sentence}, since {needs}")
        elif knob.name in values and only is not None:
            # A choice that is refused may have been meant to be the one that this knob belongs to.
            chosen = only.knob in values or absent(only.knob)
            if chosen and values.get(only.knob) != only.value:
                yield Problem(knob.name, given[knob.name], f"does nothing unless {only}")


def _of_relations(strategy: Strategy, given: Mapping[str, Any], values: Mapping[str, Any]) -> Iterator[Problem]:
    for relation in RELATIONS:
        if strategy.name in relation.strategies and relation.knobs[0] in values:
            if not all(name in values for name in relation.knobs) or relation.holds(values):
                continue
            others = ", ".join(f"{name} is {_told(given[name])}" for name in relation.knobs[1:])
            yield Problem(relation.knobs[0], given[relation.knobs[0]], f"{relation.sentence} ({others})")


def _of_names(strategy: Strategy, given: Mapping[Any, Any], known: Collection[str]) -> Iterator[Problem]:
    unknown = [(name, value) for name, value in given.items() if name not in known]
    for place, (name, value) in enumerate(unknown):  # impl: PS-VALIDATION-EXPAND-4
        text = name if isinstance(name, str) else shown(name)
        # Comparing takes longer than all else here, so that it is done for those that a message has room for.
        yield Problem(text, value, _unknown(strategy, text, known) if place < PROBLEMS_SHOWN else "is not known")


def _unknown(strategy: Strategy, name: str, known: Collection[str]) -> str:
    """What is wrong with a name that the strategy does not know there, with the nearest one that is known anywhere."""
    found = nearest(name, dict.fromkeys((*known, *FIELDS, *_KNOBS_OF)))  # each is compared once
    if found in known:
        return f"is not known; the nearest name is {found}"
    place = "a field at the top" if found in FIELDS else f"a knob of {' and '.join(_KNOBS_OF[found])}"
    if found == name:
        return f"is {place}, and no knob of {strategy.name}"
    return f"is not known; the nearest name is {found}, {place}"


def _told(value: object) -> str:
    """The value, so that whoever gave it knows it again."""
    if value is Absence.MISSING:
        return Absence.MISSING.value
    told = _written(value, LEVELS_SHOWN)
    return told if len(told) <= VALUE_SHOWN else f"{told[:VALUE_SHOWN]}..."


def _written(value: object, levels: int) -> str:
    """The value as Python writes it, shortened; of what is within it so many levels."""
    if isinstance(value, Mapping):
        parts = (f"{shown(key)}: {_written(item, levels - 1)}" for key, item in value.items())
        begin, end = "{", "}"
    elif isinstance(value, list | tuple):
        parts = (_written(item, levels - 1) for item in value)
        begin, end = ("[", "]") if isinstance(value, list) else ("(", ",)" if len(value) == 1 else ")")
    else:
        return shown(value)
    if levels == 0 and len(value) > 0:
        return f"{begin}...{end}"
    few = ", ".join(islice(parts, ITEMS_SHOWN))
    more = len(value) > ITEMS_SHOWN
    return f"{begin}{few}, ...{end} ({len(value)} in it)" if more else f"{begin}{few}{end}"


@cache
def _adapter(rule: Rule) -> TypeAdapter[Any]:
    return TypeAdapter(rule.annotation)
