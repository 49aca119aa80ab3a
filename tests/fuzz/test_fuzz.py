"""The nightly run keeps what is new, plays it first, tells of what does not hold, and divides the seeds."""

import json
import math
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from prompt_studio_model.state import State
from tests.fuzz import report
from tests.fuzz.__main__ import CODES, WORKERS, main
from tests.fuzz.campaign import TROUBLES_MAX, Campaign, Explored, Part, Shard
from tests.fuzz.corpus import Corpus
from tests.fuzz.playground import Playground
from tests.harness.interleaving.explorers import Bounds
from tests.harness.interleaving.runs import Run, Step
from tests.harness.interleaving.scenario import Scenario
from tests.harness.interleaving.scheduler import Choose, Scheduler
from tests.harness.interleaving.schedules import Schedule
from tests.harness.interleaving.session import SessionWorker
from tests.harness.locations import SQLITE, WITH_LOCKS, Location
from tests.harness.processes import Pool, Trouble
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
        assert 0 < told["bounds"]["missed"]["1"] < told["bounds"]["missed"]["3"] <= 1
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


class TestTrouble:
    """Whatever is raised proves nothing of a store; the rest of the night is played all the same."""

    @pytest.mark.parametrize("location", [SQLITE, WITH_LOCKS], ids=lambda location: location.name)
    def test_is_told_and_the_run_goes_on_with_everything_new(
        self, location: Location, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        play, played = Scheduler.run, 0

        def broken(self: Scheduler, scenario: Scenario, choose: Choose, **more: Any) -> Run:  # noqa: ANN401 - see Scheduler
            nonlocal played
            played += 1
            is_broken = played in {3, 8}

            def raising(step: int, current: str | None, enabled: Sequence[str]) -> str:
                if is_broken and step == 2:  # in a call: its process owes an answer, and its session may have locks
                    raise sqlite3.OperationalError
                return choose(step, current, enabled)

            return play(self, scenario, raising, **more)

        monkeypatch.setattr(Scheduler, "run", broken)
        monkeypatch.setattr("tests.fuzz.campaign.SCHEDULES_OF_ONE", 4)
        monkeypatch.setattr("tests.fuzz.campaign.ORDERS_MAX", 4)
        corpus = Corpus(tmp_path / "corpus", location.name)
        pool = Pool(WORKERS, SessionWorker, preload=("prompt_studio", "psycopg"))
        try:
            with Playground(pool, location) as playground:
                campaign = Campaign(playground, corpus, tmp_path, 3, lambda _: None)
                part = campaign.run(islice(Shard().seeds(7), 2), math.inf)
        finally:
            pool.close()
        assert part.troubles == ["OperationalError: "] * 2
        assert (part.scenarios, part.violations) == (2, [])
        assert part.explorers["in order"].schedules > 0
        assert report.verdict([part], cut_short="") == "inconclusive"
        assert "could not be taken away" not in caplog.text

    def test_that_does_not_end_ends_the_part(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def never(*_: Any, **__: Any) -> Run:  # noqa: ANN401 - see Scheduler
            raise Trouble("nobody can go on")

        monkeypatch.setattr(Scheduler, "run", never)
        assert main(fuzz(tmp_path, "--minutes", "10", "--store", SQLITE.name)) == CODES["inconclusive"]
        (part,) = summary(tmp_path)["stores"]
        assert sum(len(one["troubles"]) for one in part["explorers"].values()) == TROUBLES_MAX

    def test_of_the_command_itself_is_told_too(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def never(*_: Any) -> None:  # noqa: ANN401 - see Campaign
            raise KeyError("a mistake of ours")

        monkeypatch.setattr("tests.fuzz.__main__.Campaign.run", never)
        with pytest.raises(SystemExit) as ended:
            main(fuzz(tmp_path, "--store", SQLITE.name))
        assert ended.value.code == CODES["inconclusive"]
        assert "the run was cut short: KeyError: 'a mistake of ours'" in capsys.readouterr().out
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
        part = Part("some store", Bounds(3), {"at random": Explored(troubles=[str(AssertionError())])}, scenarios=1)
        report.write(tmp_path, [part], 1, "1/1", cut_short="")
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
