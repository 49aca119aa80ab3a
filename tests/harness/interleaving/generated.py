"""Scenarios that nobody thought of: a few jobs in some state, two or three lanes with a call or two each.

Everything is chosen by a `choose` from a sequence, so that Hypothesis can draw and shrink what a seeded random source
chooses by the million. Calls name jobs and tokens that the setup made, or what their lane acquired itself.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final, Protocol, TypeVar

from prompt_studio_model import operations as op
from tests.harness.interleaving.scenario import CutOff, Kill, LoseAnswer, Mine, Move, Scenario, signed
from tests.harness.interleaving.scenarios import ANN, BOB, LEASE, NOBODY, STOPPED, acquire, job, once

Item = TypeVar("Item")
LANES: Final = ("a", "b", "c")
TICKS: Final = (1, 500, LEASE)
SPREAD: Final = 500
STOPS: Final = 18
"""So many processes are stopped for one that is killed and one that is cut off, which takes a hundred times as long."""


class Chooser(Protocol):
    """Chooses one of several."""

    def __call__(self, items: Sequence[Item]) -> Item:
        """One of these; where shrinking is possible, towards the first."""


def _acquire(session: str, choose: Chooser) -> tuple[Move, ...]:
    wanted = choose((None, None, None, frozenset({"generation"})))
    return (op.Acquire(session=session, owner=session, lease=LEASE, job_types=wanted),)


def _acquire_and_close(session: str, choose: Chooser) -> tuple[Move, ...]:
    closing = choose(
        (
            Mine(op.Complete),
            Mine(op.Release),
            Mine(op.Fail, {"spread": SPREAD}),
            Mine(op.Fail, {"retryable": False}),
            Mine(op.Renew, {"lease": 2 * LEASE}),
        )
    )
    return (acquire(session), closing)


def _by_token(session: str, choose: Chooser) -> tuple[Move, ...]:
    named: dict[str, Any] = {"session": session, "job_id": choose((1, 2)), "token": 1}
    return (
        choose(
            (
                op.Complete(**named),
                op.Release(**named),
                op.Renew(lease=LEASE, **named),
                op.Fail(spread=SPREAD, **named),
                op.Fail(retryable=False, **named),
            )
        ),
    )


def _by_operator(session: str, choose: Chooser) -> tuple[Move, ...]:
    named: dict[str, Any] = {"session": session, "job_id": choose((1, 2))}
    return (
        choose(
            (
                op.Cancel(**named),
                op.Retry(**named),
                op.UpdateStatus(status="queued", **named),
                op.UpdateStatus(status="completed", **named),
                op.UpdateStatus(status="failed", **named),
                op.UpdateStatus(status="cancelled", **named),
                op.UpdateStatus(status="processing", owner=session, lease=LEASE, **named),
                op.Renew(owner="old", lease=LEASE, **named),
                op.Cleanup(session=session, age=0),
            )
        ),
    )


def _on_keys(session: str, choose: Chooser) -> tuple[Move, ...]:
    scope = choose((ANN, BOB, NOBODY))
    return (
        choose(
            (op.Record(session=session, scope=scope, entity_id=ord(session)), op.Lookup(session=session, scope=scope))
        ),
    )


def _create(session: str, choose: Chooser) -> tuple[Move, ...]:
    made = job(priority=choose((5, 9)))
    kind = choose(("evaluation", "generation"))
    later = choose((None, None, None, LEASE, LEASE + 1))
    return (replace(made, session=session, job_type=kind, available_at=later),)


def _create_once(session: str, choose: Chooser) -> tuple[Move, ...]:
    return (once(session, choose(("one", "two")), choose(("ann", "bob"))),)


KINDS: Final[tuple[Callable[[str, Chooser], tuple[Move, ...]], ...]] = (
    _acquire,
    _acquire_and_close,
    _by_token,
    _by_operator,
    _on_keys,
    _create,
    _create_once,
)


def generate(name: str, choose: Chooser) -> Scenario:
    """Make a scenario out of choices."""
    setup: list[op.Invocation] = []
    for _ in range(choose((1, 2, 3))):
        setup.append(job(priority=choose((5, 9)), max_retries=choose((3, 0))))
        setup += [acquire("old")] if choose((False, True)) else []
    setup += [op.Tick(milliseconds=choose((LEASE - 1, LEASE)))] if choose((False, True)) else []
    lanes: dict[str, tuple[Move, ...]] = {}
    for lane in LANES[: choose((2, 2, 3))]:
        moves = choose(KINDS)(lane, choose)
        lanes[lane] = (*moves, *(choose(KINDS)(lane, choose) if choose((False, False, True)) else ()))
    if choose((False, True)):
        lanes["time"] = (op.Tick(milliseconds=choose(TICKS)),)
    elif choose((False, True)):
        lanes["fate"] = choose((*(STOPPED,) * STOPS, (Kill("a"),), (CutOff("a"),), (LoseAnswer("a"),)))
    return signed(Scenario(name, tuple(setup), lanes))


def generated(seed: int) -> Scenario:
    """The scenario of this seed."""
    source = random.Random(seed)  # noqa: S311 - the same scenario each time

    def choose(items: Sequence[Item]) -> Item:
        return source.choice(items)

    return generate(f"generated {seed}", choose)
