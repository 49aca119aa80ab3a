"""A Postgres for a test: the server that the whole run shares, and a database of the test's own."""

from collections.abc import Iterator

import pytest

from tests.harness.postgres_server import Server, shared_server


@pytest.fixture(scope="session")
def postgres_server() -> Server:
    """The server of this run. The process stops it at its end, and not this fixture: other sessions may share it."""
    return shared_server()


@pytest.fixture
def postgres_database(postgres_server: Server) -> Iterator[str]:
    """The DSN of a fresh database, which is dropped afterwards together with the sessions in it."""
    name = postgres_server.create_database()
    yield postgres_server.dsn(name)
    postgres_server.drop_database(name)
