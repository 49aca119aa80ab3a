"""Tables that the host application has brought: they stay as they are, and are used as far as they go."""

from collections.abc import Mapping
from typing import Final

import pytest

from prompt_studio import PromptStudioDatabase, SchemaError, migrate
from prompt_studio.storage.brought_tables import NEEDED_COLUMNS
from tests.harness.old_tables import Place, make_old

pytestmark = [pytest.mark.faults, pytest.mark.verifies("PS-MIGRATION-10")]

_TIMES: Final = "created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP"
_MORE: Final = "deleted INTEGER DEFAULT 0, deleted_at TIMESTAMP, updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP"

# As the application makes them, with columns that the store does not know; {id} and {json} are the database's.
TABLES: Final[Mapping[str, str]] = {
    "prompt_studio_projects": f"""
        {{id}}, uuid TEXT UNIQUE NOT NULL, name TEXT NOT NULL, description TEXT, user_id TEXT NOT NULL,
        client_id TEXT NOT NULL, status TEXT DEFAULT 'draft' CHECK (status IN ('draft', 'active', 'archived')),
        last_modified TIMESTAMP DEFAULT CURRENT_TIMESTAMP, version INTEGER DEFAULT 1, metadata {{json}}, {_TIMES},
        {_MORE}, UNIQUE (name, user_id, deleted)""",
    "prompt_studio_prompts": f"""
        {{id}}, uuid TEXT UNIQUE NOT NULL, project_id BIGINT NOT NULL REFERENCES prompt_studio_projects (id) ON DELETE
        CASCADE, signature_id BIGINT, version_number INTEGER NOT NULL DEFAULT 1, name TEXT NOT NULL, system_prompt TEXT,
        user_prompt TEXT, few_shot_examples {{json}}, modules_config {{json}}, parent_version_id BIGINT,
        change_description TEXT, client_id TEXT NOT NULL, {_TIMES}, {_MORE},
        UNIQUE (project_id, name, version_number)""",
    "prompt_studio_optimizations": f"""
        {{id}}, uuid TEXT UNIQUE NOT NULL, project_id BIGINT NOT NULL REFERENCES prompt_studio_projects (id) ON DELETE
        CASCADE, name TEXT, initial_prompt_id BIGINT NOT NULL REFERENCES prompt_studio_prompts (id),
        optimized_prompt_id BIGINT, optimizer_type TEXT NOT NULL, optimization_config {{json}} NOT NULL,
        initial_metrics {{json}}, final_metrics {{json}}, improvement_percentage REAL, iterations_completed INTEGER,
        max_iterations INTEGER, bootstrap_samples INTEGER, status TEXT DEFAULT 'pending', error_message TEXT,
        total_tokens INTEGER, total_cost REAL, client_id TEXT NOT NULL, started_at TIMESTAMP, completed_at TIMESTAMP,
        {_TIMES}""",
    "prompt_studio_optimization_iterations": f"""
        {{id}}, uuid TEXT UNIQUE NOT NULL, optimization_id BIGINT NOT NULL REFERENCES prompt_studio_optimizations (id)
        ON DELETE CASCADE, iteration_number INTEGER NOT NULL, prompt_variant {{json}}, metrics {{json}},
        tokens_used INTEGER, cost REAL, note TEXT, {_TIMES}""",
}


def bring(place: Place, *tables: str) -> None:
    """Make these tables as the application does, with a project of its own in them."""
    for table in tables:
        place.run(f"CREATE TABLE {table} ({TABLES[table].format(id=place.id_column, json=place.json_type)})")
    place.run(
        "INSERT INTO prompt_studio_projects (uuid, name, user_id, client_id, metadata)"
        """ VALUES ('u', 'theirs', 'ann', 'app', '{"a": 1.5}')"""
    )


@pytest.fixture
def theirs(place: Place) -> Place:
    """An old queue beside all of the application's tables."""
    bring(place, *TABLES)
    place.run_all([(table, ()) for table in place.tables if "CREATE TABLE prompt_studio_projects" not in table])
    return place


class TestTablesThatAreThere:
    def test_stay_as_they_are_and_the_report_says_so(self, theirs: Place) -> None:
        before = {table: theirs.run(f"SELECT * FROM {table}") for table in TABLES}
        report = migrate(theirs.location)
        assert report.kept == tuple(f"{table} stays as it is, and is used" for table in NEEDED_COLUMNS)
        assert {table: theirs.run(f"SELECT * FROM {table}") for table in TABLES} == before
        assert any("the application's tables" in line for line in report.lines())

    def test_are_used(self, theirs: Place) -> None:
        migrate(theirs.location)
        with PromptStudioDatabase(theirs.location, "tester") as database:
            (project,) = database.list_projects(search="THEIRS")["projects"]
            assert (project["metadata"], project["deleted"], project["user_id"]) == ({"a": 1.5}, False, "ann")
            assert project["created_at"].tzinfo is not None
            made = database.create_project("ours", metadata={"b": [1]}, user_id="ann", idempotency_key="k")
            again = database.create_project("ours", metadata={"b": [1]}, user_id="ann", idempotency_key="k")
            assert (again["id"], again["metadata"], again["created_at"]) == (made["id"], {"b": [1]}, made["created_at"])
            prompt = database.create_prompt(project_id=made["id"], name="p", few_shot_examples=[1])
            run = database.create_optimization(
                project_id=made["id"], name="o", initial_prompt_id=prompt["id"], optimizer_type="mipro", job={}
            )
            off = database.create_optimization(
                project_id=made["id"], name="off", initial_prompt_id=prompt["id"], optimizer_type="mipro", job={}
            )
            for user, there in (("ann", True), ("bob", False)):
                found = (
                    database.get_project(made["id"], user_id=user),
                    database.get_prompt_with_project(prompt["id"], user_id=user),
                    database.get_optimization(run["id"], user_id=user),
                    database.get_optimization_job(run["job"]["id"] if run["job"] else 0, user),
                )
                assert [one is not None for one in found] == [there] * len(found)
            assert database.cancel_optimization(off["id"], user_id="bob") is None
            cancelled = database.cancel_optimization(off["id"], user_id="ann", reason="enough")
            assert cancelled is not None
            assert (cancelled["status"], cancelled["completed_at"] is not None) == ("cancelled", True)
            assert database.count_jobs(status="cancelled") == 1
            database.record_optimization_iteration(run["id"], iteration_number=1, metrics={"a": 1}, cost=0.5)
            ended = database.complete_optimization(run["id"], final_metrics={"a": 2}, total_cost=1.5)
            assert ended is not None
            assert (ended["final_metrics"], ended["total_cost"], ended["completed_at"] is not None) == (
                {"a": 2},
                1.5,
                True,
            )
            assert database.update_project(made["id"], metadata=None)
            assert database.delete_project(made["id"])
            assert database.get_project(made["id"]) is None


class TestTablesThatLackAColumn:
    def test_are_named_and_keep_nobody_from_the_queue(self, place: Place) -> None:
        make_old(place)  # its projects have an id and a name
        report = migrate(place.location, dry_run=True)
        told = [
            line for line in report.kept if line.startswith("prompt_studio_projects stays as it is, and lacks uuid")
        ]
        assert len(told) == len(report.kept) == 1
        migrate(place.location)
        with PromptStudioDatabase(place.location, "tester") as database:
            assert database.create_job("evaluation", 1, {}, idempotency_key="k")["replayed"] is False
            for call in (
                lambda: database.create_project("a", idempotency_key="k"),
                database.list_projects,
                lambda: database.get_project(1),
                lambda: database.create_prompt(project_id=1, name="p"),
            ):
                with pytest.raises(SchemaError, match="restore them"):
                    call()
            assert database.get_prompt(1) is None  # these tables are ours
            assert database.lookup_idempotency("project", "k", "tester") is None


class TestATableBesideNoQueue:
    def test_stays_as_it_is_and_the_others_are_made(self, place: Place) -> None:
        bring(place, "prompt_studio_projects")
        assert migrate(place.location).kept == ("prompt_studio_projects stays as it is, and is used",)
        with PromptStudioDatabase(place.location, "tester") as database:
            assert database.create_prompt(project_id=1, name="p")["project_id"] == 1
