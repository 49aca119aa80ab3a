"""`python -m prompt_studio work` as a process: what it refuses, what it logs, and how signals stop it."""

import json
import os
import queue
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from signal import Signals
from typing import IO, Final

import psycopg
import pytest
from psycopg.rows import dict_row

from prompt_studio import InputError, JobStatus, Metrics, PromptStudioDatabase, Settings, work_command
from tests.conformance.stores import await_farewell

pytestmark = [pytest.mark.processes, pytest.mark.untraced]

LIMIT_SECONDS: Final = 60.0
AGAIN_SECONDS: Final = 0.1

TASKS: Final = """
import asyncio, multiprocessing, os, signal, threading, warnings
from prompt_studio import Handlers, JobContext

handlers = Handlers()
of_old = {"evaluation": lambda payload, entity_id: [payload, entity_id]}
number = 5
none = {}
empty = Handlers()

def waits_for_an_answer(context: JobContext):
    context.progress(note="waiting")
    with open("answer", encoding="utf-8") as answer:
        text = answer.read()
    context.raise_if_stopped()
    return text

waiting = {"evaluation": waits_for_an_answer}

def ends_its_child(context: JobContext):
    warnings.simplefilter("ignore")  # a later Python warns of forks beside threads
    ready, tell = os.pipe()
    child = multiprocessing.get_context("fork").Process(target=lambda: (os.write(tell, b"!"), signal.pause()))
    child.start()
    os.read(ready, 1)
    child.terminate()
    child.join(30)
    return child.exitcode

forking = {"evaluation": ends_its_child}

@handlers.register("evaluation")
def evaluate(context: JobContext):
    return context.payload

@handlers.register("generation")
def until_stopped(context: JobContext):
    context.progress(note="waiting")
    context.cancellation.wait()
    context.raise_if_stopped()

class OnTheLoop:
    async def __call__(self, context: JobContext):
        context.progress(note="blocking")
        threading.Event().wait()

blocking = {"optimization": OnTheLoop()}

class Interrupted:
    async def __call__(self, context):
        raise KeyboardInterrupt

interrupted = {"evaluation": Interrupted()}


async def listens_itself(context: JobContext):
    loop, own = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR1, own.set)
    context.progress(note="listening")
    await own.wait()
    if context.payload == "given up":
        loop.remove_signal_handler(signal.SIGUSR1)
    context.progress(note="waiting")
    await asyncio.Event().wait()

listening = {"optimization": listens_itself}

@handlers.register("optimization")
async def never(context: JobContext):
    context.progress(note="waiting")
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            context.progress_was_ignored = True
"""


class Worker:
    """A worker process, whose log can be waited for."""

    def __init__(self, directory: Path, *arguments: str, database: str | None = "jobs.db") -> None:
        where = [] if database is None else ["--database", database]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "prompt_studio", "work", *where, *arguments],
            cwd=directory,
            env=os.environ | {"PYTHONWARNINGS": "error"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, args=(self.process.stderr,))
        self._reader.start()

    def _read(self, stream: IO[str]) -> None:
        for line in stream:
            self._lines.put(line)

    def await_line(self, pattern: str) -> str:
        """The next line of the log with this in it."""
        seen: list[str] = []
        while True:
            try:
                line = self._lines.get(timeout=LIMIT_SECONDS)
            except queue.Empty:
                raise AssertionError(f"no {pattern!r} in {seen}") from None
            if re.search(pattern, line):
                return line
            seen.append(line)

    def signal(self, number: Signals) -> None:
        self.process.send_signal(number)

    def signal_until(self, number: Signals, pattern: str) -> None:
        """Send the signal again and again until the next line of the log with this in it."""
        for _ in range(int(LIMIT_SECONDS / AGAIN_SECONDS)):
            self.signal(number)
            try:
                while not re.search(pattern, self._lines.get(timeout=AGAIN_SECONDS)):
                    pass
            except queue.Empty:
                continue
            return
        raise AssertionError(f"no {pattern!r}")

    def ended(self) -> tuple[int, str]:
        """Its exit code, and what it printed at its end."""
        code = self.process.wait(LIMIT_SECONDS)
        self._reader.join(LIMIT_SECONDS)
        assert self.process.stdout is not None
        rest = [self.process.stdout.read()]
        while not self._lines.empty():
            rest.append(self._lines.get())
        return code, "".join(rest)

    def close(self) -> None:
        self.process.kill()
        self.process.wait(LIMIT_SECONDS)
        self._reader.join(LIMIT_SECONDS)
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()


Start = Callable[..., Worker]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[PromptStudioDatabase]:
    (tmp_path / "tasks.py").write_text(TASKS, encoding="utf-8")
    with PromptStudioDatabase(tmp_path / "jobs.db", "tester") as database:
        database.count_jobs()
        yield database


@pytest.fixture
def workers(database: PromptStudioDatabase, tmp_path: Path) -> Iterator[Start]:
    assert database.count_jobs() == 0
    started: list[Worker] = []

    def start(*arguments: str, database: str | None = "jobs.db") -> Worker:
        started.append(Worker(tmp_path, *arguments, database=database))
        return started[-1]

    yield start
    for worker in started:
        worker.close()


class TestTheCommand:
    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["--handlers", "tasks"], "--handlers must be MODULE:REGISTRY"),
            (["--handlers", "nothing:handlers"], "No module named 'nothing': run it in the module's directory"),
            (["--handlers", "tasks:nothing"], "has no attribute 'nothing': name its registry"),
            (["--handlers", "tasks:number"], "must be a prompt_studio.Handlers, or a dict, not a int"),
            (["--handlers", "tasks:handlers", "--grace-seconds", "-1"], "grace_seconds must be a number from 0"),
            (["--handlers", "tasks:handlers", "--concurrency", "0"], "must be a whole number from 1 to 1000, not '0'"),
            (["--handlers", "tasks:handlers", "--lease-seconds", "1.5"], "must be a whole number from 1 to 3600"),
            (
                ["--handlers", "tasks:empty"],
                "not started: --handlers tasks:empty: it has no handler for any",
            ),
            (["--handlers", "tasks:none"], "it has no handler for any type of job"),
            (["--handlers", "..tasks:handlers"], "--handlers must be MODULE:REGISTRY"),
            (
                ["--handlers", "tasks.handlers:handlers"],
                "'tasks' is not a package: run it in the",
            ),
            (["--handlers", "tasks:handlers", "--database", "elsewhere.db"], "`work --create` initialises one"),
            (
                ["--handlers", "tasks:handlers", "--metrics-port", "0", "--metrics-address", "192.0.2.1"],
                "--metrics-port 0 of --metrics-address 192.0.2.1 cannot be had",
            ),
        ],
    )
    def test_refuses_what_cannot_work(self, workers: Start, arguments: list[str], said: str) -> None:
        code, told = workers(*arguments).ended()
        assert code != 0
        assert said in told
        assert "Traceback" not in told

    @pytest.mark.parametrize(
        ("line", "ended"),
        [
            ("os.no_such_thing", "AttributeError: module 'os' has no attribute 'no_such_thing'"),
            ("import no_such_dependency", "ModuleNotFoundError: No module named 'no_such_dependency'"),
            ("raise SystemExit(0)", "SystemExit: 0"),
        ],
    )
    def test_shows_where_a_module_fails(self, workers: Start, tmp_path: Path, line: str, ended: str) -> None:
        (tmp_path / "broken.py").write_text(f"import os\n\n{line}\n", encoding="utf-8")
        code, told = workers("--handlers", "broken:handlers").ended()
        error = ended.partition(":")[0]
        assert code == 1
        assert re.search(f'broken.py", line 3.*\n.*{line}'.replace("(", r"\(").replace(")", r"\)"), told)
        assert f"\n{ended}\n" in told
        assert f"not started: --handlers broken: its import ended with {error}: see above" in told
        assert "PYTHONPATH" not in told

    def test_initialises_a_database_if_asked_and_may_be_told_of_it_by_the_environment(
        self, workers: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("TLDW_PS_DATABASE", "made.db")
        worker = workers("--handlers", "tasks:handlers", "--create", database=None)
        worker.await_line("working")
        with PromptStudioDatabase(tmp_path / "made.db", "tester", create=False) as made:
            made.create_job("evaluation", 1, {})
        worker.await_line("job 1: completed")
        worker.signal(signal.SIGTERM)
        assert worker.ended()[0] == 0

    @pytest.mark.verifies("PS-LEASE-HB-4", "PS-LEASE-HB-5")
    @pytest.mark.parametrize(("seconds", "said"), [("abc", "finite number"), ("1e9", "shorter than the lease of 60 s")])
    def test_refuses_an_interval_at_its_start(
        self,
        workers: Start,
        monkeypatch: pytest.MonkeyPatch,
        seconds: str,
        said: str,
    ) -> None:
        monkeypatch.setenv("TLDW_PS_HEARTBEAT_SECONDS", seconds)
        code, told = workers("--handlers", "tasks:handlers").ended()
        assert code == 1
        assert "not started" in told
        assert said in told

    def test_takes_a_dict_of_functions(self, workers: Start, database: PromptStudioDatabase) -> None:
        database.create_job("evaluation", 7, {"a": 1})
        worker = workers("--handlers", "tasks:of_old", "--log-level", "INFO")
        worker.await_line("job 1: completed")
        worker.signal(signal.SIGINT)
        code, told = worker.ended()
        assert (code, "stopped in order" in told) == (0, True)
        job = database.get_job(1)
        assert job is not None
        assert job["result"] == [{"a": 1}, 7]

    @pytest.mark.verifies("PS-LEASE-HB-16")
    def test_logs_json_and_tells_prometheus(self, workers: Start, database: PromptStudioDatabase) -> None:
        here = ("--metrics-address", "127.0.0.1")
        options = ("--metrics-port", "0", *here, "--log-format", "json", "--worker-id", "me", "--poll-seconds", "0.1")
        worker = workers("--handlers", "tasks:handlers", *options)
        port = json.loads(worker.await_line("metrics on port"))["metrics_port"]
        database.create_job("evaluation", 1, {})
        told = json.loads(worker.await_line("job 1: completed"))
        facts = {name: told[name] for name in ("job_id", "lease_token", "worker_id", "ending", "level")}
        assert facts == {"job_id": 1, "lease_token": 1, "worker_id": "me", "ending": "completed", "level": "INFO"}
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=LIMIT_SECONDS) as answer:
            text = answer.read().decode()
        assert 'prompt_studio_job_claims_total{job_type="evaluation"} 1.0' in text
        assert 'prompt_studio_jobs{status="queued"} 0.0' in text
        other = workers("--handlers", "tasks:handlers", "--metrics-port", str(port), *here)
        code, said = other.ended()
        assert (code, "cannot be had" in said) == (1, True)


class TestWithoutPrometheus:
    def test_the_library_works_and_the_option_says_what_it_needs(
        self, database: PromptStudioDatabase, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "prometheus_client", None)
        monkeypatch.delitem(sys.modules, "prompt_studio.prometheus_metrics", raising=False)
        assert type(work_command._metrics(None, None, database)) is Metrics
        with pytest.raises(InputError, match=r"install the extra, prompt-studio-core\[metrics\]"):
            work_command._metrics(0, None, database)


class TestAHandler:
    @pytest.mark.verifies("PS-LEASE-HB-9")
    def test_that_raises_what_ctrl_c_does_has_failed_and_ends_no_worker(
        self, workers: Start, database: PromptStudioDatabase
    ) -> None:
        """SIGINT is the worker's own, so that Ctrl-C raises nothing."""
        database.create_job("evaluation", 1, {}, max_retries=0)
        worker = workers("--handlers", "tasks:interrupted")
        worker.await_line("job 1: failed")
        worker.signal(signal.SIGINT)
        assert worker.ended()[0] == 0
        job = database.get_job(1)
        assert job is not None
        assert (job["status"], job["error_message"]) == (
            JobStatus.FAILED,
            "RuntimeError: the handler raised KeyboardInterrupt",
        )


class TestASignal:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    @pytest.mark.verifies("PS-LEASE-HB-11", "PS-LEASE-HB-12", "INV-NOTHING-LOST")
    def test_stops_in_order_and_a_second_one_ends_the_grace_time(
        self,
        workers: Start,
        database: PromptStudioDatabase,
        number: signal.Signals,
    ) -> None:
        database.create_job("generation", 1, {})
        worker = workers("--handlers", "tasks:handlers", "--grace-seconds", "3600")
        worker.await_line("waiting")
        worker.signal(number)
        worker.await_line(f"stopping: {number.name}")
        worker.signal_until(number, f"stopping: {number.name}")
        code, told = worker.ended()
        assert code == 0
        assert "stopped in order" in told
        job = database.get_job(1)
        assert job is not None
        assert (job["status"], job["executions"]) == (JobStatus.QUEUED, 0)

    @pytest.mark.verifies("PS-LEASE-HB-11", "PS-LEASE-HB-21")
    def test_that_comes_twice_at_once_is_one_and_leaves_the_grace_time(
        self, workers: Start, database: PromptStudioDatabase, tmp_path: Path
    ) -> None:
        os.mkfifo(tmp_path / "answer")
        database.create_job("evaluation", 1, {})
        worker = workers("--handlers", "tasks:waiting", "--grace-seconds", "3600", "--settle-seconds", "3600")
        worker.await_line("waiting")
        worker.signal(signal.SIGSTOP)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCONT):
            worker.signal(number)
        said = [worker.await_line("SIGTERM|SIGINT") for _ in range(2)]
        assert ["so soon again is the same" in line for line in said] == [False, True]
        (tmp_path / "answer").write_text("well", encoding="utf-8")
        assert worker.ended()[0] == 0
        job = database.get_job(1)
        assert job is not None
        assert (job["status"], job["result"]) == (JobStatus.COMPLETED, "well")

    @pytest.mark.verifies("PS-LEASE-HB-21")
    def test_of_a_child_that_a_handler_forked_ends_the_child_only(
        self, workers: Start, database: PromptStudioDatabase
    ) -> None:
        worker = workers("--handlers", "tasks:forking", "--poll-seconds", "0.1")
        for number in (1, 2):
            database.create_job("evaluation", 1, {})
            worker.await_line(f"job {number}: completed")
            job = database.get_job(number)
            assert job is not None
            assert job["result"] == -signal.SIGTERM
        worker.signal(signal.SIGTERM)
        assert worker.ended()[0] == 0

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    @pytest.mark.parametrize("payload", ["kept", "given up"])
    @pytest.mark.verifies("PS-LEASE-HB-21")
    def test_is_heard_though_a_handler_listens_to_others(
        self, workers: Start, database: PromptStudioDatabase, payload: str, number: signal.Signals
    ) -> None:
        """The event loop then hears in our place, or nobody does; what is not ours the handler hears itself."""
        database.create_job("optimization", 1, payload)
        worker = workers("--handlers", "tasks:listening", "--grace-seconds", "3600")
        worker.await_line("listening")
        worker.signal(signal.SIGUSR1)
        worker.await_line("waiting")
        worker.signal(number)
        worker.await_line(f"stopping: {number.name}")
        worker.signal_until(number, f"stopping: {number.name}")
        assert worker.ended()[0] == 0
        job = database.get_job(1)
        assert job is not None
        assert (job["status"], job["executions"]) == (JobStatus.QUEUED, 0)

    @pytest.mark.verifies("PS-LEASE-HB-22")
    def test_is_heard_while_a_handler_blocks_the_loop(self, workers: Start, database: PromptStudioDatabase) -> None:
        database.create_job("optimization", 1, {})
        worker = workers("--handlers", "tasks:blocking", "--grace-seconds", "0", "--settle-seconds", "0")
        worker.await_line("blocking")
        worker.signal(signal.SIGTERM)
        worker.await_line("stopping: SIGTERM")
        worker.await_line("a handler blocks the event loop: it is ended")
        assert worker.ended()[0] == 1
        job = database.get_job(1)
        assert job is not None
        assert (job["status"], job["executions"]) == (JobStatus.PROCESSING, 1)

    @pytest.mark.verifies("PS-LEASE-HB-12")
    def test_ends_the_process_though_a_handler_does_not(
        self,
        workers: Start,
        database: PromptStudioDatabase,
    ) -> None:
        database.create_job("optimization", 1, {})
        worker = workers("--handlers", "tasks:handlers", "--grace-seconds", "0", "--settle-seconds", "0.1")
        worker.await_line("waiting")
        worker.signal(signal.SIGTERM)
        worker.await_line("left a job to its lease")
        assert worker.ended()[0] == 1
        job = database.get_job(1)
        assert job is not None
        assert (job["status"], job["executions"]) == (JobStatus.PROCESSING, 1)


class TestTrouble:
    @pytest.mark.verifies("PS-LEASE-HB-22")
    def test_ends_the_process_though_a_handler_does_not(
        self, workers: Start, database: PromptStudioDatabase, tmp_path: Path
    ) -> None:
        database.create_job("optimization", 1, {})
        worker = workers("--handlers", "tasks:handlers", "--settle-seconds", "0.1", "--poll-seconds", "0.1")
        worker.await_line("waiting")
        with closing(sqlite3.connect(tmp_path / "jobs.db")) as connection:
            connection.execute("ALTER TABLE prompt_studio_job_queue RENAME TO elsewhere")
        worker.await_line("something keeps the process: it is ended")
        code, told = worker.ended()
        assert (code, "prompt_studio_job_queue" in told) == (1, True)


class TestOnAServer:
    @pytest.mark.verifies("PS-LEASE-HB-11", "INV-LOCKS-MATCH")
    def test_works_and_leaves_no_session_behind(self, postgres_database: str, tmp_path: Path) -> None:
        (tmp_path / "tasks.py").write_text(TASKS, encoding="utf-8")
        with PromptStudioDatabase(postgres_database, "tester", settings=Settings()) as database:
            database.create_job("evaluation", 1, "well")
            worker = Worker(tmp_path, "--handlers", "tasks:handlers", database=postgres_database)
            try:
                worker.await_line("job 1: completed")
                worker.signal(signal.SIGTERM)
                code, told = worker.ended()
            finally:
                worker.close()
            job = database.get_job(1)
        assert (code, "stopped in order" in told) == (0, True)
        assert job is not None
        assert job["result"] == "well"
        with closing(psycopg.connect(postgres_database, autocommit=True, row_factory=dict_row)) as session:
            await_farewell(session)
