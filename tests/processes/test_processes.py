"""The pool of workers does what it is told, leaves nothing behind, and says what went wrong in time."""

import os
import signal
import time
from collections.abc import Iterator

import pytest

from tests.harness import processes
from tests.harness.processes import Pool, Seat, Trouble, stat_of

pytestmark = pytest.mark.processes

ROUNDS = 200


class Echo:
    """A worker that answers."""

    def __init__(self, seat: Seat) -> None:
        self.seat = seat

    def number(self) -> tuple[int, int, int]:
        return self.seat.number, self.seat.life, os.getpid()

    def instants(self, count: int) -> list[int]:
        return [time.monotonic_ns() for _ in range(count)]

    def fail(self, how: int) -> None:
        self.seat.begin_together()
        if how == self.seat.number:
            raise ValueError("on purpose")
        self.seat.begin_together()

    def vanish(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def wait_for_nobody(self) -> None:
        signal.pause()

    def begun(self) -> int:
        self.seat.begin_together()
        return time.monotonic_ns()


@pytest.fixture
def pool() -> Iterator[Pool[Echo]]:
    pool = Pool(3, Echo)
    yield pool
    pool.close()


def is_there(pid: int) -> bool:
    """Whether there is such a process that has not ended, though its parent may not have been told yet."""
    try:
        return stat_of(pid)[0] not in {"Z", "X"}
    except (FileNotFoundError, ProcessLookupError):
        return False


class TestAClockOfTheMachine:
    def test_is_one_for_all_processes(self, pool: Pool[Echo]) -> None:
        """Between our two looks each worker looks once, hundreds of times, in both directions."""
        for _ in range(ROUNDS):
            for number in pool.numbers:
                before = time.monotonic_ns()
                pool.ask(number, Echo.instants, 2)
                first, second = pool.answer(number)
                assert before <= first <= second <= time.monotonic_ns()

    def test_shows_that_all_began_after_the_last_had_come(self, pool: Pool[Echo]) -> None:
        for _ in range(20):
            for number in pool.numbers:
                pool.ask(number, Echo.begun)
            came = time.monotonic_ns()
            pool.begin_together()
            assert all(came < pool.answer(number) for number in pool.numbers)


class TestAWorker:
    def test_answers_under_its_number(self, pool: Pool[Echo]) -> None:
        assert [answer[:2] for answer in pool.all(Echo.number)] == [(0, 0), (1, 0), (2, 0)]

    def test_that_raises_says_why_and_lets_nobody_wait_for_it(self, pool: Pool[Echo]) -> None:
        for number in pool.numbers:
            pool.ask(number, Echo.fail, 1)
        with pytest.raises(Trouble, match=r"(?s)worker 1 failed during fail.*ValueError: on purpose"):
            self.go_on(pool)
        pool.restore()
        assert [answer[:2] for answer in pool.all(Echo.number)] == [(0, 1), (1, 1), (2, 1)]

    def go_on(self, pool: Pool[Echo]) -> None:
        pool.begin_together()
        pool.begin_together()

    def test_that_does_not_come_is_named(self, pool: Pool[Echo], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(processes, "LIMIT_SECONDS", 0.05)
        pool.ask(0, Echo.wait_for_nobody)
        with pytest.raises(Trouble, match="did not begin together:\nworker 0 gave no answer to wait_for_nobody"):
            pool.begin_together()

    def test_that_dies_is_noticed(self, pool: Pool[Echo]) -> None:
        pool.ask(2, Echo.vanish)
        with pytest.raises(Trouble, match="worker 2 died of -9 during vanish"):
            pool.answer(2)

    def test_that_never_answers_is_given_up(self, pool: Pool[Echo], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(processes, "LIMIT_SECONDS", 0.05)
        pool.ask(0, Echo.wait_for_nobody)
        assert pool.next_answer(0.01) is None
        with pytest.raises(Trouble, match=r"worker 0 gave no answer to wait_for_nobody within 0\.05 s"):
            pool.answer(0)

    def test_is_asked_one_thing_at_a_time(self, pool: Pool[Echo]) -> None:
        pool.ask(0, Echo.number)
        with pytest.raises(Trouble, match="before it answered number"):
            pool.ask(0, Echo.number)
        assert pool.next_answer() == (0, (0, 0, pool.process_id(0)))

    def test_that_is_killed_is_gone_and_has_a_successor(self, pool: Pool[Echo]) -> None:
        pid = pool.process_id(1)
        pool.ask(1, Echo.wait_for_nobody)
        pool.kill(1)
        assert not is_there(pid)
        pool.revive(1)
        assert pool.all(Echo.number)[1] == (1, 1, pool.process_id(1))

    def test_that_is_stopped_stands_still_until_it_is_continued(self, pool: Pool[Echo]) -> None:
        pool.stop(0)
        pool.ask(0, Echo.number)
        assert pool.next_answer(0.05) is None
        pool.resume(0)
        assert pool.answer(0)[:2] == (0, 0)


class TestThePool:
    def test_leaves_nobody_behind(self) -> None:
        pool = Pool(3, Echo)
        pids = [pool.process_id(number) for number in pool.numbers]
        pool.ask(0, Echo.wait_for_nobody)
        pool.stop(1)
        pool.close()
        assert [pid for pid in pids if is_there(pid)] == []

    def test_that_is_sound_needs_no_restoring(self, pool: Pool[Echo]) -> None:
        before = [pool.process_id(number) for number in pool.numbers]
        pool.restore()
        assert [pool.process_id(number) for number in pool.numbers] == before

    def test_gives_nobody_a_part_of_what_the_tests_have_open(self, pool: Pool[Echo]) -> None:
        """Its workers are no children of this process, so that an open database is not torn in two by a fork."""
        parents = {int(stat_of(pool.process_id(number))[1]) for number in pool.numbers}
        assert os.getpid() not in parents
