"""What is read, cancelled and watched over HTTP, and that nobody learns what is another's."""

from typing import Any

import pytest
from fastapi.testclient import TestClient

from prompt_studio import PromptStudioDatabase
from prompt_studio.optimization import KNOBS, RELATIONS, STRATEGIES
from tests.web.conftest import Asker
from tests.web.test_creates import KINDS, body_of

pytestmark = pytest.mark.conformance


@pytest.fixture
def optimization(ann: Asker, project: int, prompt: int) -> dict[str, Any]:
    path, body, _ = body_of("optimization", project, prompt)
    made: dict[str, Any] = ann.post(path, body)["data"]
    return made


class TestACancel:
    def test_ends_the_optimization_and_its_job(
        self, ann: Asker, database: PromptStudioDatabase, optimization: dict[str, Any]
    ) -> None:
        path = f"/optimizations/cancel/{optimization['optimization']['id']}"
        first = ann.post(path, status=200)["data"]
        assert first["status"] == "cancelled"
        assert ann.get(f"/optimizations/{optimization['job_id']}")["status"] == "cancelled"
        assert ann.post(path, status=200)["data"] == first
        assert database.acquire_next_job(worker_id="w") is None

    @pytest.mark.parametrize("status", ["completed", "failed"])
    def test_of_one_that_has_ended_is_a_conflict(
        self, ann: Asker, database: PromptStudioDatabase, optimization: dict[str, Any], status: str
    ) -> None:
        number = optimization["optimization"]["id"]
        database.set_optimization_status(number, status)
        assert status in ann.post(f"/optimizations/cancel/{number}", status=409)["detail"]

    def test_ends_every_job_of_it(
        self, ann: Asker, database: PromptStudioDatabase, optimization: dict[str, Any]
    ) -> None:
        number = optimization["optimization"]["id"]
        younger = database.create_job("optimization", number, {})["id"]
        ann.post(f"/optimizations/cancel/{number}", status=200)
        for job in (optimization["job_id"], younger):
            assert ann.get(f"/optimizations/{job}")["status"] == "cancelled"

    def test_of_one_whose_job_is_gone_ends_it(
        self, ann: Asker, database: PromptStudioDatabase, project: int, prompt: int
    ) -> None:
        made = database.create_optimization(
            project_id=project, name="without a job", initial_prompt_id=prompt, optimizer_type="greedy"
        )
        assert ann.post(f"/optimizations/cancel/{made['id']}", status=200)["data"]["status"] == "cancelled"


class TestAPage:
    def test_has_as_many_as_were_asked_for(self, ann: Asker, project: int) -> None:
        for number in range(3):
            ann.post("/prompts/create", {"project_id": project, "name": f"p{number}"})
            ann.post("/projects/", {"name": f"p{number}"})
        for path, kind, total in ((f"/prompts/list/{project}", "prompts", 3), ("/projects/", "projects", 4)):
            told = ann.get(f"{path}?page=2&per_page=2")["data"]
            assert told["pagination"] == {"page": 2, "per_page": 2, "total": total, "total_pages": 2}
            assert len(told[kind]) == total - 2

    @pytest.mark.parametrize("query", ["page=0", "page=x", "per_page=0", "per_page=1001", "status=lunch", "search=%00"])
    def test_of_nonsense_is_refused(self, ann: Asker, query: str) -> None:
        assert isinstance(ann.get(f"/projects/?{query}", status=422)["detail"], list)

    def test_is_of_what_was_looked_for(self, ann: Asker, project: int, optimization: dict[str, Any]) -> None:
        ann.post("/projects/", {"name": "needle", "status": "archived"})
        assert [one["name"] for one in ann.get("/projects/?search=NEED")["data"]["projects"]] == ["needle"]
        assert [one["name"] for one in ann.get("/projects/?status=archived")["data"]["projects"]] == ["needle"]
        assert ann.get(f"/optimizations/list/{project}?status=failed")["data"]["optimizations"] == []
        found = ann.get(f"/optimizations/list/{project}?status=pending")["data"]["optimizations"]
        assert found == [optimization["optimization"]]


class TestStrategies:
    def test_are_those_of_the_table(self, ann: Asker) -> None:
        told = ann.get("/optimizations/strategies")["data"]
        assert [one["name"] for one in told] == [one.name for one in STRATEGIES]
        assert {knob["name"] for one in told for knob in one["knobs"]} == {knob.name for knob in KNOBS}
        assert [one["name"] for one in told if not one["available"]] == ["mcts"]

    def test_tell_every_condition_and_relation(self, ann: Asker) -> None:
        told = ann.get("/optimizations/strategies")["data"]
        for condition in ("required_when", "only_when"):
            found = {
                knob["name"]: knob[condition] for one in told for knob in one["knobs"] if knob[condition] is not None
            }
            expected = {knob.name: getattr(knob, condition) for knob in KNOBS}
            assert found == {
                name: {"knob": choice.knob, "value": choice.value}
                for name, choice in expected.items()
                if choice is not None
            }
            assert found
        relations = [
            (one["name"], *relation["knobs"], relation["rule"]) for one in told for relation in one["relations"]
        ]
        assert sorted(relations) == sorted(
            (strategy, *one.knobs, one.sentence) for one in RELATIONS for strategy in one.strategies
        )


class TestStatus:
    def test_is_that_of_the_queue(
        self, ann: Asker, database: PromptStudioDatabase, optimization: dict[str, Any]
    ) -> None:
        del optimization
        assert (ann.get("/status")["data"]["queue_depth"], ann.get("/status")["data"]["processing"]) == (1, 0)
        database.acquire_next_job(worker_id="w")
        told = ann.get("/status?warn_seconds=3600")["data"]
        assert (told["queue_depth"], told["processing"], told["leases"]["active"]) == (0, 1, 1)
        assert told["leases"]["expiring_soon"] == 1
        assert told["by_status"]["processing"] == told["by_type"]["optimization"] == 1

    @pytest.mark.parametrize("seconds", ["0", "3601", "x", "1.5"])
    def test_of_nonsense_is_refused(self, ann: Asker, seconds: str) -> None:
        ann.get(f"/status?warn_seconds={seconds}", status=422)


@pytest.mark.verifies("PS-HTTP-8")
class TestHealth:
    def test_is_everybodys_to_know_for_one_row(self, client: TestClient, statements: list[str]) -> None:
        answer = client.get("/health")
        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
        assert answer.headers["Cache-Control"] == "no-store"
        assert statements == ["schema_version"]


Question = tuple[str, str, dict[str, Any] | None]
"""A method, a path and a body; where they name a kind of entity, its id is to stand there."""


def answers(
    asker: Asker, ids: dict[str, int], question: Question, statements: list[str]
) -> list[tuple[int, str, str, tuple[str, ...]]]:
    """What is answered when these ids are asked for, with a key and without, but for the ids themselves.

    And by which statements: who is answered later learns from that.
    """
    method, path, template = question
    body = None if template is None else {name: ids.get(str(value), value) for name, value in template.items()}
    told = []
    for key in (None,) if body is None else (None, "k"):
        statements.clear()
        answer = asker.ask(method, path.format(**ids), key=key, json=body)
        text = answer.text
        for number in ids.values():
            text = text.replace(f" {number}", " N")
        told.append((answer.status_code, answer.headers["content-type"], text, tuple(statements)))
    return told


class TestMetrics:
    def test_are_those_of_the_queue(self, ann: Asker, client: TestClient, optimization: dict[str, Any]) -> None:
        del optimization
        counters = [f'prompt_studio_idempotency_{kind}_total{{entity_type="project"}}' for kind in ("misses", "hits")]

        def counted() -> list[float]:
            answer = client.get("/metrics")
            assert answer.headers["content-type"].startswith("text/plain; version=")
            assert 'prompt_studio_jobs{status="queued"} 1.0' in answer.text
            assert "prompt_studio_database_up 1.0" in answer.text
            told = dict(line.rsplit(" ", 1) for line in answer.text.splitlines() if not line.startswith("#"))
            return [float(told.get(name, 0)) for name in counters]

        misses, hits = counted()
        ann.post("/projects/", {"name": "x"}, key="k")
        for _ in range(2):
            ann.post("/projects/", {"name": "x"}, key="k")
        assert counted() == [misses + 1, hits + 2]


@pytest.mark.verifies("PS-HTTP-4", "PS-HTTP-5")
class TestAnothers:
    """For each endpoint: what is another's and what is not there get the same answer, and nothing changes."""

    def test_is_as_if_it_were_not_there(  # noqa: PLR0913, PLR0917 - there is as much as there is
        self,
        ann: Asker,
        bob: Asker,
        client: TestClient,
        database: PromptStudioDatabase,
        project: int,
        prompt: int,
        optimization: dict[str, Any],
        statements: list[str],
    ) -> None:
        hers = {"project": project, "prompt": prompt, "optimization": optimization["optimization"]["id"]}
        hers["job"] = optimization["job_id"]
        absent = dict.fromkeys(hers, 987_654)
        his_project = bob.post("/projects/", {"name": "his"})["data"]["id"]
        his_prompt = bob.post("/prompts/create", {"project_id": his_project, "name": "his"})["data"]["id"]
        asked = set()

        def both(method: str, path: str, template: dict[str, Any] | None = None) -> None:
            asked.add((method, path))
            of_hers, of_none = (answers(bob, ids, (method, path, template), statements) for ids in (hers, absent))
            assert of_hers == of_none
            assert {answer[:2] for answer in of_hers} == {(404, "application/problem+json")}, of_hers
            assert len({answer[2] for answer in of_hers}) == 1, of_hers
            assert all(answer[3] for answer in of_hers)

        before = (database.count_jobs(), database.get_job(hers["job"]), ann.get(f"/prompts/list/{project}"))
        config = {"optimizer_type": "greedy", "target_metric": "accuracy"}
        both("GET", "/projects/get/{project}")
        both("GET", "/prompts/get/{prompt}")
        both("GET", "/prompts/list/{project}")
        both("GET", "/optimizations/get/{optimization}")
        both("GET", "/optimizations/list/{project}")
        both("GET", "/optimizations/{job}")
        both("POST", "/optimizations/cancel/{optimization}")
        both("POST", "/prompts/create", {"project_id": "project", "name": "x"})
        both("POST", "/prompts/create", {"project_id": his_project, "name": "x", "parent_version_id": "prompt"})
        both("POST", "/prompts/create", {"project_id": his_project, "name": "x", "signature_id": "project"})
        both(
            "POST",
            "/optimizations/create",
            {"project_id": "project", "initial_prompt_id": "prompt", "optimization_config": config},
        )
        both(
            "POST",
            "/optimizations/create",
            {"project_id": his_project, "initial_prompt_id": "prompt", "optimization_config": config},
        )
        both(
            "POST",
            "/optimizations/create",
            {"project_id": "project", "initial_prompt_id": his_prompt, "optimization_config": config},
        )
        both("POST", "/optimizations", {"prompt_id": "prompt"})
        both("POST", "/optimizations", {"initial_prompt_id": "prompt", "config": {}})
        assert (database.count_jobs(), database.get_job(hers["job"]), ann.get(f"/prompts/list/{project}")) == before
        assert [one["name"] for one in bob.get("/projects/")["data"]["projects"]] == ["his"]

        # Every route is asked here, or names nothing of anybody's.
        blank = ("/projects/", "/projects", "/optimizations/strategies", "/status", "/health", "/metrics")
        paths = {path.removeprefix("/api/v1/prompt-studio") for path in client.get("/openapi.json").json()["paths"]}
        named = {path.format_map({f"{kind}_id": f"{{{kind}}}" for kind in hers}) for path in paths}
        assert named - {path for _, path in asked} == set(blank)

    def test_key_changes_nothing_and_tells_nothing(
        self, ann: Asker, bob: Asker, project: int, prompt: int, statements: list[str]
    ) -> None:
        his_project = bob.post("/projects/", {"name": "his"}, key="first")["data"]["id"]
        body = {"project_id": his_project, "name": "his"}
        his_prompt = bob.post("/prompts/create", body, key="first")["data"]["id"]
        for kind in KINDS:
            path, hers, status = body_of(kind, project, prompt)
            _, his, _ = body_of(kind, his_project, his_prompt)
            answers: list[tuple[int, bool, tuple[str, ...]]] = []
            for key in (f"of {kind}", f"another of {kind}"):  # one that is hers, and one that is nobody's
                if not answers:
                    first = ann.post(path, hers, key=key, status=status)
                statements.clear()
                answer = bob.ask("POST", path, key=key, json=his | {"name": key})
                answers.append((answer.status_code, "Idempotency-Replayed" in answer.headers, tuple(statements)))
            assert answers[0] == answers[1] == (status, False, answers[0][2])
            again = ann.ask("POST", path, key=f"of {kind}", json=hers)
            assert again.headers["Idempotency-Replayed"] == "true"
            told = again.json()
            if "job_id" in first.get("data", {}):
                told["data"]["job_id"] = first["data"]["job_id"]
            assert told == first
