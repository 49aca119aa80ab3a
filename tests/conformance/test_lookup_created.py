"""What a request has made under its key, asked before its content is looked at."""

from typing import Any, cast

import pytest

from prompt_studio import IdempotencyMismatch, InputError, PromptStudioDatabase, TransientConflict
from prompt_studio.storage.sql_store import SqlStore
from tests.conformance.conftest import Open
from tests.conformance.creates import KINDS, Kind
from tests.conformance.virtual_time import VirtualClock

pytestmark = [pytest.mark.conformance, pytest.mark.verifies("PS-IDEMPOTENCY-SCOPE-2")]

REQUEST = {"a": [1], "b": None}


class TestLookupCreated:
    @pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.entity_type)
    @pytest.mark.verifies("PS-IDEMPOTENCY-PG-6")
    def test_finds_what_the_same_request_made(self, database: PromptStudioDatabase, kind: Kind) -> None:
        create, name = kind.ready(database), kind.entity_type
        assert database.lookup_created(name, "k", "ann", REQUEST) is None
        made = create("x", idempotency_key="k", user_id="ann", request=REQUEST)
        assert database.lookup_created(name, "k", "ann", {"b": None, "a": [1]}) == made["id"]
        others: tuple[object, ...] = ({"a": [1]}, {"a": [1.0], "b": None}, [], None, "x")
        for other in others:
            with pytest.raises(IdempotencyMismatch, match="use a new key"):
                database.lookup_created(name, "k", "ann", other)

    def test_is_of_one_operation(self, database: PromptStudioDatabase) -> None:
        project = database.create_project("p")["id"]
        prompt = database.create_prompt(project_id=project, name="x")["id"]
        made = database.create_optimization(
            project_id=project,
            name="o",
            initial_prompt_id=prompt,
            optimizer_type="mipro",
            idempotency_key="k",
            user_id="ann",
            request=REQUEST,
            operation="another",
        )
        assert database.lookup_created("optimization", "k", "ann", REQUEST, operation="another") == made["id"]
        for operation in (None, "create_optimization", "Another"):
            with pytest.raises(IdempotencyMismatch):
                database.lookup_created("optimization", "k", "ann", REQUEST, operation=operation)
        with pytest.raises(InputError, match="operation"):
            database.lookup_created("optimization", "k", "ann", REQUEST, operation="")

    @pytest.mark.verifies("PS-IDEMPOTENCY-SCOPE-1", "PS-IDEMPOTENCY-SCOPE-3", "PS-IDEMPOTENCY-SCOPE-4")
    def test_sees_no_other_scope(self, database: PromptStudioDatabase) -> None:
        made = database.create_project("x", user_id="ann", idempotency_key="k", request=REQUEST)
        assert database.lookup_created("project", "k", "ann", REQUEST) == made["id"]
        for kind, key, user in (
            ("project", "k", "bob"),
            ("project", "k", None),
            ("project", "K", "ann"),
            ("job", "k", "ann"),
        ):
            assert database.lookup_created(kind, key, user, REQUEST) is None
            assert database.lookup_created(kind, key, user, ["another"]) is None

    def test_takes_what_was_recorded_by_hand_for_any_request(self, database: PromptStudioDatabase) -> None:
        database.record_idempotency("project", "k", 7, "ann")
        assert database.lookup_created("project", "k", "ann", REQUEST) == 7
        assert database.lookup_created("project", "k", "ann", "another") == 7

    @pytest.mark.verifies("PS-IDEMPOTENCY-PG-3")
    def test_finds_nothing_that_has_expired(self, opened: Open, clock: VirtualClock) -> None:
        with opened(idempotency_retention_seconds=10) as database:
            database.create_project("x", user_id="ann", idempotency_key="k", request=REQUEST)
            clock.tick(9)
            assert database.lookup_created("project", "k", "ann", REQUEST) is not None
            clock.tick(1)
            assert database.lookup_created("project", "k", "ann", REQUEST) is None
            assert database.lookup_created("project", "k", "ann", "another") is None

    def test_counts_as_a_hit(self, database: PromptStudioDatabase) -> None:
        database.create_project("x", user_id="ann", idempotency_key="k", request=REQUEST)
        database.lookup_created("project", "none", "ann", REQUEST)
        assert database.get_create_counts().hits == {}
        database.lookup_created("project", "k", "ann", REQUEST)
        assert database.get_create_counts().hits == {"project": 1}

    @pytest.mark.parametrize(
        ("kind", "key", "user", "request_"),
        [("", "k", "ann", 1), ("project", "", "ann", 1), ("project", "k", "", 1), ("project", "k", "ann", {1})],
        ids=["no kind", "no key", "no user", "no JSON"],
    )
    def test_refuses_bad_values(
        self, database: PromptStudioDatabase, kind: str, key: str, user: str, request_: object
    ) -> None:
        with pytest.raises(InputError):
            database.lookup_created(kind, key, user, request_)


def test_calls_with_one_patience_share_it(database: PromptStudioDatabase) -> None:
    session = cast("SqlStore", database._store)._sessions.current()
    with database.one_patience():
        first = session.patience()
        with database.one_patience():
            assert session.patience() is first
        assert session.patience() is first
    assert session.patience() is not first


def test_what_was_waited_before_is_part_of_one_patience(database: PromptStudioDatabase) -> None:
    session = cast("SqlStore", database._store)._sessions.current()
    conflict = TransientConflict("as arranged")
    with database.one_patience(spent_seconds=session._retry_seconds - 1):
        assert 0 < session.patience().check(conflict) <= 1
    with database.one_patience(spent_seconds=1_000_000), pytest.raises(TransientConflict, match="for 0 s"):
        session.patience().check(conflict)


@pytest.mark.parametrize("wrong", [-1, float("nan"), "1", None, True], ids=repr)
def test_what_was_waited_before_is_a_number_of_seconds(database: PromptStudioDatabase, wrong: object) -> None:
    with pytest.raises(InputError, match="spent_seconds"):
        database.one_patience(spent_seconds=cast("Any", wrong))


def test_the_version_of_the_schema_is_told(database: PromptStudioDatabase) -> None:
    assert database.get_schema_version() == 1
