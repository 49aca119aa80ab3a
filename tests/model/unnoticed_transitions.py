"""Wrong transitions that no promise rejects yet: known gaps, each with the sentence of the specification it breaks.

A store that did so would be caught by the comparison with the model. A model that did so would not: only the promises
judge the model. INV-BACKENDS-AGREE is left out of the question, since it asks the model itself.
"""

from typing import Final, NamedTuple

from prompt_studio_model import operations as op
from prompt_studio_model.invariants import Transition
from prompt_studio_model.leases import EXHAUSTED_ERROR
from tests.model.rows import CURRENT, FUTURE
from tests.model.transitions import (
    ACQUIRE,
    CLOSED,
    COMPLETE,
    EXHAUSTED,
    LIVE,
    LOCKED,
    NOTHING,
    QUEUED,
    WORSE,
    ended,
    got_none,
    holding,
    job_went,
    row,
    taken,
    went,
    world,
)


class Gap(NamedTuple):
    """One wrong transition. `breaks` is the id of the sentence that it breaks."""

    what: str
    breaks: str
    seen: Transition


_OTHER: Final = taken(WORSE)
_SPENT: Final = EXHAUSTED._replace(priority=3)

UNNOTICED: Final = (
    Gap(
        "an acquire fails a spent job that is worse than the one it takes",
        "PS-CONCURRENCY-8",
        went(
            world(_SPENT, WORSE),
            ACQUIRE,
            op.Row(_OTHER),
            world(ended(_SPENT, "failed", error=EXHAUSTED_ERROR), _OTHER),
        ),
    ),
    Gap("an acquire leaves a better spent job as it is", "PS-CONCURRENCY-8", got_none(world(EXHAUSTED))),
    Gap(
        "the old call takes a job that is delayed",
        "PS-CONCURRENCY-19",
        job_went(
            row("delayed"),
            op.UpdateStatus(job_id=1, status="processing"),
            taken(row("delayed")),
            op.Row(taken(row("delayed"))),
        ),
    ),
    Gap(
        "an operator completes a job that is queued",
        "PS-CONCURRENCY-19",
        job_went(
            QUEUED,
            op.UpdateStatus(job_id=1, status="completed"),
            ended(QUEUED),
            op.Row(ended(QUEUED)),
        ),
    ),
    Gap(
        "a failed attempt is available before its back-off has passed",
        "PS-CONCURRENCY-14",
        job_went(LIVE, op.Fail(job_id=1, token=CURRENT), row("requeued", available_at=0)),
    ),
    Gap(
        "an acquire whose reply is lost takes a worse job",
        "PS-CONCURRENCY-7",
        went(world(QUEUED, WORSE), op.LoseReply(call=ACQUIRE), NOTHING, world(QUEUED, _OTHER)),
    ),
    Gap(
        "a lock stays behind because its entry did not pass to the new token",
        "PS-LOCKS-2",
        went(
            world(LIVE, sessions=(holding("a", (1, CURRENT - 1)),)),
            COMPLETE,
            op.Outcome("applied"),
            world(CLOSED, sessions=(holding("a", (1, CURRENT - 1)),)),
            LOCKED,
        ),
    ),
    Gap(
        "a call with an old token gives the lock of the new attempt away",
        "PS-LOCKS-8",
        went(
            world(LIVE._replace(lease_token=FUTURE), sessions=(holding("a", (1, FUTURE)),)),
            COMPLETE,
            op.Outcome("lease_lost", "processing"),
            world(LIVE._replace(lease_token=FUTURE)),
            LOCKED,
        ),
    ),
)
