"""The stores that can be put under test, by name. A new one is one line here and its tables' reader."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from prompt_studio import PromptStudioDatabase, Settings
from tests.harness.adapter import Adapter, VirtualClock
from tests.harness.sqlite_tables import SqliteTables

CLIENT: Final = "conformance"


@dataclass(frozen=True, slots=True)
class Store:
    """A way to get a store with nothing in it. `fresh` takes a directory of its own and the retention in seconds."""

    name: str
    fresh: Callable[[Path, int | None], Adapter]


def _sqlite(directory: Path, retention_seconds: int | None) -> Adapter:
    """Copy an initialised file, which is quicker than to initialise one for each example."""
    template, path = directory / "template.db", directory / "jobs.db"
    if not template.exists():
        PromptStudioDatabase(template, CLIENT, settings=Settings()).close()
    for leftover in directory.glob("jobs.db*"):
        leftover.unlink()
    shutil.copyfile(template, path)
    settings = Settings(idempotency_retention_seconds=retention_seconds)

    def open_session(clock: VirtualClock, spread: Callable[[], int]) -> PromptStudioDatabase:
        return PromptStudioDatabase(path, CLIENT, settings=settings, clock=clock, jitter=spread)

    return Adapter(open_session, SqliteTables(path))


STORES: Final = (Store("sqlite", _sqlite),)
