"""What creates came to since a database was opened here: jobs that were made, and keys that were new or known."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from prompt_studio.storage.keyed_creates import Made

_SCHEDULED: Final = "scheduled"
_HIT: Final = "hit"
_MISS: Final = "miss"


@dataclass(frozen=True, slots=True)
class CreateCounts:
    """Calls that were answered, also within a transaction that was rolled back afterwards.

    Attributes:
        scheduled: jobs that were made, by their type, those of optimizations among them.
        hits: creates whose key stood for an entity already, by its type; one for another request is none.
        misses: creates whose key was new, by the type of what they made.
    """

    scheduled: Counter[str] = field(default_factory=Counter)
    hits: Counter[str] = field(default_factory=Counter)
    misses: Counter[str] = field(default_factory=Counter)


class Creates:
    """Counts, on any thread.

    Each thread has numbers of its own, so that there is no lock, which a forked child could inherit held.
    """

    def __init__(self) -> None:
        self._counted: dict[tuple[int, str, str], int] = {}

    def note(self, entity_type: str, made: Made[Any]) -> None:
        """Count the answer of a create."""
        if made.replayed is not None:
            self._count(_HIT if made.replayed else _MISS, entity_type)
        if not made.replayed:
            entity: Mapping[str, Any] = made.entity
            job = entity if entity_type == "job" else entity.get("job")
            if job is not None:
                self._count(_SCHEDULED, str(job["job_type"]))

    def note_known(self, entity_type: str) -> None:
        """Count a request whose entity was found before it was tried to make it again."""
        self._count(_HIT, entity_type)

    def counts(self) -> CreateCounts:
        """What was counted so far."""
        found: dict[str, Counter[str]] = {_SCHEDULED: Counter(), _HIT: Counter(), _MISS: Counter()}
        for (_, what, of), number in list(self._counted.items()):
            found[what][of] += number
        return CreateCounts(found[_SCHEDULED], found[_HIT], found[_MISS])

    def _count(self, what: str, of: str) -> None:
        key = (threading.get_ident(), what, of)
        self._counted[key] = self._counted.get(key, 0) + 1
