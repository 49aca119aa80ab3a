"""A process is killed at each statement of a create: there is all that it makes, or nothing, and the same call goes on.

`tests/conformance/test_keyed_creates.py` interrupts the same creates within a process, which may still roll back; a
process that is killed does nothing more. The creates of jobs are killed under the scheduler, too.
"""

import os
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from unittest import mock

import pytest

from prompt_studio import PromptStudioDatabase
from prompt_studio.storage.dialect import NO_PARAMETERS, Parameters, Row
from prompt_studio.storage.statements import Statement
from prompt_studio.storage.transactions import COMMIT, Session
from tests.harness.locations import Location
from tests.harness.processes import Pool, Seat, Trouble

pytestmark = [pytest.mark.processes, pytest.mark.untraced, pytest.mark.timeout(180)]

STATEMENTS_MIN: Final = 4
"""Begin, two inserts, commit."""

AFTER_ALL: Final = 0
PROJECT, PROMPT, OPTIMIZATION, JOB = "project", "prompt", "optimization", "job"


def create(database: PromptStudioDatabase, entity_type: str, name: str, key: str | None) -> Mapping[str, Any]:
    """One entity, in the first project and of its first prompt, and the job of an optimization."""
    if entity_type == PROJECT:
        return database.create_project(name, idempotency_key=key, user_id="ann")
    if entity_type == PROMPT:
        return database.create_prompt(project_id=1, name=name, idempotency_key=key, user_id="ann")
    if entity_type == JOB:
        return database.create_job("evaluation", 1, name, idempotency_key=key, user_id="ann")
    return database.create_optimization(
        project_id=1,
        name=name,
        initial_prompt_id=1,
        optimizer_type="mipro",
        job={"payload": name},
        idempotency_key=key,
        user_id="ann",
    )


@dataclass(frozen=True, slots=True)
class There:
    """How many of each there are."""

    entities: int
    jobs: int
    keys: int


class Maker:
    """A process that makes an entity, and may be killed in the middle of it."""

    def __init__(self, seat: Seat) -> None:
        del seat

    def make(self, location: Location, address: str, entity_type: str, key: str | None, *, before: int) -> list[str]:
        """Create, and die before this statement, or after all of them; the statements' names."""
        seen: list[str] = []
        run = Session.run

        def killed(session: Session, statement: Statement, parameters: Parameters = NO_PARAMETERS) -> list[Row]:
            seen.append(statement.name)
            if len(seen) == before:
                os.kill(os.getpid(), signal.SIGKILL)
            found = run(session, statement, parameters)
            if before == AFTER_ALL and statement.name == COMMIT.name:
                os.kill(os.getpid(), signal.SIGKILL)
            return found

        with location.open(address, None) as database:
            database.count_jobs()  # so that what opening takes is over
            with mock.patch.object(Session, "run", killed):
                create(database, entity_type, f"{entity_type} {before}", key)
        return seen


@dataclass(frozen=True, slots=True)
class Place:
    """A database with a project and a prompt, and a process that makes more there."""

    pool: Pool[Maker]
    location: Location
    address: str
    database: PromptStudioDatabase

    def there(self, entity_type: str) -> There:
        """What is there now, for everybody."""
        tables, database = self.location.tables(self.address), self.database
        entities = {
            PROJECT: database.list_projects()["pagination"]["total"],
            PROMPT: database.list_prompts(1)["pagination"]["total"],
            OPTIMIZATION: database.list_optimizations()["pagination"]["total"],
            JOB: len(tables.jobs),
        }[entity_type]
        return There(entities, len(tables.jobs), len(tables.keys))

    def dies(self, entity_type: str, key: str | None, before: int) -> bool:
        """Let the process create; whether it was killed. It is replaced then."""
        self.pool.ask(0, Maker.make, self.location, self.address, entity_type, key, before=before)
        try:
            seen = self.pool.answer(0)
        except Trouble as trouble:
            if f"died of {-signal.SIGKILL}" not in str(trouble):
                raise
            self.pool.kill(0)
            self.pool.revive(0)
            return True
        assert seen[-1] == COMMIT.name
        assert before == len(seen) + 1 >= STATEMENTS_MIN + 1  # every statement had its turn
        return False


@pytest.fixture(scope="module")
def maker() -> Iterator[Pool[Maker]]:
    pool = Pool(1, Maker, preload=("prompt_studio", "psycopg", "tests.processes.test_killed_creates"))
    yield pool
    pool.close()


@pytest.fixture
def place(maker: Pool[Maker], location: Location, tmp_path: Path) -> Iterator[Place]:
    maker.restore()
    address = location.fresh(tmp_path)
    with location.open(address, None) as database:
        database.create_project("first", user_id="ann")
        database.create_prompt(project_id=1, name="first")
        yield Place(maker, location, address, database)
    location.dispose(address)


@pytest.mark.parametrize("entity_type", [PROJECT, PROMPT, OPTIMIZATION, JOB])
@pytest.mark.verifies("PS-IDEMPOTENCY-PG-5", "INV-ONE-EFFECT-PER-KEY", "INV-NOTHING-LOST")
def test_a_create_that_is_killed_leaves_all_or_nothing_and_can_be_repeated(place: Place, entity_type: str) -> None:
    jobs, killed, before = entity_type in {OPTIMIZATION, JOB}, True, 0
    while killed:
        before += 1
        found = place.there(entity_type)
        killed = place.dies(entity_type, f"key {before}", before)
        once = There(found.entities + 1, found.jobs + jobs, found.keys + 1)
        assert place.there(entity_type) == (found if killed else once)
        told = create(place.database, entity_type, f"{entity_type} {before}", f"key {before}")
        assert told["replayed"] is not killed
        assert place.there(entity_type) == once

    found = place.there(entity_type)
    assert place.dies(entity_type, "last", AFTER_ALL)
    once = There(found.entities + 1, found.jobs + jobs, found.keys + 1)
    assert place.there(entity_type) == once
    assert create(place.database, entity_type, f"{entity_type} {AFTER_ALL}", "last")["replayed"]
    assert place.there(entity_type) == once


@pytest.mark.verifies("PS-IDEMPOTENCY-PG-5")
def test_an_optimization_and_its_job_are_both_there_or_neither_without_a_key_too(place: Place) -> None:
    killed, before = True, 0
    while killed:
        before += 1
        found = place.there(OPTIMIZATION)
        killed = place.dies(OPTIMIZATION, None, before)
        assert place.there(OPTIMIZATION) == (found if killed else There(found.entities + 1, found.jobs + 1, found.keys))
