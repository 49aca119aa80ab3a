"""The catalogue of mutants as values, and how one is put into a copy of the project."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
FILE: Final = Path(__file__).with_name("catalogue.toml")
STATEMENT_ENDS: Final = ";\n"


class Stale(Exception):
    """The mutant's text is not in the project any more: the code has moved on, and the entry must follow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One wrong turn, and the names of which one must stand in the verdict.

    `also` is a second place in the same statement, for a store that is guarded twice. `suite` are the tests that must
    notice, as arguments of pytest; without any it is the whole stateful run.
    """

    id: str
    bug: str
    file: str
    old: str
    new: str
    invariant: tuple[str, ...]
    requirements: tuple[str, ...]
    after: str = ""
    every_in_statement: bool = False
    also: tuple[str, str] | tuple[()] = ()
    suite: str = ""

    def applied_to(self, text: str) -> str:
        """Return the file's text with the wrong turn in it. Raises Stale."""
        start = text.find(self.after)
        end = text.find(STATEMENT_ENDS, start) if self.every_in_statement else len(text)
        part = text[start:end]
        if start < 0 or self.old not in part:
            raise Stale(f"{self.id}: {self.file} has no {self.old!r} behind {self.after!r}; mend catalogue.toml")
        changed = part.replace(self.old, self.new, -1 if self.every_in_statement else 1)
        if self.also:
            second, instead = self.also
            if second not in changed:
                raise Stale(f"{self.id}: {self.file} has no {second!r} behind {self.after!r}; mend catalogue.toml")
            changed = changed.replace(second, instead, 1)
        return text[:start] + changed + text[end:]


def mutants() -> tuple[Mutant, ...]:
    """Return every mutant of the catalogue, in order."""
    entries = tomllib.loads(FILE.read_text(encoding="utf-8"))["mutant"]
    return tuple(
        Mutant(**entry | {name: tuple(entry.get(name, ())) for name in ("invariant", "requirements", "also")})
        for entry in entries
    )
