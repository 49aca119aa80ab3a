"""What every group of operations needs: run a named statement, decode what comes back, explain a refusal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from prompt_studio.config import Settings
from prompt_studio.jobs import JobRow, JobType, Outcome
from prompt_studio.storage.dialect import NO_PARAMETERS, Dialect, Parameters, Row
from prompt_studio.storage.transactions import Session, Sessions

MILLISECONDS: Final = 1000


class Operations:
    """The ground on which the groups of operations stand."""

    def __init__(self, dialect: Dialect, sessions: Sessions, settings: Settings) -> None:
        self._dialect = dialect
        self._sessions = sessions
        self._settings = settings
        self._claims = dialect.claims(sessions)

    def _run(self, session: Session, name: str, parameters: Parameters = NO_PARAMETERS) -> list[Row]:
        return session.run(self._dialect.statements[name], parameters)

    def _read(self, name: str, parameters: Parameters = NO_PARAMETERS) -> list[Row]:
        return self._sessions.current().read(lambda session: self._run(session, name, parameters))

    def _read_jobs(self, name: str, parameters: Parameters) -> list[JobRow]:
        return [self._dialect.job(row) for row in self._read(name, parameters)]

    def _job(self, session: Session, name: str, parameters: Parameters) -> JobRow | None:
        rows = self._run(session, name, parameters)
        return self._dialect.job(rows[0]) if rows else None

    def _hold(self, session: Session, parameters: Parameters) -> bool:
        """From now on the job's row is as it is, until the transaction ends; False if there was none to hold."""
        return self._dialect.capabilities.one_writer or bool(self._run(session, "hold_job", parameters))

    def _guarded(
        self,
        session: Session,
        statements: Sequence[str],
        parameters: Parameters,
        applied: Callable[[JobRow], Outcome],
        refused: Callable[[JobRow | None], Outcome],
    ) -> Outcome:
        """Try guarded statements in turn; look at the row only to explain why none was applied.

        Where others can write at the same time, a statement that applies is committed by itself. If none does, the
        row is locked and they are tried once more, so that the row which is looked at is the one that refused.
        """

        def tried(session: Session) -> Outcome | None:
            for name in statements:
                job = self._job(session, name, parameters)
                if job is not None:
                    return applied(job)
            return None

        def explained(session: Session) -> Outcome:
            if not self._hold(session, parameters):
                return refused(None)  # a job that is created only now is not the one that was refused
            return tried(session) or refused(self._job(session, "get_job", parameters))

        patience = session.patience()
        if not self._dialect.capabilities.one_writer:
            outcome = session.write(tried, alone=True, patience=patience)
            if outcome is not None:
                return outcome
        return session.write(explained, patience=patience)


def wanted_types(job_types: Sequence[JobType]) -> dict[str, JobType]:
    """The parameters of `job_type IN (:job_type_1, ...)`, which has a place for each type there is."""
    padded = [*job_types, *[job_types[0]] * (len(JobType) - len(job_types))]
    return {f"job_type_{number}": job_type for number, job_type in enumerate(padded, start=1)}
