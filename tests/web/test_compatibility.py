"""The requests that Prompt Studio's clients send today get the answers that they get today.

Written from its interface as it was, and not from the code.
"""

import inspect
from typing import Any, Final

import pytest
from fastapi import HTTPException
from fastapi.testclient import TestClient

from prompt_studio import PromptStudioDatabase
from prompt_studio.web.routes.optimizations import _validate_strategy_config
from tests.web.conftest import PREFIX, Asker

pytestmark = pytest.mark.conformance

ROUTES: Final = {
    ("POST", "/projects/"),
    ("POST", "/projects"),
    ("GET", "/projects/"),
    ("GET", "/projects/get/{project_id}"),
    ("POST", "/prompts/create"),
    ("GET", "/prompts/get/{prompt_id}"),
    ("GET", "/prompts/list/{project_id}"),
    ("POST", "/optimizations/create"),
    ("POST", "/optimizations"),
    ("GET", "/optimizations/{job_id}"),
    ("POST", "/optimizations/cancel/{optimization_id}"),
    ("GET", "/optimizations/strategies"),
    ("GET", "/optimizations/list/{project_id}"),
    ("GET", "/optimizations/get/{optimization_id}"),
    ("GET", "/status"),
}
ENVELOPE: Final = {"success", "data", "error", "error_code", "metadata"}
CONFIG: Final[dict[str, Any]] = {
    "optimizer_type": "mipro",
    "max_iterations": 50,
    "target_metric": "accuracy",
    "target_value": 0.9,
    "early_stopping": True,
    "early_stopping_patience": 5,
    "temperature_range": [0.0, 1.0],
    "techniques_to_try": ["cot", "few_shot"],
    "models_to_test": ["m"],
    "budget_limit": 10.0,
    "strategy_params": {},
}
DEFAULTS: Final[dict[str, Any]] = {
    "max_iterations": 50,
    "target_value": None,
    "early_stopping": True,
    "early_stopping_patience": 5,
    "temperature_range": [0, 1],
    "techniques_to_try": ["cot", "few_shot"],
    "models_to_test": None,
    "budget_limit": None,
    "strategy_params": {},
}
BOOTSTRAP_DEFAULTS: Final = {
    "num_samples": 50,
    "selection_method": "diverse",
    "quality_threshold": 0.7,
    "max_examples_per_prompt": 5,
}


def wrapped(answer: Any) -> Any:  # noqa: ANN401 - any JSON value
    assert answer.keys() == ENVELOPE
    assert (answer["success"], answer["error"], answer["error_code"], answer["metadata"]) == (True, None, None, None)
    return answer["data"]


def test_every_route_is_where_it_was(client: TestClient) -> None:
    told = client.get("/openapi.json").json()["paths"]
    found = {(method.upper(), path.removeprefix(PREFIX)) for path, operations in told.items() for method in operations}
    assert found - {("GET", "/health"), ("GET", "/metrics")} == ROUTES


def test_projects(ann: Asker) -> None:
    body = {"name": "p", "description": "d", "status": "active", "metadata": {"a": 1}}
    project = wrapped(ann.post("/projects/", body, key="k"))
    assert project.items() >= body.items()
    assert wrapped(ann.post("/projects/", body, key="k")) == project
    assert ann.post("/projects", {"name": "q", "status": "archived"}).items() >= {"name": "q"}.items()
    listed = wrapped(ann.get("/projects/"))
    assert {"page", "per_page", "total", "total_pages"} == listed["pagination"].keys()
    assert project in listed["projects"]
    assert wrapped(ann.get(f"/projects/get/{project['id']}")) == project


def test_prompts(ann: Asker, project: int) -> None:
    body = {"project_id": project, "name": "p", "system_prompt": "s", "user_prompt": "u" * 50_000}
    prompt = wrapped(ann.post("/prompts/create", body, key="k"))
    assert prompt.items() >= body.items()
    assert wrapped(ann.post("/prompts/create", body, key="k")) == prompt
    ann.post("/prompts/create", body, status=409)
    ann.post("/prompts/create", body | {"name": "q", "user_prompt": "u" * 50_001}, status=422)
    assert wrapped(ann.get(f"/prompts/list/{project}"))["prompts"] == [prompt]
    assert wrapped(ann.get(f"/prompts/get/{prompt['id']}")) == prompt


def test_optimizations(ann: Asker, project: int, prompt: int) -> None:
    body = {
        "project_id": project,
        "initial_prompt_id": prompt,
        "optimization_config": CONFIG,
        "bootstrap_config": {"num_samples": 10},
        "test_case_ids": [1],
        "name": "o",
        "description": "d",
    }
    made = wrapped(ann.post("/optimizations/create", body, key="k"))
    assert made.keys() == {"optimization", "job_id"}
    again = wrapped(ann.post("/optimizations/create", body, key="k"))
    assert again == {"optimization": made["optimization"], "job_id": None}
    assert made["optimization"]["optimization_config"] == CONFIG
    assert (made["optimization"]["status"], made["optimization"]["max_iterations"]) == ("pending", 50)
    ann.post("/optimizations/create", body | {"initial_prompt_id": 99}, status=404)
    ann.post("/optimizations/create", body | {"optimization_config": {"optimizer_type": "mipro"}}, status=422)
    knobs = body | {"optimization_config": CONFIG | {"optimizer_type": "genetic", "population_size": 1}}
    assert "population_size" in ann.post("/optimizations/create", knobs, status=400)["detail"]
    assert ann.get(f"/optimizations/{made['job_id']}") == {"id": made["job_id"], "status": "queued"}
    number = made["optimization"]["id"]
    assert wrapped(ann.get(f"/optimizations/get/{number}")) == made["optimization"]
    assert wrapped(ann.get(f"/optimizations/list/{project}"))["optimizations"] == [made["optimization"]]
    assert wrapped(ann.post(f"/optimizations/cancel/{number}", status=200))["status"] == "cancelled"


def test_defaults_of_a_configuration(ann: Asker, database: PromptStudioDatabase, project: int, prompt: int) -> None:
    least = {"optimizer_type": "mipro", "target_metric": "accuracy"}
    body = {"project_id": project, "initial_prompt_id": prompt, "optimization_config": least, "bootstrap_config": {}}
    told = wrapped(ann.post("/optimizations/create", body))
    made, job = told["optimization"], database.get_job(told["job_id"])
    assert made["optimization_config"] == least | DEFAULTS
    assert made["bootstrap_samples"] == BOOTSTRAP_DEFAULTS["num_samples"]
    assert job is not None
    assert job["payload"] == {
        "optimization_config": least | DEFAULTS,
        "bootstrap_config": BOOTSTRAP_DEFAULTS,
        "test_case_ids": None,
        "description": None,
    }


@pytest.mark.parametrize("name", ["prompt_id", "initial_prompt_id"])
def test_the_short_form(ann: Asker, prompt: int, name: str) -> None:
    told = ann.post("/optimizations", {name: prompt, "config": {"optimizer_type": "mipro"}}, status=200)
    assert told == {"id": told["id"], "status": "queued"}
    assert ann.get(f"/optimizations/{told['id']}") == told


def test_strategies_and_status(ann: Asker) -> None:
    assert {"mipro", "beam_search", "genetic"} <= {one["name"] for one in wrapped(ann.get("/optimizations/strategies"))}
    told = wrapped(ann.get("/status?warn_seconds=30"))
    assert told.keys() == {
        "queue_depth",
        "processing",
        "leases",
        "by_status",
        "by_type",
        "avg_processing_time_seconds",
        "success_rate",
    }
    assert told["leases"].keys() == {"active", "expiring_soon", "stale_processing"}
    for seconds in (0, 3_601):
        ann.get(f"/status?warn_seconds={seconds}", status=422)


def test_the_check_of_knobs_is_called_as_it_was() -> None:
    parameters = list(inspect.signature(_validate_strategy_config).parameters.values())
    assert [parameter.name for parameter in parameters[:2]] == ["optimizer_type", "cfg"]
    assert all(parameter.default is not inspect.Parameter.empty for parameter in parameters[2:])
    _validate_strategy_config(" Beam_Search ", {"beam_width": 2, "strategy_params": {"max_candidates": 2}})
    _validate_strategy_config("somebody's own", {})
    _validate_strategy_config("hyperparameter", {"max_tokens_range": (1, 2), "params_to_optimize": ("temperature",)})
    with pytest.raises(HTTPException) as refused:
        _validate_strategy_config("beam_search", {"strategy_params": {"beam_width": 1}})
    assert (refused.value.status_code, "beam_width" in refused.value.detail) == (400, True)
