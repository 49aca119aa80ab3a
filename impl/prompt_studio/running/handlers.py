"""What runs a job: handlers by type of job, and what a handler is given.

A handler with one required positional parameter gets a `JobContext`. One with two, or with `*args`, is of the old
shape, and gets the payload and the entity's id. With one required and more that are not, the first must be annotated as
a `JobContext`, since nothing else says which is meant. Either may be `async`; a plain one runs on a thread of its own.
"""

from __future__ import annotations

import inspect
import logging
import math
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar, overload

from prompt_studio import values
from prompt_studio.config import LEASE_SECONDS_MAX
from prompt_studio.errors import InputError
from prompt_studio.jobs import JobRow, JobType

_log: Final = logging.getLogger("prompt_studio.job")

Handler = Callable[..., Any]
AnyHandler = TypeVar("AnyHandler", bound=Handler)
POSITIONAL: Final = frozenset({inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD})
OLD_SHAPE: Final = 2


class JobStopped(Exception):
    """The handler must stop, or was stopped: its result would not be written.

    Attributes:
        reason: lease_lost, cancelled, ended, gone or deadline (see `prompt_studio.running.beats.Loss`): nothing was
            written. Or stopping: the worker stops, and the job is released.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"the job was stopped: {reason}")
        self.reason = reason


class NotRetryable(Exception):
    """A handler raises it to fail the job for good, whatever executions are left."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a handler says it is.

    Attributes:
        fraction: from 0 to 1; None is unknown.
        note: in words.
    """

    fraction: float | None = None
    note: str | None = None


class JobContext:
    """What a handler is given.

    Attributes:
        job: the row as it was claimed.
        worker_id: who runs it.
        cancellation: set when the handler must stop. An async handler is cancelled as well.
        reason: why; None while it may go on.
        last_progress: what the handler said last.
    """

    def __init__(self, job: JobRow, worker_id: str) -> None:
        self.job: Final = job
        self.worker_id: Final = worker_id
        self.cancellation: Final = threading.Event()
        self.reason: str | None = None
        self.last_progress = Progress()

    @property
    def payload(self) -> Any:  # noqa: ANN401 - any JSON value
        """The job's payload."""
        return self.job["payload"]

    @property
    def job_id(self) -> int:
        """The job's id."""
        return self.job["id"]

    @property
    def entity_id(self) -> int:
        """The id of the entity that the job is about."""
        return self.job["entity_id"]

    @property
    def lease_token(self) -> int:
        """The attempt's fencing token, for whatever else must refuse an attempt that is over."""
        return self.job["lease_token"]

    def stop(self, reason: str) -> None:
        """Tell the handler to stop; the first reason stands."""
        if not self.cancellation.is_set():
            self.reason = reason
            self.cancellation.set()

    def raise_if_stopped(self) -> None:
        """Do nothing while the handler may go on.

        Raises:
            JobStopped: it must stop.
        """
        if self.cancellation.is_set():
            raise JobStopped(self.reason or "")

    def progress(self, fraction: float | None = None, note: str | None = None) -> None:
        """Say how far the handler is: in the log, and to whoever asks the manager what runs.

        A report costs no job: a fraction beyond 0 or 1 is taken for those, what is no number for unknown, and a note is
        cleaned and cut to 10,000 characters.

        Raises:
            JobStopped: it must stop.
        """
        self.raise_if_stopped()
        self.last_progress = Progress(_fraction(fraction), _note(note))
        known = {"fraction": self.last_progress.fraction, "note": self.last_progress.note}
        facts = {"job_id": self.job_id, "lease_token": self.lease_token, "worker_id": self.worker_id}
        _log.info("job %s: %s", self.job_id, self.last_progress, extra=facts | known)


def _fraction(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return None if isinstance(value, float) and math.isnan(value) else min(1, max(0, value))


def _note(value: object) -> str | None:
    return values.error_text(value if value is None or isinstance(value, str) else values.shown(value))


@dataclass(frozen=True, slots=True)
class Registration:
    """How jobs of one type are run.

    Attributes:
        handler: what runs them.
        lease_seconds: for how long they are leased at a time; None: as long as the database's setting says.
        is_async: it is awaited on the event loop.
        takes_context: it gets a `JobContext`, and not payload and entity id.
    """

    handler: Handler
    lease_seconds: int | None
    is_async: bool
    takes_context: bool

    def call(self, context: JobContext) -> Any:  # noqa: ANN401 - a result, or an awaitable of one
        """Call the handler with what it takes."""
        if self.takes_context:  # impl: PS-LEASE-HB-15
            return self.handler(context)
        return self.handler(context.payload, context.entity_id)


class Handlers(Mapping[JobType, Registration]):
    """Handlers by type of job."""

    def __init__(self) -> None:
        self._registered: dict[JobType, Registration] = {}

    def __getitem__(self, job_type: JobType) -> Registration:
        return self._registered[job_type]

    def __iter__(self) -> Iterator[JobType]:
        return iter(self._registered)

    def __len__(self) -> int:
        return len(self._registered)

    @overload
    def register(self, job_type: str, handler: AnyHandler, *, lease_seconds: int | None = None) -> AnyHandler: ...

    @overload
    def register(
        self, job_type: str, handler: None = None, *, lease_seconds: int | None = None
    ) -> Callable[[AnyHandler], AnyHandler]: ...

    def register(self, job_type: str, handler: Handler | None = None, *, lease_seconds: int | None = None) -> Any:
        """Run jobs of this type with this handler, in place of the one before; without one it is a decorator.

        Raises:
            InputError: the type is none, the lease is not a whole number of seconds from 1 to 3600, or the handler
                can be called with neither a context nor a payload and an entity id.
        """
        if handler is None:
            return partial(self.register, job_type, lease_seconds=lease_seconds)
        wanted = values.word("job_type", job_type, JobType)
        if lease_seconds is not None:
            values.whole_number("lease_seconds", lease_seconds, 1, LEASE_SECONDS_MAX)
        self._registered[wanted] = Registration(handler, lease_seconds, _is_async(handler), _takes_context(handler))
        return handler


def _is_async(handler: Handler) -> bool:
    while isinstance(handler, partial):
        handler = handler.func
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(type(handler).__call__)


def _takes_context(handler: Handler) -> bool:
    try:
        parameters = inspect.signature(handler).parameters.values()
    except (TypeError, ValueError) as error:
        raise InputError(f"a handler must be a function whose parameters can be read: {error}") from error
    required = [one for one in parameters if one.default is one.empty]
    positional = sum(one.kind in POSITIONAL for one in required)
    several = any(one.kind is one.VAR_POSITIONAL for one in parameters)
    named = [one.name for one in required if one.kind is one.KEYWORD_ONLY]
    if named or positional > OLD_SHAPE or (positional == 0 and not several):
        raise InputError(
            "a handler must take one required positional parameter (a JobContext), or two (payload, entity_id), not "
            f"{inspect.signature(handler)}"
        )
    if positional == 1 and _is_context(required[0]):
        return True
    if positional == 1 and not several and sum(one.kind in POSITIONAL for one in parameters) > 1:
        raise InputError(
            f"a handler must say which it takes, and {inspect.signature(handler)} fits both: annotate its first "
            "parameter as JobContext, or give the second (entity_id) no default"
        )
    return positional == 1 and not several


def _is_context(parameter: inspect.Parameter) -> bool:
    annotation = parameter.annotation  # a text in a module of postponed annotations
    return annotation is JobContext or (
        isinstance(annotation, str) and annotation.split(".")[-1] == JobContext.__name__
    )
