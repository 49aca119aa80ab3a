"""Histories of jobs, judged by the model of jobs: what may have been when calls overlap, or are never answered."""

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Final

import pytest

from prompt_studio_model import operations as op
from prompt_studio_model.checking.history import Call, Event, Happened, History, Invoked, Lost, Returned
from prompt_studio_model.checking.linearizability import Final as Effect
from prompt_studio_model.checking.linearizability import Judged, Silent, check
from prompt_studio_model.leases import EXHAUSTED_ERROR, claim, end
from prompt_studio_model.state import Job, State
from prompt_studio_model.step import step

pytestmark = pytest.mark.model

JobEvent = Event[op.Invocation, op.Response, op.Tick]
JobMove = Silent[State] | Effect[State, op.Response]
FREE: Final = Job(1, None, "evaluation", 5, 0, 0, 0, execution_limit=2)
ONE_FREE: Final = State(next_id=2, jobs=(FREE,))


@dataclass(frozen=True, slots=True)
class InCommits:
    """The model, except that an acquire fails exhausted rows one by one, in commits of their own, before it claims."""

    def successors(
        self, state: State, call: Call[op.Invocation, op.Response], progress: Hashable, instants: tuple[Hashable, ...]
    ) -> Iterator[JobMove]:
        del instants
        if isinstance(call.invocation, op.Acquire):
            for job in state.jobs:
                if job.exhausted(state.now):
                    yield Silent(state.with_job(end(job, state.now, "failed", error=EXHAUSTED_ERROR)), progress)
        for after, response in step(state, call.invocation):
            yield Effect(after, response)

    def agrees(self, predicted: op.Response, observed: op.Response) -> bool:
        return predicted == observed

    def happened(self, state: State, event: op.Tick) -> State:
        return step(state, event)[0][0]

    def instant(self, state: State) -> Hashable:
        return state.now


def acquires(number: int, who: str) -> Invoked[op.Invocation]:
    return Invoked(number, who, op.Acquire(session=who, owner=who, lease=1_000))


def completes(number: int, who: str, token: int) -> Invoked[op.Invocation]:
    return Invoked(number, who, op.Complete(session=who, job_id=1, token=token))


def judged(*events: JobEvent, state: State = ONE_FREE) -> Judged[State, op.Invocation, op.Response, op.Tick]:
    return check(History(events), state, InCommits())


CLAIMED: Final = {who: claim(FREE, 0, who, 1_000) for who in ("a", "b")}
RECLAIMED: Final = claim(CLAIMED["a"], 1_000, "b", 1_000)
NOBODY: Final = op.Row(None)
LATER: Final = Happened(op.Tick(milliseconds=1_000))


class TestTwoAcquires:
    def test_one_of_which_gets_the_job_are_possible_either_way(self) -> None:
        asked = (acquires(1, "a"), acquires(2, "b"))

        assert judged(*asked, Returned(1, op.Row(CLAIMED["a"])), Returned(2, NOBODY)).verdict == "holds"
        assert judged(*asked, Returned(1, NOBODY), Returned(2, op.Row(CLAIMED["b"]))).verdict == "holds"

    @pytest.mark.parametrize(
        "second", [op.Row(CLAIMED["b"]), op.Row(claim(CLAIMED["a"], 0, "b", 1_000))], ids=["same token", "next token"]
    )
    def test_that_both_get_the_job_are_impossible(self, second: op.Row) -> None:
        found = judged(acquires(1, "a"), acquires(2, "b"), Returned(1, op.Row(CLAIMED["a"])), Returned(2, second))

        assert found.verdict == "violated"
        assert found.failure is not None
        assert found.failure.call.number == 2
        assert [one.answer for one in found.failure.otherwise] == [NOBODY]

    def test_that_both_get_nothing_are_impossible(self) -> None:
        asked = (acquires(1, "a"), acquires(2, "b"))

        assert judged(*asked, Returned(1, NOBODY), Returned(2, NOBODY)).verdict == "violated"


class TestAnAcquireThatIsNeverAnswered:
    BEGUN: Final = (acquires(1, "a"), Lost(1))

    def test_may_have_the_job(self) -> None:
        assert judged(*self.BEGUN, acquires(2, "b"), Returned(2, NOBODY)).finals == {
            ONE_FREE._replace(jobs=(CLAIMED["a"],))
        }

    def test_may_have_nothing(self) -> None:
        found = judged(*self.BEGUN, acquires(2, "b"), Returned(2, op.Row(CLAIMED["b"])))

        assert found.finals == {ONE_FREE._replace(jobs=(CLAIMED["b"],))}

    def test_may_have_had_a_job_that_is_reclaimed(self) -> None:
        found = judged(*self.BEGUN, LATER, acquires(2, "b"), Returned(2, op.Row(RECLAIMED)))

        assert found.verdict == "holds"
        assert [step.kind for step in found.witness] == ["effect", "event", "effect"]

    def test_cannot_have_had_it_for_two_leases(self) -> None:
        twice = claim(RECLAIMED, 1_000, "b", 1_000)

        assert judged(*self.BEGUN, LATER, acquires(2, "b"), Returned(2, op.Row(twice))).verdict == "violated"


class TestACompletion:
    CLAIM: Final = (acquires(1, "a"), Returned(1, op.Row(CLAIMED["a"])), LATER)

    def test_beside_a_reclaim_is_done_first_or_refused(self) -> None:
        done = end(CLAIMED["a"], 1_000, "completed")._replace(closed_token=1, closed_by="complete", late=True)
        asked = (*self.CLAIM, completes(2, "a", 1), acquires(3, "b"))
        applied = Returned(2, op.Outcome("applied", "completed", late=True, job=done))
        refused = Returned(2, op.Outcome("lease_lost", "processing"))

        assert judged(*asked, applied, Returned(3, NOBODY)).verdict == "holds"
        assert judged(*asked, refused, Returned(3, op.Row(RECLAIMED))).verdict == "holds"
        assert judged(*asked, applied, Returned(3, op.Row(RECLAIMED))).verdict == "violated"
        assert judged(*asked, refused, Returned(3, NOBODY)).verdict == "violated"


class TestAnAcquireThatFailsExhaustedRows:
    """Two rows have had their last attempt. Each may be seen to have failed before the other."""

    SPENT: Final = tuple(
        claim(FREE._replace(id=number, execution_limit=1), 0, "c", 1_000)._replace(leased_until=0) for number in (1, 2)
    )
    WORLD: Final = State(next_id=3, jobs=SPENT)

    def seen(self, *events: JobEvent) -> Judged[State, op.Invocation, op.Response, op.Tick]:
        return judged(acquires(1, "a"), *events, state=self.WORLD)

    @pytest.mark.parametrize("ended", [[Lost(1)], []], ids=["lost", "open"])
    def test_may_be_cut_between_them(self, ended: list[JobEvent]) -> None:
        found = self.seen(*ended)
        statuses = {tuple(job.status for job in state.jobs) for state in found.finals}

        assert statuses == {
            (first, second) for first in ("processing", "failed") for second in ("processing", "failed")
        }

    def test_leaves_none_of_them_when_it_is_answered(self) -> None:
        found = self.seen(Returned(1, NOBODY))

        assert {tuple(job.status for job in state.jobs) for state in found.finals} == {("failed", "failed")}
