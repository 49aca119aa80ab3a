"""The signals of a worker, one by one in this process; how they stop a whole one is tried with the command `work`."""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from prompt_studio import JobManager, PromptStudioDatabase
from prompt_studio.stop_signals import StopSignals
from tests.conformance.working import LIMIT_SECONDS, NEVER, until

pytestmark = pytest.mark.conformance


@pytest.fixture
def idle(path: Path) -> Iterator[JobManager]:
    """A manager that keeps each stop that it is asked for, since it does not work."""
    with PromptStudioDatabase(path, "tester") as database:
        yield JobManager(database)


@pytest.fixture(autouse=True)
def counted_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """No signal passes for another one that came just before it."""
    monkeypatch.setattr("prompt_studio.stop_signals.REPEAT_SECONDS", 0)


def heard(manager: JobManager, stops: int) -> None:
    until(lambda: len(manager._stop_asked) >= stops)
    assert len(manager._stop_asked) == stops


async def play(manager: JobManager, *, taken: bool) -> None:
    with closing(StopSignals(manager, grace_seconds=NEVER, settle_seconds=LIMIT_SECONDS)) as signals:
        signals.listen()
        if taken:
            asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, lambda: None)
        for stops, number in enumerate([signal.SIGTERM, signal.SIGINT, signal.SIGTERM], start=1):
            signal.raise_signal(number)
            heard(manager, stops)
        if taken:
            asyncio.get_running_loop().remove_signal_handler(signal.SIGUSR1)
            signal.raise_signal(signal.SIGTERM)
            heard(manager, 4)


class TestASignal:
    @pytest.mark.verifies("PS-LEASE-HB-21")
    def test_is_one_though_it_comes_by_the_socket_and_by_a_call(self, idle: JobManager) -> None:
        """What is heard of the next one comes after both."""
        asyncio.run(play(idle, taken=False))

    @pytest.mark.verifies("PS-LEASE-HB-21")
    def test_is_heard_while_asyncio_hears_in_our_place_and_when_nobody_does(self, idle: JobManager) -> None:
        asyncio.run(play(idle, taken=True))
