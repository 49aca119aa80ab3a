"""The workflows run what developers can run."""

import re
from pathlib import Path

import pytest

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
