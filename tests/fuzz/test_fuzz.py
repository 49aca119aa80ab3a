"""The nightly run keeps what is new, plays it first, tells of what does not hold, and divides the seeds."""

import json
import os
import signal
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from prompt_studio_model.state import State
from tests.fuzz import report
from tests.fuzz.__main__ import CODES, main
from tests.fuzz.campaign import Explored, Part, Shard
from tests.fuzz.corpus import Corpus
from tests.harness.interleaving.scenario import Scenario
from tests.harness.interleaving.scheduler import Run, Step
from tests.harness.interleaving.schedules import Schedule
from tests.harness.locations import SQLITE
from tests.interleaved.broken import BROKEN

pytestmark = pytest.mark.interleaved

MINUTES = "0.03"


def fuzz(directory: Path, *more: str) -> list[str]:
    """The arguments of a short run of which everything is in this directory."""
    places = {name: str(directory / name) for name in ("corpus", "out", "schedules")}
    return [
        *("--minutes", MINUTES, "--seed", "1"),
        *(word for name, place in places.items() for word in (f"--{name}", place)),
        *more,
    ]


def summary(directory: Path) -> dict[str, Any]:
    """What was written."""
    told: dict[str, Any] = json.loads((directory / "out" / "summary.json").read_text())
    return told


class TestARun:
    def test_keeps_what_is_new_and_plays_it_first(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        arguments = fuzz(tmp_path, "--store", SQLITE.name)
        assert main(arguments) == CODES["holds"]
        kept = sorted((tmp_path / "corpus" / "sqlite").glob("*.json"))
        assert kept
        (told,) = summary(tmp_path)["stores"]
        assert told["signatures"] >= len(kept) == told["corpus"]
        assert "corpus" not in told["explorers"]
        assert "verdict: holds" in capsys.readouterr().out

        kept[0].write_text("{}")  # of a version that nobody knows any more
        diverged = Schedule.read(kept[1])
        Schedule(diverged.store, diverged.scenario, diverged.choices[:1], (), ()).write(kept[1])
        assert main(arguments) == CODES["holds"]
        (told,) = summary(tmp_path)["stores"]
        corpus = told["explorers"]["corpus"]
        assert corpus["schedules"] == len(kept) - 1 == corpus["new"] + told["dropped"]
        assert all(Schedule.read(path).choices for path in Corpus(tmp_path / "corpus", "sqlite")._files())

    def test_tells_of_a_store_that_is_broken(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        broken = next(one for one in BROKEN if one.location is SQLITE)
        assert main(fuzz(tmp_path, "--minutes", "1"), [broken.at(SQLITE)]) == CODES["violated"]
        assert "--replay=" in capsys.readouterr().out
        assert list((tmp_path / "schedules").glob("*.json"))
        assert summary(tmp_path)["verdict"] == "violated"
        failed = [case for case in ET.parse(tmp_path / "out" / "junit.xml").iter("testcase") if len(case)]  # noqa: S314 - our own file
        assert failed

    def test_says_what_there_is_when_there_is_no_such_store(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["--store", "oracle"]) == CODES["inconclusive"]
        assert "no store is named 'oracle': there are 'sqlite'" in capsys.readouterr().err

    def test_that_is_ended_says_what_it_saw(self, tmp_path: Path) -> None:
        command = [sys.executable, "-m", "tests.fuzz", *fuzz(tmp_path, "--minutes", "10", "--store", "sqlite")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as ended:
            assert ended.stderr is not None
            ended.stderr.readline()  # its first progress
            os.kill(ended.pid, signal.SIGTERM)
            told, _ = ended.communicate(timeout=60)
        assert ended.returncode == CODES["inconclusive"]
        assert "the run was cut short" in told
        assert summary(tmp_path)["verdict"] == "inconclusive"


class TestTheCorpus:
    SCENARIO = Scenario("some scenario", (), {"a": ()})

    def run(self, *choices: str) -> Run:
        """A run of which the signatures are its choices."""
        return Run(self.SCENARIO, State(), [Step(choice, "begin", (choice,), "ready") for choice in choices])

    @pytest.fixture(autouse=True)
    def _reaches(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("tests.fuzz.corpus.signatures", lambda run: frozenset(run.choices))

    def test_keeps_the_name_of_what_stays_in_whatever_order_it_is_played(self, tmp_path: Path) -> None:
        runs = [self.run("a", "b"), self.run("b", "c")]
        first = Corpus(tmp_path, "store")
        assert [first.add(run) for run in runs] == [True, True]
        names = {path: schedule.choices for path, schedule in first.kept()}
        again = Corpus(tmp_path, "store")
        by_choices = {choices: path for path, choices in names.items()}
        assert [again.replayed(by_choices[tuple(run.choices)], run) for run in reversed(runs)] == [True, True]
        assert {path: schedule.choices for path, schedule in again.kept()} == names

    def test_drops_what_reaches_nothing_of_its_own_any_more(self, tmp_path: Path) -> None:
        corpus = Corpus(tmp_path, "store")
        corpus.add(self.run("a"))
        ((path, _),) = corpus.kept()
        again = Corpus(tmp_path, "store")
        again.add(self.run("a", "b"))
        assert not again.replayed(path, self.run("a"))
        assert [schedule.choices for _, schedule in again.kept()] == [("a", "b")]

    def test_follows_what_has_become_another_one(self, tmp_path: Path) -> None:
        corpus = Corpus(tmp_path, "store")
        corpus.add(self.run("a"))
        ((path, _),) = corpus.kept()
        assert Corpus(tmp_path, "store").replayed(path, self.run("b"))
        assert [schedule.choices for _, schedule in corpus.kept()] == [("b",)]


class TestTheReport:
    def test_tells_of_an_error_that_says_nothing(self, tmp_path: Path) -> None:
        part = Part("some store", 3, {"at random": Explored(troubles=[str(AssertionError())])}, scenarios=1)
        report.write(tmp_path, [part], 1, "1/1", cut_short=False)
        (error,) = ET.parse(tmp_path / "junit.xml").iter("error")  # noqa: S314 - our own file
        assert error.get("message") == report.NOTHING_SAID
        assert json.loads((tmp_path / "summary.json").read_text())["verdict"] == "inconclusive"


class TestAShard:
    def test_has_seeds_that_no_other_has(self) -> None:
        parts = [set(islice(Shard(number, 3).seeds(7), 100)) for number in (1, 2, 3)]
        assert len(set.union(*parts)) == 300
        assert sorted(set.union(*parts)) == list(islice(Shard().seeds(7), 300))
        assert set(islice(Shard().seeds(7), 1000)).isdisjoint(islice(Shard().seeds(8), 1000))

    @pytest.mark.parametrize("text", ["3/2", "0/2", "2", "a/b", ""])
    def test_is_one_of_several(self, text: str) -> None:
        with pytest.raises(ValueError, match=r"shard is i/n|invalid literal"):
            Shard.parse(text)
