"""An opened database in virtual time, and the doors by which tests look behind it."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Protocol

import pytest

from prompt_studio import JobRow, PromptStudioDatabase
from tests.conformance.virtual_time import VirtualClock

FULL_BACK_OFF = 1000


class Create(Protocol):
    """Creates a job whose details do not matter to the test."""

    def __call__(self, *, priority: int = 5, max_retries: int = 3, job_type: str = "evaluation") -> JobRow: ...


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.db"


@pytest.fixture
def database(path: Path, clock: VirtualClock) -> Iterator[PromptStudioDatabase]:
    with PromptStudioDatabase(path, "tester", clock=clock, jitter=lambda: FULL_BACK_OFF) as opened:
        yield opened


@pytest.fixture
def create(database: PromptStudioDatabase) -> Create:
    def created(*, priority: int = 5, max_retries: int = 3, job_type: str = "evaluation") -> JobRow:
        return database.create_job(job_type, 1, {}, priority=priority, max_retries=max_retries)

    return created


@pytest.fixture
def raw(database: PromptStudioDatabase, path: Path) -> Iterator[sqlite3.Connection]:
    """The file by itself, without the store."""
    assert database.capabilities.in_one_file
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.row_factory = sqlite3.Row
        yield connection
