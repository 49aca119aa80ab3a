"""Creates with an idempotency key on a server: beside each other, and when a session is lost."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest

from prompt_studio import (
    IdempotencyMismatch,
    PromptStudioDatabase,
    Settings,
    StoreUnavailable,
    TransientConflict,
)
from prompt_studio.storage.postgres.connection import PostgresConnection
from tests.conformance.creates import JOB, KINDS, PROJECT, PROMPT, Kind
from tests.faults.server_sessions import LIMIT_SECONDS, Stranger, await_that, interfered, stranger_at

pytestmark = [pytest.mark.faults, pytest.mark.verifies("PS-IDEMPOTENCY-PG-5", "INV-ONE-EFFECT-PER-KEY")]

BRIEF = Settings(write_retry_seconds=0.15)
COMMIT, ROLL_BACK = "commit", "roll back"

every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.entity_type)


class Undone(Exception):
    """What ends a transaction without a commit."""


@dataclass(frozen=True, slots=True)
class Rivals:
    """What the first create made, and what became of the second, which waited for it."""

    made: dict[str, Any]
    told: dict[str, Any] | None
    error: BaseException | None


def rivals(dsn: str, stranger: Stranger, kind: Kind, *, ends: str, name: str = "a") -> Rivals:
    """One create waits for another in an open transaction, which then ends."""
    made: dict[str, Any] = {}
    waits = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    with (
        PromptStudioDatabase(dsn, "first", settings=Settings()) as first,
        PromptStudioDatabase(dsn, "second", settings=Settings()) as second,
        ThreadPoolExecutor(1) as pool,
    ):
        create = kind.ready(first)
        with suppress(Undone), first.transaction():
            made |= create("a", idempotency_key="k", user_id="ann")
            answer = pool.submit(_again, second, made, kind, name)
            await_that(lambda: bool(stranger.run(waits)), "the rival waits")
            _end(ends)
        error = answer.exception(LIMIT_SECONDS)
        return Rivals(made, None if error is not None else dict(answer.result()), error)


def _end(ends: str) -> None:
    if ends == ROLL_BACK:
        raise Undone


def _again(database: PromptStudioDatabase, made: dict[str, Any], kind: Kind, name: str) -> Mapping[str, Any]:
    once: dict[str, Any] = {"idempotency_key": "k", "user_id": "ann"}
    if kind is JOB:
        return database.create_job("evaluation", 1, {"name": name}, **once)
    if kind is PROJECT:
        return database.create_project(name, **once)
    if kind is PROMPT:
        return database.create_prompt(project_id=made["project_id"], name=name, **once)
    return database.create_optimization(
        project_id=made["project_id"],
        name=name,
        initial_prompt_id=made["initial_prompt_id"],
        optimizer_type="mipro",
        job={"payload": {"name": name}},
        **once,
    )


@every_kind
class TestARivalThatWaits:
    def test_is_given_what_the_first_one_made(self, postgres_database: str, observer: Stranger, kind: Kind) -> None:
        seen = rivals(postgres_database, observer, kind, ends=COMMIT)
        assert seen.told is not None
        assert (seen.told["id"], seen.told["replayed"], seen.made["replayed"]) == (seen.made["id"], True, False)

    def test_makes_it_when_the_first_one_was_undone(
        self, postgres_database: str, observer: Stranger, kind: Kind
    ) -> None:
        seen = rivals(postgres_database, observer, kind, ends=ROLL_BACK)
        assert seen.told is not None
        assert seen.told["replayed"] is False
        assert [row["id"] for row in observer.run(f"SELECT id FROM {kind.table}")] == [seen.told["id"]]

    @pytest.mark.verifies("PS-IDEMPOTENCY-PG-6")
    def test_with_another_request_is_refused(self, postgres_database: str, observer: Stranger, kind: Kind) -> None:
        seen = rivals(postgres_database, observer, kind, ends=COMMIT, name="b")
        assert isinstance(seen.error, IdempotencyMismatch)


class TestARivalThatWaitsInVain:
    def test_is_told_to_try_again_within_the_limit(self, postgres_database: str) -> None:
        with (
            PromptStudioDatabase(postgres_database, "first", settings=Settings()) as first,
            PromptStudioDatabase(postgres_database, "second", settings=BRIEF) as second,
        ):
            with first.transaction():
                made = first.create_job("evaluation", 1, {}, idempotency_key="k")
                with pytest.raises(TransientConflict, match=r"others were in the way .*; nothing was written: repeat"):
                    second.create_job("evaluation", 1, {}, idempotency_key="k")
            assert second.create_job("evaluation", 1, {}, idempotency_key="k")["id"] == made["id"]


@every_kind
class TestALostSession:
    @pytest.mark.parametrize("statement", ["record_key_of_user", "fill_key", "commit"])
    def test_leaves_both_or_neither_and_the_same_call_says_which(
        self, postgres_database: str, kind: Kind, statement: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with (
            PromptStudioDatabase(postgres_database, "tester", settings=Settings()) as database,
            stranger_at(postgres_database) as stranger,
        ):
            create = kind.ready(database)

            def end(_: PostgresConnection) -> None:
                stranger.end(*stranger.pooled(database))

            with interfered(monkeypatch, statement, end), pytest.raises(StoreUnavailable) as caught:
                create("a", idempotency_key="k", user_id="ann")
            assert caught.value.outcome_unknown is (statement == "commit")
            told = create("a", idempotency_key="k", user_id="ann")
            assert told["replayed"] is False  # the session ended before the server had the statement
            assert [row["id"] for row in stranger.run(f"SELECT id FROM {kind.table}")] == [told["id"]]
            assert [row["entity_id"] for row in stranger.run("SELECT entity_id FROM prompt_studio_idempotency")] == [
                told["id"]
            ]
