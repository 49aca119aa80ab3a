"""A migration on Postgres touches one schema, the first of the search_path, and every row of it; a dry run tries it."""

from collections.abc import Iterator

import psycopg
import pytest

from prompt_studio import DatabaseError, PromptStudioDatabase, SchemaError, Settings, TransientConflict, migrate
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
        ],
    )
    def test_names_the_row(self, public: PostgresPlace, column: str, sql: str, says: str) -> None:
        public.run(f"ALTER TABLE {JOBS} {sql.format(JOBS)}")
        values = {"uuid": "same", "created_at": "2024-02-31 00:00:00"}
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


def with_path(place: PostgresPlace, path: str) -> str:
    """The location, with another search_path."""
    mark = "&" if "?" in place.location else "?"
    return f"{place.location}{mark}options=-csearch_path%3D{path.replace(',', '%2C')}"


def as_url(conninfo: str) -> str:
    """The same as a URL, which is how a location names a server."""
    parts = psycopg.conninfo.conninfo_to_dict(conninfo)
    return f"postgresql://{parts['user']}@/{parts['dbname']}?host={parts['host']}&port={parts['port']}"
