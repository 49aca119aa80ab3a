"""Everything that must happen at least once is seen when it happens, and not when something like it happens."""

import pytest

from prompt_studio_model import operations as op
from prompt_studio_model.invariants import Transition
from prompt_studio_model.state import Session
from prompt_studio_model.witnesses import SOMETIMES
from tests.model.rows import CURRENT
from tests.model.transitions import (
    ACQUIRE,
    ANN,
    BOB,
    CLOSED,
    COMPLETE,
    EXPIRED,
    KEYED,
    LIVE,
    LOCKED,
    NOTHING,
    QUEUED,
    REFUSED_JUST_NOW,
    REFUSED_LONG_AGO,
    SECOND,
    WORSE,
    Case,
    acquired,
    got_none,
    holding,
    job_went,
    key,
    row,
    taken,
    told,
    went,
    world,
)

pytestmark = pytest.mark.model

HELD_BY_B = holding("b", (1, CURRENT))
RECLAIMED = taken(EXPIRED, was_reclaim=True)
LATE = op.Outcome("applied", "completed", late=True)
LOST = op.LoseReply(session="a", call=COMPLETE)


def reclaim(session: Session) -> Transition:
    """The expired job, whose lock this session holds, is reclaimed by `a`."""
    return acquired(world(EXPIRED, sessions=(session,)), RECLAIMED, settings=LOCKED)


def impatient(*sessions: Session) -> Transition:
    """The queued job is claimed by `a`, while these sessions are there."""
    return acquired(world(QUEUED, sessions=sessions), taken(QUEUED), settings=LOCKED)


SEEN = (
    Case("SEEN-LATE-COMPLETION", "of an expired job", job_went(EXPIRED, COMPLETE, CLOSED, LATE)),
    Case("SEEN-LATE-COMPLETION", "of an exhausted job", job_went(row("exhausted"), COMPLETE, CLOSED, LATE)),
    Case("SEEN-LOST-REPLY-DONE", "a completion", job_went(LIVE, LOST, CLOSED, NOTHING)),
    Case("SEEN-LOST-REPLY-NOT-DONE", "a completion", job_went(LIVE, LOST, LIVE, NOTHING)),
    Case("SEEN-TIE", "two equal jobs", acquired(world(QUEUED, SECOND), taken(QUEUED))),
    Case(
        "SEEN-CRASH-WITH-LOCK",
        "of the holder",
        went(world(LIVE, sessions=(HELD_BY_B,)), op.Crash(session="b"), NOTHING, world(LIVE), LOCKED),
    ),
    Case(
        "SEEN-LOCK-REFUSED",
        "for the first time",
        went(
            world(QUEUED, sessions=(HELD_BY_B,)),
            ACQUIRE,
            op.Row(None),
            world(QUEUED, sessions=(REFUSED_JUST_NOW, HELD_BY_B)),
            LOCKED,
        ),
    ),
    Case("SEEN-RECLAIM-WITHOUT-LOCK", "of a job that another session holds", reclaim(HELD_BY_B)),
    Case("SEEN-IMPATIENT", "after a long refusal", impatient(REFUSED_LONG_AGO, HELD_BY_B)),
    Case(
        "SEEN-TWO-SCOPES",
        "the same key of another user",
        told(world(keys=(key(ANN, 7),)), op.Record(scope=BOB, entity_id=8), op.Recorded(8, created=True), key(ANN, 7)),
    ),
)
NOT_SEEN = (
    Case("SEEN-LATE-COMPLETION", "in time", job_went(LIVE, COMPLETE, CLOSED)),
    Case("SEEN-LATE-COMPLETION", "refused", job_went(EXPIRED, COMPLETE, EXPIRED, op.Outcome("lease_lost"))),
    Case(
        "SEEN-LATE-COMPLETION",
        "a renewal",
        job_went(EXPIRED, op.Renew(job_id=1, token=CURRENT, lease=1), EXPIRED, LATE),
    ),
    Case("SEEN-LOST-REPLY-DONE", "not done", job_went(LIVE, LOST, LIVE, NOTHING)),
    Case("SEEN-LOST-REPLY-DONE", "not lost", job_went(LIVE, COMPLETE, CLOSED)),
    Case("SEEN-LOST-REPLY-NOT-DONE", "done", job_went(LIVE, LOST, CLOSED, NOTHING)),
    Case("SEEN-LOST-REPLY-NOT-DONE", "not lost", job_went(LIVE, COMPLETE, LIVE, op.Outcome("lease_lost"))),
    Case("SEEN-TIE", "another priority", acquired(world(QUEUED, WORSE), taken(QUEUED))),
    Case("SEEN-TIE", "a rival that is not eligible", acquired(world(QUEUED, row("live", id=2)), taken(QUEUED))),
    Case("SEEN-TIE", "nothing was taken", got_none(world(QUEUED, SECOND))),
    Case(
        "SEEN-CRASH-WITH-LOCK",
        "of another session",
        went(world(LIVE, sessions=(HELD_BY_B,)), op.Crash(session="a"), NOTHING, world(LIVE), LOCKED),
    ),
    Case(
        "SEEN-CRASH-WITH-LOCK",
        "no crash",
        went(world(LIVE, sessions=(HELD_BY_B,)), op.Tick(session="b", milliseconds=1), NOTHING, world(LIVE), LOCKED),
    ),
    Case("SEEN-LOCK-REFUSED", "again", got_none(world(QUEUED, sessions=(REFUSED_JUST_NOW, HELD_BY_B)), LOCKED)),
    Case("SEEN-RECLAIM-WITHOUT-LOCK", "the lock was free, and is held now", reclaim(holding("a", (1, 3)))),
    Case("SEEN-RECLAIM-WITHOUT-LOCK", "no reclaim", impatient(HELD_BY_B)),
    Case("SEEN-RECLAIM-WITHOUT-LOCK", "locks are off", acquired(world(EXPIRED), RECLAIMED)),
    Case("SEEN-IMPATIENT", "a reclaim", reclaim(HELD_BY_B)),
    Case("SEEN-IMPATIENT", "nothing was taken", got_none(world(QUEUED), LOCKED)),
    Case("SEEN-IMPATIENT", "locks are off", acquired(world(QUEUED), taken(QUEUED))),
    Case(
        "SEEN-TWO-SCOPES",
        "the key was known",
        told(KEYED, op.Record(scope=ANN, entity_id=7), op.Recorded(7, created=False), *KEYED.keys),
    ),
    Case(
        "SEEN-TWO-SCOPES",
        "the first of all",
        told(world(), op.Record(scope=ANN, entity_id=7), op.Recorded(7, created=True), key(ANN, 7)),
    ),
    Case("SEEN-TWO-SCOPES", "a lookup", told(KEYED, op.Lookup(scope=ANN), op.Number(7), *KEYED.keys)),
)
HOPES = {promise.id: promise for promise in SOMETIMES}


def _name(case: Case) -> str:
    return f"{case.promise}: {case.what}"


class TestHope:
    @pytest.mark.parametrize("case", SEEN, ids=_name)
    def test_is_seen(self, case: Case) -> None:
        assert HOPES[case.promise].predicate(case.seen)

    @pytest.mark.parametrize("case", NOT_SEEN, ids=_name)
    def test_is_not_seen(self, case: Case) -> None:
        assert not HOPES[case.promise].predicate(case.seen)

    def test_has_something_in_which_it_is_seen_and_something_in_which_it_is_not(self) -> None:
        assert {case.promise for case in SEEN} == HOPES.keys()
        assert {case.promise for case in NOT_SEEN} == HOPES.keys()
