"""Promises as values: an id, a sentence, and a predicate over one observed transition.

A predicate's docstring is its sentence, so that the words of the specification, of the code and of a failure message
are one text. `always` must be true of every transition; `sometimes` of at least one in a run, which guards against a
model, or a test, in which nothing ever happens.
"""

from collections.abc import Callable, Iterable
from typing import Generic, Literal, NamedTuple, TypeVar

Seen = TypeVar("Seen")
Expectation = Literal["always", "sometimes"]


class Invariant(NamedTuple, Generic[Seen]):
    """One promise. `requirements` are the ids of the sentences in `specs/` that it stands for."""

    id: str
    expectation: Expectation
    sentence: str
    requirements: tuple[str, ...]
    predicate: Callable[[Seen], bool]


def _promise(
    expectation: Expectation, name: str, requirements: tuple[str, ...]
) -> Callable[[Callable[[Seen], bool]], Invariant[Seen]]:
    def made_of(predicate: Callable[[Seen], bool]) -> Invariant[Seen]:
        return Invariant(name, expectation, " ".join((predicate.__doc__ or "").split()), requirements, predicate)

    return made_of


def always(name: str, *requirements: str) -> Callable[[Callable[[Seen], bool]], Invariant[Seen]]:
    """Declare what every transition must satisfy."""
    return _promise("always", name, requirements)


def sometimes(name: str, *requirements: str) -> Callable[[Callable[[Seen], bool]], Invariant[Seen]]:
    """Declare what some transition of a run must satisfy."""
    return _promise("sometimes", name, requirements)


def violated(seen: Seen, promises: Iterable[Invariant[Seen]]) -> list[str]:
    """Return the ids of the promises that this transition breaks."""
    return [promise.id for promise in promises if promise.expectation == "always" and not promise.predicate(seen)]
