"""The named SQL statements, read from `.sql` files.

A file is a list of entries: `-- name: the_name`, then one line of comment that says what the statement does, then the
statement. A dialect may give a second file. An entry of it that replaces a shared one says why (`-- Differs because
...`), and so does one that has no namesake (`-- Only here because ...`). Texts may hold `${now}` and the other words of
a `Language`, and `:parameters`, which become its placeholders. An entry whose name holds `{status}` stands for one
statement for each status: a status must be a literal in the text, since a planner uses a partial index only where it
sees the index's own predicate.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
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
_CHANGES: Final = re.compile(r"\b(?:INSERT INTO|UPDATE prompt_|DELETE FROM|COMMIT)")
_DIFFERS: Final = "-- Differs because"
_ONLY_HERE: Final = "-- Only here because"


class StatementError(Exception):
    """A statement file breaks its rules: a defect of this package."""


@dataclass(frozen=True, slots=True)
class Statement:
    """One SQL statement and the name under which logs, tests and schedulers know it."""

    name: str
    sql: str

    @property
    def changes(self) -> bool:
        """Whether it may change a row, so that its effect is unknown when its answer is lost."""
        return _CHANGES.search(self.sql) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Language:
    """How one database says what the shared texts leave open.

    Attributes:
        now: an expression for the database's clock, the same instant wherever it stands in a statement.
        milliseconds: what follows a number to make it a duration of so many milliseconds.
        epoch: the instant from which stored times are counted.
        placeholder: the form of a parameter, made from its name.
        clock: a common table expression that `now` reads; None where the database needs none.
        instant: a reading of the clock, for a statement that says itself when to read it, and so makes its own `clock`.
        stamp: the clock in the form that times have in tables which the host application may have brought.
        wakes: what a statement that queues a job adds to its answer, so that workers who listen hear of it.
    """

    now: str
    milliseconds: str
    epoch: str
    placeholder: Callable[[str], str]
    clock: str | None = None
    instant: str | None = None
    stamp: str = "${now}"
    wakes: str = ""


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


def load_statements(shared: str, own: str | None, language: Language) -> Statements:
    """The statements of the text `shared`, replaced and completed by those of the dialect's `own`."""
    entries = {name: body for name, _, body in _entries(shared)}
    if own is not None:
        entries |= _reasoned(own, entries.keys())
    return Statements({name: Statement(name, _rendered(name, text, language)) for name, text in entries.items()})


def _reasoned(own: str, shared: Collection[str]) -> dict[str, str]:
    entries = {}
    for name, comment, body in _entries(own):
        reason = _DIFFERS if name in shared else _ONLY_HERE
        if not comment.startswith(reason):
            raise StatementError(f"the entry {name!r} of a dialect must begin with {reason!r}")
        entries[name] = body
    return entries


def query_text(file_name: str) -> str:
    """A file of `storage/queries`, as text."""
    return _package_directory("queries").joinpath(file_name).read_text(encoding="utf-8")


def schema_texts(backend: str) -> list[str]:
    """The files of `storage/schema` for a database, oldest first: the n-th makes version n of the schema."""
    scripts = [file for file in _package_directory("schema").iterdir() if file.name.endswith(f".{backend}.sql")]
    return [file.read_text(encoding="utf-8") for file in sorted(scripts, key=lambda file: file.name)]


def _package_directory(name: str) -> Traversable:
    return files("prompt_studio.storage").joinpath(name)


def _entries(text: str) -> Iterator[tuple[str, str, str]]:
    seen: set[str] = set()
    for entry in _ENTRY.finditer(text):
        name, comment, body = entry["name"], entry["comment"] or "", entry["body"].strip()
        if not (name and comment and body):
            raise StatementError(f"the entry {name!r} needs a name, a line of comment and a statement")
        for one_name, one_body in _family(name, body):
            if one_name in seen:
                raise StatementError(f"there are two statements named {one_name!r}")
            seen.add(one_name)
            yield one_name, comment, one_body


def _family(name: str, body: str) -> Iterator[tuple[str, str]]:
    if "{status}" not in name:
        yield name, body
        return
    for status in JobStatus:
        yield name.replace("{status}", status), body.replace("{status}", status)


def _rendered(name: str, text: str, language: Language) -> str:
    text = text.replace("${stamp}", language.stamp)
    if language.clock is not None and "${now}" in text and not ("${clock}" in text or "${instant}" in text):
        text = "WITH ${clock} " + text
    sql = _PARAMETER.sub(lambda match: language.placeholder(match[1]), text.rstrip(";"))
    words = {
        "now": language.now,
        "milliseconds": language.milliseconds,
        "epoch": language.epoch,
        "wakes": language.wakes,
    }
    # The name travels with the text, so that a database's own list of running statements can be read.
    return f"/* {name} */ " + Template(sql).substitute(words, clock=language.clock, instant=language.instant)
