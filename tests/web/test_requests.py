"""What no request may be, whatever the database: nobody's, no JSON, with a malformed key, too long."""

import asyncio
from collections.abc import MutableMapping
from typing import Any

import pytest

from tests.harness.locations import LOCATIONS, Location
from tests.web.conftest import Asker

pytestmark = pytest.mark.conformance


MALFORMED_KEYS = ["", " ", "k\tk", "k" * 256, "\xe9"]
NO_JSON = [
    b"",
    b"{",
    b"nonsense",
    b"NaN",
    b'{"a": Infinity}',
    b"\xff",
    b"[" * 5_000,
    b'"\\ud800"',
    b"1" * 5_000,
    b'"\\u0000"',
]


MISTYPED: list[tuple[str, object]] = [
    ("project_id", "1"),
    ("project_id", True),
    ("initial_prompt_id", 1.5),
    ("test_case_ids", ["1"]),
    ("name", 1),
    ("bootstrap_config.num_samples", "10"),
    ("bootstrap_config.quality_threshold", True),
    ("bootstrap_config.quality_threshold", "0.5"),
    ("optimization_config.max_iterations", "1"),
    ("optimization_config.max_iterations", True),
    ("optimization_config.max_iterations", 1.5),
    ("optimization_config.target_value", "1"),
    ("optimization_config.target_value", True),
    ("optimization_config.early_stopping", 1),
    ("optimization_config.early_stopping", "yes"),
    ("optimization_config.early_stopping_patience", "1"),
    ("optimization_config.temperature_range", ["0", 1]),
    ("optimization_config.temperature_range", [0, True]),
    ("optimization_config.techniques_to_try", "cot"),
    ("optimization_config.techniques_to_try", [1]),
    ("optimization_config.models_to_test", [1]),
    ("optimization_config.budget_limit", "5"),
    ("optimization_config.budget_limit", False),
    ("optimization_config.optimizer_type", 1),
    ("optimization_config.target_metric", 1),
]


@pytest.fixture
def location() -> Location:
    """One store stands for all: none is asked."""
    return LOCATIONS[0]


@pytest.mark.verifies("PS-HTTP-1", "PS-HTTP-3")
class TestARequest:
    @pytest.mark.parametrize("key", MALFORMED_KEYS, ids=repr)
    def test_refuses_a_malformed_key(self, ann: Asker, key: str) -> None:
        answer = ann.ask("POST", "/projects/", json={"name": "x"}, headers={"Idempotency-Key": key.encode("latin-1")})
        assert answer.status_code == 400

    def test_refuses_two_keys(self, ann: Asker) -> None:
        headers = [("Authorization", f"Bearer {ann.token}"), ("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
        answer = ann.client.post("/api/v1/prompt-studio/projects/", headers=headers, json={"name": "x"})
        assert answer.status_code == 400

    @pytest.mark.parametrize("content", NO_JSON, ids=lambda content: repr(content[:20]))
    def test_refuses_what_is_no_json(self, ann: Asker, content: bytes) -> None:
        answer = ann.ask("POST", "/projects/", content=content, key="k")
        assert (answer.status_code, "must be JSON" in answer.json()["detail"]) == (400, True)

    @pytest.mark.parametrize(
        "body", [b"null", b"5", b'"x"', b"[]", b'[{"name": "x"}]', b"{}", b'{"name": 5}', b'{"name": ""}']
    )
    def test_refuses_what_breaks_the_schema(self, ann: Asker, body: bytes) -> None:
        answer = ann.ask("POST", "/projects/", content=body, key="k")
        assert (answer.status_code, type(answer.json()["detail"])) == (422, list)

    def test_refuses_a_body_that_is_too_long(self, ann: Asker) -> None:
        answer = ann.ask("POST", "/projects/", content=b" " * (1024 * 1024 + 1))
        assert answer.status_code == 413

    @pytest.mark.parametrize("kind", ["text/plain", "", "application/x-www-form-urlencoded", "application/jsonp"])
    def test_refuses_what_is_not_said_to_be_json(self, ann: Asker, kind: str) -> None:
        answer = ann.ask("POST", "/projects/", content=b'{"name": "x"}', headers={"Content-Type": kind})
        assert answer.status_code == 415

    @pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "Application/JSON", "application/ld+json"])
    def test_takes_every_kind_of_json(self, ann: Asker, kind: str) -> None:
        answer = ann.ask("POST", "/projects/", content=b'{"name": "x"}', headers={"Content-Type": kind})
        assert answer.status_code == 201

    def test_is_told_of_a_few_errors_of_many(self, ann: Asker) -> None:
        body = {"project_id": 1, "initial_prompt_id": 1, "optimization_config": {"techniques_to_try": [0] * 50_000}}
        told = ann.post("/optimizations/create", body, status=422)["detail"]
        assert (len(told), told[-1]["msg"]) == (21, "and 49,982 more")

    @pytest.mark.verifies("PS-HTTP-4")
    def test_speaks_of_so_many_test_cases_at_most(self, ann: Asker, project: int, prompt: int) -> None:
        config = {"optimizer_type": "greedy", "target_metric": "accuracy"}
        body = {"project_id": project, "initial_prompt_id": prompt, "optimization_config": config}
        ann.post("/optimizations/create", body | {"test_case_ids": [1] * 1_000})
        told = ann.post("/optimizations/create", body | {"test_case_ids": [1] * 1_001}, status=422)["detail"]
        assert [one["loc"] for one in told] == [["body", "test_case_ids"]]

    @pytest.mark.parametrize(("field", "value"), MISTYPED, ids=repr)
    @pytest.mark.verifies("PS-HTTP-2")
    def test_takes_what_it_is_given_as_it_is(
        self, ann: Asker, project: int, prompt: int, field: str, value: object
    ) -> None:
        body: dict[str, Any] = {
            "project_id": project,
            "initial_prompt_id": prompt,
            "optimization_config": {"optimizer_type": "greedy", "target_metric": "accuracy"},
            "bootstrap_config": {},
        }
        inner, _, outer = field.rpartition(".")[::-1]
        (body[outer] if outer else body)[inner] = value
        told = ann.post("/optimizations/create", body, status=422)["detail"]
        assert all(error["loc"][1] == (outer or inner) and inner in error["loc"] for error in told), told
        if outer == "optimization_config":
            told = ann.post("/optimizations", {"prompt_id": prompt, "config": {inner: value}}, status=422)["detail"]
            assert all(error["loc"][1] == "config" and inner in error["loc"] for error in told), told

    @pytest.mark.verifies("PS-HTTP-5")
    def test_takes_each_spelling_of_a_whole_number(self, ann: Asker, project: int, prompt: int) -> None:
        for number in ("7", "7.0", "7e0", "70e-1"):
            config = f'{{"optimizer_type": "greedy", "target_metric": "accuracy", "max_iterations": {number}}}'
            body = f'{{"project_id": {project}.0, "initial_prompt_id": {prompt}, "optimization_config": {config}}}'
            answer = ann.ask("POST", "/optimizations/create", content=body.encode())
            made = answer.json()["data"]["optimization"]
            kept = made["optimization_config"]["max_iterations"], made["max_iterations"]
            assert [(type(one), one) for one in kept] == [(int, 7)] * 2

    @pytest.mark.parametrize("number", ["1.0", "+1", "1_0", "%201", "01", "\N{ARABIC-INDIC DIGIT ONE}", "true", "1e0"])
    def test_takes_plain_digits_only(self, ann: Asker, number: str) -> None:
        for path in (
            f"/projects/get/{number}",
            f"/optimizations/list/{number}",
            f"/projects/?page={number.replace('+', '%2B')}",
            f"/projects/?per_page={number.replace('+', '%2B')}",
            f"/status?warn_seconds={number.replace('+', '%2B')}",
        ):
            ann.get(path, status=422)

    @pytest.mark.parametrize(
        ("path", "name"),
        [
            ("/projects/?search=a&search=b", "search"),
            ("/projects/?page=1&status=draft&page=1", "page"),
            ("/prompts/list/1?per_page=1&per_page=2", "per_page"),
            ("/optimizations/list/1?status=failed&status=", "status"),
            ("/status?warn_seconds=1&warn_seconds=2", "warn_seconds"),
        ],
    )
    @pytest.mark.verifies("PS-HTTP-2")
    def test_says_each_thing_once(self, ann: Asker, path: str, name: str) -> None:
        told = ann.get(path, status=422)["detail"]
        assert told == [{"type": "repeated", "loc": ["query", name], "msg": "may be there once"}]
        assert Asker(ann.client, None).ask("GET", path).status_code == 401

    @pytest.mark.parametrize("token", [None, "", "token-of-eve-0000", "token-of-ann-000"])
    def test_takes_nobody_for_somebody(self, ann: Asker, token: str | None) -> None:
        for method, path in (("GET", "/projects/"), ("POST", "/projects/"), ("GET", "/status")):
            headers = {} if token is None else {"Authorization": f"Bearer {token}"}
            answer = ann.client.request(method, f"/api/v1/prompt-studio{path}", headers=headers)
            assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")

    def test_that_breaks_off_is_no_defect(self, ann: Asker, caplog: pytest.LogCaptureFixture) -> None:
        parts: list[dict[str, Any]] = [
            {"type": "http.request", "body": b'{"name": ', "more_body": True},
            {"type": "http.disconnect"},
        ]
        sent: list[MutableMapping[str, Any]] = []

        async def receive() -> MutableMapping[str, Any]:
            return parts.pop(0)

        async def send(message: MutableMapping[str, Any]) -> None:
            sent.append(message)

        headers = {"authorization": f"Bearer {ann.token}", "content-type": "application/json"}
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/api/v1/prompt-studio/projects/",
            "query_string": b"",
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        }

        async def serve() -> None:
            await ann.client.app(scope, receive, send)

        asyncio.run(serve())
        assert sent[0]["status"] == 400
        assert caplog.records == []
