"""The command that measures how soon bugs are found does what it says."""

import pytest

from tests.benchmarks.interleaved_bugs import main
from tests.interleaved.broken import BROKEN

pytestmark = pytest.mark.interleaved


def test_finds_each_and_plays_it_again_in_a_fresh_process(capfd: pytest.CaptureFixture[str]) -> None:
    name = BROKEN[0].name
    assert main(["--seeds", "1", "--replays", "2", "--rounds", "20", "--only", name]) == 0
    found, luck, again = capfd.readouterr().out.splitlines()
    assert found.startswith(name)
    assert "preemptions" in found
    assert "of 20 rounds wrong" in luck
    assert again.endswith("played again: 2 of 2 the same")
