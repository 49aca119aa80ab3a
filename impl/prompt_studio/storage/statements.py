"""The named SQL statements, read from `.sql` files.

A file is a list of entries: `-- name: the_name`, then one line of comment that says what the statement does, then the
statement. A dialect may give a second file whose entries replace those of the first; each of them must say why
(`-- Differs because ...`). Texts may hold `${now}`, which becomes the dialect's clock, and `:parameters`, which become
its placeholders. An entry whose name holds `{status}` stands for one statement for each status: a status must be a
literal in the text, since a planner uses a partial index only where it sees the index's own predicate.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from string import Template
from typing import Final

from prompt_studio.jobs import JobStatus

_ENTRY: Final = re.compile(
    r"^-- name: *(?P<name>\S*) *\n(?P<comment>-- .+\n)?(?P<body>(?:(?!-- name:).*\n?)*)", re.MULTILINE
)
_PARAMETER: Final = re.compile(r"(?<![:\w]):([a-z]\w*)")
_DIFFERS: Final = "-- Differs because"


class StatementError(Exception):
    """A statement file breaks its rules: a defect of this package."""


@dataclass(frozen=True, slots=True)
class Statement:
    """One SQL statement and the name under which logs, tests and schedulers know it."""

    name: str
    sql: str


class Statements:
    """The statements of one database, by name."""

    def __init__(self, statements: dict[str, Statement]) -> None:
        self._statements = statements

    def __getitem__(self, name: str) -> Statement:
        try:
            return self._statements[name]
        except KeyError:
            raise StatementError(f"there is no statement named {name!r} in the .sql files") from None

    def __iter__(self) -> Iterator[Statement]:
        return iter(self._statements.values())


def load_statements(shared: str, overrides: str | None, *, now: str, placeholder: Callable[[str], str]) -> Statements:
    """The statements of the text `shared`, with those of `overrides` in place of their namesakes."""
    entries = dict(_entries(shared))
    if overrides is not None:
        replacing = dict(_entries(overrides, must_differ=True))
        unknown = replacing.keys() - entries.keys()
        if unknown:
            raise StatementError(f"there is nothing to override for {', '.join(sorted(unknown))}")
        entries |= replacing
    return Statements(
        {
            name: Statement(name, _rendered(name, text, now=now, placeholder=placeholder))
            for name, text in entries.items()
        }
    )


def query_text(file_name: str) -> str:
    """A file of `storage/queries`, as text."""
    return _package_directory("queries").joinpath(file_name).read_text(encoding="utf-8")


def schema_texts(backend: str) -> list[str]:
    """The files of `storage/schema` for a database, oldest first: the n-th makes version n of the schema."""
    scripts = [file for file in _package_directory("schema").iterdir() if file.name.endswith(f".{backend}.sql")]
    return [file.read_text(encoding="utf-8") for file in sorted(scripts, key=lambda file: file.name)]


def _package_directory(name: str) -> Traversable:
    return files("prompt_studio.storage").joinpath(name)


def _entries(text: str, *, must_differ: bool = False) -> Iterator[tuple[str, str]]:
    seen: set[str] = set()
    for entry in _ENTRY.finditer(text):
        name, comment, body = entry["name"], entry["comment"] or "", entry["body"].strip()
        if not (name and comment and body):
            raise StatementError(f"the entry {name!r} needs a name, a line of comment and a statement")
        if must_differ and not comment.startswith(_DIFFERS):
            raise StatementError(f"the override {name!r} must begin with {_DIFFERS!r}")
        for one_name, one_body in _family(name, body):
            if one_name in seen:
                raise StatementError(f"there are two statements named {one_name!r}")
            seen.add(one_name)
            yield one_name, one_body


def _family(name: str, body: str) -> Iterator[tuple[str, str]]:
    if "{status}" not in name:
        yield name, body
        return
    for status in JobStatus:
        yield name.replace("{status}", status), body.replace("{status}", status)


def _rendered(name: str, text: str, *, now: str, placeholder: Callable[[str], str]) -> str:
    sql = _PARAMETER.sub(lambda match: placeholder(match[1]), text.rstrip(";"))
    # The name travels with the text, so that a database's own list of running statements can be read.
    return f"/* {name} */ " + Template(sql).substitute(now=now)
