"""What is to be interleaved, as data: calls in lanes. It deliberately says nothing of their order between lanes."""

import json
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from typing import Any, Final

from prompt_studio_model import operations as op
from prompt_studio_model.state import Job, Scope


@dataclass(frozen=True, slots=True)
class Mine:
    """A call on the job that the same lane acquired last; left out if it got none.

    Attributes:
        call: what is done with it.
        more: the call's other arguments.
    """

    call: type[op.JobCall]
    more: dict[str, Any] = field(default_factory=dict)

    def invocation(self, session: str, job: Job) -> op.JobCall:
        """The call, with the job's id and token."""
        return self.call(session=session, job_id=job.id, token=job.lease_token, **self.more)


@dataclass(frozen=True, slots=True)
class Kill:
    """The lane's process is killed wherever it is; what is left of the lane is done by another one."""

    lane: str


@dataclass(frozen=True, slots=True)
class CutOff:
    """The server ends the lane's sessions, whatever they are doing."""

    lane: str


@dataclass(frozen=True, slots=True)
class LoseAnswer:
    """The server does what the lane's next statement asks, and the lane is not told: its sessions are ended instead.

    So it is not known of a commit whether it was done. Where there is no server nothing can be lost.
    """

    lane: str


@dataclass(frozen=True, slots=True)
class Stop:
    """The lane's process is stopped at its gate, until it is continued.

    Not while its statement waits for a lock: the server would go on without the process, and nobody would know how far.
    """

    lane: str


@dataclass(frozen=True, slots=True)
class Continue:
    """The lane's process, which was stopped, goes on. What it knew is old by now."""

    lane: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(op.Invocation):
    """A whole program on the lane's own connection, where the database has plain tables and no queue.

    Attributes:
        program: a function of a module. It is given the connection.
        arguments: what else it is given.
        connects: it is given the database's address instead, and connects by itself.
    """

    program: Callable[..., Hashable]
    arguments: tuple[Hashable, ...] = ()
    connects: bool = False

    @property
    def operation(self) -> str:
        """The program's name."""
        return self.program.__name__


Move = op.Invocation | Mine | Kill | CutOff | LoseAnswer | Stop | Continue
"""One move of a lane: a call of its session, or something that happens to the world (a tick, a kill, a stop)."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """Some lanes on a database that was brought into some state, one call after another.

    Attributes:
        name: for people, and in files.
        setup: the calls that bring the database there.
        lanes: the moves of each lane, in its order. Each lane with a call has a process and a session of its own.
    """

    name: str
    setup: tuple[op.Invocation, ...]
    lanes: dict[str, tuple[Move, ...]]

    def __post_init__(self) -> None:
        for moves in self.lanes.values():
            stopped: list[str] = []
            for move in moves:
                if isinstance(move, Stop):
                    stopped.append(move.lane)
                elif isinstance(move, Continue):
                    if move.lane not in stopped:
                        raise ValueError(f"{self.name}: {move.lane} is continued and was not stopped")
                    stopped.remove(move.lane)
            if stopped:
                raise ValueError(f"{self.name}: {stopped[0]} is stopped and never continued by the same lane")

    @property
    def sessions(self) -> list[str]:
        """The lanes that need a process."""
        return [name for name, moves in self.lanes.items() if any(not happens(move) for move in moves)]


RESULT: Final = "result"
ERROR: Final = "error"
WRITTEN: Final[dict[tuple[type, object], str]] = {
    (op.Complete, None): RESULT,
    (op.Fail, None): ERROR,
    (op.Retry, None): ERROR,
    (op.Cancel, None): ERROR,
    (op.UpdateStatus, "completed"): RESULT,
    (op.UpdateStatus, "failed"): ERROR,
    (op.UpdateStatus, "cancelled"): ERROR,
}
"""What a call leaves in the row besides its state, by the call and the status that it names."""


def signed(scenario: Scenario) -> Scenario:
    """The same, in which each call leaves its lane's name in what it writes: whose it is can be told afterwards."""
    lanes = {name: tuple(_signed(move, name) for move in moves) for name, moves in scenario.lanes.items()}
    return replace(scenario, lanes=lanes)


def _signed(move: Move, lane: str) -> Move:
    call = move.call if isinstance(move, Mine) else type(move)
    status = move.more.get("status") if isinstance(move, Mine) else getattr(move, "status", None)
    written = WRITTEN.get((call, status))
    if written is None:
        return move
    value = json.dumps(lane) if written == RESULT else lane
    if isinstance(move, Mine):
        return replace(move, more={**move.more, written: value})
    assert isinstance(move, op.Complete | op.Fail | op.Retry | op.Cancel | op.UpdateStatus)
    changes: dict[str, Any] = {written: value}
    return replace(move, **changes)


def happens(move: Move) -> bool:
    """Whether a move happens to the world, and is no call."""
    return isinstance(move, (op.Tick, Kill, CutOff, LoseAnswer, Stop, Continue))


KEY = Scope("prompt", "key", "ann")
