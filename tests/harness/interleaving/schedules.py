"""A schedule as a file, and played again from it: as it was, or up to the first step that is another one."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from prompt_studio_model import operations as op
from prompt_studio_model.state import Scope
from tests.harness.interleaving.runs import Run, Step
from tests.harness.interleaving.scenario import Call, Continue, CutOff, Kill, LoseAnswer, Mine, Move, Scenario, Stop
from tests.harness.interleaving.scheduler import Choose, Scheduler, deviations, follow
from tests.harness.processes import Trouble

VERSION: Final = 2


@dataclass(frozen=True, slots=True)
class Schedule:
    """What is needed to play a schedule again, and to notice that it has become another one.

    Attributes:
        store: the name of the location where it was played.
        scenario: what was played.
        choices: the lane of each step.
        steps: what the lanes did then, as it can be compared: without the numbers of server processes.
        names: the promises that it broke.
    """

    store: str
    scenario: Scenario
    choices: tuple[str, ...]
    steps: tuple[dict[str, Any], ...]
    names: tuple[str, ...] = ()

    @classmethod
    def of(cls, run: Run, store: str, names: Iterable[str] = ()) -> "Schedule":
        """The schedule of a run."""
        return cls(store, run.scenario, tuple(run.choices), tuple(map(_comparable, run.steps)), tuple(names))

    def write(self, path: Path) -> None:
        """Write the file."""
        told = {field.name: getattr(self, field.name) for field in fields(self)}
        written = {"version": VERSION, **told, "scenario": scenario_as_json(self.scenario)}
        path.write_text(json.dumps(written, indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> "Schedule":
        """Read a file.

        Raises:
            ValueError: it is no schedule, or one of another version.
        """
        told = json.loads(path.read_text())
        if not isinstance(told, dict) or told.get("version") != VERSION:
            raise ValueError(f"{path} is no schedule of version {VERSION}: play it with the program that wrote it")
        steps, names = tuple(told["steps"]), tuple(told["names"])
        scenario = scenario_from_json(told["scenario"], told["store"])
        return cls(told["store"], scenario, tuple(told["choices"]), steps, names)


def scenario_as_json(scenario: Scenario) -> dict[str, Any]:
    """A scenario as plain data. Programs are code: what is written is their name, and the module that has them."""
    programs = {call.program.__module__ for call in _calls_of(scenario)}
    if programs:
        (module,) = programs
        return {"name": scenario.name, "programs": module}
    lanes = {name: [_move_as_json(move) for move in moves] for name, moves in scenario.lanes.items()}
    return {"name": scenario.name, "setup": [_move_as_json(call) for call in scenario.setup], "lanes": lanes}


def _calls_of(scenario: Scenario) -> Iterator[Call]:
    return (move for moves in scenario.lanes.values() for move in moves if isinstance(move, Call))


def scenario_from_json(told: dict[str, Any], store: str = "") -> Scenario:
    """The scenario that this plain data was made of.

    `store`: where it was played, as programs of one name may be others there. Their module has them in `PROGRAMS`.

    Raises:
        ValueError: the module has no such programs any more.
    """
    if "programs" in told:
        known: Mapping[tuple[str, str], Scenario] = import_module(told["programs"]).PROGRAMS
        if (store, told["name"]) not in known:
            raise ValueError(f"{told['programs']} has no programs {told['name']!r} for {store} any more")
        return known[store, told["name"]]
    lanes = {name: tuple(_move_from_json(move) for move in moves) for name, moves in told["lanes"].items()}
    return Scenario(told["name"], tuple(_move_from_json(call) for call in told["setup"]), lanes)


_OURS: Final = (Mine, Kill, CutOff, LoseAnswer, Stop, Continue)
MOVES: Final[dict[str, type[Any]]] = {
    kind.__name__: kind
    for kind in (*_OURS, *vars(op).values())
    if isinstance(kind, type) and (kind in _OURS or issubclass(kind, op.Invocation))
}


def _move_as_json(move: Move) -> dict[str, Any]:
    told = {field.name: getattr(move, field.name) for field in fields(move)}
    if isinstance(move, Mine):
        told["call"] = move.call.__name__
    return {"move": type(move).__name__, **{name: _value_as_json(value) for name, value in told.items()}}


def _move_from_json(told: dict[str, Any]) -> Any:  # noqa: ANN401 - any kind of move
    values = {name: _value_from_json(value) for name, value in told.items() if name != "move"}
    if told["move"] == "Mine":
        values["call"] = MOVES[values["call"]]
    return MOVES[told["move"]](**values)


def _value_as_json(value: object) -> object:
    if isinstance(value, Scope):
        return {"scope": list(value)}
    return {"set": sorted(value)} if isinstance(value, frozenset) else value


def _value_from_json(value: Any) -> Any:  # noqa: ANN401 - any argument of a call
    match value:
        case {"scope": parts}:
            return Scope(*parts)
        case {"set": items}:
            return frozenset(items)
    return tuple(value) if isinstance(value, list) else value


CHOICES_OF_A_SERVER: Final = 30
"""So often a schedule is tried on which a server has to choose as it did before: who goes on first of several."""


class DivergedError(AssertionError):
    """A schedule is not the one that it was: the store has changed, or it has seen something that is not scheduled.

    `by_server`: all that is another one is who went on first of those that a step has woken.
    """

    def __init__(self, number: int, was: object, is_now: object, *, by_server: bool = False) -> None:
        super().__init__(f"step {number} was {was}, and is {is_now}")
        self.number = number
        self.by_server = by_server


def replay(scheduler: Scheduler, scenario: Scenario, schedule: Schedule) -> Run:
    """Play a schedule again, and again if all that is another one is which of several waiters a server let go on.

    Raises:
        DivergedError: it was another one, from this step on.
    """
    for _ in range(CHOICES_OF_A_SERVER - 1):
        try:
            return _replayed(scheduler, scenario, schedule)
        except DivergedError as diverged:
            if not diverged.by_server:
                raise
    return _replayed(scheduler, scenario, schedule)


def _replayed(scheduler: Scheduler, scenario: Scenario, schedule: Schedule) -> Run:
    seen: list[dict[str, Any]] = []
    try:
        run = scheduler.run(scenario, follow(schedule.choices), tell=lambda step: seen.append(_comparable(step)))
    except Trouble as trouble:  # whatever came of it, it came after the first step that was another one
        for diverged in _divergences(schedule.steps, seen):
            raise diverged from trouble
        raise
    for diverged in _divergences(schedule.steps, seen):
        raise diverged
    if len(seen) != len(schedule.steps):
        raise DivergedError(min(len(seen), len(schedule.steps)), f"{len(schedule.steps)} steps", f"{len(seen)} steps")
    return run


def _divergences(steps: Sequence[Any], seen: Sequence[Any]) -> Iterator[DivergedError]:
    for number, (was, is_now) in enumerate(zip(steps, seen, strict=False)):
        if was != is_now:
            yield DivergedError(number, was, is_now, by_server=_is_by_server(was, is_now))


def require_branch(run: Run, prefix: Sequence[str], was: Sequence[Step]) -> None:
    """Require that a run begins with these choices, and that all but the last did what they did in the run before.

    Raises:
        DivergedError: it took another branch, from this step on.
    """
    for number, (lane, before) in enumerate(zip(prefix, was, strict=False)):
        if number >= len(run.steps) or run.steps[number].lane != lane:
            raise DivergedError(number, f"{lane}'s", run.steps[number] if number < len(run.steps) else "not there")
        step = run.steps[number]
        if step.enabled != before.enabled:
            raise DivergedError(number, before.enabled, step.enabled)
        if number < len(prefix) - 1 and step != before:
            raise DivergedError(number, before, step, by_server=_is_by_server(_comparable(before), _comparable(step)))


def _is_by_server(was: Mapping[str, Any], is_now: Mapping[str, Any]) -> bool:
    """Whether all that is another one is who went on of those that a step has woken, and what they were told."""
    return len(is_now["woken"]) > 0 and _but_for_the_woken(was) == _but_for_the_woken(is_now)


def _but_for_the_woken(told: Mapping[str, Any]) -> dict[str, Any]:
    own = [answer for answer in told["answers"] if answer[0] == told["lane"]]
    return {**told, "woken": [], "answers": own}


def _comparable(step: Step) -> dict[str, Any]:
    told = asdict(step)
    del told["server_process"]
    listed = {name: [list(pair) for pair in told[name]] for name in ("woken", "answers")}
    return {**told, **listed, "enabled": list(step.enabled)}


def deviations_of(run: Run) -> list[tuple[int, str]]:
    """The steps at which a run did not go on by itself, and the lane that did instead."""
    default = deviations(())
    found, current = [], None
    for number, step in enumerate(run.steps):
        if default(number, current, step.enabled) != step.lane:
            found.append((number, step.lane))
        current = step.lane
    return found


def deviating(points: Sequence[tuple[int, str]]) -> Choose:
    """Go on by itself, but for these steps, at which this lane does if it can."""
    wanted, default = dict(points), deviations(())

    def choose(step: int, current: str | None, enabled: Sequence[str]) -> str:
        lane = wanted.get(step)
        return lane if lane in enabled and lane is not None else default(step, current, enabled)

    return choose


def preemptions(run: Run) -> int:
    """How often a lane was left that could have gone on."""
    return sum(
        before.lane != step.lane and before.lane in step.enabled
        for before, step in zip(run.steps, run.steps[1:], strict=False)
    )
