"""A host application with the routes in it, which is what it was without them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import PlainTextResponse
from fastapi.security import HTTPBearer
from fastapi.testclient import TestClient
from pydantic import BaseModel

from prompt_studio import InputError, PromptStudioDatabase
from prompt_studio.web import Users, include_routes, user_of_request, watching
from prompt_studio.web.routes.optimizations import _validate_strategy_config
from tests.harness.locations import LOCATIONS, Location
from tests.web.conftest import PREFIX, TOKENS

pytestmark = [pytest.mark.conformance, pytest.mark.verifies("PS-HTTP-6")]


@pytest.fixture
def location() -> Location:
    """One store stands for all: it is the application that is asked."""
    return LOCATIONS[0]


class NobodyHereError(Exception):
    """What the host's own dependency raises."""


class Project(BaseModel):
    """A model whose name the library has a use for, too."""

    title: str


class Problem(BaseModel):
    """The same."""

    reason: str


def whoever(x_user: Annotated[str, Header()] = "") -> str:
    if not x_user:
        raise NobodyHereError
    return x_user


async def in_a_while() -> bool:
    """An answer that has to be awaited."""
    return True


def a_host() -> FastAPI:
    """An application with everything of its own."""
    app = FastAPI(title="host")
    app.state.database = "the host's"

    async def said(_: Request, error: Exception) -> PlainTextResponse:
        return PlainTextResponse(f"host: {type(error).__name__}", 499)

    for kind in (HTTPException, RequestValidationError, InputError, LookupError, NobodyHereError, Exception):
        app.add_exception_handler(kind, said)

    bearer = HTTPBearer(auto_error=False, description="the host's", bearerFormat="JWT")

    @app.get("/health")
    def health() -> str:
        return "the host's"

    @app.post("/own/projects", responses={404: {"model": Problem}})
    def own(project: Project, _: Annotated[object, Depends(bearer)], number: int = 1) -> Project:
        if number == 2:
            raise InputError("own")
        if number == 3:
            raise HTTPException(404, "own")
        return project

    return app


@pytest.fixture
def host(database: PromptStudioDatabase) -> FastAPI:
    app = a_host()
    app.dependency_overrides[user_of_request] = whoever
    include_routes(app, database)
    return app


@pytest.fixture
def asked(host: FastAPI) -> Iterator[TestClient]:
    with TestClient(host, raise_server_exceptions=False) as client:
        yield client


class TestAHost:
    def test_keeps_its_handlers_state_and_routes(self, host: FastAPI, asked: TestClient) -> None:
        alone = a_host()
        assert host.exception_handlers.keys() == alone.exception_handlers.keys()
        assert vars(host.state) == vars(alone.state)
        assert "openapi" not in vars(host)
        assert asked.get("/health").json() == "the host's"
        errors = {"2": "InputError", "3": "HTTPException", "x": "RequestValidationError"}
        for number, kind in errors.items():
            answer = asked.post(f"/own/projects?number={number}", json={"title": "t"})
            assert (answer.status_code, answer.text) == (499, f"host: {kind}")
        assert asked.get("/metrics").json() == {"detail": "Not Found"}

    @pytest.mark.parametrize("users", [None, Users(TOKENS)], ids=["the host's users", "users of ours"])
    def test_keeps_the_names_of_its_description(self, database: PromptStudioDatabase, users: Users | None) -> None:
        host = a_host()
        include_routes(host, database, users)
        own, alone = host.openapi(), a_host().openapi()
        kept = {
            kind: {name: told for name, told in named.items() if not name.startswith("Studio")}
            for kind, named in own["components"].items()
        }
        assert kept == alone["components"]
        assert {path: told for path, told in own["paths"].items() if not path.startswith(PREFIX)} == alone["paths"]
        secured = {
            name
            for path, operations in own["paths"].items()
            if path.startswith(PREFIX)
            for operation in operations.values()
            for scheme in operation.get("security", ())
            for name in scheme
        }
        assert secured == (set() if users is None else {"StudioBearer"})

    def test_has_problems_for_answers_of_these_routes_alone(self, asked: TestClient) -> None:
        headers = {"X-User": "eve"}
        for path, status in (("/projects/get/99", 404), ("/projects/get/x", 422), ("/status?warn_seconds=0", 422)):
            answer = asked.get(PREFIX + path, headers=headers)
            assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
        made = asked.post(f"{PREFIX}/projects", headers=headers, json={"name": "x"})
        assert (made.status_code, made.json()["user_id"]) == (201, "eve")
        again = asked.post(f"{PREFIX}/projects", headers=headers, json={"name": "x"})
        assert (again.status_code, again.json()["title"]) == (409, "Conflict")

    def test_hears_of_its_own_errors(self, asked: TestClient) -> None:
        answer = asked.get(f"{PREFIX}/status")
        assert (answer.status_code, answer.text) == (499, "host: NobodyHereError")

    @pytest.mark.parametrize(("status", "title"), [(403, "Forbidden"), (499, "Refused")])
    def test_that_refuses_by_status_is_told_of_in_a_problem(
        self, host: FastAPI, asked: TestClient, status: int, title: str
    ) -> None:
        def refuse() -> str:
            raise HTTPException(status, "not you", {"X-Reason": "host"})

        host.dependency_overrides[user_of_request] = refuse
        answer = asked.get(f"{PREFIX}/status")
        assert answer.json() == {"type": "about:blank", "title": title, "status": status, "detail": "not you"}
        assert (answer.status_code, answer.headers["X-Reason"]) == (status, "host")

    @pytest.mark.parametrize(
        ("path", "status"), [("/projects/get/99", 404), ("/projects/get/x", 422), ("/status", 200)]
    )
    def test_is_told_of_a_refusal_by_an_error_that_its_dependencies_see(
        self, database: PromptStudioDatabase, path: str, status: int
    ) -> None:
        seen: list[str] = []

        def session() -> Iterator[None]:
            try:
                yield
            except HTTPException as refused:
                seen.append(f"rolled back for {refused.status_code}")
                raise
            except RequestValidationError:
                seen.append("rolled back for its form")
                raise
            except Exception as error:
                raise HTTPException(500, "the host's defect") from error
            seen.append("committed")

        app = FastAPI(dependencies=[Depends(session)])
        app.dependency_overrides[user_of_request] = lambda: "eve"
        include_routes(app, database)
        with TestClient(app) as client:
            answer = client.get(PREFIX + path)
        assert answer.status_code == status
        assert status == 200 or answer.headers["content-type"] == "application/problem+json"
        assert seen == [{404: "rolled back for 404", 422: "rolled back for its form", 200: "committed"}[status]]

    def test_may_say_something_else_where_it_hears_of_a_refusal(self, database: PromptStudioDatabase) -> None:
        def session() -> Iterator[None]:
            try:
                yield
            except HTTPException as refused:
                raise HTTPException(418, "the host's") from refused

        app = FastAPI(dependencies=[Depends(session)])
        app.dependency_overrides[user_of_request] = lambda: "eve"
        include_routes(app, database)
        with TestClient(app) as client:
            answer = client.get(f"{PREFIX}/projects/get/99")
        assert (answer.status_code, answer.json()) == (418, {"detail": "the host's"})

    def test_answers_refusals_of_its_own_kind_by_itself(self, database: PromptStudioDatabase) -> None:
        class LoginError(HTTPException):
            """What the host sends to its page of log-ins."""

        async def login(_: Request, error: Exception) -> PlainTextResponse:
            return PlainTextResponse(f"log in: {error}", 307)

        def refuse() -> str:
            raise LoginError(401, "nobody")

        app = FastAPI()
        app.add_exception_handler(LoginError, login)
        app.dependency_overrides[user_of_request] = refuse
        include_routes(app, database)
        with TestClient(app) as client:
            answer = client.get(f"{PREFIX}/status", follow_redirects=False)
        assert (answer.status_code, answer.text) == (307, "log in: 401: nobody")

    def test_may_have_lists_in_its_queries(self, database: PromptStudioDatabase) -> None:
        app = FastAPI()
        app.dependency_overrides[user_of_request] = lambda: "eve"
        include_routes(app, database)
        with TestClient(app) as client:
            assert client.get(f"{PREFIX}/projects/?tag=a&tag=b").status_code == 200

    @pytest.mark.verifies("PS-HTTP-4")
    @pytest.mark.parametrize("name", ["owns_signature", "owns_test_case"])
    def test_must_say_at_once_whose_something_is(self, database: PromptStudioDatabase, name: str) -> None:
        async def owns(*_: object) -> bool:
            return False

        class Owns:
            async def __call__(self, *_: object) -> bool:
                return False

        for asynchronous in (owns, Owns()):
            with pytest.raises(InputError, match=f"{name} must be a plain function"):
                include_routes(FastAPI(), database, **{name: asynchronous})  # type: ignore[arg-type]

    @pytest.mark.parametrize("detail", [{"code": "E7"}, [1, {"a": None}], None, 5], ids=repr)
    def test_that_says_more_than_a_text_is_passed_on_as_it_is(
        self, host: FastAPI, asked: TestClient, detail: object
    ) -> None:
        def refuse() -> str:
            raise HTTPException(403, detail)

        host.dependency_overrides[user_of_request] = refuse
        told = asked.get(f"{PREFIX}/status").json()["detail"]
        assert told == ("Forbidden" if detail is None else detail)

    def test_learns_of_a_defect_by_a_problem(self, host: FastAPI, asked: TestClient) -> None:
        def broken() -> str:
            raise RuntimeError

        host.dependency_overrides[user_of_request] = broken
        answer = asked.get(f"{PREFIX}/status")
        assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")

    def test_may_have_the_routes_twice(self, database: PromptStudioDatabase, tmp_path: Path) -> None:
        app = FastAPI()
        app.dependency_overrides[user_of_request] = lambda: "eve"
        with PromptStudioDatabase(tmp_path / "other.db", "web") as second:
            other = APIRouter(prefix="/other")
            include_routes(app, database)
            include_routes(other, second)
            app.include_router(other)
            with TestClient(app) as client:
                client.post(f"{PREFIX}/projects", json={"name": "first"})
                client.post(f"/other{PREFIX}/projects", json={"name": "second"})
            assert [one["name"] for one in database.list_projects()["projects"]] == ["first"]
            assert [one["name"] for one in second.list_projects()["projects"]] == ["second"]

    def test_may_have_what_watches_it(self, database: PromptStudioDatabase) -> None:
        app = FastAPI()
        app.include_router(watching(database), prefix="/studio")
        with TestClient(app) as client:
            assert client.get("/studio/health").json() == {"status": "ok"}
            assert "prompt_studio_database_up 1.0" in client.get("/studio/metrics").text

    @pytest.mark.verifies("PS-HTTP-4")
    def test_says_whose_signatures_are(self, database: PromptStudioDatabase) -> None:
        app = FastAPI()
        app.dependency_overrides[user_of_request] = lambda: "eve"
        seen: list[tuple[Any, ...]] = []

        def owns(*asked: Any) -> bool:  # noqa: ANN401 - as it comes
            seen.append(asked)
            return bool(asked[-1] == 5)

        include_routes(app, database, owns_signature=owns)
        with TestClient(app) as client:
            project = client.post(f"{PREFIX}/projects", json={"name": "x"}).json()["id"]
            body = {"project_id": project, "name": "p"}
            refused = client.post(f"{PREFIX}/prompts/create", json=body | {"signature_id": 6})
            assert (refused.status_code, refused.json()["detail"]) == (404, "there is no signature 6")
            made = client.post(f"{PREFIX}/prompts/create", json=body | {"signature_id": 5})
        assert (made.status_code, made.json()["data"]["signature_id"]) == (201, 5)
        assert seen == [("eve", project, 6), ("eve", project, 5)]

    @pytest.mark.verifies("PS-HTTP-4")
    def test_says_whose_test_cases_are(self, database: PromptStudioDatabase) -> None:
        app, silent = FastAPI(), FastAPI()
        seen: list[tuple[Any, ...]] = []

        def owns(*asked: Any) -> bool:  # noqa: ANN401 - as it comes
            seen.append(asked)
            return bool(asked[-1] in {5, 7})

        include_routes(app, database, owns_test_case=owns)
        include_routes(silent, database)
        for one in (app, silent):
            one.dependency_overrides[user_of_request] = lambda: "eve"
        with TestClient(app) as client, TestClient(silent) as other:
            project = client.post(f"{PREFIX}/projects", json={"name": "x"}).json()["id"]
            body = {"project_id": project, "name": "p"}
            prompt = client.post(f"{PREFIX}/prompts/create", json=body).json()["data"]["id"]
            config = {"optimizer_type": "greedy", "target_metric": "accuracy"}
            body = {"project_id": project, "initial_prompt_id": prompt, "optimization_config": config}
            path = f"{PREFIX}/optimizations/create"
            refused = client.post(path, json=body | {"test_case_ids": [5, 6, 7]})
            assert (refused.status_code, refused.json()["detail"]) == (404, "there is no test case 6")
            assert database.count_jobs() == 0
            made = client.post(path, json=body | {"test_case_ids": [5, 7, 5]})
            unasked = other.post(path, json=body | {"test_case_ids": [6]})
        assert seen == [("eve", project, number) for number in (5, 6, 5, 7)]
        assert [one.status_code for one in (made, unasked)] == [201, 201]
        assert [job["payload"]["test_case_ids"] for job in database.list_jobs()] == [[5, 7, 5], [6]]

    @pytest.mark.verifies("PS-HTTP-4")
    @pytest.mark.parametrize("owner", [lambda *_: 1, lambda *_: in_a_while()], ids=["one", "a coroutine"])
    @pytest.mark.filterwarnings("ignore:coroutine 'in_a_while' was never awaited")
    def test_must_say_true_of_what_is_somebodys(self, database: PromptStudioDatabase, owner: Any) -> None:  # noqa: ANN401 - wrong
        app = FastAPI()
        app.dependency_overrides[user_of_request] = lambda: "eve"
        include_routes(app, database, owns_signature=owner, owns_test_case=owner)
        with TestClient(app) as client:
            project = client.post(f"{PREFIX}/projects", json={"name": "x"}).json()["id"]
            body = {"project_id": project, "name": "p"}
            refused = [client.post(f"{PREFIX}/prompts/create", json=body | {"signature_id": 5})]
            prompt = client.post(f"{PREFIX}/prompts/create", json=body).json()["data"]["id"]
            config = {"optimizer_type": "greedy", "target_metric": "accuracy"}
            body = {"project_id": project, "initial_prompt_id": prompt, "optimization_config": config}
            refused.append(client.post(f"{PREFIX}/optimizations/create", json=body | {"test_case_ids": [5]}))
        assert [one.status_code for one in refused] == [404, 404]


class TestWhatIsSwitchedOn:
    @pytest.mark.parametrize(("environment", "available"), [("production", False), ("dev", True)])
    def test_is_so_by_the_environment(
        self, database: PromptStudioDatabase, monkeypatch: pytest.MonkeyPatch, environment: str, *, available: bool
    ) -> None:
        monkeypatch.setenv("ENVIRONMENT", environment)
        app = FastAPI()
        app.dependency_overrides[user_of_request] = lambda: "eve"
        include_routes(app, database)
        with TestClient(app) as client:
            told = client.get(f"{PREFIX}/optimizations/strategies").json()["data"]
        assert {one["name"]: one["available"] for one in told}["mcts"] is available

    def test_is_what_the_host_says(self, database: PromptStudioDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ENVIRONMENT", "dev")
        app = FastAPI()
        app.dependency_overrides[user_of_request] = lambda: "eve"
        include_routes(app, database, switched_on=())
        with TestClient(app) as client:
            told = client.get(f"{PREFIX}/optimizations/strategies").json()["data"]
        assert {one["name"]: one["available"] for one in told}["mcts"] is False

    def test_counts_for_who_checks_a_configuration_by_himself(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ENVIRONMENT", "production")
        with pytest.raises(HTTPException) as refused:
            _validate_strategy_config("mcts", {})
        assert refused.value.status_code == 400
        assert "not switched on" in str(refused.value.detail)
        monkeypatch.setenv("ENVIRONMENT", "dev")
        _validate_strategy_config("mcts", {})
