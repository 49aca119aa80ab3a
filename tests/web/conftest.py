"""An application on each store, and users who ask it."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any, Final

import psycopg
import pytest
from fastapi.testclient import TestClient
from httpx2 import Response

from prompt_studio import PromptStudioDatabase
from prompt_studio.storage.dialect import NO_PARAMETERS, Parameters, Row
from prompt_studio.storage.statements import Statement
from prompt_studio.storage.transactions import Session
from prompt_studio.web import Users, create_app
from tests.harness.locations import DATABASES, Location

PREFIX: Final = "/api/v1/prompt-studio"
TOKENS: Final = {"token-of-ann-0000": "ann", "token-of-bob-0000": "bob"}


@dataclass(frozen=True, slots=True)
class Asker:
    """A user, or nobody, who sends requests."""

    client: TestClient
    token: str | None

    def ask(self, method: str, path: str, *, key: str | None = None, **how: Any) -> Response:  # noqa: ANN401 - httpx's
        headers = {"Content-Type": "application/json"} | dict(how.pop("headers", {}))
        if self.token is not None:
            headers["Authorization"] = f"Bearer {self.token}"
        if key is not None:
            headers["Idempotency-Key"] = key
        answer: Response = self.client.request(method, PREFIX + path, headers=headers, **how)
        return answer

    def post(self, path: str, body: object = None, *, key: str | None = None, status: int = 201) -> Any:  # noqa: ANN401 - any JSON value
        answer = self.ask("POST", path, key=key, json=body)
        assert answer.status_code == status, answer.text
        return answer.json()

    def get(self, path: str, *, status: int = 200) -> Any:  # noqa: ANN401 - any JSON value
        answer = self.ask("GET", path)
        assert answer.status_code == status, answer.text
        return answer.json()


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the statements that were sent, by whichever thread; a test may clear it."""
    sent: list[str] = []
    run = Session.run

    def noted(session: Session, statement: Statement, parameters: Parameters = NO_PARAMETERS) -> list[Row]:
        sent.append(statement.name)
        return run(session, statement, parameters)

    monkeypatch.setattr(Session, "run", noted)
    return sent


@pytest.fixture(params=DATABASES, ids=lambda location: location.name)
def location(request: pytest.FixtureRequest) -> Location:
    chosen: Location = request.param
    return chosen


@dataclass(frozen=True, slots=True)
class Served:
    """A database of the whole run, and an application that has the routes, on which nothing is switched on."""

    location: Location
    address: str
    database: PromptStudioDatabase
    client: TestClient


class Places:
    """What is made once in a run at each location: to make an application takes longer than most tests."""

    def __init__(self, directories: pytest.TempPathFactory) -> None:
        self._directories = directories
        self._kept: dict[str, Served] = {}
        self._open = ExitStack()

    def empty(self, location: Location) -> Served:
        """The one at this location, with nothing in its database."""
        if location.name not in self._kept:
            self._kept[location.name] = self._served(location)
        served = self._kept[location.name]
        location.empty(served.address)
        return served

    def close(self) -> None:
        """Take them away."""
        self._open.close()

    def _served(self, location: Location) -> Served:
        address = location.fresh(self._directories.mktemp("served"))
        self._open.callback(location.dispose, address)
        database = self._open.enter_context(location.open(address, None))
        client = self._open.enter_context(TestClient(create_app(database, Users(TOKENS), switched_on=())))
        return Served(location, address, database, client)


@pytest.fixture(scope="session")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Places]:
    places = Places(tmp_path_factory)
    yield places
    places.close()


@pytest.fixture
def served(location: Location, places: Places) -> Served:
    return places.empty(location)


@pytest.fixture
def database(served: Served) -> PromptStudioDatabase:
    return served.database


@pytest.fixture
def by_hand(served: Served) -> Callable[[str], None]:
    """Runs a statement as somebody else may, who is not asked what it means."""

    def run(statement: str) -> None:
        if served.address.startswith("postgresql"):
            with psycopg.connect(served.address) as server:
                server.execute(statement.encode())
        else:
            with closing(sqlite3.connect(served.address)) as file, file:
                file.execute(statement)

    return run


@pytest.fixture
def client(served: Served) -> TestClient:
    return served.client


@pytest.fixture
def ann(client: TestClient) -> Asker:
    return Asker(client, "token-of-ann-0000")


@pytest.fixture
def bob(client: TestClient) -> Asker:
    return Asker(client, "token-of-bob-0000")


@pytest.fixture
def nobody(client: TestClient) -> Asker:
    return Asker(client, None)


@pytest.fixture
def project(ann: Asker) -> int:
    return int(ann.post("/projects/", {"name": "hers"})["data"]["id"])


@pytest.fixture
def prompt(ann: Asker, project: int) -> int:
    return int(ann.post("/prompts/create", {"project_id": project, "name": "first"})["data"]["id"])
