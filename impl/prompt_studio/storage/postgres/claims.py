"""Claims by several sessions at once: row locks decide, and an advisory lock keeps workers out of each other's way.

Advisory locks belong to a server session, are counted, survive a rollback, and can be given back by their own session
only. So one connection of each opened database, the worker session, runs every claim, every closing call, and every
unlock; threads take turns on it. It keeps a map from job to token: a lock that is in the map is not tried again (the
server would grant it once more, without a word), and is given back only for the attempt that the map names. Whatever
interrupts a call between a lock and its entry in the map ends the session, and the locks with it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from prompt_studio.config import Settings
from prompt_studio.errors import DatabaseError, StoreUnavailable, TransientConflict
from prompt_studio.jobs import ClosedBy, JobRow, Outcome, OutcomeKind
from prompt_studio.storage.claims import Claim, Listener, LockCounts, Step, claimed_job
from prompt_studio.storage.dialect import Dialect, Parameters, Row
from prompt_studio.storage.patience import Patience
from prompt_studio.storage.postgres.connection import PostgresConnection
from prompt_studio.storage.postgres.listening import PostgresListener
from prompt_studio.storage.transactions import Session, Sessions, held

_log: Final = logging.getLogger(__name__)
_OVER: Final = frozenset({OutcomeKind.LEASE_LOST, OutcomeKind.TERMINAL, OutcomeKind.NOT_FOUND})

REFUSALS_MAX: Final = 10_000
"""How many refusals are remembered; the oldest is forgotten first, and most are of jobs that have long been claimed."""

Attempt = tuple[int, int]
"""A job's id and the fencing token that its row has."""


@dataclass
class Memory:
    """What a worker session knows about advisory locks; it is forgotten with the session."""

    held: dict[int, int] = field(default_factory=dict)
    """The jobs whose lock it has, and the token of the attempt that each is for."""
    session: int = 0


class PostgresClaims:
    """Claims of one opened database, with its worker session."""

    def __init__(
        self, dialect: Dialect, sessions: Sessions, settings: Settings, connect: Callable[[], PostgresConnection]
    ) -> None:
        self.dialect: Final = dialect
        self.counts: Final = LockCounts()
        self.locks: Final = settings.advisory_locks
        self.patience_seconds: Final = settings.patience_seconds
        self.claim_seconds: Final = settings.statement_seconds
        self.refusals: Final[dict[Attempt, datetime]] = {}
        """When the lock of a queued job was first refused, by the database's clock. The worker loses patience, and not
        his session: where sessions end whenever they idle, a job that somebody has locked would be stranded else."""
        self._sessions = sessions
        self._connect = connect
        self._listens = dialect.capabilities.notifications
        self._connection = connect()
        self._worker = sessions.opened(self._connection)
        self._memory = Memory()
        self._closed = False

    def session(self) -> Session:
        """The worker session; this thread's own where there are no locks to hold."""
        if not self.locks:
            return self._sessions.current()
        if self._closed:
            raise StoreUnavailable("this database was closed: open it again")
        return self._worker

    def begin(self, lease_seconds: int, parameters: Parameters) -> Claim:
        """A call that acquires."""
        return _PostgresClaim(self, lease_seconds, parameters)

    def told(self, job_id: int, lease_token: int, outcome: Outcome, closing: ClosedBy | None) -> None:
        """Give the lock back if the answer shows that the attempt with this token is over."""
        if outcome.kind in _OVER or (closing is not None and outcome):  # impl: PS-LOCKS-2
            self._give_back(job_id, lease_token)

    def moved(self, outcome: Outcome) -> None:
        """Give the lock back if an operator's move ended the attempt that this very session holds it for."""
        if outcome.kind is OutcomeKind.APPLIED and outcome.job is not None:
            self._give_back(outcome.job["id"], outcome.job["lease_token"])

    def forget(self, job_id: int, lease_token: int) -> None:
        """Give the lock back that is held for this attempt, if one is."""
        self._give_back(job_id, lease_token)

    def listener(self) -> Listener | None:
        """Somebody who hears when a job was queued, on a session of its own."""
        return PostgresListener(self._connect()) if self._listens else None

    def close(self) -> None:
        """End the worker session, and its locks with it."""
        self._closed = True
        if not self._worker.end():
            raise StoreUnavailable("another thread is in the middle of a claim: let it end, then close again")

    def memory(self) -> Memory:
        """What the worker session knows; nothing, if it is not the session that learned it."""
        self._connection.begun()
        return self._remembered()

    def _remembered(self) -> Memory:
        """The same, without beginning a session: what was just done on it is committed, and fails no more."""
        begun = self._connection.sessions_begun
        if begun != self._memory.session:
            self.counts.sessions_lost += self._memory.session > 0
            self._memory = Memory(session=begun)
        return self._memory

    def first_refused(self, attempt: Attempt, now: datetime) -> datetime:
        """When the lock of a queued job was first refused for this attempt: now, if it never was before."""
        with held(self._connection):
            if attempt not in self.refusals and len(self.refusals) >= REFUSALS_MAX:
                del self.refusals[next(iter(self.refusals))]
            return self.refusals.setdefault(attempt, now)

    def claimed(self, parameters: Parameters, name: str) -> Row | None:
        """Run a claiming statement on the worker session, and keep the map true, whatever becomes of it."""
        if not self.locks:  # impl: PS-LOCKS-4
            no_locks = {"advisory_locks": False, "held": []}
            return _first(self.session().run(self.dialect.statements[name], {**parameters, **no_locks}))
        with held(self._connection):
            asked = {**parameters, "advisory_locks": True, "held": list(self.memory().held)}
            try:
                return self._noted(name, asked)
            except DatabaseError:
                raise
            except BaseException:
                self._connection.close()  # interrupted: a lock may be held that the map lacks
                raise

    def _noted(self, name: str, asked: Parameters) -> Row | None:
        try:
            row = _first(self.session().run(self.dialect.statements[name], asked))
        except DatabaseError:
            self._give_back_unknown()
            raise
        if row is not None:
            self._note(self._remembered(), row)
        return row

    def _note(self, memory: Memory, row: Row) -> None:
        job_id, won = row["candidate"], row["id"] is not None
        self.counts.attempts += row["locked"] is not None
        self.counts.acquired += row["locked"] is True
        if won and (row["locked"] or job_id in memory.held):
            memory.held[job_id] = row["lease_token"]
        elif won:
            self.counts.without_lock += 1
        elif row["locked"]:
            self._unlock(job_id)

    def _give_back(self, job_id: int, lease_token: int) -> None:
        if job_id not in self._memory.held:
            return
        with held(self._connection):
            memory = self._remembered()
            try:
                if memory.held.get(job_id) == lease_token:  # impl: PS-LOCKS-8
                    self._unlock(job_id)
                    del memory.held[job_id]
            except BaseException:
                self._connection.close()  # interrupted: the lock may be gone that the map has
                raise

    def _unlock(self, job_id: int) -> None:
        """Give a lock back; the change of state that it was for has been committed."""
        begun, facts = self._connection.sessions_begun, {"job_id": job_id, "lease_token": self._memory.held.get(job_id)}
        try:
            rows = self._worker.run(self.dialect.statements["unlock_job"], {"job_id": job_id})  # impl: PS-LOCKS-7
        except DatabaseError as error:
            # The change was committed: its answer stands. Without the session there is no lock.
            _log.warning("the lock of job %s goes with its session: %s", job_id, error, extra=facts)
            self._connection.close()
            return
        self.counts.unlocked += rows[0]["unlocked"]
        if not rows[0]["unlocked"] and self._connection.sessions_begun == begun:
            self.counts.unlock_errors += 1
            _log.error("the lock of job %s was to be given back, and was not held", job_id, extra=facts)

    def _give_back_unknown(self) -> None:
        """After an error in a claim a lock may be held whose id nobody was told: give back what the map lacks."""
        if not self._connection.has_session:
            return  # it was lost, and its locks with it
        try:
            # It may be a new one, which the claim itself began: then no lock of it is in the map.
            known = self.memory().held
            rows = self._worker.run(self.dialect.statements["own_locks"])
        except DatabaseError as error:
            _log.warning("locks are given back by ending their session: %s", error)
            self._connection.close()
            return
        for row in rows:
            if row["job_id"] not in known:
                self._unlock(row["job_id"])


def _first(rows: list[Row]) -> Row | None:
    return rows[0] if rows else None


class _PostgresClaim:
    """One call that acquires: it passes by the queued jobs that others have locked, within its patience."""

    def __init__(self, claims: PostgresClaims, lease_seconds: int, parameters: Parameters) -> None:
        patience = lease_seconds if claims.patience_seconds is None else claims.patience_seconds
        self._claims = claims
        self._patience = timedelta(seconds=patience)
        self._parameters = parameters
        self._refused: list[int] = []
        self._impatient: list[str] = []
        self._limit = claims.session().patience()
        # To pass by is work and no wait for others, so it may take as long as a statement may: a queue of locked jobs
        # is then left to the next call, which remembers them.
        self._passing = Patience(claims.claim_seconds)

    def step(self, *, fails_exhausted: bool) -> Step:
        while True:
            row = self._asked("acquire_best_job", fails_exhausted=fails_exhausted)
            if row is None:
                return Step(exhausted=False)
            if row["spent"] is not None:
                return Step(exhausted=True)
            job = self._job(row)
            if job is not None:
                return Step(exhausted=False, job=job)
            self._note_refusal(row)
            self._passing.check(TransientConflict("other sessions hold the locks of too many queued jobs"))

    def this(self) -> Step:
        while True:
            row = self._asked("acquire_this_job")
            job = None if row is None else self._job(row)
            if row is None or job is not None:
                return Step(exhausted=False, job=job)
            self._note_refusal(row)
            if row["candidate"] in self._refused:
                return Step(exhausted=False, refused=True)

    def _asked(self, name: str, **more: Any) -> Row | None:  # noqa: ANN401 - parameters of a statement
        known = {"refused": self._refused, "impatient": self._impatient}
        return self._limit.retry(lambda: self._claims.claimed({**self._parameters, **known, **more}, name))

    def _job(self, row: Row) -> JobRow | None:
        return None if row["id"] is None else claimed_job(self._claims.dialect, row)

    def _note_refusal(self, row: Row) -> None:
        """Remember the refusal; from the one on that exceeds the patience, claim without the lock.

        Raises:
            TransientConflict: again and again somebody was faster.
        """
        if row["locked"] is not False:
            # Nobody refused, and yet the guard did: somebody changed the row in between. The next best is looked for.
            self._limit.check(TransientConflict("others were faster each time"))
            return
        attempt = (row["candidate"], row["candidate_token"])
        first = self._claims.first_refused(attempt, row["read_at"])
        if row["read_at"] - first > self._patience:  # impl: PS-LOCKS-6
            self._impatient.append(f"{attempt[0]}/{attempt[1]}")
        else:
            self._claims.counts.refused += 1
            self._refused.append(row["candidate"])
