"""The one place where the model and a store meet: invocation -> store call -> response, and tables -> state.

The two share no types, so that one mistake cannot hide in both; this file is the whole translation. It is dull on
purpose: no decision of the queue is taken here. Ids are matched in the order of creation, times are counted from the
start of the virtual clock, and a name that the store made up for a nameless worker is known by its first attempt.
"""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol, cast

import prompt_studio
import prompt_studio_model
from prompt_studio import (
    DatabaseError,
    EntityGone,
    IdempotencyMismatch,
    InputError,
    InvariantViolation,
    JobRow,
    Outcome,
    PromptStudioDatabase,
)
from prompt_studio_model import operations as op
from prompt_studio_model.locks import forget_stale_refusals
from prompt_studio_model.state import (
    AdvisoryLock,
    Closing,
    IdempotencyRow,
    Job,
    Refusal,
    Scope,
    Session,
    State,
    Status,
)

SECOND: Final = 1_000
DAY: Final = 24 * 60 * 60 * SECOND
START: Final = 1_700_000_000_000
"""Where the virtual clock begins, in milliseconds since 1970."""
SOURCES: Final = Path(prompt_studio.__file__).parents[2]
"""Where the store under test came from, for the certificate."""
MODEL_SOURCES: Final = Path(prompt_studio_model.__file__).parents[2]
"""The same of the model."""

JOB: Final = "job"
"""The entity type of the keys that stand for jobs, whose ids are matched."""

FINGERPRINTS: Final = ("one", "two")
"""The requests that creates with a key are made for; the store knows each by its digest."""

_DIGESTS: Final = {
    sha256(b'create_job\n{"fingerprint":"' + name.encode() + b'"}').hexdigest(): name for name in FINGERPRINTS
}

Database = PromptStudioDatabase
DatabaseTrouble = DatabaseError
"""What those must name who speak the model's language and hold a store's object."""


class SessionSeen(NamedTuple):
    """A session's advisory locks as (job id, token), and its refusals as (job id, token, since, in ms of 1970)."""

    locks: list[tuple[int, int]]
    refusals: list[tuple[int, int, int]]


class Seen(NamedTuple):
    """A database at a moment: its rows by id, and its sessions by name."""

    jobs: list[dict[str, Any]]
    keys: list[dict[str, Any]]
    sessions: Mapping[str, SessionSeen]


class Deployment(Protocol):
    """A database under test, and its tables behind the store's back, with times in milliseconds since 1970."""

    def open_session(self, clock: "VirtualClock", spread: Callable[[], int]) -> PromptStudioDatabase:
        """A database object with sessions of its own."""

    def crash_session(self, database: PromptStudioDatabase) -> bool:
        """End its sessions with the server; whether the object can go on, with new ones."""

    def close(self, databases: list[PromptStudioDatabase]) -> None:
        """Let go of these and of whatever else was opened."""

    def set_time(self, milliseconds: int) -> None:
        """Hear that the clock was moved."""

    def seen(self, databases: Mapping[str, PromptStudioDatabase]) -> Seen:
        """The rows, and what each of these sessions holds and remembers."""


class RefusedByDatabase(Exception):
    """A CHECK of the schema stopped a write. `invariant` is the name of the promise that it would have broken."""

    def __init__(self, message: str, *, invariant: str) -> None:
        super().__init__(message)
        self.invariant = invariant


class VirtualClock:
    """Time that moves only when a test says so, the same for every session."""

    def __init__(self, moved: Callable[[int], None] = lambda _: None) -> None:
        self.milliseconds = START
        self._moved = moved

    def move(self, milliseconds: int) -> None:
        """Go on by so much, and tell whoever keeps the time elsewhere."""
        self.milliseconds += milliseconds
        self._moved(self.milliseconds)

    def now_milliseconds(self) -> int:
        """Whole milliseconds since 1970-01-01 UTC, as the store asks for them."""
        return self.milliseconds


def text_of(value: object) -> str | None:
    """Return a JSON value as the model holds it: opaque, hashable, and different where JSON differs."""
    return None if value is None else json.dumps(value, sort_keys=True)


class Adapter:
    """A store as the model sees it. One database object for each session, opened when it is first used."""

    def __init__(self, deployment: Deployment) -> None:
        self.clock = VirtualClock(deployment.set_time)
        self._deployment = deployment
        self._sessions: dict[str, PromptStudioDatabase] = {}
        self._ids: list[int] = []  # real ids in the order of creation: the model's id n is the n-th
        self._uuids: dict[int, str] = {}
        self._given_names: set[str] = set()
        self._made_up_names: dict[str, str] = {}
        self._spread = 1_000
        self._calls: Final[dict[type[op.Invocation], Callable[[PromptStudioDatabase, Any], op.Response]]] = {
            op.Renew: self._renew,
            op.Complete: self._complete,
            op.Fail: self._fail,
            op.Release: self._release,
            op.Retry: self._retry,
            op.Cancel: self._cancel,
            op.UpdateStatus: self._update_status,
            op.Create: self._create,
            op.CreateOnce: self._create_once,
            op.Acquire: self._acquire,
            op.Cleanup: self._cleanup,
            op.Lookup: self._lookup,
            op.Record: self._record,
            op.CleanupKeys: lambda database, _: op.Number(database.cleanup_idempotency()),
        }

    # Doing

    def perform(self, invocation: op.Invocation, *, arrives: bool = True) -> op.Response:
        """Make the store do it, and say what it answered. `arrives`: whether a call whose reply is lost got there."""
        if isinstance(invocation, op.Tick):
            self.clock.move(invocation.milliseconds)
        elif isinstance(invocation, op.Crash):
            self.end_session(invocation.session)
        elif isinstance(invocation, op.LoseReply):
            if arrives:
                self.perform(invocation.call)
            self.end_session(invocation.call.session)
        else:
            try:
                return self._calls[type(invocation)](self.session(invocation.session), invocation)
            except InputError:
                return op.Rejected()
            except InvariantViolation as error:
                raise RefusedByDatabase(str(error), invariant=error.invariant) from error
        return op.Nothing()

    def session(self, name: str) -> PromptStudioDatabase:
        """Return the worker's own database object."""
        if name not in self._sessions:
            self._sessions[name] = self._deployment.open_session(self.clock, lambda: self._spread)
        return self._sessions[name]

    def end_session(self, name: str) -> None:
        """Close the worker's session without a word about the jobs that it ran."""
        if name in self._sessions and not self._deployment.crash_session(self._sessions[name]):
            del self._sessions[name]

    def close(self) -> None:
        """Close every session."""
        self._deployment.close(list(self._sessions.values()))

    def real_id(self, job_id: int) -> int:
        """Return the store's id of the model's n-th job; one that no store has given for a job not made yet."""
        return self._ids[job_id - 1] if job_id <= len(self._ids) else max(self._ids, default=0) + 1_000 + job_id

    def _renew(self, database: PromptStudioDatabase, call: op.Renew) -> op.Response:
        seconds = call.lease // SECOND
        real = self.real_id(call.job_id)
        return self.outcome(
            database.renew_job_lease(real, seconds, worker_id=self._name(call.owner), lease_token=call.token)
        )

    def _complete(self, database: PromptStudioDatabase, call: op.Complete) -> op.Response:
        result = _value_of(call.result)
        return self.outcome(database.complete_job(self.real_id(call.job_id), lease_token=call.token, result=result))

    def _fail(self, database: PromptStudioDatabase, call: op.Fail) -> op.Response:
        self._spread = call.spread
        error, real = _string_of(call.error), self.real_id(call.job_id)
        return self.outcome(
            database.fail_job(real, lease_token=call.token, error_message=error, retryable=call.retryable)
        )

    def _release(self, database: PromptStudioDatabase, call: op.Release) -> op.Response:
        return self.outcome(database.release_job(self.real_id(call.job_id), lease_token=call.token))

    def _retry(self, database: PromptStudioDatabase, call: op.Retry) -> op.Response:
        self._spread = call.spread
        error = None if call.token is None else _string_of(call.error)
        return self.outcome(
            database.retry_job_record(self.real_id(call.job_id), lease_token=call.token, error_message=error)
        )

    def _cancel(self, database: PromptStudioDatabase, call: op.Cancel) -> op.Response:
        return self.outcome(database.cancel_job(self.real_id(call.job_id), reason=_string_of(call.error)))

    def _update_status(self, database: PromptStudioDatabase, call: op.UpdateStatus) -> op.Response:
        claims = call.status == "processing" and call.token is None  # a lease goes with nothing else
        row = database.update_job_status(
            self.real_id(call.job_id),
            call.status,
            error_message=_string_of(call.error),
            result=_value_of(call.result),
            lease_token=call.token,
            worker_id=self._name(call.owner),
            lease_seconds=call.lease // SECOND if claims else None,
        )
        return op.Row(None if row is None else self.job(row))

    def _create(self, database: PromptStudioDatabase, call: op.Create) -> op.Response:
        return op.Row(self.job(self._created(database, call)))

    def _create_once(self, database: PromptStudioDatabase, call: op.CreateOnce) -> op.Response:
        try:
            row = self._created(
                database,
                call,
                idempotency_key=call.scope.key,
                user_id=call.scope.user_id,
                request={"fingerprint": call.fingerprint},
            )
        except IdempotencyMismatch:
            return op.Mismatch()
        except EntityGone:
            return op.Gone()
        return op.Made(self.job(row), created=not row["replayed"])

    def _created(self, database: PromptStudioDatabase, call: op.Create, **once: Any) -> JobRow:  # noqa: ANN401 - a key
        entity_id, project_id, payload, client_id = cast("tuple[int, int | None, str, str | None]", call.request)
        return database.create_job(
            call.job_type,
            entity_id,
            json.loads(payload),
            project_id=project_id,
            priority=call.priority,
            max_retries=call.max_retries,
            client_id=client_id,
            available_at=None if call.available_at is None else _moment(call.available_at),
            **once,
        )

    def _acquire(self, database: PromptStudioDatabase, call: op.Acquire) -> op.Response:
        row = database.acquire_next_job(
            worker_id=self._name(call.owner), lease_seconds=call.lease // SECOND, job_types=call.job_types
        )
        return op.Row(None if row is None else self.job(row))

    def _cleanup(self, database: PromptStudioDatabase, call: op.Cleanup) -> op.Response:
        return op.Number(database.cleanup_jobs(older_than_days=call.age // DAY))

    def _lookup(self, database: PromptStudioDatabase, call: op.Lookup) -> op.Response:
        found = database.lookup_idempotency(*call.scope)
        return op.Number(None if found is None else self._entity(call.scope.entity_type, found))

    def _record(self, database: PromptStudioDatabase, call: op.Record) -> op.Response:
        scope = call.scope
        entity_id = self.real_id(call.entity_id) if scope.entity_type == JOB else call.entity_id
        told = database.record_idempotency(scope.entity_type, scope.key, entity_id, scope.user_id)
        return op.Recorded(self._entity(scope.entity_type, told.entity_id), told.created)

    # Seeing

    def state(self) -> State:
        """Return the whole state, read from the tables."""
        rows = self._deployment.seen(self._sessions)
        jobs = tuple(self._job(row) for row in rows.jobs)
        keys = tuple(
            IdempotencyRow(
                Scope(row["entity_type"], row["idempotency_key"], row["user_id"]),
                self._entity(row["entity_type"], row["entity_id"]),
                row["created_at"] - START,
                _DIGESTS.get(row["fingerprint"], row["fingerprint"]),
            )
            for row in rows.keys
        )
        state = State(self.clock.milliseconds - START, len(self._ids) + 1, jobs, keys)
        for name, seen in rows.sessions.items():
            locks = frozenset(AdvisoryLock(self._model_id(real), token) for real, token in seen.locks)
            refusals = frozenset(Refusal(self._model_id(real), token, at - START) for real, token, at in seen.refusals)
            state = state.with_session(Session(name, locks, refusals))
        return forget_stale_refusals(state)  # a store may remember them for longer: no answer depends on them

    def outcome(self, answer: Outcome) -> op.Outcome:
        """Return a store's outcome as the model's."""
        job = None if answer.job is None else self.job(answer.job)
        return op.Outcome(answer.kind.value, None if answer.status is None else answer.status.value, answer.late, job)

    def job(self, row: JobRow) -> Job:
        """Return a row that a store answered with, as the model's."""
        plain: dict[str, Any] = {
            name: milliseconds_of(value) if isinstance(value, datetime) else value for name, value in row.items()
        }
        return self._job({**plain, "payload": text_of(row["payload"]), "result": text_of(row["result"])})

    def _job(self, row: dict[str, Any]) -> Job:
        number = self._model_id(row["id"])
        same = self._uuids.setdefault(number, row["uuid"]) == row["uuid"]
        payload = text_of(json.loads(row["payload"]))
        return Job(
            id=number,
            request=(row["entity_id"], row["project_id"], payload, row["client_id"], *(() if same else ("new uuid",))),
            job_type=str(row["job_type"]),
            priority=row["priority"],
            max_retries=row["max_retries"],
            created_at=row["created_at"] - START,
            available_at=row["available_at"] - START,
            execution_limit=row["execution_limit"],
            status=cast("Status", str(row["status"])),
            executions=row["executions"],
            retry_count=row["retry_count"],
            lease_token=row["lease_token"],
            lease_owner=self._owner(row["lease_owner"], number, row["lease_token"]),
            leased_until=_since_start(row["leased_until"]),
            started_at=_since_start(row["started_at"]),
            completed_at=_since_start(row["completed_at"]),
            was_reclaim=bool(row["was_reclaim"]),
            late=bool(row["late"]),
            closed_token=row["closed_token"],
            closed_by=None if row["closed_by"] is None else cast("Closing", str(row["closed_by"])),
            error=row["error_message"],
            result=None if row["result"] is None else text_of(json.loads(row["result"])),
        )

    def _entity(self, entity_type: str, real: int) -> int:
        return self._model_id(real) if entity_type == JOB else real

    def _model_id(self, real: int) -> int:
        if real not in self._ids:
            self._ids.append(real)
        return self._ids.index(real) + 1

    def _name(self, name: str | None) -> str | None:
        if name is not None:
            self._given_names.add(name)
        return name

    def _owner(self, real: str | None, number: int, token: int) -> str | None:
        """A made-up name is known by its first attempt: on any later one it shows as a name used twice."""
        if real is None or real in self._given_names:
            return real
        return self._made_up_names.setdefault(real, f"fresh {number}/{token}")


def _value_of(text: object) -> object:
    return None if text is None else json.loads(str(text))


def _string_of(text: object) -> str | None:
    return None if text is None else str(text)


def milliseconds_of(moment: datetime) -> int:
    """Return an instant as whole milliseconds since 1970."""
    return round(moment.timestamp() * SECOND)


def _moment(since_start: int) -> datetime:
    return datetime.fromtimestamp((START + since_start) / SECOND, tz=UTC)


def _since_start(milliseconds: int | None) -> int | None:
    return None if milliseconds is None else milliseconds - START
