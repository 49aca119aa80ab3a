"""What a history and the tables that it left prove, in the order in which judges look for it, and what they find.

Nothing here says what is right. A judge may call something wrong only if every way in which the pending calls can have
ended, and every instant at which the others can have taken effect, leaves it wrong.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Literal, NamedTuple, Self

from tests.harness.history import Call, History, Operation, Scope

CLOSINGS: Final[tuple[Operation, ...]] = ("complete", "fail", "release")
WITH_TOKEN: Final[tuple[Operation, ...]] = ("renew", *CLOSINGS)
TERMINAL: Final = frozenset({"completed", "failed", "cancelled"})
CALLS_SHOWN: Final = 20

Sort = Literal["double", "lost", "stuck", "wrong"]
"""What the table of races counts: done twice, not there any more, never ends, and anything else."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A promise that a history breaks. `names` are the ids of the promises, `calls` the proof."""

    names: tuple[str, ...]
    sort: Sort
    sentence: str
    calls: tuple[Call, ...] = ()

    def __str__(self) -> str:
        """The sentence, then the calls in time order, in microseconds since the first of them."""
        calls = sorted(set(self.calls), key=lambda call: call.invoked)
        lines = [f"{', '.join(self.names)}: {self.sentence}"]
        for call in calls[:CALLS_SHOWN]:
            began = (call.invoked - calls[0].invoked) // 1_000
            ended = "never" if call.responded is None else f"{(call.responded - calls[0].invoked) // 1_000}"
            lines.append(f"  {began:>9} .. {ended:<9} {call}")
        if len(calls) > CALLS_SHOWN:
            lines.append(f"  ... and {len(calls) - CALLS_SHOWN} more")
        return "\n".join(lines)


class FinalJob(NamedTuple):
    """A row of the queue as it was found when all was over."""

    id: int
    entity_id: int
    status: str
    token: int
    priority: int
    created_at: int
    available_at: int
    leased_until: int | None
    executions: int
    execution_limit: int
    closed_token: int | None
    closed_by: str | None
    completed_at: int | None
    result: object

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """The row as a table's reader gives it."""
        named = {name: row[name] for name in cls._fields if name not in {"token", "result"}}
        result = row["result"]
        return cls(**named, token=row["lease_token"], result=None if result is None else json.loads(result))


class FinalKey(NamedTuple):
    """An idempotency row as it was found when all was over."""

    scope: Scope
    entity_id: int


@dataclass(frozen=True, slots=True)
class Remains:
    """What was left when every process was quiet.

    Attributes:
        jobs: the rows of the queue.
        keys: the idempotency rows.
        locks_left: advisory locks that are still held, by anybody.
        drained: workers took jobs, under a clock that went on, until there was nothing left to take.
    """

    jobs: tuple[FinalJob, ...] = ()
    keys: tuple[FinalKey, ...] = ()
    locks_left: int = 0
    drained: bool = False

    @classmethod
    def of(
        cls,
        jobs: Iterable[Mapping[str, Any]],
        keys: Iterable[Mapping[str, Any]],
        *,
        locks_left: int = 0,
        drained: bool = False,
    ) -> Self:
        """The rows as a table's reader gives them."""
        return cls(
            tuple(FinalJob.of(row) for row in jobs),
            tuple(
                FinalKey((row["entity_type"], row["idempotency_key"], row["user_id"]), row["entity_id"]) for row in keys
            ),
            locks_left,
            drained,
        )


@dataclass(frozen=True, slots=True)
class Holding:
    """How a job that may be taken can be held against a caller: by a row lock of a call under way, by a lock."""

    rows: bool = False
    locks: bool = False


Attempt = tuple[int, int]
"""A job's id and a token."""


class Evidence:
    """A history and its remains, each looked up in one step."""

    def __init__(self, history: History, remains: Remains, holding: Holding) -> None:
        self.history = history
        self.remains = remains
        self.holding = holding

    @cached_property
    def rows(self) -> dict[int, FinalJob]:
        """The rows of the queue by id."""
        return {row.id: row for row in self.remains.jobs}

    @cached_property
    def creates(self) -> list[Call]:
        """The creates that were told of a job that they have made."""
        return [call for call in self.history.of("create", "once") if call.job is not None]

    @cached_property
    def acquires(self) -> dict[Attempt, list[Call]]:
        """The acquires that returned a job, by what they returned."""
        return _grouped((_attempt_told(call), call) for call in self.history.of("acquire"))

    @cached_property
    def tokens(self) -> dict[int, list[int]]:
        """The tokens of each job that acquires returned, from the least."""
        found: dict[int, list[int]] = defaultdict(list)
        for job_id, token in sorted(self.acquires):
            found[job_id].append(token)
        return found

    @cached_property
    def pending_acquires(self) -> list[Call]:
        """The acquires without an answer, each of which took one job or none."""
        return [call for call in self.history.of("acquire") if call.pending]

    @cached_property
    def gone(self) -> dict[str, int]:
        """When it was known of a process that was killed that it holds nothing any more."""
        return {str(call.asked.process): call.invoked for call in self.history.of("gone")}

    def is_gone(self, process: str, instant: int) -> bool:
        """Whether a process was killed, and could hold nothing any more at this instant."""
        return self.gone.get(process, instant) < instant

    def may_have_failed_another(self, call: Call) -> bool:
        """Whether an acquire may have failed an exhausted job, by the times at which such jobs were failed."""
        if call.responded is None:
            return True
        least, most = self.history.timeline.least(call.invoked), self.history.timeline.most(call.responded)
        return any((least or 0) <= moment and (most is None or moment <= most) for moment in self.exhausted)

    @cached_property
    def exhausted(self) -> list[int]:
        """When jobs were failed that had no execution left."""
        spent = [row for row in self.remains.jobs if row.status == "failed" and row.closed_token is None]
        return [row.completed_at for row in spent if row.completed_at is not None]

    @cached_property
    def with_token(self) -> dict[Attempt, list[Call]]:
        """The calls that carried a token, by it."""
        return _grouped((_attempt_asked(call), call) for call in self.history.of(*WITH_TOKEN))

    @cached_property
    def cancels(self) -> dict[int, list[Call]]:
        """The cancels that were applied or are pending, by job."""
        found: dict[int, list[Call]] = defaultdict(list)
        for call in self.history.of("cancel"):
            if call.asked.job_id is not None and (call.pending or call.truthy):
                found[call.asked.job_id].append(call)
        return found

    @cached_property
    def refused(self) -> list[Call]:
        """The calls of holders that had lost their job before they asked, and that were told so."""
        found = []
        for (job_id, token), calls in self.with_token.items():
            later = [
                one for other in self.tokens.get(job_id, []) if other > token for one in self.acquires[job_id, other]
            ]
            told = [call for call in calls if call.told is not None and not call.truthy]
            found += [call for call in told if any(one.before(call) for one in later)]
        return found

    def shown_to(self, call: Call) -> int | None:
        """The latest that the clock can have shown to an acquire: what its answer says, and not more than was shown."""
        read = None if call.job is None else call.job.started_at
        most = None if call.responded is None else self.history.timeline.most(call.responded)
        return min((moment for moment in (read, most) if moment is not None), default=None)

    def closings(self, attempt: Attempt, *operations: Operation) -> list[Call]:
        """The closing calls of an attempt that were applied or may have been."""
        return [
            call
            for call in self.with_token.get(attempt, [])
            if call.asked.operation in (operations or CLOSINGS) and (call.applied or call.pending)
        ]

    def grants(self, attempt: Attempt) -> list[Call]:
        """The acquire and the renewals that are known to have given the attempt a lease."""
        renewals = [call for call in self.with_token.get(attempt, []) if call.asked.operation == "renew"]
        calls = [*self.acquires.get(attempt, []), *(call for call in renewals if call.applied)]
        return [call for call in calls if call.job is not None and call.job.leased_until is not None]


def leased_until(call: Call) -> int:
    """The end of the lease that a grant told its caller."""
    return (call.job.leased_until if call.job is not None else None) or 0


def _attempt_told(call: Call) -> Attempt | None:
    return None if call.job is None else (call.job.id, call.job.token)


def _attempt_asked(call: Call) -> Attempt | None:
    asked = call.asked
    return None if asked.job_id is None or asked.token is None else (asked.job_id, asked.token)


def _grouped(calls: Iterable[tuple[Attempt | None, Call]]) -> dict[Attempt, list[Call]]:
    found: dict[Attempt, list[Call]] = defaultdict(list)
    for attempt, call in calls:
        if attempt is not None:
            found[attempt].append(call)
    return dict(found)
