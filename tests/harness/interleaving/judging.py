"""Judges one schedule: its answers in their order, what is in the tables, and which locks are left.

First as if a claim saw everything. If that cannot explain the answers, a claim may have passed by what others held:
the schedule is played again, and looked at after each step; now a claim may leave out a job that was held, or could not
be leased, at some moment of the call. Whoever broke the schedule is named by the promises that its steps break.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from prompt_studio_model import operations as op
from prompt_studio_model.checking.explore import Verdict
from prompt_studio_model.checking.history import Invoked, Lost, Returned
from prompt_studio_model.checking.linearizability import Judged, check
from prompt_studio_model.checking.properties import violated
from prompt_studio_model.invariants import (
    LEASE_PROMISES,
    executions_bounded,
    no_early_reclaim,
    observe,
    one_effect_per_key,
)
from prompt_studio_model.state import Settings, State
from tests.harness.interleaving.diagram import diagram
from tests.harness.interleaving.excuses import excuses
from tests.harness.interleaving.job_moves import NO_EXCUSES, JobMoves
from tests.harness.interleaving.runs import Run
from tests.harness.interleaving.scheduler import KILL, Scheduler, follow
from tests.harness.interleaving.schedules import CHOICES_OF_A_SERVER
from tests.harness.interleaving.session import Failed, Told
from tests.harness.violation import Violation

STEP_PROMISES: Final = (*LEASE_PROMISES, executions_bounded, no_early_reclaim, one_effect_per_key)
"""What a change of the tables proves to be broken by itself, whatever else was going on."""

CONFORMANCE: Final = "conformance"
"""No order of the calls explains the answers, or leaves such tables."""

ERROR: Final = "unexpected error"
UNFINISHED: Final = "open transaction"
"""A call that ended has left one, with its row locks or its snapshot."""

LOCKS: Final = "INV-LOCKS-MATCH"
LOSS: Final = "INV-NOTHING-LOST"


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a schedule came to. `names`: the promises that it broke; `why`, for people."""

    verdict: Verdict
    names: tuple[str, ...] = ()
    why: str = ""
    excused: bool = False


HOLDS: Final = Judgement("holds")


LOOKS_AT: Final = 50
"""Of so many schedules that hold by what was answered and left, one is looked at step by step, which takes longer."""


class Judge:
    """Judges the schedules of one scheduler.

    A state that nobody happened to see may be wrong, too. So some of those that hold are played again, and looked at
    after each step; and all, once it has found one that does not.
    """

    def __init__(self, scheduler: Scheduler, *, looks_at: int = LOOKS_AT) -> None:
        """`looks_at`: one of so many that hold."""
        self._scheduler = scheduler
        self._looks_at = looks_at
        self._held = 0

    def judge(self, run: Run) -> Judgement:
        """Say whether a schedule holds.

        Raises:
            Trouble: it could not be played again.
        """
        settings = Settings(advisory_locks=run.has_locks)
        strict = self.explain(run)
        holds = strict.verdict == "holds"
        self._held += holds
        if (holds and self._held % self._looks_at) or any(unexpected_errors(run)):
            return strict
        again = self._looked_at(run, same=not holds)
        if not holds and not _is_the_same(again, run):
            return Judgement("inconclusive", why=f"played again it was another one:\n{diagram(run)}\n{diagram(again)}")
        relaxed = strict if holds else self.explain(again, excuses(again))
        broken = broken_by_steps(again, settings)
        if relaxed.verdict == "holds" and not broken:
            return Judgement("holds", excused=not holds)
        if relaxed.verdict == "holds":
            self._looks_at = 1
            told = f"every answer and the end are right, and a step on the way breaks {', '.join(broken)}"
            return Judgement("violated", tuple(broken), f"{told}\n{diagram(again, broken)}")
        why = f"{relaxed.why}\n{diagram(again, broken)}" if broken else relaxed.why
        return Judgement(relaxed.verdict, tuple(broken) or relaxed.names, why)

    def _looked_at(self, run: Run, *, same: bool) -> Run:
        """Play it again and look after each step. `same`: again and again, until a server has chosen as before."""
        for _ in range(CHOICES_OF_A_SERVER if same else 1):
            again = self._scheduler.run(run.scenario, follow(run.choices), look=True)
            if _is_the_same(again, run):
                break
        return again

    def require(self, run: Run) -> Judgement:
        """Judge, and raise unless it holds.

        Raises:
            Violation: it does not.
        """
        judged = self.judge(run)
        if judged.verdict == "violated":
            raise Violation(list(judged.names), judged.why)
        assert judged.verdict == "holds", judged.why
        return judged

    def explain(self, run: Run, excused: Mapping[int, frozenset[int]] = NO_EXCUSES) -> Judgement:
        """Judge a run by what is known of it, without playing it again; as if a claim saw all but what is excused."""
        moves = JobMoves(Settings(advisory_locks=run.has_locks), excused, untold=untold(run))
        failed = list(unexpected_errors(run))
        if failed:
            why = "\n".join([*(f"{error.error}: {error.message}" for error in failed), diagram(run)])
            return Judgement("violated", tuple(dict.fromkeys(error.invariant or ERROR for error in failed)), why)
        again = list(given_again(run))
        if again:
            why = f"the ids {again} were given to jobs before"
            return Judgement("violated", (LOSS,), f"{why}\n{diagram(run)}")
        found: Judged[Any, Any, Any, Any] = check(run.history, run.before, moves)
        if found.verdict == "inconclusive":
            return Judgement("inconclusive", why=f"more than {found.steps} steps of the model\n{diagram(run)}")
        if found.verdict == "violated":
            return Judgement("violated", (CONFORMANCE,), f"{_impossible(found)}\n{diagram(run)}")
        tables = [state for state in found.finals if _tables(state) == _tables(run.after)]
        if not tables:
            expected = "\n".join(f"  allowed: {state.jobs} {state.keys}" for state in found.finals)
            seen = f"the tables are as no order of the calls leaves them:\n  seen: {run.after.jobs} {run.after.keys}"
            return Judgement("violated", (CONFORMANCE,), f"{seen}\n{expected}\n{diagram(run)}")
        if run.unfinished:
            why = f"in sessions of {', '.join(sorted(run.unfinished))} a transaction is open after the last call"
            return Judgement("violated", (UNFINISHED,), f"{why}\n{diagram(run)}")
        trouble = list(locks_trouble(run, tables))
        if trouble:
            return Judgement("violated", (LOCKS,), "\n".join([*trouble, diagram(run)]))
        return HOLDS


def _is_the_same(again: Run, run: Run) -> bool:
    return again.events == run.events and again.after == run.after


def untold(run: Run) -> list[int]:
    """The jobs that were made, and that no create was answered with."""
    seen, told = {job.id for job in run.after.jobs}, {job.id for job in run.before.jobs}
    calls = _calls(run)
    for event in run.events:
        job = getattr(event.answer, "job", None) if isinstance(event, Returned) else None
        if isinstance(event, Returned) and job is not None:
            (told if isinstance(calls[event.number], op.Create) else seen).add(job.id)
    return sorted(seen - told)


def given_again(run: Run) -> Iterator[int]:
    """The ids that a create was told which a job had before, also one that is gone: ids are never reused."""
    given = {job.id for job in run.before.jobs}
    calls = _calls(run)
    for event in run.events:
        if isinstance(event, Returned) and isinstance(calls[event.number], op.Create):
            answer = event.answer
            made = isinstance(answer, op.Row) or (isinstance(answer, op.Made) and answer.created)
            job = answer.job if made and isinstance(answer, op.Row | op.Made) else None
            if job is not None and job.id in given:
                yield job.id
            given |= set() if job is None else {job.id}


def unexpected_errors(run: Run) -> Iterator[Failed]:
    """The calls that failed for no reason: here nothing is in anybody's way for long.

    A reason is that the server has ended the lane's sessions: while the call was under way, or before it, if no call
    of the lane has found that out since. That a row would break a rule of the schema has none.
    """
    found_out = dict.fromkeys(run.scenario.lanes, True)
    under_way: dict[str, int] = {}
    excused: set[int] = set()
    for event, during in zip(run.events, run.during, strict=True):
        if isinstance(event, Invoked):
            under_way[event.lane] = event.number
            excused |= set() if found_out[event.lane] else {event.number}
            found_out[event.lane] = True
        elif isinstance(event, (Returned, Lost)):
            under_way = {lane: number for lane, number in under_way.items() if number != event.number}
        elif isinstance(event.event, op.Crash) and not run.steps[during].what.startswith(KILL):
            found_out[event.event.session] = False
            excused |= {number for lane, number in under_way.items() if lane == event.event.session}
    for number, error in run.failures.items():
        if number not in excused or error.invariant is not None:
            yield error


def locks_trouble(run: Run, finals: list[State]) -> Iterator[str]:
    """What is wrong with the locks that sessions have when all is quiet."""
    for lane, kept in run.kept.items():
        if len(set(kept.running)) < len(kept.running):
            yield f"{lane} had a lock more than once: {kept.running}"
        if {job_id for job_id, _ in kept.locks} != set(kept.running):
            yield f"{lane} believes that it has locked {kept.locks}, and the server says {kept.running}"
        if kept.unlock_errors:
            yield f"{lane} gave back {kept.unlock_errors} locks that it did not have"
    for job_id, lane in sorted(run.leaked):
        yield f"{lane} has locked job {job_id} on a session that nobody unlocks it on"
    seen = {lane: set(kept.locks) for lane, kept in run.kept.items()}
    possible = [{lane: {tuple(lock) for lock in state.session(lane).locks} for lane in seen} for state in finals]
    if seen not in possible and any(seen.values()) | any(any(one.values()) for one in possible):
        yield f"locks left, as job and token: {seen}; any of these would be right: {possible}"


def broken_by_steps(run: Run, settings: Settings) -> dict[str, int]:
    """The promises that single changes of the tables break, each with the first step that does."""
    calls, answers = _calls(run), {one.number: one.answer for one in run.events if isinstance(one, Returned)}
    ends = {one.number: during for one, during in zip(run.events, run.during, strict=True) if isinstance(one, Returned)}
    broken: dict[str, int] = {}
    current: dict[str, int] = {}
    begun = {during: event for event, during in zip(run.events, run.during, strict=True) if isinstance(event, Invoked)}
    for number, step in enumerate(run.steps):
        if number in begun:
            current[step.lane] = begun[number].number
        before, after = run.snapshots[number].state, run.snapshots[number + 1].state
        call = current.get(step.lane)
        if call is None:
            continue
        # A call that names a token is judged by what it was told, too; others may have been done some steps before.
        told_now = ends.get(call) == number and isinstance(calls[call], op.JobCall)
        if (before.jobs, before.keys) == (after.jobs, after.keys) and not told_now:
            continue
        answer = answers.get(call)
        told: op.Response = op.Nothing() if isinstance(answer, Failed | Told | None) else answer
        if isinstance(calls[call], op.Acquire) and not _claims(before, after):
            told = op.Nothing()  # an exhausted job was failed on the way
        seen = observe(settings, before, calls[call], told, after)
        for name in violated(seen, STEP_PROMISES):
            broken.setdefault(name, number)
    return broken


def _tables(state: State) -> tuple[object, ...]:
    """What is compared: keys have no order, since that of their commits need not be that of their ids."""
    return state.jobs, frozenset(state.keys)


def _claims(before: State, after: State) -> bool:
    tokens = {job.id: job.lease_token for job in before.jobs}
    return any(job.lease_token > tokens.get(job.id, 0) for job in after.jobs)


def _calls(run: Run) -> dict[int, op.Invocation]:
    return {event.number: event.invocation for event in run.events if isinstance(event, Invoked)}


def _impossible(found: Judged[Any, Any, Any, Any]) -> str:
    failure = found.failure
    assert failure is not None
    told = f"no order of the calls explains what {failure.call.lane} was answered: {failure.call.answer}"
    return "\n".join([told, *(f"  possible: {other.answer}" for other in failure.otherwise)])
