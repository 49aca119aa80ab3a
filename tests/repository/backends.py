"""The table of what SQLite and Postgres do, `specs/backends.md`: which tests its cells name, and whether they exist."""

import ast
import re
from collections.abc import Callable, Iterator
from typing import Final

_ROW: Final = re.compile(r"^\| (?!what )(.+?) \| (.+) \| (.+) \|$", re.MULTILINE)
_TEST: Final = re.compile(r"\[((?:Test\w+\.)?test_\w+)\]\(\.\./(tests/[\w/]+\.py)\)")


def named_tests(text: str) -> list[tuple[str, str]]:
    """The tests that the page names, as (path, name); a method's name has its class in front."""
    return [(path, name) for name, path in _TEST.findall(text)]


def cells_without_a_test(text: str) -> list[str]:
    """The rows of which a cell names no test."""
    return [what for what, *cells in _ROW.findall(text) if not all(_TEST.search(cell) for cell in cells)]


def missing_tests(text: str, read: Callable[[str], str | None]) -> list[str]:
    """The tests that the page names and that do not exist; `read` gives the source at a path, or None."""
    return [
        f"{path}: there is no {name}"
        for path, name in sorted(set(named_tests(text)))
        if name not in set(_tests_in(read(path) or ""))
    ]


def _tests_in(source: str) -> Iterator[str]:
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef):
            yield node.name
        elif isinstance(node, ast.ClassDef):
            yield from (f"{node.name}.{inner.name}" for inner in node.body if isinstance(inner, ast.FunctionDef))
