"""Where a store's part is played: workers, a database, and who schedules and judges there. Made anew after trouble."""

import logging
import tempfile
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.harness.interleaving.failing import OURS
from tests.harness.interleaving.ground import lent
from tests.harness.interleaving.judging import Judge
from tests.harness.interleaving.scheduler import Scheduler
from tests.harness.interleaving.session import SessionWorker
from tests.harness.locations import Location
from tests.harness.processes import Pool


class Playground:
    """One location, as a context. Schedulers and judges are of the database that it has now: ask for them each time."""

    def __init__(self, pool: Pool[SessionWorker], location: Location) -> None:
        self.location = location
        self._pool = pool
        self._open = ExitStack()

    def __enter__(self) -> Self:
        self._begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._open.close()

    def remake(self) -> None:
        """End what is left of the workers and their sessions, and begin with another database.

        The old one is taken away if that can be done: what is wrong with it must not keep the new one from being made.

        Raises:
            Trouble: the workers cannot be replaced.
            psycopg.Error, sqlite3.Error, OSError: no new database can be made.
        """
        old, self._open = self._open, ExitStack()
        try:
            old.close()
        except OURS:
            logging.getLogger(__name__).exception(
                "%s: what trouble has left could not be taken away", self.location.name
            )
        self._begin()

    def _begin(self) -> None:
        directory = Path(self._open.enter_context(tempfile.TemporaryDirectory(prefix="fuzz-")))
        ground = self._open.enter_context(lent(self._pool, self.location, directory))
        self.scheduler = Scheduler(self._pool, ground)
        self.judge = Judge(self.scheduler)
