"""What a call on the queue may do to the model's state, and in which parts others may see it being done.

A statement reads the clock at some instant between its call and its commit, so a call takes effect with any reading
since it began. An acquire fails exhausted jobs on its way, each in a commit of its own. What a claim was allowed to
pass by because others held it is `excused`: for each call, the jobs that were held, or could not be leased, at some
moment of the call. Without excuses a claim takes the best eligible job of its instant, and no other.
"""

from collections.abc import Hashable, Iterable, Mapping
from typing import Any

from prompt_studio_model import locks
from prompt_studio_model import operations as op
from prompt_studio_model.checking.history import Call
from prompt_studio_model.checking.linearizability import Final, Silent
from prompt_studio_model.leases import EXHAUSTED_ERROR, claim, end
from prompt_studio_model.state import Job, Settings, State, claim_order
from prompt_studio_model.step import step
from tests.harness.interleaving.session import Answer, Failed

NO_EXCUSES: Mapping[int, frozenset[int]] = {}
Successor = Silent[State] | Final[State, Answer]
CallOnJobs = Call[op.Invocation, Answer]


class JobMoves:
    """The moves of calls on a queue, for a store with these settings."""

    def __init__(
        self,
        settings: Settings,
        excused: Mapping[int, frozenset[int]] = NO_EXCUSES,
        *,
        untold: Iterable[int] = (),
    ) -> None:
        """The moves of a run in which there are jobs, the `untold`, that no create was answered with."""
        self._settings = settings
        self._excused = excused
        self._untold = tuple(untold)

    def successors(
        self, state: State, call: CallOnJobs, progress: Hashable, instants: tuple[Hashable, ...]
    ) -> Iterable[Successor]:
        """Give every next part of a call's effect, at every reading of the clock that it may have had."""
        del progress  # a part of an acquire leaves nothing to remember: the row says it
        for instant in instants:
            assert isinstance(instant, int)
            for move in self._at(state._replace(now=instant), call):
                if isinstance(call.invocation, op.CreateOnce) and isinstance(move, Final):
                    yield from self._made_later(state, call.invocation, move, instants)
                else:
                    yield move._replace(state=move.state._replace(now=state.now))

    def _made_later(
        self, before: State, call: op.CreateOnce, move: Final[State, Answer], instants: tuple[Hashable, ...]
    ) -> Iterable[Successor]:
        """A create with a key reads the clock twice: when it claims the key, and when it makes the job."""
        made = move.answer.job if isinstance(move.answer, op.Made) and move.answer.created else None
        for instant in instants if made is not None else (move.state.now,):
            assert isinstance(instant, int)
            after, answer = move.state._replace(now=before.now), move.answer
            if made is not None and instant >= move.state.now:
                available_at = instant if call.available_at is None else made.available_at
                job = made._replace(created_at=instant, available_at=available_at)
                after, answer = after.with_job(job), op.Made(job, created=True)
            yield Final(after, answer)

    def _at(self, state: State, call: CallOnJobs) -> Iterable[Successor]:
        if isinstance(call.invocation, op.Acquire):
            yield from self._exhaustion(state, call.invocation, self._excused.get(call.number, frozenset()))
        if isinstance(call.answer, Failed):
            yield Final(state, call.answer)  # nothing of the call's own effect was committed
        elif isinstance(call.invocation, op.Acquire) and call.number in self._excused:
            yield from self._claims(state, call.invocation, self._excused[call.number])
        elif isinstance(call.invocation, op.Create):
            yield from self._creation(state, call)
        else:
            for after, answer in step(state, call.invocation, self._settings):
                yield Final(after, answer)

    def _exhaustion(self, state: State, call: op.Acquire, excused: frozenset[int]) -> Iterable[Successor]:
        """Each exhausted job that may be failed: one that is better than any that must be claimed."""
        for job in _wanted(state, call):
            if job.exhausted(state.now):
                failed = end(job, state.now, "failed", error=EXHAUSTED_ERROR, closed_token=None, closed_by=None)
                yield Silent(state.with_job(failed), None)
            if job.id not in excused and (job.exhausted(state.now) or job.eligible(state.now)):
                return

    def _claims(self, state: State, call: op.Acquire, excused: frozenset[int]) -> Iterable[Successor]:
        """Each job that may be claimed: every better one may be passed by. And none, if all may be."""
        for job in _wanted(state, call):
            if job.eligible(state.now):
                claimed = claim(job, state.now, call.owner, call.lease)
                after = state.with_job(claimed)
                if self._settings.advisory_locks and locks.holder(state, job.id) in {None, call.session}:
                    after = locks.hold(after, call.session, job.id, claimed.lease_token)
                yield Final(locks.forget_stale_refusals(after), op.Row(claimed))
                if job.id not in excused:
                    return
        yield Final(state, op.Row(None))

    def _creation(self, state: State, call: CallOnJobs) -> Iterable[Successor]:
        """A rival's rolled back insert uses up an id, and ids are not given in the order of commits.

        A create that was not answered made any of those that nobody was told of, if it made one.
        """
        told = call.answer.job if isinstance(call.answer, op.Row | op.Made) else None
        unused = max((job.id for job in state.jobs), default=0) + 1
        ids = [told.id] if told is not None else [*self._untold, unused]
        for job_id in [one for one in ids if state.job(one) is None] or [unused]:
            for after, answer in step(state._replace(next_id=job_id), call.invocation, self._settings):
                yield Final(after._replace(jobs=tuple(sorted(after.jobs, key=lambda job: job.id))), answer)

    def agrees(self, predicted: Any, observed: Any) -> bool:  # noqa: ANN401 - any answer
        """Say whether they are equal."""
        return bool(predicted == observed)

    def happened(self, state: State, event: op.Invocation) -> State:
        """Return the state after a tick, or after a session has ended."""
        ((after, _),) = step(state, event, self._settings)
        return after

    def instant(self, state: State) -> Hashable:
        """Return the clock's reading."""
        return state.now


def _wanted(state: State, call: op.Acquire) -> list[Job]:
    wanted = (job for job in state.jobs if call.job_types is None or job.job_type in call.job_types)
    return sorted(wanted, key=claim_order)
