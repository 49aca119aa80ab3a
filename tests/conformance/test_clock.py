"""The one clock: the database's in production, the test's in tests, read once for each statement."""

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from prompt_studio import DatabaseError, PromptStudioDatabase
from prompt_studio.storage.sqlite.connection import PRODUCTION_CLOCK
from tests.conformance.conftest import Open
from tests.conformance.rows import claimed

pytestmark = pytest.mark.conformance


@dataclass
class RestlessClock:
    """A clock that moves with each reading."""

    readings: int = 0

    def now_milliseconds(self) -> int:
        self.readings += 1
        return 1000 * self.readings


class BrokenClock:
    """A clock that cannot be read."""

    def now_milliseconds(self) -> int:
        raise OSError


class TestProductionClock:
    @pytest.mark.verifies("PS-CONCURRENCY-4")
    def test_tells_the_real_time(self, opened: Open) -> None:
        before = datetime.now(UTC)
        with opened(in_real_time=True) as database:
            created = database.create_job("evaluation", 1, {})["created_at"]
        after = datetime.now(UTC)
        # SQLite cuts the system's microseconds to milliseconds.
        assert before - timedelta(milliseconds=1) <= created <= after + timedelta(milliseconds=1)
        assert created.utcoffset() == timedelta(0)

    @pytest.mark.verifies("PS-CONCURRENCY-4")
    def test_is_read_once_for_each_statement(self, opened: Open) -> None:
        with opened(in_real_time=True) as database:
            for _ in range(100):  # two readings are often one microsecond, and not always
                job = database.create_job("evaluation", 1, {})
                assert job["created_at"] == job["available_at"]
                job = claimed(database, lease_seconds=1)
                assert job["started_at"] is not None
                assert job["leased_until"] == job["started_at"] + timedelta(seconds=1)

    def test_rounds_each_millisecond_to_itself(self) -> None:
        with closing(sqlite3.connect(":memory:")) as connection:
            for milliseconds in range(1_700_000_000_000, 1_700_000_001_000):
                stamp = datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds")
                clock = PRODUCTION_CLOCK.replace("'now'", f"'{stamp}'")
                assert connection.execute(f"SELECT {clock}").fetchone() == (milliseconds,)


class TestInjectedClock:
    def test_is_read_once_for_each_statement(self, path: Path) -> None:
        clock = RestlessClock()
        with PromptStudioDatabase(path, "tester", clock=clock) as database:
            job = database.create_job("evaluation", 1, {})
            assert job["created_at"] == job["available_at"]
            before = clock.readings
            job = claimed(database, lease_seconds=1)
            assert clock.readings <= before + 2  # one for the look at exhausted jobs, one for the claim
            assert job["started_at"] is not None
            assert job["leased_until"] == job["started_at"] + timedelta(seconds=1)

    def test_that_fails_fails_the_call(self, path: Path) -> None:
        with pytest.raises(DatabaseError, match="user-defined function"):
            PromptStudioDatabase(path, "tester", clock=BrokenClock())
