"""The OpenAPI description is exact: generated requests get no answer that it does not have."""

from collections import Counter
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import BaseModel
from schemathesis import GenerationMode
from schemathesis.core.failures import FailureGroup

from prompt_studio import PromptStudioDatabase
from prompt_studio.web import Users, create_app
from prompt_studio.web.problems import ProblemError, described
from prompt_studio.web.routes import prompts
from prompt_studio.web.schemas import PromptCreate
from tests.harness.locations import LOCATIONS
from tests.harness.plugin import CERTIFICATE
from tests.web.conftest import PREFIX, TOKENS
from tests.web.generated_requests import Drawing, asked

pytestmark = [pytest.mark.conformance, pytest.mark.verifies("PS-HTTP-5")]

EXAMPLES = 4
MANY = 200
REQUESTS_MIN = 5_000
FIRST_REFUSAL = 400
NOBODY = 401
WRONG = (GenerationMode.NEGATIVE,)
CREATES = {"/projects", "/projects/", "/prompts/create", "/optimizations/create", "/optimizations"}
TAKING_NOTHING = {"/health", "/metrics", "/optimizations/strategies"}
IDS = ("project_id", "prompt_id", "optimization_id", "job_id")

ONE_STORE = pytest.mark.parametrize("location", LOCATIONS[:1], ids=["one store"], indirect=True)
"""What is asked does not depend on the database."""


@pytest.mark.untraced
@pytest.mark.timeout(600)
def test_generated_requests_are_answered_as_described(
    database: PromptStudioDatabase, request: pytest.FixtureRequest
) -> None:
    app = create_app(database, Users(TOKENS))
    told = asked(app, Drawing(EXAMPLES, request.config.stash[CERTIFICATE].seed))
    statuses = {status for _, status in told.answers}
    assert {path for path, _ in told.answers} == {path.removeprefix(PREFIX) for path in app.openapi()["paths"]}
    assert {200, 201, 422} <= statuses  # so few requests meet the others by luck only
    assert told.taking_nothing == TAKING_NOTHING
    assert told.answers.total() > 16 * EXAMPLES


@pytest.mark.soak
@pytest.mark.timeout(7_200)
def test_thousands_of_requests_are_answered_as_described(
    database: PromptStudioDatabase, request: pytest.FixtureRequest
) -> None:
    app = create_app(database, Users(TOKENS))
    told = asked(app, Drawing(MANY, request.config.stash[CERTIFICATE].seed))
    statuses = Counter[int]()
    for (_, status), count in told.answers.items():
        statuses[status] += count
    told_of = (
        f"{told.answers.total():,} requests over HTTP, by status: {dict(sorted(statuses.items()))}; "
        f"{told.wrong_bodies.total()} of them with a wrong body: {dict(told.wrong_bodies)}"
    )
    request.config.stash[CERTIFICATE].told.append(told_of)
    assert {200, 201, 400, 404, 409, 422} <= statuses.keys()
    assert told.answers.total() >= REQUESTS_MIN
    assert told.taking_nothing == TAKING_NOTHING
    done = {path for path, status in told.answers if status < FIRST_REFUSAL}
    assert done == {path.removeprefix(PREFIX) for path in app.openapi()["paths"]}
    assert told.wrong_bodies.keys() == CREATES
    assert min(told.wrong_bodies.values()) > MANY // 20


@ONE_STORE
def test_headers_are_described_where_they_are(database: PromptStudioDatabase) -> None:
    told = create_app(database, Users(TOKENS)).openapi()["paths"]
    has = {
        (path.removeprefix(PREFIX), method, status, name)
        for path, operations in told.items()
        for method, operation in operations.items()
        for status, response in operation["responses"].items()
        for name in response.get("headers", {})
    }
    asked_of_a_user = {(path, method) for path, method, _, name in has if name == "WWW-Authenticate"}
    assert {name for *_, status, name in has if status == "401"} == {"WWW-Authenticate"}
    assert asked_of_a_user == {
        (path.removeprefix(PREFIX), method) for path, operations in told.items() for method in operations
    } - {("/health", "get"), ("/metrics", "get")}
    assert {(path, status) for path, _, status, name in has if name == "Idempotency-Replayed"} == {
        ("/projects/", "201"),
        ("/projects", "201"),
        ("/prompts/create", "201"),
        ("/optimizations/create", "201"),
        ("/optimizations", "200"),
    }
    assert {status for *_, status, name in has if name == "Retry-After"} == {"409", "503"}


@ONE_STORE
def test_numbers_are_described_with_their_limits(database: PromptStudioDatabase) -> None:
    told = create_app(database, Users(TOKENS)).openapi()["paths"]
    limits = {
        (path.removeprefix(PREFIX), parameter["name"]): (schema.get("minimum"), schema.get("maximum"))
        for path, operations in told.items()
        for operation in operations.values()
        for parameter in operation.get("parameters", ())
        if (schema := parameter["schema"]).get("type") == "integer"
    }
    assert {name for _, name in limits} == {*IDS, "page", "per_page", "warn_seconds"}
    expected = {"page": (1, 2**31 - 1), "per_page": (1, 1_000), "warn_seconds": (1, 3_600)}
    assert limits == {(path, name): expected.get(name, (1, 2**63 - 1)) for path, name in limits}
    # Nothing that a schema says is said by words that JSON Schema does not have.
    assert "'ge'" not in str(told)
    assert "'le'" not in str(told)


@pytest.mark.untraced
@pytest.mark.timeout(600)
@ONE_STORE
def test_an_answer_that_is_not_described_is_found(database: PromptStudioDatabase) -> None:
    app = create_app(database, Users(TOKENS))

    @app.get(f"{PREFIX}/surprise")
    def surprise(number: int) -> None:
        raise ProblemError(418, f"{number} is a teapot")

    with pytest.raises(FailureGroup, match="distinct failure"):
        asked(app, Drawing(1, 1), only="surprise")


@pytest.mark.untraced
@pytest.mark.timeout(600)
@ONE_STORE
def test_a_request_that_is_allowed_and_refused_is_found(database: PromptStudioDatabase) -> None:
    app = create_app(database, Users(TOKENS))

    @app.get(f"{PREFIX}/surprise", responses=described(422))
    def surprise(number: int) -> None:
        raise ProblemError(422, f"{number} is no number of today")

    with pytest.raises(AssertionError, match=r"refused what its description allows: GET .*/surprise: 422"):
        asked(app, Drawing(1, 1), only="surprise")


@pytest.mark.untraced
@pytest.mark.timeout(600)
@ONE_STORE
def test_a_request_that_is_not_allowed_and_taken_is_found(database: PromptStudioDatabase) -> None:
    app = create_app(database, Users(TOKENS))
    told = {"name": "number", "in": "query", "required": True, "schema": {"type": "integer"}}

    @app.get(f"{PREFIX}/surprise", openapi_extra={"parameters": [told]})
    def surprise() -> None:
        """Whatever the number is."""

    with pytest.raises(FailureGroup, match="distinct failure") as found:
        asked(app, Drawing(EXAMPLES, 1), only="surprise")
    assert "Invalid data should have been rejected" in str(found.value.exceptions)


class AnyExamples(PromptCreate):
    """What the library would take: any JSON value."""

    few_shot_examples: Any = None


class AnyPrompt(PromptCreate):
    """What the library refuses by itself, with a text."""

    system_prompt: Any = None


@pytest.mark.untraced
@pytest.mark.timeout(600)
@ONE_STORE
@pytest.mark.parametrize("lax", [AnyExamples, AnyPrompt], ids=lambda model: model.__name__)
def test_one_field_of_a_body_that_is_not_looked_at_is_found(
    database: PromptStudioDatabase, monkeypatch: pytest.MonkeyPatch, lax: type[BaseModel]
) -> None:
    monkeypatch.setattr(prompts, "PromptCreate", lax)
    with pytest.raises((AssertionError, FailureGroup, ExceptionGroup)) as found:
        asked(create_app(database, Users(TOKENS)), Drawing(MANY, 1, WRONG, shrinks=False), only="/prompts/create")
    told = str(getattr(found.value, "exceptions", found.value))
    assert "did not refuse a wrong body for what it is" in told or "Invalid data should have been rejected" in told


@ONE_STORE
@pytest.mark.verifies("PS-HTTP-1")
def test_each_operation_is_refused_to_nobody(client: TestClient) -> None:
    told = client.get("/openapi.json").json()["paths"]
    asked_for_a_user = {
        (method, path)
        for path, operations in told.items()
        for method in operations
        if client.request(method, path.replace("{", "").replace("}", "")).status_code == NOBODY
    }
    everything = {(method, path) for path, operations in told.items() for method in operations}
    assert everything - asked_for_a_user == {("get", "/health"), ("get", "/metrics")}
