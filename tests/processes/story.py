"""Histories written by hand, for the tests of the judges: who said what, when, and what was left."""

from collections.abc import Iterable
from typing import Any

from tests.harness.evidence import TERMINAL, FinalJob, FinalKey, Finding, Holding, Remains
from tests.harness.history import Asked, Call, History, Kind, Operation, Scope, Seen, Told
from tests.harness.judgement import NO_HOLDING, judge, names_of

START = 1_000_000
"""Where the shared clock stands before the first call, in milliseconds."""
LEASE = 1_000
At = tuple[int, int]


class Story:
    """Calls, one after another unless `at` says when one was asked and answered; the clock stands until a tick."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.rows: list[FinalJob] = []
        self.keys: list[FinalKey] = []
        self.clock = START
        self._instant = 0
        self._jobs: dict[int, Seen] = {}
        self.say("world", Asked("tick", moment=START), Told("ticked"))

    def say(self, process: str, asked: Asked, told: Told | None, at: At | None = None) -> None:
        """Add one call; without an answer it is pending."""
        begins, ends = at or (self._instant + 10, self._instant + 20)
        self._instant = max(self._instant, ends)
        self.calls.append(Call(process, asked, begins, told, None if told is None else ends))

    def tick(self, milliseconds: int, at: At | None = None) -> None:
        """Move the clock."""
        self.clock += milliseconds
        self.say("world", Asked("tick", moment=self.clock), Told("ticked"), at)

    def create(self, job_id: int, *, priority: int = 5, limit: int = 4, later: int = 0, at: At | None = None) -> None:
        """Make a job, for the entity of its number, that is available so many milliseconds later."""
        due = self.clock + later
        job = Seen(job_id, job_id, "queued", 0, priority, self.clock, due, None, None, 0, limit, False)
        self._jobs[job_id] = job
        self.say("maker", Asked("create", entity_id=job_id), Told("row", job), at)

    def acquire(self, process: str, job_id: int, at: At | None = None, **told: Any) -> None:  # noqa: ANN401 - fields
        """Take a job at the clock's time, as the next attempt; `told` are values that the answer has instead."""
        old = self._jobs[job_id]
        job = old._replace(
            status="processing",
            token=old.token + 1,
            started_at=self.clock,
            leased_until=self.clock + LEASE,
            executions=old.executions + 1,
            was_reclaim=old.status == "processing",
        )
        self._jobs[job_id] = job._replace(**told)
        self.say(process, Asked("acquire"), Told("row", self._jobs[job_id]), at)

    def none(self, process: str, at: At | None = None) -> None:
        """Take nothing."""
        self.say(process, Asked("acquire"), Told("none"), at)

    def renew(self, process: str, job_id: int, token: int, *, by: int = LEASE, at: At | None = None) -> None:
        """Be granted a lease until so many milliseconds from now."""
        job = self._jobs[job_id] = self._jobs[job_id]._replace(leased_until=self.clock + by)
        self.say(process, Asked("renew", job_id, token), Told("applied", job._replace(token=token)), at)

    def close(self, process: str, operation: Operation, job_id: int, token: int, *, at: At | None = None) -> None:
        """End the attempt; a failed one is final, a released one is available again at once."""
        status = {"complete": "completed", "fail": "failed", "release": "queued"}[operation]
        old = self._jobs[job_id]
        executions = old.executions - (operation == "release")
        job = old._replace(status=status, leased_until=None, executions=executions, available_at=self.clock)
        self._jobs[job_id] = job
        self.say(process, Asked(operation, job_id, token), Told("applied", job._replace(token=token)), at)

    def refused(self, process: str, asked: Asked, kind: Kind = "lease_lost", at: At | None = None) -> None:
        """Be told that it was not done."""
        self.say(process, asked, Told(kind), at)

    def record(self, process: str, scope: Scope, proposed: int, told: int, *, created: bool) -> None:
        """Propose an entity for a key."""
        asked = Asked("record", scope=scope, entity_id=proposed)
        self.say(process, asked, Told("recorded", entity_id=told, created=created))

    def row(self, job_id: int, closed: tuple[str, str] | None = None, **found: Any) -> None:  # noqa: ANN401 - fields
        """Leave a row: as the last answer showed it, closed by (a process, an operation), and with what was `found`."""
        job = self._jobs[job_id]
        ended = found.get("status", job.status) in TERMINAL
        row = FinalJob(
            job.id,
            job.entity_id,
            job.status,
            job.token,
            job.priority,
            job.created_at,
            job.available_at,
            job.leased_until,
            job.executions,
            job.execution_limit,
            closed_token=None if closed is None else job.token,
            closed_by=None if closed is None else closed[1],
            completed_at=self.clock if ended else None,
            result=[closed[0], job.token] if closed is not None and closed[1] == "complete" else None,
        )
        self.rows.append(row._replace(**found))

    def findings(self, *, drained: bool = False, locks_left: int = 0, holding: Holding = NO_HOLDING) -> list[Finding]:
        """What the judges find."""
        remains = Remains(tuple(self.rows), tuple(self.keys), locks_left, drained)
        return judge(History(self.calls), remains, holding)

    def names(self, *, drained: bool = False, locks_left: int = 0, holding: Holding = NO_HOLDING) -> list[str]:
        """The promises that the judges find broken."""
        return names_of(self.findings(drained=drained, locks_left=locks_left, holding=holding))

    def rows_of(self, job_ids: Iterable[int]) -> None:
        """Leave these rows as the last answers showed them, not closed."""
        for job_id in job_ids:
            self.row(job_id)
