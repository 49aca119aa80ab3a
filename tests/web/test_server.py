"""The server by itself: several processes, real requests, racing clients, an end in order."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Barrier
from typing import Any, Final

import httpx2
import pytest

from prompt_studio import InputError, PromptStudioDatabase
from prompt_studio.web.__main__ import app_from_environment
from tests.harness.locations import DATABASES, Location
from tests.web.conftest import PREFIX, TOKENS
from tests.web.server_processes import process_of, processes_of

pytestmark = pytest.mark.processes

LIMIT_SECONDS: Final = 60.0
CLIENTS: Final = 4
SERVERS: Final = 2
CONNECTIONS_MAX: Final = 200
ROUNDS: Final = {"quick": 10, "full": 200}
CONFIG: Final = {"optimizer_type": "mipro", "target_metric": "accuracy"}
HEADERS: Final = {"Authorization": f"Bearer {next(iter(TOKENS))}"}


@dataclass(frozen=True, slots=True)
class Server:
    """A server that answers."""

    url: str
    process: subprocess.Popen[str]


@pytest.fixture
def users(tmp_path: Path) -> Path:
    path = tmp_path / "users"
    path.write_text("".join(f"{token} {user}\n" for token, user in TOKENS.items()))
    return path


@contextmanager
def served(address: str, users: Path, *more: str) -> Iterator[Server]:
    """A server on this database; it is ended, if it has not ended by itself."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "prompt_studio.web", "--port", str(port), "--users", str(users), *more]
    environment = os.environ | {"TLDW_PS_DATABASE": address}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            _await_answer(f"http://127.0.0.1:{port}/health", process)
            yield Server(f"http://127.0.0.1:{port}{PREFIX}", process)
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=LIMIT_SECONDS)


def _await_answer(url: str, process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < until:
        assert process.poll() is None, f"the server ended: {process.communicate()[1]}"
        try:
            if httpx2.get(url, timeout=LIMIT_SECONDS).status_code == httpx2.codes.OK:
                return
        except httpx2.TransportError:
            continue  # nobody listens yet
    raise AssertionError(f"no answer within {LIMIT_SECONDS} s")


@dataclass(frozen=True, slots=True)
class Told:
    """What a create answered."""

    status: int
    entity: int
    replayed: bool
    process: int


@contextmanager
def client_of(server: Server, process: int, among: list[int]) -> Iterator[httpx2.Client]:
    """A client who talks to this process. The system decides who takes a connection, so he connects until it does."""
    for _ in range(CONNECTIONS_MAX):
        with httpx2.Client(base_url=server.url, headers=HEADERS, timeout=LIMIT_SECONDS) as client:
            if process_of(client.get("/status"), among) == process:
                yield client
                return
    raise AssertionError(f"process {process} of {among} took none of {CONNECTIONS_MAX} connections")


def creates_of(turn: int, project: int, prompt: int) -> dict[str, dict[str, Any]]:
    """A create of each kind."""
    return {
        "/projects/": {"name": f"p{turn}"},
        "/prompts/create": {"project_id": project, "name": f"p{turn}"},
        "/optimizations/create": {
            "project_id": project,
            "initial_prompt_id": prompt,
            "optimization_config": CONFIG,
            "name": f"o{turn}",
        },
        "/optimizations": {"prompt_id": prompt, "config": CONFIG | {"max_iterations": turn + 1}},
    }


def _made(told: Any) -> int:  # noqa: ANN401 - any JSON value
    """The id of what a create answers with, bare or wrapped; of the short form, the job's."""
    data = told.get("data", told)
    return int(data.get("optimization", data)["id"])


def _maker(told: Sequence[Told]) -> int:
    """The process whose answer was the entity's first."""
    return next(one.process for one in told if not one.replayed)


@pytest.mark.timeout(1_200)
@pytest.mark.parametrize("place", DATABASES, ids=lambda place: place.name)
@pytest.mark.verifies("PS-IDEMPOTENCY-SCOPE-2", "PS-HTTP-3", "INV-ONE-EFFECT-PER-KEY")
def test_racing_creates_make_one_entity_for_each_key(
    place: Location, tmp_path: Path, users: Path, request: pytest.FixtureRequest
) -> None:
    rounds = ROUNDS[request.config.getoption("races")]
    address = place.fresh(tmp_path)
    start = Barrier(CLIENTS, timeout=LIMIT_SECONDS)

    def race(server: Server, number: int, processes: list[int], project: int, prompt: int) -> list[Told]:
        told = []
        with client_of(server, processes[number % SERVERS], processes) as client:
            for turn in range(rounds):
                for kind, (path, body) in enumerate(creates_of(turn, project, prompt).items()):
                    # With the slash and without it is one operation, and two of the clients ask each.
                    bare = path.rstrip("/") if number < SERVERS else path
                    start.wait()
                    answer = client.post(bare, json=body, headers={"Idempotency-Key": f"k{turn}.{kind}"})
                    replayed = "Idempotency-Replayed" in answer.headers
                    process = process_of(answer, processes)
                    told.append(Told(answer.status_code, _made(answer.json()), replayed, process))
        return told

    with served(address, users, "--workers", str(SERVERS)) as server, ThreadPoolExecutor(CLIENTS) as clients:
        with httpx2.Client(base_url=server.url, headers=HEADERS, timeout=LIMIT_SECONDS) as client:
            project = client.post("/projects", json={"name": "home"}).json()["id"]
            body = {"project_id": project, "name": "first"}
            prompt = client.post("/prompts/create", json=body).json()["data"]["id"]
        processes = processes_of(server.process.pid)
        assert len(processes) == SERVERS
        racing = [clients.submit(race, server, number, processes, project, prompt) for number in range(CLIENTS)]
        found = list(zip(*(client.result() for client in racing), strict=True))
    kinds = len(creates_of(0, project, prompt))
    assert len(found) == rounds * kinds
    for turn, told in enumerate(found):
        assert {one.status for one in told} == {200 if turn % kinds == kinds - 1 else 201}
        assert len({one.entity for one in told}) == 1
        assert [one.replayed for one in told].count(False) == 1
    for kind in range(kinds):  # of the processes, too, each has told what another one made
        others = {one.process for told in found[kind::kinds] for one in told if one.process != _maker(told)}
        if rounds >= ROUNDS["full"]:
            assert others == set(processes)
    assert {one.process for told in found for one in told if one.replayed} == set(processes)
    with PromptStudioDatabase(address, "reader", create=False) as database:
        assert database.list_projects()["pagination"]["total"] == rounds + 1
        assert database.list_prompts(project)["pagination"]["total"] == rounds + 1
        assert database.list_optimizations()["pagination"]["total"] == database.count_jobs() == 2 * rounds
    place.dispose(address)


class TestTheServer:
    def test_ends_in_order_when_it_is_told_to(self, tmp_path: Path, users: Path) -> None:
        with served(str(tmp_path / "jobs.db"), users) as server:
            answer = httpx2.get(f"{server.url}/optimizations/strategies", headers=HEADERS, timeout=LIMIT_SECONDS)
            assert answer.json()["success"] is True
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(LIMIT_SECONDS) in {0, -signal.SIGTERM}
        assert sorted(path.name for path in tmp_path.iterdir()) == ["jobs.db", "users"]

    def test_refuses_unknown_knobs_where_it_is_strict(self, tmp_path: Path, users: Path) -> None:
        with served(str(tmp_path / "jobs.db"), users, "--strict") as server:
            body = {"prompt_id": 1, "config": {"optimizer_type": "beam_serach"}}
            answer = httpx2.post(f"{server.url}/optimizations", json=body, headers=HEADERS, timeout=LIMIT_SECONDS)
            assert "the nearest name is beam_search" in answer.json()["detail"]

    @pytest.mark.parametrize(
        ("arguments", "code", "said"),
        [
            ([], 2, "--users FILE is needed"),
            (["--users", "nowhere"], 1, "not started: the file of users, nowhere, cannot be read"),
            (["--users", "users", "--database", "postgresql://127.0.0.1:1/x"], 1, "not started"),
        ],
        ids=["no users", "no file", "no database"],
    )
    def test_says_why_it_has_not_started(
        self, tmp_path: Path, users: Path, arguments: list[str], code: int, said: str
    ) -> None:
        del users
        command = [sys.executable, "-m", "prompt_studio.web", *arguments]
        ended = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False
        )
        assert (ended.returncode, said in ended.stderr) == (code, True)
        assert "Traceback" not in ended.stderr

    @pytest.mark.parametrize(
        ("environment", "said"),
        [({}, "TLDW_PS_USERS must name a file of users"), ({"TLDW_PS_USERS": "nowhere"}, "nowhere, cannot be read")],
        ids=["no users", "no file"],
    )
    def test_says_so_to_who_makes_the_application_by_himself(self, environment: dict[str, str], said: str) -> None:
        with pytest.raises(InputError, match=said):
            app_from_environment(environment)
