"""What tests of a manager share: a job that it has claimed, and what becomes of it."""

import asyncio
from typing import Any, Final

from prompt_studio import JobContext, JobManager, JobRow
from tests.conformance.working import LIMIT_SECONDS

PAYLOAD: Final = {"prompt": "Say hello.", "n": 3}


def claimed(manager: JobManager, job_type: str = "evaluation", max_retries: int = 3) -> JobRow:
    manager.create_job(job_type, 7, PAYLOAD, max_retries=max_retries)
    job = manager.get_next_job()
    assert job is not None
    return job


def processed(manager: JobManager, job: JobRow) -> Any:  # noqa: ANN401 - a handler's result
    return asyncio.run(asyncio.wait_for(manager.process_job(job), LIMIT_SECONDS))


def found(manager: JobManager, job: JobRow) -> JobRow:
    row = manager.db.get_job(job["id"])
    assert row is not None
    return row


def context_only(context: JobContext) -> object:
    return context.payload


async def async_context(context: JobContext, more: int = 1) -> object:
    return context.payload["n"] + more
