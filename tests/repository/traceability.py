"""Who uses an id: the line that decides in the store, the test that checks it, the mutant that puts the bug in.

`python -m tests.repository.traceability` writes `specs/traceability.md`; a test fails when that file is stale.
Places are named by file and function and not by line, so that an edit elsewhere in the file makes nothing stale.
"""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from tests.repository.requirements import (
    INVARIANT_ID,
    REQUIREMENT_ID,
    ROOT,
    SPECS,
    IndexRow,
    InvariantRow,
    index,
    invariants,
)
from tests.repository.tidy import comments

PAGE: Final = SPECS / "traceability.md"
CATALOGUE: Final = ROOT / "tests" / "mutants" / "catalogue.toml"

_ID = rf"(?:{REQUIREMENT_ID}|{INVARIANT_ID})"
_ANY_ID = re.compile(_ID)
_IMPL_COMMENT = re.compile(r"(?:#|--) impl: (.*)$")
_SQL_COMMENT = re.compile(r"--.*$")
_SQL_NAME = re.compile(r"^-- name: *(\S+)")


class Use(NamedTuple):
    """One place that names an id."""

    id: str
    path: str
    name: str  # the function, class or statement around it, or "" for the file itself


class Malformed(Exception):
    """A comment or mark from which no id can be read."""


def _scopes(tree: ast.Module) -> list[tuple[int, int, str]]:
    """The (first line, last line, dotted name) of each class and function, decorators included, outermost first."""
    found: list[tuple[int, int, str]] = []

    def visit(node: ast.AST, prefix: str) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                name = f"{prefix}{child.name}"
                first = min([child.lineno, *(decorator.lineno for decorator in child.decorator_list)])
                found.append((first, child.end_lineno or child.lineno, name))
                visit(child, f"{name}.")
            else:
                visit(child, prefix)

    visit(tree, "")
    return found


def _scope_at(scopes: list[tuple[int, int, str]], line: int) -> str:
    around = [name for first, last, name in scopes if first <= line <= last]
    return around[-1] if around else ""


def _sql_comments(text: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.splitlines(), start=1):
        if comment := _SQL_COMMENT.search(line):
            yield number, comment[0]


def _ids(path: str, number: int, comment: str) -> list[str]:
    """The ids that this comment names as built here; none when it is a comment like any other."""
    named = _IMPL_COMMENT.search(comment)
    ids = named[1].split(", ") if named else []
    if not all(_ANY_ID.fullmatch(one) for one in ids):
        message = f"{path}:{number}: after `impl:` come ids, separated by a comma and a space: {comment}"
        raise Malformed(message)
    return ids


def impl_comments(path: str, text: str) -> list[Use]:
    """The ids in this file's `# impl:` comments (`-- impl:` in SQL), each with the function or statement around it."""
    if "impl:" not in text:
        return []  # and need not be parsed
    if path.endswith(".py"):
        scopes = _scopes(ast.parse(text))
        return [Use(one, path, _scope_at(scopes, at)) for at, said in comments(text) for one in _ids(path, at, said)]
    found: list[Use] = []
    statement = ""
    for number, comment in _sql_comments(text):
        header = _SQL_NAME.match(comment)
        statement = header[1] if header else statement
        found += [Use(one, path, statement) for one in _ids(path, number, comment)]
    return found


def verifies_marks(path: str, text: str) -> list[Use]:
    """The ids in this test file's `verifies` marks, each with the test or class that bears it."""
    if "verifies" not in text:
        return []  # and need not be parsed
    tree = ast.parse(text)
    scopes = _scopes(tree)
    found: list[Use] = []
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "verifies"):
            continue
        for argument in node.args:
            if not (isinstance(argument, ast.Constant) and isinstance(argument.value, str)):
                message = f"{path}:{node.lineno}: a `verifies` mark takes literal ids, so that they can be found"
                raise Malformed(message)
            found.append(Use(argument.value, path, _scope_at(scopes, node.lineno)))
    return found


def mutants(text: str) -> list[Use]:
    """The ids that each entry of the catalogue of mutants names, under `requirements` and `invariant`."""
    found: list[Use] = []
    for entries in tomllib.loads(text).values():
        for entry in entries if isinstance(entries, list) else []:
            named = [*entry.get("requirements", []), *_ANY_ID.findall(str(entry.get("invariant", "")))]
            found += [Use(one, "catalogue.toml", str(entry["id"])) for one in named]
    return found


def unknown(uses: list[Use], known: frozenset[str]) -> list[str]:
    """The uses of ids that no spec defines."""
    return [f"{use.path} ({use.name}): {use.id} is defined nowhere in specs/" for use in uses if use.id not in known]


def gaps(rows: list[IndexRow], built: list[Use], tested: list[Use]) -> list[str]:
    """Where the index and the code disagree: implemented means a place and a test, specified means no place."""
    places, tests = {use.id for use in built}, {use.id for use in tested}
    found = [
        f"{row.id} is implemented, and no `# impl:` says where"
        for row in rows
        if row.implemented and row.id not in places
    ]
    found += [
        f"{row.id} is implemented, and no test verifies it" for row in rows if row.implemented and row.id not in tests
    ]
    found += [
        f"{row.id} is built, and the index does not say so" for row in rows if not row.implemented and row.id in places
    ]
    return found


def _files(folder: str, *suffixes: str) -> Iterator[tuple[str, str]]:
    for path in sorted((ROOT / folder).rglob("*")):
        if path.suffix in suffixes:
            yield path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")


def built_in(*folders: str) -> list[Use]:
    """Every `impl:` comment under these folders."""
    return [
        use for folder in folders for path, text in _files(folder, ".py", ".sql") for use in impl_comments(path, text)
    ]


def verified() -> list[Use]:
    """Every `verifies` mark of every test."""
    return [use for path, text in _files("tests", ".py") for use in verifies_marks(path, text)]


def mutated() -> list[Use]:
    """Every id that a mutant names; none while there is no catalogue."""
    return mutants(CATALOGUE.read_text(encoding="utf-8")) if CATALOGUE.exists() else []


def _places(uses: list[Use], name: str) -> str:
    """The files that use the id, each with the names inside it."""
    files: dict[str, list[str]] = {}
    for use in uses:
        if use.id == name:
            files.setdefault(use.path, []).append(use.name)
    cells = []
    for path, names in sorted(files.items()):
        short = path.removeprefix("impl/prompt_studio/").removeprefix("tests/")
        inside = ", ".join(dict.fromkeys(one for one in sorted(names) if one))
        cells.append(f"`{short}` ({inside})" if inside else f"`{short}`")
    return "<br>".join(cells) or "-"


def _files_only(uses: list[Use], name: str) -> str:
    """The test files that use the id: a file has many tests, and naming each would make the page stale every day."""
    files = {use.path.removeprefix("tests/") for use in uses if use.id == name}
    return "<br>".join(f"`{path}`" for path in sorted(files)) or "-"


def _names(uses: list[Use], name: str) -> str:
    return ", ".join(sorted({use.name for use in uses if use.id == name})) or "-"


def _watchers(rows: list[InvariantRow], name: str) -> str:
    return ", ".join(row.id for row in rows if name in row.requirements) or "-"


def render(rows: list[IndexRow], watchers: list[InvariantRow], uses: tuple[list[Use], list[Use], list[Use]]) -> str:
    """The page: a row for each requirement, then one for each invariant."""
    built, tests, mutated_by = uses
    lines = [
        "# Traceability",
        "",
        "Generated by `make format`; a repository test fails when it is stale.",
        "Files are relative to `impl/prompt_studio/` and to `tests/`.",
        "",
        "## Requirements",
        "",
        "| id | implementation | tests | invariants | mutants |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.id} | {_places(built, row.id)} | {_files_only(tests, row.id)} | {_watchers(watchers, row.id)} "
        f"| {_names(mutated_by, row.id)} |"
        for row in sorted(rows, key=_by_family_and_number)
    ]
    lines += ["", "## Invariants", "", "| id | tests | mutants |", "|---|---|---|"]
    lines += [f"| {row.id} | {_files_only(tests, row.id)} | {_names(mutated_by, row.id)} |" for row in watchers]
    return "\n".join(lines) + "\n"


def _by_family_and_number(row: IndexRow) -> tuple[str, int]:
    family, _, number = row.id.rpartition("-")
    return family, int(number)


def current_page() -> str:
    """The page as it should be now."""
    rows = index((SPECS / "README.md").read_text(encoding="utf-8"))
    watchers = invariants((SPECS / "invariants.md").read_text(encoding="utf-8"))
    return render(rows, watchers, (built_in("impl"), verified(), mutated()))


def main(target: Path = PAGE) -> int:
    """Write the page."""
    target.write_text(current_page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
