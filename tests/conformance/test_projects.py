"""Projects at rest: what is made comes back, what may be listed is found, and what breaks a rule is refused."""

from typing import Any

import pytest

from prompt_studio import ConflictError, InputError, ProjectStatus, PromptStudioDatabase
from tests.conformance.stores import Door
from tests.conformance.virtual_time import VirtualClock

pytestmark = [pytest.mark.conformance, pytest.mark.verifies("PS-ENTITIES-1")]

JSON: list[Any] = [None, {}, {"a": [1, 1.5, True, None, "\N{SNOWMAN}"]}, "text", 0, [1e23]]


def names(page: Any) -> list[str]:  # noqa: ANN401 - a page
    return [project["name"] for project in page["projects"]]


class TestCreateProject:
    @pytest.mark.parametrize("metadata", JSON, ids=repr)
    def test_gives_back_what_was_given(self, database: PromptStudioDatabase, metadata: object) -> None:
        made = database.create_project("a", "it's 100 %", "active", metadata, "ann", client_id="c")
        assert (made["name"], made["description"], made["status"]) == ("a", "it's 100 %", ProjectStatus.ACTIVE)
        assert (made["metadata"], made["user_id"], made["client_id"]) == (metadata, "ann", "c")
        assert database.get_project(made["id"]) == made

    def test_has_the_time_of_the_database_to_the_millisecond(
        self, database: PromptStudioDatabase, clock: VirtualClock
    ) -> None:
        clock.tick(1.007)
        made = database.create_project("a")
        assert round(made["created_at"].timestamp() * 1000) == clock.milliseconds
        assert made["updated_at"] == made["created_at"]
        assert (made["deleted"], made["deleted_at"]) == (False, None)

    def test_belongs_to_the_client_unless_a_user_is_named(self, database: PromptStudioDatabase) -> None:
        made = database.create_project("a")
        assert (made["user_id"], made["client_id"], made["status"]) == ("tester", "tester", ProjectStatus.DRAFT)

    @pytest.mark.verifies("PS-ENTITIES-2")
    def test_with_a_name_that_the_user_has_is_a_conflict(self, database: PromptStudioDatabase) -> None:
        database.create_project("a", user_id="ann")
        with pytest.raises(ConflictError):
            database.create_project("a", user_id="ann")
        database.create_project("a", user_id="bob")
        database.create_project("A", user_id="ann")

    @pytest.mark.parametrize(
        "wrong",
        [
            {"name": ""},
            {"name": "a\0"},
            {"name": 256 * "a"},
            {"name": 7},
            {"description": 7},
            {"description": 50_001 * "a"},
            {"description": "\ud800"},
            {"status": "lunch"},
            {"metadata": float("nan")},
            {"metadata": {1: 2}},
            {"user_id": ""},
            {"client_id": ""},
        ],
        ids=lambda wrong: next(iter(wrong)),
    )
    @pytest.mark.verifies("PS-INPUT-2")
    def test_refuses_bad_values(self, database: PromptStudioDatabase, wrong: dict[str, Any]) -> None:
        with pytest.raises(InputError, match=next(iter(wrong))):
            database.create_project(**({"name": "a"} | wrong))
        assert database.list_projects()["pagination"]["total"] == 0


class TestListProjects:
    @pytest.fixture
    def some(self, database: PromptStudioDatabase, clock: VirtualClock) -> PromptStudioDatabase:
        for name, user, description in (
            ("one", "ann", None),
            ("Two", "bob", "of ann"),
            ("\u00c9t\u00e9", "ann", "100 %"),
        ):
            clock.tick(1)
            database.create_project(name, description, "active" if user == "bob" else "draft", user_id=user)
        return database

    @pytest.mark.parametrize(
        ("wanted", "found"),
        [
            ({}, ["\u00c9t\u00e9", "Two", "one"]),
            ({"user_id": "ann"}, ["\u00c9t\u00e9", "one"]),
            ({"status": "active"}, ["Two"]),
            ({"search": "O"}, ["Two", "one"]),
            ({"search": "TWO"}, ["Two"]),
            ({"search": "\u00e9t"}, []),
            ({"search": "\u00c9T\u00e9"}, ["\u00c9t\u00e9"]),
            ({"search": "%"}, ["\u00c9t\u00e9"]),
            ({"search": "_"}, []),
            ({"search": ""}, ["\u00c9t\u00e9", "Two", "one"]),
            ({"search": "ann", "user_id": "bob"}, ["Two"]),
            ({"user_id": "nobody"}, []),
        ],
        ids=repr,
    )
    @pytest.mark.verifies("INV-BACKENDS-AGREE")
    def test_finds_what_was_asked_for(
        self, some: PromptStudioDatabase, wanted: dict[str, Any], found: list[str]
    ) -> None:
        page = some.list_projects(**wanted)
        assert names(page) == found
        assert page["pagination"]["total"] == len(found)

    def test_gives_one_page_after_another(self, some: PromptStudioDatabase) -> None:
        pages = [some.list_projects(page=number, per_page=2) for number in (1, 2, 3)]
        assert [names(page) for page in pages] == [["\u00c9t\u00e9", "Two"], ["one"], []]
        assert pages[1]["pagination"] == {"page": 2, "per_page": 2, "total": 3, "total_pages": 2}

    def test_shows_deleted_ones_to_who_asks_for_them(self, some: PromptStudioDatabase) -> None:
        some.delete_project(1)
        assert names(some.list_projects(user_id="ann")) == ["\u00c9t\u00e9"]
        assert len(names(some.list_projects(user_id="ann", include_deleted=True))) == 2

    @pytest.mark.parametrize(
        "wrong",
        [{"page": 0}, {"per_page": 1001}, {"per_page": True}, {"user_id": ""}, {"status": "x"}, {"include_deleted": 1}],
    )
    def test_refuses_bad_values(self, database: PromptStudioDatabase, wrong: dict[str, Any]) -> None:
        with pytest.raises(InputError, match=next(iter(wrong))):
            database.list_projects(**wrong)


class TestUpdateProject:
    def test_changes_what_is_named_and_nothing_else(self, database: PromptStudioDatabase, clock: VirtualClock) -> None:
        made = database.create_project("a", "d", metadata={"a": 1})
        clock.tick(1)
        changed = database.update_project(made["id"], {"name": "b"}, status="archived")
        assert changed is not None
        assert changed["updated_at"] > made["updated_at"]
        assert changed == {**made, "name": "b", "status": "archived", "updated_at": changed["updated_at"]}
        assert database.get_project(made["id"]) == changed

    def test_may_clear(self, database: PromptStudioDatabase) -> None:
        made = database.create_project("a", "d", metadata={"a": 1})
        changed = database.update_project(made["id"], description=None, metadata=None)
        assert changed is not None
        assert (changed["name"], changed["description"], changed["metadata"]) == ("a", None, None)

    def test_of_none_that_is_there_is_none(self, database: PromptStudioDatabase) -> None:
        made = database.create_project("a")
        database.delete_project(made["id"])
        assert database.update_project(made["id"], name="b") is None
        assert database.update_project(99, name="b") is None

    @pytest.mark.verifies("PS-ENTITIES-2")
    def test_to_a_name_that_the_user_has_is_a_conflict(self, database: PromptStudioDatabase) -> None:
        made = [database.create_project(name) for name in "ab"]
        with pytest.raises(ConflictError):
            database.update_project(made[1]["id"], name="a")
        assert database.get_project(made[1]["id"]) == made[1]

    @pytest.mark.parametrize("wrong", [{}, {"id": 7}, {"user_id": "bob"}, {"name": None}, {"status": None}], ids=repr)
    def test_refuses_bad_values(self, database: PromptStudioDatabase, wrong: dict[str, Any]) -> None:
        made = database.create_project("a")
        with pytest.raises(InputError):
            database.update_project(made["id"], wrong)
        assert database.get_project(made["id"]) == made


class TestDeleteProject:
    def test_hides_it(self, database: PromptStudioDatabase, clock: VirtualClock) -> None:
        made = database.create_project("a")
        clock.tick(1)
        assert database.delete_project(made["id"]) is True
        assert database.delete_project(made["id"]) is False
        assert database.get_project(made["id"]) is None
        hidden = database.get_project(made["id"], include_deleted=True)
        assert hidden is not None
        assert hidden["deleted"] is True
        assert hidden["deleted_at"] == hidden["updated_at"] > made["updated_at"]
        assert database.create_project("a")["id"] != made["id"]

    def test_for_good_takes_all_that_belongs_to_it(self, database: PromptStudioDatabase, raw: Door) -> None:
        made = database.create_project("a")
        prompt = database.create_prompt(project_id=made["id"], name="p")
        run = database.create_optimization(
            project_id=made["id"], name="o", initial_prompt_id=prompt["id"], optimizer_type="mipro"
        )
        database.record_optimization_iteration(run["id"], iteration_number=1)
        assert database.delete_project(made["id"], hard_delete=True) is True
        assert database.delete_project(made["id"], hard_delete=True) is False
        for table in ("projects", "prompts", "optimizations", "optimization_iterations"):
            assert raw.execute(f"SELECT id FROM prompt_studio_{table}") == []

    @pytest.mark.verifies("PS-ENTITIES-2")
    def test_a_second_one_of_a_name_needs_the_first_to_go_for_good(self, database: PromptStudioDatabase) -> None:
        first = database.create_project("a")
        database.delete_project(first["id"])
        second = database.create_project("a")
        with pytest.raises(ConflictError):
            database.delete_project(second["id"])
        assert database.get_project(second["id"]) == second
        assert database.delete_project(first["id"], hard_delete=True)
        assert database.delete_project(second["id"])

    def test_is_part_of_a_transaction(self, database: PromptStudioDatabase) -> None:
        made = database.create_project("a")

        def begin_and_fail() -> None:
            with database.transaction():
                database.delete_project(made["id"])
                database.update_project(database.create_project("b")["id"], name="c")
                raise LookupError

        with pytest.raises(LookupError):
            begin_and_fail()
        assert names(database.list_projects()) == ["a"]
