"""A server that writes down every statement and whose it is, and a database for schedules on it."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

import psycopg

from prompt_studio import PromptStudioDatabase
from tests.harness.interleaving.gates import name_of
from tests.harness.interleaving.ground import Ground, ground_at
from tests.harness.locations import Location
from tests.harness.postgres_server import PrivateServer

_LOGGED: Final = re.compile(r"^\[(\d+)\] LOG:  (?:statement|execute [^:]+): (.*)", re.MULTILINE)

_address: str = ""


def _there(_: Path) -> str:
    return _address


def _stays(_: str) -> None:
    """Leave the database to its server."""


@contextmanager
def logging_ground(server: PrivateServer, location: Location, directory: Path) -> Iterator[Ground]:
    """A database on that server."""
    global _address  # noqa: PLW0603 - a location is made of functions of modules, since workers are told of it
    _address = server.dsn(server.create_database())
    with psycopg.connect(_address, autocommit=True) as session:
        session.execute("CREATE SEQUENCE prompt_studio_virtual_clock MINVALUE 0")
    PromptStudioDatabase(_address, "schedules").close()
    ground = ground_at(replace(location, fresh=_there, dispose=_stays), directory)
    try:
        yield ground
    finally:
        ground.close()


class Log:
    """What the server wrote since the last look."""

    def __init__(self, server: PrivateServer) -> None:
        self._path = server.directory / "log"
        self._read = 0
        self.statements()

    def statements(self) -> list[tuple[int, str]]:
        """Each statement with the server process that ran it. A line is written before its statement runs."""
        with self._path.open("rb") as file:
            file.seek(self._read)
            told = file.read()
            self._read += len(told)
        return [(int(process), name_of(text)) for process, text in _LOGGED.findall(told.decode(errors="replace"))]
