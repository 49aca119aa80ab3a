"""The rules for a job that is to be made."""

from __future__ import annotations

from typing import Final

from prompt_studio import values
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
