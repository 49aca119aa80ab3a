"""The pinned sizes of the bounded worlds, in `specs/exploration.toml`.

A change of the model that makes a world larger or smaller without anybody noticing is how an exploration comes to
check nothing. So the sizes are pinned, and a change of one is a change that a reviewer sees.

`python -m tests.model.pin` explores every world and writes the file anew; it refuses if one of them does not hold.
"""

import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from prompt_studio_model.checking.explore import Exploration, explore
from prompt_studio_model.worlds import WORLDS, JobWorld
from tests.repository.requirements import SPECS

PAGE: Final = SPECS / "exploration.toml"
HEADER: Final = """\
# The bounded worlds of the model, each explored to its end: how many distinct states it has, how many steps away the
# farthest is, and how many transitions were judged by every promise. What each world is about:
# `python -m prompt_studio_model explore --list`.
#
# A test compares these numbers with what an exploration finds. When a change of the model is meant to change them,
# write them anew with `python -m tests.model.pin`, and say in the commit why they changed.
"""


class Size(NamedTuple):
    """How large an explored world is."""

    distinct: int
    depth: int
    transitions: int


def size(found: Exploration[Any, Any, Any]) -> Size:
    """The size of a world that was explored."""
    return Size(found.distinct, found.depth, found.transitions)


def pinned(page: Path = PAGE) -> dict[str, Size]:
    """The sizes in the file, by world."""
    return {name: Size(**entry) for name, entry in tomllib.loads(page.read_text(encoding="utf-8")).items()}


def render(sizes: Mapping[str, Size]) -> str:
    """The file's text."""
    tables = (
        f"\n[{name}]\n" + "".join(f"{field} = {number:_}\n" for field, number in found._asdict().items())
        for name, found in sizes.items()
    )
    return HEADER + "".join(tables)


def main(page: Path = PAGE, worlds: Mapping[str, JobWorld] = WORLDS) -> int:
    """Explore every world and write the file, if all of them hold."""
    sizes = {}
    for name, world in worlds.items():
        found = explore(world)
        if found.verdict != "holds":
            sys.stderr.write(f"{name} is {found.verdict} ({found.broken or found.unwitnessed}): nothing is pinned\n")
            return 1
        sizes[name] = size(found)
    page.write_text(render(sizes), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
