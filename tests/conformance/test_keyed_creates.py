"""Creates with an idempotency key: one entity for each key, whatever it is, and whatever comes in between."""

from collections.abc import Iterator

import pytest

from prompt_studio import (
    ConflictError,
    DatabaseError,
    EntityGone,
    IdempotencyMismatch,
    IdempotencyRecord,
    InputError,
    MissingReference,
    PromptStudioDatabase,
    TransientConflict,
)
from prompt_studio.storage import idempotency_operations
from prompt_studio.storage.dialect import NO_PARAMETERS, Parameters
from prompt_studio.storage.statements import Statement
from prompt_studio.storage.transactions import Session
from tests.conformance.conftest import Open
from tests.conformance.creates import CLIENT, JOB, KINDS, OPTIMIZATION, PROJECT, PROMPT, Create, Kind
from tests.conformance.rows import claimed
from tests.conformance.stores import Door
from tests.conformance.virtual_time import VirtualClock

pytestmark = pytest.mark.conformance

every_scope = pytest.mark.parametrize("user", ["ann", None])
RETENTION_SECONDS = 3600


@pytest.fixture(params=KINDS, ids=lambda kind: kind.entity_type)
def kind(request: pytest.FixtureRequest) -> Kind:
    chosen: Kind = request.param
    return chosen


@pytest.fixture
def make(database: PromptStudioDatabase, kind: Kind) -> Create:
    return kind.ready(database)


@pytest.fixture
def forgetful(opened: Open) -> Iterator[PromptStudioDatabase]:
    """A database whose keys stand for an hour."""
    with opened(idempotency_retention_seconds=RETENTION_SECONDS) as database:
        yield database


class Rows:
    """What there is of a kind, and how many keys."""

    def __init__(self, raw: Door, kind: Kind) -> None:
        self._raw = raw
        self._kind = kind

    def ids(self) -> list[int]:
        return [row["id"] for row in self._raw.execute(f"SELECT id FROM {self._kind.table} ORDER BY id")]

    def recorded(self) -> list[tuple[str, int]]:
        rows = self._raw.execute("SELECT idempotency_key, entity_id FROM prompt_studio_idempotency ORDER BY id")
        return [(row["idempotency_key"], row["entity_id"]) for row in rows]

    def jobs(self) -> int:
        return int(self._raw.execute("SELECT COUNT(*) AS jobs FROM prompt_studio_job_queue")[0]["jobs"])


@pytest.fixture
def rows(raw: Door, kind: Kind) -> Rows:
    return Rows(raw, kind)


class TestAKeyedCreate:
    @every_scope
    @pytest.mark.verifies("PS-IDEMPOTENCY-PG-5", "INV-ONE-EFFECT-PER-KEY", "INV-REPLAY-SAFE")
    def test_makes_one_entity_and_tells_everybody_of_it(
        self, database: PromptStudioDatabase, kind: Kind, make: Create, rows: Rows, user: str | None
    ) -> None:
        first = make("a", idempotency_key="k", user_id=user)
        assert first["replayed"] is False
        jobs = rows.jobs()

        for _ in range(2):
            again = make("a", idempotency_key="k", user_id=user)
            assert again["replayed"] is True
            assert {**again, "replayed": False, "job": None} == {**first, "job": None}
        assert rows.ids() == [first["id"]]
        assert rows.recorded() == [("k", first["id"])]
        assert rows.jobs() == jobs
        assert database.lookup_idempotency(kind.entity_type, "k", kind.owner(user)) == first["id"]

    def test_without_a_key_makes_one_each_time_and_says_nothing_of_replays(self, make: Create, rows: Rows) -> None:
        made = [make(name) for name in ("a", "b")]
        assert rows.ids() == [row["id"] for row in made]
        assert rows.recorded() == []
        assert not any("replayed" in row for row in made)

    def test_with_another_key_makes_another(self, make: Create, rows: Rows) -> None:
        made = [make(name, idempotency_key=name) for name in ("a", "b")]
        assert rows.recorded() == [("a", made[0]["id"]), ("b", made[1]["id"])]
        assert made[0]["id"] != made[1]["id"]

    @pytest.mark.verifies("PS-IDEMPOTENCY-SCOPE-1", "PS-IDEMPOTENCY-SCOPE-4", "INV-NO-CROSS-USER")
    def test_of_another_user_makes_another(self, make: Create) -> None:
        made = [
            make(name, idempotency_key="k", user_id=user) for name, user in (("a", "ann"), ("b", "bob"), ("c", None))
        ]
        assert [row["replayed"] for row in made] == [False] * 3
        assert len({row["id"] for row in made}) == 3

    @pytest.mark.verifies("PS-IDEMPOTENCY-SCOPE-3")
    def test_shares_no_key_with_another_kind(self, database: PromptStudioDatabase) -> None:
        made = [kind.ready(database)("a", idempotency_key="k", user_id="ann") for kind in KINDS]
        assert [row["replayed"] for row in made] == [False] * len(KINDS)

    @pytest.mark.verifies("PS-IDEMPOTENCY-PG-6")
    def test_for_another_request_is_a_mismatch_and_makes_nothing(self, make: Create, rows: Rows) -> None:
        first = make("a", idempotency_key="k")
        jobs = rows.jobs()
        with pytest.raises(IdempotencyMismatch, match="'k' was used for another request"):
            make("b", idempotency_key="k")
        assert rows.recorded() == [("k", first["id"])]
        assert rows.ids() == [first["id"]]
        assert rows.jobs() == jobs

    @pytest.mark.verifies("PS-IDEMPOTENCY-PG-6")
    def test_knows_the_request_by_what_was_received(self, make: Create) -> None:
        first = make("a", idempotency_key="k", request={"name": "a", "more": [1, {}]})
        again = make("b", idempotency_key="k", request={"more": [1, {}], "name": "a"})
        assert (again["id"], again["replayed"]) == (first["id"], True)
        others: tuple[object, ...] = ({"name": "a", "more": [1.0, {}]}, {"name": "a"}, "a", [])
        for other in others:
            with pytest.raises(IdempotencyMismatch):
                make("a", idempotency_key="k", request=other)

    @every_scope
    @pytest.mark.verifies("PS-IDEMPOTENCY-PG-3")
    def test_makes_another_when_the_key_has_expired(
        self, forgetful: PromptStudioDatabase, kind: Kind, clock: VirtualClock, rows: Rows, user: str | None
    ) -> None:
        make = kind.ready(forgetful)
        first = make("a", idempotency_key="k", user_id=user)
        clock.tick(RETENTION_SECONDS - 0.001)
        assert make("a", idempotency_key="k", user_id=user)["replayed"]
        clock.tick(0.001)
        other = make("b", idempotency_key="k", user_id=user)
        assert (other["replayed"], rows.recorded()) == (False, [("k", other["id"])])
        assert rows.ids() == [first["id"], other["id"]]
        clock.tick(RETENTION_SECONDS - 0.001)
        assert make("b", idempotency_key="k", user_id=user)["id"] == other["id"]

    @pytest.mark.verifies("PS-IDEMPOTENCY-PG-6")
    def test_takes_any_request_for_a_key_that_was_recorded_by_hand(
        self, database: PromptStudioDatabase, kind: Kind, make: Create
    ) -> None:
        made = make("a", user_id="ann")
        database.record_idempotency(kind.entity_type, "k", made["id"], kind.owner("ann"))
        for name in ("b", "c"):
            assert make(name, idempotency_key="k", user_id="ann")["id"] == made["id"]
        told = database.record_idempotency(kind.entity_type, "k", made["id"] + 1, "ann")
        assert told == IdempotencyRecord(made["id"], created=False)

    @pytest.mark.verifies("PS-IDEMPOTENCY-PG-8")
    def test_does_not_make_again_what_was_deleted(self, raw: Door, kind: Kind, make: Create, rows: Rows) -> None:
        make("a", idempotency_key="k")
        for statement in kind.delete.split(";"):
            raw.execute(statement)
        with pytest.raises(EntityGone, match=f"stands for {kind.entity_type} .*not there"):
            make("a", idempotency_key="k")
        with pytest.raises(IdempotencyMismatch):
            make("b", idempotency_key="k")
        assert rows.ids() == []

    @pytest.mark.verifies("PS-IDEMPOTENCY-PG-8")
    def test_gives_no_user_the_project_of_another(self, database: PromptStudioDatabase, raw: Door) -> None:
        his = database.create_project("his", user_id="bob")
        database.record_idempotency("project", "by hand", his["id"], "ann")
        database.create_project("hers", user_id="ann", idempotency_key="k")
        raw.execute("UPDATE prompt_studio_projects SET user_id = 'eve' WHERE name = 'hers'")
        for name, key in (("any", "by hand"), ("hers", "k")):
            with pytest.raises(EntityGone, match=f"'{key}' stands for project"):
                database.create_project(name, user_id="ann", idempotency_key=key)

    @pytest.mark.parametrize("key", ["", "k" * 256, "a\0b", "\ud800", 7, b"k"], ids=repr)
    @pytest.mark.verifies("PS-INPUT-2")
    def test_refuses_a_key_that_is_none_before_anything_is_written(self, make: Create, rows: Rows, key: object) -> None:
        with pytest.raises(InputError, match="idempotency_key"):
            make("a", idempotency_key=key)
        assert (rows.ids(), rows.recorded()) == ([], [])

    @pytest.mark.parametrize("key", ["k", None])
    def test_refuses_a_request_that_is_no_json(self, make: Create, rows: Rows, key: str | None) -> None:
        with pytest.raises(InputError, match="request"):
            make("a", idempotency_key=key, request={"score": float("nan")})
        assert (rows.ids(), rows.recorded()) == ([], [])

    def test_takes_long_keys_up_to_the_limit(self, make: Create) -> None:
        longest = 255 * "\N{SNOWMAN}"
        first = make("a", idempotency_key=longest, user_id=longest)
        assert make("a", idempotency_key=longest, user_id=longest)["id"] == first["id"]


class TestInATransaction:
    @pytest.mark.verifies("PS-IDEMPOTENCY-PG-5", "PS-CONCURRENCY-23")
    def test_it_is_there_with_its_key_or_not_at_all(
        self, database: PromptStudioDatabase, make: Create, rows: Rows
    ) -> None:
        def begin_and_fail() -> None:
            with database.transaction():
                make("a", idempotency_key="k")
                raise LookupError

        with pytest.raises(LookupError):
            begin_and_fail()
        assert (rows.ids(), rows.recorded()) == ([], [])
        with database.transaction():
            made = make("a", idempotency_key="k")
            assert make("a", idempotency_key="k")["replayed"]
        assert (rows.ids(), rows.recorded()) == ([made["id"]], [("k", made["id"])])

    @pytest.mark.verifies("PS-IDEMPOTENCY-PG-5", "PS-FAULTS-1")
    def test_a_rival_waits_for_its_end_within_the_limit(
        self, database: PromptStudioDatabase, kind: Kind, make: Create, opened: Open, rows: Rows
    ) -> None:
        with opened(write_retry_seconds=0) as other:
            with database.transaction():
                made = make("a", idempotency_key="k", user_id="ann")
                with pytest.raises(TransientConflict):
                    other.record_idempotency(kind.entity_type, "k", 99, kind.owner("ann"))
            told = other.record_idempotency(kind.entity_type, "k", 99, kind.owner("ann"))
        assert told == IdempotencyRecord(made["id"], created=False)
        assert rows.ids() == [made["id"]]


class TestAnInterruption:
    """Whatever ends a create, and wherever: neither key nor entity is left, or both are; and the same call goes on."""

    @pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
    @pytest.mark.verifies("PS-IDEMPOTENCY-PG-5", "INV-ONE-EFFECT-PER-KEY")
    def test_at_any_statement_leaves_both_or_neither(
        self, make: Create, rows: Rows, monkeypatch: pytest.MonkeyPatch, *, after: bool
    ) -> None:
        jobs = rows.jobs()
        for number in range(1, 100):
            ended = self.interrupted(make, monkeypatch, number, f"k{number}", after=after)
            made = [entity_id for key, entity_id in rows.recorded() if key == f"k{number}"]
            assert made == rows.ids()[number - 1 :]
            assert len(made) == (ended == "commit" and after)
            assert rows.jobs() - jobs in {0, len(rows.ids())}
            again = make(f"name {number}", idempotency_key=f"k{number}")
            assert again["replayed"] is bool(made)
            assert (f"k{number}", again["id"]) in rows.recorded()
            assert len(rows.ids()) == number
            if ended == "commit":
                return
        pytest.fail("no end after a hundred statements")

    @staticmethod
    def interrupted(make: Create, monkeypatch: pytest.MonkeyPatch, number: int, key: str, *, after: bool) -> str:
        """Create, and be interrupted at this statement of it; its name."""
        run, seen = Session.run, []

        def interrupt(session: Session, statement: Statement, parameters: Parameters = NO_PARAMETERS) -> object:
            seen.append(statement.name)
            if len(seen) == number and not after:
                raise KeyboardInterrupt
            found = run(session, statement, parameters)
            if len(seen) == number:
                raise KeyboardInterrupt
            return found

        with monkeypatch.context() as patch:
            patch.setattr(Session, "run", interrupt)
            with pytest.raises(KeyboardInterrupt):
                make(f"name {number}", idempotency_key=key)
        return seen[number - 1]


class TestACreateThatFails:
    @pytest.mark.verifies("PS-IDEMPOTENCY-PG-5")
    def test_leaves_the_key_free(self, database: PromptStudioDatabase, raw: Door) -> None:
        database.create_project("a", user_id="ann")
        with pytest.raises(ConflictError):
            database.create_project("a", user_id="ann", idempotency_key="k")
        with pytest.raises(MissingReference, match="no project 99"):
            database.create_prompt(project_id=99, name="a", idempotency_key="k")
        with pytest.raises(MissingReference, match="no prompt 7 in a project 1"):
            database.create_optimization(
                project_id=1, name="a", initial_prompt_id=7, optimizer_type="mipro", job={}, idempotency_key="k"
            )
        assert Rows(raw, PROJECT).recorded() == []
        assert database.count_jobs() == 0
        assert database.create_project("b", user_id="ann", idempotency_key="k")["replayed"] is False


class TestAReplay:
    def test_tells_of_the_job_as_it_is_by_now(self, database: PromptStudioDatabase) -> None:
        make = JOB.ready(database)
        make("a", idempotency_key="k")
        job = claimed(database)
        assert make("a", idempotency_key="k") == {**job, "replayed": True}

    def test_may_come_from_another_client(self, database: PromptStudioDatabase, opened: Open) -> None:
        first = JOB.ready(database)("a", idempotency_key="k", user_id="ann")
        with opened("other") as other:
            assert JOB.ready(other)("a", idempotency_key="k", user_id="ann")["id"] == first["id"]
            assert JOB.ready(other)("a", idempotency_key="k", user_id="ann")["client_id"] == CLIENT

    @pytest.mark.verifies("INV-NO-CROSS-USER")
    def test_of_a_project_never_comes_from_another_clients_user(
        self, database: PromptStudioDatabase, opened: Open
    ) -> None:
        first = database.create_project("a", idempotency_key="k")
        with opened("other") as other:
            second = other.create_project("a", idempotency_key="k")
        assert (first["user_id"], second["user_id"], second["replayed"]) == (CLIENT, "other", False)
        assert database.lookup_idempotency("project", "k", CLIENT) == first["id"]
        assert database.lookup_idempotency("project", "k", None) is None

    def test_of_an_optimization_has_no_job(self, database: PromptStudioDatabase) -> None:
        make = OPTIMIZATION.ready(database)
        first, again = (make("a", idempotency_key="k") for _ in range(2))
        assert first["job"]["entity_id"] == first["id"] == again["id"]
        assert again["job"] is None
        assert database.count_jobs() == 1

    def test_of_a_prompt_is_not_hindered_by_a_deleted_project(self, database: PromptStudioDatabase) -> None:
        make = PROMPT.ready(database)
        first = make("a", idempotency_key="k")
        database.delete_project(first["project_id"])
        assert make("a", idempotency_key="k")["id"] == first["id"]


@pytest.mark.verifies("PS-IDEMPOTENCY-PG-7")
class TestCleanupIdempotency:
    def test_deletes_what_has_expired_and_nothing_else(
        self, forgetful: PromptStudioDatabase, clock: VirtualClock, raw: Door
    ) -> None:
        for key in ("a", "b"):
            forgetful.record_idempotency("prompt", key, 1, "ann")
        clock.tick(1)
        forgetful.record_idempotency("prompt", "c", 1, None)
        clock.tick(RETENTION_SECONDS - 1.001)
        assert forgetful.cleanup_idempotency() == 0
        clock.tick(0.001)
        assert forgetful.cleanup_idempotency() == 2
        assert [key for key, _ in Rows(raw, JOB).recorded()] == ["c"]

    def test_has_nothing_to_do_without_a_retention(self, database: PromptStudioDatabase, clock: VirtualClock) -> None:
        database.record_idempotency("prompt", "k", 1, None)
        clock.tick(10**9)
        assert database.cleanup_idempotency() == 0

    def test_goes_on_after_a_batch_until_nothing_is_left(
        self, forgetful: PromptStudioDatabase, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(idempotency_operations, "FORGET_BATCH_KEYS", 2)
        for number in range(5):
            forgetful.record_idempotency("prompt", str(number), 1, None)
        clock.tick(RETENTION_SECONDS)
        assert forgetful.cleanup_idempotency() == 5

    def test_keeps_what_was_recorded_anew_after_it_was_listed(
        self, forgetful: PromptStudioDatabase, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        forgetful.record_idempotency("prompt", "k", 1, None)
        clock.tick(RETENTION_SECONDS)
        run = Session.run

        def renewed(session: Session, statement: Statement, parameters: Parameters = NO_PARAMETERS) -> object:
            found = run(session, statement, parameters)
            if statement.name == "list_expired_keys":
                renew = "UPDATE prompt_studio_idempotency SET created_at = created_at + CAST('1' AS INTEGER)"
                session.run(Statement("renew", renew + _MILLISECOND[session._one_writer]))
            return found

        monkeypatch.setattr(Session, "run", renewed)
        assert forgetful.cleanup_idempotency() == 0
        assert forgetful.lookup_idempotency("prompt", "k", None) == 1

    def test_is_not_part_of_a_transaction(self, database: PromptStudioDatabase) -> None:
        with database.transaction(), pytest.raises(InputError, match="transaction"):
            database.cleanup_idempotency()


_MILLISECOND = {True: "", False: " * INTERVAL '1 ms'"}


def test_an_error_of_these_is_trouble_of_the_store() -> None:
    """So that it can be caught where every other one is."""
    assert issubclass(IdempotencyMismatch, DatabaseError)
    assert issubclass(EntityGone, DatabaseError)
    assert issubclass(MissingReference, DatabaseError)
