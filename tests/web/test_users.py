"""Who asks: bearer tokens from a file, or whatever a host application says."""

from pathlib import Path
from typing import Annotated

import pytest
from fastapi import Cookie, Depends, FastAPI, Header
from fastapi.testclient import TestClient

from prompt_studio import InputError, PromptStudioDatabase
from prompt_studio.web import Users, include_routes, user_of_request
from tests.harness.locations import LOCATIONS, Location

pytestmark = [pytest.mark.conformance, pytest.mark.verifies("PS-HTTP-1")]


@pytest.fixture
def location() -> Location:
    return LOCATIONS[0]


class TestAFile:
    def test_names_users_by_their_tokens(self, tmp_path: Path) -> None:
        path = tmp_path / "users"
        path.write_text("# who may ask\n\n0123456789abcdef ann\n  fedcba9876543210   bob of sales \n")
        users = Users.read(path)
        assert users.named_by("0123456789abcdef") == "ann"
        assert users.named_by("fedcba9876543210") == "bob of sales"
        assert users.named_by("0123456789abcde") is users.named_by("") is None

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("", "names no user"),
            ("# nobody\n", "names no user"),
            ("0123456789abcdef", "line 1"),
            ("0123456789abcdef ann\n0123456789abcdef bob", "line 2"),
            ("short ann", "at least 16 characters"),
            ("0123456789abcd\xe9f ann", "ASCII"),
            (f"0123456789abcdef {'a' * 256}", "1 to 255"),
        ],
    )
    def test_that_is_wrong_says_where(self, tmp_path: Path, text: str, said: str) -> None:
        path = tmp_path / "users"
        path.write_text(text, encoding="utf-8")
        with pytest.raises(InputError, match=said):
            Users.read(path)

    def test_that_cannot_be_read_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "latin").write_bytes(b"0123456789abcdef \xe9")
        for path in (tmp_path / "nowhere", tmp_path, tmp_path / "latin"):
            with pytest.raises(InputError, match=f"the file of users, {path}, cannot be read"):
                Users.read(path)

    @pytest.mark.parametrize("user", ["", " ", "ann ", "\tann"], ids=repr)
    def test_names_nobody_who_could_not_ask(self, user: str) -> None:
        with pytest.raises(InputError, match="no spaces around"):
            Users({"0123456789abcdef": user})


class TestAHost:
    def test_says_by_itself_who_asks(self, database: PromptStudioDatabase) -> None:
        def whoever(x_user: Annotated[str, Header()]) -> str:
            return x_user

        app = FastAPI()
        include_routes(app, database)
        app.dependency_overrides[user_of_request] = whoever
        with TestClient(app) as client:
            made = client.post("/api/v1/prompt-studio/projects", headers={"X-User": "eve"}, json={"name": "x"})
            assert (made.status_code, made.json()["user_id"]) == (201, "eve")

    @pytest.mark.parametrize(
        "named", [None, "", " ", "ann ", " ann", "ann\n", "\u00a0ann", "x" * 256, "\0", True, 1.5, ["ann"]], ids=repr
    )
    def test_that_names_nobody_lets_nobody_in(self, database: PromptStudioDatabase, named: object) -> None:
        database.create_project("secret", user_id="ann")
        app = FastAPI()
        include_routes(app, database)
        app.dependency_overrides[user_of_request] = lambda: named
        with TestClient(app) as client:
            asked = [
                client.get("/api/v1/prompt-studio/projects/"),
                client.get("/api/v1/prompt-studio/status"),
                client.post("/api/v1/prompt-studio/projects/", json={"name": "x"}, headers={"Idempotency-Key": "k"}),
            ]
        assert [answer.status_code for answer in asked] == [401] * 3
        assert database.list_projects()["pagination"]["total"] == 1

    @pytest.mark.parametrize("where", [Header(), Cookie()], ids=["header", "cookie"])
    def test_that_wants_what_a_request_lacks_lets_nobody_in(
        self, database: PromptStudioDatabase, where: object
    ) -> None:
        def whoever(x_user: str) -> str:
            return x_user

        whoever.__annotations__["x_user"] = Annotated[str, where]
        app = FastAPI()
        include_routes(app, database)
        app.dependency_overrides[user_of_request] = whoever
        with TestClient(app) as client:
            answers = [
                client.get("/api/v1/prompt-studio/status"),
                client.get("/api/v1/prompt-studio/projects/get/x?page=0"),  # who asks is asked first
                client.get("/api/v1/prompt-studio/projects/?search=a&search=b"),
                client.post("/api/v1/prompt-studio/optimizations/cancel/x"),
                client.post("/api/v1/prompt-studio/projects/", json={"name": "x"}),
            ]
        for answer in answers:
            assert (answer.status_code, answer.json()["detail"]) == (401, "a valid user is needed")
            assert answer.headers["WWW-Authenticate"] == "Bearer"

    def test_that_cannot_read_a_header_says_so(self, database: PromptStudioDatabase) -> None:
        def tenant_of(x_tenant: Annotated[int, Header()]) -> int:
            return x_tenant

        host = FastAPI(dependencies=[Depends(tenant_of)])
        include_routes(host, database)
        host.dependency_overrides[user_of_request] = lambda: "ann"
        with TestClient(host) as client:
            answers = [client.get("/api/v1/prompt-studio/status", headers={"X-Tenant": value}) for value in ("7", "x")]
        assert [answer.status_code for answer in answers] == [200, 422]

    def test_that_names_something_else_learns_it_from_the_log(
        self, database: PromptStudioDatabase, caplog: pytest.LogCaptureFixture
    ) -> None:
        app = FastAPI()
        include_routes(app, database)
        app.dependency_overrides[user_of_request] = lambda: ["secret"]
        with TestClient(app) as client:
            assert client.get("/api/v1/prompt-studio/status").status_code == 401
        (record,) = caplog.records
        assert "not a list" in record.getMessage()
        assert "secret" not in caplog.text

    def test_may_name_a_number(self, database: PromptStudioDatabase) -> None:
        app = FastAPI()
        include_routes(app, database)
        app.dependency_overrides[user_of_request] = lambda: 7
        with TestClient(app) as client:
            made = client.post("/api/v1/prompt-studio/projects", json={"name": "x"})
            assert made.json()["user_id"] == "7"
            assert client.get(f"/api/v1/prompt-studio/projects/get/{made.json()['id']}").status_code == 200

    def test_that_says_nothing_lets_nobody_in(self, database: PromptStudioDatabase) -> None:
        app = FastAPI()
        include_routes(app, database)
        with TestClient(app) as client:
            headers = {"Authorization": "Bearer 0123456789abcdef"}
            assert client.get("/api/v1/prompt-studio/status", headers=headers).status_code == 401
