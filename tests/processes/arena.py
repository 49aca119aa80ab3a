"""A race's place: an empty database, a pool of processes that have it open, an umpire, and the judgement at the end."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Concatenate, Final, ParamSpec, Protocol, TypeVar

from tests.harness.evidence import Evidence, Finding, Holding, Remains, Sort
from tests.harness.history import Asked, History, Seen, Told
from tests.harness.judged_claims import weighed
from tests.harness.judgement import judge
from tests.harness.locations import Location, lock_counts
from tests.harness.processes import LIMIT_SECONDS, Pool, Trouble
from tests.harness.processes_layer import RaceResult
from tests.harness.recorder import RecordedDatabase, Recorder
from tests.processes.participant import Participant, Setting
from tests.processes.sessions import sessions_of

START: Final = 1_700_000_000_000
"""Where the shared clock begins, in milliseconds since 1970."""

SORTS: Final[dict[str, Sort]] = {"INV-SINGLE-HOLDER": "double", "INV-NONE-IS-EMPTY": "stuck"}
"""What races notice themselves; the rest is only wrong."""

WANTED: Final[dict[str, tuple[str, ...]]] = {
    "drain": ("judged",),
    "storm": ("kills", "stops", "pending", "refused", "judged"),
    "zombie": ("stops", "refused"),
    "reclaim": ("refused",),
    "locked job": ("lock_refusals",),
}
"""What a race is about, by its name: numbers of its result that may not be 0, since then it has tried nothing."""

UMPIRE: Final = "umpire"
LONGER_THAN_ANY_PAUSE: Final = 700_000
DRAINS_MAX: Final = 20
JOBS: Final = 300
"""How many jobs are drained at once, unless a test says otherwise."""

Answer = TypeVar("Answer")
Parameters = ParamSpec("Parameters")


@dataclass(slots=True)
class Faults:
    """What a nemesis did."""

    kills: int = 0
    stops: int = 0
    cut_off: int = 0  # kills in the middle of a call


class Race(Protocol):
    """What happens in an arena."""

    __name__: str

    def __call__(self, arena: "Arena", rounds: int, /) -> str:
        """Bring processes together so many times, and say what else is worth knowing about how it went."""


def name_of(race: Race) -> str:
    """A race's name in tables."""
    return race.__name__.replace("_", " ")


class Arena:
    """One race. The umpire is this process: it makes jobs, moves the clock, and has its calls recorded like anybody."""

    def __init__(
        self, pool: Pool[Participant], location: Location, directory: Path, *, seed: str, real_time: bool = False
    ) -> None:
        address = location.fresh(directory)
        clock = location.share_time(address, directory)
        self.pool = pool
        self.clock = clock
        self.faults = Faults()
        self.findings: list[Finding] = []
        self.setting = Setting(location, address, None if real_time else clock, directory, seed)
        self._recorder = Recorder(directory, UMPIRE)
        if not real_time:
            self.tick_to(START)
        self.umpire = RecordedDatabase(location.open(address, self.setting.time), self._recorder)
        capabilities = self.umpire.database.capabilities
        self._holding = Holding(rows=not capabilities.one_writer, locks=capabilities.advisory_locks)
        self._entities = 0
        self._began = time.monotonic()
        self.jobs = JOBS

    # What umpires do

    def tick_to(self, milliseconds: int) -> None:
        """Move the shared clock."""
        self._recorder.asked(Asked("tick", moment=milliseconds))
        self.clock.set_time(milliseconds)
        self._recorder.told(Told("ticked"))

    def tick(self, milliseconds: int) -> None:
        """Move the shared clock on."""
        self.tick_to(self.clock.now_milliseconds() + milliseconds)

    def create(self, *, priority: int = 5, max_retries: int = 3) -> Seen:
        """Make a job."""
        self._entities += 1
        job = self.umpire.create(self._entities, priority=priority, max_retries=max_retries).job
        assert job is not None, "the umpire could not make a job"
        return job

    def ask(
        self,
        number: int,
        work: Callable[Concatenate[Participant, Parameters], Answer],
        *arguments: Parameters.args,
        **named: Parameters.kwargs,
    ) -> Answer:
        """One worker's answer."""
        self.pool.ask(number, work, *arguments, **named)
        answer: Answer = self.pool.answer(number)
        return answer

    def together(
        self,
        work: Callable[Concatenate[Participant, Parameters], Answer],
        *arguments: Parameters.args,
        **named: Parameters.kwargs,
    ) -> list[Answer]:
        """The answers of all workers to work that they and the umpire, who comes last, begin at one moment."""
        self.begin(work, *arguments, **named)
        return [self.pool.answer(number) for number in self.pool.numbers]

    def begin(
        self,
        work: Callable[Concatenate[Participant, Parameters], object],
        *arguments: Parameters.args,
        **named: Parameters.kwargs,
    ) -> None:
        """Let all workers begin at one moment, which is when this returns; their answers are to be asked for."""
        for number in self.pool.numbers:
            self.pool.ask(number, work, *arguments, **named)
        self.pool.begin_together()

    def bury(self, process: str) -> None:
        """Wait until the server has nothing left of a process that was killed, and note it: it holds nothing any more.

        Raises:
            Trouble: it does not end.
        """
        noted = sessions_of(self.setting.directory, process)
        deadline = time.monotonic() + LIMIT_SECONDS
        while noted & self.setting.location.sessions(self.setting.address):
            if time.monotonic() > deadline:
                raise Trouble(f"{process} was killed, and after {LIMIT_SECONDS:g} s the server still has its sessions")
        self._recorder.asked(Asked("gone", process=process))
        self._recorder.told(Told("gone"))

    def found(self, name: str, sentence: str) -> None:
        """Note what the race itself has seen to be wrong."""
        self.findings.append(Finding((name,), SORTS.get(name, "wrong"), sentence))

    @property
    def has_locks(self) -> bool:
        """Whether claims take advisory locks here."""
        return self._holding.locks

    def locked(self, job_id: int) -> bool:
        """Whether somebody has the job's advisory lock, says the server."""
        return job_id in self.setting.location.locked(self.setting.address)

    def finish(self) -> None:
        """Let the workers take what there is, under a clock that goes on, until every job has ended, or none does."""
        for _ in range(DRAINS_MAX):
            self.pool.all(Participant.let_go)
            self.tick(LONGER_THAN_ANY_PAUSE)
            self.pool.all(Participant.finish)
            if not self.umpire.database.count_jobs(status="queued") + self.umpire.database.count_jobs(
                status="processing"
            ):
                return

    # The end

    def hold(self, race: Race, rounds: int) -> RaceResult:
        """Hold a race that drains what it made, and judge it.

        A store that breaks its promises may break the race, too: what happened until then is judged all the same.

        Raises:
            AssertionError: the race broke, and nothing that happened until then proves that the store is to blame;
                or it came to its end, and what it is about never took place.
        """
        name = name_of(race)
        try:
            self.pool.all(Participant.enter, self.setting)
            note = race(self, rounds)
        except AssertionError as trouble:
            self.pool.restore()
            result = self.judged(name, rounds, drained=False)
            if not self.findings:
                raise
            result.note = f"cut short: {trouble}".splitlines()[0]
            return result
        result = self.judged(name, rounds, drained=True)
        result.note = note
        never = [what for what in WANTED.get(name, ()) if not getattr(result, what) and self._can_be(what)]
        if never and not self.findings:
            raise Trouble(f"{', '.join(never)}: nothing of it happened, and what never happened proves nothing")
        return result

    def _can_be(self, what: str) -> bool:
        return self.has_locks or what != "lock_refusals"

    def history(self) -> History:
        """What was recorded so far."""
        return History.read(self.setting.directory)

    def judged(self, race: str, rounds: int, *, drained: bool) -> RaceResult:
        """What the race came to; what was found is in `findings` from now on."""
        seconds = time.monotonic() - self._began
        gate = [*self.pool.all(Participant.at_the_gate), lock_counts(self.umpire.database)]
        denied = sum(counts.unlock_errors for counts in gate)
        if denied:
            self.found("INV-LOCKS-MATCH", f"the server denied {denied} times that we had a lock to give back")
        tables = self.setting.location.tables(self.setting.address)
        remains = Remains.of(tables.jobs, tables.keys, locks_left=tables.locks_left, drained=drained)
        history = self.history()
        self.findings += judge(history, remains, self._holding)
        evidence = Evidence(history, remains, self._holding)
        claims = weighed(evidence)
        sorts = Counter(finding.sort for finding in self.findings)
        return RaceResult(
            race,
            self.setting.location.name,
            rounds,
            calls=len(history),
            double=sorts["double"],
            lost=sorts["lost"],
            stuck=sorts["stuck"],
            wrong=sorts["wrong"],
            locks_left=remains.locks_left,
            seconds=seconds,
            kills=self.faults.kills,
            stops=self.faults.stops,
            pending=sum(call.pending for call in history.calls),
            refused=len(evidence.refused),
            judged=claims.judged,
            excused=claims.excused,
            lock_refusals=sum(counts.refused for counts in gate),
            conflicts=sum(call.told is not None and call.told.kind == "conflict" for call in history.calls),
        )

    def close(self) -> None:
        """Leave nothing behind, and the pool as it was found."""
        self.pool.restore()
        self.pool.all(Participant.leave)
        self.umpire.database.close()
        self._recorder.close()
        self.clock.close()
        self.setting.location.dispose(self.setting.address)
