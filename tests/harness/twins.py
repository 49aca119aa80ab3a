"""Two stores that are one: every call is made on both, and they must give one answer and reach one state."""

from prompt_studio_model import operations as op
from prompt_studio_model.checking.rendering import difference
from prompt_studio_model.state import State
from tests.harness.adapter import Adapter
from tests.harness.violation import Violation

PROMISE = "INV-BACKENDS-AGREE"


class Twins:
    """A pair of stores, as the lockstep sees one."""

    def __init__(self, left: Adapter, right: Adapter) -> None:
        self._left = left
        self._right = right

    def perform(self, invocation: op.Invocation, *, arrives: bool = True) -> op.Response:
        """Make both do it. Raises Violation when their answers differ."""
        told = self._left.perform(invocation, arrives=arrives)
        other = self._right.perform(invocation, arrives=arrives)
        if told != other:
            raise Violation([PROMISE], f"{invocation}\n  one answers   {told}\n  other answers {other}")
        return told

    def state(self) -> State:
        """Return the state of both. Raises Violation when they differ."""
        seen, other = self._left.state(), self._right.state()
        if seen != other:
            raise Violation([PROMISE], "\n".join(["their tables differ", *difference(seen, other)]))
        return seen

    def close(self) -> None:
        """Close both."""
        self._left.close()
        self._right.close()
