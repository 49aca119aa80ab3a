"""The lanes of a scenario when nobody owns their order: every process makes its calls as fast as it can.

It is what schedules are compared with: how often does luck show a bug that a scheduler finds, and what do gates cost?
There are no gates here, neither before statements nor inside of them. What happens to the world does so as soon as all
have begun, at whatever moment that is.
"""

from collections.abc import Sequence

from prompt_studio_model import operations as op
from prompt_studio_model.state import Job
from tests.harness.interleaving.ground import Ground
from tests.harness.interleaving.outcomes import Outcome
from tests.harness.interleaving.scenario import Continue, Mine, Move, Scenario, Stop, happens
from tests.harness.interleaving.scenarios import ends_processes
from tests.harness.interleaving.session import Answer, SessionWorker
from tests.harness.processes import Pool, Seat


class FreeWorker(SessionWorker):
    """One life of a worker process without gates."""

    gated = False

    def __init__(self, seat: Seat) -> None:
        super().__init__(seat)
        self._seat = seat

    def perform_all(self, lane: str, moves: Sequence[Move]) -> tuple[Answer, ...]:
        """Begin together with all others, and make the calls of a lane."""
        self._seat.begin_together()
        answers: list[Answer] = []
        job: Job | None = None
        for move in moves:
            call = move.invocation(lane, job) if isinstance(move, Mine) and job is not None else move
            if isinstance(call, op.Invocation):  # what names a job of the lane's own is left out if it got none
                answer = self.perform(call)
                answers.append(answer)
                if isinstance(call, op.Acquire) and isinstance(answer, op.Row):
                    job = answer.job
        return tuple(answers)


def can_be_left_alone(scenario: Scenario) -> bool:
    """Whether nothing happens to the world at a moment that only a scheduler knows: at a gate, or between two calls."""
    return not ends_processes(scenario) and not any(
        happens(move) for lane in scenario.sessions for move in scenario.lanes[lane]
    )


class FreeRunner:
    """A pool of workers without gates, on one ground."""

    def __init__(self, pool: Pool[FreeWorker], ground: Ground) -> None:
        self._pool = pool
        self._ground = ground
        self._life: dict[int, int] = {}

    def run(self, scenario: Scenario) -> Outcome:
        """Play a scenario once, from its beginning.

        Raises:
            ValueError: it cannot be left alone, or there are too few workers.
        """
        if not can_be_left_alone(scenario):
            raise ValueError(
                f"{scenario.name}: something happens at a gate or between two calls, and nobody waits here"
            )
        self._ground.begin(scenario)
        lanes = dict(zip(self._pool.numbers, scenario.sessions, strict=False))
        if len(lanes) < len(scenario.sessions):
            raise ValueError(f"{scenario.name} needs {len(scenario.sessions)} workers, and there are fewer")
        for number in self._pool.numbers:
            self._open(number)
            lane = lanes.get(number, "")
            self._pool.ask(number, FreeWorker.perform_all, lane, scenario.lanes.get(lane, ()))
        self._pool.begin_together()
        for name, moves in scenario.lanes.items():
            if name not in scenario.sessions:
                self._happen(moves, {lane: number for number, lane in lanes.items()})
        answers = {lanes.get(number, ""): self._pool.answer(number) for number in self._pool.numbers}
        after = self._ground.state()
        kept = {lanes.get(number, ""): one for number, one in enumerate(self._pool.all(FreeWorker.settle))}
        return Outcome(
            tuple(sorted((lane, given) for lane, given in answers.items() if given)),
            after.jobs,
            frozenset(after.keys),
            tuple(sorted((lane, one) for lane, one in kept.items() if lane)),
        )

    def _open(self, number: int) -> None:
        if self._life.get(number) != self._pool.life(number):
            self._life[number] = self._pool.life(number)
            self._pool.ask(number, FreeWorker.open, self._ground.location, self._ground.address, self._ground.time)
            self._pool.answer(number)

    def _happen(self, moves: Sequence[Move], numbers: dict[str, int]) -> None:
        for move in moves:
            match move:
                case op.Tick(milliseconds=milliseconds):
                    self._ground.move_clock(milliseconds)
                case Stop(lane=lane):
                    self._pool.stop(numbers[lane])
                case Continue(lane=lane):
                    self._pool.resume(numbers[lane])
