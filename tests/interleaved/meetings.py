"""Two calls that meet at every place: each pair of their next steps, played in both orders. For the table of steps.

What may change places is asked with the footprint that each step has when it goes first: so a search uses it, that has
seen one of them done and asks whether the other must still be done before it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations_with_replacement, product
from typing import Any, Final

from prompt_studio_model import operations as op
from prompt_studio_model.state import Scope
from tests.harness.interleaving.independence import Footprint, Table, footprints
from tests.harness.interleaving.runs import Run, Step
from tests.harness.interleaving.scenario import Mine, Move, Scenario
from tests.harness.interleaving.scenarios import ANN, BOB, LEASE, NOBODY, REQUEST, SPENT, acquire, job
from tests.harness.interleaving.scheduler import Scheduler, follow

WRONG: Final = 7
"""A token that no job has: the call is refused, and looks for the reason in a transaction."""


Wanted = Callable[[tuple[str, str], tuple[Footprint, Footprint]], bool]
"""Of two statements and their footprints."""


@dataclass(frozen=True, slots=True)
class Met:
    """Two steps that could have been done in either order, and both runs.

    Attributes:
        names: their statements, that of the first run's first one first.
        found: their footprints, each where it goes first.
        runs: both, alike up to the two.
    """

    names: tuple[str, str]
    found: tuple[Footprint, Footprint]
    runs: tuple[Run, Run]


def statements(table: Table, steps: list[Step]) -> list[str]:
    """The statement of each step, whatever its place in it; one word for all that are hidden in a transaction."""
    last: dict[str, str] = {}
    inside: dict[str, bool] = {}
    names = []
    for step in steps:
        last[step.lane] = last.get(step.lane, "") if step.what.startswith("...") else step.what
        name = last[step.lane]
        if name in {"commit", "rollback"}:
            inside[step.lane] = False
        hidden = inside.get(step.lane, False) and table.inside is not None
        names.append("inside" if hidden else name)
        if name == "begin" and step.outcome != "busy":
            inside[step.lane] = True
    return names


def meetings(
    scheduler: Scheduler,
    scenario: Scenario,
    table: Table,
    wanted: Wanted,
    alone: Run | None = None,
) -> Iterator[Met]:
    """Each place where lane a is before one of its steps and lane b before one of its own, both orders of the two.

    Args:
        scheduler: who plays them.
        scenario: two lanes, a and b.
        table: from which the footprints are read.
        wanted: whether such a pair is to be played, as far as can be told from the calls when one follows the other.
        alone: the run in which they do; played if it is not given.
    """
    alone = alone or scheduler.run(scenario, follow(()))
    found, names = list(footprints(table, alone.steps)), statements(table, alone.steps)
    places = {lane: [n for n, step in enumerate(alone.steps) if step.lane == lane] for lane in "ab"}
    for a, b in product(range(len(places["a"])), range(len(places["b"]))):
        one, other = places["a"][a], places["b"][b]
        if not wanted((names[one], names[other]), (found[one], found[other])):
            continue
        before = ["a"] * a + ["b"] * b
        first = scheduler.run(scenario, follow([*before, "a", "b"]))
        second = scheduler.run(scenario, follow([*before, "b", "a", *first.choices[a + b + 2 :]]))
        if first.choices[: a + b + 2] != [*before, "a", "b"] or second.choices[: a + b + 1] != [*before, "b"]:
            continue  # one waits for the other, or has ended: they do not meet here
        (_, first_found, first_name), (_, second_found, second_name) = (
            [*zip(run.steps, footprints(table, run.steps), statements(table, run.steps), strict=True)][a + b]
            for run in (first, second)
        )
        yield Met((first_name, second_name), (first_found, second_found), (first, second))


def on_job(session: str, job_id: int, token: int) -> dict[str, tuple[Move, ...]]:
    """Each call on a job, by its statement."""
    named: dict[str, Any] = {"session": session, "job_id": job_id}
    leased: dict[str, Any] = {**named, "token": token}
    return {
        "complete_job": (op.Complete(**leased),),
        "fail_job": (op.Fail(retryable=False, **leased),),
        "fail_or_requeue_job": (op.Fail(spread=500, **leased),),
        "release_job": (op.Release(**leased),),
        "renew_lease": (op.Renew(lease=LEASE, **leased),),
        "set_cancelled": (op.Cancel(**named),),
        "retry_failed_job": (op.Retry(**named),),
    }


def on_keys(session: str, scope: Scope) -> dict[str, tuple[Move, ...]]:
    """Each call on a key, by its name."""
    return {
        "record": (op.Record(session=session, scope=scope, entity_id=ord(session)),),
        "lookup": (op.Lookup(session=session, scope=scope),),
        "create once": (op.CreateOnce(session=session, request=REQUEST, scope=scope, fingerprint="of it"),),
    }


def others(session: str) -> dict[str, tuple[Move, ...]]:
    """Calls that name no job, or one that they were given."""
    return {
        "acquire": (acquire(session),),
        "create": (op.Create(session=session, request=REQUEST),),
        "acquire and complete": (acquire(session), Mine(op.Complete)),
    }


TWO_DONE: Final = (
    *(job(), acquire("old"), op.Complete(job_id=1, token=1)),
    *(job(), acquire("old"), op.Complete(job_id=2, token=1)),
    *(job(), job()),
)
"""Two jobs that nothing can be done with any more, and two for whoever acquires."""


def apart() -> Iterator[Scenario]:
    """Calls that have nothing to do with each other: on two jobs, or on a job and a key, or on two keys."""
    mine = {**on_job("a", 1, WRONG), **on_keys("a", ANN), **others("a")}
    theirs = {**on_job("b", 2, WRONG), **on_keys("b", BOB), **others("b")}
    for name in ("record", "create"):
        yield Scenario(f"{name} beside nobody's key", TWO_DONE, {"a": mine[name], "b": on_keys("b", NOBODY)["lookup"]})
    for one, other in combinations_with_replacement(reversed(mine), 2):
        yield Scenario(f"{one} beside {other}", TWO_DONE, {"a": mine[one], "b": theirs[other]})


EXPIRED_TWO: Final = (*SPENT[:2], job(), acquire("old"), op.Tick(milliseconds=LEASE))
"""One job that must be failed, so that an acquire has two statements; and one whose lease is over."""
FAILED: Final = (job(), acquire("old"), op.Fail(job_id=1, token=1, retryable=False))


def together() -> Iterator[Scenario]:
    """Calls that meet at the same job or key."""
    for name, call in on_job("a", 2, 1).items():
        yield Scenario(f"{name}, acquire", EXPIRED_TWO, {"a": call, "b": (acquire("b"),)})
        yield Scenario(f"{name}, complete", EXPIRED_TWO, {"a": call, "b": on_job("b", 2, 1)["complete_job"]})
    for name, call in on_job("a", 2, WRONG).items():
        yield Scenario(f"{name} is refused, acquire", EXPIRED_TWO, {"a": call, "b": (acquire("b"),)})
    yield Scenario("retry, retry", FAILED, {s: on_job(s, 1, 1)["retry_failed_job"] for s in "ab"})
    yield Scenario("retry, acquire", FAILED, {"a": on_job("a", 1, 1)["retry_failed_job"], "b": (acquire("b"),)})
    yield Scenario(
        "acquire and release, acquire", (job(),), {"a": (acquire("a"), Mine(op.Release)), "b": (acquire("b"),)}
    )
    yield Scenario(
        "create, cancel it",
        (job(),),
        {"a": (op.Create(session="a", request=REQUEST),), "b": (op.Cancel(session="b", job_id=2),)},
    )
    yield Scenario("create, acquire", (), {"a": (op.Create(session="a", request=REQUEST),), "b": (acquire("b"),)})
    for scope in (ANN, NOBODY):
        for one, other in (
            ("record", "record"),
            ("record", "lookup"),
            ("create once", "lookup"),
            ("create once", "create once"),
        ):
            yield Scenario(
                f"{one}, {other}, {scope.user_id}",
                (),
                {"a": on_keys("a", scope)[one], "b": on_keys("b", scope)[other]},
            )
