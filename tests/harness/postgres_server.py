"""A Postgres for the tests: one of our own, or the user's that the environment names.

A server of our own is made from nothing in less than a second, in a directory that goes away with the tests. It may be
crashed and started again. A user's server is a guest room: databases are made and dropped there under names of our own,
and nothing else is touched.

There is no third way: without either it is an error and no test is left out, because a run without Postgres says
nothing about Postgres.
"""

import atexit
import functools
import os
import secrets
import socket
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal, Self
from urllib.parse import quote, urlencode

import psycopg
from psycopg import conninfo, sql

from tests.harness.postgres_installation import LIMIT_SECONDS, VARIABLE, Account, Installation, ServerError
from tests.harness.postgres_watchdog import DATA, Watchdog, running

PREFIX: Final = "prompt_studio_test_"
SUPERUSER: Final = "postgres"
MAINTENANCE: Final = "postgres"  # the database that every server has, to connect to when there is none of ours
SOCKET_PATH_BYTES_MAX: Final = 107  # what a Unix socket's address holds on Linux
LOG_BYTES_SHOWN: Final = 2_000

Mode = Literal["fast", "immediate"]

SETTINGS: Final[dict[str, str]] = {
    # What a power cut does is not the subject, and what has been written survives the death of every process.
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "on",  # off would lose commits in a crash of the server, which is the subject
    "autovacuum": "off",  # what runs is what the tests run
    "deadlock_timeout": "200ms",  # soon, but late enough that a wait for a lock is not taken for a deadlock
    "dynamic_shared_memory_type": "mmap",  # files in the data directory, so that a killed server leaves none elsewhere
    "io_method": "sync",  # three processes less
    "log_min_messages": "warning",
    "max_connections": "60",
    "shared_buffers": "16MB",
    "timezone": "Asia/Kolkata",  # half an hour off every whole one: a time that lost its zone is seen at once
}


class Server:
    """A server on which databases are made and dropped; this one is a user's, and stays as it is."""

    owned = False

    def __init__(self, parameters: Mapping[str, str]) -> None:
        self._parameters = dict(parameters)
        self._maintenance = self._parameters.pop("dbname", MAINTENANCE)
        self._databases: set[str] = set()
        self._starter = os.getpid()
        with self._session() as session:
            self.version = session.info.parameter_status("server_version") or str(session.info.server_version)

    @classmethod
    def at(cls, dsn: str) -> Self:
        """The server that a user named. Raises ServerError if it does not answer."""
        try:
            parameters = conninfo.conninfo_to_dict(dsn)
            return cls({name: str(value) for name, value in parameters.items() if value is not None})
        except psycopg.Error as error:
            raise ServerError(
                f"the server that {VARIABLE} names cannot be used: {error}".rstrip()
                + f"\nMend the DSN, or unset {VARIABLE} to test with a server of our own"
            ) from error

    def dsn(self, database: str) -> str:
        """The URL of one of its databases."""
        rest = dict(self._parameters)
        user = quote(rest.pop("user", ""), safe="")
        options = urlencode(rest, quote_via=quote, safe="")
        return f"postgresql://{user}{'@' if user else ''}/{quote(database, safe='')}{'?' if options else ''}{options}"

    def create_database(self, *, template: str | None = None) -> str:
        """A fresh database, or a copy of the template, in which nobody may have a session; its name."""
        name = f"{PREFIX}{secrets.token_hex(8)}"
        statement = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name))
        if template is not None:
            statement += sql.SQL(" TEMPLATE {}").format(sql.Identifier(template))
        with self._session() as session:
            session.execute(statement)
        self._databases.add(name)
        return name

    def drop_database(self, name: str) -> None:
        """The database is gone, and with it the sessions in it. Refuses one that it did not make."""
        if name not in self._databases:
            raise ServerError(f"{name} is not dropped: create_database() of this object did not make it")
        with self._session() as session:
            session.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
        self._databases.discard(name)

    def restart(self, mode: Mode) -> None:
        """Refuse: others may use it."""
        raise ServerError(
            f"restart({mode!r}) is refused: the server is the user's. Unset {VARIABLE} to test with a server of our own"
        )

    def stop(self) -> None:
        """Drop what it made and nobody dropped. Does nothing in a forked child: what it inherited is not its own."""
        if os.getpid() == self._starter:
            for name in sorted(self._databases):
                self.drop_database(name)

    def _session(self) -> "psycopg.Connection[tuple[Any, ...]]":
        session = psycopg.connect(self.dsn(self._maintenance), autocommit=True, connect_timeout=int(LIMIT_SECONDS))
        session.execute(f"SET statement_timeout = '{int(LIMIT_SECONDS)}s'")
        return session


class PrivateServer(Server):
    """A server of our own, in a directory of its own. It ends, at the latest, with the process that started it."""

    owned = True

    @classmethod
    def start(cls, *, tcp: bool = False, installation: Installation | None = None) -> Self:
        """A new server that answers on a Unix socket, or, if asked, on a port of the loopback with a password."""
        installation = installation or Installation.found()
        directory = Path(tempfile.mkdtemp(prefix="psc-")).resolve()
        watchdog = Watchdog(directory)
        try:
            return cls(directory, watchdog, installation, tcp=tcp)
        except BaseException:
            watchdog.let_go()
            raise

    def __init__(self, directory: Path, watchdog: Watchdog, installation: Installation, *, tcp: bool) -> None:
        self._directory, self._watchdog = directory, watchdog
        self._account = Account.unprivileged()
        self._account.owns(directory)
        self._installation = installation.within_reach_of(self._account, directory)
        port = _free_port()
        _check_socket_path(directory / f".s.PGSQL.{port}")
        self._initialise({"listen_addresses": "127.0.0.1" if tcp else "", "port": str(port)})
        self._pg_ctl("start")
        super().__init__({"user": SUPERUSER, "host": str(directory), "port": str(port)})
        self._check_that_it_is_ours()
        if tcp:
            self._ask_for_a_password()

    @property
    def process_id(self) -> int | None:
        """The server's first process; None while none runs."""
        return running(self._directory / DATA)

    @property
    def watchdog_id(self) -> int:
        """The process that waits for the end of ours."""
        return self._watchdog.process_id

    @property
    def directory(self) -> Path:
        """Where everything of the server is, its socket and its log included."""
        return self._directory

    def restart(self, mode: Mode) -> None:
        """Every session has ended, by a crash (immediate) or an orderly stop (fast), and the server answers again."""
        self._pg_ctl("restart", "-m", mode)

    def stop(self) -> None:
        """Nothing is left of the server. Does nothing in a forked child, which must not take it from its parent."""
        if os.getpid() == self._starter and not self._watchdog.let_go():
            raise ServerError(f"the server in {self._directory} did not end: end it, and remove the directory")

    def _initialise(self, addresses: dict[str, str]) -> None:
        settings = SETTINGS | {"unix_socket_directories": str(self._directory)} | addresses
        self._account.run(
            self._installation.program("initdb"),
            *("-D", self._directory / DATA, "-U", SUPERUSER, "--encoding=UTF8", "--locale=C"),
            *("--auth-local=trust", "--auth-host=scram-sha-256", "--no-sync", "--no-instructions"),
            *(part for name, value in settings.items() for part in ("-c", f"{name}={value}")),
            directory=self._directory,
        )

    def _pg_ctl(self, *command: str) -> None:
        log, seconds = self._directory / "log", str(int(LIMIT_SECONDS / 2))  # sooner than we give up on pg_ctl itself
        options = ("-D", self._directory / DATA, "-l", log, "-w", "-t", seconds)
        try:
            self._account.run(self._installation.program("pg_ctl"), *command, *options, directory=self._directory)
        except ServerError as error:
            said = log.read_bytes()[-LOG_BYTES_SHOWN:].decode(errors="replace") if log.exists() else "nothing"
            raise ServerError(f"{error}\nThe server's log says: {said}") from error

    def _check_that_it_is_ours(self) -> None:
        """With PGHOSTADDR set, libpq ignores the host that a DSN names, and another server may have answered."""
        with self._session() as session:
            row = session.execute("SHOW data_directory").fetchone()
        if row != (str(self._directory / DATA),):
            raise ServerError("another server answers in place of ours: unset PGHOSTADDR")

    def _ask_for_a_password(self) -> None:
        """Every user of the machine can reach a port, and a superuser can run programs as the server's account."""
        password = secrets.token_hex(16)
        with self._session() as session:
            statement = sql.SQL("ALTER ROLE {} PASSWORD {}")
            session.execute(statement.format(sql.Identifier(SUPERUSER), sql.Literal(password)))
        self._parameters |= {"host": "127.0.0.1", "password": password}


def _free_port() -> int:
    """A port that was free a moment ago; the name of a Unix socket has a port in it too."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _check_socket_path(path: Path) -> None:
    length = len(os.fsencode(path))
    if length > SOCKET_PATH_BYTES_MAX:
        raise ServerError(
            f"the socket {path} would have a path of {length} bytes, and {SOCKET_PATH_BYTES_MAX} are possible:"
            " set TMPDIR to a shorter directory"
        )


def open_server(environment: Mapping[str, str]) -> Server:
    """The user's server if the environment names one, else a new one of our own. It is the caller's to stop."""
    dsn = environment.get(VARIABLE)
    return Server.at(dsn) if dsn else PrivateServer.start()


@functools.cache
def shared_server() -> Server:
    """The server that all tests of this process share, opened by the first and stopped when the process ends.

    A forked child gets its parent's, if the parent had one by then.
    """
    server = open_server(os.environ)
    atexit.register(server.stop)
    return server
