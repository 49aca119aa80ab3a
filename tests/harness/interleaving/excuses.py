"""What a claim may pass by: jobs that others held, or that could not be leased, at some moment of the call.

A row that another session has locked is passed by. An advisory lock is a courtesy, and not as good: it keeps others
from a queued job only, and only those whom it has not refused for longer than their patience, which is as long as the
lease that they ask for. An expired job is reclaimed whatever its lock says.
"""

from collections.abc import Iterator

from prompt_studio_model import operations as op
from prompt_studio_model.checking.history import Invoked, Lost, Returned
from tests.harness.interleaving.runs import Run, Snapshot

Refused = tuple[str, int, int]
"""Who was refused, which job, and under which token."""


def excuses(run: Run) -> dict[int, frozenset[int]]:
    """For each acquire, by its number, the jobs that it may have passed by. The run must have been looked at."""
    ends = {
        event.number: during
        for event, during in zip(run.events, run.during, strict=True)
        if isinstance(event, (Returned, Lost))
    }
    snapshots = run.snapshots if run.has_locks else [one.without_locks() for one in run.snapshots]
    everywhere = {job.id for one in snapshots for job in one.state.jobs}
    first_refused: dict[Refused, int] = {}
    excused = {}
    for event, begun in zip(run.events, run.during, strict=True):
        if isinstance(event, Invoked) and isinstance(event.invocation, op.Acquire):
            # The snapshot of that number was taken before the step, and the next one after it.
            seen = snapshots[begun : ends.get(event.number, len(run.steps)) + 2]
            lane, patience = event.lane, event.invocation.lease
            excused[event.number] = frozenset(
                job_id
                for job_id in everywhere
                if any(_in_the_way(one, job_id, lane, patience, first_refused) for one in seen)
            )
            for one in seen:
                for refused in _refused(one, lane):
                    first_refused.setdefault(refused, seen[-1].state.now)  # at the latest: then the call had ended
    return excused


def _in_the_way(seen: Snapshot, job_id: int, lane: str, patience: int, first_refused: dict[Refused, int]) -> bool:
    """Whether something kept this lane from the job then, as far as everybody could see."""
    job, now = seen.state.job(job_id), seen.state.now
    if job is None or not job.eligible(now):
        return True
    if any(held == job_id and holder != lane and how == "row" for held, holder, how in seen.held):
        return True
    refused = (lane, job_id, job.lease_token)
    return refused in _refused(seen, lane) and now - first_refused.get(refused, now) <= patience


def _refused(seen: Snapshot, lane: str) -> Iterator[Refused]:
    """The queued jobs whose locks others had then."""
    for job_id, holder, how in seen.held:
        job = seen.state.job(job_id)
        if how == "lock" and holder != lane and job is not None and job.status == "queued":
            yield lane, job_id, job.lease_token
