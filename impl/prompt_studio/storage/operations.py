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

        A row is read when it is committed: one that cannot be read can still be closed.
        """

        def tried(session: Session) -> Row | None:
            answers = (self._run(session, name, parameters) for name in statements)
            return next((rows[0] for rows in answers if rows), None)

        def explained(session: Session) -> tuple[Row | None, bool]:
            if not self._hold(session, parameters):
                return None, False  # a job that is created only now is not the one that was refused
            row = tried(session)
            if row is not None:
                return row, True
            return next(iter(self._run(session, "get_job", parameters)), None), False

        patience, row = session.patience(), None
        if not self._dialect.capabilities.one_writer:
            row = session.write(tried, alone=True, patience=patience)
        row, is_applied = (row, True) if row is not None else session.write(explained, patience=patience)
        if row is not None and is_applied:
            return applied(self._dialect.job(row))
        return refused(None if row is None else self._dialect.job(row))


def wanted_types(job_types: Sequence[JobType]) -> dict[str, JobType]:
    """The parameters of `job_type IN (:job_type_1, ...)`, which has a place for each type there is."""
    padded = [*job_types, *[job_types[0]] * (len(JobType) - len(job_types))]
    return {f"job_type_{number}": job_type for number, job_type in enumerate(padded, start=1)}
