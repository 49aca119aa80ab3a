"""The command that measures schedules a second does what it says."""

import os
import re

import pytest

from tests.benchmarks.interleaved_rates import main, processor_seconds

pytestmark = pytest.mark.interleaved


def test_measures_each_store_and_says_where_the_time_goes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--schedules", "20", "--turns", "2", "--store", "locks"]) == 0
    rate, shares = capsys.readouterr().out.splitlines()
    assert rate.startswith("postgres, no locks")
    assert re.search(r"\d+ schedules/s +\d+ steps/s", rate)
    told = {name: int(share) for name, share in re.findall(r"(\w[\w ]*\w) (\d+) %", shares)}
    assert told.keys() == {"scheduler", "workers", "server", "messages and waking"}
    assert told["scheduler"] > 0
    assert told["server"] > 0


def test_refuses_to_measure_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--store", "oracle"])
    assert "nothing to measure" in capsys.readouterr().err


def test_a_process_that_works_has_been_on_a_processor_for_longer() -> None:
    before = processor_seconds([os.getpid()])
    while processor_seconds([os.getpid()]) <= before:  # the kernel counts at its ticks, and not at each reading
        assert sum(range(10_000)) > 0
    assert processor_seconds([2**22 + 1]) == 0  # nobody has that number
