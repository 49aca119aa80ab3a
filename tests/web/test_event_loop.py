"""Whoever waits for the database waits on a thread, and everybody else is answered meanwhile."""

import inspect
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from fastapi import APIRouter
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient

from prompt_studio import PromptStudioDatabase, Settings
from prompt_studio.web import Users, create_app, watching
from prompt_studio.web.routes import optimizations, projects, prompts, status
from tests.web.conftest import TOKENS, Asker

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
    assert [name for name, handler in found.items() if inspect.iscoroutinefunction(handler)] == []


def test_no_dependency_on_the_loop_asks_the_database() -> None:
    """Those that are coroutines only look at the request; what takes long is a plain function, too."""

    def coroutines(dependant: Dependant) -> set[str]:
        own = {dependant.call.__name__} if inspect.iscoroutinefunction(dependant.call) else set()
        return own.union(*map(coroutines, dependant.dependencies))

    routes = [route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)]
    found = set().union(*(coroutines(route.dependant) for route in routes))
    of_users = {"user_of_request", "checked_user"}
    assert found == {"edge_of", "database_of", *of_users, "bytes_of", "key_of", "creation_of", "page_of"}


def test_others_are_answered_while_a_create_waits(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    with (
        PromptStudioDatabase(path, "web", settings=Settings(write_retry_seconds=5)) as database,
        TestClient(create_app(database, Users(TOKENS))) as client,
        closing(sqlite3.connect(path, check_same_thread=False)) as rival,
        ThreadPoolExecutor(1) as other,
    ):
        ann = Asker(client, "token-of-ann-0000")
        rival.execute("BEGIN IMMEDIATE")
        waiting = other.submit(ann.ask, "POST", "/projects/", json={"name": "x"}, key="k")
        for _ in range(10):
            assert ann.get("/optimizations/strategies")["success"] is True
            assert client.get("/health").status_code == 200
        assert not waiting.done()
        rival.rollback()
        assert waiting.result().status_code == 201
