"""The rules for a job that is to be made, and for those that are wanted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from prompt_studio import values
from prompt_studio.config import LEASE_SECONDS_MAX
from prompt_studio.errors import InputError
from prompt_studio.jobs import JobType
from prompt_studio.storage.job_operations import NewJob

PRIORITY: Final = 5
PRIORITY_MAX: Final = 10
MAX_RETRIES: Final = 3
MAX_RETRIES_MAX: Final = 2**31 - 2


def new_job(
    job_type: object,
    entity_id: object,
    payload: object,
    *,
    project_id: object,
    priority: object,
    max_retries: object,
    client_id: str,
    available_at: object,
) -> NewJob:
    """The job, each of its values checked.

    Raises:
        InputError: one of them breaks its rule.
    """
    return NewJob(
        job_type=values.word("job_type", job_type, JobType),
        entity_id=values.row_id("entity_id", entity_id),
        project_id=None if project_id is None else values.row_id("project_id", project_id),
        priority=values.whole_number("priority", priority, 1, PRIORITY_MAX),
        payload=values.json_text("payload", payload),
        max_retries=values.whole_number("max_retries", max_retries, 0, MAX_RETRIES_MAX),
        client_id=client_id,
        available_at=None if available_at is None else values.milliseconds("available_at", available_at),
    )


def leases_of(job_types: object, usual_seconds: int, leases: object) -> dict[JobType, int]:
    """Which types of jobs are wanted, and for how many seconds each is to be leased.

    Raises:
        InputError: there is no such type, or no such lease.
    """
    wanted = values.words("job_types", job_types, JobType)
    if leases is not None and not isinstance(leases, Mapping):
        raise InputError(f"leases must be None or a dict from job types to seconds, not {values.shown(leases)}")
    own = {
        values.word("leases", job_type, JobType): values.whole_number("leases", seconds, 1, LEASE_SECONDS_MAX)
        for job_type, seconds in (leases or {}).items()
    }
    return {job_type: own.get(job_type, usual_seconds) for job_type in wanted}
