"""What the documents promise: that links lead somewhere, that targets exist, that examples run."""

import re
from collections.abc import Callable
from typing import Final

_LINK: Final = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
_FENCE: Final = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_PYTHON: Final = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SHELL: Final = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_HEADING: Final = re.compile(r"^#+ +(.+?)\s*$", re.MULTILINE)
_CODE: Final = re.compile(r"^```\S*\n(.*?)^```$|`([^`\n]+)`", re.MULTILINE | re.DOTALL)
_MAKE: Final = re.compile(r"(?:^|[\s;&(])make(?: +[A-Z_]+=\S+)* +([a-z][a-z-]*)")
_TARGET: Final = re.compile(r"^([a-z][a-z-]*):", re.MULTILINE)


def anchors(text: str) -> set[str]:
    """The names by which this page's headings can be linked."""
    headings = _HEADING.findall(_FENCE.sub("", text))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(path: str, text: str, read: Callable[[str], str | None]) -> list[str]:
    """Relative links that lead nowhere.

    `read` gives the text at a path relative to this page ("" for a folder), or None.
    """
    found = []
    for link in _LINK.findall(_FENCE.sub("", text)):
        if re.match(r"[a-z]+:", link):
            continue
        target, _, anchor = link.partition("#")
        there = read(target) if target else text
        if there is None:
            found.append(f"{path}: {link} leads to no file")
        elif anchor and anchor not in anchors(there):
            found.append(f"{path}: {link} leads to no heading")
    return found


def missing_targets(path: str, text: str, makefile: str) -> list[str]:
    """Commands `make <target>` in this page's code for which the Makefile has no target."""
    code = [block or inline for block, inline in _CODE.findall(text)]
    named = sorted({target for part in code for target in _MAKE.findall(part)})
    targets = set(_TARGET.findall(makefile))
    return [f"{path}: `make {target}` is no target of the Makefile" for target in named if target not in targets]


def python_blocks(text: str) -> list[str]:
    """The page's examples."""
    return _PYTHON.findall(text)


def shell_blocks(text: str) -> list[str]:
    """The page's commands."""
    return _SHELL.findall(text)
