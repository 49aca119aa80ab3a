"""A migration on Postgres touches one schema, the first of the search_path, and every row of it; a dry run tries it."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from prompt_studio import (
    DatabaseError,
    InputError,
    PromptStudioDatabase,
    SchemaError,
    Settings,
    TransientConflict,
    migrate,
)
from tests.harness.old_tables import JOBS, KEYS, SUPERSEDED, PostgresPlace, add_rows, job, key, make_old
from tests.harness.postgres_server import Server

pytestmark = pytest.mark.faults


@pytest.fixture
def public(postgres_server: Server) -> Iterator[PostgresPlace]:
    """Old tables with jobs, in the schema `public`."""
    name = postgres_server.create_database()
    place = PostgresPlace(postgres_server.dsn(name))
    make_old(place, rows=[job(), job(client_id="other")])
    yield place
    postgres_server.drop_database(name)


@pytest.mark.verifies("PS-MIGRATION-5")
class TestAMigration:
    def test_leaves_tables_of_the_same_name_in_other_schemas_alone(self, public: PostgresPlace) -> None:
        public.run_all(
            [
                ("CREATE SCHEMA app", ()),
                *((f"CREATE TABLE app.{table} (LIKE public.{table} INCLUDING ALL)", ()) for table in (JOBS, KEYS)),
            ]
        )
        migrate(with_path(public, "app,public"))
        assert public.run(f"SELECT COUNT(*) FROM public.{JOBS}") == [(2,)]
        assert public.run(f"SELECT COUNT(*) FROM app.{JOBS}") == [(0,)]

    @pytest.mark.parametrize("moved", [[], [JOBS], [KEYS]], ids=["none", "the jobs", "the keys"])
    @pytest.mark.parametrize("dry_run", [True, False])
    def test_makes_no_second_queue_before_the_one_that_is_used(
        self, public: PostgresPlace, moved: list[str], *, dry_run: bool
    ) -> None:
        public.run_all(
            [
                ("CREATE SCHEMA app", ()),
                ("CREATE TABLE app.books (title TEXT)", ()),
                *((f"ALTER TABLE {table} SET SCHEMA app", ()) for table in moved),
            ]
        )
        tables = "SELECT CAST(tablename AS TEXT) FROM pg_tables WHERE schemaname = 'app' ORDER BY 1"
        before = public.run(tables)
        says = "the queue is in the schema 'public', and the search_path begins with 'app'"
        with pytest.raises(SchemaError, match=says):
            migrate(with_path(public, "app,public"), dry_run=dry_run)
        with pytest.raises(SchemaError, match=says):
            PromptStudioDatabase(with_path(public, "app,public"), "tester")
        assert public.run(tables) == before

    @pytest.mark.parametrize("dry_run", [True, False])
    def test_needs_a_schema_in_the_path(self, public: PostgresPlace, *, dry_run: bool) -> None:
        with pytest.raises(SchemaError, match="the search_path names no schema"):
            migrate(with_path(public, "nowhere"), dry_run=dry_run)

    @pytest.mark.parametrize("dry_run", [True, False])
    def test_refuses_to_see_only_some_of_the_rows(self, public: PostgresPlace, *, dry_run: bool) -> None:
        public.run_all(
            [
                ("CREATE ROLE prompt_studio_test_owner LOGIN", ()),
                ("GRANT ALL ON SCHEMA public TO prompt_studio_test_owner", ()),
                *((f"ALTER TABLE {table} OWNER TO prompt_studio_test_owner", ()) for table in (JOBS, KEYS)),
                (f"ALTER TABLE {JOBS} ENABLE ROW LEVEL SECURITY", ()),
                (f"ALTER TABLE {JOBS} FORCE ROW LEVEL SECURITY", ()),
                (f"CREATE POLICY only_some ON {JOBS} USING (client_id = 'old')", ()),
            ]
        )
        try:
            location = psycopg.conninfo.make_conninfo(public.location, user="prompt_studio_test_owner")
            with pytest.raises(DatabaseError, match="row-level security"):
                migrate(as_url(location), dry_run=dry_run)
            assert public.run(f"SELECT COUNT(*) FROM {JOBS}") == [(2,)]
        finally:
            public.run_all(
                [("DROP OWNED BY prompt_studio_test_owner CASCADE", ()), ("DROP ROLE prompt_studio_test_owner", ())]
            )


STRINGENT = {
    "a row type": f"CREATE TABLE notes (job {JOBS})",
    "a function": f"CREATE FUNCTION peek({JOBS}) RETURNS BIGINT LANGUAGE sql AS 'SELECT 1::BIGINT'",
    "an heir": f"CREATE TABLE more () INHERITS ({JOBS})",
    "a default": f"CREATE TABLE notes (id BIGINT DEFAULT nextval('{JOBS}_id_seq'))",
    "a name of a function": "CREATE FUNCTION prompt_studio_refuse_old_program() RETURNS INT LANGUAGE sql AS 'SELECT 1'",
    "a name of a table": f"CREATE TABLE {SUPERSEDED} (id INT)",
}


@pytest.mark.verifies("PS-MIGRATION-2", "PS-MIGRATION-9")
class TestADryRun:
    @pytest.mark.parametrize("name", STRINGENT)
    def test_refuses_what_the_migration_refuses(self, public: PostgresPlace, name: str) -> None:
        add_rows(public, KEYS, [key("k", 1), key("k", 2)])
        public.run(STRINGENT[name])
        self.refused(public, "(?:drop the reference|rename or drop it)")

    def test_refuses_a_view_in_place_of_a_table(self, public: PostgresPlace) -> None:
        public.run_all(
            [(f"ALTER TABLE {JOBS} RENAME TO others", ()), (f"CREATE VIEW {JOBS} AS SELECT * FROM others", ())]
        )
        self.refused(public, "is not a table")

    @pytest.mark.parametrize(
        ("column", "sql", "says"),
        [
            (
                "uuid",
                "ALTER COLUMN uuid SET DEFAULT 'same', DROP CONSTRAINT {}_uuid_key",
                "job 3: the uuid is another job's too; job 4: the uuid",
            ),
            ("client_id", "ALTER COLUMN client_id DROP NOT NULL", "job 4: the type, entity or client is missing"),
            ("job_type", "ALTER COLUMN job_type DROP NOT NULL", "job 4: the type, entity or client is missing"),
            ("entity_id", "ALTER COLUMN entity_id DROP NOT NULL", "job 4: the type, entity or client is missing"),
            ("created_at", "ALTER COLUMN created_at TYPE TEXT", "job 4: a time cannot be read"),
            ("entity_id", "ALTER COLUMN entity_id TYPE TEXT", "job 4: a number is none"),
            ("priority", "ALTER COLUMN priority TYPE NUMERIC", "job 4: a number is none"),
            ("project_id", "DROP COLUMN project_id, ADD COLUMN project_id DOUBLE PRECISION", "job 4: a number is none"),
            ("id", "DROP CONSTRAINT {}_pkey, ALTER COLUMN id DROP NOT NULL", "job None: the id is none"),
        ],
    )
    def test_names_the_row(self, public: PostgresPlace, column: str, sql: str, says: str) -> None:
        public.run(f"ALTER TABLE {JOBS} {sql.format(JOBS)}")
        values = {"uuid": "same", "created_at": "2024-02-31 00:00:00", "priority": 1.5, "project_id": "NaN"}
        if "entity_id TYPE TEXT" in sql:
            values["entity_id"] = "seven"
        add_rows(public, JOBS, [job(**{column: values.get(column)}) for _ in range(2)])
        self.refused(public, says)

    def test_names_the_key_of_nothing(self, public: PostgresPlace) -> None:
        public.run(f"ALTER TABLE {KEYS} ALTER COLUMN entity_id DROP NOT NULL")
        add_rows(public, KEYS, [key("k", 1) | {"entity_id": None}])
        self.refused(public, "key 1: the entity is missing")

    def refused(self, place: PostgresPlace, says: str) -> None:
        before = place.dump()
        for dry_run in (True, False):
            with pytest.raises(SchemaError, match=says):
                migrate(place.location, dry_run=dry_run)
        assert place.dump() == before

    def test_waits_no_longer_than_it_may_and_says_for_whom(self, public: PostgresPlace) -> None:
        impatient = Settings(write_retry_seconds=0.02)
        with public.writing(), pytest.raises(TransientConflict):
            migrate(public.location, dry_run=True, settings=impatient)
        with psycopg.connect(public.location) as rival:
            rival.execute("SELECT pg_advisory_xact_lock(1347636301, 1)")
            for dry_run in (True, False):
                with pytest.raises(
                    TransientConflict, match="another migration, dry run or initialisation is under way"
                ):
                    migrate(public.location, dry_run=dry_run, settings=impatient)


@pytest.mark.verifies("PS-MIGRATION-5")
class TestIds:
    @pytest.mark.parametrize("table", [JOBS, KEYS])
    def test_are_not_given_twice_when_another_sequence_gives_them(self, public: PostgresPlace, table: str) -> None:
        public.run_all(
            [
                ("CREATE SEQUENCE numbers START 100", ()),
                (f"ALTER TABLE {table} ALTER COLUMN id SET DEFAULT nextval('numbers')", ()),
                ("SELECT nextval('numbers') FROM generate_series(1, 7)", ()),
            ]
        )
        migrate(public.location)
        with PromptStudioDatabase(public.location, "tester") as database:
            job_id = database.create_job("evaluation", 1, {})["id"]
            database.record_idempotency("prompt", "c", 3, None)
        (key_id,) = public.run(f"SELECT MAX(id) FROM {KEYS}")[0]
        assert {JOBS: job_id, KEYS: key_id}[table] == 107

    @pytest.mark.verifies("PS-MIGRATION-9")
    def test_must_be_known(self, public: PostgresPlace) -> None:
        public.run(f"ALTER TABLE {JOBS} ALTER COLUMN id SET DEFAULT nextval(CAST('{JOBS}_id_seq' AS TEXT))")
        public.run(f"ALTER SEQUENCE {JOBS}_id_seq OWNED BY NONE")
        for dry_run in (True, False):
            with pytest.raises(SchemaError, match="since their default is no sequence: set it to nextval of one"):
                migrate(public.location, dry_run=dry_run)

    @pytest.mark.verifies("PS-MIGRATION-9")
    def test_must_be_readable(self, public: PostgresPlace) -> None:
        with owned_by_another(public) as location:
            public.run("CREATE SEQUENCE numbers")
            public.run(f"ALTER TABLE {JOBS} ALTER COLUMN id SET DEFAULT nextval('numbers')")
            for dry_run in (True, False):
                with pytest.raises(SchemaError, match=r"this user may not read numbers, .*: grant SELECT on it"):
                    migrate(location, dry_run=dry_run)


@pytest.mark.verifies("PS-MIGRATION-9")
class TestRowLevelSecurity:
    @pytest.mark.parametrize(
        "sql",
        [
            "ALTER TABLE {} ENABLE ROW LEVEL SECURITY",
            "ALTER TABLE {} FORCE ROW LEVEL SECURITY",
            "CREATE POLICY p ON {}",
        ],
    )
    def test_is_not_lost_unsaid(self, public: PostgresPlace, sql: str) -> None:
        public.run(sql.format(KEYS))
        for dry_run in (True, False):
            with pytest.raises(SchemaError, match=f"row-level security of {KEYS} would go away"):
                migrate(public.location, dry_run=dry_run)


@pytest.mark.verifies("PS-MIGRATION-2")
class TestWhatGoesAway:
    def test_is_listed(self, public: PostgresPlace) -> None:
        public.run(f"CREATE PUBLICATION feed FOR TABLE {JOBS}")
        drops = migrate(public.location, dry_run=True).drops
        assert f"place of {JOBS} in the publication feed" in drops
        assert f"foreign key {JOBS}.project_id to prompt_studio_projects" in drops

    def test_is_no_right(self, public: PostgresPlace) -> None:
        reader = f"reader_{os.urandom(4).hex()}"
        public.run_all(
            [
                (f"CREATE ROLE {reader}", ()),
                (f"ALTER TABLE {JOBS} ADD COLUMN colour TEXT", ()),
                (f"GRANT SELECT (id, status, colour), UPDATE (priority) ON {JOBS} TO {reader} WITH GRANT OPTION", ()),
                (f"GRANT INSERT ON {KEYS} TO {reader} WITH GRANT OPTION", ()),
            ]
        )
        rights = (
            f"SELECT has_column_privilege('{reader}', '{JOBS}', 'status', 'SELECT WITH GRANT OPTION'),"
            f" has_column_privilege('{reader}', '{JOBS}', 'priority', 'UPDATE WITH GRANT OPTION'),"
            f" has_column_privilege('{reader}', '{JOBS}', 'payload', 'SELECT'),"
            f" has_table_privilege('{reader}', '{KEYS}', 'INSERT WITH GRANT OPTION')"
        )
        try:
            before = public.run(rights)
            migrate(public.location)
            assert public.run(rights) == before == [(True, True, False, True)]
        finally:
            public.run_all([(f"DROP OWNED BY {reader}", ()), (f"DROP ROLE {reader}", ())])


@pytest.mark.verifies("PS-MIGRATION-5")
class TestTimesWithoutAZone:
    @pytest.mark.parametrize("kind", ["TIMESTAMP", "TEXT"])
    def test_are_those_of_the_zone_that_is_named(self, public: PostgresPlace, kind: str) -> None:
        public.run_all(
            [
                (f"ALTER TABLE {JOBS} ALTER COLUMN created_at DROP DEFAULT", ()),
                (f"ALTER TABLE {JOBS} ALTER COLUMN created_at TYPE {kind}", ()),
                (f"UPDATE {JOBS} SET created_at = '2024-07-06 07:08:09'", ()),
            ]
        )
        looked = migrate(public.location, dry_run=True, timezone="europe/berlin")
        assert "times without a zone are those of Europe/Berlin; the server's zone is " in looked.steps[0]
        migrate(public.location, timezone="europe/berlin")
        assert public.run(f"SELECT created_at FROM {JOBS} LIMIT 1") == [(datetime(2024, 7, 6, 5, 8, 9, tzinfo=UTC),)]

    def test_are_utc_and_the_servers_zone_is_named(self, public: PostgresPlace) -> None:
        name = psycopg.conninfo.conninfo_to_dict(public.location)["dbname"]
        public.run(f"ALTER DATABASE {name} SET timezone = 'Asia/Tokyo'")
        looked = migrate(public.location, dry_run=True)
        assert looked.steps[0].endswith("times without a zone are those of UTC; the server's zone is Asia/Tokyo")
        public.run(f"ALTER DATABASE {name} SET timezone = 'Etc/UTC'")
        looked = migrate(public.location, dry_run=True)
        assert looked.steps[0].endswith("times without a zone are those of UTC")

    @pytest.mark.parametrize("zone", ["Europe/Nowhere", "5", "XYZ+3"])
    def test_need_a_zone_that_the_server_knows(self, public: PostgresPlace, zone: str) -> None:
        for dry_run in (True, False):
            with pytest.raises(
                InputError, match=rf"timezone must be one that the server knows .*, not {re.escape(repr(zone))}"
            ):
                migrate(public.location, dry_run=dry_run, timezone=zone)

    @pytest.mark.parametrize("zone", ["", "a\0b", None, 5])
    def test_need_the_name_of_a_zone(self, tmp_path: Path, zone: Any) -> None:  # noqa: ANN401 - whatever callers pass
        with pytest.raises(InputError, match="timezone must"):
            migrate(tmp_path / "jobs.db", timezone=zone)

    def test_are_utc_in_a_file(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="timezone must be UTC for a file"):
            migrate(tmp_path / "jobs.db", timezone="Europe/Berlin")
        assert not (tmp_path / "jobs.db").exists()


@contextmanager
def owned_by_another(place: PostgresPlace) -> Iterator[str]:
    """The location for a user who owns the tables, and nothing else."""
    owner = f"owner_{os.urandom(4).hex()}"
    place.run_all(
        [
            (f"CREATE ROLE {owner} LOGIN", ()),
            (f"GRANT ALL ON SCHEMA public TO {owner}", ()),
            *((f"ALTER TABLE {table} OWNER TO {owner}", ()) for table in (JOBS, KEYS)),
        ]
    )
    try:
        yield as_url(psycopg.conninfo.make_conninfo(place.location, user=owner))
    finally:
        place.run_all([(f"DROP OWNED BY {owner} CASCADE", ()), (f"DROP ROLE {owner}", ())])


def with_path(place: PostgresPlace, path: str) -> str:
    """The location, with another search_path."""
    mark = "&" if "?" in place.location else "?"
    return f"{place.location}{mark}options=-csearch_path%3D{path.replace(',', '%2C')}"


def as_url(conninfo: str) -> str:
    """The same as a URL, which is how a location names a server."""
    parts = psycopg.conninfo.conninfo_to_dict(conninfo)
    return f"postgresql://{parts['user']}@/{parts['dbname']}?host={parts['host']}&port={parts['port']}"
