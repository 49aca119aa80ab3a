"""Requests as OpenAPI allows them, and others, by schemathesis: is every answer one that the description has?"""

from collections import Counter
from contextlib import suppress
from typing import Any, Final, cast

import schemathesis
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.web.conftest import PREFIX, TOKENS, Asker

CHECKS: Final = (
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
)


def asked(app: FastAPI, examples: int, source: int, *, only: str = "") -> Counter[tuple[str, int]]:
    """Ask each operation so often, with data that is allowed and data that is not; the answers by path and status.

    `only`: those that have this in their paths.

    Raises:
        FailureGroup: an answer is no answer that the description has, or is an error of the server.
    """
    told: Counter[tuple[str, int]] = Counter()
    _something_there(Asker(TestClient(app), next(iter(TOKENS))))
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    for result in schema.get_all_operations():
        operation = cast("Any", result).ok()
        if only not in operation.path:
            continue
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            _ask(operation, mode, examples, source, told)
    return told


def _ask(operation: Any, mode: GenerationMode, examples: int, source: int, told: Counter[tuple[str, int]]) -> None:  # noqa: ANN401 - schemathesis' own
    @seed(source)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:  # noqa: ANN401 - the same
        answer = case.call(headers={"Authorization": f"Bearer {next(iter(TOKENS))}"})
        told[case.operation.path.removeprefix(PREFIX), answer.status_code] += 1
        case.validate_response(answer, checks=CHECKS)

    with suppress(Unsatisfiable):  # an operation that takes nothing can be given nothing wrong
        ask()


def _something_there(ann: Asker) -> None:
    """A project, a prompt and an optimization: with nothing there every id is unknown."""
    project = ann.post("/projects/", {"name": "there"})["data"]["id"]
    prompt = ann.post("/prompts/create", {"project_id": project, "name": "there"})["data"]["id"]
    ann.post("/optimizations", {"prompt_id": prompt}, status=200)
