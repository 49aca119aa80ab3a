"""Which steps of two lanes may change places, as data.

Two steps are independent when no test can tell in which order they were done: neither hinders the other, and both lead
to the same tables, answers and locks. The table says what each statement reads and writes; whatever is not in it
depends on everything. `tests/interleaved/test_independence.py` plays each pair of statements that it calls independent
in both orders, and shows of each entry that the pairs which it keeps apart can be told apart.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

from tests.harness.interleaving.runs import Step
from tests.harness.interleaving.scheduler import KILL

Access = Literal["reads", "writes"]


class Use(NamedTuple):
    """What a statement does with a resource. `job_id`: with this job's row only; None is all of them."""

    access: Access
    resource: str
    job_id: int | None = None


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a step needs and leaves.

    Attributes:
        uses: the resources; None for every one, in every way.
        begins: a call begins in it, so that it must not change places with the end of another one.
        ends: a call ends in it, be it that of another lane, which it has woken or killed.
    """

    uses: frozenset[Use] | None = frozenset()
    begins: bool = False
    ends: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """What the statements of one kind of database use.

    Attributes:
        outside: by name, of a statement that is a transaction by itself, or begins or ends one.
        inside: of one within a transaction; None when that makes no difference.
        ending: what the end of any call uses besides.
    """

    outside: Mapping[str, frozenset[Use]]
    inside: frozenset[Use] | None = None
    ending: frozenset[Use] = frozenset()


_CLOCK: Final = Use("reads", "clock")
_JOBS: Final = (Use("writes", "jobs"), _CLOCK)
_OPEN: Final = frozenset({"begin"})
_CLOSE: Final = frozenset({"commit", "rollback"})
_ENDED: Final = frozenset({"ready", "ended", "done"})
"""Where a lane comes to when its call has ended."""

SQLITE_TABLE: Final = Table(
    outside={
        "begin": frozenset({Use("writes", "write lock")}),
        "commit": frozenset({Use("writes", "write lock"), Use("writes", "jobs"), Use("writes", "keys")}),
        "lookup_key_of_user": frozenset({Use("reads", "keys")}),
        "lookup_key_without_user": frozenset({Use("reads", "keys")}),
    },
    inside=frozenset({_CLOCK}),  # nobody sees it before the commit, nor can change what it sees
    ending=frozenset({Use("writes", "write lock")}),  # whoever was told that it is locked tries again then
)
POSTGRES_TABLE: Final = Table(
    outside={
        "begin": frozenset(),
        "commit": frozenset({Use("writes", "jobs"), Use("writes", "keys")}),
        **dict.fromkeys(
            (
                "acquire_best_job",
                "create_job",
                "hold_job",
                "renew_lease",
                "complete_job",
                "fail_job",
                "fail_or_requeue_job",
                "release_job",
                "set_cancelled",
                "retry_failed_job",
            ),
            frozenset(_JOBS),
        ),
        "unlock_job": frozenset({Use("writes", "jobs")}),
        "get_job": frozenset({Use("reads", "jobs")}),
        "record_key_of_user": frozenset({Use("writes", "keys"), _CLOCK}),
        "lookup_key_of_user": frozenset({Use("reads", "keys")}),
        "fill_key": frozenset({Use("writes", "keys")}),
    },
)
TABLES: Final = {"sqlite": SQLITE_TABLE, "postgres": POSTGRES_TABLE, "postgres, no locks": POSTGRES_TABLE}
"""By the name of the location."""


def independent(one: Footprint, other: Footprint) -> bool:
    """Whether these steps of two lanes may change places."""
    if one.uses is None or other.uses is None or (one.begins and other.ends) or (one.ends and other.begins):
        return False
    return not any(_collide(use, another) for use in one.uses for another in other.uses)


def _collide(one: Use, other: Use) -> bool:
    same = one.resource == other.resource and (one.job_id is None or other.job_id in {None, one.job_id})
    return same and "writes" in {one.access, other.access}


@dataclass(slots=True)
class _Seen:
    statement: str = ""
    begins: bool = True
    in_transaction: bool = False


@dataclass(slots=True)
class Reader:
    """Reads the steps of a run, in their order."""

    table: Table
    _lanes: dict[str, _Seen] = field(default_factory=dict)
    _waiting: set[str] = field(default_factory=set)

    def footprint(self, step: Step) -> Footprint:
        """That of the next step."""
        lane = self._lanes.setdefault(step.lane, _Seen())
        self._waiting -= {*step.enabled}
        woken = {name for name, _ in step.woken}
        ended = {name for name, phase in step.woken if phase in _ENDED}
        if step.what.startswith(KILL):
            ended.add(step.what.removeprefix(KILL))
        try:
            return self._of(lane, step, others_end=bool(ended))
        finally:
            self._waiting -= woken
            self._lanes |= {name: _Seen() for name in ended}  # what comes next of it is another call

    def _of(self, lane: _Seen, step: Step, *, others_end: bool) -> Footprint:
        if step.what == "left out":
            return Footprint()
        if step.what.startswith("tick"):
            return Footprint(frozenset({Use("writes", "clock")}), begins=True, ends=True)
        begins, ends = lane.begins, step.outcome in _ENDED or others_end
        lane.begins = step.outcome in _ENDED
        if not step.what.startswith("..."):
            lane.statement = step.what
        uses = self._uses(lane, step)
        if step.what in _OPEN | _CLOSE and step.outcome != "busy":
            lane.in_transaction = step.what in _OPEN
        if step.outcome == "blocked":
            self._waiting.add(step.lane)
        if self._waiting:  # what somebody waits for may let him go on in the same step
            return Footprint(None, begins=begins, ends=ends)
        return Footprint(None if uses is None else uses | (self.table.ending if ends else set()), begins, ends)

    def _uses(self, lane: _Seen, step: Step) -> frozenset[Use] | None:
        if lane.in_transaction and self.table.inside is not None and step.what not in _CLOSE:
            return self.table.inside
        uses = self.table.outside.get(lane.statement)
        if uses is None or step.job_id is None:
            return uses
        return frozenset(use._replace(job_id=step.job_id) if use.resource == "jobs" else use for use in uses)


def footprints(table: Table, steps: list[Step]) -> Iterator[Footprint]:
    """Those of all steps of a run."""
    reader = Reader(table)
    return map(reader.footprint, steps)
