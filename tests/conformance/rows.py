"""Short ways to jobs in a certain state."""

from prompt_studio import JobRow, PromptStudioDatabase


def claimed(database: PromptStudioDatabase, lease_seconds: int = 60, worker_id: str | None = "worker") -> JobRow:
    """The next job, which must be there."""
    job = database.acquire_next_job(worker_id=worker_id, lease_seconds=lease_seconds)
    assert job is not None
    return job


def stored(database: PromptStudioDatabase, job_id: int) -> JobRow:
    """A job as it is in the database, which must be there."""
    job = database.get_job(job_id)
    assert job is not None
    return job
