"""How a job is claimed: what one database does under its write lock, another does with row locks and advisory locks.

Whatever the way, the statement `acquire_best_job` decides who wins, and its guard is the whole of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from prompt_studio.errors import DatabaseError
from prompt_studio.jobs import ClosedBy, JobRow, Outcome
from prompt_studio.storage.dialect import Dialect, Parameters, Row
from prompt_studio.storage.transactions import Session, Sessions


@dataclass(frozen=True, slots=True)
class Step:
    """What one transaction of an acquire did: failed an exhausted job, or (none was in the way) leased one or none.

    `refused`: the job that was named could have been leased, and another session has its lock.
    """

    exhausted: bool
    job: JobRow | None = None
    refused: bool = False


class Claim(Protocol):
    """One call that acquires, with what it has learned on its way."""

    def step(self, *, fails_exhausted: bool) -> Step:
        """Fail the best exhausted job, or lease the best eligible one if that is better; committed."""

    def this(self) -> Step:
        """Lease the job that the parameters name, if it is queued and available; committed."""


class Claims(Protocol):
    """How jobs are claimed in one opened database."""

    def session(self) -> Session:
        """Where closing calls run."""

    def begin(self, lease_seconds: int, parameters: Parameters) -> Claim:
        """A call that acquires."""

    def told(self, job_id: int, lease_token: int, outcome: Outcome, closing: ClosedBy | None) -> None:
        """Hear what a call with a token was answered; `closing` is None for a renewal."""

    def moved(self, outcome: Outcome) -> None:
        """Hear what an operator's move was answered."""

    def close(self) -> None:
        """Give everything back."""


class OneWriterClaims:
    """Claims where write transactions follow one another: nothing is locked but the database, and only for a moment."""

    def __init__(self, dialect: Dialect, sessions: Sessions) -> None:
        self._dialect = dialect
        self._sessions = sessions

    def session(self) -> Session:
        """This thread's session."""
        return self._sessions.current()

    def begin(self, lease_seconds: int, parameters: Parameters) -> Claim:
        """A call that acquires."""
        del lease_seconds  # nobody is refused, so nobody loses patience
        return _OneWriterClaim(self._dialect, self._sessions.current(), parameters)

    def told(self, job_id: int, lease_token: int, outcome: Outcome, closing: ClosedBy | None) -> None:
        """There is nothing to give back."""

    def moved(self, outcome: Outcome) -> None:
        """There is nothing to give back."""

    def close(self) -> None:
        """There is nothing to give back."""


class _OneWriterClaim:
    def __init__(self, dialect: Dialect, session: Session, parameters: Parameters) -> None:
        self._dialect = dialect
        self._session = session
        self._parameters = parameters
        self._patience = session.patience()

    def step(self, *, fails_exhausted: bool) -> Step:
        def fail_or_claim(session: Session) -> Step:
            if fails_exhausted and session.run(self._dialect.statements["fail_best_exhausted_job"], self._parameters):
                return Step(exhausted=True)
            return Step(exhausted=False, job=self._leased(session, "acquire_best_job"))

        return self._write(fail_or_claim)

    def this(self) -> Step:
        return self._write(lambda session: Step(exhausted=False, job=self._leased(session, "acquire_this_job")))

    def _write(self, operation: Callable[[Session], Step]) -> Step:
        return self._session.write(operation, patience=self._patience)

    def _leased(self, session: Session, name: str) -> JobRow | None:
        rows = session.run(self._dialect.statements[name], self._parameters)
        return claimed_job(self._dialect, rows[0]) if rows else None


def claimed_job(dialect: Dialect, row: Row) -> JobRow:
    """The row of a claim that was, or will be, committed.

    Raises:
        DatabaseError: it cannot be read.
    """
    try:
        return dialect.job(row)
    except DatabaseError as error:
        raise DatabaseError(
            f"{error} (it was claimed all the same, by {row['lease_owner']!r} with token {row['lease_token']}, and is "
            "tried again when that lease ends)"
        ) from error
