"""A file that somebody else has locked: waited for a bounded time, with chance in the waits."""

import itertools
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from prompt_studio import PromptStudioDatabase, Settings, TransientConflict
from prompt_studio.storage import patience

pytestmark = pytest.mark.faults

Call = Callable[[PromptStudioDatabase], object]

WRITES: dict[str, Call] = {
    "create": lambda database: database.create_job("evaluation", 1, {}),
    "acquire": lambda database: database.acquire_next_job(),
    "cancel": lambda database: database.cancel_job(1),
    "record": lambda database: database.record_idempotency("job", "k", 1, None),
    "cleanup": lambda database: database.cleanup_jobs(),
    "transaction": lambda database: database.transaction().__enter__(),
}

JOURNAL = Settings(sqlite_wal=False, write_retry_seconds=0.02)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were made, none of which takes time."""
    made: list[float] = []
    monkeypatch.setattr(patience, "pause", made.append)
    return made


class TestAWriteLock:
    @pytest.mark.parametrize("call", WRITES.values(), ids=WRITES)
    @pytest.mark.verifies("PS-FAULTS-1")
    def test_makes_a_write_give_up_after_the_limit_with_nothing_written(
        self, made: Path, impatient: Settings, stranger: sqlite3.Connection, call: Call
    ) -> None:
        with PromptStudioDatabase(made, "tester", settings=impatient) as database:
            before = database.list_jobs()
            stranger.execute("BEGIN IMMEDIATE")
            with pytest.raises(TransientConflict, match=r"in the way for 0\.02 s.*repeat the call"):
                call(database)
            assert database.list_jobs() == before
            stranger.execute("ROLLBACK")
            call(database)

    @pytest.mark.verifies("PS-FAULTS-1")
    def test_is_waited_for(self, made: Path, stranger: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
        waits: list[float] = []

        def pause(seconds: float) -> None:
            waits.append(seconds)
            if len(waits) == 3:
                stranger.execute("COMMIT")

        monkeypatch.setattr(patience, "pause", pause)
        with PromptStudioDatabase(made, "tester") as database:
            stranger.execute("BEGIN IMMEDIATE")
            assert database.acquire_next_job() is not None
        assert len(waits) == 3

    def test_does_not_hinder_a_read(self, made: Path, stranger: sqlite3.Connection) -> None:
        with PromptStudioDatabase(made, "tester", settings=Settings(write_retry_seconds=0)) as database:
            stranger.execute("BEGIN IMMEDIATE")
            assert database.count_jobs() == 1


class TestAnExclusiveLock:
    @pytest.mark.verifies("PS-FAULTS-1")
    def test_makes_a_read_give_up_too(self, path: Path) -> None:
        with PromptStudioDatabase(path, "tester", settings=JOURNAL) as database:
            stranger = sqlite3.connect(path, isolation_level=None)
            stranger.execute("BEGIN EXCLUSIVE")
            with pytest.raises(TransientConflict, match="repeat the call"):
                database.count_jobs()
            stranger.close()
            assert database.count_jobs() == 0

    @pytest.mark.verifies("PS-FAULTS-1")
    def test_keeps_a_database_from_being_opened(self, path: Path) -> None:
        PromptStudioDatabase(path, "tester", settings=JOURNAL).close()
        stranger = sqlite3.connect(path, isolation_level=None)
        stranger.execute("BEGIN EXCLUSIVE")
        with pytest.raises(TransientConflict, match="repeat the call"):
            PromptStudioDatabase(path, "tester", settings=JOURNAL)
        stranger.close()


class TestAReaderInARollbackJournal:
    @pytest.mark.verifies("PS-FAULTS-1")
    def test_makes_a_commit_give_up_with_nothing_written(self, path: Path) -> None:
        with PromptStudioDatabase(path, "tester", settings=JOURNAL) as database:
            reader = sqlite3.connect(path, isolation_level=None)
            reader.execute("BEGIN")
            reader.execute("SELECT * FROM prompt_studio_job_queue").fetchall()
            with pytest.raises(TransientConflict, match="nothing was written"):
                database.create_job("evaluation", 1, {})
            reader.close()
            assert database.count_jobs() == 0
            assert database.create_job("evaluation", 1, {})["id"] == 1

    def test_is_waited_for_at_the_commit_without_doing_the_work_again(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with PromptStudioDatabase(path, "tester", settings=Settings(sqlite_wal=False)) as database:
            reader = sqlite3.connect(path, isolation_level=None)
            reader.execute("BEGIN")
            reader.execute("SELECT * FROM prompt_studio_job_queue").fetchall()
            monkeypatch.setattr(patience, "pause", lambda _: reader.close())
            assert database.create_job("evaluation", 1, {})["id"] == 1
            assert database.count_jobs() == 1


class TestPatience:
    @pytest.mark.verifies("PS-FAULTS-1")
    def test_draws_each_pause_below_a_bound_that_doubles(
        self, pauses: list[float], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("time.monotonic", itertools.count(0, 0.25).__next__)

        def busy() -> None:
            raise TransientConflict("busy")

        with pytest.raises(TransientConflict):
            patience.Patience(5).retry(busy)
        assert len(pauses) == 19
        bounds = [min(0.05, 0.001 * 2**number) for number in range(19)]
        assert all(0 <= made <= bound for made, bound in zip(pauses, bounds, strict=True))
        assert len(set(pauses)) > 1

    def test_is_shared_by_all_transactions_of_a_call(self, pauses: list[float]) -> None:
        answers = iter([TransientConflict("busy"), None, TransientConflict("busy"), None])

        def sometimes() -> None:
            answer = next(answers)
            if answer is not None:
                raise answer

        one = patience.Patience(5)
        one.retry(sometimes)
        one.retry(sometimes)
        assert len(pauses) == 2

    def test_really_sleeps(self) -> None:
        patience.pause(0)
