"""What one database must answer so that the store can be written once.

At most ten questions. An operation that wants to ask an eleventh probably wants a named statement instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Protocol

from prompt_studio.jobs import JobRow
from prompt_studio.storage.capabilities import BackendType, Capabilities
from prompt_studio.storage.statements import Statement, Statements

if TYPE_CHECKING:  # the two ask the dialect for its answers
    from prompt_studio.storage.claims import Claims
    from prompt_studio.storage.migrating import Site
    from prompt_studio.storage.transactions import Sessions

Parameters = Mapping[str, object]
Row = Mapping[str, Any]
NO_PARAMETERS: Final[Parameters] = {}


class Lock(Protocol):
    """A lock that its holder may take again."""

    def acquire(self, *, timeout: float = -1) -> bool:
        """Whether it is held now; a negative limit in seconds is none."""

    def release(self) -> None:
        """Give it back."""

    def __enter__(self) -> bool: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...


class Connection(Protocol):
    """One session with the database, used by one thread."""

    @property
    def busy(self) -> Lock:
        """Held while a statement or transaction is under way."""

    @property
    def in_transaction(self) -> bool:
        """Whether the database has a transaction open here, whatever we believe."""

    def run(self, statement: Statement, parameters: Parameters = NO_PARAMETERS) -> list[Row]:
        """Run one statement and take all of its rows. Every statement of the store passes here."""

    def close(self) -> None:
        """End the session; what was not committed is rolled back."""


class Dialect(Protocol):
    """The answers of one database."""

    @property
    def backend_type(self) -> BackendType:
        """Which kind of database it is, for people to read."""

    @property
    def capabilities(self) -> Capabilities:
        """What it can do, for code to ask."""

    @property
    def statements(self) -> Statements:
        """The store's statements, with this database's clock, placeholders and overrides."""

    @property
    def begin_write(self) -> Statement:
        """How a transaction that will write begins."""

    def prepare(self) -> None:
        """Initialise an empty database, accept one of this version, refuse and never alter anything else."""

    def connect(self) -> Connection:
        """A new connection, of one thread."""

    def claims(self, sessions: Sessions) -> Claims:
        """How jobs are claimed, and where the calls under a lease run."""

    def migration(self, *, dry_run: bool, timezone: str) -> Site:
        """How the database is brought to this version of the schema."""

    def close(self) -> None:
        """Let go of what all connections share; nothing may be in use."""

    def job(self, row: Row) -> JobRow:
        """A row of the job table as callers see it."""
