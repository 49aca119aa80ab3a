"""The model's worlds, explored once in a test session: to be judged, and for the ways that lead to each situation."""

import time
from dataclasses import replace
from functools import cache

from prompt_studio_model import operations as op
from prompt_studio_model.checking.explore import Exploration, explore
from prompt_studio_model.state import State
from prompt_studio_model.worlds import WORLDS
from tests.harness.pairs import signature


@cache
def explored(world: str) -> tuple[Exploration[State, op.Invocation, op.Response], float]:
    """Return the exploration of this world, with every signature's first step, and its seconds."""
    began = time.perf_counter()
    return explore(replace(WORLDS[world], label=signature)), time.perf_counter() - began


def shortest_ways(world: str) -> list[tuple[op.Invocation, ...]]:
    """Return a shortest way to each signature that a call can meet in this world."""
    found, _ = explored(world)
    met = [step for label, step in found.first_seen.items() if isinstance(label, tuple) and label[0] is not None]
    return [(*(before.action for before in found.path_to(step.before)), step.action) for step in met]
