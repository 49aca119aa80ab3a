"""Bad input: an InputError that names the argument and the rule, before anything is written."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from prompt_studio import InputError, PromptStudioDatabase
from tests.conformance.conftest import Create, Open
from tests.conformance.rows import claimed, stored

pytestmark = pytest.mark.conformance

# `Any`: most of these calls are ones that the type checker would refuse.
Call = Callable[[Any], object]


def nested(depth: int) -> list[object]:
    value: list[object] = []
    for _ in range(depth - 1):
        value = [value]
    return value


def endless() -> list[object]:
    value: list[object] = []
    value.append(value)
    return value


def doubling() -> list[object]:
    """Little memory, and 2 to the power of 60 values."""
    value: list[object] = []
    for _ in range(60):
        value = [value, value]
    return value


BAD: dict[str, tuple[str, Call]] = {}


def bad(argument: str, **calls: Call) -> None:
    for name, call in calls.items():
        BAD[f"{argument}: {name}"] = (argument, call)


def with_payload(value: object) -> Call:
    return lambda database: database.create_job("evaluation", 1, value)


def with_result(value: object) -> Call:
    return lambda database: database.complete_job(1, lease_token=1, result=value)


bad(
    "job_type",
    unknown=lambda db: db.create_job("cooking", 1, {}),
    number=lambda db: db.create_job(1, 1, {}),
    none=lambda db: db.create_job(None, 1, {}),
    list=lambda db: db.list_jobs(job_type="cooking"),
    count=lambda db: db.count_jobs(job_type=""),
    entity=lambda db: db.list_jobs_for_entity("cooking", 1),
)
bad(
    "job_types",
    text=lambda db: db.acquire_next_job(job_types="evaluation"),
    empty=lambda db: db.acquire_next_job(job_types=[]),
    number=lambda db: db.acquire_next_job(job_types=1),
    unknown=lambda db: db.acquire_next_job(job_types=["evaluation", "cooking"]),
    unhashable=lambda db: db.acquire_next_job(job_types=[[]]),
)
bad(
    "entity_id",
    text=lambda db: db.create_job("evaluation", "1", {}),
    flag=lambda db: db.create_job("evaluation", entity_id=True, payload={}),
    fraction=lambda db: db.create_job("evaluation", 1.0, {}),
    high=lambda db: db.create_job("evaluation", 2**63, {}),
    low=lambda db: db.create_job("evaluation", -(2**63) - 1, {}),
    endless=lambda db: db.create_job("evaluation", 10**5000, {}),
    record=lambda db: db.record_idempotency("job", "k", entity_id=True, user_id=None),
)
bad("project_id", flag=lambda db: db.create_job("evaluation", 1, {}, project_id=False))
bad(
    "priority",
    low=lambda db: db.create_job("evaluation", 1, {}, priority=0),
    high=lambda db: db.create_job("evaluation", 1, {}, priority=11),
    flag=lambda db: db.create_job("evaluation", 1, {}, priority=True),
    fraction=lambda db: db.create_job("evaluation", 1, {}, priority=5.0),
    none=lambda db: db.create_job("evaluation", 1, {}, priority=None),
)
bad(
    "max_retries",
    low=lambda db: db.create_job("evaluation", 1, {}, max_retries=-1),
    high=lambda db: db.create_job("evaluation", 1, {}, max_retries=2**31 - 1),
)
bad(
    "status",
    begun=lambda db: db.create_job("evaluation", 1, {}, status="processing"),
    unknown=lambda db: db.create_job("evaluation", 1, {}, status="sleeping"),
    list=lambda db: db.list_jobs(status="sleeping"),
    count=lambda db: db.count_jobs(status=7),
    update=lambda db: db.update_job_status(1, "sleeping"),
    token_processing=lambda db: db.update_job_status(1, "processing", lease_token=1),
    token_cancelled=lambda db: db.update_job_status(1, "cancelled", lease_token=1),
    token_completed_error=lambda db: db.update_job_status(1, "completed", lease_token=1, error_message="e"),
    token_failed_result=lambda db: db.update_job_status(1, "failed", lease_token=1, result=1),
    queued_error=lambda db: db.update_job_status(1, "queued", error_message="e"),
    queued_result=lambda db: db.update_job_status(1, "queued", result=0),
    processing_error=lambda db: db.update_job_status(1, "processing", error_message=""),
    token_queued_error=lambda db: db.update_job_status(1, "queued", lease_token=1, error_message="e"),
)
bad("client_id", empty=lambda db: db.create_job("evaluation", 1, {}, client_id=""))
bad(
    "available_at",
    naive=lambda db: db.create_job("evaluation", 1, {}, available_at=datetime.now(UTC).replace(tzinfo=None)),
    number=lambda db: db.create_job("evaluation", 1, {}, available_at=1),
    early=lambda db: db.create_job("evaluation", 1, {}, available_at=datetime(1969, 12, 31, tzinfo=UTC)),
    first=lambda db: db.create_job(
        "evaluation", 1, {}, available_at=datetime.min.replace(tzinfo=timezone(timedelta(hours=14)))
    ),
    last=lambda db: db.create_job("evaluation", 1, {}, available_at=datetime.max.replace(tzinfo=UTC)),
)
bad(
    "payload",
    nan=with_payload({"a": float("nan")}),
    infinity=with_payload([float("-inf")]),
    nul=with_payload({"a": "b\0c"}),
    nul_in_key=with_payload({"b\0c": 1}),
    surrogate=with_payload("\ud83d"),
    key=with_payload({"a": {1: 2}}),
    key_none=with_payload({None: 2}),
    bytes=with_payload(b"x"),
    set=with_payload({1, 2}),
    object=with_payload(object()),
    time=with_payload(datetime.now(UTC)),
    huge=with_payload(10**640),
    giant=with_payload({"a": -(10**5000)}),
    deep=with_payload(nested(101)),
    very_deep=with_payload(nested(100_000)),
    cyclic=with_payload(endless()),
    doubling=with_payload(doubling()),
    many=with_payload([0] * 1_000_000),
    long=with_payload("x" * 2**24),
)
bad("result", nan=with_result(float("nan")), update=lambda db: db.update_job_status(1, "completed", result={1: 2}))
bad(
    "job_id",
    text=lambda db: db.get_job("1"),
    flag=lambda db: db.cancel_job(job_id=True),
    high=lambda db: db.retry_job_record(2**63),
    none=lambda db: db.renew_job_lease(None, lease_token=1),
)
bad("job_uuid", number=lambda db: db.get_job_by_uuid(1), long=lambda db: db.get_job_by_uuid(300 * "x"))
bad(
    "limit",
    none=lambda db: db.list_jobs(limit=None),
    zero=lambda db: db.list_jobs(limit=0),
    high=lambda db: db.list_jobs(limit=2**31),
    entity=lambda db: db.list_jobs_for_entity("evaluation", 1, limit=-1),
)
bad("ascending", text=lambda db: db.list_jobs_for_entity("evaluation", 1, ascending="no"))
bad("warn_seconds", zero=lambda db: db.get_lease_stats(0), high=lambda db: db.get_lease_stats(3601))
bad(
    "older_than_days",
    low=lambda db: db.cleanup_jobs(-1),
    high=lambda db: db.cleanup_jobs(36_501),
    fraction=lambda db: db.cleanup_jobs(0.5),
)
bad(
    "lease_seconds",
    zero=lambda db: db.acquire_next_job(lease_seconds=0),
    high=lambda db: db.acquire_next_job(lease_seconds=3601),
    text=lambda db: db.acquire_next_job(lease_seconds="60"),
    update=lambda db: db.update_job_status(1, "processing", lease_seconds=0),
    not_for_queued=lambda db: db.update_job_status(1, "queued", lease_seconds=5),
    not_with_token=lambda db: db.update_job_status(1, "completed", lease_token=1, lease_seconds=5),
)
bad(
    "leases",
    zero=lambda db: db.acquire_next_job(leases={"evaluation": 0}),
    high=lambda db: db.acquire_next_job(leases={"evaluation": 3601}),
    type=lambda db: db.acquire_next_job(leases={"nothing": 60}),
    list=lambda db: db.acquire_next_job(leases=[("evaluation", 60)]),
)
bad(
    "seconds",
    zero=lambda db: db.renew_job_lease(1, 0, lease_token=1),
    high=lambda db: db.renew_job_lease(1, 3601, lease_token=1),
    fraction=lambda db: db.renew_job_lease(1, 1.5, lease_token=1),
)
bad(
    "worker_id",
    number=lambda db: db.acquire_next_job(worker_id=7),
    nul=lambda db: db.acquire_next_job(worker_id="a\0b"),
    surrogate=lambda db: db.renew_job_lease(1, worker_id="\udc00"),
)
bad(
    "lease_token",
    zero=lambda db: db.complete_job(1, lease_token=0),
    high=lambda db: db.release_job(1, lease_token=2**63),
    flag=lambda db: db.renew_job_lease(1, lease_token=True),
    text=lambda db: db.retry_job_record(1, lease_token=str(1)),
    update=lambda db: db.update_job_status(1, "queued", lease_token=-1),
    complete_none=lambda db: db.complete_job(1, lease_token=None),
    fail_none=lambda db: db.fail_job(1, lease_token=None, error_message="e"),
    release_none=lambda db: db.release_job(1, lease_token=None),
    renew_none=lambda db: db.renew_job_lease(1),
    renew_blank=lambda db: db.renew_job_lease(1, worker_id=" "),
)
bad(
    "error_message",
    bytes=lambda db: db.fail_job(1, lease_token=1, error_message=b"e"),
    reason=lambda db: db.cancel_job(1, reason=7),
    operator=lambda db: db.retry_job_record(1, error_message="e"),
)
bad("retryable", text=lambda db: db.fail_job(1, lease_token=1, error_message="e", retryable="no"))
bad(
    "entity_type",
    empty=lambda db: db.lookup_idempotency("", "k", None),
    number=lambda db: db.record_idempotency(1, "k", 1, None),
)
bad(
    "key",
    empty=lambda db: db.lookup_idempotency("job", "", None),
    long=lambda db: db.record_idempotency("job", 256 * "k", 1, None),
    very_long=lambda db: db.record_idempotency("job", 10_000 * "k", 1, None),
    none=lambda db: db.record_idempotency("job", None, 1, None),
    nul=lambda db: db.record_idempotency("job", "a\0", 1, None),
)
bad(
    "user_id",
    empty=lambda db: db.lookup_idempotency("job", "k", ""),
    number=lambda db: db.lookup_idempotency("job", "k", 7),
    surrogate=lambda db: db.record_idempotency("job", "k", 1, "\ud800"),
)


class TestBadInput:
    @pytest.mark.parametrize(("argument", "call"), BAD.values(), ids=BAD)
    @pytest.mark.verifies("PS-INPUT-1", "PS-INPUT-2", "PS-INPUT-3")
    def test_is_refused_by_name_and_changes_nothing(
        self, database: PromptStudioDatabase, create: Create, argument: str, call: Call
    ) -> None:
        create()
        create()
        before = claimed(database)
        with pytest.raises(InputError, match=rf"\b{argument}\b") as caught:
            call(database)
        assert len(str(caught.value)) < 400
        str(caught.value).encode()
        assert stored(database, before["id"]) == before
        assert (database.count_jobs(), database.count_jobs(status="queued")) == (2, 1)
        assert database.lookup_idempotency("job", "k", None) is None

    def test_goes_up_to_the_limits(self, database: PromptStudioDatabase) -> None:
        payloads: list[object] = [nested(100), 10**640 - 1, -(10**640) + 1, "x" * (2**24 - 2), [0] * 999_999]
        for payload in payloads:
            assert database.create_job("evaluation", 2**63 - 1, payload, priority=10)["payload"] == payload
        for max_retries in (0, 2**31 - 2):
            job = database.create_job("evaluation", -(2**63), {}, max_retries=max_retries)
            assert job["execution_limit"] == max_retries + 1
        last = datetime.max.replace(tzinfo=UTC, microsecond=999_000)
        assert database.create_job("evaluation", 1, {}, available_at=last)["available_at"] == last
        assert claimed(database, lease_seconds=3600)

    @pytest.mark.parametrize("answer", [499, 1001, True, 750.0])
    def test_of_the_dice_is_refused(self, opened: Open, answer: int) -> None:
        with opened(jitter=lambda: answer) as database:
            database.create_job("evaluation", 1, {})
            job = claimed(database)
            with pytest.raises(InputError, match="jitter"):
                database.fail_job(job["id"], lease_token=1, error_message="e")


class TestBadLocation:
    @pytest.mark.parametrize(
        ("location", "says"),
        [
            ("postgresql:host", "begins with postgresql://"),
            ("sqlite:///jobs.db", "plain path"),
            ("file:jobs.db", "plain path"),
            (":memory:", "name a file"),
            ("", "not empty"),
            ("a\0b", "without"),
            (b"jobs.db", "must be a path"),
            (None, "must be a path"),
        ],
    )
    @pytest.mark.verifies("PS-INPUT-1")
    def test_is_refused(self, location: str, says: str) -> None:
        with pytest.raises(InputError, match=says):
            PromptStudioDatabase(location, "tester")

    def test_is_no_client(self, path: Path) -> None:
        with pytest.raises(InputError, match="client_id"):
            PromptStudioDatabase(path, "")
        assert not path.exists()
