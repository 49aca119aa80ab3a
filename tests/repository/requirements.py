"""Which ids exist, what their sentences are, and how far each is built: read from the specs, where ids are born.

A requirement is one sentence that begins with its id in bold and is a paragraph of its own. An invariant is a row of
`specs/invariants.md`. The status of a requirement is its row in the index of `specs/README.md`.
Nothing here knows who uses an id; `traceability` does.
"""

import re
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parents[2]
SPECS: Final = ROOT / "specs"

REQUIREMENT_ID: Final = r"PS-[A-Z]+(?:-[A-Z]+)*-[0-9]+"
INVARIANT_ID: Final = r"(?:INV|SEEN)-[A-Z]+(?:-[A-Z]+)*"
STATUSES: Final = frozenset({"implemented", "specified", "not needed"})

_DEFINITION = re.compile(rf"^\*\*({REQUIREMENT_ID})\*\* (.+?)(?:\n\n|\n*\Z)", re.MULTILINE | re.DOTALL)
_INDEX_ROW = re.compile(
    rf"^\| ({REQUIREMENT_ID}) \| \[[a-z-]+\]\(([^)]+)\) \| ([a-z ]+) \| ([a-z ]+) \|$", re.MULTILINE
)
_INVARIANT_ROW = re.compile(rf"^\| ({INVARIANT_ID}) \| ([a-z]+) \| (.+) \| ([^|]*) \|$", re.MULTILINE)
_NEXT_SENTENCE = re.compile(r"[.!?]\s+\S")


class Requirement(NamedTuple):
    """One sentence that binds, and the page that says it."""

    id: str
    sentence: str
    page: str


class IndexRow(NamedTuple):
    """What the index says about a requirement."""

    id: str
    page: str
    statuses: tuple[str, str]

    @property
    def implemented(self) -> bool:
        """True when at least one database has it."""
        return "implemented" in self.statuses


class InvariantRow(NamedTuple):
    """What the table of invariants says about one of them."""

    id: str
    expectation: str
    sentence: str
    requirements: tuple[str, ...]


def requirements(text: str, page: str) -> list[Requirement]:
    """The requirements that this page defines, in order, with repetitions."""
    return [Requirement(name, " ".join(words.split()), page) for name, words in _DEFINITION.findall(text)]


def index(text: str, own_page: str = "README.md") -> list[IndexRow]:
    """The rows of the index, in order, with repetitions; a link into the index's own page counts as that page."""
    return [
        IndexRow(name, link.partition("#")[0] or own_page, (sqlite, postgres))
        for name, link, sqlite, postgres in _INDEX_ROW.findall(text)
    ]


def invariants(text: str) -> list[InvariantRow]:
    """The rows of the table of invariants, in order, with repetitions."""
    return [
        InvariantRow(name, expectation, sentence, tuple(re.findall(REQUIREMENT_ID, named)))
        for name, expectation, sentence, named in _INVARIANT_ROW.findall(text)
    ]


def as_table_row(row: InvariantRow) -> str:
    """The line that the table should have for this invariant."""
    return f"| {row.id} | {row.expectation} | {row.sentence} | {', '.join(row.requirements)} |"


def all_requirements(specs: Path = SPECS) -> list[Requirement]:
    """Every requirement of every page."""
    pages = sorted(specs.glob("*.md"))
    return [found for path in pages for found in requirements(path.read_text(encoding="utf-8"), path.name)]


def known_ids(specs: Path = SPECS) -> frozenset[str]:
    """Every id that a mark or a comment may name."""
    rows = invariants((specs / "invariants.md").read_text(encoding="utf-8"))
    return frozenset(found.id for found in all_requirements(specs)) | {row.id for row in rows}


def disagreements(defined: list[Requirement], rows: list[IndexRow]) -> list[str]:
    """What is wrong between the sentences and the index: each id has one sentence and one row, on the page it names."""
    names, listed = [found.id for found in defined], [row.id for row in rows]
    pages = {found.id: found.page for found in defined}
    found = [f"{name} is defined more than once" for name in sorted(set(names)) if names.count(name) > 1]
    found += [f"{name} has more than one row in the index" for name in sorted(set(listed)) if listed.count(name) > 1]
    found += [f"{name} has a sentence and no row in the index" for name in sorted(set(names) - set(listed))]
    found += [f"{name} has a row in the index and no sentence" for name in sorted(set(listed) - set(names))]
    for row in rows:
        if row.id in pages and pages[row.id] != row.page:
            found.append(f"{row.id} is defined in {pages[row.id]}, and the index says {row.page}")
        found += [f"{row.id} has the unknown status {status!r}" for status in row.statuses if status not in STATUSES]
    return found


def not_one_sentence(defined: list[Requirement]) -> list[str]:
    """The requirements that are more, or less, than one sentence: what explains belongs into the next paragraph."""
    return [
        f"{found.id} is not one sentence: {found.sentence}"
        for found in defined
        if not found.sentence.endswith(".") or _NEXT_SENTENCE.search(found.sentence)
    ]
