"""Transitions that a promise must accept, although they come near to what it forbids."""

from typing import Final

from prompt_studio_model import operations as op
from prompt_studio_model.leases import EXHAUSTED_ERROR
from tests.model.rows import CURRENT, NOW
from tests.model.transitions import (
    ACQUIRE,
    ANN,
    BOB,
    CLOSED,
    COMPLETE,
    COMPLETED,
    EXHAUSTED,
    EXPIRED,
    FAILED,
    KEYED,
    LIVE,
    LOCKED,
    MADE_KEY,
    MADE_ONCE,
    NOBODY,
    NOTHING,
    ONCE,
    QUEUED,
    REFUSED_JUST_NOW,
    USED,
    WORSE,
    Case,
    acquired,
    ended,
    got_none,
    holding,
    job_went,
    key,
    once,
    row,
    taken,
    told,
    went,
    world,
)

ACCEPTED: Final = (
    Case("INV-SINGLE-HOLDER", "a call with the current token", job_went(LIVE, COMPLETE, CLOSED)),
    Case(
        "INV-SINGLE-HOLDER",
        "a renewal by name",
        job_went(LIVE, op.Renew(job_id=1, owner="a", lease=60), LIVE._replace(leased_until=NOW + 60)),
    ),
    Case("INV-TOKEN-GROWS", "an acquire", acquired(world(QUEUED), taken(QUEUED))),
    Case(
        "INV-TOKEN-GROWS",
        "an acquire by the old call",
        job_went(QUEUED, op.UpdateStatus(job_id=1, status="processing"), taken(QUEUED), op.Row(taken(QUEUED))),
    ),
    Case("INV-LEASE-FIELDS", "a job that ends", job_went(LIVE, COMPLETE, CLOSED)),
    Case("INV-TERMINAL-ABSORBS", "an operator's retry", job_went(FAILED, op.Retry(job_id=1), QUEUED)),
    Case(
        "INV-TERMINAL-ABSORBS",
        "the same by the old call",
        job_went(FAILED, op.UpdateStatus(job_id=1, status="queued"), QUEUED),
    ),
    Case("INV-RESULT-FENCED", "a result with the current token", job_went(LIVE, COMPLETE, CLOSED)),
    Case(
        "INV-RESULT-FENCED",
        "exhaustion",
        went(world(EXHAUSTED), ACQUIRE, op.Row(None), world(ended(EXHAUSTED, "failed", error=EXHAUSTED_ERROR))),
    ),
    Case(
        "INV-RESULT-FENCED",
        "an operator's words",
        job_went(LIVE, op.Cancel(job_id=1, error="no"), ended(LIVE, "cancelled", error="no")),
    ),
    Case("INV-LEASE-MONOTONE", "a reclaim for less", acquired(world(EXPIRED), taken(EXPIRED, leased_until=NOW - 1))),
    Case(
        "INV-LEASE-MONOTONE",
        "the longest lease",
        job_went(LIVE, op.Renew(job_id=1, token=CURRENT, lease=100), LIVE._replace(leased_until=NOW + 100)),
    ),
    Case("INV-NO-EARLY-RECLAIM", "a reclaim at the boundary", acquired(world(EXPIRED), taken(EXPIRED))),
    Case("INV-CLAIM-ORDER", "the best job", acquired(world(QUEUED, WORSE), taken(QUEUED))),
    Case(
        "INV-CLAIM-ORDER",
        "the second best, while another session holds the best",
        acquired(world(QUEUED, WORSE, sessions=(holding("b", (1, CURRENT)),)), taken(WORSE), settings=LOCKED),
    ),
    Case("INV-NONE-IS-EMPTY", "none, and all are running", got_none(world(LIVE, row("delayed", id=2)))),
    Case(
        "INV-NONE-IS-EMPTY",
        "none, while another session holds the job and patience lasts",
        got_none(world(QUEUED, sessions=(REFUSED_JUST_NOW, holding("b", (1, CURRENT)))), LOCKED),
    ),
    Case("INV-EXECUTIONS-BOUNDED", "an acquire", acquired(world(QUEUED), taken(QUEUED))),
    Case(
        "INV-EXECUTIONS-BOUNDED",
        "a release",
        job_went(LIVE, op.Release(job_id=1, token=CURRENT), row("released", executions=LIVE.executions - 1)),
    ),
    Case(
        "INV-LOCKS-MATCH",
        "a closing call that unlocks",
        went(world(LIVE, sessions=(holding("a", (1, CURRENT)),)), COMPLETE, op.Outcome("applied"), world(CLOSED)),
    ),
    Case(
        "INV-LOCKS-MATCH",
        "a cancellation of which the worker does not know yet",
        went(
            world(LIVE, sessions=(holding("a", (1, CURRENT)),)),
            op.Cancel(job_id=1, session="b"),
            op.Outcome("applied"),
            world(ended(LIVE, "cancelled"), sessions=(holding("a", (1, CURRENT)),)),
        ),
    ),
    Case(
        "INV-ONE-EFFECT-PER-KEY",
        "an expired row that is replaced",
        told(KEYED, op.Record(scope=BOB, entity_id=9), op.Recorded(9, created=True), key(ANN, 7), key(BOB, 9)),
    ),
    Case(
        "INV-ONE-EFFECT-PER-KEY",
        "a create with a new key",
        once(op.Made(MADE_ONCE, created=True), MADE_ONCE, keys=(MADE_KEY,)),
    ),
    Case(
        "INV-ONE-EFFECT-PER-KEY",
        "a create with an expired key",
        once(
            op.Made(MADE_ONCE, created=True),
            MADE_ONCE,
            keys=(MADE_KEY,),
            before=world(keys=(key(ONCE.scope, 1, NOW - 5, "two"),)),
        ),
    ),
    Case(
        "INV-ONE-EFFECT-PER-KEY",
        "a create with a known key",
        once(op.Made(QUEUED, created=False), QUEUED, keys=USED.keys, before=USED),
    ),
    Case(
        "INV-ONE-EFFECT-PER-KEY",
        "a create with a key that was recorded by hand",
        once(
            op.Made(QUEUED, created=False),
            QUEUED,
            keys=(key(ONCE.scope, 1),),
            before=world(QUEUED, keys=(key(ONCE.scope, 1),)),
        ),
    ),
    Case(
        "INV-ONE-EFFECT-PER-KEY",
        "another request with a known key",
        went(USED, op.CreateOnce(scope=ONCE.scope, fingerprint="two"), op.Mismatch(), USED),
    ),
    Case(
        "INV-ONE-EFFECT-PER-KEY",
        "a key of a job that was deleted",
        once(op.Gone(), keys=USED.keys, before=USED._replace(jobs=())),
    ),
    Case(
        "INV-ONE-EFFECT-PER-KEY",
        "a lost create with a key that was done",
        went(world(), op.LoseReply(call=ONCE), NOTHING, world(MADE_ONCE, next_id=6, keys=(MADE_KEY,))),
    ),
    Case(
        "INV-ONE-EFFECT-PER-KEY",
        "a lost create with a key that was not done",
        went(world(), op.LoseReply(call=ONCE), NOTHING, world()),
    ),
    Case(
        "INV-ONE-EFFECT-PER-KEY",
        "a lost create with a known key",
        went(USED, op.LoseReply(call=ONCE), NOTHING, USED),
    ),
    Case(
        "INV-ONE-EFFECT-PER-KEY",
        "expired keys that are deleted",
        went(KEYED, op.CleanupKeys(), op.Number(1), KEYED._replace(keys=KEYED.keys[:1])),
    ),
    Case(
        "INV-NO-CROSS-USER",
        "a create with the key of another user",
        once(
            op.Made(MADE_ONCE, created=True),
            QUEUED,
            MADE_ONCE,
            keys=(key(BOB._replace(entity_type="job"), 1), MADE_KEY),
            before=world(QUEUED, keys=(key(BOB._replace(entity_type="job"), 1),)),
        ),
    ),
    Case(
        "INV-NO-CROSS-USER",
        "a create with a known key",
        once(op.Made(QUEUED, created=False), QUEUED, keys=USED.keys, before=USED),
    ),
    Case(
        "INV-NO-CROSS-USER",
        "an answer from one's own row",
        told(KEYED, op.Lookup(scope=ANN), op.Number(7), *KEYED.keys),
    ),
    Case(
        "INV-NO-CROSS-USER",
        "no answer at all",
        went(KEYED, op.LoseReply(call=op.Lookup(scope=NOBODY)), NOTHING, KEYED),
    ),
    Case(
        "INV-NOTHING-LOST", "a create", went(world(), op.Create(), op.Row(None), world(row("queued", id=5), next_id=6))
    ),
    Case(
        "INV-NOTHING-LOST",
        "a create with a new key",
        once(op.Made(MADE_ONCE, created=True), MADE_ONCE, keys=(MADE_KEY,)),
    ),
    Case(
        "INV-NOTHING-LOST",
        "a create with a known key",
        once(op.Made(QUEUED, created=False), QUEUED, keys=USED.keys, before=USED),
    ),
    Case(
        "INV-NOTHING-LOST",
        "a lost create that was not done",
        went(world(), op.LoseReply(call=op.Create()), NOTHING, world()),
    ),
    Case(
        "INV-NOTHING-LOST",
        "a lost create that was done",
        went(world(), op.LoseReply(call=op.Create()), NOTHING, world(row("queued", id=5), next_id=6)),
    ),
    Case(
        "INV-NOTHING-LOST", "a cleanup of what is old", went(world(COMPLETED), op.Cleanup(age=4), op.Number(1), world())
    ),
    Case("INV-REPLAY-SAFE", "a repeated completion", job_went(COMPLETED, COMPLETE, COMPLETED, op.Outcome("already"))),
    Case(
        "INV-REPLAY-SAFE",
        "a repeated create with a key",
        once(op.Made(QUEUED, created=False), QUEUED, keys=USED.keys, before=USED),
    ),
    Case(
        "INV-REPLAY-SAFE",
        "a first create with a key",
        once(op.Made(MADE_ONCE, created=True), MADE_ONCE, keys=(MADE_KEY,)),
    ),
    Case("INV-REPLAY-SAFE", "a first completion", job_went(LIVE, COMPLETE, CLOSED)),
    Case(
        "INV-REPLAY-SAFE",
        "an operator's second retry",
        job_went(FAILED, op.Retry(job_id=1), QUEUED),
    ),
    Case("INV-BACKENDS-AGREE", "an acquire as the model does it", got_none(world(LIVE))),
    Case(
        "INV-BACKENDS-AGREE",
        "whatever a foreign lock does",
        got_none(world(QUEUED, sessions=(holding("b", (1, CURRENT)),)), LOCKED),
    ),
)
