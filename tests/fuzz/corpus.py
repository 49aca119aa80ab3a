"""The schedules that reached something new, kept from one run to the next."""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.harness.interleaving.runs import Run
from tests.harness.interleaving.schedules import Schedule
from tests.harness.interleaving.signatures import signatures

SCHEDULES_MAX: Final = 500
"""Of one store. More would take too long to play first."""


class Corpus:
    """Those of one store, a file each, named after what is in it, so that it keeps its name while it stays the same."""

    def __init__(self, directory: Path, store: str) -> None:
        self._directory = directory / re.sub(r"\W+", "-", store)
        self._store = store
        self._known: set[str] = set()

    @property
    def known(self) -> frozenset[str]:
        """The signatures that were reached so far."""
        return frozenset(self._known)

    def __len__(self) -> int:
        return len(self._files())

    def kept(self) -> Iterator[tuple[Path, Schedule]]:
        """The schedules of earlier runs. What is no schedule of this version is taken away: it can say nothing more."""
        for path in self._files():
            try:
                yield path, Schedule.read(path)
            except (ValueError, KeyError, TypeError):
                path.unlink()

    def add(self, run: Run) -> bool:
        """Keep a run if it reached something new; whether it did."""
        new = self._learn(run)
        if new and len(self) < SCHEDULES_MAX:
            self._keep(run)
        return new

    def replayed(self, path: Path, run: Run) -> bool:
        """A kept schedule was played again: it stays if it still reaches what no other does; whether it stays."""
        new = self._learn(run)
        if not new or self._keep(run) != path:  # kept first: who is ended in between has one too many, and none too few
            path.unlink()
        return new

    def _learn(self, run: Run) -> bool:
        new = signatures(run) - self._known
        self._known |= new
        return bool(new)

    def _keep(self, run: Run) -> Path:
        """Write a run's schedule; where it is now."""
        self._directory.mkdir(parents=True, exist_ok=True)
        unnamed = self._directory / "new"  # whoever reads the files looks for those with a suffix
        Schedule.of(run, self._store).write(unnamed)
        return unnamed.replace(self._directory / f"{digest(unnamed.read_bytes())}.json")

    def _files(self) -> list[Path]:
        return sorted(self._directory.glob("*.json"))


def digest(content: bytes) -> str:
    """A short name for a file's content."""
    return hashlib.sha256(content).hexdigest()[:16]
