"""Requests as OpenAPI allows them, and others, by schemathesis: is every answer one that the description has?"""

from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final, cast

import httpx2
import schemathesis
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from hypothesis.strategies import booleans
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.web.conftest import PREFIX, TOKENS, Asker

Ids = Mapping[str, int | None]

AUTHORIZATION: Final = "Authorization"
CHECKS: Final = (
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
)
BEYOND_SCHEMAS: Final = (
    "temperature_range must be [min, max]",
    "prompt_id and initial_prompt_id are",
    "prompt_id or initial",
)
"""What holds between two values, which no schema can say."""


def is_taken(answer: Any) -> bool:  # noqa: ANN401 - schemathesis' own
    """Whether a request that the description allows was not refused for its form: what it asks for may not be there."""
    if answer.status_code < httpx2.codes.BAD_REQUEST:
        return True
    detail = answer.json()["detail"]
    if answer.status_code == httpx2.codes.BAD_REQUEST:  # of knobs, which have rules of their own, and of any text
        return ": it must " in detail or "must not contain U+0000" in detail
    if answer.status_code == httpx2.codes.UNPROCESSABLE_CONTENT and isinstance(detail, list):
        return all(any(known in one["msg"] for known in BEYOND_SCHEMAS) for one in detail)
    if answer.status_code == httpx2.codes.UNPROCESSABLE_CONTENT:  # a key that was drawn before
        return "was used for another request" in detail
    return answer.status_code in {httpx2.codes.NOT_FOUND, httpx2.codes.CONFLICT}


def asked(app: FastAPI, examples: int, source: int, *, only: str = "") -> Counter[tuple[str, int]]:
    """Ask each operation so often, with data that is allowed and data that is not; the answers by path and status.

    `only`: those that have this in their paths.

    Raises:
        FailureGroup: an answer is no answer that the description has, or is an error of the server.
    """
    told: Counter[tuple[str, int]] = Counter()
    there = _something_there(Asker(TestClient(app), next(iter(TOKENS))))
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    for result in schema.get_all_operations():
        operation = cast("Any", result).ok()
        if only not in operation.path:
            continue
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            _ask(operation, mode, (examples, source), there, told)
    return told


def _ask(
    operation: Any,  # noqa: ANN401 - schemathesis' own
    mode: GenerationMode,
    drawn: tuple[int, int],
    there: Ids,
    told: Counter[tuple[str, int]],
) -> None:
    examples, source = drawn
    headers = {AUTHORIZATION: f"Bearer {next(iter(TOKENS))}"}

    @seed(source)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode), of_what_is_there=booleans())
    def ask(case: Any, *, of_what_is_there: bool) -> None:  # noqa: ANN401 - the same
        if of_what_is_there and mode is GenerationMode.POSITIVE:
            for part in (case.path_parameters, case.body):
                if isinstance(part, dict):
                    part |= {name: there[name] for name in part.keys() & there.keys()}
        answer = case.call(headers={} if _of_nobody(case) else headers)
        told[case.operation.path.removeprefix(PREFIX), answer.status_code] += 1
        case.validate_response(answer, checks=CHECKS)
        if mode is GenerationMode.POSITIVE and not is_taken(answer):
            raise AssertionError(
                f"{case.operation.label} refused what its description allows: {answer.status_code} {answer.text}, "
                f"to {case.as_curl_command()}"
            )

    with suppress(Unsatisfiable):  # an operation that takes nothing can be given nothing wrong
        ask()


def _of_nobody(case: Any) -> bool:  # noqa: ANN401 - schemathesis' own
    """Whether what is wrong with a request is how it says who asks."""
    return any(change.parameter == AUTHORIZATION for change in getattr(case.meta.phase.data, "mutations", ()))


def _something_there(ann: Asker) -> Ids:
    """A project, a prompt and an optimization, by what requests call them: among drawn ids none is of anything."""
    project = ann.post("/projects/", {"name": "there"})["data"]["id"]
    prompt = ann.post("/prompts/create", {"project_id": project, "name": "there"})["data"]["id"]
    config = {"optimizer_type": "greedy", "target_metric": "accuracy"}
    body = {"project_id": project, "initial_prompt_id": prompt, "optimization_config": config}
    made = ann.post("/optimizations/create", body)["data"]
    return {
        "project_id": project,
        "prompt_id": prompt,
        "initial_prompt_id": prompt,
        "parent_version_id": prompt,
        "signature_id": None,  # the host has none
        "optimization_id": made["optimization"]["id"],
        "job_id": made["job_id"],
    }
