"""The habits of this repository as functions over text: each gives what it found, and nothing when all is well.

A rule that is not executable is a wish. What ruff, mypy and import-linter can say is said there; here is the rest.
The patterns of what must not be written are spelled so that they do not match themselves. Parsing is slow, so what
cannot be in a text is not looked for.
"""

import ast
import io
import re
import subprocess
import tokenize
import tomllib
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Final

from tests.repository.requirements import ROOT

FUNCTION_LINES: Final = 70
MODULE_LINES: Final = 500
MODEL_CODE_LINES: Final = 1_000
ADAPTER: Final = "tests/harness/adapter.py"

BANNED_NAMES: Final = frozenset({"utils.py", "util.py", "common.py", "helpers.py", "base.py", "misc.py"})
BANNED_TEXT: Final = (
    ("a path of one machine", re.compile(r"(?<![\w.])/(?:[w]ork|[r]oot|[h]ome/\w+|[U]sers/\w+)/")),
    ("a path outside the repository", re.compile(r"\.\./[s]hared\b")),
    ("a registry's host", re.compile(r"[p]ypi\.org|files\.[p]ythonhosted|registry\.[n]pmjs|deb\.[d]ebian\.org")),
)
NEVER_IGNORED: Final = re.compile(r"\b(?:BLE001|S110|S112|F811|DTZ\d*|B\d{0,3}|C901|ERA(?:001)?|T20\d?)\b")
_NOQA: Final = re.compile(r"#\s*(?:noqa|type:\s*ignore|mypy:|pragma: no)[^#\n]*")
_NOQA_WITH_REASON: Final = re.compile(
    r"#\s*(?:noqa: [A-Z0-9, ]+|type: ignore\[[a-z0-9, -]+\]|pragma: no (?:cover|branch)) - \w"
)

_WRONG_ARGUMENT: Final = re.compile(r"#\s*type: ignore\[(?:arg-type|call-arg|dict-item|list-item)\]")


def tracked_files() -> list[str]:
    """Every file that is committed, or would be by adding everything."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
        timeout=30,
    ).stdout
    return sorted(name for name in set(listing.split("\0")) if name and (ROOT / name).is_file())


def comments(text: str) -> Iterator[tuple[int, str]]:
    """The line and the text of each comment of a Python source; what stands in a string is none."""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def long_functions(path: str, text: str) -> list[str]:
    """Functions that do not fit on a screen."""
    if len(text.splitlines()) <= FUNCTION_LINES:
        return []
    return [
        f"{path}:{node.lineno}: {node.name} has {length} lines, and {FUNCTION_LINES} are allowed"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := (node.end_lineno or node.lineno) - node.lineno + 1) > FUNCTION_LINES
    ]


def long_module(path: str, text: str) -> list[str]:
    """A module that should be two."""
    length = len(text.splitlines())
    return [f"{path}: {length} lines, and {MODULE_LINES} are allowed"] if length > MODULE_LINES else []


def banned_name(path: str, text: str) -> list[str]:
    """A file whose name says nothing about what is in it."""
    del text
    return [f"{path}: a file is named after what is in it"] if PurePosixPath(path).name in BANNED_NAMES else []


def banned_text(path: str, text: str) -> list[str]:
    """What is true on one machine only."""
    return [
        f"{path}:{number}: {what}: {found[0]}"
        for number, line in enumerate(text.splitlines(), start=1)
        for what, pattern in BANNED_TEXT
        if (found := pattern.search(line))
    ]


def _dotted(node: ast.expr) -> str:
    return ast.unparse(node) if isinstance(node, ast.Name | ast.Attribute) else ""


def _calls(text: str) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call):
            yield node.lineno, _dotted(node.func)


def sleeps(path: str, text: str) -> list[str]:
    """Sleeping, which in a test is hoping."""
    if "sleep" not in text:
        return []
    return [
        f"{path}:{line}: {name}() is no synchronisation: use a barrier, a pipe, or the injected clock"
        for line, name in _calls(text)
        if name == "sleep" or name.endswith(".sleep")
    ]


def skips(path: str, text: str) -> list[str]:
    """Skipping, which could hide that something was never tested. Marks without arguments are found too."""
    if "skip" not in text:
        return []
    used = {_dotted(node) for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Attribute)}
    names = ("pytest.skip", "pytest.importorskip", "pytest.mark.skip", "pytest.mark.skipif")
    return [f"{path}: {name} hides what was not run" for name in names if name in used]


def swallowed_errors(path: str, text: str) -> list[str]:
    """Handlers of every exception that raise none, and handlers of any that do nothing at all."""
    if "except" not in text and "suppress" not in text:
        return []
    found = []
    nodes = list(ast.walk(ast.parse(text)))
    for node in nodes:
        if not isinstance(node, ast.ExceptHandler):
            continue
        caught = {name.id for name in ast.walk(node.type) if isinstance(name, ast.Name)} if node.type else set()
        broad = node.type is None or bool(caught & {"Exception", "BaseException"})
        raises = any(isinstance(inner, ast.Raise) for inner in ast.walk(node))
        if broad and not raises:
            found.append(f"{path}:{node.lineno}: catches everything and raises nothing")
        elif all(isinstance(statement, ast.Pass) for statement in node.body):
            found.append(f"{path}:{node.lineno}: an error is dropped; contextlib.suppress says at least which")
    return found + [
        f"{path}:{node.lineno}: suppresses everything"
        for node in nodes
        if isinstance(node, ast.Call)
        and _dotted(node.func).endswith("suppress")
        and {_dotted(argument) for argument in node.args} & {"Exception", "BaseException"}
    ]


def backends_by_name(path: str, text: str) -> list[str]:
    """Comparisons with a database's name: what a test needs is a capability."""
    databases = {"sqlite", "postgres", "postgresql"}
    if not any(name in text for name in databases):
        return []
    return [
        f"{path}:{node.lineno}: asks for a database by its name; ask its capabilities"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Compare)
        for side in [node.left, *node.comparators]
        for part in ast.walk(side)
        if isinstance(part, ast.Constant) and part.value in databases
    ]


def meets_both_worlds(path: str, text: str) -> list[str]:
    """Importing both the store and the model outside the adapter: a shared type lets one mistake hide in both."""
    if "prompt_studio_model" not in text:
        return []
    roots = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            roots |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            roots.add((node.module or "").partition(".")[0])
    both = {"prompt_studio", "prompt_studio_model"} <= roots
    return [f"{path}: the store and the model meet in {ADAPTER} only"] if both and path != ADAPTER else []


def unreasoned_exceptions(path: str, text: str) -> list[str]:
    """Comments that silence a tool without a reason, or that silence a rule which is never ignored.

    A reason looks like this: `noqa: S311 - these dice decide nothing secret`. A test that gives an argument of a wrong
    type on purpose needs no reason beyond that.
    """
    if not _NOQA.search(text):
        return []
    found = []
    for number, comment in comments(text):
        for silenced in _NOQA.findall(comment):
            wrong_on_purpose = path.startswith("tests/") and _WRONG_ARGUMENT.fullmatch(silenced.strip())
            if not (wrong_on_purpose or _NOQA_WITH_REASON.match(silenced)):
                found.append(f"{path}:{number}: `{silenced.strip()}` needs its codes, a dash and its reason")
            if NEVER_IGNORED.search(silenced.partition(" - ")[0]):
                found.append(f"{path}:{number}: `{silenced.strip()}` silences a rule that is never ignored")
    return found


def ignores_in_configuration(path: str, text: str) -> list[str]:
    """Rules that ruff's configuration ignores without a reason on the line, or that are never to be ignored.

    T20 may be ignored for one file: a command has to write somewhere.
    """
    lint = tomllib.loads(text)["tool"]["ruff"]["lint"]
    everywhere: list[str] = lint.get("ignore", [])
    per_file = [code for codes in lint.get("per-file-ignores", {}).values() for code in codes]
    forbidden = [code for code in everywhere if NEVER_IGNORED.fullmatch(code)]
    forbidden += [code for code in per_file if NEVER_IGNORED.fullmatch(code) and not code.startswith("T20")]
    bare = [
        code
        for code in sorted({*everywhere, *per_file})
        if any(f'"{code}"' in line and "#" not in line for line in text.splitlines())
    ]
    return [f"{path}: {code} is never ignored" for code in forbidden] + [
        f"{path}: {code} is ignored without a reason on its line" for code in bare
    ]


def unpinned(path: str, text: str) -> list[str]:
    """Lines of constraints.txt that are anything but a name and an exact version."""
    return [
        f"{path}:{number}: `{line}` is not name==version"
        for number, line in enumerate(text.splitlines(), start=1)
        if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.!+]*", line)
    ]


def code_lines(text: str) -> int:
    """How many lines have code on them: not blank, not only a comment, not part of a docstring."""
    tree = ast.parse(text)
    docstrings: set[int] = set()
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and ast.get_docstring(node) is not None
        ):
            docstrings |= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    blank = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    used: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in blank:
            used |= set(range(token.start[0], token.end[0] + 1))
    return len(used - docstrings)


def large_model(sources: dict[str, str]) -> list[str]:
    """A model, `checking` aside, that nears the size of a store: it would be a second implementation."""
    counted = {
        path: code_lines(text)
        for path, text in sources.items()
        if path.startswith("model/") and "/checking/" not in path and path.endswith(".py")
    }
    total = sum(counted.values())
    return (
        [f"the model has {total} lines of code, and {MODEL_CODE_LINES} are allowed"] if total > MODEL_CODE_LINES else []
    )
