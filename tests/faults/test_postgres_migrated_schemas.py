"""A migration on Postgres touches one schema, the first of the search_path, and every row of it."""

from collections.abc import Iterator

import psycopg
import pytest

from prompt_studio import DatabaseError, PromptStudioDatabase, SchemaError, migrate
from tests.harness.old_tables import JOBS, KEYS, PostgresPlace, job, make_old
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


def with_path(place: PostgresPlace, path: str) -> str:
    """The location, with another search_path."""
    mark = "&" if "?" in place.location else "?"
    return f"{place.location}{mark}options=-csearch_path%3D{path.replace(',', '%2C')}"


def as_url(conninfo: str) -> str:
    """The same as a URL, which is how a location names a server."""
    parts = psycopg.conninfo.conninfo_to_dict(conninfo)
    return f"postgresql://{parts['user']}@/{parts['dbname']}?host={parts['host']}&port={parts['port']}"
