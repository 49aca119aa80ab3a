"""For each clause of each promise a transition that it must reject: a predicate that is always true fails here."""

from typing import Final

from prompt_studio_model import operations as op
from prompt_studio_model.leases import EXHAUSTED_ERROR
from tests.model.rows import CURRENT, FUTURE, NOW, STALE
from tests.model.transitions import (
    ACQUIRE,
    ANN,
    BOB,
    CANCELLED,
    CLOSED,
    COMPLETE,
    COMPLETED,
    EXHAUSTED,
    EXPIRED,
    FAILED,
    KEYED,
    LIVE,
    LOCKED,
    NOBODY,
    NOTHING,
    QUEUED,
    REFUSED_LONG_AGO,
    REQUEUED,
    SECOND,
    WORSE,
    Case,
    acquired,
    ended,
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

REJECTED: Final = (
    Case("INV-SINGLE-HOLDER", "a stale token", job_went(LIVE, op.Complete(job_id=1, token=STALE), CLOSED)),
    Case("INV-SINGLE-HOLDER", "a future token", job_went(LIVE, op.Renew(job_id=1, token=FUTURE, lease=1), CLOSED)),
    Case(
        "INV-SINGLE-HOLDER",
        "another job than the one named",
        went(world(LIVE, SECOND), COMPLETE, op.Outcome("applied"), world(LIVE, taken(SECOND))),
    ),
    Case(
        "INV-SINGLE-HOLDER",
        "a stale token, and the reply is lost",
        job_went(LIVE, op.LoseReply(call=op.Complete(job_id=1, token=STALE)), CLOSED, NOTHING),
    ),
    Case(
        "INV-SINGLE-HOLDER",
        "a stale token that is told of success",
        job_went(LIVE, op.Complete(job_id=1, token=STALE), LIVE, op.Outcome("applied", "processing", job=LIVE)),
    ),
    Case("INV-TOKEN-GROWS", "a token that is reset", acquired(world(EXPIRED), taken(EXPIRED, lease_token=1))),
    Case("INV-TOKEN-GROWS", "a token that skips one", acquired(world(EXPIRED), taken(EXPIRED, lease_token=4))),
    Case(
        "INV-TOKEN-GROWS", "a token that is given twice", acquired(world(EXPIRED), taken(EXPIRED, lease_token=CURRENT))
    ),
    Case(
        "INV-TOKEN-GROWS",
        "a renewal that moves the token",
        job_went(LIVE, op.Renew(job_id=1, token=CURRENT, lease=1), LIVE._replace(lease_token=FUTURE)),
    ),
    Case(
        "INV-TOKEN-GROWS",
        "two jobs in one call",
        went(world(QUEUED, SECOND), ACQUIRE, op.Row(taken(QUEUED)), world(taken(QUEUED), taken(SECOND))),
    ),
    Case("INV-LEASE-FIELDS", "a queued row with an owner", job_went(LIVE, COMPLETE, QUEUED._replace(lease_owner="a"))),
    Case("INV-LEASE-FIELDS", "a lease after the end", job_went(LIVE, COMPLETE, COMPLETED._replace(leased_until=NOW))),
    Case(
        "INV-LEASE-FIELDS", "a running row without an end", job_went(LIVE, COMPLETE, LIVE._replace(leased_until=None))
    ),
    Case("INV-TERMINAL-ABSORBS", "a completed job revived", job_went(COMPLETED, op.Retry(job_id=1), QUEUED)),
    Case("INV-TERMINAL-ABSORBS", "a cancelled job completed", job_went(CANCELLED, COMPLETE, CLOSED)),
    Case("INV-TERMINAL-ABSORBS", "a result overwritten", job_went(COMPLETED, COMPLETE, COMPLETED._replace(result="r"))),
    Case(
        "INV-TERMINAL-ABSORBS",
        "a failed job revived by a call with a token",
        job_went(FAILED, op.Retry(job_id=1, token=CURRENT), REQUEUED),
    ),
    Case("INV-TERMINAL-ABSORBS", "a failed job acquired", acquired(world(FAILED), taken(FAILED, completed_at=None))),
    Case(
        "INV-TERMINAL-ABSORBS",
        "another failed job than the one named",
        went(
            world(FAILED, FAILED._replace(id=2)),
            op.Retry(job_id=1),
            op.Outcome("applied"),
            world(FAILED, SECOND),
        ),
    ),
    Case(
        "INV-RESULT-FENCED",
        "a result with a stale token",
        job_went(LIVE, op.Complete(job_id=1, token=STALE, result="r"), CLOSED),
    ),
    Case(
        "INV-RESULT-FENCED", "another result than the caller's", job_went(LIVE, COMPLETE, CLOSED._replace(result="s"))
    ),
    Case("INV-RESULT-FENCED", "an error nobody passed", job_went(LIVE, COMPLETE, CLOSED._replace(error="e"))),
    Case(
        "INV-RESULT-FENCED",
        "another job's result",
        went(world(LIVE, SECOND), COMPLETE, op.Outcome("applied"), world(LIVE, SECOND._replace(result="r"))),
    ),
    Case(
        "INV-RESULT-FENCED",
        "an unnamed error of the system",
        job_went(EXHAUSTED, ACQUIRE, ended(EXHAUSTED, "failed", error="?")),
    ),
    Case(
        "INV-RESULT-FENCED",
        "an error out of nothing",
        job_went(LIVE, op.Tick(milliseconds=1), LIVE._replace(error=EXHAUSTED_ERROR)),
    ),
    Case(
        "INV-RESULT-FENCED",
        "exhaustion of a job that does not run",
        job_went(QUEUED, ACQUIRE, ended(QUEUED, "failed", error=EXHAUSTED_ERROR)),
    ),
    Case(
        "INV-LEASE-MONOTONE",
        "a renewal that shortens",
        job_went(LIVE, op.Renew(job_id=1, token=CURRENT, lease=1), LIVE._replace(leased_until=NOW)),
    ),
    Case(
        "INV-LEASE-MONOTONE",
        "a lease beyond the longest",
        job_went(LIVE, op.Renew(job_id=1, token=CURRENT, lease=100), LIVE._replace(leased_until=NOW + 101)),
    ),
    Case(
        "INV-LEASE-MONOTONE",
        "an acquire beyond the longest",
        acquired(world(QUEUED), taken(QUEUED, leased_until=NOW + 101)),
    ),
    Case("INV-NO-EARLY-RECLAIM", "a live lease", acquired(world(LIVE), taken(LIVE))),
    Case("INV-CLAIM-ORDER", "a lower priority", acquired(world(QUEUED, WORSE), taken(WORSE))),
    Case(
        "INV-CLAIM-ORDER",
        "a later creation",
        acquired(world(row("queued", created_at=1), SECOND), taken(row("queued", created_at=1))),
    ),
    Case("INV-CLAIM-ORDER", "a higher id", acquired(world(QUEUED, SECOND), taken(SECOND))),
    Case("INV-CLAIM-ORDER", "past an expired job that is better", acquired(world(EXPIRED, WORSE), taken(WORSE))),
    Case("INV-CLAIM-ORDER", "a delayed job", acquired(world(row("delayed")), taken(row("delayed")))),
    Case("INV-CLAIM-ORDER", "a job without an execution left", acquired(world(EXHAUSTED), taken(EXHAUSTED))),
    Case(
        "INV-CLAIM-ORDER",
        "a type that is not wanted",
        went(
            world(QUEUED),
            op.Acquire(session="a", job_types=frozenset({"generation"})),
            op.Row(taken(QUEUED)),
            world(taken(QUEUED)),
        ),
    ),
    Case("INV-CLAIM-ORDER", "a job that was not there", went(world(), ACQUIRE, op.Row(taken(QUEUED)), world())),
    Case(
        "INV-CLAIM-ORDER",
        "a job that another session holds",
        acquired(world(QUEUED, sessions=(holding("b", (1, CURRENT)),)), taken(QUEUED), settings=LOCKED),
    ),
    Case("INV-NONE-IS-EMPTY", "none beside a queued job", got_none(world(QUEUED))),
    Case("INV-NONE-IS-EMPTY", "none beside an expired job", got_none(world(EXPIRED))),
    Case(
        "INV-NONE-IS-EMPTY",
        "none beside an expired job whose lock is held",
        got_none(world(EXPIRED, sessions=(holding("b", (1, CURRENT)),)), LOCKED),
    ),
    Case(
        "INV-NONE-IS-EMPTY",
        "none although the patience is over",
        got_none(world(QUEUED, sessions=(REFUSED_LONG_AGO, holding("b", (1, CURRENT)))), LOCKED),
    ),
    Case(
        "INV-NONE-IS-EMPTY",
        "none although the lock is one's own",
        got_none(world(QUEUED, sessions=(holding("a", (1, CURRENT)),)), LOCKED),
    ),
    Case(
        "INV-EXECUTIONS-BOUNDED",
        "a free attempt",
        acquired(world(EXPIRED), taken(EXPIRED, executions=EXPIRED.executions)),
    ),
    Case("INV-EXECUTIONS-BOUNDED", "one attempt too many", acquired(world(EXHAUSTED), taken(EXHAUSTED))),
    Case(
        "INV-EXECUTIONS-BOUNDED",
        "a release that costs",
        job_went(LIVE, op.Release(job_id=1, token=CURRENT), row("released")),
    ),
    Case(
        "INV-EXECUTIONS-BOUNDED",
        "a release by the old call that costs",
        job_went(LIVE, op.UpdateStatus(job_id=1, status="queued", token=CURRENT), row("released")),
    ),
    Case(
        "INV-EXECUTIONS-BOUNDED",
        "an operator's requeue that costs nothing",
        job_went(LIVE, op.UpdateStatus(job_id=1, status="queued"), QUEUED._replace(executions=0)),
    ),
    Case(
        "INV-EXECUTIONS-BOUNDED",
        "a job that begins with an execution",
        went(world(), op.Create(), op.Row(None), world(row("queued", id=5))),
    ),
    Case(
        "INV-LOCKS-MATCH",
        "a closing call that keeps the lock",
        went(
            world(LIVE, sessions=(holding("a", (1, CURRENT)),)),
            COMPLETE,
            op.Outcome("applied"),
            world(CLOSED, sessions=(holding("a", (1, CURRENT)),)),
        ),
    ),
    Case(
        "INV-LOCKS-MATCH",
        "a cancellation that keeps the canceller's own lock",
        went(
            world(LIVE, sessions=(holding("a", (1, CURRENT)),)),
            op.Cancel(job_id=1, session="a"),
            op.Outcome("applied"),
            world(ended(LIVE, "cancelled"), sessions=(holding("a", (1, CURRENT)),)),
        ),
    ),
    Case(
        "INV-LOCKS-MATCH",
        "a worker that learned its fate and keeps the lock",
        went(
            world(CANCELLED, sessions=(holding("a", (1, CURRENT)),)),
            op.Renew(session="a", job_id=1, token=CURRENT, lease=1),
            op.Outcome("terminal", "cancelled"),
            world(CANCELLED, sessions=(holding("a", (1, CURRENT)),)),
        ),
    ),
    Case(
        "INV-LOCKS-MATCH",
        "two sessions with one lock",
        got_none(world(LIVE, sessions=(holding("a", (1, CURRENT)), holding("b", (1, CURRENT)))), LOCKED),
    ),
    Case(
        "INV-LOCKS-MATCH",
        "a lock for an attempt that never was",
        got_none(world(LIVE, sessions=(holding("a", (1, FUTURE)),)), LOCKED),
    ),
    Case(
        "INV-ONE-EFFECT-PER-KEY",
        "two rows of one scope",
        told(KEYED, op.Lookup(scope=ANN), op.Number(7), key(ANN, 7), key(ANN, 9)),
    ),
    Case(
        "INV-ONE-EFFECT-PER-KEY",
        "a row that is overwritten",
        told(KEYED, op.Record(scope=ANN, entity_id=9), op.Recorded(9, created=True), key(ANN, 9), key(BOB, 8, NOW - 5)),
    ),
    Case("INV-ONE-EFFECT-PER-KEY", "a row that vanishes", went(KEYED, op.Tick(milliseconds=0), NOTHING, world())),
    Case(
        "INV-ONE-EFFECT-PER-KEY",
        "an answer that is not in the row",
        told(KEYED, op.Record(scope=ANN, entity_id=9), op.Recorded(9, created=False), *KEYED.keys),
    ),
    Case(
        "INV-ONE-EFFECT-PER-KEY",
        "a record that leaves no row",
        told(KEYED, op.Record(scope=NOBODY, entity_id=9), op.Recorded(9, created=True), *KEYED.keys),
    ),
    Case("INV-NO-CROSS-USER", "another user's entity", told(KEYED, op.Lookup(scope=NOBODY), op.Number(7), *KEYED.keys)),
    Case("INV-NO-CROSS-USER", "an expired row's entity", told(KEYED, op.Lookup(scope=BOB), op.Number(8), *KEYED.keys)),
    Case(
        "INV-NO-CROSS-USER",
        "a key that another user has already",
        told(KEYED, op.Record(scope=NOBODY, entity_id=9), op.Recorded(7, created=False), *KEYED.keys),
    ),
    Case(
        "INV-NO-CROSS-USER",
        "another user's row removed",
        told(KEYED, op.Record(scope=ANN, entity_id=9), op.Recorded(7, created=False), key(ANN, 7)),
    ),
    Case("INV-NOTHING-LOST", "a job that vanishes", went(world(QUEUED), op.Tick(milliseconds=1), NOTHING, world())),
    Case("INV-NOTHING-LOST", "a cleanup of what runs", went(world(LIVE), op.Cleanup(age=0), op.Number(1), world())),
    Case(
        "INV-NOTHING-LOST",
        "a cleanup of what is not older",
        went(world(COMPLETED), op.Cleanup(age=5), op.Number(1), world()),
    ),
    Case(
        "INV-NOTHING-LOST",
        "a create that is not there",
        went(world(), op.Create(), op.Row(row("queued", id=5)), world()),
    ),
    Case(
        "INV-NOTHING-LOST",
        "a create that is there twice",
        went(world(), op.Create(), op.Row(None), world(row("queued", id=5), row("queued", id=6))),
    ),
    Case(
        "INV-NOTHING-LOST",
        "an unacknowledged create that is there twice",
        went(world(), op.LoseReply(call=op.Create()), NOTHING, world(row("queued", id=5), row("queued", id=6))),
    ),
    Case(
        "INV-NOTHING-LOST",
        "a job that nobody created",
        went(world(), ACQUIRE, op.Row(None), world(row("queued", id=5))),
    ),
    Case(
        "INV-NOTHING-LOST",
        "an id that was given before",
        went(world(), op.Create(), op.Row(None), world(row("queued", id=4))),
    ),
    Case(
        "INV-NOTHING-LOST", "two rows of one id", went(world(QUEUED), op.Create(), op.Row(None), world(QUEUED, QUEUED))
    ),
    Case("INV-NOTHING-LOST", "a request that changes", job_went(LIVE, COMPLETE, CLOSED._replace(request="another"))),
    Case(
        "INV-REPLAY-SAFE",
        "a second completion that writes",
        job_went(COMPLETED, COMPLETE, CLOSED, op.Outcome("already")),
    ),
    Case(
        "INV-REPLAY-SAFE",
        "a second completion that is refused",
        job_went(COMPLETED, COMPLETE, COMPLETED, op.Outcome("terminal")),
    ),
    Case(
        "INV-REPLAY-SAFE", "a completion that cannot be recognised", job_went(LIVE, COMPLETE, ended(LIVE, result="r"))
    ),
    Case(
        "INV-REPLAY-SAFE",
        "a second cancellation that writes",
        job_went(CANCELLED, op.Cancel(job_id=1), CANCELLED._replace(completed_at=NOW)),
    ),
    Case(
        "INV-REPLAY-SAFE",
        "a second record that writes",
        told(
            KEYED,
            op.Record(scope=ANN, entity_id=7),
            op.Recorded(7, created=False),
            key(ANN, 7, NOW + 1),
            key(BOB, 8, NOW - 5),
        ),
    ),
    Case("INV-BACKENDS-AGREE", "another answer", got_none(world(QUEUED))),
    Case("INV-BACKENDS-AGREE", "another row", acquired(world(QUEUED), taken(QUEUED, started_at=NOW - 1))),
    Case(
        "INV-RESULT-FENCED",
        "an acquire fails a job whose lease is live",
        went(world(LIVE), ACQUIRE, op.Row(None), world(ended(LIVE, "failed", error=EXHAUSTED_ERROR))),
    ),
    Case(
        "INV-EXECUTIONS-BOUNDED",
        "a failure raises the limit of executions",
        job_went(LIVE, op.Fail(job_id=1, token=CURRENT), row("requeued", execution_limit=9)),
    ),
    Case(
        "INV-EXECUTIONS-BOUNDED",
        "a job begins with a token",
        went(
            world(),
            op.Create(),
            op.Row(row("queued", id=5, executions=0)),
            world(row("queued", id=5, executions=0), next_id=6),
        ),
    ),
    Case(
        "INV-NOTHING-LOST",
        "the next id goes back, so that ids are given again",
        went(world(), op.Cleanup(age=0), op.Number(0), world(next_id=1)),
    ),
    Case(
        "INV-LOCKS-MATCH",
        "a dead session keeps its locks",
        went(
            world(LIVE, sessions=(holding("a", (1, CURRENT)),)),
            op.Crash(session="a"),
            NOTHING,
            world(LIVE, sessions=(holding("a", (1, CURRENT)),)),
            LOCKED,
        ),
    ),
)
