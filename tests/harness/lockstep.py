"""A store and the model, one call at a time: after each step the response and the whole state must agree.

First the promises are judged on what was *observed*, so that a red run names the one that was broken; then the observed
(state, response) must be among those that the model allows. A store may be right and still different: that is reported
as `conformance`, with both sides.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Protocol, Self

from prompt_studio_model import operations as op
from prompt_studio_model.checking.explore import Step
from prompt_studio_model.checking.properties import violated
from prompt_studio_model.checking.rendering import difference
from prompt_studio_model.invariants import ALWAYS, Transition, observe
from prompt_studio_model.state import Settings, State
from prompt_studio_model.step import step
from prompt_studio_model.table import Key
from prompt_studio_model.witnesses import SOMETIMES
from tests.harness.adapter import Adapter, RefusedByDatabase
from tests.harness.pairs import met
from tests.harness.rendering import Observed, explain
from tests.harness.violation import Violation

HISTORY_SHOWN = 12


@dataclass
class Coverage:
    """What a run has done so far, for its certificate."""

    steps: int = 0  # generated
    played: int = 0  # known ways, walked again
    examples: int = 0
    pairs: Counter[Key] = field(default_factory=Counter)
    sometimes: Counter[str] = field(default_factory=Counter)

    def add(self, other: Self) -> None:
        """Take what another process of the run has done."""
        self.steps += other.steps
        self.played += other.played
        self.examples += other.examples
        self.pairs += other.pairs
        self.sometimes += other.sometimes

    def saw(self, seen: Transition) -> None:
        """Count what one transition witnessed."""
        pair = met(seen)
        if pair is not None:
            self.pairs[pair] += 1
        self.sometimes.update(promise.id for promise in SOMETIMES if promise.predicate(seen))


class System(Protocol):
    """What is put beside the model: a store, or several that act as one."""

    def perform(self, invocation: op.Invocation, *, arrives: bool = True) -> op.Response:
        """Do it, and say what was answered."""

    def state(self) -> State:
        """The whole state."""

    def close(self) -> None:
        """Let go of it."""


class Lockstep:
    """One system beside the model, from an empty database on."""

    def __init__(self, system: System, settings: Settings, coverage: Coverage, *, generated: bool = True) -> None:
        self.system = system
        self.settings = settings
        self.state = system.state()
        self.seen: Transition | None = None  # the last one
        self._coverage = coverage
        self._generated = generated
        self._history: list[Observed] = []
        coverage.examples += 1

    @property
    def adapter(self) -> Adapter:
        """The one store, for calls that the model does not know."""
        assert isinstance(self.system, Adapter), "reads and malformed calls are made on one store at a time"
        return self.system

    def do(self, invocation: op.Invocation, *, arrives: bool = True) -> op.Response:
        """Make the store do it, and judge what is seen. Raises Violation."""
        before = self.state
        try:
            response = self.system.perform(invocation, arrives=arrives)
        except RefusedByDatabase as error:
            raise Violation([error.invariant], f"{invocation}\nthe database refused: {error}") from error
        seen = observe(self.settings, before, invocation, response, self.system.state())
        self._judge(seen)
        self._coverage.saw(seen)
        self._count()
        self._history.append(Step(before, invocation, response, seen.after))
        self.state, self.seen = seen.after, seen
        return response

    def unchanged(self) -> None:
        """Judge that a call which the model does not know, a read or a refused one, changed nothing."""
        now = self.system.state()
        if now != self.state:
            changes = "\n".join(difference(self.state, now))
            raise Violation(["conformance"], f"a call that must change nothing changed\n{changes}")
        self._count()

    def _count(self) -> None:
        if self._generated:
            self._coverage.steps += 1
        else:
            self._coverage.played += 1

    def _judge(self, seen: Transition) -> None:
        allowed = step(seen.before, seen.invocation, self.settings)
        names = violated(seen, ALWAYS)
        if (seen.after, seen.response) not in allowed:
            names = [name for name in names if name != "INV-BACKENDS-AGREE"] or ["conformance"]
        if names:
            step_seen = Step(seen.before, seen.invocation, seen.response, seen.after)
            raise Violation(names, explain(self._history[-HISTORY_SHOWN:], step_seen, allowed))
