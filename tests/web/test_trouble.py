"""Trouble of the database over HTTP: typed, without secrets, and never a lost entity."""

import sqlite3
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx2
import pytest
from fastapi.testclient import TestClient

from prompt_studio import PromptStudioDatabase, Settings
from prompt_studio.storage.postgres.connection import PostgresConnection
from prompt_studio.web import Users, create_app
from tests.faults.server_sessions import interfered, stranger_at
from tests.harness.locations import WITH_LOCKS
from tests.web.conftest import TOKENS, Asker

LIMIT_SECONDS: Final = 60.0
POOL_CONNECTIONS: Final = 3
CLIENTS: Final = 12

pytestmark = [pytest.mark.faults, pytest.mark.verifies("PS-HTTP-2", "PS-HTTP-5")]


def test_a_rival_that_does_not_end_is_a_conflict_to_try_again(tmp_path: Path) -> None:
    path = tmp_path / "secret-name.db"
    with (
        PromptStudioDatabase(path, "web", settings=Settings(write_retry_seconds=0.1)) as database,
        TestClient(create_app(database, Users(TOKENS))) as client,
        closing(sqlite3.connect(path)) as rival,
    ):
        ann = Asker(client, "token-of-ann-0000")
        rival.execute("BEGIN IMMEDIATE")
        answer = ann.ask("POST", "/projects/", json={"name": "x"}, key="k")
        assert (answer.status_code, answer.headers["Retry-After"]) == (409, "1")
        assert "secret-name" not in answer.text
        rival.rollback()
        assert ann.post("/projects/", {"name": "x"}, key="k")["data"]["name"] == "x"


def test_rivals_for_whom_there_are_no_connections_are_conflicts_to_try_again(tmp_path: Path) -> None:
    address = WITH_LOCKS.fresh(tmp_path)
    settings = Settings(write_retry_seconds=0.5, pool_connections=POOL_CONNECTIONS)
    with (
        PromptStudioDatabase(address, "web", settings=settings) as database,
        PromptStudioDatabase(address, "rival", settings=Settings()) as rival,
        TestClient(create_app(database, Users(TOKENS))) as client,
        ThreadPoolExecutor(CLIENTS) as others,
    ):
        ann = Asker(client, "token-of-ann-0000")
        with rival.transaction():
            made = rival.create_project("x", user_id="ann", idempotency_key="k", request={"name": "x"})
            waiting = [
                others.submit(ann.ask, "POST", "/projects/", json={"name": "x"}, key="k") for _ in range(CLIENTS)
            ]
            assert client.get("/health").status_code == 200
            assert ann.get("/projects/")["data"]["projects"] == []
            answers = Counter(one.result(LIMIT_SECONDS).status_code for one in waiting)
            assert all(one.result().headers["Retry-After"] == "1" for one in waiting)
        assert answers == {409: CLIENTS}
        waiting = [others.submit(ann.ask, "POST", "/projects/", json={"name": "x"}, key="k") for _ in range(CLIENTS)]
        told = [one.result(LIMIT_SECONDS) for one in waiting]
        # On a busy machine one who stands behind all others is told to come again; by himself he is answered.
        assert {answer.status_code for answer in told} <= {201, 409}
        last = ann.post("/projects/", {"name": "x"}, key="k")
        ids = {answer.json()["data"]["id"] for answer in told if answer.status_code == httpx2.codes.CREATED}
        assert ids | {last["data"]["id"]} == {made["id"]}
    WITH_LOCKS.dispose(address)


@dataclass(frozen=True, slots=True)
class Unanswered:
    """A request whose commit the server never answered, and what its user is told."""

    key: str | None
    advice: str
    may_repeat: bool
    cancels: bool = False


UNANSWERED: Final = {
    "a create with a key": Unanswered("k", "repeat it with the same Idempotency-Key", may_repeat=True),
    "a create without one": Unanswered(None, "look whether it is there", may_repeat=False),
    "a cancel": Unanswered(None, "repeat it, which is as good as once", may_repeat=True, cancels=True),
}


@pytest.mark.parametrize("asked", UNANSWERED.values(), ids=UNANSWERED)
def test_a_request_whose_answer_never_came_is_told_how_to_go_on(
    postgres_database: str, monkeypatch: pytest.MonkeyPatch, asked: Unanswered
) -> None:
    with (
        PromptStudioDatabase(postgres_database, "web", settings=Settings()) as database,
        TestClient(create_app(database, Users(TOKENS))) as client,
        stranger_at(postgres_database) as stranger,
    ):
        ann = Asker(client, "token-of-ann-0000")
        project = ann.post("/projects", {"name": "home"})["id"]
        prompt = ann.post("/prompts/create", {"project_id": project, "name": "p"})["data"]["id"]
        path, body, status = "/optimizations", {"prompt_id": prompt}, 200
        if asked.cancels:
            ann.post(path, body, status=status)
            number = ann.get(f"/optimizations/list/{project}")["data"]["optimizations"][0]["id"]
            path = f"/optimizations/cancel/{number}"

        def end(_: PostgresConnection) -> None:
            stranger.end(*stranger.pooled(database))

        with interfered(monkeypatch, "commit", end):
            answer = ann.ask("POST", path, json=body, key=asked.key)
        assert (answer.status_code, asked.advice in answer.json()["detail"]) == (503, True)
        assert "it may have been done, and no answer came" in answer.json()["detail"]
        assert answer.headers.get("Retry-After") == ("1" if asked.may_repeat else None)
        ann.post(path, body, key=asked.key, status=status)


def test_a_database_of_another_version_is_unavailable(tmp_path: Path) -> None:
    path = tmp_path / "secret-name.db"
    with (
        PromptStudioDatabase(path, "web") as database,
        TestClient(create_app(database, Users(TOKENS))) as client,
        closing(sqlite3.connect(path)) as hand,
    ):
        ann = Asker(client, "token-of-ann-0000")
        hand.execute("DROP TABLE prompt_studio_projects")
        answers = [
            ann.ask("GET", "/projects/"),
            ann.ask("POST", "/projects/", json={"name": "x"}),
            ann.ask("POST", "/projects/", json={"name": "x"}, key="k"),
        ]
    for answer in answers:
        assert (answer.status_code, answer.json()["detail"]) == (503, "the database is not one of this version")
        assert answer.headers["content-type"] == "application/problem+json"
        assert "Retry-After" not in answer.headers  # it will be none by itself


def test_a_database_that_is_away_is_unavailable(tmp_path: Path) -> None:
    path = tmp_path / "secret-name.db"
    with PromptStudioDatabase(path, "web") as database, TestClient(create_app(database, Users(TOKENS))) as client:
        ann = Asker(client, "token-of-ann-0000")
        ann.post("/projects/", {"name": "x"})
        database.close_connection()
        path.rename(tmp_path / "elsewhere.db")
        for path_ in ("/projects/", "/status"):
            answer = ann.ask("GET", path_)
            assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
            assert answer.headers["content-type"] == "application/problem+json"
            assert "secret-name" not in answer.text
        assert client.get("/health").status_code == 503
        (tmp_path / "elsewhere.db").rename(path)
        assert len(ann.get("/projects/")["data"]["projects"]) == 1


def test_a_row_that_cannot_be_read_is_a_defect_and_named_so(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    with PromptStudioDatabase(path, "web") as database:
        app = create_app(database, Users(TOKENS))
        with TestClient(app, raise_server_exceptions=False) as client, closing(sqlite3.connect(path)) as hand:
            ann = Asker(client, "token-of-ann-0000")
            project = ann.post("/projects/", {"name": "x"})["data"]["id"]
            hand.execute("UPDATE prompt_studio_projects SET metadata = ?", ["9" * 5_000])
            hand.commit()
            answer = ann.ask("GET", f"/projects/get/{project}")
    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")


def test_a_read_that_meets_somebody_in_the_way_is_to_be_tried_again(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    settings = Settings(write_retry_seconds=0.1, sqlite_wal=False)
    with (
        PromptStudioDatabase(path, "web", settings=settings) as database,
        TestClient(create_app(database, Users(TOKENS))) as client,
        closing(sqlite3.connect(path)) as rival,
    ):
        rival.execute("BEGIN EXCLUSIVE")
        answer = client.get("/health")
        rival.rollback()
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
