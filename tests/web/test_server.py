"""The server by itself: several processes, real requests, racing clients, an end in order."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Barrier
from typing import Any, Final

import httpx2
import pytest

from prompt_studio import PromptStudioDatabase
from tests.harness.locations import DATABASES, Location
from tests.web.conftest import PREFIX, TOKENS

pytestmark = pytest.mark.processes

LIMIT_SECONDS: Final = 60.0
CLIENTS: Final = 4
SERVERS: Final = 2
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


def _made(told: Any) -> int:  # noqa: ANN401 - any JSON value
    """The id of what a create answers with, bare or wrapped."""
    return int(told["id"] if "id" in told else told["data"]["optimization"]["id"])


@pytest.mark.timeout(1_200)
@pytest.mark.parametrize("place", DATABASES, ids=lambda place: place.name)
@pytest.mark.verifies("PS-IDEMPOTENCY-SCOPE-2", "PS-HTTP-3", "INV-ONE-EFFECT-PER-KEY")
def test_racing_creates_make_one_entity_for_each_key(
    place: Location, tmp_path: Path, users: Path, request: pytest.FixtureRequest
) -> None:
    rounds = ROUNDS[request.config.getoption("races")]
    address = place.fresh(tmp_path)
    start = Barrier(CLIENTS, timeout=LIMIT_SECONDS)

    def race(prompt: dict[str, int]) -> list[tuple[int, int, bool]]:
        told = []
        with httpx2.Client(headers=HEADERS, timeout=LIMIT_SECONDS) as client:
            for turn in range(rounds):
                creates = {
                    "/projects": {"name": f"p{turn}"},
                    "/optimizations/create": prompt | {"optimization_config": CONFIG, "name": f"o{turn}"},
                }
                for path, body in creates.items():
                    start.wait()
                    answer = client.post(server.url + path, json=body, headers={"Idempotency-Key": f"k{turn}"})
                    replayed = "Idempotency-Replayed" in answer.headers
                    told.append((answer.status_code, _made(answer.json()), replayed))
        return told

    with served(address, users, "--workers", str(SERVERS)) as server, ThreadPoolExecutor(CLIENTS) as clients:
        with httpx2.Client(base_url=server.url, headers=HEADERS, timeout=LIMIT_SECONDS) as client:
            project = client.post("/projects", json={"name": "home"}).json()["id"]
            body = {"project_id": project, "name": "first"}
            prompt = client.post("/prompts/create", json=body).json()["data"]["id"]
        found = list(clients.map(race, [{"project_id": project, "initial_prompt_id": prompt}] * CLIENTS))
    for turn in zip(*found, strict=True):
        assert {status for status, _, _ in turn} == {201}
        assert len({number for _, number, _ in turn}) == 1
        assert [replayed for _, _, replayed in turn].count(False) == 1
    with PromptStudioDatabase(address, "reader", create=False) as database:
        assert database.list_projects()["pagination"]["total"] == rounds + 1
        assert database.list_optimizations()["pagination"]["total"] == database.count_jobs() == rounds
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
            (["--users", "nowhere"], 1, "not started"),
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
