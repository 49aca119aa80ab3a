"""Exhaustive breadth-first exploration of a bounded world, judging every transition.

A world is data: where it starts, what may happen in a state, what each happening leads to, and how far to go. States
are compared with equality, never by a hash alone. The first violation found is a shortest one, because the search goes
in layers. The verdict is `holds` only if the whole bounded world was visited and every `sometimes` was seen.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

from prompt_studio_model.checking.properties import Invariant, violated

State = TypeVar("State", bound=Hashable)
Action = TypeVar("Action")
Answer = TypeVar("Answer")
Seen = TypeVar("Seen")

Verdict = Literal["holds", "violated", "inconclusive"]


@dataclass(frozen=True, slots=True, kw_only=True)
class World(Generic[State, Action, Answer, Seen]):
    """A bounded system to explore. `within` is asked of every state reached: outside it a state is not entered."""

    name: str
    initial: State
    actions: Callable[[State], Iterable[Action]]
    successors: Callable[[State, Action], Iterable[tuple[State, Answer]]]
    within: Callable[[State], bool]
    observe: Callable[[State, Action, Answer, State], Seen]
    promises: tuple[Invariant[Seen], ...]
    label: Callable[[Seen], Hashable] = field(default=lambda _: None)


@dataclass(frozen=True, slots=True)
class Step(Generic[State, Action, Answer]):
    """One step of a path: what happened in `before`, and what was answered."""

    before: State
    action: Action
    answer: Answer
    after: State


@dataclass(slots=True)
class Exploration(Generic[State, Action, Answer]):
    """What was explored, and what was found."""

    world: str
    transitions: int = 0
    depth: int = 0
    complete: bool = False
    broken: list[str] = field(default_factory=list)
    counterexample: list[Step[State, Action, Answer]] = field(default_factory=list)
    witnessed: Counter[str] = field(default_factory=Counter)
    unwitnessed: list[str] = field(default_factory=list)
    first_seen: dict[Hashable, Step[State, Action, Answer]] = field(default_factory=dict)
    parents: dict[State, Step[State, Action, Answer] | None] = field(default_factory=dict)

    @property
    def distinct(self) -> int:
        """Number of distinct states visited."""
        return len(self.parents)

    @property
    def verdict(self) -> Verdict:
        """Holds, violated, or inconclusive: not all was visited, or something that must happen never did."""
        if self.broken:
            return "violated"
        return "holds" if self.complete and not self.unwitnessed else "inconclusive"

    def path_to(self, state: State) -> list[Step[State, Action, Answer]]:
        """Return a shortest way from the initial state."""
        path = []
        step = self.parents[state]
        while step is not None:
            path.append(step)
            step = self.parents[step.before]
        return path[::-1]


def explore(
    world: World[State, Action, Answer, Seen],
    *,
    states_limit: int = 5_000_000,
    progress: Callable[[int, int], None] | None = None,
) -> Exploration[State, Action, Answer]:
    """Visit every state of the world, layer by layer, until a promise breaks or nothing is left.

    `progress` is called after each layer with its depth and the number of distinct states so far. More than
    `states_limit` states end the search with the verdict inconclusive.
    """
    found: Exploration[State, Action, Answer] = Exploration(world.name)
    found.parents[world.initial] = None
    layer = [world.initial]
    while layer and found.distinct <= states_limit and not found.broken:
        layer = _next_layer(world, found, layer)
        found.depth += bool(layer)
        if progress is not None:
            progress(found.depth, found.distinct)
    found.complete = not layer and not found.broken
    expected = (promise.id for promise in world.promises if promise.expectation == "sometimes")
    found.unwitnessed = [name for name in expected if not found.witnessed[name]]
    return found


def _next_layer(
    world: World[State, Action, Answer, Seen], found: Exploration[State, Action, Answer], layer: list[State]
) -> list[State]:
    reached = []
    hoped = [(promise.id, promise.predicate) for promise in world.promises if promise.expectation == "sometimes"]
    demanded = [promise for promise in world.promises if promise.expectation == "always"]
    for before in layer:
        for action in world.actions(before):
            for after, answer in world.successors(before, action):
                found.transitions += 1
                step = Step(before, action, answer, after)
                seen = world.observe(before, action, answer, after)
                found.broken = violated(seen, demanded)
                if found.broken:
                    found.counterexample = [*found.path_to(before), step]
                    return []
                for name, met in hoped:
                    if met(seen):
                        found.witnessed[name] += 1
                found.first_seen.setdefault(world.label(seen), step)
                if after not in found.parents and world.within(after):
                    found.parents[after] = step
                    reached.append(after)
    return reached
