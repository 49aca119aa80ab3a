"""Temporary files are in memory only where there is room, and where nobody chose another place."""

import os
import tempfile
from pathlib import Path

import pytest

from tests.harness import temporary


@pytest.fixture(autouse=True)
def _nobody_chose(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", "set, so that it is brought back whatever a test does")
    monkeypatch.delenv("TMPDIR")
    monkeypatch.setattr(tempfile, "tempdir", "/chosen before")


def test_memory_is_used_by_this_process_and_those_that_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(temporary, "BYTES_LEAST", 0)
    temporary.use_memory(tmp_path)
    assert (tempfile.gettempdir(), os.environ["TMPDIR"]) == (str(tmp_path), str(tmp_path))


def test_who_names_a_directory_is_not_overruled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(temporary, "BYTES_LEAST", 0)
    monkeypatch.setenv("TMPDIR", "/somewhere else")
    temporary.use_memory(tmp_path)
    assert (tempfile.tempdir, os.environ["TMPDIR"]) == ("/chosen before", "/somewhere else")


@pytest.mark.parametrize("missing", ["room", "directory"])
def test_without_room_everything_stays_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    monkeypatch.setattr(temporary, "BYTES_LEAST", 2**62 if missing == "room" else 0)
    temporary.use_memory(tmp_path if missing == "room" else tmp_path / "none")
    assert (tempfile.tempdir, "TMPDIR" in os.environ) == ("/chosen before", False)
