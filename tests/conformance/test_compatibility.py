"""The calls that Prompt Studio makes today, in its order and with its arguments, work unchanged.

Written from its interface as it was, and not from the code: a name, a default or a shape that moves turns this red.
"""

import asyncio
import inspect
import json
from collections.abc import Callable
from typing import Any

import pytest

from prompt_studio import (
    BackendType,
    ConflictError,
    DatabaseError,
    InputError,
    JobManager,
    JobStatus,
    JobType,
    PromptStudioDatabase,
    SchemaError,
)

pytestmark = pytest.mark.conformance

REQUIRED = "required"

DATABASE: dict[str, dict[str, object]] = {
    "create_job": {
        "job_type": REQUIRED,
        "entity_id": REQUIRED,
        "payload": REQUIRED,
        "project_id": None,
        "priority": 5,
        "status": "queued",
        "max_retries": 3,
        "client_id": None,
    },
    "get_job": {"job_id": REQUIRED},
    "get_job_by_uuid": {"job_uuid": REQUIRED},
    "list_jobs": {"status": None, "job_type": None, "limit": 100},
    "acquire_next_job": {"worker_id": None},
    "renew_job_lease": {"job_id": REQUIRED, "seconds": 60, "worker_id": None},
    "update_job_status": {"job_id": REQUIRED, "status": REQUIRED, "error_message": None, "result": None},
    "retry_job_record": {"job_id": REQUIRED},
    "get_job_stats": {},
    "count_jobs": {"status": None, "job_type": None},
    "get_lease_stats": {"warn_seconds": 30},
    "cleanup_jobs": {"older_than_days": 30},
    "get_latest_job_for_entity": {"job_type": REQUIRED, "entity_id": REQUIRED},
    "list_jobs_for_entity": {"job_type": REQUIRED, "entity_id": REQUIRED, "limit": 50, "ascending": True},
    "lookup_idempotency": {"entity_type": REQUIRED, "key": REQUIRED, "user_id": REQUIRED},
    "record_idempotency": {"entity_type": REQUIRED, "key": REQUIRED, "entity_id": REQUIRED, "user_id": REQUIRED},
    "create_project": {
        "name": REQUIRED,
        "description": None,
        "status": "draft",
        "metadata": None,
        "user_id": None,
    },
    "get_project": {"project_id": REQUIRED, "include_deleted": False},
    "update_project": {"project_id": REQUIRED, "updates": None},
    "delete_project": {"project_id": REQUIRED, "hard_delete": False},
    "list_projects": {
        "user_id": None,
        "status": None,
        "include_deleted": False,
        "page": 1,
        "per_page": 20,
        "search": None,
    },
    "create_prompt": {
        "project_id": REQUIRED,
        "name": REQUIRED,
        "signature_id": None,
        "version_number": 1,
        "system_prompt": None,
        "user_prompt": None,
        "few_shot_examples": None,
        "modules_config": None,
        "parent_version_id": None,
        "change_description": None,
        "client_id": None,
    },
    "get_prompt": {"prompt_id": REQUIRED},
    "list_prompts": {"project_id": REQUIRED, "page": 1, "per_page": 20},
    "get_prompt_with_project": {"prompt_id": REQUIRED, "include_deleted": False},
    "ensure_prompt_stub": {"prompt_id": REQUIRED, "project_id": REQUIRED},
    "create_optimization": {
        "project_id": REQUIRED,
        "name": REQUIRED,
        "initial_prompt_id": REQUIRED,
        "optimizer_type": REQUIRED,
        "optimization_config": None,
        "max_iterations": None,
        "bootstrap_samples": None,
        "status": "pending",
        "client_id": None,
    },
    "get_optimization": {"optimization_id": REQUIRED},
    "list_optimizations": {"project_id": None, "status": None, "page": 1, "per_page": 20},
    "set_optimization_status": {"optimization_id": REQUIRED, "status": REQUIRED},
    "complete_optimization": {"optimization_id": REQUIRED},
    "record_optimization_iteration": {"optimization_id": REQUIRED},
    "list_optimization_iterations": {"optimization_id": REQUIRED},
    "transaction": {},
    "close": {},
    "close_connection": {},
}
"""What callers give: in their order where they give it by place, and with the default where they do not."""

NEEDED_BY_NAME = {"record_optimization_iteration": {"iteration_number"}}
"""What has no default and was given by name always."""

MANAGER: dict[str, dict[str, object]] = {
    "create_job": {
        "job_type": REQUIRED,
        "entity_id": REQUIRED,
        "payload": REQUIRED,
        "project_id": None,
        "priority": 5,
        "max_retries": 3,
    },
    "get_job": {"job_id": REQUIRED},
    "get_job_by_uuid": {"job_uuid": REQUIRED},
    "list_jobs": {"status": None, "job_type": None, "limit": 100},
    "update_job_status": {"job_id": REQUIRED, "status": REQUIRED, "error_message": None, "result": None},
    "cancel_job": {"job_id": REQUIRED, "reason": None},
    "get_next_job": {},
    "retry_job": {"job_id": REQUIRED},
    "register_handler": {"job_type": REQUIRED, "handler": None},
    "process_job": {"job": REQUIRED},
    "start_processing": {"max_concurrent": 3},
    "stop_processing": {},
    "get_job_stats": {},
    "cleanup_old_jobs": {"days": 30},
}

BY_PLACE: dict[type, dict[str, int]] = {
    PromptStudioDatabase: {
        "create_job": 3,
        "get_job": 1,
        "get_job_by_uuid": 1,
        "renew_job_lease": 2,
        "update_job_status": 2,
        "retry_job_record": 1,
        "get_lease_stats": 1,
        "cleanup_jobs": 1,
        "get_latest_job_for_entity": 2,
        "list_jobs_for_entity": 2,
        "lookup_idempotency": 3,
        "record_idempotency": 4,
        "create_project": 5,
        "get_project": 2,
        "update_project": 2,
        "delete_project": 2,
        "get_prompt": 1,
        "list_prompts": 1,
        "get_prompt_with_project": 1,
        "ensure_prompt_stub": 1,
        "get_optimization": 1,
        "set_optimization_status": 2,
        "complete_optimization": 1,
        "record_optimization_iteration": 1,
        "list_optimization_iterations": 1,
    },
    JobManager: {
        "create_job": 6,
        "get_job": 1,
        "get_job_by_uuid": 1,
        "list_jobs": 3,
        "update_job_status": 4,
        "cancel_job": 2,
        "retry_job": 1,
        "register_handler": 2,
        "process_job": 1,
        "start_processing": 1,
        "cleanup_old_jobs": 1,
    },
}
"""How many arguments callers may give by their place."""

ROW = (
    "id",
    "uuid",
    "job_type",
    "entity_id",
    "project_id",
    "priority",
    "status",
    "payload",
    "result",
    "error_message",
    "retry_count",
    "max_retries",
    "client_id",
    "created_at",
    "started_at",
    "completed_at",
    "leased_until",
    "lease_owner",
)


@pytest.mark.parametrize(
    ("owner", "name", "known"),
    [
        *((PromptStudioDatabase, name, known) for name, known in DATABASE.items()),
        *((JobManager, name, known) for name, known in MANAGER.items()),
    ],
    ids=lambda value: value if isinstance(value, str) else getattr(value, "__name__", ""),
)
def test_a_signature_has_what_callers_give(owner: type, name: str, known: dict[str, object]) -> None:
    found = list(inspect.signature(getattr(owner, name)).parameters.values())[1:]
    assert [parameter.name for parameter in found[: len(known)]] == list(known)
    for parameter in found[: len(known)]:
        default = REQUIRED if parameter.default is inspect.Parameter.empty else parameter.default
        assert default == known[parameter.name]
    for parameter in found[len(known) :]:  # what is new is behind what was there, and nobody need give it
        may_be_left_out = parameter.default is not inspect.Parameter.empty or parameter.kind is parameter.VAR_KEYWORD
        assert may_be_left_out or parameter.name in NEEDED_BY_NAME.get(name, set())


@pytest.mark.parametrize(
    ("owner", "name", "count"),
    [(owner, name, count) for owner, counts in BY_PLACE.items() for name, count in counts.items()],
    ids=lambda value: value if isinstance(value, str) else getattr(value, "__name__", ""),
)
def test_an_argument_may_be_given_by_its_place(owner: type, name: str, count: int) -> None:
    found = list(inspect.signature(getattr(owner, name)).parameters.values())[1:]
    assert [parameter.kind for parameter in found[:count]] == [inspect.Parameter.POSITIONAL_OR_KEYWORD] * count


def test_no_name_is_missing() -> None:
    for owner, names in ((PromptStudioDatabase, DATABASE), (JobManager, MANAGER)):
        assert BY_PLACE[owner].keys() <= names.keys()
        assert {name for name in names if inspect.iscoroutinefunction(getattr(owner, name))} == (
            {"process_job", "start_processing"} if owner is JobManager else set()
        )


def test_both_are_made_as_they_were() -> None:
    opened = list(inspect.signature(PromptStudioDatabase).parameters.values())
    managing = list(inspect.signature(JobManager).parameters.values())
    assert [parameter.name for parameter in opened[:2]] == ["location", "client_id"]
    assert [parameter.name for parameter in managing[:2]] == ["db", "worker_id"]
    assert managing[1].default is None
    for parameter in (*opened[2:], *managing[2:]):
        assert parameter.default is not inspect.Parameter.empty


def test_errors_are_what_callers_catch() -> None:
    assert issubclass(SchemaError, DatabaseError)
    assert issubclass(ConflictError, DatabaseError)
    assert issubclass(InputError, ValueError)
    assert not issubclass(InputError, DatabaseError)


class TestTheDatabase:
    def test_leads_a_job_through_its_life(self, database: PromptStudioDatabase) -> None:
        assert database.backend_type in set(BackendType)
        job = database.create_job(
            "evaluation", 7, {"a": 1}, project_id=None, priority=5, status="queued", max_retries=3
        )
        assert list(ROW) == [name for name in job if name in ROW]
        assert database.get_job(job["id"]) == database.get_job_by_uuid(job["uuid"]) == job
        taken = database.acquire_next_job(worker_id="  w  ")
        assert taken is not None
        assert (taken["id"], taken["lease_owner"], taken["was_reclaim"]) == (job["id"], "w", False)
        assert database.renew_job_lease(job["id"], 60, worker_id="w")
        assert not database.renew_job_lease(job["id"], 60, worker_id="another")
        assert database.get_lease_stats(30) == {"active": 1, "expiring_soon": 0, "stale_processing": 0}
        done = database.update_job_status(job["id"], "completed", result={"b": 2})
        assert done is not None
        assert (done["status"], done["result"], done["leased_until"], done["lease_owner"]) == (
            "completed",
            {"b": 2},
            None,
            None,
        )
        assert database.update_job_status(job["id"] + 1, "failed", error_message="x") is None
        stats = database.get_job_stats()
        assert {"by_status", "by_type", "avg_processing_time_seconds", "success_rate", "queue_depth", "processing"} <= (
            stats.keys()
        )
        assert (stats["by_status"]["completed"], stats["success_rate"], stats["queue_depth"]) == (1, 100.0, 0)
        assert (database.count_jobs(), database.count_jobs(status="queued", job_type="evaluation")) == (1, 0)
        assert database.cleanup_jobs(30) == 0

    def test_tries_a_job_again(self, database: PromptStudioDatabase) -> None:
        job = database.create_job("generation", 1, {})
        database.acquire_next_job(worker_id="w")
        database.update_job_status(job["id"], "failed", error_message="no")
        assert database.retry_job_record(job["id"])
        again = database.get_job(job["id"])
        assert again is not None
        assert (again["status"], again["retry_count"], again["error_message"], again["started_at"]) == (
            "queued",
            1,
            None,
            None,
        )

    def test_lists_what_there_is(self, database: PromptStudioDatabase) -> None:
        low = database.create_job("evaluation", 1, {}, priority=1)
        high = database.create_job("evaluation", 1, {}, priority=9)
        assert [job["id"] for job in database.list_jobs()] == [high["id"], low["id"]]
        assert [job["id"] for job in database.list_jobs(status="queued", job_type="evaluation", limit=1)] == [
            high["id"]
        ]
        latest = database.get_latest_job_for_entity("evaluation", 1)
        assert latest is not None
        assert latest["id"] == high["id"]
        of_entity = database.list_jobs_for_entity("evaluation", 1, limit=50, ascending=True)
        assert [job["id"] for job in of_entity] == [low["id"], high["id"]]

    def test_remembers_the_first_entity_of_a_key(self, database: PromptStudioDatabase) -> None:
        database.record_idempotency("optimization", "k", 5, "ann")
        database.record_idempotency("optimization", "k", 6, "ann")
        assert database.lookup_idempotency("optimization", "k", "ann") == 5
        assert database.lookup_idempotency("optimization", "k", "bob") is None
        assert database.lookup_idempotency("optimization", "k", None) is None

    def test_keeps_projects_prompts_and_optimizations(self, database: PromptStudioDatabase) -> None:
        project = database.create_project("p", "d", "draft", {"a": 1}, "ann")
        with pytest.raises(ConflictError):
            database.create_project("p", user_id="ann")
        assert database.create_project("p")["user_id"] == "tester"  # the client
        assert database.get_project(project["id"], True) == project
        page = database.list_projects(user_id="ann", status="draft", search="p")
        assert [one["id"] for one in page["projects"]] == [project["id"]]
        renamed = database.update_project(project["id"], {"name": "q"}, description="e")
        assert renamed is not None
        assert (renamed["name"], renamed["description"]) == ("q", "e")
        prompt = database.create_prompt(project_id=project["id"], name="x", system_prompt="s", version_number=1)
        assert database.get_prompt(prompt["id"]) == prompt
        assert database.list_prompts(project["id"], page=1, per_page=10)["prompts"] == [prompt]
        found = database.get_prompt_with_project(prompt["id"], include_deleted=False)
        assert found is not None
        assert found["project_name"] == "q"
        optimization = database.create_optimization(
            project_id=project["id"], name="o", initial_prompt_id=prompt["id"], optimizer_type="mipro"
        )
        assert optimization["status"] == "pending"
        assert database.get_optimization(optimization["id"]) == optimization
        assert database.list_optimizations(project_id=project["id"])["optimizations"] == [optimization]
        database.set_optimization_status(optimization["id"], "running")
        database.record_optimization_iteration(optimization["id"], iteration_number=1)
        assert len(database.list_optimization_iterations(optimization["id"])["iterations"]) == 1
        database.complete_optimization(optimization["id"])
        assert database.delete_project(project["id"], hard_delete=True)
        assert database.get_project(project["id"]) is None


class TestTheManager:
    def test_leads_a_job_through_its_life(self, database: PromptStudioDatabase) -> None:
        manager = JobManager(database)
        assert manager.worker_id.startswith("tester-worker-")
        assert list(JobType) == ["evaluation", "optimization", "generation"]
        assert list(JobStatus) == ["queued", "processing", "completed", "failed", "cancelled"]
        job = manager.create_job(JobType.EVALUATION, 7, {"a": 1}, None, 5, 3)
        assert json.loads(job["payload"]) == {"a": 1}
        taken = manager.get_next_job()
        assert taken is not None
        assert taken["lease_owner"] == manager.worker_id
        assert manager.update_job_status(job["id"], JobStatus.FAILED, "no")
        assert manager.retry_job(job["id"])
        assert manager.cancel_job(job["id"], "enough")
        assert not manager.cancel_job(job["id"] + 1)
        assert manager.get_job_stats()["by_status"]["cancelled"] == 1
        assert manager.cleanup_old_jobs(30) == 0

    @pytest.mark.parametrize("decorated", [False, True])
    def test_runs_a_handler_of_a_payload_and_an_entity(
        self, database: PromptStudioDatabase, *, decorated: bool
    ) -> None:
        manager = JobManager(database)

        async def handler(payload: dict[str, Any], entity_id: int) -> dict[str, Any]:
            return {"payload": payload, "entity": entity_id}

        register: Callable[..., Any] = manager.register_handler
        if decorated:
            register("evaluation")(handler)
        else:
            register(JobType.EVALUATION, handler)
        manager.create_job("evaluation", 7, {"a": 1})
        job = manager.get_next_job()
        assert job is not None
        asyncio.run(manager.process_job(job))
        done = database.get_job(job["id"])
        assert done is not None
        assert (done["status"], done["result"]) == ("completed", {"payload": {"a": 1}, "entity": 7})

    def test_tells_the_error_of_a_handler(self, database: PromptStudioDatabase) -> None:
        manager = JobManager(database)

        async def handler(_payload: object, _entity_id: int) -> None:
            raise LookupError("no such model")

        manager.register_handler("evaluation", handler)
        manager.create_job("evaluation", 7, {}, max_retries=0)
        job = manager.get_next_job()
        assert job is not None
        with pytest.raises(LookupError):
            asyncio.run(manager.process_job(job))
        failed = database.get_job(job["id"])
        assert failed is not None
        assert failed["status"] == "failed"
        assert "no such model" in str(failed["error_message"])

    def test_has_no_handler_for_what_nobody_registered(self, database: PromptStudioDatabase) -> None:
        manager = JobManager(database)
        manager.create_job("generation", 1, {})
        job = manager.get_next_job()
        assert job is not None
        with pytest.raises(ValueError, match="no handler"):
            asyncio.run(manager.process_job(job))
