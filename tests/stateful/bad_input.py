"""Calls that a store must refuse with an InputError, whatever its state, before anything is written."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final, NamedTuple

from prompt_studio import InputError, PromptStudioDatabase
from tests.harness.lockstep import Lockstep
from tests.harness.violation import Violation


class Case(NamedTuple):
    """One malformed call, by what is wrong with it."""

    name: str
    call: Callable[[PromptStudioDatabase, int], object]


def _create(**wrong: Any) -> Callable[[PromptStudioDatabase, int], object]:  # noqa: ANN401 - wrong on purpose
    arguments: dict[str, Any] = {"job_type": "evaluation", "entity_id": 1, "payload": {}} | wrong
    return lambda database, _: database.create_job(**arguments)


def _record(**wrong: Any) -> Callable[[PromptStudioDatabase, int], object]:  # noqa: ANN401 - wrong on purpose
    arguments: dict[str, Any] = {"entity_type": "prompt", "key": "key", "entity_id": 1, "user_id": "ann"} | wrong
    return lambda database, _: database.record_idempotency(**arguments)


CASES: Final = (
    Case("unknown type", _create(job_type="lunch")),
    Case("priority 0", _create(priority=0)),
    Case("priority 11", _create(priority=11)),
    Case("a bool as priority", _create(priority=True)),
    Case("a fraction as priority", _create(priority=5.0)),
    Case("retries below 0", _create(max_retries=-1)),
    Case("an id beyond 64 bits", _create(entity_id=2**63)),
    Case("text as an id", _create(entity_id="1")),
    Case("not queued", _create(status="processing")),
    Case("NaN in a payload", _create(payload={"score": float("nan")})),
    Case("infinity in a payload", _create(payload=[float("-inf")])),
    Case("NUL in a payload", _create(payload={"text": "a\0b"})),
    Case("a lone surrogate in a payload", _create(payload=["\ud800"])),
    Case("a number as a JSON key", _create(payload={1: "one"})),
    Case("an object in a payload", _create(payload=object())),
    Case("a time without a zone", _create(available_at=datetime.fromisoformat("2030-01-01T00:00:00"))),
    Case("lease of 0 s", lambda database, _: database.acquire_next_job(lease_seconds=0)),
    Case("lease above an hour", lambda database, _: database.acquire_next_job(lease_seconds=3_601)),
    Case("a fraction as a lease", lambda database, _: database.acquire_next_job(lease_seconds=1.5)),  # type: ignore[arg-type]
    Case("no wanted type", lambda database, _: database.acquire_next_job(job_types=[])),
    Case("unknown wanted type", lambda database, _: database.acquire_next_job(job_types=["lunch"])),
    Case("renewal of 0 s", lambda database, job_id: database.renew_job_lease(job_id, 0, lease_token=1)),
    Case("token 0", lambda database, job_id: database.release_job(job_id, lease_token=0)),
    Case("a bool as a token", lambda database, job_id: database.release_job(job_id, lease_token=True)),
    Case("no token", lambda database, job_id: database.complete_job(job_id, lease_token=None, result=1)),
    Case("NaN as a result", lambda database, job_id: database.complete_job(job_id, lease_token=1, result=float("nan"))),
    Case("unknown status", lambda database, job_id: database.update_job_status(job_id, "done")),
    Case(
        "an error for queued", lambda database, job_id: database.update_job_status(job_id, "queued", error_message="x")
    ),
    Case("empty key", _record(key="")),
    Case("key of 256 characters", _record(key="k" * 256)),
    Case("key of 10,000 characters", _record(key="k" * 10_000)),
    Case("NUL in a key", _record(key="a\0b")),
    Case("empty user", _record(user_id="")),
    Case("empty entity type", _record(entity_type="")),
    Case("a bool as an entity", _record(entity_id=True)),
    Case("days below 0", lambda database, _: database.cleanup_jobs(-1)),
)


def check(case: Case, lockstep: Lockstep) -> None:
    """Make the malformed call and judge that it was refused and that nothing changed."""
    adapter = lockstep.adapter
    try:
        answer = case.call(adapter.session("operator"), adapter.real_id(1))
    except InputError:
        lockstep.unchanged()
    else:
        raise Violation(["conformance"], f"{case.name} was accepted: {answer}")
