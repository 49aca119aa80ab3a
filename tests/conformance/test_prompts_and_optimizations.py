"""Prompts, optimizations and iterations at rest: what is made comes back, refers to what is there, and is listed."""

from typing import Any

import pytest

from prompt_studio import (
    ConflictError,
    DatabaseError,
    InputError,
    JobType,
    MissingReference,
    OptimizationStatus,
    PromptStudioDatabase,
)
from tests.conformance.stores import Door
from tests.conformance.virtual_time import VirtualClock

pytestmark = [pytest.mark.conformance, pytest.mark.verifies("PS-ENTITIES-1")]


@pytest.fixture
def project(database: PromptStudioDatabase) -> int:
    return database.create_project("home", user_id="ann")["id"]


@pytest.fixture
def prompt(database: PromptStudioDatabase, project: int) -> int:
    return database.create_prompt(project_id=project, name="first")["id"]


@pytest.fixture
def optimization(database: PromptStudioDatabase, project: int, prompt: int) -> int:
    made = database.create_optimization(
        project_id=project, name="run", initial_prompt_id=prompt, optimizer_type="mipro"
    )
    return made["id"]


class TestCreatePrompt:
    def test_gives_back_what_was_given(self, database: PromptStudioDatabase, project: int) -> None:
        given: dict[str, Any] = {
            "project_id": project,
            "name": "p",
            "signature_id": 3,
            "version_number": 2,
            "system_prompt": "",
            "user_prompt": 50_000 * "\N{SNOWMAN}",
            "few_shot_examples": [{"in": "a", "out": 1.5}],
            "modules_config": {"b": None},
            "parent_version_id": 1,
            "change_description": "it's 100 %",
            "client_id": "c",
        }
        made = database.create_prompt(**given)
        assert given.items() <= made.items()
        assert database.get_prompt(made["id"]) == made

    @pytest.mark.verifies("PS-ENTITIES-3")
    def test_needs_its_project(self, database: PromptStudioDatabase, project: int) -> None:
        database.delete_project(project)
        for missing in (project, 99):
            with pytest.raises(MissingReference, match=f"no project {missing}"):
                database.create_prompt(project_id=missing, name="p")

    @pytest.mark.verifies("PS-ENTITIES-2")
    def test_of_a_version_that_is_there_is_a_conflict(self, database: PromptStudioDatabase, project: int) -> None:
        database.create_prompt(project_id=project, name="p")
        database.create_prompt(project_id=project, name="p", version_number=2)
        with pytest.raises(ConflictError):
            database.create_prompt(project_id=project, name="p")

    @pytest.mark.parametrize(
        "wrong",
        [
            {"project_id": "1"},
            {"name": ""},
            {"version_number": 0},
            {"system_prompt": 50_001 * "a"},
            {"user_prompt": 7},
            {"few_shot_examples": object()},
            {"modules_config": {1: 2}},
            {"parent_version_id": True},
        ],
        ids=lambda wrong: next(iter(wrong)),
    )
    @pytest.mark.verifies("PS-INPUT-2")
    def test_refuses_bad_values(self, database: PromptStudioDatabase, project: int, wrong: dict[str, Any]) -> None:
        right: dict[str, Any] = {"project_id": project, "name": "p"}
        with pytest.raises(InputError, match=next(iter(wrong))):
            database.create_prompt(**right | wrong)
        assert database.list_prompts(project)["prompts"] == []


class TestReadingPrompts:
    def test_with_their_project(self, database: PromptStudioDatabase, project: int, prompt: int) -> None:
        found = database.get_prompt_with_project(prompt)
        assert found is not None
        assert (found["project_name"], found["project_user_id"], found["project_status"]) == ("home", "ann", "draft")
        by_itself = database.get_prompt(prompt)
        assert by_itself is not None
        assert by_itself.items() <= found.items()
        database.delete_project(project)
        assert database.get_prompt_with_project(prompt) is None
        assert database.get_prompt_with_project(prompt, include_deleted=True) == found

    def test_that_are_not_there_gives_none(self, database: PromptStudioDatabase) -> None:
        assert database.get_prompt(99) is None
        assert database.get_prompt_with_project(99, include_deleted=True) is None

    def test_page_by_page(self, database: PromptStudioDatabase, project: int, clock: VirtualClock) -> None:
        for name in ("a", "b", "c"):
            clock.tick(1)
            database.create_prompt(project_id=project, name=name)
        pages = [database.list_prompts(project, page=number, per_page=2) for number in (1, 2)]
        assert [[row["name"] for row in page["prompts"]] for page in pages] == [["c", "b"], ["a"]]
        assert pages[0]["pagination"] == {"page": 1, "per_page": 2, "total": 3, "total_pages": 2}
        assert database.list_prompts(99)["pagination"]["total_pages"] == 0


class TestEnsurePromptStub:
    def test_makes_an_empty_prompt_once(self, database: PromptStudioDatabase, project: int) -> None:
        made = database.ensure_prompt_stub(40, project, "stub")
        assert (made["id"], made["name"], made["system_prompt"]) == (40, "stub", None)
        assert database.ensure_prompt_stub(40, project, "other") == made

    @pytest.mark.verifies("INV-NOTHING-LOST")
    def test_never_gives_its_id_again(self, database: PromptStudioDatabase, project: int) -> None:
        for number in (3, 1, 2):
            database.ensure_prompt_stub(number, project, str(number))
        ids = {database.create_prompt(project_id=project, name=name)["id"] for name in ("a", "b", "c")}
        assert not ids & {1, 2, 3}

    @pytest.mark.verifies("PS-ENTITIES-3")
    def test_needs_its_project(self, database: PromptStudioDatabase) -> None:
        with pytest.raises(MissingReference, match="no project 99"):
            database.ensure_prompt_stub(1, 99)


class TestCreateOptimization:
    def test_gives_back_what_was_given(self, database: PromptStudioDatabase, project: int, prompt: int) -> None:
        given: dict[str, Any] = {
            "project_id": project,
            "name": "o",
            "initial_prompt_id": prompt,
            "optimizer_type": "beam_search",
            "optimization_config": {"beam_width": 4},
            "max_iterations": 20,
            "bootstrap_samples": 0,
            "status": "running",
            "client_id": "c",
        }
        made = database.create_optimization(**given)
        assert given.items() <= made.items()
        assert "job" not in made
        assert database.get_optimization(made["id"]) == made
        assert database.count_jobs() == 0

    def test_makes_its_job_with_it(self, database: PromptStudioDatabase, project: int, prompt: int) -> None:
        made = database.create_optimization(
            project_id=project,
            name=None,
            initial_prompt_id=prompt,
            optimizer_type="mipro",
            job={"payload": {"a": 1}, "priority": 7, "max_retries": 1},
        )
        job = made["job"]
        assert job is not None
        assert (job["job_type"], job["entity_id"], job["project_id"]) == (JobType.OPTIMIZATION, made["id"], project)
        assert (job["payload"], job["priority"], job["max_retries"]) == ({"a": 1}, 7, 1)
        assert database.get_latest_job_for_entity("optimization", made["id"]) == job
        assert made["optimization_config"] == {}

    @pytest.mark.verifies("PS-ENTITIES-3")
    def test_needs_its_prompt_in_its_project(self, database: PromptStudioDatabase, project: int, prompt: int) -> None:
        other = database.create_project("other")["id"]
        for home, first in ((other, prompt), (project, 99), (99, prompt)):
            with pytest.raises(MissingReference, match=f"no prompt {first} in a project {home}"):
                database.create_optimization(
                    project_id=home, name="o", initial_prompt_id=first, optimizer_type="mipro", job={}
                )
        assert database.list_optimizations()["optimizations"] == []
        assert database.count_jobs() == 0

    @pytest.mark.parametrize(
        "wrong",
        [
            {"optimizer_type": ""},
            {"optimization_config": float("inf")},
            {"max_iterations": -1},
            {"status": "lunch"},
            {"job": {"priority": 11}},
            {"job": {"payload": {1, 2}}},
            {"job": {"lunch": 1}},
        ],
        ids=repr,
    )
    @pytest.mark.verifies("PS-INPUT-2")
    def test_refuses_bad_values(
        self, database: PromptStudioDatabase, project: int, prompt: int, wrong: dict[str, Any]
    ) -> None:
        right: dict[str, Any] = {"project_id": project, "name": "o", "initial_prompt_id": prompt, "optimizer_type": "x"}
        with pytest.raises(InputError):
            database.create_optimization(**right | wrong)
        assert database.list_optimizations()["pagination"]["total"] == 0


class TestTheLifeOfAnOptimization:
    @pytest.mark.parametrize("end", ["completed", "failed", "cancelled"])
    def test_has_a_time_for_its_start_and_its_end(
        self, database: PromptStudioDatabase, optimization: int, clock: VirtualClock, end: str
    ) -> None:
        clock.tick(1)
        running = database.set_optimization_status(optimization, "running")
        assert running is not None
        assert (running["status"], running["completed_at"]) == (OptimizationStatus.RUNNING, None)
        clock.tick(1)
        again = database.set_optimization_status(optimization, "running")
        ended = database.set_optimization_status(optimization, end, error_message="boom\0")
        assert again == running
        assert ended is not None
        assert (ended["started_at"], ended["error_message"]) == (running["started_at"], "boom\N{REPLACEMENT CHARACTER}")
        assert round(ended["completed_at"].timestamp() * 1000) == clock.milliseconds if ended["completed_at"] else False

    def test_ends_well_with_what_is_known(self, database: PromptStudioDatabase, optimization: int) -> None:
        database.set_optimization_status(optimization, "failed", error_message="boom")
        first = database.complete_optimization(optimization, final_metrics={"score": 0.5}, total_cost=1)
        assert first is not None
        assert (first["status"], first["error_message"], first["final_metrics"]) == ("completed", None, {"score": 0.5})
        second = database.complete_optimization(
            optimization,
            optimized_prompt_id=2,
            initial_metrics=[1],
            improvement_percentage=12.5,
            iterations_completed=3,
            total_tokens=4,
        )
        assert second is not None
        assert (second["final_metrics"], second["total_cost"], second["improvement_percentage"]) == (
            {"score": 0.5},
            1.0,
            12.5,
        )
        assert (second["optimized_prompt_id"], second["initial_metrics"], second["total_tokens"]) == (2, [1], 4)
        assert database.get_optimization(optimization) == second

    def test_of_none_that_is_there_is_none(self, database: PromptStudioDatabase) -> None:
        assert database.set_optimization_status(99, "running") is None
        assert database.complete_optimization(99) is None
        assert database.get_optimization(99) is None

    @pytest.mark.parametrize(
        "wrong", [{"total_cost": float("nan")}, {"total_cost": "1"}, {"total_tokens": 1.0}], ids=repr
    )
    def test_refuses_bad_values(self, database: PromptStudioDatabase, optimization: int, wrong: dict[str, Any]) -> None:
        with pytest.raises(InputError, match=next(iter(wrong))):
            database.complete_optimization(optimization, **wrong)

    def test_is_listed_with_its_like(self, database: PromptStudioDatabase, project: int, prompt: int) -> None:
        ids = [
            database.create_optimization(
                project_id=project, name=str(number), initial_prompt_id=prompt, optimizer_type="mipro"
            )["id"]
            for number in range(3)
        ]
        database.set_optimization_status(ids[0], "running")
        listed = database.list_optimizations(project_id=project, per_page=2)
        assert [row["id"] for row in listed["optimizations"]] == [ids[2], ids[1]]
        assert listed["pagination"] == {"page": 1, "per_page": 2, "total": 3, "total_pages": 2}
        assert [row["id"] for row in database.list_optimizations(status="running")["optimizations"]] == [ids[0]]
        assert database.list_optimizations(project_id=99)["optimizations"] == []


class TestIterations:
    def test_come_back_in_their_order(self, database: PromptStudioDatabase, optimization: int) -> None:
        second = database.record_optimization_iteration(
            optimization, iteration_number=2, prompt_variant={"a": 1}, metrics=[0.5], tokens_used=7, cost=0.25, note="n"
        )
        first = database.record_optimization_iteration(optimization, iteration_number=1)
        page = database.list_optimization_iterations(optimization)
        assert page["iterations"] == [first, second]
        assert (second["prompt_variant"], second["metrics"], second["cost"]) == ({"a": 1}, [0.5], 0.25)
        assert (first["metrics"], first["cost"], first["note"]) == (None, None, None)
        assert page["pagination"]["total"] == 2

    @pytest.mark.verifies("PS-ENTITIES-3")
    def test_need_their_optimization(self, database: PromptStudioDatabase) -> None:
        with pytest.raises(MissingReference, match="no optimization 99"):
            database.record_optimization_iteration(99, iteration_number=1)

    @pytest.mark.parametrize("number", [None, -1, 1.0, True])
    def test_have_a_number(self, database: PromptStudioDatabase, optimization: int, number: Any) -> None:  # noqa: ANN401 - wrong on purpose
        with pytest.raises(InputError, match="iteration_number"):
            database.record_optimization_iteration(optimization, iteration_number=number)


@pytest.mark.verifies("PS-FAULTS-4")
def test_a_row_that_cannot_be_read_is_named(
    database: PromptStudioDatabase, project: int, prompt: int, raw: Door
) -> None:
    raw.execute("UPDATE prompt_studio_projects SET created_at = 'infinity'")
    raw.execute("UPDATE prompt_studio_prompts SET updated_at = 'infinity'")
    with pytest.raises(DatabaseError, match=f"project {project} cannot be read"):
        database.get_project(project)
    with pytest.raises(DatabaseError, match=f"prompt {prompt} cannot be read"):
        database.get_prompt(prompt)
