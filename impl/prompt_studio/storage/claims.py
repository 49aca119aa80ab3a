"""How a job is claimed: what one database does under its write lock, another does with row locks and advisory locks.

Whatever the way, the statement `acquire_best_job` decides who wins, and its guard is the whole of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from prompt_studio.errors import UnreadableJob
from prompt_studio.jobs import ClosedBy, JobRow, Outcome
from prompt_studio.storage.dialect import Dialect, Parameters, Row
from prompt_studio.storage.transactions import Session, Sessions


@dataclass
class LockCounts:
    """What happened at the advisory gate since the database was opened.

    Attributes:
        attempts: how often a lock was tried.
        acquired: how often it was got.
        unlocked: how often one was given back.
        refused: another session had the lock of a queued job, which was passed by.
        without_lock: a job was claimed although another session has its lock: it had expired, or patience was lost.
        unlock_errors: the server said that we do not have a lock that we wanted to give back: a defect.
        sessions_lost: the worker session ended, and its locks with it.
    """

    attempts: int = 0
    acquired: int = 0
    unlocked: int = 0
    refused: int = 0
    without_lock: int = 0
    unlock_errors: int = 0
    sessions_lost: int = 0


class Listener(Protocol):
    """Somebody who hears when a job was queued; used by one thread."""

    def wait(self, seconds: float) -> bool:
        """Whether a job may have been queued, as soon as it may, and False after so many seconds without one.

        True also when it cannot be known, as at the first call: what happened before nobody has heard.

        Raises:
            StoreUnavailable: the session was lost; the next call begins another.
        """

    def close(self) -> None:
        """Hear nothing any more."""


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

    @property
    def counts(self) -> LockCounts:
        """What happened to advisory locks until now; it goes on."""

    def session(self) -> Session:
        """Where closing calls run."""

    def begin(self, lease_seconds: int, parameters: Parameters) -> Claim:
        """A call that acquires, with leases of so many seconds or more."""

    def told(self, job_id: int, lease_token: int, outcome: Outcome, closing: ClosedBy | None) -> None:
        """Hear what a call with a token was answered; `closing` is None for a renewal."""

    def moved(self, outcome: Outcome) -> None:
        """Hear what an operator's move was answered."""

    def forget(self, job_id: int, lease_token: int) -> None:
        """Hear that nobody here works under this token any more, whatever the row says."""

    def listener(self) -> Listener | None:
        """Somebody who hears when a job was queued, where the database can say so."""

    def close(self) -> None:
        """Give everything back."""


class OneWriterClaims:
    """Claims where write transactions follow one another: nothing is locked but the database, and only for a moment."""

    def __init__(self, dialect: Dialect, sessions: Sessions) -> None:
        self._dialect = dialect
        self._sessions = sessions
        self.counts: Final = LockCounts()

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

    def forget(self, job_id: int, lease_token: int) -> None:
        """There is nothing to give back."""

    def listener(self) -> Listener | None:
        """A file says nothing to anybody."""
        return None

    def close(self) -> None:
        """There is nothing to give back."""


class _OneWriterClaim:
    def __init__(self, dialect: Dialect, session: Session, parameters: Parameters) -> None:
        self._dialect = dialect
        self._session = session
        self._parameters = parameters
        self._patience = session.patience()

    def step(self, *, fails_exhausted: bool) -> Step:
        def fail_or_claim(session: Session) -> list[Row] | None:
            if fails_exhausted and self._run(session, "fail_best_exhausted_job"):
                return None
            return self._run(session, "acquire_best_job")

        rows = self._session.write(fail_or_claim, patience=self._patience)
        return Step(exhausted=True) if rows is None else self._leased(rows)

    def this(self) -> Step:
        return self._leased(
            self._session.write(lambda session: self._run(session, "acquire_this_job"), patience=self._patience)
        )

    def _run(self, session: Session, name: str) -> list[Row]:
        return session.run(self._dialect.statements[name], self._parameters)

    def _leased(self, rows: list[Row]) -> Step:
        """After the commit: a row that cannot be read would else be rolled back, and be the next claim's again."""
        return Step(exhausted=False, job=claimed_job(self._dialect, rows[0]) if rows else None)


def claimed_job(dialect: Dialect, row: Row) -> JobRow:
    """The row of a claim that was committed.

    Raises:
        UnreadableJob: it cannot be read.
    """
    try:
        return dialect.job(row)
    except UnreadableJob as error:
        raise UnreadableJob(
            f"{error} (it was claimed all the same, by {row['lease_owner']!r} with token {row['lease_token']})",
            job_id=error.job_id,
            lease_token=error.lease_token,
        ) from error
