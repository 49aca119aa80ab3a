"""What a key stands for, for whom, and for how long."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from prompt_studio import IdempotencyRecord, PromptStudioDatabase, StoreUnavailable
from tests.conformance.conftest import Open
from tests.conformance.stores import Door, Store
from tests.conformance.virtual_time import VirtualClock

pytestmark = pytest.mark.conformance

LONGEST = "".join(
    map(chr, range(0x1F300, 0x1F300 + 255))
)  # four bytes each, and no two alike, so nothing is compressed

every_scope = pytest.mark.parametrize("user", ["ann", None])


@pytest.fixture
def forgetful(opened: Open) -> Iterator[PromptStudioDatabase]:
    """A database whose keys stand for an hour."""
    with opened(idempotency_retention_seconds=3600) as database:
        yield database


class TestRecordIdempotency:
    @every_scope
    @pytest.mark.verifies("PS-IDEMPOTENCY-PG-2", "INV-ONE-EFFECT-PER-KEY")
    def test_tells_everybody_the_first_entity(self, database: PromptStudioDatabase, user: str | None) -> None:
        assert database.record_idempotency("prompt", "k", 5, user) == IdempotencyRecord(5, created=True)
        assert database.record_idempotency("prompt", "k", 6, user) == IdempotencyRecord(5, created=False)
        assert database.record_idempotency("prompt", "k", 5, user) == IdempotencyRecord(5, created=False)

    @every_scope
    @pytest.mark.verifies("PS-IDEMPOTENCY-PG-2", "INV-REPLAY-SAFE")
    def test_changes_nothing_when_it_is_repeated(
        self, database: PromptStudioDatabase, clock: VirtualClock, raw: Door, user: str | None
    ) -> None:
        database.record_idempotency("prompt", "k", 5, user)
        before = raw.execute("SELECT * FROM prompt_studio_idempotency")
        clock.tick(10**9)
        database.record_idempotency("prompt", "k", 6, user)
        assert raw.execute("SELECT * FROM prompt_studio_idempotency") == before
        assert [(row["entity_id"], row["created_at"]) for row in before] == [
            (5, raw.moment(clock.milliseconds - 10**12))
        ]

    @every_scope
    @pytest.mark.verifies("PS-IDEMPOTENCY-PG-3")
    def test_replaces_a_row_at_its_expiry_and_not_before(
        self, forgetful: PromptStudioDatabase, clock: VirtualClock, user: str | None
    ) -> None:
        forgetful.record_idempotency("prompt", "k", 5, user)
        clock.tick(3599.999)
        assert forgetful.record_idempotency("prompt", "k", 6, user) == IdempotencyRecord(5, created=False)
        clock.tick(0.001)
        assert forgetful.record_idempotency("prompt", "k", 6, user) == IdempotencyRecord(6, created=True)
        clock.tick(3599.999)
        assert forgetful.lookup_idempotency("prompt", "k", user) == 6

    @every_scope
    @pytest.mark.verifies("PS-IDEMPOTENCY-PG-3")
    def test_replaces_the_fingerprint_too(
        self, forgetful: PromptStudioDatabase, clock: VirtualClock, store: Store, user: str | None
    ) -> None:
        forgetful.record_idempotency("prompt", "k", 5, user)
        raw = store.door()
        raw.execute("UPDATE prompt_studio_idempotency SET fingerprint = 'old'")
        clock.tick(3600)
        forgetful.record_idempotency("prompt", "k", 6, user)
        rows = raw.execute("SELECT entity_id, fingerprint FROM prompt_studio_idempotency")
        assert rows == [{"entity_id": 6, "fingerprint": None}]


class TestLookupIdempotency:
    @every_scope
    @pytest.mark.verifies("PS-IDEMPOTENCY-PG-1")
    def test_finds_what_was_recorded_and_nothing_else(self, database: PromptStudioDatabase, user: str | None) -> None:
        assert database.lookup_idempotency("prompt", "k", user) is None
        database.record_idempotency("prompt", "k", 5, user)
        assert database.lookup_idempotency("prompt", "k", user) == 5
        assert database.lookup_idempotency("project", "k", user) is None
        assert database.lookup_idempotency("prompt", "K", user) is None

    @pytest.mark.verifies(
        "PS-IDEMPOTENCY-SCOPE-1", "PS-IDEMPOTENCY-SCOPE-3", "PS-IDEMPOTENCY-SCOPE-4", "INV-NO-CROSS-USER"
    )
    def test_keeps_users_and_nobody_apart(self, database: PromptStudioDatabase) -> None:
        scopes = {"ann": 1, "bob": 2, None: 3}
        for user, entity_id in scopes.items():
            assert database.lookup_idempotency("prompt", "k", user) is None
            assert database.record_idempotency("prompt", "k", entity_id, user).created
        assert {user: database.lookup_idempotency("prompt", "k", user) for user in scopes} == scopes

    @every_scope
    @pytest.mark.verifies("PS-IDEMPOTENCY-PG-3")
    def test_sees_a_row_until_its_expiry(
        self, forgetful: PromptStudioDatabase, clock: VirtualClock, user: str | None
    ) -> None:
        forgetful.record_idempotency("prompt", "k", 5, user)
        clock.tick(3599.999)
        assert forgetful.lookup_idempotency("prompt", "k", user) == 5
        clock.tick(0.001)
        assert forgetful.lookup_idempotency("prompt", "k", user) is None

    @pytest.mark.verifies("PS-IDEMPOTENCY-PG-4")
    def test_raises_when_it_could_not_look(self, path: Path) -> None:
        with PromptStudioDatabase(path, "tester") as database:
            database.record_idempotency("prompt", "k", 5, "ann")
            path.rename(path.with_name("moved.db"))
            with pytest.raises(StoreUnavailable):
                database.lookup_idempotency("prompt", "k", "ann")

    def test_takes_long_keys_up_to_the_limit(self, database: PromptStudioDatabase) -> None:
        key = 255 * "\N{SNOWMAN}"
        database.record_idempotency(key, key, -(2**63), key)
        assert database.lookup_idempotency(key, key, key) == -(2**63)


class TestTheLongestKeys:
    @pytest.mark.parametrize("user", [LONGEST, None])
    @pytest.mark.verifies("PS-IDEMPOTENCY-PG-2", "PS-IDEMPOTENCY-SCOPE-1", "INV-BACKENDS-AGREE")
    def test_are_recorded_and_found(self, database: PromptStudioDatabase, user: str | None) -> None:
        assert database.lookup_idempotency(LONGEST, LONGEST, user) is None
        assert database.record_idempotency(LONGEST, LONGEST, 5, user) == IdempotencyRecord(5, created=True)
        assert database.record_idempotency(LONGEST, LONGEST, 6, user) == IdempotencyRecord(5, created=False)
        assert database.lookup_idempotency(LONGEST, LONGEST, user) == 5

    @pytest.mark.verifies("PS-IDEMPOTENCY-SCOPE-1", "PS-IDEMPOTENCY-SCOPE-3", "INV-BACKENDS-AGREE")
    def test_differ_in_their_last_character(self, database: PromptStudioDatabase) -> None:
        other = LONGEST[:-1] + "x"
        scopes = [(LONGEST, LONGEST, LONGEST), (other, LONGEST, LONGEST), (LONGEST, other, LONGEST)]
        scopes += [(LONGEST, LONGEST, other)]
        for number, (kind, key, user) in enumerate([*scopes, *scopes]):
            told = database.record_idempotency(kind, key, number, user)
            assert told == IdempotencyRecord(number % len(scopes), created=number < len(scopes))
            assert database.lookup_idempotency(kind, key, user) == number % len(scopes)

    @pytest.mark.parametrize(
        ("user", "other"),
        [("\\\\", "\\"), ("\\x41", "A"), ("\\101", "A"), ("\\", "\\\\"), ("%", "%%"), ("é", "e\u0301")],
    )
    @pytest.mark.verifies("PS-IDEMPOTENCY-SCOPE-1", "INV-NO-CROSS-USER")
    def test_of_users_whose_names_a_database_might_take_for_one(
        self, database: PromptStudioDatabase, user: str, other: str
    ) -> None:
        assert database.record_idempotency("prompt", "k", 5, user).created
        assert database.record_idempotency("prompt", "k", 6, other).created
        assert [database.lookup_idempotency("prompt", "k", name) for name in (user, other)] == [5, 6]
