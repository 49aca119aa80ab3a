"""The checker agrees with whoever tries every order, and a checker with one wrong line does not."""

from collections import Counter
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any, Final

import pytest
from hypothesis import Phase, find, given, settings
from hypothesis.errors import NoSuchExample

from prompt_studio_model.checking import linearizability
from prompt_studio_model.checking.history import Happened, Invoked, Returned
from tests.checking.brute_force import CALLS, EMPTY, histories, possible
from tests.checking.sequential import (
    AnyHistory,
    Effect,
    OneAtATime,
    World,
    asks,
    counter,
    history,
    lock,
    queue,
    register,
    told,
)

pytestmark = [pytest.mark.model, pytest.mark.untraced]

EXAMPLES: Final = 600
EACH_VERDICT_AT_LEAST: Final = 100
EFFECTS: Final = (register, queue, counter, lock)
SOURCE: Final = Path(linearizability.__file__ or "")

WRONG_LINES: Final[dict[str, tuple[str, str]]] = {
    "answers are not compared": (
        "if shown.returned and not self._moves.agrees(move.answer, observed):",
        "if shown.returned and self._moves.agrees is None:",
    ),
    "what was not answered did not happen": (
        "if isinstance(marks[at], _Effective):",
        "if isinstance(marks[at], _Effective) or not call.returned:",
    ),
    "what was not answered by the end did not happen": (
        "for (state, _), way in self._reached().items():",
        "for (state, _), way in self._frontier.items():",
    ),
    "real time is ignored": (
        "enumerate(self._history.events):",
        "enumerate(sorted(self._history.events, key=lambda one: not isinstance(one, Invoked))):",
    ),
    "nobody else takes effect before a call that returns": (
        "if isinstance(marks[at], _Effective):",
        "if isinstance(marks[at], _Effective) or until not in {None, at}:",
    ),
    "nothing takes effect before the world moves": (
        "for (state, marks), way in self._reached().items():",
        "for (state, marks), way in self._frontier.items():",
    ),
    "the clock is read when a call takes effect": (
        "(*opened.instants, *self._now)",
        "(*self._now,)",
    ),
    "a part is the whole": (
        'mark, step = move.progress, Placed("part"',
        'mark, step = _DONE, Placed("part"',
    ),
    "progress is forgotten": (
        'mark, step = move.progress, Placed("part"',
        'mark, step = None, Placed("part"',
    ),
    "the cache knows states, and not whose effect they have": (
        "if after not in reached:",
        "if after[0] not in {state for state, _ in reached}:",
    ),
    "an earlier answer is blamed for a later one": ("looks_ahead=False", "looks_ahead=True"),
}


def disagreement(checker: Any, seen: AnyHistory, effect: Effect) -> str:  # noqa: ANN401 - a module, perhaps a bad one
    """What the checker says otherwise than trying every order does; nothing, if they agree."""

    def by_force(count: int) -> set[World]:
        return possible(seen.events[:count], effect, EMPTY[effect])

    found = checker.check(seen, World(EMPTY[effect]), OneAtATime(effect), steps_limit=100_000)
    finals = by_force(len(seen.events))
    if (found.verdict, found.finals) != ("holds" if finals else "violated", finals):
        return f"{found.verdict} with {found.finals}, and by force {finals}"
    place = len(seen.events) if found.failure is None else found.failure.place
    if found.failure is not None and (not by_force(place) or by_force(place + 1)):
        return f"event {place} is not the first that is impossible"
    return ""


def without_its_time(found: Any, seen: AnyHistory) -> list[str]:  # noqa: ANN401 - the result's types are the toys'
    """What is wrong with the orders that a result shows: calls out of real time, or not once, or to another end."""
    begins = {event.number: place for place, event in enumerate(seen.events) if isinstance(event, Invoked)}
    ends = {event.number: place for place, event in enumerate(seen.events) if isinstance(event, Returned)}
    wrong = []
    for state in found.finals:
        steps = found.order_to(state)
        effects = [step.source.number for step in steps if step.kind == "effect"]
        late = [
            (first, second)
            for at, first in enumerate(effects)
            for second in effects[at + 1 :]
            if second in ends and ends[second] < begins[first]
        ]
        moves = sum(isinstance(event, Happened) for event in seen.events)
        if late or len(set(effects)) < len(effects) or not ends.keys() <= set(effects):
            wrong.append(f"{effects} to {state}")
        if sum(step.kind == "event" for step in steps) != moves or (steps and steps[-1].after != state):
            wrong.append(f"{steps} to {state}")
    return wrong


@pytest.mark.parametrize("effect", EFFECTS, ids=lambda effect: str(effect.__name__))
def test_the_checker_agrees(effect: Effect) -> None:
    verdicts: Counter[str] = Counter()

    @settings(max_examples=EXAMPLES)
    @given(histories(effect))
    def compare(seen: AnyHistory) -> None:
        assert disagreement(linearizability, seen, effect) == ""
        found = linearizability.check(seen, World(EMPTY[effect]), OneAtATime(effect))
        assert without_its_time(found, seen) == []
        verdicts[found.verdict] += 1

    compare()
    assert all(verdicts[verdict] >= EACH_VERDICT_AT_LEAST for verdict in ("holds", "violated")), verdicts


def with_a_wrong_line(old: str, new: str) -> ModuleType:
    """The checker with one line replaced. What a model's moves are made of stays the same."""
    text = SOURCE.read_text(encoding="utf-8")
    assert text.count(old) == 1, (
        f"{old!r} is there {text.count(old)} times: the code has moved on, and this must follow"
    )
    module = ModuleType("a_bad_checker")
    exec(compile(text.replace(old, new), "a_bad_checker", "exec"), vars(module))  # noqa: S102 - our own text
    vars(module).update(Silent=linearizability.Silent, Final=linearizability.Final)
    return module


@pytest.mark.parametrize("name", WRONG_LINES)
def test_a_checker_with_a_wrong_line_disagrees(name: str) -> None:
    bad = with_a_wrong_line(*WRONG_LINES[name])
    some = settings(max_examples=1_000, database=None, phases=[Phase.generate])

    def is_noticed(effect: Effect) -> bool:
        try:
            find(
                histories(effect),
                lambda seen: bool(disagreement(bad, seen, effect)),
                settings=some,
                random=Random(0),  # noqa: S311 - these dice decide nothing secret
            )
        except NoSuchExample:
            return False
        return True

    assert any(is_noticed(effect) for effect in EFFECTS)


class TestBruteForce:
    def test_knows_what_anybody_knows(self) -> None:
        stale = history(asks(1, "write", 1), told(1), asks(2, "read"), told(2, 0))
        early = history(asks(1, "write", 1), asks(2, "read"), told(1), told(2, 0))

        assert possible(stale.events, register, 0) == set()
        assert possible(early.events, register, 0) == {World(1)}

    def test_knows_more_calls_than_it_makes(self) -> None:
        assert CALLS.keys() == EMPTY.keys() == set(EFFECTS)
