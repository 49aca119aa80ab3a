"""What processes asked and were told, in real time: the evidence that `judgement` judges.

A history is read from files, one for each life of a process, which outlive the process: a line is written before each
call and another after it, so a call that its process did not survive has no answer here and is *pending*: it may have
taken effect or not. All stamps are nanoseconds of the machine's one monotonic clock. Nothing here knows a database.
"""

import json
import shutil
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, Self

SUFFIX: Final = ".history"

Operation = Literal[
    "create", "once", "acquire", "renew", "complete", "fail", "release", "cancel", "record", "lookup", "tick", "gone"
]
Kind = Literal[
    "row", "none", "recorded", "made", "found", "ticked", "gone", "conflict", "broken",
    "applied", "already", "not_found", "lease_lost", "terminal", "refused",
]  # fmt: skip
Scope = tuple[str, str, str | None]
"""Entity type, key and user of an idempotency key."""

TRUTHY: Final[frozenset[Kind]] = frozenset({"applied", "already"})
"""The answers that tell a caller with a token that it was done."""


RACES: Final = Path("build", "races")
"""Where the histories are kept of a race that proved something: no other run will come to the same."""


class MalformedHistory(Exception):
    """A file of a history is not what a recorder writes: nothing can be concluded from it."""


class Seen(NamedTuple):
    """A job as an answer showed it. Times are milliseconds since 1970."""

    id: int
    entity_id: int
    status: str
    token: int
    priority: int
    created_at: int
    available_at: int
    started_at: int | None
    leased_until: int | None
    executions: int
    execution_limit: int
    was_reclaim: bool

    @property
    def order(self) -> tuple[int, int, int]:
        """Its place in the order of claims: the best job has the smallest."""
        return (-self.priority, self.created_at, self.id)


class Asked(NamedTuple):
    """One call, as far as it matters to a judge. Acquires want every type of job; keys are kept for ever."""

    operation: Operation
    job_id: int | None = None
    token: int | None = None
    entity_id: int | None = None  # what a create is for, or what a record proposes; `once` is a create with a key
    scope: Scope | None = None
    moment: int | None = None  # what a tick sets the shared clock to
    process: str | None = None  # whose sessions the server has seen the end of, after a kill

    def __str__(self) -> str:
        named = {name: value for name, value in self._asdict().items() if name != "operation" and value is not None}
        return f"{self.operation}({', '.join(f'{name}={value!r}' for name, value in named.items())})"


class Told(NamedTuple):
    """One answer. `entity_id` and `created` answer a record and a create with a key, the first also a lookup.

    The job in the answer to a create with a key is the one that this very call has made, if it did.

    A conflict had no effect. Neither had a call that the database itself refused, as a rule of its schema would have
    been broken: that rule's name is `broken`.
    """

    kind: Kind
    job: Seen | None = None
    entity_id: int | None = None
    created: bool = False
    broken: str | None = None

    def __str__(self) -> str:
        if self.broken is not None:
            return f"refused by the database: {self.broken}"
        if self.job is not None:
            job = self.job
            until = "" if job.leased_until is None else f", leased until {job.leased_until}"
            return f"{self.kind}: job {job.id} {job.status}, token {job.token}{until}"
        return f"{self.kind}" if self.entity_id is None else f"{self.kind}: {self.entity_id}, created={self.created}"


@dataclass(frozen=True, slots=True)
class Call:
    """One call of one process; `told` and `responded` are None for ever when no answer came."""

    process: str
    asked: Asked
    invoked: int
    told: Told | None = None
    responded: int | None = None

    @property
    def pending(self) -> bool:
        """Whether no answer came, so that it may have taken effect at any time, or never."""
        return self.told is None

    @property
    def truthy(self) -> bool:
        """Whether the caller was told that it is done."""
        return self.told is not None and self.told.kind in TRUTHY

    @property
    def applied(self) -> bool:
        """Whether the caller was told that this call did it."""
        return self.told is not None and self.told.kind == "applied"

    @property
    def job(self) -> Seen | None:
        """The job that the answer showed."""
        return None if self.told is None else self.told.job

    def before(self, other: "Call") -> bool:
        """Whether it had been answered before the other was asked: only this says which came first."""
        return self.responded is not None and self.responded < other.invoked

    def overlaps(self, other: "Call") -> bool:
        """Whether neither came before the other."""
        return not (self.before(other) or other.before(self))

    def __str__(self) -> str:
        answer = "no answer" if self.told is None else str(self.told)
        return f"{self.process}: {self.asked} -> {answer}"


class Timeline:
    """What the shared virtual clock can have shown when, from the ticks; without ticks nothing is known.

    It may be moved back only while nobody is in a call that is judged by it.
    """

    def __init__(self, ticks: Iterable[Call]) -> None:
        moved = sorted((call.invoked, call.responded or call.invoked, call.asked.moment or 0) for call in ticks)
        self._begun = [invoked for invoked, _, _ in moved]
        self._done = [responded for _, responded, _ in moved]
        self._moments = [moment for _, _, moment in moved]

    def least(self, instant: int) -> int | None:
        """The least that a reading after this instant can be."""
        passed = bisect_right(self._done, instant)
        return self._moments[passed - 1] if passed else None

    def most(self, instant: int) -> int | None:
        """The most that a reading before this instant can be."""
        passed = bisect_right(self._begun, instant)
        return self._moments[passed - 1] if passed else None


class History:
    """The calls of all processes, in the order in which they were asked."""

    def __init__(self, calls: Iterable[Call]) -> None:
        self.calls: Final = tuple(sorted(calls, key=lambda call: call.invoked))
        self.timeline: Final = Timeline(self.of("tick"))
        self._pending = [call for call in self.calls if call.responded is None]
        self._answered = [call for call in self.calls if call.responded is not None]
        self._begun = [call.invoked for call in self._answered]
        # How late any call up to this one was answered: who looks back need not look behind the first that is early.
        self._latest = list(accumulate((call.responded or 0 for call in self._answered), max))

    @classmethod
    def read(cls, directory: Path) -> Self:
        """The history whose files are in this directory.

        Raises:
            MalformedHistory: there is none, or a file has what no recorder writes.
        """
        files = sorted(directory.glob(f"*{SUFFIX}"))
        if not files:
            raise MalformedHistory(f"there is no history in {directory}: nothing was recorded")
        return cls(call for file in files for call in calls_of(file.stem, file.read_bytes()))

    def of(self, *operations: Operation) -> Iterator[Call]:
        """The calls of these operations."""
        return (call for call in self.calls if call.asked.operation in operations)

    def during(self, begin: int, end: int) -> Iterator[Call]:
        """The calls that were under way at some instant from `begin` to `end`, in any order."""
        last = bisect_right(self._begun, end)
        while last and self._latest[last - 1] >= begin:
            last -= 1
            call = self._answered[last]
            if call.responded is not None and call.responded >= begin:
                yield call
        yield from (call for call in self._pending if call.invoked <= end)

    def __len__(self) -> int:
        return sum(call.asked.operation not in {"tick", "gone"} for call in self.calls)


def calls_of(process: str, content: bytes) -> Iterator[Call]:
    """The calls of one life of a process, from its file.

    A last line without its end was cut by the process's death, and says nothing.

    Raises:
        MalformedHistory: an answer without its question, a question before the last answer, time running backwards.
    """
    under_way: tuple[Asked, int] | None = None
    latest = 0
    for line in content.split(b"\n")[:-1]:
        what, instant, values = _parsed(process, line)
        if instant < latest:
            raise MalformedHistory(f"{process}: time runs backwards at {line!r}")
        latest = instant
        if (what == "asked") is (under_way is not None):
            raise MalformedHistory(f"{process}: a question or an answer is missing before {line!r}")
        if under_way is None:
            under_way = (_asked(values), instant)
        else:
            asked, invoked = under_way
            yield Call(process, asked, invoked, _told(values), instant)
            under_way = None
    if under_way is not None:
        yield Call(process, *under_way)


def _parsed(process: str, line: bytes) -> tuple[str, int, list[Any]]:
    try:
        what, instant, values = json.loads(line)
    except ValueError as error:
        raise MalformedHistory(f"{process}: {line!r} is no record") from error
    return what, instant, values


def _asked(values: list[Any]) -> Asked:
    asked = Asked(*values)
    return asked if asked.scope is None else asked._replace(scope=(asked.scope[0], asked.scope[1], asked.scope[2]))


def _told(values: list[Any]) -> Told:
    kind, job, entity_id, created, broken = values
    return Told(kind, None if job is None else Seen(*job), entity_id, created, broken)


def keep(histories: Path, directory: Path) -> Path:
    """Copy what everybody has recorded, in the place of what was kept there before; where it is."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    for file in histories.glob(f"*{SUFFIX}"):
        shutil.copy(file, directory)
    return directory
