"""The Postgres that tests start for themselves: it answers, it is nobody else's, and nothing is left of it."""

import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from tests.faults.processes import LIMIT_SECONDS, at_once
from tests.harness import postgres_server, postgres_watchdog
from tests.harness.postgres_installation import VARIABLE, Account, Installation, ServerError
from tests.harness.postgres_server import MAINTENANCE, PREFIX, PrivateServer, Server, open_server
from tests.harness.postgres_watchdog import DATA, clear, running
from tests.repository.requirements import ROOT

pytestmark = pytest.mark.faults

PROCESSES = Path("/proc")

# Say which processes and which directory, then live on until killed or told to end.
STARTED = """
import os, sys
from tests.harness.postgres_server import PrivateServer
server = PrivateServer.start()
print(server.process_id, server.watchdog_id, server.directory, flush=True)
"""
WAITS = "sys.stdin.read()\n"
# The child has every descriptor of its parent, and waits for the end of the same input.
FORKS = "if child := os.fork():\n    print(child, flush=True)\n"
STOPS = "server.stop()\n"
ENDS_WITHOUT_A_WORD = "os._exit(3)\n"
# The child runs what a process runs at its end, and the parent finds its server as it was.
SHARED_WITH_A_CHILD_THAT_ENDS = """
import os, sys
import psycopg
from tests.harness.postgres_server import shared_server
server = shared_server()
if (child := os.fork()) == 0:
    sys.exit(0)
os.waitpid(child, 0)
with psycopg.connect(server.dsn("postgres")):
    print(server.process_id, server.watchdog_id, server.directory, flush=True)
"""


@pytest.fixture(scope="module")
def server() -> Iterator[PrivateServer]:
    """A server of our own, whatever the environment names."""
    started = PrivateServer.start()
    yield started
    started.stop()


def alive(process_id: int) -> bool:
    """Whether the process runs; one that ended and that nobody has reaped does not."""
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return "\nState:\tZ" not in (PROCESSES / str(process_id) / "status").read_text(encoding="utf-8")
    return not PROCESSES.is_dir()


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Wait for processes that are not our children, which nothing but asking can do."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"not in time: {what}"
        threading.Event().wait(0.02)


def value(dsn: str, query: str) -> object:
    with psycopg.connect(dsn) as connection:
        row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


def databases(server: Server) -> set[str]:
    with psycopg.connect(server.dsn(MAINTENANCE)) as connection:
        return {name for (name,) in connection.execute("SELECT datname FROM pg_database")}


class Elsewhere:
    """A process of its own that started a server."""

    def __init__(self, script: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", script],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={name: value for name, value in os.environ.items() if name != VARIABLE},
        )
        server, watchdog, directory = self.said()
        self.processes, self.directory = [int(server), int(watchdog)], Path(directory)

    def said(self) -> list[str]:
        assert self.process.stdout is not None
        return self.process.stdout.readline().split()

    def end(self) -> int:
        """Its exit code, after its input has ended."""
        self.process.communicate(timeout=LIMIT_SECONDS)
        return self.process.returncode

    def assert_nothing_is_left(self) -> None:
        wait_until(lambda: not any(map(alive, self.processes)), "the server and its watchdog have ended")
        assert not self.directory.exists()


class TestAServerOfOurOwn:
    def test_answers_on_its_socket_and_not_on_a_port(self, server: PrivateServer) -> None:
        with psycopg.connect(server.dsn(MAINTENANCE)) as connection:
            assert connection.info.host == str(server.directory)
            port = connection.info.port
        assert value(server.dsn(MAINTENANCE), "SHOW listen_addresses") == ""
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=LIMIT_SECONDS)

    def test_says_which_it_is(self, server: PrivateServer) -> None:
        assert server.owned
        assert server.version == value(server.dsn(MAINTENANCE), "SHOW server_version")

    def test_has_the_settings_that_the_tests_count_on(self, server: PrivateServer) -> None:
        named = {name: value(server.dsn(MAINTENANCE), f"SHOW {name}") for name in postgres_server.SETTINGS}
        assert named == postgres_server.SETTINGS
        assert value(server.dsn(MAINTENANCE), "SHOW server_encoding") == "UTF8"
        assert value(server.dsn(MAINTENANCE), "SELECT datcollate FROM pg_database WHERE datname = 'template1'") == "C"

    def test_does_not_run_as_root_and_lets_nobody_else_in(self, server: PrivateServer) -> None:
        account = Account.unprivileged().user or os.geteuid()
        assert account != 0
        data = server.directory / DATA
        assert [path.stat().st_uid for path in (server.directory, data, data / "postmaster.pid")] == [account] * 3
        assert stat.S_IMODE(server.directory.stat().st_mode) == 0o700
        name = server.create_database()
        with psycopg.connect(server.dsn(name)) as connection:
            connection.execute("CREATE TABLE said (account integer)")
            connection.execute("COPY said FROM PROGRAM 'id -u'")
            assert connection.execute("SELECT account FROM said").fetchall() == [(account,)]
        server.drop_database(name)

    def test_answers_on_a_port_when_asked_and_wants_the_password_there(self) -> None:
        server = PrivateServer.start(tcp=True)
        try:
            name = server.create_database()
            with psycopg.connect(server.dsn(name)) as connection:
                assert connection.info.host == "127.0.0.1"
                password = connection.info.password
            with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
                psycopg.connect(server.dsn(name).replace(password, "wrong"))
        finally:
            server.stop()

    def test_runs_from_a_copy_where_its_account_cannot_reach_the_programs(self, tmp_path: Path) -> None:
        tmp_path.chmod(0o700)
        installed = Installation.found().package
        for directory in (installed, *installed.parent.glob(f"{installed.name}.libs")):
            shutil.copytree(directory, tmp_path / directory.name, symlinks=True)
        server = PrivateServer.start(installation=Installation(tmp_path / installed.name))
        try:
            assert value(server.dsn(MAINTENANCE), "SELECT 1") == 1
            assert (server.directory / installed.name).exists() == (Account.unprivileged().user is not None)
        finally:
            server.stop()
        assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700

    @pytest.mark.parametrize("mode", ["fast", "immediate"])
    def test_comes_back_after_a_restart_with_what_was_committed(
        self, server: PrivateServer, mode: postgres_server.Mode
    ) -> None:
        name = server.create_database()
        before = server.process_id
        with psycopg.connect(server.dsn(name), autocommit=True) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
            server.restart(mode)
            with pytest.raises(psycopg.OperationalError):
                connection.execute("SELECT 1")
        assert value(server.dsn(name), "SELECT number FROM kept") == 7
        assert server.process_id not in {None, before}
        server.drop_database(name)


class TestADatabase:
    def test_of_a_test_is_fresh(self, postgres_server: Server, postgres_database: str) -> None:
        name = str(value(postgres_database, "SELECT current_database()"))
        assert name.startswith(PREFIX)
        assert (
            value(postgres_database, "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace") == 0
        )
        assert name in databases(postgres_server)

    def test_is_a_copy_of_the_template(self, server: PrivateServer) -> None:
        template = server.create_database()
        with psycopg.connect(server.dsn(template)) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
        name = server.create_database(template=template)
        assert value(server.dsn(name), "SELECT number FROM kept") == 7
        server.drop_database(name)
        server.drop_database(template)
        assert not databases(server) & {name, template}

    def test_goes_with_the_sessions_in_it(self, server: PrivateServer) -> None:
        name = server.create_database()
        with psycopg.connect(server.dsn(name)) as connection:
            server.drop_database(name)
            with pytest.raises(psycopg.OperationalError):
                connection.execute("SELECT 1")
        assert name not in databases(server)

    def test_that_somebody_else_made_is_not_dropped(self, server: PrivateServer) -> None:
        with psycopg.connect(server.dsn(MAINTENANCE), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {PREFIX}of_somebody_else")
            with pytest.raises(ServerError, match="did not make it"):
                server.drop_database(f"{PREFIX}of_somebody_else")
            assert f"{PREFIX}of_somebody_else" in databases(server)
            connection.execute(f"DROP DATABASE {PREFIX}of_somebody_else")


class TestTheEndOfTheTests:
    def test_by_stopping_leaves_nothing(self) -> None:
        elsewhere = Elsewhere(STARTED + WAITS + STOPS + STOPS)
        assert elsewhere.end() == 0
        assert [alive(process_id) for process_id in elsewhere.processes] == [False, False]
        elsewhere.assert_nothing_is_left()

    def test_without_stopping_leaves_nothing(self) -> None:
        elsewhere = Elsewhere(STARTED + WAITS + ENDS_WITHOUT_A_WORD)
        assert elsewhere.end() == 3
        elsewhere.assert_nothing_is_left()

    def test_by_a_kill_leaves_nothing(self) -> None:
        elsewhere = Elsewhere(STARTED + WAITS)
        assert all(alive(process_id) for process_id in elsewhere.processes)
        elsewhere.process.kill()
        elsewhere.end()
        elsewhere.assert_nothing_is_left()

    def test_by_a_kill_leaves_nothing_even_while_forked_children_live(self) -> None:
        elsewhere = Elsewhere(STARTED + FORKS + WAITS)
        (child,) = map(int, elsewhere.said())
        try:
            elsewhere.process.kill()
            elsewhere.assert_nothing_is_left()
            assert alive(child)
        finally:
            elsewhere.end()
            wait_until(lambda: not alive(child), "the child has read to the end of its input")

    def test_by_a_kill_leaves_nothing_of_a_server_that_was_stopped_in_its_tracks(self) -> None:
        elsewhere = Elsewhere(STARTED + WAITS)
        os.kill(elsewhere.processes[0], signal.SIGSTOP)
        elsewhere.process.kill()
        elsewhere.end()
        elsewhere.assert_nothing_is_left()

    def test_is_not_the_interrupt_of_a_terminal_for_the_watchdog(self, server: PrivateServer) -> None:
        assert os.getsid(server.watchdog_id) == server.watchdog_id
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(server.watchdog_id, number)
        assert alive(server.watchdog_id)
        assert value(server.dsn(MAINTENANCE), "SELECT 1") == 1

    def test_is_not_the_end_of_a_forked_child(self, server: PrivateServer) -> None:
        def stop(_: int) -> None:
            server.stop()

        at_once(2, stop)
        assert value(server.dsn(MAINTENANCE), "SELECT 1") == 1

    def test_takes_the_shared_server_with_it_but_the_end_of_a_child_does_not(self) -> None:
        elsewhere = Elsewhere(SHARED_WITH_A_CHILD_THAT_ENDS)
        assert elsewhere.end() == 0
        elsewhere.assert_nothing_is_left()


class TestAServerOfAUser:
    @pytest.fixture
    def guest(self, server: PrivateServer) -> Iterator[Server]:
        """A user's server, which is ours in disguise."""
        opened = open_server({VARIABLE: server.dsn(MAINTENANCE)})
        yield opened
        opened.stop()

    def test_is_not_ours(self, server: PrivateServer, guest: Server) -> None:
        assert not guest.owned
        assert guest.version == server.version
        assert value(guest.dsn(MAINTENANCE), "SHOW data_directory") == str(server.directory / DATA)

    def test_gets_and_loses_only_the_databases_that_are_made_here(self, server: PrivateServer, guest: Server) -> None:
        theirs = server.create_database()
        before = databases(server)
        with psycopg.connect(server.dsn(theirs)) as session:
            first, second = guest.create_database(), guest.create_database()
            assert databases(server) == before | {first, second}
            guest.drop_database(first)
            with pytest.raises(ServerError, match="did not make it"):
                guest.drop_database(theirs)
            guest.stop()
            assert databases(server) == before
            assert session.execute("SELECT 1").fetchone() == (1,)
        server.drop_database(theirs)

    @pytest.mark.parametrize("mode", ["fast", "immediate"])
    def test_is_never_restarted(self, server: PrivateServer, guest: Server, mode: postgres_server.Mode) -> None:
        before = server.process_id
        with pytest.raises(ServerError, match=f"refused: the server is the user's. Unset {VARIABLE}"):
            guest.restart(mode)
        assert server.process_id == before

    def test_may_be_named_in_any_form_that_a_client_of_postgres_takes(self, server: PrivateServer) -> None:
        url = server.dsn(MAINTENANCE)
        with psycopg.connect(url) as connection:
            named = f"host={server.directory} port={connection.info.port} user=postgres application_name='a b&c'"
        guest = open_server({VARIABLE: named})
        assert value(guest.dsn(MAINTENANCE), "SHOW application_name") == "a b&c"


class TestNoServer:
    def test_is_an_error_where_neither_is_installed_nor_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
        with pytest.raises(ServerError, match=f"`make venv` installs one .* or set {VARIABLE}"):
            open_server({})

    @pytest.mark.parametrize("dsn", ["host=/nowhere/at/all", "no dsn at all"])
    def test_is_an_error_where_the_named_one_does_not_answer(self, dsn: str) -> None:
        with pytest.raises(ServerError, match=f"(?s){VARIABLE} names cannot be used.*unset {VARIABLE}"):
            open_server({VARIABLE: dsn})

    def test_leaves_nothing_and_says_why_where_ours_cannot_start(
        self, monkeypatch: pytest.MonkeyPatch, open_directory: Path
    ) -> None:
        monkeypatch.setattr(tempfile, "tempdir", str(open_directory))
        monkeypatch.setitem(postgres_server.SETTINGS, "max_connections", "none")
        with pytest.raises(ServerError, match='invalid value for parameter "max_connections"'):
            PrivateServer.start()
        monkeypatch.delitem(postgres_server.SETTINGS, "max_connections")
        monkeypatch.setitem(postgres_server.SETTINGS, "hba_file", "/nowhere")
        with pytest.raises(ServerError, match=r"(?s)pg_ctl ended with 1.*log says.*could not load /nowhere"):
            PrivateServer.start()
        assert list(open_directory.iterdir()) == []

    def test_is_an_error_where_the_path_of_the_socket_is_too_long(
        self, monkeypatch: pytest.MonkeyPatch, open_directory: Path
    ) -> None:
        long = open_directory / ("d" * 90)
        long.mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(long))
        with pytest.raises(ServerError, match="set TMPDIR to a shorter directory"):
            PrivateServer.start()
        assert list(long.iterdir()) == []

    def test_is_an_error_where_another_one_answers(
        self, server: PrivateServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(PrivateServer, "dsn", lambda _, database: Server.dsn(server, database))
        with pytest.raises(ServerError, match="unset PGHOSTADDR"):
            PrivateServer.start()
        assert value(Server.dsn(server, MAINTENANCE), "SELECT 1") == 1


class TestRunning:
    @pytest.mark.parametrize(
        "said",
        ["", "no number\n", f"{os.getpid()}\n/elsewhere\n", "999999999\n"],
        ids=["nothing", "no number", "another program", "nobody"],
    )
    def test_is_no_server_whose_file_names_no_process_of_it(self, tmp_path: Path, said: str) -> None:
        (tmp_path / "postmaster.pid").write_text(said, encoding="utf-8")
        assert running(tmp_path) is None

    def test_is_no_server_without_a_file(self, tmp_path: Path) -> None:
        assert running(tmp_path) is None


class TestClearing:
    def test_kills_a_server_that_does_not_obey(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(postgres_watchdog, "STOP_SECONDS_MAX", 0.1)
        directory = tmp_path.resolve() / "server"
        (directory / DATA).mkdir(parents=True)
        ignores = (
            "import signal, sys; signal.signal(signal.SIGQUIT, signal.SIG_IGN); print(flush=True); sys.stdin.read()"
        )
        with subprocess.Popen(
            [sys.executable, "-c", ignores], cwd=directory / DATA, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            (directory / DATA / "postmaster.pid").write_text(f"{process.pid}\n", encoding="utf-8")
            assert clear(directory)
            assert process.wait(LIMIT_SECONDS) == -signal.SIGKILL
        assert not directory.exists()
