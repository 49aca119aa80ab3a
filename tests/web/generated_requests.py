"""Requests as OpenAPI allows them, and others, by schemathesis: is every answer one that the description has?"""

from collections import Counter
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Final, cast

import httpx2
import jsonschema_rs
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

from prompt_studio.values import INT64_MAX
from prompt_studio.web.requests import JSON_TYPE
from tests.web.conftest import PREFIX, TOKENS, Asker

Ids = Mapping[str, int | None]

OF_A_KEY: Final = "was used for another request"
"""A key that was drawn before: nobody has looked at the request then."""
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


@dataclass(slots=True)
class Told:
    """What came of it.

    Attributes:
        answers: how many, by path and status.
        wrong_bodies: how many were sent that are JSON and break their schema, and were refused for it, by path.
        taking_nothing: the paths that nothing wrong could be sent to.
    """

    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    wrong_bodies: Counter[str] = field(default_factory=Counter)
    taking_nothing: set[str] = field(default_factory=set)


def is_taken(answer: Any, *, of_what_is_there: bool) -> bool:  # noqa: ANN401 - schemathesis' own
    """Whether a request that the description allows was not refused for its form."""
    if answer.status_code < httpx2.codes.BAD_REQUEST:
        return True
    detail = answer.json()["detail"]
    if answer.status_code == httpx2.codes.BAD_REQUEST:  # of knobs, which have rules of their own, and of any text
        return ": it must " in detail or "must not contain U+0000" in detail
    if answer.status_code == httpx2.codes.UNPROCESSABLE_CONTENT and isinstance(detail, list):
        return all(any(known in one["msg"] for known in BEYOND_SCHEMAS) for one in detail)
    if answer.status_code == httpx2.codes.UNPROCESSABLE_CONTENT:
        return OF_A_KEY in detail
    if answer.status_code == httpx2.codes.NOT_FOUND:
        return not of_what_is_there
    return bool(answer.status_code == httpx2.codes.CONFLICT)


def is_refused_for_its_body(answer: Any) -> bool:  # noqa: ANN401 - the same
    """Whether a request was refused before anybody looked for what it speaks of: by a list of what is wrong, or 400."""
    if answer.status_code == httpx2.codes.UNPROCESSABLE_CONTENT:
        return isinstance(answer.json()["detail"], list)
    return answer.status_code == httpx2.codes.BAD_REQUEST and ": it must " not in answer.json()["detail"]


BOTH: Final = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)


@dataclass(frozen=True, slots=True)
class Drawing:
    """How requests are drawn.

    Attributes:
        examples: how many of each sort.
        source: the seed.
        modes: what is allowed, what is not, or both.
        shrinks: whether the smallest wrong one is looked for, which takes longer than to find one.
    """

    examples: int
    source: int
    modes: tuple[GenerationMode, ...] = BOTH
    shrinks: bool = True


def asked(app: FastAPI, drawing: Drawing, *, only: str = "") -> Told:
    """Ask each operation so often, with data that is allowed and data that is not, for a user that there is.

    `only`: those that have this in their paths.

    Raises:
        FailureGroup: an answer is no answer that the description has, or is an error of the server.
        AssertionError: what is allowed was refused, or what is not was taken.
    """
    told = Told()
    there = _something_there(Asker(TestClient(app), next(iter(TOKENS))))
    app.openapi_schema = _of_somebody(app.openapi())
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    for result in schema.get_all_operations():
        operation = cast("Any", result).ok()
        if only not in operation.path:
            continue
        for mode in drawing.modes:
            _ask(operation, mode, drawing, there, told)
    return told


def _of_somebody(description: dict[str, Any]) -> dict[str, Any]:
    """The description without a word of who asks: else two of three wrong requests would be wrong in just that."""
    told = deepcopy(description)
    for operations in told["paths"].values():
        for operation in operations.values():
            operation.pop("security", None)
    return told


def _ask(
    operation: Any,  # noqa: ANN401 - schemathesis' own
    mode: GenerationMode,
    drawing: Drawing,
    there: Ids,
    told: Told,
) -> None:
    headers = {"Authorization": f"Bearer {next(iter(TOKENS))}"}
    path = operation.path.removeprefix(PREFIX)
    right = _rightness(operation)

    @seed(drawing.source)
    @settings(
        max_examples=drawing.examples,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate, *([Phase.shrink] if drawing.shrinks else [])],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode), of_what_is_there=booleans())
    def ask(case: Any, *, of_what_is_there: bool) -> None:  # noqa: ANN401 - the same
        # A wrong request speaks of what is there, or it would be refused for that.
        of_what_is_there = of_what_is_there or mode is GenerationMode.NEGATIVE
        for part in (case.path_parameters, case.body):
            if of_what_is_there and isinstance(part, dict):
                part |= {name: there[name] for name in part.keys() & there.keys() if _is_an_id(part[name])}
        answer = case.call(headers=headers)
        told.answers[path, answer.status_code] += 1
        case.validate_response(answer, checks=CHECKS)
        sent = f"{case.operation.label}: {answer.status_code} {answer.text}, to {case.as_curl_command()}"
        if mode is GenerationMode.POSITIVE:
            assert is_taken(answer, of_what_is_there=of_what_is_there), f"refused what its description allows: {sent}"
        elif right is not None and not right(case.body) and OF_A_KEY not in answer.text:
            assert is_refused_for_its_body(answer), f"did not refuse a wrong body for what it is: {sent}"
            told.wrong_bodies[path] += answer.status_code == httpx2.codes.UNPROCESSABLE_CONTENT

    try:
        ask()
    except Unsatisfiable:  # an operation that takes nothing can be given nothing wrong
        assert mode is GenerationMode.NEGATIVE, f"{operation.label} can be asked for nothing"
        told.taking_nothing.add(path)


def _rightness(operation: Any) -> Callable[[Any], bool] | None:  # noqa: ANN401 - schemathesis' own
    """Whether a body is as the description has it, as another reader of JSON Schema says; None if there is no body."""
    told = operation.definition.raw.get("requestBody")
    if told is None:
        return None
    validator = jsonschema_rs.validator_for(told["content"][JSON_TYPE]["schema"])
    return lambda body: is_json(body) and validator.is_valid(body)


def is_json(body: object) -> bool:
    """Whether it is a value, and not what stands for none."""
    return body is None or isinstance(body, dict | list | str | int | float)


def _is_an_id(value: object) -> bool:
    text = str(int(value) if isinstance(value, float) and value.is_integer() else value)
    return not isinstance(value, bool) and text.isascii() and text.isdecimal() and 1 <= int(text) <= INT64_MAX


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
