"""Whoever waits for the database waits on a thread, and everybody else is answered meanwhile."""

import asyncio
import inspect
import sqlite3
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, closing, contextmanager
from pathlib import Path
from threading import Barrier, Event, Semaphore
from typing import Annotated, Final

import httpx2
import pytest
from fastapi import APIRouter, FastAPI, Header
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient

from prompt_studio import PromptStudioDatabase, Settings
from prompt_studio.storage.patience import Patience
from prompt_studio.web import Users, create_app, user_of_request, watching
from prompt_studio.web.routes import optimizations, projects, prompts, status
from prompt_studio.web.turns import WRITERS_MAX, Turns
from tests.web.conftest import TOKENS, Asker

LIMIT_SECONDS: Final = 40.0
WAIT_SECONDS: Final = 30.0
BUSY_SECONDS: Final = 10.0
LINE_SECONDS: Final = 4.0
SHARED_THREADS: Final = 40
"""AnyIO's, on which FastAPI runs what is no coroutine."""
MANY: Final = 60
LOOPS: Final = 6

pytestmark = [pytest.mark.conformance, pytest.mark.verifies("PS-HTTP-7")]

ROUTERS = [module.router for module in (projects, prompts, optimizations, status)]


def handlers(routers: list[APIRouter]) -> dict[str, object]:
    return {
        f"{route.methods} {route.path}": route.endpoint
        for router in routers
        for route in router.routes
        if isinstance(route, APIRoute)
    }


def test_no_handler_runs_on_the_loop(tmp_path: Path) -> None:
    with PromptStudioDatabase(tmp_path / "jobs.db", "web") as database:
        found = handlers([*ROUTERS, watching(database)])
    assert len(found) == 17
    # That one sends its read to a thread by itself, as is seen below.
    assert [name for name, handler in found.items() if inspect.iscoroutinefunction(handler)] == ["{'GET'} /health"]


def test_no_dependency_on_the_loop_asks_the_database() -> None:
    """Those that are coroutines only look at the request; what takes long is a plain function, too."""

    def coroutines(dependant: Dependant) -> set[str]:
        assert dependant.call is not None
        on_loop = inspect.iscoroutinefunction(dependant.call) or inspect.isasyncgenfunction(dependant.call)
        own = {dependant.call.__name__} if on_loop else set()
        return own.union(*map(coroutines, dependant.dependencies))

    routes = [route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)]
    found = set().union(*(coroutines(route.dependant) for route in routes))
    of_users = {"user_of_request", "checked_user", "turn_of_user", "turn_of_create"}
    assert found == {
        "edge_of",
        "database_of",
        *of_users,
        "bytes_of",
        "key_of",
        "creation_of",
        "page_of",
        "single_query",
    }


class BesideALock:
    """An application whose file another writer may lock, and those who ask it meanwhile."""

    def __init__(self, client: TestClient, rival: sqlite3.Connection, others: ThreadPoolExecutor) -> None:
        self.client = client
        self.ann = Asker(client, "token-of-ann-0000")
        self._rival = rival
        self._others = others

    @contextmanager
    def locked(self) -> Iterator[None]:
        """The other writer has the file."""
        self._rival.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            self._rival.rollback()

    def create(self, name: str, key: str | None = None, user: str | None = None) -> Future[httpx2.Response]:
        """Create a project of this name, as one of many."""
        headers = {} if user is None else {"X-User": user}
        return self._others.submit(self.ann.ask, "POST", "/projects/", json={"name": name}, key=key, headers=headers)

    def create_many(self, user: str | None = None) -> list[Future[httpx2.Response]]:
        """More of them than there are threads that all share."""
        return [self.create(f"p{number}", user=user) for number in range(MANY)]


@contextmanager
def beside_a_lock(directory: Path, wait_seconds: float) -> Iterator[BesideALock]:
    """Such an application, whose writers wait no longer than this."""
    path = directory / "jobs.db"
    with (
        PromptStudioDatabase(path, "web", settings=Settings(write_retry_seconds=wait_seconds)) as database,
        TestClient(create_app(database, Users(TOKENS))) as client,
        closing(sqlite3.connect(path, check_same_thread=False)) as rival,
        ThreadPoolExecutor(MANY) as others,
    ):
        yield BesideALock(client, rival, others)


def test_others_are_answered_while_a_create_waits(tmp_path: Path) -> None:
    with beside_a_lock(tmp_path, wait_seconds=BUSY_SECONDS) as beside:
        with beside.locked():
            waiting = beside.create("x", key="k")
            for _ in range(10):
                assert beside.ann.get("/optimizations/strategies")["success"] is True
                assert beside.client.get("/health").status_code == 200
            assert not waiting.done()
        assert waiting.result().status_code == 201


def test_more_creates_wait_than_there_are_threads_and_others_are_answered(tmp_path: Path) -> None:
    with beside_a_lock(tmp_path, wait_seconds=WAIT_SECONDS) as beside:
        with beside.locked():
            waiting = beside.create_many()
            for _ in range(10):
                assert beside.client.get("/health").status_code == 200
                assert beside.ann.get("/projects/")["data"]["projects"] == []
            assert not any(one.done() for one in waiting)  # who is given up after that time
        assert {one.result().status_code for one in waiting} == {201}
        assert beside.ann.get("/projects/")["data"]["pagination"]["total"] == MANY


def test_a_create_that_gets_no_turn_may_be_sent_again(tmp_path: Path) -> None:
    with beside_a_lock(tmp_path, wait_seconds=0.1) as beside:
        with beside.locked():
            waiting = [beside.create("x", key="k") for _ in range(MANY)]
            answers = {(one.result().status_code, one.result().headers["Retry-After"]) for one in waiting}
        assert answers == {(409, "1")}
        assert beside.ann.post("/projects/", {"name": "x"}, key="k")["data"]["name"] == "x"
        assert beside.ann.get("/projects/")["data"]["pagination"]["total"] == 1


def test_one_who_may_not_wait_is_served_where_nobody_waits(tmp_path: Path) -> None:
    settings = Settings(write_retry_seconds=0)
    with (
        PromptStudioDatabase(tmp_path / "jobs.db", "web", settings=settings) as database,
        TestClient(create_app(database, Users(TOKENS))) as client,
    ):
        ann = Asker(client, "token-of-ann-0000")
        project = ann.post("/projects", {"name": "x"}, key="k")["id"]
        prompt = ann.post("/prompts/create", {"project_id": project, "name": "p"})["data"]["id"]
        ann.post("/optimizations", {"prompt_id": prompt}, status=200)
        number = ann.get(f"/optimizations/list/{project}")["data"]["optimizations"][0]["id"]
        assert ann.post(f"/optimizations/cancel/{number}", status=200)["data"]["status"] == "cancelled"


@pytest.mark.parametrize(("method", "asked"), [("POST", "/projects/"), ("POST", "/optimizations/cancel/1")])
def test_who_is_nobody_stands_in_no_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, asked: str
) -> None:
    with beside_a_lock(tmp_path, wait_seconds=WAIT_SECONDS) as beside:
        app = beside.client.app
        assert isinstance(app, FastAPI)
        app.dependency_overrides[user_of_request] = named_in_a_header
        nobody, asked_for_turns = Asker(beside.client, None), Semaphore(0)
        taken = Turns.taken

        def noted(turns: Turns) -> AbstractAsyncContextManager[float]:
            asked_for_turns.release()
            return taken(turns)

        monkeypatch.setattr(Turns, "taken", noted)
        with beside.locked():
            waiting = beside.create_many(user="ann")
            for _ in range(MANY):  # all places are taken, and there is a line
                assert asked_for_turns.acquire(timeout=LIMIT_SECONDS)
            assert nobody.ask(method, asked, json={"name": "x"}).status_code == 401
            assert not any(one.done() for one in waiting)  # who stands in line is given up after them
        assert {one.result().status_code for one in waiting} == {201}


def named_in_a_header(x_user: Annotated[str, Header()]) -> str:
    """A host's way of saying who asks."""
    return x_user


def test_a_create_waits_in_line_and_in_the_database_no_longer_than_one_may(tmp_path: Path) -> None:
    patiences: list[float] = []
    begin = Patience.__init__

    def noted(patience: Patience, seconds: float) -> None:
        patiences.append(seconds)
        begin(patience, seconds)

    with beside_a_lock(tmp_path, wait_seconds=LINE_SECONDS) as beside:
        with pytest.MonkeyPatch.context() as patched, beside.locked():
            patched.setattr(Patience, "__init__", noted)
            answers = {one.result().status_code for one in beside.create_many()}
        assert answers == {409}
        # The first have waited for nobody; whoever came to their places has the rest of the time, if there is any.
        half = LINE_SECONDS / 2
        assert max(patiences) > half
        assert all(seconds < half for seconds in sorted(patiences)[:-WRITERS_MAX])


def test_health_is_told_on_each_event_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with PromptStudioDatabase(tmp_path / "jobs.db", "web") as database, ThreadPoolExecutor(MANY) as others:
        app = create_app(database, Users(TOKENS))
        together = Barrier(LOOPS, timeout=BUSY_SECONDS)
        read = PromptStudioDatabase.get_schema_version

        def slow(self: PromptStudioDatabase) -> int:
            together.wait()
            return read(self)

        monkeypatch.setattr(PromptStudioDatabase, "get_schema_version", slow)

        async def ask() -> int:
            async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://here") as client:
                return int((await asyncio.wait_for(client.get("/health"), LIMIT_SECONDS)).status_code)

        asked = [others.submit(lambda: asyncio.run(ask())) for _ in range(LOOPS)]
        assert [one.result() for one in asked] == [200] * LOOPS


@pytest.mark.verifies("PS-HTTP-8")
def test_health_needs_none_of_the_threads_that_all_share(tmp_path: Path) -> None:
    gate, inside = Event(), Semaphore(0)
    with PromptStudioDatabase(tmp_path / "jobs.db", "web") as database, ThreadPoolExecutor(MANY) as others:
        app = create_app(database, Users(TOKENS))

        @app.get("/busy")
        def busy() -> bool:
            inside.release()
            return gate.wait(BUSY_SECONDS)

        with TestClient(app) as client:
            waiting = [others.submit(client.get, "/busy") for _ in range(SHARED_THREADS)]
            try:
                for _ in range(SHARED_THREADS):
                    assert inside.acquire(timeout=LIMIT_SECONDS)
                assert client.get("/health").json() == {"status": "ok"}
            finally:
                gate.set()
            assert all(one.result().json() for one in waiting)  # none has left its thread before
