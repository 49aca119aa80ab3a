"""The command that measures how waits are told from slow statements says so when they are not."""

from collections.abc import Iterable
from dataclasses import replace

import pytest

from tests.benchmarks import wait_detection
from tests.benchmarks.waits import SLOW, WAITING
from tests.harness.interleaving import scheduler
from tests.harness.interleaving.plain_tables import PlainPostgres

pytestmark = pytest.mark.interleaved

KINDS = len(WAITING) + len(SLOW)


class Hasty(wait_detection.Asking):
    """Whoever has not answered at once is said to wait for all others."""

    def blockers(self, server_processes: Iterable[int]) -> dict[int, set[int]]:
        ours = set(server_processes)
        return {one: ours - {one} for one in ours}


class Blind(wait_detection.Asking):
    """Nobody is ever said to wait."""

    def blockers(self, server_processes: Iterable[int]) -> dict[int, set[int]]:
        return {one: set() for one in server_processes}


def only(monkeypatch: pytest.MonkeyPatch, make: type[PlainPostgres]) -> None:
    monkeypatch.setattr(wait_detection, "MAKES", {"broken": make})


def test_all_are_told_right(capsys: pytest.CaptureFixture[str]) -> None:
    assert wait_detection.main(["--waits", "2", "--slow", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 * KINDS
    assert all("  0 missed     0 misclassified" in line for line in lines)


def test_a_detector_that_is_hasty_is_found_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    only(monkeypatch, Hasty)
    # Hasty with what takes long, and not with a statement before it, which is quick but for what else goes on here.
    monkeypatch.setattr(scheduler, "PROBE_SECONDS", 0.05)
    longest = (replace(kind, drawn=(2 * kind.drawn[1],) * 2) for kind in SLOW if kind.order == "aabb")
    monkeypatch.setattr(wait_detection, "WAITING", ())
    monkeypatch.setattr(wait_detection, "SLOW", tuple(longest))
    assert wait_detection.main(["--slow", "1"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines
    assert all("1 misclassified" in line for line in lines)


def test_a_detector_that_is_blind_is_found_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    only(monkeypatch, Blind)
    monkeypatch.setattr(scheduler, "LIMIT_SECONDS", 0.2)
    monkeypatch.setattr(wait_detection, "WAITING", WAITING[:1])
    monkeypatch.setattr(wait_detection, "SLOW", ())
    assert wait_detection.main(["--waits", "2"]) == 1
    assert "2 missed" in capsys.readouterr().out
