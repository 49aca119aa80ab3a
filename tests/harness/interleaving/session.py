"""What one worker process of a schedule does: it makes the calls that it is given, on a session of its own."""

import logging
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, NamedTuple, Protocol, cast

from prompt_studio_model import operations as op
from tests.harness.adapter import Adapter, Database, DatabaseTrouble, RefusedByDatabase, Seen, VirtualClock
from tests.harness.interleaving.gates import ANSWER, Gate
from tests.harness.locations import Location
from tests.harness.processes import Seat
from tests.harness.shared_time import SharedTime

GATED: Final = "options=-c%20prompt_studio_test.gated%3Don%20-c%20plan_cache_mode%3Dforce_generic_plan"
"""What a session adds to the address of its database, so that its statements wait inside, too; and so that a statement
has one plan from its first time on: where it reads the clock depends on the plan, and a schedule must stay the same."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A call that ended with an error of the database's. `unknown`: it may have been carried out all the same."""

    error: str
    message: str
    unknown: bool = False
    invariant: str | None = None


@dataclass(frozen=True, slots=True)
class Told:
    """What a program returned."""

    value: Hashable


Answer = op.Response | Failed | Told


def in_a_word(answer: Answer) -> str:
    """What kind of answer it is: what of it is the same in every database, and in a store that answers as before."""
    match answer:
        case Failed(error=error):
            return error
        case op.Outcome(kind=kind, late=late):
            return f"{kind}{', late' if late else ''}"
        case op.Row(job=None) | op.Nothing():
            return "nothing"
        case op.Row(job=job):
            return "a job again" if job is not None and job.lease_token > 1 else "a job"
        case op.Made(created=created):
            return "made" if created else "made before"
        case op.Recorded(created=created):
            return "recorded" if created else "known"
    return type(answer).__name__


@dataclass(frozen=True, slots=True)
class Kept:
    """What a session has when all is quiet.

    Attributes:
        locks: the locks that it believes to have, as job and token.
        running: which of them the server says it has, as often as it had to give them back.
        unlock_errors: how often it was told that it did not have one that it gave back.
    """

    locks: tuple[tuple[int, int], ...] = ()
    running: tuple[int, ...] = ()
    unlock_errors: int = 0


_UNLOCK: Final = "SELECT pg_advisory_unlock(CAST(%(job_id)s AS BIGINT)) AS unlocked"
"""Not the store's own: one that does not unlock must not stop the schedules that come after it."""


class SameIds(Adapter):
    """A store as the model sees it, where the n-th job of a database has the id n in both."""

    def __init__(self, deployment: "OneSession") -> None:
        super().__init__(deployment)

    def real_id(self, job_id: int) -> int:
        """The same."""
        return job_id

    def _model_id(self, real: int) -> int:
        return real

    def _owner(self, real: str | None, number: int, token: int) -> str | None:
        del number, token
        return real  # every call of a scenario gives its own


class Dice:
    """The spread of a back-off, as the call has it that is being made."""

    def __init__(self) -> None:
        self.spread: Callable[[], int] = lambda: 1_000

    def __call__(self) -> int:
        return self.spread()


class OneSession:
    """The deployment of a process that has the database open once. Its tables are others' to read."""

    def __init__(self, database: Database, dice: "Dice | None" = None) -> None:
        self.database = database
        self._dice = dice

    def open_session(self, clock: VirtualClock, spread: Callable[[], int]) -> Database:
        """The database that is open; its clock is the schedule's, and its dice the call's."""
        del clock
        if self._dice is not None:
            self._dice.spread = spread
        return self.database

    def crash_session(self, database: Database) -> bool:
        """A process does not crash itself."""
        raise NotImplementedError

    def close(self, databases: list[Database]) -> None:
        """Nothing is opened here."""

    def set_time(self, milliseconds: int) -> None:
        """The schedule moves the clock."""

    def seen(self, databases: Mapping[str, Database]) -> Seen:
        """None of its business."""
        del databases
        return Seen([], [], {})


class Opened(NamedTuple):
    """A database that a worker has opened.

    Attributes:
        has_locks: whether what is called there takes advisory locks that outlive a call.
        server_processes: which serve it there, as far as there is a server.
    """

    has_locks: bool = False
    server_processes: frozenset[int] = frozenset()


class Worker(Protocol):
    """What the scheduler needs of a worker process, whatever its calls are."""

    def open(self, location: Location, address: str, time: SharedTime) -> Opened:
        """Open the database."""

    def perform(self, invocation: Any, *, answer_waits: bool = False) -> Answer:  # noqa: ANN401 - of its own kind
        """Make a call, whose statements wait at the gate; and so does its answer, if it is to."""

    def settle(self) -> Kept:
        """Give back what a call left, and say what it was."""


class SessionWorker:
    """One life of a worker process."""

    gated: ClassVar = True
    """Whether what it sends waits at the gate."""

    def __init__(self, seat: Seat) -> None:
        self._gate = Gate(seat.wire)
        if self.gated:
            self._gate.install()
        self._dice = Dice()
        logging.getLogger("prompt_studio").addHandler(logging.NullHandler())  # what it warns of is done on purpose here
        self._database: Database | None = None
        self._adapter: SameIds | None = None

    def open(self, location: Location, address: str, time: SharedTime) -> Opened:
        """Open the database, and let every connection that a call will need be made."""
        self.leave()
        self._gate.server_processes.clear()
        self._database = location.open(address, time, jitter=self._dice)
        self._database.get_job(1)
        self._kept()
        self.forget()
        return Opened(
            has_locks=bool(self._database.capabilities.advisory_locks),
            server_processes=frozenset(self._gate.server_processes),
        )

    def leave(self) -> None:
        """Close what is open."""
        if self._database is not None:
            self._database.close()
        self._database = self._adapter = None

    def forget(self) -> None:
        """A new schedule begins: names that were made up in the last one mean nothing any more."""
        assert self._database is not None
        self._adapter = SameIds(OneSession(self._database, self._dice))

    def perform(self, invocation: op.Invocation, *, answer_waits: bool = False) -> Answer:
        """Make a call, whose statements wait at the gate.

        `answer_waits`: and so does the answer. A process that is killed there has done all that it was asked for.
        """
        with self._gate.closed():
            answer = self._performed(invocation)
            if answer_waits:
                self._gate.reach(ANSWER)
        return answer

    def _performed(self, invocation: op.Invocation) -> Answer:
        assert self._adapter is not None
        try:
            return self._adapter.perform(invocation)
        except RefusedByDatabase as error:
            return Failed("InvariantViolation", str(error), invariant=error.invariant)
        except DatabaseTrouble as error:
            return Failed(type(error).__name__, str(error), unknown=getattr(error, "outcome_unknown", False))

    def settle(self) -> Kept:
        """Give back every lock, and say which there were. The next schedule begins with none."""
        kept = self._kept()
        self.forget()
        return kept

    def _kept(self) -> Kept:
        assert self._database is not None
        claims: Any = cast("Any", self._database)._store._claims
        if not self._database.capabilities.advisory_locks:
            return Kept()
        memory = claims.memory()
        locks = tuple(sorted(memory.held.items()))
        running = tuple(
            row["job_id"]
            for row in claims._worker.run(claims.dialect.statements["own_locks"])
            for _ in _until_none_is_left(claims, row["job_id"])
        )
        memory.held.clear()
        claims.refusals.clear()
        errors, claims.counts.unlock_errors = claims.counts.unlock_errors, 0
        return Kept(locks, running, errors)


def _until_none_is_left(claims: Any, job_id: int) -> list[int]:  # noqa: ANN401 - the store's own
    """Unlock until the server says that there is nothing to unlock: a lock may have been taken more than once."""
    own = type(claims.dialect.statements["unlock_job"])("unlock_what_is_left", _UNLOCK)
    times = []
    while claims._worker.run(own, {"job_id": job_id})[0]["unlocked"]:
        times.append(job_id)
    return times
