"""The store on an SQL database: every operation once, for every dialect."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack

from prompt_studio.config import Settings
from prompt_studio.storage.api import Store
from prompt_studio.storage.capabilities import BackendType, Capabilities
from prompt_studio.storage.dialect import Dialect
from prompt_studio.storage.idempotency_operations import IdempotencyOperations
from prompt_studio.storage.lease_operations import LeaseOperations
from prompt_studio.storage.optimization_operations import OptimizationOperations
from prompt_studio.storage.project_operations import ProjectOperations
from prompt_studio.storage.prompt_operations import PromptOperations
from prompt_studio.storage.statistics import Statistics
from prompt_studio.storage.transactions import Sessions


class SqlStore(
    ProjectOperations,
    PromptOperations,
    OptimizationOperations,
    LeaseOperations,
    IdempotencyOperations,
    Statistics,
    Store,
):
    """All operations on one opened database."""

    def __init__(self, dialect: Dialect, settings: Settings) -> None:
        """Open the database.

        Raises:
            DatabaseError: it cannot be opened, or is not ours; it was not altered.
        """
        super().__init__(dialect, Sessions(dialect, retry_seconds=settings.write_retry_seconds), settings)
        try:
            dialect.prepare()
        except BaseException:
            dialect.close()
            raise

    @property
    def backend_type(self) -> BackendType:
        """Which kind of database it is."""
        return self._dialect.backend_type

    @property
    def capabilities(self) -> Capabilities:
        """What it can do."""
        return self._dialect.capabilities

    def transaction(self) -> AbstractContextManager[None]:
        """A transaction of the caller's, on this thread."""
        return self._sessions.current().transaction()

    def one_patience(self, spent_seconds: float) -> AbstractContextManager[None]:
        """The calls of this thread in the block wait for others no longer, in all, than one may that has waited so."""
        return self._sessions.current().one_patience(spent_seconds)

    def close_connection(self) -> None:
        """Close this thread's connection."""
        self._sessions.current().close()

    def close(self) -> None:
        """Close all connections of this process."""
        with ExitStack() as each:  # from the last to the first, and all of them, whichever cannot
            each.callback(self._dialect.close)
            each.callback(self._sessions.close)
            each.callback(self._claims.close)
