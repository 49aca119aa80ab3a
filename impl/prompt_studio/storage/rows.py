"""A row of the job table as callers see it, whatever database it came from."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

from prompt_studio.errors import UnreadableJob
from prompt_studio.jobs import ClosedBy, JobRow, JobStatus, JobType
from prompt_studio.storage.dialect import Row


def job_row(row: Row, instant: Callable[[Any], datetime]) -> JobRow:
    """The row as a caller's dict. `instant` makes an aware UTC datetime of a stored time.

    Raises:
        UnreadableJob: a value in it cannot be read; only a hand puts such a one there.
    """
    try:
        return _job_row(row, instant)
    except (ArithmeticError, AttributeError, RecursionError, TypeError, ValueError) as error:
        raise UnreadableJob(
            f"job {row['id']} cannot be read: {error}: if its row was changed by hand, mend it",
            job_id=row["id"],
            lease_token=row["lease_token"],
        ) from error


def _job_row(row: Row, instant: Callable[[Any], datetime]) -> JobRow:
    return {
        "id": row["id"],
        "uuid": row["uuid"],
        "job_type": JobType(row["job_type"]),
        "entity_id": row["entity_id"],
        "project_id": row["project_id"],
        "priority": row["priority"],
        "status": JobStatus(row["status"]),
        "payload": json.loads(row["payload"]),
        "result": None if row["result"] is None else json.loads(row["result"]),
        "error_message": row["error_message"],
        "retry_count": row["retry_count"],
        "max_retries": row["max_retries"],
        "client_id": row["client_id"],
        "created_at": instant(row["created_at"]),
        "started_at": None if row["started_at"] is None else instant(row["started_at"]),
        "completed_at": None if row["completed_at"] is None else instant(row["completed_at"]),
        "leased_until": None if row["leased_until"] is None else instant(row["leased_until"]),
        "lease_owner": row["lease_owner"],
        "lease_token": row["lease_token"],
        "available_at": instant(row["available_at"]),
        "executions": row["executions"],
        "execution_limit": row["execution_limit"],
        "was_reclaim": bool(row["was_reclaim"]),
        "late": bool(row["late"]),
        "closed_token": row["closed_token"],
        "closed_by": None if row["closed_by"] is None else ClosedBy(row["closed_by"]),
    }
