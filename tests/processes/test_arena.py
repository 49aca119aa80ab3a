"""A race proves something only if what it is about took place, and by the clock that the database goes by."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from prompt_studio import PromptStudioDatabase, Settings
from tests.harness.judgement import explained
from tests.harness.locations import CLIENT, SQLITE, WITH_LOCKS, Jitter
from tests.harness.processes import Pool, Trouble
from tests.harness.shared_time import SharedTime
from tests.processes import races
from tests.processes.arena import Arena
from tests.processes.participant import Participant

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]

BEHIND: Final = 600_000


class LateTime:
    """A database whose clock is ten minutes behind this machine's."""

    def now_milliseconds(self) -> int:
        return time.time_ns() // 1_000_000 - BEHIND

    def close(self) -> None:
        pass


def late(address: str) -> LateTime:
    del address
    return LateTime()


def opened_late(address: str, time: SharedTime | None, *, jitter: Jitter | None = None) -> PromptStudioDatabase:
    assert time is None, "the race is one in real time"
    return PromptStudioDatabase(address, CLIENT, settings=Settings(), clock=LateTime(), jitter=jitter, create=False)


def storm(arena: Arena, rounds: int) -> str:
    """A storm in which nobody is hurt."""
    del rounds
    arena.create()
    arena.finish()
    return ""


def locked_job(arena: Arena, rounds: int) -> str:
    """A job whose lock nobody else ever wants."""
    return storm(arena, rounds)


def drain(arena: Arena, rounds: int) -> str:
    """Nobody takes anything, so that there is no order of claims."""
    del arena, rounds
    return ""


class TestAFault:
    def test_that_never_fired_proves_nothing(self, pool: Pool[Participant], tmp_path: Path, seed: str) -> None:
        arena = Arena(pool, SQLITE, tmp_path, seed=seed)
        try:
            with pytest.raises(Trouble, match="kills, stops, pending, refused: nothing of it happened"):
                arena.hold(storm, 1)
        finally:
            arena.close()

    def test_of_the_locks_is_wanted_where_there_are_locks(
        self, pool: Pool[Participant], tmp_path: Path, seed: str
    ) -> None:
        arena = Arena(pool, WITH_LOCKS, tmp_path, seed=seed)
        try:
            with pytest.raises(Trouble, match="lock_refusals: nothing of it happened"):
                arena.hold(locked_job, 1)
        finally:
            arena.close()

    def test_of_the_locks_is_not_wanted_elsewhere(self, pool: Pool[Participant], tmp_path: Path, seed: str) -> None:
        arena = Arena(pool, SQLITE, tmp_path, seed=seed)
        try:
            assert arena.hold(locked_job, 1).found == 0
        finally:
            arena.close()


class TestTheOrderOfClaims:
    def test_must_have_been_judged(self, pool: Pool[Participant], tmp_path: Path, seed: str) -> None:
        arena = Arena(pool, SQLITE, tmp_path, seed=seed)
        try:
            with pytest.raises(Trouble, match="judged: nothing of it happened"):
                arena.hold(drain, 1)
        finally:
            arena.close()


class TestARaceInRealTime:
    def test_goes_by_the_clock_of_the_database(self, pool: Pool[Participant], tmp_path: Path, seed: str) -> None:
        there = replace(SQLITE, open=opened_late, real_time=late)
        arena = Arena(pool, there, tmp_path, seed=seed, real_time=True)
        try:
            arena.hold(races.reclaim_in_real_time, 1)
        finally:
            arena.close()
        assert arena.findings == [], explained(arena.findings)
