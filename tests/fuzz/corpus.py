"""The schedules that reached something new, kept from one run to the next."""

import hashlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from tests.harness.interleaving.scheduler import Run
from tests.harness.interleaving.schedules import Schedule
from tests.harness.interleaving.signatures import signatures

SCHEDULES_MAX: Final = 500
"""Of one store. More would take too long to play first."""


class Corpus:
    """Those of one store, a file each, named after what it was the first to reach."""

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
        new = signatures(run) - self._known
        self._known |= new
        if new and len(self) < SCHEDULES_MAX:
            self._directory.mkdir(parents=True, exist_ok=True)
            Schedule.of(run, self._store).write(self._directory / f"{digest(new)}.json")
        return bool(new)

    def replayed(self, path: Path, run: Run) -> bool:
        """A kept schedule was played again: it stays if it still reaches what no other does; whether it stays."""
        path.unlink()
        return self.add(run)

    def _files(self) -> list[Path]:
        return sorted(self._directory.glob("*.json"))


def digest(texts: Iterable[str]) -> str:
    """A short name for a set of texts."""
    return hashlib.sha256("\n".join(sorted(texts)).encode()).hexdigest()[:16]
