"""What only a file of SQLite can hold, and a migration of it must name, keep or refuse."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from prompt_studio import PromptStudioDatabase, SchemaError, migrate
from tests.harness.old_tables import JOBS, SqlitePlace, TextOfBytes, add_rows, job, key, make_old

pytestmark = pytest.mark.faults
INVALID_UTF8 = TextOfBytes(b'"\xff"')
LONE_SURROGATE = TextOfBytes(b'"\xed\xa0\x80"')


@pytest.mark.verifies("PS-MIGRATION-9")
class TestWhatCannotBeConverted:
    @pytest.mark.parametrize(
        ("values", "says"),
        [
            ({"payload": "{"}, "job 2: the payload is not JSON"),
            ({"payload": '{"x": NaN}'}, "job 2: the payload is not JSON"),
            ({"result": "oops"}, "job 2: the result is not JSON"),
            ({"created_at": "yesterday"}, "job 2: a time cannot be read"),
            ({"leased_until": "2024-13-01 00:00:00"}, "job 2: a time cannot be read"),
            ({"entity_id": "seven"}, "job 2: a number is none"),
            ({"priority": 1.5}, "job 2: a number is none"),
            ({"created_at": "2024-02-31 00:00:00"}, "job 2: a time cannot be read"),
            ({"started_at": "2023-02-29T07:08:09Z"}, "job 2: a time cannot be read"),
            ({"completed_at": "2024-05-06 24:00:00"}, "job 2: a time cannot be read"),
            ({"leased_until": "9999-12-31 23:59:59.9999"}, "job 2: a time cannot be read"),
            ({"payload": INVALID_UTF8}, "job 2: the payload is not Unicode"),
            ({"result": INVALID_UTF8}, "job 2: the result is not Unicode"),
            ({"payload": LONE_SURROGATE}, "job 2: the payload is not Unicode"),
            ({"client_id": INVALID_UTF8}, "job 2: a text is not Unicode"),
            ({"error_message": LONE_SURROGATE}, "job 2: a text is not Unicode"),
            ({"client_id": b"old"}, "job 2: a text is missing, or is none"),
            ({"error_message": b"old"}, "job 2: a text is missing, or is none"),
            ({"lease_owner": b"old"}, "job 2: a text is missing, or is none"),
            ({"uuid": b"old"}, "job 2: a text is missing, or is none"),
        ],
    )
    def test_is_named_in_a_file_that_stays_as_it_is(self, path: Path, values: dict[str, object], says: str) -> None:
        place = SqlitePlace(str(path))
        make_old(place, rows=[job(), job(**values)])
        before = place.dump()
        for dry_run in (True, False):
            with pytest.raises(SchemaError, match=f"nothing was changed, .*{says}.: mend or delete them"):
                migrate(path, dry_run=dry_run)
        assert place.dump() == before

    @pytest.mark.parametrize(
        ("values", "says"),
        [
            ({"client_id": None}, "job 2: a text is missing, or is none"),
            ({"job_type": None}, "job 2: the type or status is unknown"),
            ({"job_type": "Evaluation"}, "job 2: the type or status is unknown"),
            ({"status": "QUEUED"}, "job 2: the type or status is unknown"),
            ({"uuid": "twice"}, "job 1: another job has its id or uuid; job 2: another job has its id or uuid"),
            ({"id": 1}, "job 1: another job has its id or uuid; job 1: another job has its id or uuid"),
            ({"id": None}, "job None: the id is none"),
        ],
    )
    def test_is_named_in_a_file_without_rules(self, path: Path, values: dict[str, object], says: str) -> None:
        place = SqlitePlace(str(path))
        place.run(
            f"CREATE TABLE {JOBS} (id BIGINT, uuid TEXT, job_type TEXT COLLATE NOCASE, entity_id INTEGER,"
            " status TEXT COLLATE NOCASE, payload TEXT, client_id TEXT, created_at TIMESTAMP)"
        )
        add_rows(place, JOBS, [job(id=1, uuid="twice", status="queued"), job(id=2, status="queued") | values])
        before = place.dump()
        for dry_run in (True, False):
            with pytest.raises(SchemaError, match=f"nothing was changed, .*{says}.: mend or delete them"):
                migrate(path, dry_run=dry_run)
        assert place.dump() == before

    @pytest.mark.parametrize(
        ("values", "says"),
        [
            ({"entity_type": b"prompt"}, "key 1: a text is none"),
            ({"idempotency_key": LONE_SURROGATE}, "key 1: a text is not Unicode"),
            ({"user_id": INVALID_UTF8}, "key 1: a text is not Unicode"),
            ({"entity_id": "seven"}, "key 1: a number is none"),
            ({"created_at": "2024-04-31"}, "key 1: a time cannot be read"),
        ],
    )
    def test_may_be_a_key_in_a_file(self, path: Path, values: dict[str, object], says: str) -> None:
        place = SqlitePlace(str(path))
        make_old(place, keys=[key("k", 1) | values])
        before = place.dump()
        for dry_run in (True, False):
            with pytest.raises(SchemaError, match=f"nothing was changed, .*{says}.: mend or delete them"):
                migrate(path, dry_run=dry_run)
        assert place.dump() == before

    @pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16le", "UTF-16be"])
    def test_is_no_text_in_another_encoding(self, path: Path, encoding: str) -> None:
        place = SqlitePlace(str(path))
        with closing(sqlite3.connect(path)) as connection:  # a file keeps the encoding in which it began
            connection.execute(f"PRAGMA encoding = '{encoding}'")
            connection.execute("CREATE TABLE books (title)")
        make_old(place, rows=[job(payload='{"x": "é"}', client_id="ü"), job(payload="1.5")], keys=[key("é", 1, "ü")])
        migrate(path)
        with PromptStudioDatabase(place.location, "tester") as database:
            found = {row["id"]: (row["payload"], row["client_id"]) for row in database.list_jobs()}
            assert found == {1: ({"x": "é"}, "ü"), 2: (1.5, "old")}
            assert database.lookup_idempotency("prompt", "é", "ü") == 1

    @pytest.mark.parametrize("column", ["payload", "result"])
    @pytest.mark.parametrize(
        "text",
        [
            '"a\\u0000b"',
            '{"a\\u0000": 1}',
            '["\\ud800"]',
            '["\\uDFff\\uD800"]',
        ],
        ids=["NUL", "NUL in a key", "high surrogate", "surrogates in the wrong order"],
    )
    def test_may_be_a_character_that_the_store_refuses(self, path: Path, column: str, text: str) -> None:
        place = SqlitePlace(str(path))
        make_old(place, rows=[job(), job(**{"status": "failed", column: text})])
        before = place.dump()
        for dry_run in (True, False):
            with pytest.raises(SchemaError, match=rf"job 2: the {column} has U\+0000 or a lone surrogate"):
                migrate(place.location, dry_run=dry_run)
        assert place.dump() == before

    def test_may_be_what_follows_a_nul(self, path: Path) -> None:
        place = SqlitePlace(str(path))
        make_old(place, rows=[job(payload="12\0x")])
        with pytest.raises(SchemaError, match="job 1: the payload is not JSON"):
            migrate(place.location)

    def test_is_counted_when_it_is_too_much_to_be_shown(self, path: Path) -> None:
        place = SqlitePlace(str(path))
        make_old(place, rows=[job(payload="oops") for _ in range(25)])
        with pytest.raises(
            SchemaError, match=r"25 rows cannot be converted \(job 1: .*; job 20: .*; and 5 more\):"
        ) as one:
            migrate(place.location)
        assert "job 21:" not in str(one.value)
        place.run(f"UPDATE {JOBS} SET payload = ?", ['"\\u0000"'])
        with pytest.raises(SchemaError, match=r"25 rows cannot be converted \(job 1: .*; job 20: .*; and 5 more\):"):
            migrate(place.location)
