"""What becomes of the rows of a database from before this library, on SQLite and on Postgres."""

import json
import tempfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prompt_studio import JobRow, PromptStudioDatabase, migrate
from tests.harness.old_tables import (
    JOBS,
    KEY_ROWS,
    KEYS,
    ROWS,
    SUPERSEDED,
    Place,
    PostgresPlace,
    SqlitePlace,
    add_rows,
    job,
    key,
    make_old,
)
from tests.harness.postgres_server import Server

pytestmark = pytest.mark.faults
LONG_AGO = "2024-05-06 07:08:09"
INSTANT = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
FAR = "2099-01-01 00:00:00+00:00"


def jobs(place: Place) -> dict[int, JobRow]:
    with PromptStudioDatabase(place.location, "tester") as database:
        return {row["id"]: row for row in database.list_jobs()}


@pytest.mark.verifies("PS-MIGRATION-5")
class TestJobs:
    def test_are_all_there(self, old: Place) -> None:
        report = migrate(old.location)
        assert (report.jobs, report.keys, report.from_version, report.to_version) == (len(ROWS), len(KEY_ROWS), 0, 1)
        found = jobs(old)
        assert sorted(found) == list(range(1, len(ROWS) + 1))
        assert [found[n]["status"] for n in sorted(found)] == [row.get("status") or "queued" for row in ROWS]

    def test_that_wait_keep_their_count(self, old: Place) -> None:
        migrate(old.location)
        first = jobs(old)[1]
        assert (first["uuid"], first["payload"], first["priority"]) == ("a", {"x": [1.50, "é"]}, 9)
        assert first["created_at"] == first["available_at"] == INSTANT
        assert (first["executions"], first["lease_token"], first["execution_limit"], first["retry_count"]) == (
            1,
            1,
            4,
            1,
        )

    @pytest.mark.verifies("PS-MIGRATION-7")
    def test_that_run_keep_their_lease(self, old: Place) -> None:
        migrate(old.location)
        running = jobs(old)[2]
        assert running["leased_until"] == datetime(2099, 1, 1, tzinfo=UTC)
        assert (running["lease_owner"], running["started_at"]) == ("w", INSTANT)
        assert (running["executions"], running["lease_token"], running["execution_limit"]) == (3, 3, 4)

    def test_that_run_without_a_lease_are_taken_up_again(self, old: Place) -> None:
        migrate(old.location)
        left = jobs(old)[3]
        assert (left["lease_owner"], left["error_message"], left["result"]) == ("migrated", None, None)
        assert left["leased_until"] is not None
        assert left["leased_until"] <= datetime.now(UTC)
        with PromptStudioDatabase(old.location, "tester") as database:
            taken = [database.acquire_next_job() for _ in range(4)]
        reclaimed = [(row["id"], row["lease_token"]) for row in taken if row is not None and row["was_reclaim"]]
        assert reclaimed == [(3, 2)]

    def test_that_ended_keep_what_they_ended_with(self, old: Place) -> None:
        migrate(old.location)
        found = jobs(old)
        assert (found[4]["result"], found[4]["completed_at"]) == ({"score": 1}, INSTANT)
        assert (found[5]["error_message"], found[5]["completed_at"], found[5]["started_at"]) == (
            "broke",
            INSTANT,
            INSTANT,
        )
        assert found[5]["leased_until"] is None
        assert (found[5]["executions"], found[5]["execution_limit"]) == (4, 4)
        assert (found[6]["started_at"], found[6]["executions"]) == (None, 0)

    def test_outside_the_limits_are_brought_into_them(self, old: Place) -> None:
        migrate(old.location)
        found = jobs(old)
        odd, bare, worn = found[7], found[8], found[9]
        assert (odd["priority"], odd["retry_count"], odd["max_retries"], odd["execution_limit"]) == (10, 0, 0, 1)
        assert (odd["started_at"], odd["result"]) == (None, None)
        assert (bare["priority"], bare["retry_count"], bare["max_retries"]) == (5, 0, 3)
        assert (worn["retry_count"], worn["max_retries"]) == (2**31 - 3, 2**31 - 2)
        with PromptStudioDatabase(old.location, "tester") as database:
            assert database.retry_job_record(worn["id"])

    def test_of_the_future_can_be_acquired_now(self, place: Place) -> None:
        make_old(place, rows=[job(created_at="2098-01-01 00:00:00")])
        assert migrate(place.location).changes == {"future": 1}
        with PromptStudioDatabase(place.location, "tester") as database:
            assert database.acquire_next_job() is not None

    def test_never_give_an_id_twice(self, place: Place) -> None:
        make_old(place, rows=[job(), job()], keys=[key("a", 1), key("b", 2)])
        place.run(f"DELETE FROM {JOBS} WHERE id = 2")
        place.run(f"DELETE FROM {KEYS}")
        migrate(place.location)
        with PromptStudioDatabase(place.location, "tester") as database:
            assert database.create_job("evaluation", 1, {})["id"] == 3
            database.record_idempotency("prompt", "c", 3, None)
        assert place.run(f"SELECT id FROM {KEYS}") == [(3,)]

    def test_of_a_table_that_counted_no_ids_go_on_after_the_highest(self, place: Place) -> None:
        place.run(
            f"CREATE TABLE {JOBS} (id BIGINT PRIMARY KEY, job_type TEXT, entity_id INTEGER, status TEXT, payload TEXT,"
            " client_id TEXT, created_at TIMESTAMP)"
        )
        add_rows(place, JOBS, [job(id=7, status="processing", created_at=LONG_AGO)])
        assert migrate(place.location).keys == 0
        with PromptStudioDatabase(place.location, "tester") as database:
            assert database.create_job("evaluation", 1, {})["id"] == 8
            assert database.get_job(7) is not None

    def test_are_counted_where_they_were_changed(self, old: Place) -> None:
        report = migrate(old.location)
        assert report.changes == {
            "lease_kept": 1,
            "lease_given": 1,
            "owner_given": 1,
            "lease_cleared": 1,
            "error_cleared": 1,
            "result_cleared": 2,
            "time_cleared": 1,
            "time_given": 3,
            "priority_limited": 1,
            "count_limited": 2,
            "default_given": 1,
            "key_repeated": 2,
            "key_unaskable": 3,
            "key_time_given": 1,
        }


@pytest.mark.verifies("PS-MIGRATION-5")
class TestTextTimes:
    @pytest.mark.parametrize(
        ("text", "milliseconds"),
        [
            ("2024-05-06 07:08:09", 0),
            ("2024-05-06 07:08:09.1236", 124),
            ("2024-05-06T07:08:09.999Z", 999),
            ("2024-05-06T09:08:09.5+02:00", 500),
            ("2024-05-06T07:08:09.123456+00:00", 123),
        ],
    )
    def test_become_milliseconds(self, path: Path, text: str, milliseconds: int) -> None:
        place = SqlitePlace(str(path))
        make_old(place, rows=[job(created_at=text, status="processing", started_at=text, leased_until=text)])
        migrate(path)
        expected = int(INSTANT.timestamp()) * 1000 + milliseconds
        assert place.run(f"SELECT created_at, started_at, leased_until FROM {JOBS}") == [(expected,) * 3]


@pytest.mark.verifies("PS-MIGRATION-5")
class TestNumbersInAFile:
    @pytest.mark.parametrize("number", [0.1 + 0.2, 1.2345678901234567, 5e-324, -1.7976931348623157e308, 2**53 + 1, 7])
    def test_keep_every_digit(self, path: Path, number: float) -> None:
        """The old columns have a numeric affinity: a payload that is nothing but a number was stored as one."""
        place = SqlitePlace(str(path))
        make_old(place, rows=[job(payload=json.dumps(number), status="completed", result=json.dumps(number))])
        assert place.run(f"SELECT typeof(payload) = 'text' FROM {JOBS}") == [(0,)]
        migrate(path)
        (found,) = jobs(place).values()
        assert (found["payload"], found["result"]) == (number, number)


@pytest.mark.verifies("PS-MIGRATION-7")
class TestARunningLease:
    def test_is_nobody_elses_until_its_end_and_somebodys_after(self, place: Place) -> None:
        make_old(place, rows=[job(status="processing", started_at=LONG_AGO, lease_owner="w", leased_until=FAR)])
        migrate(place.location)
        with PromptStudioDatabase(place.location, "tester") as database:
            assert database.acquire_next_job() is None
            place.run(f"UPDATE {JOBS} SET revision = revision + 1, leased_until = {place.a_past_instant}")
            taken = database.acquire_next_job()
            assert taken is not None
            assert (taken["id"], taken["was_reclaim"], taken["lease_token"]) == (1, True, 2)
            assert database.complete_job(1, lease_token=2)


@pytest.mark.verifies("PS-MIGRATION-8")
class TestKeys:
    def test_stand_for_what_the_first_writer_said(self, old: Place) -> None:
        migrate(old.location)
        with PromptStudioDatabase(old.location, "tester") as database:
            assert database.lookup_idempotency("prompt", "k", None) == 10
            assert database.lookup_idempotency("prompt", "k", "u") == 12
            assert database.lookup_idempotency("prompt", "k", "v") == 13
            assert not database.record_idempotency("prompt", "k", 99, None).created
        rows = old.run(f"SELECT id, entity_id, canonical_id FROM {SUPERSEDED} ORDER BY id")
        assert rows == [(2, 11, 1), (5, 14, None), (6, 15, None), (7, 16, None), (8, 17, 1)]
        assert old.run(f"SELECT COUNT(*) FROM {KEYS} WHERE created_at IS NULL") == [(0,)]

    def test_need_no_second_table_when_each_is_the_only_one(self, place: Place) -> None:
        make_old(place, keys=[key("a", 1), key("a", 2, "u")])
        assert migrate(place.location).changes == {}
        with PromptStudioDatabase(place.location, "tester") as database:
            assert database.lookup_idempotency("prompt", "a", "u") == 2
        assert SUPERSEDED not in str(place.dump())

    def test_that_differ_by_case_are_two_whatever_the_old_table_thought(self, path: Path) -> None:
        place = SqlitePlace(str(path))
        place.run(
            f"CREATE TABLE {KEYS} (id INTEGER PRIMARY KEY, entity_type TEXT COLLATE NOCASE,"
            " idempotency_key TEXT COLLATE NOCASE, entity_id INTEGER, user_id TEXT COLLATE RTRIM)"
        )
        scopes = [
            ("prompt", "k", None),
            ("prompt", "K", None),
            ("Prompt", "k", None),
            ("p", "k", "u"),
            ("p", "k", "u "),
        ]
        rows = [
            {"entity_type": entity_type, "idempotency_key": name, "user_id": user, "entity_id": n}
            for n, (entity_type, name, user) in enumerate(scopes, start=1)
        ]
        add_rows(place, KEYS, rows)
        assert migrate(place.location).changes == {"key_time_given": len(scopes)}
        with PromptStudioDatabase(place.location, "tester") as database:
            assert [database.lookup_idempotency(*scope) for scope in scopes] == [1, 2, 3, 4, 5]

    def test_with_a_nul_can_be_asked_for_by_nobody(self, path: Path) -> None:
        place = SqlitePlace(str(path))
        make_old(place, keys=[key("k", 1), key("k\0", 2), key("k", 3, "u\0")])
        assert migrate(place.location).changes == {"key_unaskable": 2}
        assert place.run(f"SELECT id, canonical_id FROM {SUPERSEDED}") == [(2, None), (3, None)]

    def test_from_before_there_were_users_belong_to_nobody(self, place: Place) -> None:
        place.run(
            f"CREATE TABLE {KEYS} (id INTEGER PRIMARY KEY, entity_type TEXT, idempotency_key TEXT, entity_id INTEGER)"
        )
        add_rows(place, KEYS, [{"id": n, "entity_type": "p", "idempotency_key": "k", "entity_id": n} for n in (5, 4)])
        report = migrate(place.location)
        assert report.changes == {"key_repeated": 1, "key_time_given": 2}
        with PromptStudioDatabase(place.location, "tester") as database:
            assert database.lookup_idempotency("p", "k", None) == 4
            assert database.lookup_idempotency("p", "k", "u") is None


TIMES = st.none() | st.integers(315_532_800_000_000, 3_786_912_000_000_000).map(
    lambda microseconds: datetime.fromtimestamp(microseconds / 10**6, UTC).replace(tzinfo=None)
)
JSONS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text("abé ", max_size=5),
    lambda some: st.lists(some, max_size=3) | st.dictionaries(st.text("ab", max_size=3), some, max_size=3),
    max_leaves=5,
)
OLD_JOBS = st.fixed_dictionaries(
    {
        "job_type": st.sampled_from(["evaluation", "optimization", "generation"]),
        "entity_id": st.integers(-(2**31), 2**31 - 1),
        "priority": st.none() | st.integers(-3, 14),
        "status": st.sampled_from(["queued", "processing", "completed", "failed", "cancelled"]),
        "payload": JSONS.map(json.dumps),
        "result": st.none() | JSONS.map(json.dumps),
        "error_message": st.none() | st.text("ab\n", max_size=5),
        "retry_count": st.none() | st.integers(-2, 5) | st.just(2**31 - 1),
        "max_retries": st.none() | st.integers(-2, 5) | st.just(2**31 - 1),
        "client_id": st.sampled_from(["a", "b"]),
        "created_at": TIMES,
        "started_at": TIMES,
        "completed_at": TIMES,
        "leased_until": TIMES,
        "lease_owner": st.sampled_from([None, "", "w"]),
    }
)
OLD_KEYS = st.fixed_dictionaries(
    {
        "entity_type": st.sampled_from(["prompt", "project"]),
        "idempotency_key": st.sampled_from(["a", "b", "", "c" * 300]),
        "user_id": st.sampled_from([None, "u", "v", ""]),
        "entity_id": st.integers(1, 9),
        "created_at": TIMES,
    }
)


def distinct(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without what the old unique index refused: the same key of the same user, unless there is none."""
    seen: set[tuple[str, str, str]] = set()
    kept = []
    for row in rows:
        scope = (row["entity_type"], row["idempotency_key"], row["user_id"])
        if row["user_id"] is None or scope not in seen:
            kept.append(row)
            seen.add(scope)
    return kept


def stored(place: Place, row: dict[str, Any]) -> dict[str, Any]:
    """The row with its times as the old program stored them."""
    return {
        name: place.stored_time(name, value) if isinstance(value, datetime) else value for name, value in row.items()
    }


@pytest.mark.verifies("PS-MIGRATION-5", "PS-MIGRATION-7", "PS-MIGRATION-8")
@pytest.mark.untraced
class TestAnyOldRows:
    @settings(max_examples=25)
    @given(rows=st.lists(OLD_JOBS, max_size=6), keys=st.lists(OLD_KEYS, max_size=6).map(distinct))
    def test_survive_in_a_file(self, rows: list[dict[str, Any]], keys: list[dict[str, Any]]) -> None:
        with tempfile.TemporaryDirectory() as directory:
            self.survive(SqlitePlace(f"{directory}/jobs.db"), rows, keys)

    @settings(max_examples=25)
    @given(rows=st.lists(OLD_JOBS, max_size=6), keys=st.lists(OLD_KEYS, max_size=6).map(distinct))
    def test_survive_on_a_server(
        self, postgres_server: Server, rows: list[dict[str, Any]], keys: list[dict[str, Any]]
    ) -> None:
        name = postgres_server.create_database()
        self.survive(PostgresPlace(postgres_server.dsn(name)), rows, keys)
        postgres_server.drop_database(name)

    def survive(self, place: Place, rows: list[dict[str, Any]], keys: list[dict[str, Any]]) -> None:
        make_old(place, rows=[stored(place, row) for row in rows], keys=[stored(place, row) for row in keys])
        report = migrate(place.location)
        assert (report.jobs, report.keys) == (len(rows), len(keys))
        found = jobs(place)
        for number, row in enumerate(rows, start=1):
            same_job(row, found[number], place.read_json)
        mappings_are_kept(place, keys)
        can_be_worked_on(place, found)


def same_job(before: Mapping[str, Any], after: JobRow, read_json: Callable[[str], object]) -> None:
    assert after["payload"] == read_json(before["payload"])
    for name in ("job_type", "entity_id", "status", "client_id"):
        assert dict(after)[name] == before[name]
    if before["created_at"] is not None:
        assert abs(after["created_at"].timestamp() - before["created_at"].replace(tzinfo=UTC).timestamp()) < 0.001
    if before["status"] == "processing" and before["leased_until"] is not None:
        assert after["leased_until"] is not None
        assert abs(after["leased_until"].timestamp() - before["leased_until"].replace(tzinfo=UTC).timestamp()) < 0.001
        assert after["lease_owner"] == (before["lease_owner"] or "migrated")
    if before["status"] in {"completed", "failed", "cancelled"}:
        assert after["result"] == (None if before["result"] is None else read_json(before["result"]))
        assert after["error_message"] == before["error_message"]


def mappings_are_kept(place: Place, keys: list[dict[str, Any]]) -> None:
    columns = "id, entity_type, idempotency_key, user_id, entity_id"
    kept = place.run(f"SELECT {columns} FROM {KEYS}")
    if SUPERSEDED in str(place.dump()):
        kept += place.run(f"SELECT {columns} FROM {SUPERSEDED}")
    expected = [
        (number, row["entity_type"], row["idempotency_key"], row["user_id"], row["entity_id"])
        for number, row in enumerate(keys, start=1)
    ]
    assert sorted(kept, key=lambda row: int(row[0])) == expected
    first: dict[tuple[str, str, str | None], int] = {}
    for _, entity_type, name, user_id, entity_id in expected:
        first.setdefault((entity_type, name, user_id), entity_id)
    with PromptStudioDatabase(place.location, "tester") as database:
        for (entity_type, name, user_id), entity_id in first.items():
            if 1 <= len(name) <= 255 and user_id != "":
                assert database.lookup_idempotency(entity_type, name, user_id) == entity_id


def can_be_worked_on(place: Place, found: Mapping[int, JobRow]) -> None:
    now = datetime.now(UTC)
    with PromptStudioDatabase(place.location, "tester") as database:
        taken = set()
        while (row := database.acquire_next_job(worker_id="new")) is not None:
            taken.add(row["id"])
            assert database.renew_job_lease(row["id"], lease_token=row["lease_token"])
            assert database.complete_job(row["id"], lease_token=row["lease_token"])
        assert database.create_job("evaluation", 1, {})["id"] == len(found) + 1
    for number, row in found.items():
        live = row["leased_until"] is not None and row["leased_until"] > now
        budget = row["executions"] < row["execution_limit"]
        assert (number in taken) == (
            row["status"] == "queued" or (row["status"] == "processing" and not live and budget)
        )
