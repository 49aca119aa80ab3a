"""The model's worlds, explored once in a test session: to be judged, and for the ways that lead to each situation."""

import time
from collections.abc import KeysView
from dataclasses import replace
from functools import cache
from typing import cast

from prompt_studio_model import operations as op
from prompt_studio_model.checking.explore import Exploration, Step, explore
from prompt_studio_model.state import State
from prompt_studio_model.worlds import WORLDS
from tests.harness.pairs import Signature, signature


@cache
def explored(world: str) -> tuple[Exploration[State, op.Invocation, op.Response], float]:
    """Return the exploration of this world, with every signature's first step, and its seconds."""
    began = time.perf_counter()
    return explore(replace(WORLDS[world], label=signature)), time.perf_counter() - began


def _met(world: str) -> dict[Signature, Step[State, op.Invocation, op.Response]]:
    """Return the first step of each signature that a call can meet in this world."""
    found, _ = explored(world)
    labels = ((cast("Signature", label), step) for label, step in found.first_seen.items())
    return {label: step for label, step in labels if label[0] is not None}


def signatures(world: str) -> KeysView[Signature]:
    """Return every signature that a call can meet in this world."""
    return _met(world).keys()


def shortest_ways(world: str) -> list[tuple[op.Invocation, ...]]:
    """Return ways from the start that meet each signature which a call can meet in this world.

    Each goes a shortest way to a state. There it makes, one after the other, the calls that change nothing, which are
    most; a way that another goes on from is not walked twice.
    """
    found, _ = explored(world)
    met = _met(world).values()
    asides: dict[State, list[op.Invocation]] = {step.before: [] for step in met}
    for step in met:
        if step.after == step.before:
            asides[step.before].append(step.action)
    ways = [tuple(found.path_to(state)) for state in asides]
    ways += [(*found.path_to(step.before), step) for step in met if step.after != step.before]
    begun = {way[:length] for way in ways for length in range(len(way))}
    return [_with_asides(way, asides) for way in dict.fromkeys(ways) if way not in begun]


def _with_asides(
    way: tuple[Step[State, op.Invocation, op.Response], ...], asides: dict[State, list[op.Invocation]]
) -> tuple[op.Invocation, ...]:
    """Return the calls of the way, with those that are made on it for the first time and change nothing."""
    calls: list[op.Invocation] = []
    for step in way:
        calls += [*asides.pop(step.before, []), step.action]
    return (*calls, *asides.pop(way[-1].after, []))
