"""Small systems whose state spaces are known, to try the explorer on: two jugs, two-phase commit, a counter.

The counts of two-phase commit are those that Stateright's `2pc` example publishes, and those of the jugs are what TLC
reports for the `DieHard` specification.
"""

from collections.abc import Iterator
from typing import Final, Literal, NamedTuple

from prompt_studio_model.checking.explore import World
from prompt_studio_model.checking.properties import Invariant, always, sometimes

Pouring = Literal["fill small", "fill big", "empty small", "empty big", "small to big", "big to small"]


class Jugs(NamedTuple):
    small: int = 0
    big: int = 0


def poured(jugs: Jugs, action: Pouring) -> Jugs:
    small, big = jugs
    to_big, to_small = min(small, 5 - big), min(big, 3 - small)
    return {
        "fill small": Jugs(3, big),
        "fill big": Jugs(small, 5),
        "empty small": Jugs(0, big),
        "empty big": Jugs(small, 0),
        "small to big": Jugs(small - to_big, big + to_big),
        "big to small": Jugs(small + to_small, big - to_small),
    }[action]


@always("TOY-NEVER-FOUR", "TOY-1")
def never_four(seen: Jugs) -> bool:
    """The big jug never holds four litres."""
    return seen.big != 4


@always("TOY-FITS")
def fits(seen: Jugs) -> bool:
    """No jug holds more than it can."""
    return seen.small <= 3 and seen.big <= 5


@sometimes("TOY-FOUR")
def four(seen: Jugs) -> bool:
    """The big jug holds four litres."""
    return seen.big == 4


@sometimes("TOY-SIX")
def six(seen: Jugs) -> bool:
    """The big jug holds six litres."""
    return seen.big == 6


def jugs(*promises: Invariant[Jugs]) -> World[Jugs, Pouring, str, Jugs]:
    pourings: tuple[Pouring, ...] = (
        *("fill small", "fill big", "empty small", "empty big"),
        *("small to big", "big to small"),
    )

    def pour(_: Jugs) -> tuple[Pouring, ...]:
        """Two jugs, a tap and a drain."""
        return pourings

    return World(
        name="jugs",
        initial=Jugs(),
        actions=pour,
        successors=lambda state, action: [(poured(state, action), "done")],
        within=lambda _: True,
        observe=lambda _, __, ___, after: after,
        promises=promises,
        label=lambda after: ("big", after.big),
    )


class Commit(NamedTuple):
    managers: tuple[str, ...]
    decision: str = "init"
    prepared: frozenset[int] = frozenset()
    messages: frozenset[str] = frozenset()


class Act(NamedTuple):
    name: str
    manager: int = -1


def _with(state: Commit, manager: int, status: str) -> Commit:
    return state._replace(managers=(*state.managers[:manager], status, *state.managers[manager + 1 :]))


def _enabled(state: Commit) -> Iterator[tuple[Act, Commit]]:
    everybody = frozenset(range(len(state.managers)))
    if state.decision == "init":
        if state.prepared == everybody:
            yield Act("commit"), state._replace(decision="committed", messages=state.messages | {"commit"})
        yield Act("abort"), state._replace(decision="aborted", messages=state.messages | {"abort"})
    for manager in everybody:
        if state.decision == "init" and f"prepared {manager}" in state.messages:
            yield Act("learn", manager), state._replace(prepared=state.prepared | {manager})
        if state.managers[manager] == "working":
            told = state._replace(messages=state.messages | {f"prepared {manager}"})
            yield Act("prepare", manager), _with(told, manager, "prepared")
            yield Act("give up", manager), _with(state, manager, "aborted")
        if "commit" in state.messages:
            yield Act("obey", manager), _with(state, manager, "committed")
        if "abort" in state.messages:
            yield Act("obey", manager), _with(state, manager, "aborted")


@always("TOY-CONSISTENT")
def consistent(seen: Commit) -> bool:
    """No manager aborts while another commits."""
    return not {"aborted", "committed"} <= set(seen.managers)


@sometimes("TOY-ALL-COMMIT")
def all_commit(seen: Commit) -> bool:
    """Everybody commits."""
    return set(seen.managers) == {"committed"}


@sometimes("TOY-ALL-ABORT")
def all_abort(seen: Commit) -> bool:
    """Everybody aborts."""
    return set(seen.managers) == {"aborted"}


def two_phase_commit(managers: int) -> World[Commit, Act, str, Commit]:
    return World(
        name="two-phase commit",
        initial=Commit(("working",) * managers),
        actions=lambda state: [act for act, _ in _enabled(state)],
        successors=lambda state, act: [(after, "done") for taken, after in _enabled(state) if taken == act],
        within=lambda _: True,
        observe=lambda _, __, ___, after: after,
        promises=(consistent, all_commit, all_abort),
    )


@always("TOY-SMALL")
def small(seen: int) -> bool:
    """The counter stays below one hundred."""
    return seen < 100


def counter(*, bound: int, start: int = 0) -> World[int, str, str, int]:
    """Counts up by one or by two: nobody knows which."""
    return World(
        name="counter",
        initial=start,
        actions=lambda _: ["count"],
        successors=lambda state, _: [(state + 1, "one"), (state + 2, "two")],
        within=lambda state: state <= bound,
        observe=lambda _, __, ___, after: after,
        promises=(small,),
    )


LITRES_IN_SIX_STEPS: Final = ("fill big", "big to small", "empty small", "big to small", "fill big", "big to small")
