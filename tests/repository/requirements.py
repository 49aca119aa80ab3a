"""Which ids exist: read from the specs, the only place where an id is born.

A requirement is a sentence that begins with its id in bold. An invariant is a row of `specs/invariants.md`.
Nothing here knows who uses an id; `traceability` does.
"""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SPECS = ROOT / "specs"

REQUIREMENT_ID = r"PS-[A-Z]+(?:-[A-Z]+)*-[0-9]+"
INVARIANT_ID = r"INV-[A-Z]+(?:-[A-Z]+)*"

_DEFINITION = re.compile(rf"^(?:[-*] )?\*\*({REQUIREMENT_ID})\*\*", re.MULTILINE)
_INVARIANT_ROW = re.compile(rf"^\| *({INVARIANT_ID}) *\|", re.MULTILINE)


def defined_requirements(text: str) -> list[str]:
    """The ids that this text defines, in order, with repetitions."""
    return _DEFINITION.findall(text)


def invariant_rows(text: str) -> list[str]:
    """The invariants that this text has a table row for, in order, with repetitions."""
    return _INVARIANT_ROW.findall(text)


def known_ids(specs: Path = SPECS) -> frozenset[str]:
    """Every id that a mark or a comment may name."""
    texts = [path.read_text(encoding="utf-8") for path in sorted(specs.glob("*.md"))]
    return frozenset(found for text in texts for found in [*defined_requirements(text), *invariant_rows(text)])
