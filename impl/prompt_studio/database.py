"""`PromptStudioDatabase`: the names and signatures that Prompt Studio calls.

This module checks what callers give and chooses the store by the location; what an operation does is in
`prompt_studio.storage`. The calls on projects, prompts and optimizations are in modules of their own. Every method
checks all of its arguments before it sends anything.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict
from datetime import datetime
from random import SystemRandom
from types import TracebackType
from typing import Final, Self
from uuid import UUID

from prompt_studio import values
from prompt_studio.clock import Clock
from prompt_studio.config import LEASE_SECONDS_MAX, Settings
from prompt_studio.errors import InputError
from prompt_studio.facade import json_or_none
from prompt_studio.fingerprints import fingerprint
from prompt_studio.job_values import MAX_RETRIES, PRIORITY, leases_of, new_job
from prompt_studio.jobs import (
    IdempotencyRecord,
    JobRow,
    JobStats,
    JobStatus,
    JobType,
    LeaseStats,
    Outcome,
)
from prompt_studio.keyed_calls import Wish, operation_of
from prompt_studio.optimization_calls import OptimizationCalls
from prompt_studio.project_calls import ProjectCalls
from prompt_studio.prompt_calls import PromptCalls
from prompt_studio.storage.api import Store
from prompt_studio.storage.capabilities import BackendType, Capabilities
from prompt_studio.storage.claims import Listener, LockCounts
from prompt_studio.storage.keyed_creates import Key, Once
from prompt_studio.storage.opening import dialect_of
from prompt_studio.storage.sql_store import SqlStore

LIST_LIMIT_MAX: Final = 2**31 - 1
CLEANUP_DAYS_MAX: Final = 36_500
SPREAD_MIN: Final = 500
SPREAD_MAX: Final = 1000

_dice: Final = SystemRandom()


def random_spread() -> int:
    """Thousandths of a full back-off, so that jobs which failed together are not tried again together."""
    return _dice.randint(SPREAD_MIN, SPREAD_MAX)


class PromptStudioDatabase(ProjectCalls, PromptCalls, OptimizationCalls):
    """A job queue, its idempotency keys and what they are for, on the database at `location`.

    One object serves all threads of a process; each thread gets a connection of its own, and so does each process
    after a fork. It is a context manager, and closed at the end of the block.
    """

    def __init__(
        self,
        location: str | os.PathLike[str],
        client_id: str,
        *,
        settings: Settings | None = None,
        clock: Clock | None = None,
        jitter: Callable[[], int] | None = None,
        create: bool = True,
    ) -> None:
        """Open the database; an empty or missing one is initialised.

        Args:
            location: a path (SQLite), or a `postgresql://` URL.
            client_id: who makes the jobs, unless `create_job` says otherwise.
            settings: None reads the environment.
            clock: the time to go by instead of the database's own, for tests: see `prompt_studio.clock`.
            jitter: draws the whole number 500..1000 by whose thousandths a back-off is spread.
            create: False refuses a database that is missing or empty.

        Raises:
            InputError: an argument or setting breaks its rule.
            SchemaError: the database is not ours or of another version; it was not altered.
            StoreUnavailable: it cannot be opened; the message says why and what to do.
            TransientConflict: others kept it locked for too long.
        """
        super().__init__()
        self._location, self._clock = location, clock
        self._client_id = values.text("client_id", client_id)
        self._settings = Settings.from_environment(os.environ) if settings is None else settings
        self._jitter = random_spread if jitter is None else jitter
        dialect = dialect_of(location, self._settings, clock=clock, create=create)
        self._store: Store = SqlStore(dialect, self._settings)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def backend_type(self) -> BackendType:
        """Which kind of database this is."""
        return self._store.backend_type

    @property
    def client_id(self) -> str:
        """Who makes the jobs."""
        return self._client_id

    @property
    def settings(self) -> Settings:
        """With what it was opened."""
        return self._settings

    @property
    def capabilities(self) -> Capabilities:
        """What this database can do."""
        return self._store.capabilities

    def opened_again(self, settings: Settings) -> Self:
        """The same database once more, with connections of its own and other settings; closing it is the caller's.

        Raises:
            DatabaseError: as on opening.
        """
        return type(self)(
            self._location, self._client_id, settings=settings, clock=self._clock, jitter=self._jitter, create=False
        )

    def close(self) -> None:
        """Close all connections of this process; later calls raise StoreUnavailable. Closing twice is allowed."""
        self._store.close()

    def close_connection(self) -> None:
        """Close this thread's connection, as a thread does before it ends; its next call opens another."""
        self._store.close_connection()

    def transaction(self) -> AbstractContextManager[None]:
        """Several calls as one: all are committed at the end of the block, or none when it raises.

        Only creates, `record_idempotency`, changes of projects and optimizations, and reads may be part of it; other
        writes raise InputError. Other writers wait for its end, so keep it short. Nothing in it is repeated.
        """
        return self._store.transaction()

    def one_patience(self, *, spent_seconds: float = 0) -> AbstractContextManager[None]:
        """Several calls of this thread that wait for other sessions no longer, in all, than one may.

        For who must answer somebody: each call by itself waits for up to `write_retry_seconds`. What he has waited for
        already, before the first of them, counts as `spent_seconds`.
        """
        return self._store.one_patience(values.number("spent_seconds", spent_seconds, 0, math.inf))

    def get_schema_version(self) -> int:
        """The version of the database's schema: a read of one row, by which it is known that the database answers."""
        return self._store.schema_version()

    # Jobs at rest

    def create_job(
        self,
        job_type: str,
        entity_id: int,
        payload: object,
        *,
        project_id: int | None = None,
        priority: int = PRIORITY,
        status: str = "queued",
        max_retries: int = MAX_RETRIES,
        client_id: str | None = None,
        available_at: datetime | None = None,
        idempotency_key: str | None = None,
        user_id: str | None = None,
        request: object = None,
    ) -> JobRow:
        """A new queued job, which may be acquired from `available_at` on (default: now).

        It starts at most `max_retries + 1` times; released starts and operators' retries do not count. The payload is
        any JSON value and comes back as it was given, tuples as lists. May be part of a `transaction()`.

        With an idempotency key the job is made once for each key of a user: whoever comes second is given the first
        one's, as it is by then, and its row says `replayed`. Rivals wait for each other. After an error, also one that
        leaves it unknown whether the job was made, the same call may be repeated.

        The key has 1 to 255 characters, and a `user_id` of None is a scope of its own. `request` is what two calls must
        have in common to be one request, any JSON value, such as the body as it was received; None stands for the
        arguments of this call.

        Raises:
            IdempotencyMismatch: the key was used for another request.
            EntityGone: the key's job was deleted.
            TransientConflict: a rival with the same key did not come to an end within `write_retry_seconds`.
        """
        if values.word("status", status, JobStatus) is not JobStatus.QUEUED:
            raise InputError(f"status must be queued, not {status}: a new job has not begun")
        new = new_job(
            job_type,
            entity_id,
            payload,
            project_id=project_id,
            priority=priority,
            max_retries=max_retries,
            client_id=self._client(client_id),
            available_at=available_at,
        )
        # Another process that tries again may have another client's name: it counts only where the caller gave it.
        arguments = asdict(new) | {"payload": payload, "client_id": client_id}
        once = Wish(idempotency_key, user_id, request).once("job", arguments)
        return self._answer("job", self._store.create_job(new, once))

    def get_job(self, job_id: int) -> JobRow | None:
        """The job with this id, or None."""
        return self._store.get_job(values.row_id("job_id", job_id))

    def get_job_by_uuid(self, job_uuid: str | UUID) -> JobRow | None:
        """The job with this uuid, or None."""
        return self._store.get_job_by_uuid(
            values.text("job_uuid", str(job_uuid) if isinstance(job_uuid, UUID) else job_uuid)
        )

    def list_jobs(self, *, status: str | None = None, job_type: str | None = None, limit: int = 100) -> list[JobRow]:
        """At most `limit` jobs: higher priority first, then older, then lower id."""
        return self._store.list_jobs(_status_or_any(status), _type_or_any(job_type), _limit(limit))

    def count_jobs(self, *, status: str | None = None, job_type: str | None = None) -> int:
        """How many jobs there are."""
        return self._store.count_jobs(_status_or_any(status), _type_or_any(job_type))

    def get_latest_job_for_entity(self, job_type: str, entity_id: int) -> JobRow | None:
        """The entity's youngest job of this type, or None."""
        return next(iter(self.list_jobs_for_entity(job_type, entity_id, limit=1, ascending=False)), None)

    def list_jobs_for_entity(
        self, job_type: str, entity_id: int, *, limit: int = 50, ascending: bool = True
    ) -> list[JobRow]:
        """At most `limit` jobs of the entity and type, oldest first, or youngest first."""
        return self._store.list_jobs_for_entity(
            values.word("job_type", job_type, JobType),
            values.row_id("entity_id", entity_id),
            limit=_limit(limit),
            ascending=values.flag("ascending", ascending),
        )

    def get_job_stats(self) -> JobStats:
        """Counts by status and type, mean duration, success rate: the queue at one instant."""
        return self._store.job_stats()

    def get_lock_counts(self) -> LockCounts:
        """What happened to advisory locks since this object opened the database; nothing, where there are none."""
        return self._store.lock_counts()

    def get_lease_stats(self, warn_seconds: int = 30) -> LeaseStats:
        """How many leases are live, end within `warn_seconds` (1..3600), or have expired."""
        return self._store.lease_stats(values.whole_number("warn_seconds", warn_seconds, 1, LEASE_SECONDS_MAX))

    def cleanup_jobs(self, older_than_days: int = 30) -> int:
        """How many terminal jobs were deleted: all that ended more than so many days ago (0..36500).

        They go in batches, each committed by itself: a call that raises has kept what it deleted, and can be repeated.
        """
        return self._store.cleanup_jobs(values.whole_number("older_than_days", older_than_days, 0, CLEANUP_DAYS_MAX))

    # Jobs at work

    def acquire_next_job(
        self,
        *,
        worker_id: str | None = None,
        lease_seconds: int | None = None,
        job_types: Collection[str] | None = None,
        leases: Mapping[str, int] | None = None,
    ) -> JobRow | None:
        """The best job that may run now, leased to the caller, or None when there is none.

        Best: higher priority first, then older, then lower id; a job whose lease expired has no special place. The
        row carries the `lease_token` that later calls must show. Without a worker's name one is made up. `leases` has
        the seconds of each type of job whose lease is not to be `lease_seconds` long.
        """
        return self._store.acquire_next_job(
            values.worker_name(worker_id), leases_of(job_types, self._lease_seconds(lease_seconds), leases)
        )

    def renew_job_lease(
        self, job_id: int, seconds: int = 60, *, worker_id: str | None = None, lease_token: int | None = None
    ) -> Outcome:
        """Applied: the lease ends at `now + seconds` or later. Renewing never shortens a lease.

        An expired lease that nobody took is renewed too, and the outcome is `late`. lease_lost and terminal mean that
        the caller must stop working on the job. Without a token the caller's name must be the owner's.
        """
        job_id = values.row_id("job_id", job_id)
        seconds = values.whole_number("seconds", seconds, 1, LEASE_SECONDS_MAX)
        name = values.worker_name(worker_id)
        if lease_token is not None:
            return self._store.renew_lease(job_id, values.fencing_token(lease_token), seconds)
        if name is None:
            raise InputError("renew_job_lease needs the lease_token that acquire_next_job returned (or a worker_id)")
        return self._store.renew_lease_by_owner(job_id, name, seconds)

    def complete_job(self, job_id: int, *, lease_token: int | None, result: object = None) -> Outcome:
        """Applied: the job is completed with this result (any JSON value; None is no result)."""
        return self._store.complete(
            values.row_id("job_id", job_id), _token("complete_job", lease_token), json_or_none("result", result)
        )

    def fail_job(
        self, job_id: int, *, lease_token: int | None, error_message: str | None, retryable: bool = True
    ) -> Outcome:
        """Applied: the attempt has failed. If it is retryable and executions are left the job is queued again.

        It is then available after a pause that doubles with each execution, up to 10 minutes, and is spread by
        `jitter`. The error's text is cleaned and cut to 10,000 characters.
        """
        job_id = values.row_id("job_id", job_id)
        token = _token("fail_job", lease_token)
        error = values.error_text(error_message)
        if not values.flag("retryable", retryable):
            return self._store.fail(job_id, token, error)
        return self._store.fail_or_requeue(job_id, token, error, spread=self._spread())

    def release_job(self, job_id: int, *, lease_token: int | None) -> Outcome:
        """Applied: the job is queued again as if this attempt had not begun, and available at once."""
        return self._store.release(values.row_id("job_id", job_id), _token("release_job", lease_token))

    def forget_lease(self, job_id: int, *, lease_token: int | None) -> None:
        """Stop working on a job without a word to its row, as who learns that its lease is lost.

        On Postgres the job's advisory lock is given back, if it is held for this attempt. The row stays as it is, and
        a lease that has not ended ends by itself.
        """
        self._store.forget_lease(values.row_id("job_id", job_id), _token("forget_lease", lease_token))

    def listener(self) -> Listener | None:
        """Somebody who hears when a job is queued; None where the database cannot say so, and one has to look."""
        return self._store.listener()

    def cancel_job(self, job_id: int, *, reason: str | None = None) -> Outcome:
        """Applied: nobody will begin the job, and whoever works on it will be refused.

        A job that ended otherwise is terminal(completed) or terminal(failed).
        """
        return self._store.move(
            values.row_id("job_id", job_id), JobStatus.CANCELLED, error_message=values.error_text(reason)
        )

    def retry_job_record(
        self, job_id: int, *, lease_token: int | None = None, error_message: str | None = None
    ) -> Outcome:
        """Without a token: a failed job is queued again and may run once more. With one: `fail_job`, retryable."""
        if lease_token is not None:
            return self.fail_job(job_id, lease_token=lease_token, error_message=error_message)
        if error_message is not None:
            raise InputError("error_message must be None when an operator retries a job, which clears its error")
        return self._store.retry_failed(values.row_id("job_id", job_id))

    def update_job_status(
        self,
        job_id: int,
        status: str,
        *,
        error_message: str | None = None,
        result: object = None,
        lease_token: int | None = None,
        worker_id: str | None = None,
        lease_seconds: int | None = None,
    ) -> JobRow | None:
        """The row when the call was applied, now or before; None when refused. The row's own status says where it is.

        With a token completed is `complete_job`, failed is `fail_job` (not retryable), queued is `release_job`.
        Without one it is an operator's move: queued to cancelled; processing to any other; failed to queued; and
        queued to processing, which acquires that very job for `worker_id` and `lease_seconds`.
        """
        job_id = values.row_id("job_id", job_id)
        wanted = values.word("status", status, JobStatus)
        error, value = values.error_text(error_message), json_or_none("result", result)
        name = values.worker_name(worker_id)
        if lease_seconds is not None and (wanted is not JobStatus.PROCESSING or lease_token is not None):
            raise InputError("lease_seconds goes with status processing and no lease_token: leave it out")
        if wanted in _WITHOUT_TEXT and (error is not None or value is not None):
            raise InputError(f"status {wanted} takes neither error_message nor result: leave them out")
        if lease_token is not None:
            outcome = self._close(job_id, wanted, values.fencing_token(lease_token), error, value)
        elif wanted is JobStatus.PROCESSING:
            outcome = self._store.acquire_this_job(job_id, name, self._lease_seconds(lease_seconds))
        else:
            outcome = self._store.move(job_id, wanted, error_message=error, result=value)
        return outcome.job

    def _close(
        self, job_id: int, wanted: JobStatus, lease_token: int, error: str | None, result: str | None
    ) -> Outcome:
        if wanted is JobStatus.COMPLETED and error is None:
            return self._store.complete(job_id, lease_token, result)
        if wanted is JobStatus.FAILED and result is None:
            return self._store.fail(job_id, lease_token, error)
        if wanted is JobStatus.QUEUED:
            return self._store.release(job_id, lease_token)
        raise InputError(
            f"with a lease_token status must be completed (without error_message), failed (without result) or queued, "
            f"not {wanted} as given: renew with renew_job_lease, cancel with cancel_job"
        )

    # Idempotency keys

    def lookup_idempotency(self, entity_type: str, key: str, user_id: str | None) -> int | None:
        """The id of the entity that this user's key stands for, or None.

        No other user's key is looked at, nor one that belongs to nobody (a user_id of None), which is a scope of its
        own. The key of a project is its owner's, who is the client where `create_project` was given no user: it is
        found under that name only. Trouble is an exception, never None.
        """
        return self._store.lookup_idempotency(_key(entity_type, key, user_id))

    def lookup_created(
        self, entity_type: str, key: str, user_id: str | None, request: object, *, operation: str | None = None
    ) -> int | None:
        """The id of the entity that this request has made under this key before, or None.

        For callers that must answer a repeated request before they look at its content. Request and operation are what
        the create was given.

        Raises:
            InputError: the request is no JSON value.
            IdempotencyMismatch: the key was used for another request.
        """
        kind = values.text("entity_type", entity_type)
        once = Once(_key(entity_type, key, user_id), fingerprint(operation_of(kind, operation), request))
        found = self._store.lookup_created(once)
        if found is not None:
            self._creates.note_known(kind)
        return found

    def record_idempotency(self, entity_type: str, key: str, entity_id: int, user_id: str | None) -> IdempotencyRecord:
        """The entity that the key stands for: within retention the one that was recorded first.

        May be part of a `transaction()`.
        """
        return self._store.record_idempotency(_key(entity_type, key, user_id), values.row_id("entity_id", entity_id))

    def cleanup_idempotency(self) -> int:
        """How many keys were deleted: all that have expired. Without a retention in the settings there are none.

        They go in batches, each committed by itself.
        """
        return self._store.cleanup_idempotency()

    def _lease_seconds(self, lease_seconds: int | None) -> int:
        if lease_seconds is None:
            return self._settings.lease_seconds
        return values.whole_number("lease_seconds", lease_seconds, 1, LEASE_SECONDS_MAX)

    def _spread(self) -> int:
        return values.whole_number("jitter's answer", self._jitter(), SPREAD_MIN, SPREAD_MAX)


_WITHOUT_TEXT: Final = {JobStatus.QUEUED, JobStatus.PROCESSING}


def _status_or_any(status: object) -> JobStatus | None:
    return None if status is None else values.word("status", status, JobStatus)


def _type_or_any(job_type: object) -> tuple[JobType, ...]:
    return tuple(JobType) if job_type is None else (values.word("job_type", job_type, JobType),)


def _limit(limit: object) -> int:
    return values.whole_number("limit", limit, 1, LIST_LIMIT_MAX)


def _token(call: str, lease_token: object) -> int:
    if lease_token is None:
        raise InputError(
            f"{call} needs the lease_token that acquire_next_job returned; operators use update_job_status"
        )
    return values.fencing_token(lease_token)


def _key(entity_type: object, key: object, user_id: object) -> Key:
    return Key(values.text("entity_type", entity_type), values.text("key", key), values.user(user_id))
