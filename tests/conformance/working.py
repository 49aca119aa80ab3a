"""What tests of a worker share: a metrics that counts and stops, and a real database with trouble in it."""

import asyncio
import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, Self

from prompt_studio import (
    JobContext,
    JobManager,
    JobRow,
    Metrics,
    Outcome,
    PromptStudioDatabase,
    Settings,
    StoreUnavailable,
)
from prompt_studio.metrics import Ending

AT_ONCE: Final = 3
NEVER: Final = 3600.0
LIMIT_SECONDS: Final = 60.0
"""The longest that anything here waits, on a machine that has much else to do."""
STEPS: Final = 10
"""Of the event loop: as many as would do for a worker to act on what it is told, or to come to an end too soon."""
FACTS: Final = ("job_id", "lease_token", "worker_id")
_ABOUT_AN_ATTEMPT: Final = re.compile(r"job \d+")


class Counted(Metrics):
    """What a worker counts, and a stop after so many endings."""

    def __init__(self) -> None:
        self.endings: list[Ending] = []
        self.lost_for: list[str] = []
        self.renewals = 0
        self.renewals_failed = 0
        self.repeated = 0
        self.claims_failed = 0
        self.claims: list[JobRow] = []
        self.stop_after: int | None = None
        self.stop: Callable[[], None] = lambda: None

    def claimed(self, job: JobRow) -> None:
        self.claims.append(job)

    def ended(self, job_type: str, ending: Ending, seconds: float) -> None:
        assert job_type
        assert seconds >= 0
        self.endings.append(ending)
        if len(self.endings) == self.stop_after:
            self.stop()

    def renewed(self, job_type: str, *, late: bool) -> None:
        assert job_type
        assert not late
        self.renewals += 1

    def renewal_failed(self, job_type: str) -> None:
        assert job_type
        self.renewals_failed += 1

    def lost(self, job_type: str, reason: str) -> None:
        assert job_type
        self.lost_for.append(reason)

    def closing_repeated(self, job_type: str) -> None:
        assert job_type
        self.repeated += 1

    def claim_failed(self) -> None:
        self.claims_failed += 1


class Troubled(PromptStudioDatabase):
    """A real database, of which some calls end in an error: before they were sent, or when they had been applied."""

    away = False
    """To beats, whose database is another one of this class."""
    silent = False
    """To whoever asks whether it answers."""

    def __init__(self, *arguments: Any, **named: Any) -> None:  # noqa: ANN401 - passed on
        super().__init__(*arguments, **named)
        self.before: list[Exception] = []
        self.after: list[Exception] = []
        self.failing: list[Exception] = []
        self.releasing: list[Exception] = []
        self.renewing: list[Exception] = []
        self.opening: list[Exception] = []
        self.opened_by: list[str] = []
        self.acquiring: list[Exception] = []
        self.on_acquired: Callable[[], object] = lambda: None
        self.on_complete: Callable[[], object] = lambda: None
        self.on_release: Callable[[], object] = lambda: None
        self.on_renew: Callable[[], object] = lambda: None

    def opened_again(self, settings: Settings) -> Self:
        self.opened_by.append(threading.current_thread().name)
        if self.opening:
            raise self.opening.pop(0)
        return super().opened_again(settings)

    def complete_job(self, job_id: int, *, lease_token: int | None, result: object = None) -> Outcome:
        self.on_complete()
        if self.before:
            raise self.before.pop(0)
        outcome = super().complete_job(job_id, lease_token=lease_token, result=result)
        if self.after:
            raise self.after.pop(0)
        return outcome

    def fail_job(self, *arguments: Any, **named: Any) -> Outcome:  # noqa: ANN401 - passed on
        if self.failing:
            raise self.failing.pop(0)
        return super().fail_job(*arguments, **named)

    def release_job(self, job_id: int, *, lease_token: int | None) -> Outcome:
        self.on_release()
        if self.releasing:
            raise self.releasing.pop(0)
        return super().release_job(job_id, lease_token=lease_token)

    def get_schema_version(self) -> int:
        if type(self).silent:
            raise StoreUnavailable("away, on purpose")
        return super().get_schema_version()

    def renew_job_lease(self, *arguments: Any, **named: Any) -> Outcome:  # noqa: ANN401 - passed on
        if type(self).away:
            raise StoreUnavailable("away, on purpose")
        self.on_renew()
        if self.renewing:
            raise self.renewing.pop(0)
        return super().renew_job_lease(*arguments, **named)

    def acquire_next_job(self, **named: Any) -> JobRow | None:  # noqa: ANN401 - passed on
        if self.acquiring:
            raise self.acquiring.pop(0)
        job = super().acquire_next_job(**named)
        self.on_acquired()
        return job


class Nameless(logging.Handler):
    """Lines about an attempt that do not say which one."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        line = record.getMessage()
        if _ABOUT_AN_ATTEMPT.match(line) and not all(hasattr(record, name) for name in FACTS):
            self.found.append(line)


@contextmanager
def each_line_has_its_facts() -> Iterator[None]:
    """Whatever is logged meanwhile about an attempt carries its job, token and worker."""
    nameless, logger = Nameless(), logging.getLogger("prompt_studio")
    level = logger.level
    logger.addHandler(nameless)
    logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        logger.removeHandler(nameless)
        logger.setLevel(level)
    assert nameless.found == []


def work(manager: JobManager, until: int, max_concurrent: int = AT_ONCE) -> bool:
    """Work until so many attempts have ended."""
    counted = manager._metrics
    assert isinstance(counted, Counted)
    counted.stop_after = until
    return asyncio.run(asyncio.wait_for(manager.start_processing(max_concurrent), LIMIT_SECONDS))


def row(manager: JobManager, job_id: int = 1) -> JobRow:
    found = manager.db.get_job(job_id)
    assert found is not None
    return found


def until(happens: Callable[[], bool]) -> None:
    """Wait, and block the thread meanwhile."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while not happens():
        assert time.monotonic() < deadline, "it did not happen in time"
        threading.Event().wait(0.005)


async def steps() -> None:
    """Let the event loop take some steps."""
    for _ in range(STEPS):
        taken = asyncio.Event()
        asyncio.get_running_loop().call_soon(taken.set)
        await taken.wait()


def quick(context: JobContext) -> object:
    return context.job_id
