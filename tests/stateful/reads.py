"""Every read, compared with what the agreed state says it must be."""

from collections import Counter

from hypothesis import strategies as st

from prompt_studio_model.state import Job, State, claim_order
from tests.harness.adapter import SECOND
from tests.harness.lockstep import Lockstep
from tests.harness.violation import Violation
from tests.stateful.targets import STATUSES, TYPES, targets

TARGETS = targets()


def check(data: st.DataObject, lockstep: Lockstep) -> None:
    """Draw a read, make it, and judge its answer and that it changed nothing."""
    name = data.draw(st.sampled_from(["get", "list", "entity", "stats", "leases"]))
    asked, expected, told = {"get": _get, "list": _list, "entity": _entity, "stats": _stats, "leases": _leases}[name](
        data, lockstep
    )
    if expected != told:
        raise Violation(["conformance"], f"{asked}\n  expected {expected}\n  was told {told}")
    lockstep.unchanged()


def _get(data: st.DataObject, lockstep: Lockstep) -> tuple[str, object, object]:
    adapter = lockstep.adapter
    job_id, job = data.draw(TARGETS)
    database = adapter.session("operator")
    row = database.get_job(adapter.real_id(job_id))
    again = None if row is None else database.get_job_by_uuid(row["uuid"])
    told = (None if row is None else adapter.job(row), None if again is None else adapter.job(again))
    return f"get_job({job_id}), and by its uuid", (job, job), told


def _list(data: st.DataObject, lockstep: Lockstep) -> tuple[str, object, object]:
    adapter, database = lockstep.adapter, lockstep.adapter.session("operator")
    status, job_type = data.draw(st.sampled_from([None, *STATUSES])), data.draw(st.sampled_from([None, *TYPES]))
    limit = data.draw(st.integers(1, 4))
    jobs = [job for job in lockstep.state.jobs if status in {None, job.status} and job_type in {None, job.job_type}]
    listed = [adapter.job(row) for row in database.list_jobs(status=status, job_type=job_type, limit=limit)]
    told = (listed, database.count_jobs(status=status, job_type=job_type))
    return f"list_jobs({status}, {job_type}, {limit})", (sorted(jobs, key=claim_order)[:limit], len(jobs)), told


def _entity(data: st.DataObject, lockstep: Lockstep) -> tuple[str, object, object]:
    adapter, database = lockstep.adapter, lockstep.adapter.session("operator")
    entity_id, job_type = data.draw(st.integers(-1, 2)), data.draw(st.sampled_from(TYPES))
    ascending = data.draw(st.booleans())
    jobs = [job for job in lockstep.state.jobs if job.job_type == job_type and _entity_of(job) == entity_id]
    ordered = sorted(jobs, key=lambda job: (job.created_at, job.id), reverse=not ascending)
    newest = max(jobs, key=lambda job: (job.created_at, job.id), default=None)
    rows = database.list_jobs_for_entity(job_type, entity_id, ascending=ascending)
    latest = database.get_latest_job_for_entity(job_type, entity_id)
    told = ([adapter.job(row) for row in rows], None if latest is None else adapter.job(latest))
    return f"list_jobs_for_entity({job_type}, {entity_id}, {ascending})", (ordered, newest), told


def _entity_of(job: Job) -> object:
    return job.request[0] if isinstance(job.request, tuple) else None


def _stats(_: st.DataObject, lockstep: Lockstep) -> tuple[str, object, object]:
    jobs = lockstep.state.jobs
    done = [job for job in jobs if job.status == "completed"]
    ended = [job for job in jobs if job.status in {"completed", "failed"}]
    milliseconds = sum((job.completed_at or 0) - (job.started_at or 0) for job in done)
    statuses, types = Counter(job.status for job in jobs), Counter(job.job_type for job in jobs)
    expected = {
        "by_status": {status: statuses[status] for status in STATUSES},
        "by_type": {job_type: types[job_type] for job_type in TYPES},
        "avg_processing_time_seconds": milliseconds / SECOND / len(done) if done else 0.0,
        "success_rate": 100.0 * len(done) / len(ended) if ended else 0.0,
        "queue_depth": statuses["queued"],
        "processing": statuses["processing"],
    }
    return "get_job_stats()", expected, lockstep.adapter.session("operator").get_job_stats()


def _leases(data: st.DataObject, lockstep: Lockstep) -> tuple[str, object, object]:
    warning = data.draw(st.sampled_from([1, 30, 3_600]))
    expected = lease_figures(lockstep.state, warning * SECOND)
    return f"get_lease_stats({warning})", expected, lockstep.adapter.session("operator").get_lease_stats(warning)


def lease_figures(state: State, warning: int) -> dict[str, int]:
    """Count live leases, those that end within `warning` milliseconds, and expired ones."""
    left = [job.leased_until - state.now for job in state.jobs if job.leased_until is not None]
    return {
        "active": sum(time > 0 for time in left),
        "expiring_soon": sum(0 < time <= warning for time in left),
        "stale_processing": sum(time <= 0 for time in left),
    }
