"""What the workflows run: nothing but targets of the Makefile, which a developer can run, too."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
WORKFLOWS: Final = sorted((ROOT / ".github" / "workflows").glob("*.yml"))

VARIABLES: Final = {"fuzz": frozenset({"MINUTES", "SEED", "SHARD"})}
"""What a target takes; make itself would not mind any other name."""

_RUN: Final = re.compile(r"^\s*(?:- )?run:(?P<command>.*)$", re.MULTILINE)
_MAKE: Final = re.compile(r"make (?P<target>[a-z]+)(?P<given>(?: [A-Z]+=(?:\$\{\{ [\w.]+ \}\}|[\w./-])+)*)")
_USES: Final = re.compile(r"^\s*(?:- )?uses:\s*(?P<action>\S+)", re.MULTILINE)
_PINNED: Final = re.compile(r"actions/[\w-]+(?:/[\w-]+)?@v\d+")
_KEEPS: Final = re.compile(r"actions/(?:cache(?:/save)?|upload-artifact)@")
"""What keeps something of a job. `actions/cache` without a suffix does so only when the job succeeds."""


def targets(makefile: str) -> set[str]:
    """The targets that a Makefile explains."""
    return set(re.findall(r"^([a-z]+):.*## ", makefile, re.MULTILINE))


def troubles(workflow: str, known: set[str]) -> Iterator[str]:
    """What a workflow runs that is no target of the Makefile, or uses in no fixed major version."""
    for found in _RUN.finditer(workflow):
        command = found["command"].strip()
        made = _MAKE.fullmatch(command)
        if made is None or made["target"] not in known:
            yield f"run: {command}"
        elif not set(re.findall(r" ([A-Z]+)=", made["given"])) <= VARIABLES.get(made["target"], frozenset()):
            yield f"a name that the target does not have: {command}"
    for found in _USES.finditer(workflow):
        if _PINNED.fullmatch(found["action"]) is None:
            yield f"uses: {found['action']}"
        rest = workflow[found.end() :].lstrip("\n").partition("\n")[0].strip()
        if _KEEPS.match(found["action"]) and re.fullmatch(r"if: always\(\)(?: #.*)?", rest) is None:
            yield f"kept only when all goes well: {found['action']}"
    if "permissions:\n  contents: read\n" not in workflow:
        yield "more rights than to read"
    if workflow.count("runs-on:") != workflow.count("timeout-minutes:"):
        yield "a job without a limit of time"
