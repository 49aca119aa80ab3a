"""What ends a server when the tests that started it are gone, however they went.

A watchdog is a process with nothing to do but to read from a pipe. Nobody writes to it: it closes when the process at
its other end closes it, or dies, even by SIGKILL. Then the watchdog stops the server that runs in the directory, and
removes the directory.

This file is also the program that the process runs, so it imports the standard library only.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, Final

DATA: Final = "data"
STOP_SECONDS_MAX: Final = 10.0  # Postgres itself kills after 5 s those of its processes that do not end
END_SECONDS_MAX: Final = 30.0
_PAUSE_SECONDS: Final = 0.01
_PROCESSES: Final = Path("/proc")

_held: Final[set[IO[bytes]]] = set()


def _let_go() -> None:
    """A forked child holds no pipe: with one end open in a child, the watchdog would wait for the child as well."""
    for end in _held:
        end.close()
    _held.clear()


os.register_at_fork(after_in_child=_let_go)


class Watchdog:
    """Watches over a directory and the server in it, from a process of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        # A session of its own: the SIGINT of a terminal is for the tests, which may still want to say something.
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, directory],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )
        assert self._process.stdin is not None
        self._end = self._process.stdin
        _held.add(self._end)

    @property
    def process_id(self) -> int:
        """The watchdog's process."""
        return self._process.pid

    def let_go(self) -> bool:
        """Let the server be stopped and the directory be removed; whether that was done in time."""
        self._end.close()
        _held.discard(self._end)
        try:
            return self._process.wait(END_SECONDS_MAX) == 0
        except subprocess.TimeoutExpired:
            return False


def running(data: Path) -> int | None:
    """The process of the server that runs in the data directory; None if none does."""
    try:
        process_id = int((data / "postmaster.pid").read_text(encoding="utf-8").partition("\n")[0])
        os.kill(process_id, 0)
        if _PROCESSES.is_dir() and (_PROCESSES / str(process_id) / "cwd").readlink() != data:
            return None  # a server that was killed left its file, and the number is another process's by now
    except (FileNotFoundError, ProcessLookupError, PermissionError, ValueError):
        return None
    return process_id


def _stop_server(data: Path) -> None:
    # One that a test has stopped in its tracks obeys nothing but a kill until it goes on.
    for numbers in ((signal.SIGQUIT, signal.SIGCONT), (signal.SIGKILL,)):
        deadline = time.monotonic() + STOP_SECONDS_MAX
        process_id = running(data)
        if process_id is None:
            return
        with contextlib.suppress(ProcessLookupError):
            for number in numbers:
                os.kill(process_id, number)
        while running(data) == process_id and time.monotonic() < deadline:
            _pause()


def _pause() -> None:
    threading.Event().wait(_PAUSE_SECONDS)


def clear(directory: Path) -> bool:
    """Stop the server, and remove the directory; whether that was done in time.

    Again and again: a program that the tests had just started, as initdb, may still be writing there.
    """
    deadline = time.monotonic() + END_SECONDS_MAX
    while directory.exists() and time.monotonic() < deadline:
        _stop_server(directory / DATA)
        shutil.rmtree(directory, ignore_errors=True)
        _pause()
    return not directory.exists()


if __name__ == "__main__":
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)  # whoever ends everything ends the tests too, and then there is work
    sys.stdin.buffer.read()
    sys.exit(not clear(Path(sys.argv[1])))
