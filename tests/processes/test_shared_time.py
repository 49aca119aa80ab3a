"""One process moves the time, and all see it at once and whole."""

from pathlib import Path
from typing import Final

import pytest

from tests.harness.processes import Pool, Seat
from tests.harness.shared_time import MappedTime

pytestmark = pytest.mark.processes

# No byte of the one is in the other: a reading that mixed them would be neither.
ONE: Final = 0x0102030405060708
OTHER: Final = 0x1112131415161718
READINGS: Final = 20_000


class Reader:
    """A worker that looks at the clock."""

    def __init__(self, seat: Seat) -> None:
        self._seat = seat

    def read(self, clock: MappedTime) -> int:
        return clock.now_milliseconds()

    def read_often(self, clock: MappedTime) -> set[int]:
        self._seat.begin_together()
        return {clock.now_milliseconds() for _ in range(READINGS)}


class TestMappedTime:
    def test_begins_at_nothing_and_outlives_its_object(self, tmp_path: Path) -> None:
        clock = MappedTime(tmp_path / "clock")
        assert clock.now_milliseconds() == 0
        clock.set_time(ONE)
        clock.close()
        again = MappedTime(tmp_path / "clock")
        assert again.now_milliseconds() == ONE
        again.close()

    def test_is_the_same_in_every_process(self, tmp_path: Path) -> None:
        clock, pool = MappedTime(tmp_path / "clock"), Pool(2, Reader)
        for milliseconds in (ONE, OTHER, 5):
            clock.set_time(milliseconds)
            assert pool.all(Reader.read, clock) == [milliseconds, milliseconds]
        pool.close()
        clock.close()

    def test_is_never_seen_half_written(self, tmp_path: Path) -> None:
        clock, pool = MappedTime(tmp_path / "clock"), Pool(2, Reader)
        clock.set_time(ONE)
        for number in pool.numbers:
            pool.ask(number, Reader.read_often, clock)
        pool.begin_together()
        for _ in range(READINGS):
            clock.set_time(OTHER)
            clock.set_time(ONE)
        assert set().union(*(pool.answer(number) for number in pool.numbers)) <= {ONE, OTHER}
        pool.close()
        clock.close()
