"""Worker processes that outlive a test: asked and answered over pipes, begun together, killed, stopped, continued.

They come from a fork server, which has no threads, no open databases and no locks that a child could inherit from the
tests. Every wait has a limit. A worker that raises ends, and so does everybody's wait at the barrier; whoever asked it
gets the traceback. `multiprocess` has no types of its own, so this is the one module that imports it.
"""

import os
import pickle
import signal
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from threading import BrokenBarrierError
from typing import Any, Concatenate, Final, Generic, ParamSpec, Protocol, TypeVar

# Neither has types, and there is no package of stubs.
_multiprocess: Final[Any] = import_module("multiprocess")
_connection: Final[Any] = import_module("multiprocess.connection")

LIMIT_SECONDS: Final = 60.0
"""The longest that anything here waits: above it is no contention, however slow the machine."""

STOPPED: Final = "T"

Being = TypeVar("Being")
Answer = TypeVar("Answer")
Parameters = ParamSpec("Parameters")


class Trouble(AssertionError):
    """A worker did not do what it was to do, which proves nothing about a store."""


class Barrier(Protocol):
    """Where processes wait for each other."""

    def wait(self, timeout: float) -> int:
        """Go on when all have come."""

    def abort(self) -> None:
        """Let nobody wait any more: whoever does, or comes, gets an error."""


class End(Protocol):
    """One end of a pipe."""

    def poll(self, timeout: float) -> bool:
        """Whether a message, or the other end's end, comes in time."""

    def close(self) -> None:
        """Close this end."""

    def fileno(self) -> int:
        """The file descriptor, to wait for."""

    def send_bytes(self, message: bytes) -> None:
        """Send bytes as they are."""

    def recv_bytes(self) -> bytes:
        """Wait for bytes."""


class Process(Protocol):
    """A process that was started here."""

    pid: int
    exitcode: int | None

    def kill(self) -> None:
        """End it at once: SIGKILL, which also ends a stopped one."""

    def join(self, timeout: float) -> None:
        """Wait for its end."""

    def close(self) -> None:
        """Forget it; it must have ended."""


@dataclass(frozen=True, slots=True)
class Seat:
    """What a worker is born with: its number, how many had the number before it, where all begin together, and a wire.

    The wire is a second pipe, for what a worker has to say while it works.
    """

    number: int
    life: int
    barrier: Barrier
    wire: "End"

    def begin_together(self) -> None:
        """Go on when every worker and the asker have come."""
        self.barrier.wait(LIMIT_SECONDS)


@dataclass(slots=True)
class _Worker:
    process: Process
    end: End
    wire: End
    asked: str | None = None  # what it was asked and has not answered
    stopped: bool = False

    @property
    def sound(self) -> bool:
        """Whether it is there, and waits for a question."""
        self.process.join(0)
        return self.process.exitcode is None and self.asked is None and not self.stopped


class Pool(Generic[Being]):
    """Workers, numbered from 0. Each makes a being of its own, whose methods it is then asked to call."""

    def __init__(self, count: int, make: Callable[[Seat], Being], *, preload: tuple[str, ...] = ()) -> None:
        """Start the workers.

        Args:
            count: how many.
            make: a function of a module, which each worker calls once, at its birth.
            preload: modules that the fork server imports once for all.
        """
        self._context = _multiprocess.get_context("forkserver")
        self._context.set_forkserver_preload(["__main__", *preload])
        self._make = make
        self._lives = dict.fromkeys(range(count), 0)
        self._barrier: Barrier = self._context.Barrier(count + 1)
        self._workers = {number: self._born(number) for number in range(count)}

    @property
    def numbers(self) -> list[int]:
        """The workers' numbers."""
        return list(self._workers)

    def process_id(self, number: int) -> int:
        """The worker's process, to look at."""
        return self._workers[number].process.pid

    def ends(self, number: int) -> tuple[End, End]:
        """The pipe on which the worker answers, and its wire, to wait for either."""
        return self._workers[number].end, self._workers[number].wire

    def life(self, number: int) -> int:
        """How many had the worker's number before it."""
        return self._lives[number]

    # Asking

    def ask(
        self,
        number: int,
        work: Callable[Concatenate[Being, Parameters], object],
        *arguments: Parameters.args,
        **named: Parameters.kwargs,
    ) -> None:
        """Begin some work, whose answer must be asked for before the next."""
        worker = self._workers[number]
        if worker.asked is not None:
            raise Trouble(f"worker {number} was asked for {work.__name__} before it answered {worker.asked}")
        worker.asked = work.__name__
        _send(worker.end, (work, arguments, named))

    def answer(self, number: int) -> Any:  # noqa: ANN401 - only the asker knows what it asked for
        """The answer to what the worker was asked.

        Raises:
            Trouble: it raised, or died, or took too long.
        """
        worker = self._workers[number]
        if not worker.end.poll(LIMIT_SECONDS):
            raise Trouble(f"worker {number} gave no answer to {worker.asked} within {LIMIT_SECONDS:g} s")
        try:
            error, answer = _received(worker.end)
        except (EOFError, ConnectionError) as error:
            worker.process.join(LIMIT_SECONDS)
            ended = f"worker {number} died of {worker.process.exitcode} during {worker.asked}"
            raise Trouble(ended) from error
        if error is not None:
            raise Trouble(f"worker {number} failed during {worker.asked}:\n{error}")
        worker.asked = None
        return answer

    def next_answer(self, limit_seconds: float = LIMIT_SECONDS) -> tuple[int, Any] | None:
        """The number and the answer of whoever is ready first; None if nobody is within the limit."""
        busy = {worker.end: number for number, worker in self._workers.items() if worker.asked is not None}
        ready = _connection.wait(list(busy), limit_seconds)
        if not ready:
            return None
        number = busy[ready[0]]
        return number, self.answer(number)

    def all(
        self,
        work: Callable[Concatenate[Being, Parameters], Answer],
        *arguments: Parameters.args,
        **named: Parameters.kwargs,
    ) -> list[Answer]:
        """The answers of all workers to the same question, in the order of their numbers."""
        for number in self._workers:
            self.ask(number, work, *arguments, **named)
        return [self.answer(number) for number in self._workers]

    def begin_together(self) -> None:
        """Go on when every worker has come to the barrier, too.

        Raises:
            Trouble: one of them raised, died, or did not come in time.
        """
        try:
            self._barrier.wait(LIMIT_SECONDS)
        except BrokenBarrierError as error:
            raise Trouble("\n".join(["the workers did not begin together:", *self._complaints()])) from error

    def _complaints(self) -> list[str]:
        """What those who were asked have to say, and first of all those who did not merely wait for the others."""
        complaints = []
        for number, worker in self._workers.items():
            if worker.asked is not None:
                try:
                    self.answer(number)
                except Trouble as trouble:
                    complaints.append(str(trouble))
        return sorted(complaints, key=lambda complaint: BrokenBarrierError.__name__ in complaint)

    # Faults

    def kill(self, number: int) -> None:
        """SIGKILL the worker, and wait until it is gone; then `revive` it."""
        worker = self._workers[number]
        self._end(number, worker.process)
        worker.end.close()  # afterwards: who is told by it that nobody asks any more would end in its own way
        worker.wire.close()

    def revive(self, number: int) -> None:
        """Start another worker in the place of one that is gone."""
        self._lives[number] += 1
        self._workers[number] = self._born(number)

    def stop(self, number: int) -> None:
        """SIGSTOP the worker, and wait until it stands still."""
        pid = self._workers[number].process.pid
        self._workers[number].stopped = True
        os.kill(pid, signal.SIGSTOP)
        deadline = time.monotonic() + LIMIT_SECONDS
        while stat_of(pid)[0] != STOPPED:
            if time.monotonic() > deadline:
                raise Trouble(f"worker {number} did not stop within {LIMIT_SECONDS:g} s of SIGSTOP")
            os.sched_yield()

    def resume(self, number: int) -> None:
        """SIGCONT the worker."""
        os.kill(self._workers[number].process.pid, signal.SIGCONT)
        self._workers[number].stopped = False

    # The end

    def restore(self) -> None:
        """Replace all workers if one of them is gone, stands still, or owes an answer.

        All, since what is left of a barrier at which somebody died is of no use to those who share it.
        """
        if all(worker.sound for worker in self._workers.values()):
            return
        for number in self._workers:
            self.kill(number)
        self._barrier = self._context.Barrier(len(self._workers) + 1)
        for number in self._workers:
            self.revive(number)

    def close(self) -> None:
        """Let the workers end; kill those that cannot."""
        sound = {number for number, worker in self._workers.items() if worker.sound}
        for worker in self._workers.values():
            worker.end.close()
            worker.wire.close()
        for number, worker in self._workers.items():
            if number in sound:  # it has nothing to do but to notice
                worker.process.join(LIMIT_SECONDS)
            self._end(number, worker.process)

    def _born(self, number: int) -> _Worker:
        (ours, theirs), (our_wire, their_wire) = self._context.Pipe(), self._context.Pipe()
        seat = Seat(number, self._lives[number], self._barrier, their_wire)
        process = self._context.Process(target=_live, args=(theirs, seat, self._make), daemon=True)
        process.start()
        theirs.close()
        their_wire.close()
        return _Worker(process, ours, our_wire)

    def _end(self, number: int, process: Process) -> None:
        process.kill()
        process.join(LIMIT_SECONDS)
        if process.exitcode is None:
            raise Trouble(f"worker {number} survived SIGKILL for {LIMIT_SECONDS:g} s")
        process.close()


def _live(end: End, seat: Seat, make: Callable[[Seat], object]) -> None:
    """Answer until nobody can ask any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the tests decide what an interruption means
    warnings.simplefilter("error")
    being = make(seat)
    while True:
        try:
            work, arguments, named = _received(end)
        except EOFError:
            return
        try:
            answer = work(being, *arguments, **named)
        except BaseException:
            seat.barrier.abort()
            _send(end, (traceback.format_exc(), None))
            raise
        _send(end, (None, answer))


def _send(end: End, message: object) -> None:
    """Send a message. `multiprocess` pickles in Python, which takes its time: there are thousands to send."""
    end.send_bytes(pickle.dumps(message))


def _received(end: End) -> Any:  # noqa: ANN401 - a message is what was sent
    return pickle.loads(end.recv_bytes())  # noqa: S301 - our own processes' words


def stat_of(pid: int) -> list[str]:
    """What Linux says of a process, from its state on: its name, in parentheses, may have spaces in it."""
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
