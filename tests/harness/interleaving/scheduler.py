"""The scheduler: one step of one lane at a time, until every lane has ended.

A step lets one lane go on from its gate to its next one, or to the end of its call. Before the next step all is
settled: each lane stands at a gate, has ended, or waits for a lock that another one of ours has. Who decides the order
is a `choose`, which sees the lanes that can go on; everything else follows from that, except where the server chooses:
which of several waiters it wakes first, and whom it ends to break a deadlock.
"""

import marshal
import select
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from prompt_studio_model import operations as op
from prompt_studio_model.checking.history import Happened, Invoked, Lost, Returned
from prompt_studio_model.state import Job
from tests.harness.interleaving.gates import ANSWER, GO_ON, INSIDE, LOSE, LOST, WAITS
from tests.harness.interleaving.ground import PLACES, Ground
from tests.harness.interleaving.runs import CallEvent, Phase, Run, Snapshot, Step
from tests.harness.interleaving.scenario import Continue, CutOff, Kill, LoseAnswer, Mine, Move, Scenario, Stop, happens
from tests.harness.interleaving.session import Answer, Failed, Opened, in_a_word
from tests.harness.locations import Location
from tests.harness.processes import LIMIT_SECONDS, Pool, Trouble

CAN_GO_ON: Final = frozenset({"ready", "gate", "inside"})
PROBE_SECONDS: Final = 0.0003
"""How long to listen for a lane that is on its way, before asking the server whether it waits for a lock."""

STEPS_MAX: Final = 2_000
CUT_OFF: Final = "cut off"
KILL: Final = "kill "
RELEASES: Final = frozenset({"commit", "rollback"})


Choose = Callable[[int, str | None, Sequence[str]], str]
"""Given the number of the step, the lane of the last one, and the lanes that can go on: which goes on."""


@dataclass(slots=True)
class _Lane:
    name: str
    moves: list[Move]
    worker: int | None
    phase: Phase = "ready"
    statement: str = ""
    server_process: int = 0
    job_id: int | None = None
    call: int | None = None
    operation: str = ""
    job: Job | None = None
    processes: set[int] = field(default_factory=set)
    told_wait: bool = False
    was_cut_off: bool = False
    loses: bool = False
    stopped: bool = False
    may_be_cut_off: bool = False


class Scheduler:
    """A pool of workers on one ground. The workers are of the kind that the ground needs."""

    def __init__(self, pool: Pool[Any], ground: Ground) -> None:
        self._pool = pool
        self._ground = ground
        self._lives: dict[int, int] = {}
        self._opened: dict[int, Opened] = {}

    @property
    def location(self) -> str:
        """The name of the store."""
        return self.store.name

    @property
    def store(self) -> Location:
        """Where it plays."""
        return self._ground.location

    def run(
        self, scenario: Scenario, choose: Choose, *, look: bool = False, tell: Callable[[Step], None] | None = None
    ) -> Run:
        """Play one schedule. `look`: at everything after each step, which takes time; `tell`: of each step."""
        workers = self._workers(scenario)
        run = _Play(self._pool, self._ground, scenario, workers, self._opened, look=look).run(choose, tell)
        run.has_locks = any(self._opened[number].has_locks for number in workers.values())
        return run

    def forget(self, scenario: Scenario) -> None:
        """Drop what is kept of a scenario, which will not be played again."""
        self._ground.forget(scenario)

    def _workers(self, scenario: Scenario) -> dict[str, int]:
        chosen = dict(zip(scenario.sessions, self._pool.numbers, strict=False))
        if len(chosen) < len(scenario.sessions):
            raise ValueError(f"{scenario.name} needs {len(scenario.sessions)} workers, and there are fewer")
        for number in chosen.values():
            if self._lives.get(number) != self._pool.life(number):
                self._lives[number] = self._pool.life(number)
                self._opened[number] = open_at(self._pool, number, self._ground)
        return chosen


def open_at(pool: Pool[Any], number: int, ground: Ground) -> Opened:
    """Let a worker open the database."""
    pool.ask(number, ground.worker.open, ground.location, ground.address_of_sessions(), ground.time)
    opened: Opened = pool.answer(number)
    return opened


class _Play:
    """One schedule."""

    def __init__(  # noqa: PLR0913 - all that a schedule is played with
        self,
        pool: Pool[Any],
        ground: Ground,
        scenario: Scenario,
        workers: dict[str, int],
        opened: dict[int, Opened],
        *,
        look: bool,
    ) -> None:
        """`opened`: what each worker has open, by its number; it is kept up to date."""
        self._look = look
        self._pool = pool
        self._ground = ground
        self._opened = opened
        fated = {move.lane for moves in scenario.lanes.values() for move in moves if isinstance(move, Kill | CutOff)}
        self._lanes = {
            name: _Lane(
                name,
                list(moves),
                workers.get(name),
                processes=set(opened[workers[name]].server_processes) if name in workers else set(),
                may_be_cut_off=name in fated,
            )
            for name, moves in scenario.lanes.items()
        }
        self._run = Run(scenario, ground.begin(scenario))
        self._calls = 0
        self._told: list[tuple[str, str]] = []

    def run(self, choose: Choose, tell: Callable[[Step], None] | None) -> Run:
        current: str | None = None
        self._snap()
        while enabled := self._enabled():
            if len(self._run.steps) >= STEPS_MAX:
                raise Trouble(f"{self._run.scenario.name}: no end after {STEPS_MAX} steps")
            current = choose(len(self._run.steps), current, enabled)
            self._step(self._lanes[current], tuple(enabled))
            if tell is not None:
                tell(self._run.steps[-1])
            self._snap()
        stuck = [lane.name for lane in self._lanes.values() if lane.phase != "ended"]
        if stuck:
            raise Trouble(f"{self._run.scenario.name}: nobody can go on, and {', '.join(stuck)} did not end")
        self._run.after = self._ground.state()
        for lane in self._lanes.values():
            if lane.worker is not None:
                self._pool.ask(lane.worker, self._ground.worker.settle)
                self._run.kept[lane.name] = self._pool.answer(lane.worker)
        left, names = self._ground.left(), self._names
        self._run.leaked = frozenset((job_id, names.get(process, "?")) for job_id, process in left.locks)
        ours = {0: "?", **names}  # others use the server, too
        self._run.unfinished = frozenset(ours[process] for process in left.transactions if process in ours)
        for lane in self._lanes.values():
            # The next schedule must not see that anything was ever lost, or left.
            if lane.worker is not None and (lane.was_cut_off or self._run.unfinished):
                self._open(lane)
        return self._run

    def _open(self, lane: _Lane) -> None:
        number = self._number(lane)
        self._opened[number] = open_at(self._pool, number, self._ground)
        lane.processes = set(self._opened[number].server_processes)

    @property
    def _names(self) -> dict[int, str]:
        """The lane of each server process."""
        return {process: lane.name for lane in self._lanes.values() for process in lane.processes}

    def _enabled(self) -> list[str]:
        for lane in self._lanes.values():
            if lane.phase == "ready" and not lane.moves:
                lane.phase = "ended"
        enabled = [lane.name for lane in self._lanes.values() if lane.phase in CAN_GO_ON and self._may(lane)]
        if not enabled:  # everybody was told that the database is locked: whoever tries again finds out
            busy = [lane for lane in self._lanes.values() if lane.phase == "busy" and not lane.stopped]
            for lane in busy:
                lane.phase = "gate"
            enabled = [lane.name for lane in busy]
        return enabled

    def _may(self, lane: _Lane) -> bool:
        if lane.phase == "ready" and isinstance(lane.moves[0], Stop):
            return self._lanes[lane.moves[0].lane].phase != "blocked"
        return not lane.stopped

    def _seen(self, event: CallEvent) -> None:
        self._run.events.append(event)
        self._run.during.append(len(self._run.steps))

    def _snap(self) -> None:
        if self._look:
            names = self._names
            held = frozenset((job_id, names.get(process, "?"), how) for job_id, process, how in self._ground.held())
            self._run.snapshots.append(Snapshot(self._ground.state(), held))

    # One step

    def _step(self, lane: _Lane, enabled: tuple[str, ...]) -> None:
        waiting = [other for other in self._lanes.values() if other is not lane and other.phase == "blocked"]
        self._told = []
        step = self._taken(lane, enabled)
        woken = tuple((other.name, other.phase) for other in waiting if other.phase != "blocked")
        self._run.steps.append(replace(step, woken=woken, answers=tuple(sorted(self._told))))

    def _taken(self, lane: _Lane, enabled: tuple[str, ...]) -> Step:
        if lane.phase == "ready" and happens(lane.moves[0]):
            what = self._happen(lane.moves.pop(0))
            self._settle()
            return Step(lane.name, what, enabled, "done")
        if lane.phase == "ready" and not self._begin(lane):
            return Step(lane.name, "left out", enabled, "done")
        what, job_id, lane.told_wait = self._what(lane), lane.job_id, False
        if lane.phase == "inside":
            place = lane.statement
            lane.phase = "running"
            self._ground.let_go(lane.server_process, place)
        elif lane.phase == "gate":
            lane.phase = "running"
            loses = lane.loses and lane.statement != ANSWER
            if loses:
                what, lane.loses = f"{what}, whose answer is lost", False
            self._pool.ends(self._number(lane))[1].send_bytes(LOSE if loses else GO_ON)
        calls_before, call = lane.call, lane.operation
        self._settle()
        if what in RELEASES or lane.call != calls_before or lane.phase in {"ready", "ended"}:
            self._wake_busy(lane)
        return Step(lane.name, what, enabled, lane.phase, job_id, lane.server_process, call)

    def _begin(self, lane: _Lane) -> bool:
        """Begin the next call, up to its first statement; False if it is left out."""
        move = lane.moves.pop(0)
        if isinstance(move, Mine):
            if lane.job is None:
                return False
            move = move.invocation(lane.name, lane.job)
        assert isinstance(move, op.Invocation)
        self._calls += 1
        lane.call, lane.operation, lane.phase = self._calls, move.operation, "running"
        self._seen(Invoked(lane.call, lane.name, move))
        self._pool.ask(self._number(lane), self._ground.worker.perform, move, answer_waits=lane.may_be_cut_off)
        self._settle()
        return True

    def _happen(self, move: Move) -> str:
        if isinstance(move, op.Tick):
            self._ground.move_clock(move.milliseconds)
            self._seen(Happened(move))
            return f"tick {move.milliseconds}"
        if isinstance(move, Kill):
            self._kill(self._lanes[move.lane])
            return f"{KILL}{move.lane}"
        assert isinstance(move, CutOff | LoseAnswer | Stop | Continue)
        lane = self._lanes[move.lane]
        if isinstance(move, LoseAnswer):
            lane.loses = bool(lane.processes)
            return f"lose what {move.lane} is answered next" if lane.loses else f"{move.lane} has no session"
        if isinstance(move, Stop):
            lane.stopped = True
            self._pool.stop(self._number(lane))
            return f"stop {move.lane}"
        if isinstance(move, Continue):
            lane.stopped = False
            self._pool.resume(self._number(lane))
            return f"continue {move.lane}"
        if not lane.processes:
            return f"{move.lane} has no session"
        self._end_sessions(lane)
        if lane.phase in {"inside", "blocked"}:
            lane.phase = "running"
        return f"{CUT_OFF} {move.lane}"

    def _end_sessions(self, lane: _Lane) -> None:
        lane.was_cut_off = True
        self._ground.end_sessions(lane.processes)
        lane.processes.clear()
        self._seen(Happened(op.Crash(session=lane.name)))

    def _kill(self, lane: _Lane) -> None:
        number = self._number(lane)
        self._pool.kill(number)
        self._ground.end_sessions(lane.processes)
        self._pool.revive(number)
        self._open(lane)
        if lane.call is not None:
            self._seen(Lost(lane.call))
        self._seen(Happened(op.Crash(session=lane.name)))
        lane.phase, lane.call, lane.job, lane.stopped = "ready", None, None, False
        self._wake_busy(lane)

    def _wake_busy(self, but: _Lane) -> None:
        for lane in self._lanes.values():
            if lane.phase == "busy" and lane is not but:
                lane.phase = "gate"

    # Until all is settled

    def _settle(self) -> None:
        deadline = time.monotonic() + LIMIT_SECONDS
        for lane in self._lanes.values():
            if lane.phase == "blocked":
                lane.phase = "running"  # until the server says again that it waits
        while running := [lane for lane in self._lanes.values() if lane.phase == "running" and not lane.stopped]:
            if self._listen(running, PROBE_SECONDS if self._ground.waits_inside else LIMIT_SECONDS):
                continue
            if self._ground.waits_inside and self._mark_blocked(running):
                return
            if time.monotonic() > deadline:
                raise Trouble(f"{[lane.name for lane in running]} neither went on nor waited for one of ours")

    def _mark_blocked(self, running: list[_Lane]) -> bool:
        """Whether each lane that is on its way waits for one that is not."""
        ours = {lane.server_process: lane for lane in self._lanes.values() if lane.server_process}
        waits = self._ground.blockers(ours)
        if not all(waits.get(lane.server_process) for lane in running):
            return False
        if self._ground.tells_waits and not all(lane.told_wait for lane in running):
            return False  # the server would still look for a deadlock: then chance would say whom it ends
        if self._listen(running, 0) or _in_a_circle({lane.server_process for lane in running}, waits):
            return False  # somebody went on meanwhile; or the server will find the deadlock, and choose
        for lane in running:
            lane.phase = "blocked"
            self._run.waits += 1
        return True

    def _listen(self, lanes: list[_Lane], seconds: float) -> bool:
        """Hear what these lanes have to say; whether any of them had."""
        ends: dict[int, tuple[_Lane, bool]] = {}
        for lane in lanes:
            end, wire = self._pool.ends(self._number(lane))
            ends[end.fileno()], ends[wire.fileno()] = (lane, True), (lane, False)
        ready, _, _ = select.select(list(ends), [], [], seconds)
        for file in ready:
            lane, is_answer = ends[file]
            if is_answer:
                self._answered(lane)
            else:
                self._reached(lane)
        return bool(ready)

    def _answered(self, lane: _Lane) -> None:
        answer: Answer = self._pool.answer(self._number(lane))
        assert lane.call is not None
        unknown = isinstance(answer, Failed) and answer.unknown
        self._seen(Lost(lane.call) if unknown else Returned(lane.call, answer))
        self._told.append((lane.name, in_a_word(answer)))
        if isinstance(answer, Failed) and answer.unknown:
            self._run.unknown[lane.call] = answer
        if isinstance(answer, op.Row) and isinstance(self._invocation(lane.call), op.Acquire):
            lane.job = answer.job
        lane.call, lane.phase = None, "ready"

    def _reached(self, lane: _Lane) -> None:
        kind, name, server_process, job_id, busy = marshal.loads(  # noqa: S302 - our own worker's words
            self._pool.ends(self._number(lane))[1].recv_bytes()
        )
        if kind == WAITS:
            lane.told_wait = True
            return
        if kind == LOST:
            self._end_sessions(lane)
            self._pool.ends(self._number(lane))[1].send_bytes(GO_ON)
            return
        lane.server_process = server_process
        if server_process:
            lane.processes.add(server_process)
            self._ground.guard(server_process)
        lane.statement = name
        if kind == INSIDE:
            lane.phase = "inside"
            return
        lane.job_id = job_id
        lane.phase = "busy" if busy else "gate"

    def _invocation(self, number: int) -> op.Invocation:
        return next(
            event.invocation for event in self._run.events if isinstance(event, Invoked) and event.number == number
        )

    def _what(self, lane: _Lane) -> str:
        if lane.phase == "inside":
            return f"... {PLACES[lane.statement]}"
        return lane.statement if lane.phase == "gate" else "no statement"

    def _number(self, lane: _Lane) -> int:
        if lane.worker is None:
            raise Trouble(f"the lane {lane.name} has no process")
        return lane.worker


def _in_a_circle(waiting: set[int], waits: dict[int, set[int]]) -> bool:
    """Whether some of those who wait wait only for each other."""
    left = set(waiting)
    while freed := {one for one in left if not waits[one] & left}:
        left -= freed
    return bool(left)


def deviations(points: Sequence[tuple[int, int]]) -> Choose:
    """Go on with the lane of the last step while it can go on, then with the first that can; but deviate.

    `points`: at which step to switch to which of the others, counted round. One that is out of range does no harm.
    """
    wanted = dict(points)

    def choose(step: int, current: str | None, enabled: Sequence[str]) -> str:
        first = current if current in enabled else enabled[0]
        assert first is not None
        if step in wanted:
            return enabled[(enabled.index(first) + wanted[step]) % len(enabled)]
        return first

    return choose


def follow(choices: Sequence[str]) -> Choose:
    """The lanes in this order; then the default."""
    default = deviations(())

    def choose(step: int, current: str | None, enabled: Sequence[str]) -> str:
        if step < len(choices) and choices[step] in enabled:
            return choices[step]
        return default(step, current, enabled)

    return choose
