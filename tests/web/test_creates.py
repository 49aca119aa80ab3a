"""Creates over HTTP: what they make, that a key makes it once, and in which order they are refused."""

from collections.abc import Callable
from typing import Any

import pytest

from prompt_studio import JobType, PromptStudioDatabase
from prompt_studio.storage.patience import Patience
from tests.conformance.knob_cases import DOTTED
from tests.web.conftest import Asker

pytestmark = pytest.mark.conformance

CONFIG: dict[str, Any] = {"optimizer_type": "beam_search", "target_metric": "accuracy", "beam_width": 3}


def body_of(kind: str, project: int, prompt: int) -> tuple[str, dict[str, Any], int]:
    """The path, a body and the status of a create."""
    bodies: dict[str, tuple[str, dict[str, Any], int]] = {
        "project": ("/projects/", {"name": "another"}, 201),
        "bare project": ("/projects", {"name": "one more"}, 201),
        "prompt": ("/prompts/create", {"project_id": project, "name": "second"}, 201),
        "optimization": (
            "/optimizations/create",
            {"project_id": project, "initial_prompt_id": prompt, "optimization_config": CONFIG},
            201,
        ),
        "simple optimization": ("/optimizations", {"prompt_id": prompt, "config": {}}, 200),
    }
    return bodies[kind]


KINDS = ["project", "bare project", "prompt", "optimization", "simple optimization"]


@pytest.fixture(params=KINDS)
def create(request: pytest.FixtureRequest, project: int, prompt: int) -> tuple[str, dict[str, Any], int]:
    return body_of(request.param, project, prompt)


def rows(database: PromptStudioDatabase, project: int) -> tuple[int, int, int, int]:
    """How many there are of each."""
    return (
        database.list_projects()["pagination"]["total"],
        database.list_prompts(project)["pagination"]["total"],
        database.list_optimizations()["pagination"]["total"],
        database.count_jobs(),
    )


class TestACreate:
    def test_answers_with_what_it_made(self, ann: Asker) -> None:
        told = ann.post("/projects/", {"name": "x", "description": "d", "status": "active", "metadata": {"a": [1]}})
        assert told | {"data": None} == {
            "success": True,
            "data": None,
            "error": None,
            "error_code": None,
            "metadata": None,
        }
        project = told["data"]
        assert (project["name"], project["status"], project["metadata"]) == ("x", "active", {"a": [1]})
        assert (project["user_id"], project["deleted"]) == ("ann", False)
        assert ann.get(f"/projects/get/{project['id']}")["data"] == project
        assert [one["id"] for one in ann.get("/projects/")["data"]["projects"]] == [project["id"]]
        assert ann.post("/projects", {"name": "bare"})["name"] == "bare"

    def test_of_a_prompt_is_found_in_its_project(self, ann: Asker, project: int) -> None:
        made = ann.post(
            "/prompts/create",
            {"project_id": project, "name": "p", "system_prompt": "s", "user_prompt": "u", "few_shot_examples": [{}]},
        )["data"]
        assert ann.get(f"/prompts/get/{made['id']}")["data"] == made
        assert ann.get(f"/prompts/list/{project}")["data"]["prompts"] == [made]
        again = {"project_id": project, "name": "p", "version_number": 2, "parent_version_id": made["id"]}
        assert ann.post("/prompts/create", again)["data"]["parent_version_id"] == made["id"]

    def test_of_an_optimization_makes_its_job(
        self, ann: Asker, database: PromptStudioDatabase, project: int, prompt: int
    ) -> None:
        path, body, _ = body_of("optimization", project, prompt)
        body |= {"bootstrap_config": {"num_samples": 10}, "test_case_ids": [1, 2], "name": "o", "description": "d"}
        told = ann.post(path, body)["data"]
        optimization = told["optimization"]
        job = database.get_job(told["job_id"])
        assert job is not None
        assert (job["job_type"], job["entity_id"], job["project_id"]) == (
            JobType.OPTIMIZATION,
            optimization["id"],
            project,
        )
        assert (job["payload"]["test_case_ids"], job["payload"]["description"]) == ([1, 2], "d")
        assert (optimization["bootstrap_samples"], optimization["max_iterations"]) == (10, 50)
        assert optimization["optimization_config"]["beam_width"] == 3
        assert ann.get(f"/optimizations/get/{optimization['id']}")["data"] == optimization
        assert ann.get(f"/optimizations/list/{project}")["data"]["optimizations"] == [optimization]
        assert ann.get(f"/optimizations/{told['job_id']}") == {"id": told["job_id"], "status": "queued"}

    def test_in_the_short_form_is_one_by_the_same_schema(
        self, ann: Asker, database: PromptStudioDatabase, prompt: int
    ) -> None:
        config = {"optimizer_type": "hill_climb", "max_iterations": 7, "anything": [1]}
        for asked, iterations, kind in ((config, 7, "hill_climbing"), ({}, 50, "iterative")):
            told = ann.post("/optimizations", {"initial_prompt_id": prompt, "config": asked}, status=200)
            job = database.get_job(told["id"])
            assert job is not None
            made = database.get_optimization(job["entity_id"])
            assert made is not None
            assert (made["max_iterations"], made["optimizer_type"]) == (iterations, kind)
            assert made["optimization_config"] | asked == made["optimization_config"]
            assert made["optimization_config"] == job["payload"]["optimization_config"]
        for wrong in ({"max_iterations": 501}, {"temperature_range": [1, 0]}, {"budget_limit": -1}):
            ann.post("/optimizations", {"prompt_id": prompt, "config": wrong}, status=422)
        knob = {"optimizer_type": "beam_search", "strategy_params": {"beam_width": 1}}
        ann.post("/optimizations", {"prompt_id": prompt, "config": knob}, status=400)

    @pytest.mark.verifies("PS-HTTP-3")
    def test_in_the_short_form_needs_a_prompt_and_nothing_else(
        self, ann: Asker, database: PromptStudioDatabase, prompt: int
    ) -> None:
        both: dict[str, Any] = {"prompt_id": prompt, "initial_prompt_id": prompt}
        bodies: list[dict[str, Any]] = [
            {"prompt_id": prompt},
            both | {"config": None},
            both | {"prompt_id": None, "config": {}},
        ]
        for body in bodies:
            job = database.get_job(ann.post("/optimizations", body, status=200)["id"])
            assert job is not None
            assert job["payload"]["optimization_config"]["optimizer_type"] == "iterative"
        made = database.count_jobs()
        for names in ({}, {"prompt_id": None}, both | {"prompt_id": prompt + 1}):
            told = ann.post("/optimizations", names, key="k", status=422)["detail"]
            assert "initial_prompt_id" in told[0]["msg"]
        assert database.count_jobs() == made

    @pytest.mark.verifies("PS-VALIDATION-EXPAND-4")
    @pytest.mark.parametrize(
        ("given", "stored"),
        [
            (" Somebody's Own ", "somebody's own"),
            (DOTTED * 255, DOTTED * 255),
        ],
        ids=["in ASCII", "in letters that grow"],
    )
    def test_of_a_strategy_that_nobody_knows_keeps_its_name(
        self, ann: Asker, project: int, prompt: int, given: str, stored: str
    ) -> None:
        config = {"optimizer_type": given, "target_metric": "accuracy"}
        body = {"project_id": project, "initial_prompt_id": prompt, "optimization_config": config}
        assert ann.post("/optimizations/create", body)["data"]["optimization"]["optimizer_type"] == stored

    @pytest.mark.verifies("PS-VALIDATION-EXPAND-3")
    @pytest.mark.parametrize(
        "given",
        [
            {"strategy_params": {"models_to_test": ["a", "b"]}},
            {"models_to_test": ["a", "b"]},
            {"models_to_test": ["a"], "strategy_params": {"models_to_test": ["b"]}},
            {"models_to_test": ["a"], "strategy_params": None},
            {
                "models_to_test": ["a"],
                "strategy_params": {"budget_limit": 5, "target_value": None, "strategy_params": 1},
            },
        ],
        ids=repr,
    )
    def test_of_an_optimization_keeps_a_configuration_that_can_be_sent_again(
        self, ann: Asker, project: int, prompt: int, given: dict[str, Any]
    ) -> None:
        long = {"project_id": project, "initial_prompt_id": prompt}
        config = {"optimizer_type": "grid_search", "target_metric": "accuracy"} | given
        made = ann.post("/optimizations/create", long | {"optimization_config": config})["data"]["optimization"]
        kept = made["optimization_config"]
        assert {name: kept[name] for name in config} == config
        again = ann.post("/optimizations/create", long | {"optimization_config": kept})["data"]["optimization"]
        assert again["optimization_config"] == kept
        job = ann.post("/optimizations", {"prompt_id": prompt, "config": kept}, status=200)
        assert job["status"] == "queued"

    @pytest.mark.verifies("PS-VALIDATION-EXPAND-3")
    def test_of_an_optimization_takes_no_null_that_hides_a_knob(self, ann: Asker, project: int, prompt: int) -> None:
        hidden = {"models_to_test": None, "strategy_params": {"models_to_test": ["a"]}}
        config = {"optimizer_type": "grid_search", "target_metric": "accuracy"} | hidden
        body = {"project_id": project, "initial_prompt_id": prompt, "optimization_config": config}
        assert "hidden by the null" in ann.post("/optimizations/create", body, status=400)["detail"]
        short = {"prompt_id": prompt, "config": config}
        assert "hidden by the null" in ann.post("/optimizations", short, status=400)["detail"]

    @pytest.mark.verifies("PS-HTTP-5")
    def test_of_a_name_that_is_there_is_a_conflict(self, ann: Asker, project: int, prompt: int) -> None:
        del prompt
        for path, body in (
            ("/projects/", {"name": "hers"}),
            ("/prompts/create", {"project_id": project, "name": "first"}),
        ):
            told = ann.post(path, body, status=409)  # says nothing of tables
            assert told == {
                "type": "about:blank",
                "title": "Conflict",
                "status": 409,
                "detail": "there is one of this name already: use another name",
            }

    def test_of_something_in_nothing_is_not_found(self, ann: Asker, project: int, prompt: int) -> None:
        ann.post("/prompts/create", {"project_id": 99, "name": "p"}, status=404)
        ann.post("/prompts/create", {"project_id": project, "name": "p", "parent_version_id": 99}, status=404)
        other = ann.post("/projects/", {"name": "other"})["data"]["id"]
        ann.post("/prompts/create", {"project_id": other, "name": "p", "parent_version_id": prompt}, status=404)
        for changes in ({"initial_prompt_id": 99}, {"project_id": 99}, {"project_id": other}):
            ann.post("/optimizations/create", body_of("optimization", project, prompt)[1] | changes, status=404)
        ann.post("/optimizations", {"prompt_id": 99}, status=404)


@pytest.mark.verifies("PS-IDEMPOTENCY-SCOPE-2")
class TestAKey:
    def test_makes_it_once(
        self, ann: Asker, database: PromptStudioDatabase, project: int, create: tuple[str, dict[str, Any], int]
    ) -> None:
        path, body, status = create
        first = ann.ask("POST", path, key="k", json=body)
        made = rows(database, project)
        again = ann.ask("POST", path, key="k", json=dict(reversed(body.items())))
        assert (first.status_code, again.status_code) == (status, status)
        assert rows(database, project) == made
        assert ("Idempotency-Replayed" in first.headers, again.headers["Idempotency-Replayed"]) == (False, "true")
        one, other = first.json(), again.json()
        if "data" in one and "job_id" in one["data"]:
            assert (one["data"].pop("job_id") is None, other["data"].pop("job_id")) == (False, None)
        assert one == other

    def test_of_another_request_is_refused_whatever_that_is(
        self, ann: Asker, database: PromptStudioDatabase, project: int, create: tuple[str, dict[str, Any], int]
    ) -> None:
        path, body, status = create
        ann.post(path, body, key="k", status=status)
        made = rows(database, project)
        others: tuple[object, ...] = (body | {"name": "third"}, {}, {"nonsense": 1}, [], "text", 5)
        for other in others:
            told = ann.post(path, other, key="k", status=422)
            assert "use a new key for a new request" in told["detail"]
        assert rows(database, project) == made

    def test_of_another_user_is_another_key(self, ann: Asker, bob: Asker) -> None:
        hers = ann.post("/projects/", {"name": "x"}, key="k")["data"]
        his = bob.post("/projects/", {"name": "y"}, key="k")["data"]
        assert (hers["user_id"], his["user_id"]) == ("ann", "bob")
        assert ann.post("/projects/", {"name": "x"}, key="k")["data"] == hers
        assert bob.post("/projects/", {"name": "y"}, key="k")["data"] == his

    def test_whose_entity_was_deleted_for_good_says_so(
        self, ann: Asker, database: PromptStudioDatabase, project: int, create: tuple[str, dict[str, Any], int]
    ) -> None:
        path, body, status = create
        told = ann.post(path, body, key="k", status=status)
        made = told["id"] if path == "/projects" else told.get("data", told).get("id", project)
        database.delete_project(made if path.startswith("/projects") else project, hard_delete=True)
        assert "not there any more" in ann.post(path, body, key="k", status=410)["detail"]

    @pytest.mark.verifies("PS-HTTP-4")
    def test_tells_nothing_of_what_was_given_to_another_user(
        self, ann: Asker, by_hand: Callable[[str], None], create: tuple[str, dict[str, Any], int]
    ) -> None:
        path, body, status = create
        ann.post(path, body, key="k", status=status)
        by_hand("UPDATE prompt_studio_projects SET user_id = 'bob'")
        answer = ann.ask("POST", path, key="k", json=body)
        assert (answer.status_code, "not there any more" in answer.json()["detail"]) == (410, True)
        assert "Idempotency-Replayed" not in answer.headers
        by_hand("UPDATE prompt_studio_projects SET user_id = 'ann', deleted = '1'")  # hers again, but hidden
        again = ann.ask("POST", path, key="k", json=body)
        assert (again.status_code, again.headers["Idempotency-Replayed"]) == (status, "true")

    @pytest.mark.verifies("PS-HTTP-4")
    @pytest.mark.parametrize("looked_for", [True, False], ids=["looked for", "met at the create"])
    def test_tells_nothing_of_what_never_was_the_users(  # noqa: PLR0913 - there is as much as there is
        self,
        ann: Asker,
        bob: Asker,
        database: PromptStudioDatabase,
        monkeypatch: pytest.MonkeyPatch,
        create: tuple[str, dict[str, Any], int],
        *,
        looked_for: bool,
    ) -> None:
        path, body, _ = create
        project = bob.post("/projects/", {"name": "his"})["data"]["id"]
        prompt = bob.post("/prompts/create", {"project_id": project, "name": "his"})["data"]["id"]
        his = {"projects": project, "prompts": prompt, "optimizations": 0}
        optimization = body_of("optimization", project, prompt)
        his["optimizations"] = bob.post(*optimization[:2])["data"]["optimization"]["id"]
        kind = path.split("/")[1]
        database.record_idempotency(kind.removesuffix("s"), "k", his[kind], "ann")
        if not looked_for:  # as if it had been recorded between the look and the create
            monkeypatch.setattr(PromptStudioDatabase, "lookup_created", lambda *_, **__: None)
        answer = ann.ask("POST", path, key="k", json=body)
        assert (answer.status_code, "not there any more" in answer.json()["detail"]) == (410, True)
        assert "Idempotency-Replayed" not in answer.headers

    def test_that_was_recorded_by_hand_stands_for_its_entity(
        self, ann: Asker, database: PromptStudioDatabase, project: int
    ) -> None:
        database.record_idempotency("project", "by hand", project, "ann")
        assert ann.post("/projects/", {"whatever": 1}, key="by hand")["data"]["id"] == project

    @pytest.mark.verifies("PS-HTTP-3")
    def test_of_the_short_form_is_not_that_of_the_long_one(
        self, ann: Asker, database: PromptStudioDatabase, project: int, prompt: int
    ) -> None:
        both = body_of("optimization", project, prompt)[1] | {"prompt_id": prompt, "config": {}}
        forms = [("/optimizations/create", 201), ("/optimizations", 200)]
        for number, (first, second) in enumerate((forms, forms[::-1])):
            ann.post(first[0], both, key=f"k{number}", status=first[1])
            made = rows(database, project)
            assert "another request" in ann.post(second[0], both, key=f"k{number}", status=422)["detail"]
            ann.post(first[0], both, key=f"k{number}", status=first[1])
            assert rows(database, project) == made

    @pytest.mark.verifies("PS-HTTP-3")
    def test_of_the_short_form_stands_for_the_job_that_it_made(
        self, ann: Asker, database: PromptStudioDatabase, prompt: int
    ) -> None:
        body = {"prompt_id": prompt, "config": {}}
        first = ann.post("/optimizations", body, key="k", status=200)
        job = database.get_job(first["id"])
        assert job is not None
        younger = database.create_job("optimization", job["entity_id"], job["payload"], priority=9)
        assert ann.post("/optimizations", body, key="k", status=200) == first
        database.update_job_status(first["id"], "cancelled")
        assert ann.post("/optimizations", body, key="k", status=200) == {"id": first["id"], "status": "cancelled"}
        assert database.cleanup_jobs(0) == 1
        gone = ann.post("/optimizations", body, key="k", status=410)["detail"]
        assert f"optimization {job['entity_id']} is not there any more: ask for the optimization" in gone
        assert ann.get(f"/optimizations/get/{job['entity_id']}")["data"]["status"] == "pending"
        assert [one["id"] for one in database.list_jobs()] == [younger["id"]]

    def test_of_a_project_is_the_same_with_the_slash_and_without(self, ann: Asker) -> None:
        made = ann.post("/projects/", {"name": "x"}, key="k")["data"]
        assert ann.post("/projects", {"name": "x"}, key="k") == made

    def test_of_a_request_that_was_refused_is_free(self, ann: Asker) -> None:
        ann.post("/projects/", {"nonsense": 1}, key="k", status=422)
        ann.post("/projects/", {"name": "x"}, key="k")


@pytest.mark.verifies("PS-HTTP-1", "PS-HTTP-2", "PS-HTTP-3")
class TestTheOrder:
    """Each request is wrong in one more way than the one before it, and is told of the first."""

    def test_is_user_json_key_mismatch_replay_schema_knobs(
        self,
        ann: Asker,
        nobody: Asker,
        database: PromptStudioDatabase,
        project: int,
        prompt: int,
    ) -> None:
        path, body, _ = body_of("optimization", project, prompt)
        ann.post(path, body, key="used")
        made = rows(database, project)
        bad_knob = body | {"optimization_config": CONFIG | {"beam_width": 1}}
        bad_both = bad_knob | {"project_id": "x"}

        def told(asker: Asker, key: str, **how: Any) -> tuple[int, object]:  # noqa: ANN401 - httpx's
            answer = asker.ask("POST", path, key=key, **how)
            assert answer.headers["content-type"] == "application/problem+json"
            return answer.status_code, answer.json()["detail"]

        assert told(nobody, "\t", content=b"{")[0] == 401
        assert "must be JSON" in str(told(ann, "", content=b"{"))
        assert "Idempotency-Key must be" in str(told(ann, "", json=bad_both))
        assert "another request" in str(told(ann, "used", json=bad_both))
        status, detail = told(ann, "new", json=bad_both)
        assert (status, type(detail)) == (422, list)
        status, detail = told(ann, "new", json=bad_knob)
        assert (status, detail) == (400, "beam_width is 1: it must be a whole number of 64 bits, at least 2")
        assert rows(database, project) == made

    def test_is_that_of_every_create(self, ann: Asker, nobody: Asker, create: tuple[str, dict[str, Any], int]) -> None:
        path, body, status = create
        nonsense = [1]
        ann.post(path, body, key="used", status=status)
        assert nobody.ask("POST", path, key="\t", content=b"{").status_code == 401
        assert "must be JSON" in ann.ask("POST", path, key="\t", content=b"{").json()["detail"]
        assert "Idempotency-Key must be" in ann.ask("POST", path, key="\t", json=nonsense).json()["detail"]
        assert "another request" in ann.post(path, nonsense, key="used", status=422)["detail"]
        assert isinstance(ann.post(path, nonsense, key="new", status=422)["detail"], list)
        ann.post(path, body, key="used", status=status)


@pytest.mark.verifies("PS-HTTP-2")
def test_a_create_has_one_patience(
    ann: Asker, create: tuple[str, dict[str, Any], int], monkeypatch: pytest.MonkeyPatch, statements: list[str]
) -> None:
    path, body, status = create
    begun: list[Patience] = []
    begin = Patience.__init__

    def noted(patience: Patience, seconds: float) -> None:
        begun.append(patience)
        begin(patience, seconds)

    monkeypatch.setattr(Patience, "__init__", noted)
    statements.clear()
    ann.post(path, body, key="k", status=status)
    assert len(begun) == 1
    assert len(statements) > 1
    # The thread waits anew for the next request.
    ann.post(path, body, key="k", status=status)
    assert len(begun) == 2
