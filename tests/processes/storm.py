"""The crash storm: workers take and end jobs, and a nemesis kills them at random, or stops them past their leases.

What the nemesis does is drawn from the race's seed; when it strikes depends on the machine, and that is the point.
"""

import random
import time
from typing import Final

from tests.harness.evidence import WITH_TOKEN
from tests.harness.history import SUFFIX, Call, calls_of
from tests.harness.processes import LIMIT_SECONDS, Trouble
from tests.processes.arena import Arena, Race
from tests.processes.participant import LEASE_SECONDS_MAX, Participant, name_of
from tests.processes.races import RACES

JOBS: Final = 20
STEPS: Final = 4
"""How much a worker does between two answers: little, so that it is soon seen to live."""

SECOND: Final = 1_000
TICK_MAX: Final = 800
STOPS_IN_TEN: Final = 4
MORE_FAULTS_MAX: Final = 50
"""How many faults more than were asked for are tried for the sake of one that hits somebody in a call."""

ANSWERS_BETWEEN_FAULTS: Final = (1, 5)
DELAY_MAX_NANOSECONDS: Final = 3_000_000
ANSWERS_WHILE_STOPPED: Final = 9
STOPS_MAX: Final = 12
"""How often somebody is stopped and continued at once in the search for one whose stop can hurt."""

BLOCKED_SECONDS: Final = 0.25
"""If nobody answers for so long the stopped one has what all need, as has a writer of a database with one writer."""


def storm(arena: Arena, rounds: int) -> str:
    """As many faults as rounds, and more until each sort has hit somebody.

    In the end everything is drained, and no job may be lost, stuck or done twice.
    """
    nemesis = Nemesis(arena)
    for _ in range(JOBS):
        arena.create(priority=nemesis.dice.randint(4, 6), max_retries=nemesis.dice.randint(2, 8))
    for number in arena.pool.numbers:
        arena.pool.ask(number, Participant.storm, STEPS)
    faults = arena.faults
    for turn in range(rounds + MORE_FAULTS_MAX):
        if turn >= rounds and faults.cut_off and faults.stops:
            break
        for _ in range(nemesis.dice.randint(*ANSWERS_BETWEEN_FAULTS)):
            if not nemesis.go_on():
                raise Trouble(f"no worker gave an answer within {LIMIT_SECONDS:g} s, and none was stopped")
            nemesis.create()
        nemesis.strike()
    nemesis.rest()
    arena.finish()
    return f"{faults.kills} killed, {faults.stops} stopped past the lease"


ALL_RACES: Final[tuple[Race, ...]] = (*RACES, storm)


class Nemesis:
    """What goes wrong. Everybody but a stopped worker always has something to do."""

    def __init__(self, arena: Arena) -> None:
        self.dice = random.Random(arena.setting.seed)  # noqa: S311 - they decide nothing secret, and must be thrown again
        self._arena = arena
        self._pool = arena.pool

    def go_on(self, limit_seconds: float = LIMIT_SECONDS) -> bool:
        """Wait for one answer, move the clock, ask again. False if no answer came in time."""
        ready = self._pool.next_answer(limit_seconds)
        if ready is None:
            return False
        self._arena.tick(self.dice.randint(0, TICK_MAX))
        self._pool.ask(ready[0], Participant.storm, STEPS)
        return True

    def create(self) -> None:
        """Make a job, and perhaps cancel it. Not while a worker is stopped that may have what all need, us included."""
        job = self._arena.create(priority=self.dice.randint(4, 6), max_retries=self.dice.randint(0, 6))
        if self.dice.random() < 1 / 10:
            self._arena.umpire.cancel(job.id)

    def strike(self) -> None:
        """Let something bad happen to somebody, at an instant that has nothing to do with what he is doing."""
        victim = self.dice.randrange(len(self._pool.numbers))
        stops = self.dice.randrange(10) < STOPS_IN_TEN
        until = time.monotonic_ns() + self.dice.randrange(DELAY_MAX_NANOSECONDS)
        while time.monotonic_ns() < until:
            pass  # others go on meanwhile; a pause by the system's timer would be longer than most calls
        if stops:
            self._stop(victim)
        else:
            self._kill(victim)

    def rest(self) -> None:
        """Let everybody come to an end of what he does."""
        for number in self._pool.numbers:
            self._pool.answer(number)

    def _kill(self, victim: int) -> None:
        self._pool.kill(victim)
        self._arena.faults.kills += 1
        self._arena.faults.cut_off += any(call.pending for call in self._calls(victim))
        self._arena.bury(name_of(victim, self._pool.life(victim)))
        self._pool.revive(victim)
        self._pool.ask(victim, Participant.enter, self._arena.setting)
        self._pool.answer(victim)
        self._pool.ask(victim, Participant.storm, STEPS)

    def _stop(self, victim: int) -> None:
        """Stop somebody who holds a lease until it has ended and the others have gone on; then let it go on, too."""
        for _ in range(STOPS_MAX):
            self._pool.stop(victim)
            if self._holds_a_lease(victim) and self._others_go_on():
                self._pool.resume(victim)
                self._arena.faults.stops += 1
                return
            self._pool.resume(victim)
            victim = (victim + 1) % len(self._pool.numbers)

    def _others_go_on(self) -> bool:
        """Let every lease end, and then the others do what they do."""
        self._arena.tick((LEASE_SECONDS_MAX + 1) * SECOND)
        return all(self.go_on(BLOCKED_SECONDS) for _ in range(ANSWERS_WHILE_STOPPED))

    def _holds_a_lease(self, victim: int) -> bool:
        """Whether the last job that it took is one that it has not closed, as far as it was told."""
        calls = self._calls(victim)
        taken = [call for call in calls if call.job is not None and call.asked.operation == "acquire"]
        return bool(taken) and not any(_closes(call, taken[-1]) for call in calls)

    def _calls(self, victim: int) -> list[Call]:
        """What this life of a worker has recorded."""
        process = name_of(victim, self._pool.life(victim))
        file = self._arena.setting.directory / f"{process}{SUFFIX}"
        return list(calls_of(process, file.read_bytes()))


def _closes(call: Call, taken: Call) -> bool:
    job = taken.job
    same = job is not None and (call.asked.job_id, call.asked.token) == (job.id, job.token)
    return same and call.asked.operation in WITH_TOKEN and call.asked.operation != "renew" and call.told is not None
