"""A database whose calls are recorded in a way that survives the caller.

Each question is written before the call and each answer after it, by one `write` each to a file of the process's own:
what was written is in the system's hands, so a SIGKILL at any instant leaves a file that is right. The stamps are taken
outside of the call, so that a call never seems shorter than it was.
"""

import json
import os
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

from prompt_studio import InvariantViolation, JobRow, Outcome, PromptStudioDatabase, TransientConflict
from tests.harness.history import SUFFIX, Asked, Scope, Seen, Told

SECOND: Final = 1_000


class Recorder:
    """The file of one life of a process. `process` must be a name that nobody has had in this directory."""

    def __init__(self, directory: Path, process: str) -> None:
        self.process = process
        self._file = os.open(directory / f"{process}{SUFFIX}", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND)

    def asked(self, asked: Asked) -> None:
        """Write down the question; then, and only then, ask it."""
        self._write("asked", asked)

    def told(self, told: Told) -> None:
        """Write down the answer to the last question."""
        self._write("told", told)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _write(self, what: str, values: Asked | Told) -> None:
        line = json.dumps((what, time.monotonic_ns(), values), separators=(",", ":")).encode() + b"\n"
        if os.write(self._file, line) != len(line):
            raise OSError(f"{self.process}: the disk is full, and the history is not whole")


class Home(NamedTuple):
    """What entities that are made in a race belong to."""

    project_id: int
    prompt_id: int


def _job(database: PromptStudioDatabase, number: int, _: Home, once: dict[str, Any]) -> Any:  # noqa: ANN401 - a row
    return database.create_job("evaluation", number, {}, **once)


def _project(database: PromptStudioDatabase, number: int, _: Home, once: dict[str, Any]) -> Any:  # noqa: ANN401 - a row
    return database.create_project(f"number {number}", **once)


def _prompt(database: PromptStudioDatabase, number: int, home: Home, once: dict[str, Any]) -> Any:  # noqa: ANN401 - a row
    return database.create_prompt(project_id=home.project_id, name=f"number {number}", **once)


def _optimization(database: PromptStudioDatabase, number: int, home: Home, once: dict[str, Any]) -> Any:  # noqa: ANN401 - a row
    return database.create_optimization(
        project_id=home.project_id,
        name=f"number {number}",
        initial_prompt_id=home.prompt_id,
        optimizer_type="race",
        job={},
        **once,
    )


CREATES: Final = {"job": _job, "project": _project, "prompt": _prompt, "optimization": _optimization}
"""Every create that takes a key, by the type of its entity. Names differ, so that no other rule keeps a second out."""


class RecordedDatabase:
    """The calls that races make, each recorded, with answers as a judge sees them.

    A conflict is an answer, which says that nothing happened; so is a refusal by a rule of the schema, which says what
    would have happened. Any other error leaves the call pending.
    """

    def __init__(self, database: PromptStudioDatabase, recorder: Recorder) -> None:
        self.database = database
        self._recorder = recorder

    def create(self, entity_id: int, *, priority: int = 5, max_retries: int = 3) -> Told:
        """A new job; the entity's number is used once in a history, and so is the job's mark."""
        return self._call(
            Asked("create", entity_id=entity_id),
            lambda: _row(
                self.database.create_job("evaluation", entity_id, {}, priority=priority, max_retries=max_retries)
            ),
        )

    def acquire(self, lease_seconds: int) -> Told:
        """The best job, or none."""
        name = self._recorder.process
        return self._call(
            Asked("acquire"),
            lambda: _row(self.database.acquire_next_job(worker_id=name, lease_seconds=lease_seconds)),
        )

    def renew(self, job_id: int, token: int, seconds: int) -> Told:
        """A longer lease."""
        return self._call(
            Asked("renew", job_id, token),
            lambda: _outcome(self.database.renew_job_lease(job_id, seconds, lease_token=token)),
        )

    def complete(self, job_id: int, token: int) -> Told:
        """The attempt has ended well; the result says whose attempt it was."""
        result = [self._recorder.process, token]
        return self._call(
            Asked("complete", job_id, token),
            lambda: _outcome(self.database.complete_job(job_id, lease_token=token, result=result)),
        )

    def fail(self, job_id: int, token: int, *, retryable: bool) -> Told:
        """The attempt has failed, and perhaps the job."""
        return self._call(
            Asked("fail", job_id, token),
            lambda: _outcome(
                self.database.fail_job(job_id, lease_token=token, error_message="drawn", retryable=retryable)
            ),
        )

    def release(self, job_id: int, token: int) -> Told:
        """The attempt did not take place."""
        return self._call(
            Asked("release", job_id, token), lambda: _outcome(self.database.release_job(job_id, lease_token=token))
        )

    def cancel(self, job_id: int) -> Told:
        """An operator's word that nobody shall work on the job."""
        return self._call(Asked("cancel", job_id), lambda: _outcome(self.database.cancel_job(job_id)))

    def record(self, scope: Scope, entity_id: int) -> Told:
        """The proposal that the key stands for this entity."""

        def record() -> Told:
            told = self.database.record_idempotency(scope[0], scope[1], entity_id, scope[2])
            return Told("recorded", entity_id=told.entity_id, created=told.created)

        return self._call(Asked("record", scope=scope, entity_id=entity_id), record)

    def create_once(self, scope: Scope, entity_id: int, home: Home) -> Told:
        """An entity that is made once for the key; its number is used once in a history."""
        entity_type, key, user_id = scope
        once: dict[str, Any] = {"idempotency_key": key, "user_id": user_id, "request": {"key": key}}

        def create_once() -> Told:
            made = CREATES[entity_type](self.database, entity_id, home, once)
            job = made if entity_type == "job" else made.get("job")
            created = not made["replayed"]
            return Told("made", seen(job) if created and job else None, made["id"], created)

        return self._call(
            Asked("once", scope=scope, entity_id=entity_id if entity_type == "job" else None), create_once
        )

    def lookup(self, scope: Scope) -> Told:
        """What the key stands for."""

        def lookup() -> Told:
            found = self.database.lookup_idempotency(*scope)
            return Told("none") if found is None else Told("found", entity_id=found)

        return self._call(Asked("lookup", scope=scope), lookup)

    def _call(self, asked: Asked, call: Callable[[], Told]) -> Told:
        self._recorder.asked(asked)
        try:
            told = call()
        except TransientConflict:
            told = Told("conflict")
        except InvariantViolation as error:
            told = Told("broken", broken=error.invariant)
        self._recorder.told(told)
        return told


def seen(row: JobRow) -> Seen:
    """A row as a judge sees it."""
    return Seen(
        id=row["id"],
        entity_id=row["entity_id"],
        status=row["status"].value,
        token=row["lease_token"],
        priority=row["priority"],
        created_at=_milliseconds(row["created_at"]),
        available_at=_milliseconds(row["available_at"]),
        started_at=None if row["started_at"] is None else _milliseconds(row["started_at"]),
        leased_until=None if row["leased_until"] is None else _milliseconds(row["leased_until"]),
        executions=row["executions"],
        execution_limit=row["execution_limit"],
        was_reclaim=row["was_reclaim"],
    )


def _milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * SECOND)


def _row(row: JobRow | None) -> Told:
    return Told("none") if row is None else Told("row", seen(row))


def _outcome(outcome: Outcome) -> Told:
    return Told(outcome.kind.value, None if outcome.job is None else seen(outcome.job))
