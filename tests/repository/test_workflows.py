"""The workflows run what developers can run."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.fuzz.__main__ import parser
from tests.fuzz.campaign import Shard
from tests.harness.history import RACES
from tests.repository.workflows import ROOT, WORKFLOWS, targets, troubles

KNOWN = targets((ROOT / "Makefile").read_text(encoding="utf-8"))
RIGHTS = "permissions:\n  contents: read\n"


def test_there_are_some() -> None:
    assert [path.name for path in WORKFLOWS] == ["ci.yml", "nightly.yml"]
    assert {"check", "test", "fuzz", "mutants", "races", "soak", "stateful"} <= KNOWN


def test_every_night_does_what_no_change_waits_for() -> None:
    nightly = (ROOT / ".github" / "workflows" / "nightly.yml").read_text(encoding="utf-8")
    made = set(re.findall(r"run: make ([a-z]+)", nightly))
    assert {"fuzz", "mutants", "races", "soak"} <= made


def test_what_fails_is_kept_and_what_was_new_comes_back() -> None:
    nightly, ci = (path.read_text(encoding="utf-8") for path in reversed(WORKFLOWS))
    jobs = dict(re.findall(r"^  (\w+):\n((?:    .*\n|\n)+)", nightly, re.MULTILINE))
    defaults = parser().parse_args([])
    corpus, schedules, out = (
        path.absolute().relative_to(ROOT).as_posix() for path in (defaults.corpus, defaults.schedules, defaults.out)
    )
    for job in (jobs["fuzz"], jobs["soak"], jobs["races"], ci):
        assert "actions/upload-artifact@" in job
    assert kept_by(jobs["fuzz"]) == {out, schedules}
    assert kept_by(jobs["soak"]) == {schedules}
    assert kept_by(jobs["races"]) == {RACES.as_posix()}
    assert {"build/certificate.json", schedules, RACES.as_posix()} <= kept_by(ci)
    assert re.findall(r"path: (build/corpus)", jobs["fuzz"]) == [corpus] * 2  # it is taken from there, and put there
    for job in (jobs["fuzz"], jobs["versions"]):
        assert 'postgres: ["15", "18"]' in job


def kept_by(job: str) -> set[str]:
    """The paths that a job uploads."""
    return set(re.findall(r"build/[\w.]+", job.partition("upload-artifact@")[2]))


def test_the_nightly_run_is_asked_for_in_words_that_it_knows() -> None:
    make = ["make", "--no-print-directory", "-n", "fuzz", "MINUTES=60", "SEED=7", "SHARD=2/3"]
    told = subprocess.run(make, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()[-1]
    asked = parser().parse_args(shlex.split(told.partition("-m tests.fuzz")[2]))
    assert (asked.minutes, asked.seed, asked.shard) == (60.0, 7, Shard(2, 3))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_each_runs_targets_only(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert list(troubles(text, KNOWN)) == []
    assert "run: make " in text


@pytest.mark.parametrize(
    ("line", "trouble"),
    [
        ("      - run: pip install .", "run: pip install ."),
        ("      - run: make everything", "run: make everything"),
        ("      - run: make fuzz MINTUES=60", "a name that the target does not have: make fuzz MINTUES=60"),
        ("      - run: make test SEED=1", "a name that the target does not have: make test SEED=1"),
        ("      - run: make test && curl example.org", "run: make test && curl example.org"),
        ("      - run: |\n          pip install .", "run: |"),
        ("      - uses: actions/checkout@main", "uses: actions/checkout@main"),
        ("      - uses: somebody/else@v1", "uses: somebody/else@v1"),
        ("      - uses: actions/cache@v4\n        with:", "kept only when all goes well: actions/cache@v4"),
        ("      - uses: actions/cache/save@v4", "kept only when all goes well: actions/cache/save@v4"),
        ("    runs-on: ubuntu-latest", "a job without a limit of time"),
    ],
)
def test_anything_else_is_found(line: str, trouble: str) -> None:
    assert list(troubles(f"{RIGHTS}{line}\n", KNOWN)) == [trouble]


def test_so_are_rights() -> None:
    assert list(troubles("      - run: make fuzz MINUTES=60 SHARD=${{ matrix.shard }}\n", KNOWN)) == [
        "more rights than to read"
    ]
