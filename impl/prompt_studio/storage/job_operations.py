"""Jobs at rest: made, found, listed, moved by operators, cleaned up. Nothing here needs a lease."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, cast

from prompt_studio.jobs import JobRow, JobStatus, JobType, Outcome
from prompt_studio.storage.keyed_creates import KeyedCreates, Made, Once
from prompt_studio.storage.operations import MILLISECONDS, wanted_types
from prompt_studio.storage.outcomes import applied, refused_move, refused_retry
from prompt_studio.storage.transactions import Session

DAY_MILLISECONDS: Final = 24 * 60 * 60 * MILLISECONDS
CLEANUP_BATCH_JOBS: Final = 1_000
"""How many old jobs are deleted in one transaction."""

_MOVES: Final = {
    JobStatus.COMPLETED: ("set_completed",),
    JobStatus.FAILED: ("set_failed",),
    JobStatus.CANCELLED: ("set_cancelled",),
    JobStatus.QUEUED: ("requeue_running_job", "retry_failed_job"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """A job that is to be made; all values are checked, the payload is JSON text."""

    job_type: JobType
    entity_id: int
    project_id: int | None
    priority: int
    payload: str
    max_retries: int
    client_id: str
    available_at: int | None


class JobOperations(KeyedCreates):
    """Jobs at rest."""

    def create_job(self, new: NewJob, once: Once | None = None) -> Made[JobRow]:
        """A new queued job, or the one that the key stands for. May be part of the caller's transaction."""

        def create(session: Session) -> tuple[int, JobRow]:
            job = self._new_job(session, new)
            return job["id"], job

        def find(session: Session, job_id: int) -> JobRow | None:
            return self._job(session, "get_job", {"job_id": job_id})

        return self._made(once, create, find, alone=True)

    def _new_job(self, session: Session, new: NewJob, job_uuid: str | None = None) -> JobRow:
        parameters = {
            "uuid": job_uuid or str(uuid.uuid4()),
            "job_type": new.job_type,
            "entity_id": new.entity_id,
            "project_id": new.project_id,
            "priority": new.priority,
            "payload": new.payload,
            "max_retries": new.max_retries,
            "client_id": new.client_id,
            "available_at": new.available_at,
        }
        return cast("JobRow", self._job(session, "create_job", parameters))

    def get_job(self, job_id: int) -> JobRow | None:
        """The job with this id."""
        return next(iter(self._read_jobs("get_job", {"job_id": job_id})), None)

    def get_job_by_uuid(self, job_uuid: str) -> JobRow | None:
        """The job with this uuid."""
        return next(iter(self._read_jobs("get_job_by_uuid", {"uuid": job_uuid})), None)

    def list_jobs(self, status: JobStatus | None, job_types: Sequence[JobType], limit: int) -> list[JobRow]:
        """The first jobs: higher priority first, then older, then lower id."""
        name = "list_jobs" if status is None else f"list_{status}_jobs"
        return self._read_jobs(name, {**wanted_types(job_types), "limit": limit})

    def count_jobs(self, status: JobStatus | None, job_types: Sequence[JobType]) -> int:
        """How many jobs there are."""
        name = "count_jobs" if status is None else f"count_{status}_jobs"
        return int(self._read(name, wanted_types(job_types))[0]["jobs"])

    def list_jobs_for_entity(self, job_type: JobType, entity_id: int, *, limit: int, ascending: bool) -> list[JobRow]:
        """An entity's jobs of one type in the order of their creation, or the reverse."""
        name = "list_jobs_for_entity_ascending" if ascending else "list_jobs_for_entity_descending"
        return self._read_jobs(name, {"job_type": job_type, "entity_id": entity_id, "limit": limit})

    def move(
        self, job_id: int, status: JobStatus, *, error_message: str | None = None, result: str | None = None
    ) -> Outcome:
        """An operator's change of status, except to processing; None keeps the error or result that there is."""
        outcome = self._guarded(
            self._sessions.current(),
            _MOVES[status],
            {"job_id": job_id, "error_message": error_message, "result": result},
            applied,
            lambda job: refused_move(job, status),
        )
        self._claims.moved(outcome)
        return outcome

    def retry_failed(self, job_id: int) -> Outcome:
        """An operator's retry of a failed job."""
        session = self._sessions.current()
        outcome = self._guarded(session, ("retry_failed_job",), {"job_id": job_id}, applied, refused_retry)
        self._claims.moved(outcome)
        return outcome

    def cleanup_jobs(self, older_than_days: int) -> int:
        """How many terminal jobs were deleted, all that ended longer ago than this.

        They are deleted in batches, each committed by itself: the write lock of a file, or the rows and the statement
        of a server, are held for a moment only, however many there are.
        """
        age: dict[str, object] = {"age_milliseconds": older_than_days * DAY_MILLISECONDS}
        session = self._sessions.current()

        def batch(session: Session) -> tuple[int, int]:
            found = self._run(session, "list_jobs_to_clean_up", age | {"limit": CLEANUP_BATCH_JOBS})
            ids = {"ids": json.dumps([row["id"] for row in found])}
            self._run(session, "pick_jobs_to_clean_up", {**age, **ids})
            return len(found), len(self._run(session, "cleanup_jobs", ids))

        total = 0
        while True:
            found, deleted = session.write(batch)
            total += deleted
            # Not `deleted`: of what was found, another session may have deleted some, and yet there may be more.
            if found < CLEANUP_BATCH_JOBS:
                return total
