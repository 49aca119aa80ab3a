"""One row for each situation that the table of outcomes knows, and a way to make each of its calls."""

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from prompt_studio_model import operations as op
from prompt_studio_model.state import Job, Status

NOW: Final = 10
STALE, CURRENT, FUTURE = 1, 2, 3  # tokens, compared with that of every row below

_QUEUED: Final = Job(
    id=1,
    request=None,
    job_type="evaluation",
    priority=5,
    max_retries=1,
    created_at=0,
    available_at=NOW,
    execution_limit=2,
    executions=1,
    lease_token=CURRENT,
)
_LIVE: Final = _QUEUED._replace(status="processing", lease_owner="a", leased_until=NOW + 1, started_at=0)
_EXPIRED: Final = _LIVE._replace(leased_until=NOW)


def _closed(by: str, row: Job = _QUEUED, **changes: Any) -> Job:  # noqa: ANN401 - any column of the row
    columns: dict[str, Any] = {"closed_token": CURRENT, "closed_by": by} | changes
    return row._replace(**columns)


def _ended(status: Status) -> Job:
    return _QUEUED._replace(status=status, completed_at=5)


ROWS: Final[dict[str, Job | None]] = {
    "absent": None,
    "queued": _QUEUED,
    "delayed": _QUEUED._replace(available_at=NOW + 1),
    "requeued": _closed("fail"),
    "backing_off": _closed("fail", available_at=NOW + 1),
    "released": _closed("release"),
    "live": _LIVE,
    "live_last": _LIVE._replace(executions=2),
    "expired": _EXPIRED,
    "exhausted": _EXPIRED._replace(executions=2),
    "completed": _closed("complete", _ended("completed")),
    "completed_tokenless": _ended("completed"),
    "failed": _closed("fail", _ended("failed")),
    "failed_tokenless": _ended("failed"),
    "cancelled": _ended("cancelled"),
}

_UPDATES: Final[tuple[Status, ...]] = ("queued", "processing", "completed", "failed", "cancelled")
CALLS: Final[dict[str, Callable[..., op.JobCall]]] = {
    "renew": partial(op.Renew, lease=5),
    "complete": op.Complete,
    "fail": op.Fail,
    "fail_for_good": partial(op.Fail, retryable=False),
    "release": op.Release,
    "retry": op.Retry,
    "cancel": op.Cancel,
    **{f"update_{status}": partial(op.UpdateStatus, status=status) for status in _UPDATES},
}


def every_call() -> list[op.JobCall]:
    """Each call with each token, with none, and with none but a name."""
    calls = []
    for operation, call in CALLS.items():
        tokens = (None,) if operation == "cancel" else (None, STALE, CURRENT, FUTURE)
        calls += [call(job_id=1, token=token) for token in tokens]
        calls += [call(job_id=1, owner=owner) for owner in ("a", "b")]
    return calls
