"""Real processes that do something at the same moment, and are gone afterwards."""

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from typing import Any, TypeVar

LIMIT_SECONDS = 30.0

Answer = TypeVar("Answer")

_context = multiprocessing.get_context("fork")


def at_once(count: int, work: Callable[[int], Answer]) -> list[Answer]:
    """What `work(0)` ... `work(count - 1)` answer, each in a forked process, begun together.

    An answer must be picklable. A process that raises or does not end fails the test.
    """
    barrier = _context.Barrier(count)
    ends, processes = [], []
    for number in range(count):
        ours, theirs = _context.Pipe(duplex=False)
        process = _context.Process(target=_work, args=(work, number, barrier, theirs))
        process.start()
        theirs.close()
        ends.append(ours)
        processes.append(process)
    try:
        answers = [_received(end) for end in ends]
        for process in processes:
            process.join(LIMIT_SECONDS)
    finally:
        for end, process in zip(ends, processes, strict=True):
            end.close()
            process.kill()
            process.join(LIMIT_SECONDS)
            process.close()
    failed = [error for error, _ in answers if error is not None]
    assert failed == []
    return [answer for _, answer in answers]


def _work(work: Callable[[int], object], number: int, barrier: Barrier, end: Connection) -> None:
    try:
        barrier.wait(LIMIT_SECONDS)
        end.send((None, work(number)))
    except BaseException as error:
        end.send((repr(error), None))
        raise
    finally:
        end.close()


def _received(end: "Connection[object, tuple[str | None, Any]]") -> tuple[str | None, Any]:
    assert end.poll(LIMIT_SECONDS), "a process gave no answer in time"
    return end.recv()
