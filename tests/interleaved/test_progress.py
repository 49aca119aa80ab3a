"""Whoever waits for many schedules sees how far they are."""

import io
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.harness.progress import PROGRESS_SECONDS, Progress
from tests.interleaved.conftest import telling

pytestmark = pytest.mark.interleaved


class Terminal(io.StringIO):
    """Says that it is one."""

    def isatty(self) -> bool:
        return True


class Clock:
    """Shows what it is told to."""

    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def told(stream: io.StringIO, seconds: int, *, within: bool = False) -> str:
    """What is written if a line could be written every second."""
    clock = Clock()
    progress = Progress(stream, within=within, now=clock)
    for second in range(seconds + 1):
        clock.seconds = second
        if progress.due:
            progress.write(f"after {second} s")
    progress.end()
    return stream.getvalue()


def test_a_terminal_has_one_line_that_changes() -> None:
    assert PROGRESS_SECONDS[True] == 2
    assert told(Terminal(), 5) == "\r\033[Kafter 0 s\r\033[Kafter 2 s\r\033[Kafter 4 s\n"


def test_elsewhere_there_is_a_line_now_and_then() -> None:
    assert PROGRESS_SECONDS[False] == 30
    assert told(io.StringIO(), 61) == "after 0 s\nafter 30 s\nafter 60 s\n"


def test_within_what_others_write_it_begins_a_line_of_its_own_and_later() -> None:
    assert told(Terminal(), 3, within=True) == "\n\r\033[Kafter 2 s\n"
    assert told(Terminal(), 1, within=True) == ""
    assert told(io.StringIO(), 61, within=True) == "\nafter 30 s\nafter 60 s\n"


def test_a_test_may_tell_though_its_output_is_captured(capfd: pytest.CaptureFixture[str]) -> None:
    stream, clock = io.StringIO(), Clock()
    lifted = []

    @contextmanager
    def lift() -> Iterator[None]:
        lifted.append(stream.getvalue())
        yield

    with telling(lift, stream, clock) as tell:
        tell("too early")
        clock.seconds = PROGRESS_SECONDS[False]
        tell("half of them")
        tell("too early again")
    assert stream.getvalue() == "\nhalf of them\n"
    assert lifted == ["", "\nhalf of them\n"]  # around the line, and around its end
    assert capfd.readouterr().err == ""
