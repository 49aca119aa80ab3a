"""Judges of claims: was the job available, and was a better one free throughout a call that did not take it?

A *span* is a stretch of real time in which a job is proven to have been there for the taking: queued, from the answer
that said so to the question of the acquire that took it; or expired, if nobody renewed or closed its last attempt.
A call that lies wholly within a span, under a clock that showed the job to be eligible, must not return a worse job,
nor none. Where rows or locks can be held against a caller, every call that may have held the job excuses it.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

from tests.harness.evidence import Evidence, Finding, leased_until
from tests.harness.history import TRUTHY, Call, Seen

FOR_EVER: Final = 2**63


class Weighed(NamedTuple):
    """How many acquires were judged by what was free, and how many may have met somebody who held it."""

    judged: int
    excused: int


class Span(NamedTuple):
    """When a job could be taken. `proof` says why; `eligible_from` is in milliseconds of the shared clock."""

    job: Seen
    start: int
    end: int
    eligible_from: int
    expired: bool
    proof: tuple[Call, ...]


def claim_order(seen: Evidence) -> Iterator[Finding]:
    """Each acquire returned the best of the jobs that were free all the time, and none only if there was none."""
    for call, spans in _looked(seen):
        yield from _passed_over(seen, call, spans)


def weighed(seen: Evidence) -> Weighed:
    """How many acquires could not have been answered otherwise without being found wrong.

    It is those that took a job which was free when they were asked, and which nobody may have held against them. One
    that somebody may have held, and one for whose sake a better job is excused, is excused.
    """
    judged = excused = 0
    for call, spans in _looked(seen):
        own = [
            span for span in spans if call.job is not None and (span.job.id, span.end) == (call.job.id, call.invoked)
        ]
        free = not any(_may_be_held(seen, call, span) for span in own)
        passed = any(_is_passed_over(call, span) for span in spans)
        judged += bool(own) and free and not passed
        excused += passed or not free
    return Weighed(judged, excused)


def _looked(seen: Evidence) -> Iterator[tuple[Call, list[Span]]]:
    """Each acquire, with the spans that had begun and were eligible when it was asked."""
    spans = sorted(_spans(seen), key=lambda span: span.start)
    open_spans: list[Span] = []
    begun = 0
    for call in seen.history.of("acquire"):
        if call.told is None or call.responded is None or call.told.kind == "conflict":
            continue
        while begun < len(spans) and spans[begun].start < call.invoked:
            open_spans.append(spans[begun])
            begun += 1
        open_spans = [span for span in open_spans if span.end >= call.invoked]
        now = seen.history.timeline.least(call.invoked)
        if now is not None:
            yield call, [span for span in open_spans if span.eligible_from <= now]


def no_early_claim(seen: Evidence) -> Iterator[Finding]:
    """A claim's clock, as its answer tells it, showed no earlier time than that from which the job was available."""
    made = {call.job.id: call for call in seen.creates if call.job is not None}
    for (job_id, token), calls in seen.acquires.items():
        openers = [call for call in seen.with_token.get((job_id, token - 1), []) if _puts_back(call)]
        if token == 1 and job_id in made:
            openers.append(made[job_id])
        for call in calls:
            told = [one for one in (*openers, call) if one.job is not None]
            latest = max(told, key=_available_at)
            shown = seen.shown_to(call)
            if shown is not None and shown < _available_at(latest):
                early = _available_at(latest) - shown
                sentence = f"job {job_id} was given out at {shown}, {early} ms before it was available"
                yield Finding(("PS-CONCURRENCY-7",), "wrong", sentence, (latest, call))


def _puts_back(call: Call) -> bool:
    return call.applied and call.job is not None and call.job.status == "queued"


def _available_at(call: Call) -> int:
    return 0 if call.job is None else call.job.available_at


def _passed_over(seen: Evidence, call: Call, spans: list[Span]) -> Iterator[Finding]:
    for span in spans:
        if _is_passed_over(call, span) and not _may_be_held(seen, call, span):
            name = "INV-NONE-IS-EMPTY" if call.job is None else "INV-CLAIM-ORDER"
            got = "nothing" if call.job is None else f"job {call.job.id} (priority {call.job.priority})"
            how = "expired" if span.expired else "queued"
            sentence = f"{call.process} got {got} while job {span.job.id} (priority {span.job.priority}) was {how}"
            yield Finding((name,), "stuck" if call.job is None else "wrong", sentence, (*span.proof, call))
            return


def _is_passed_over(call: Call, span: Span) -> bool:
    better = call.job is None or span.job.order < call.job.order
    return better and call.responded is not None and call.responded < span.end


def _spans(seen: Evidence) -> Iterator[Span]:
    for call in seen.creates:
        if call.job is not None:
            yield from _queued(seen, call, call.job, 0)
    for (_, token), calls in seen.with_token.items():
        for call in calls:
            if _puts_back(call) and call.job is not None:
                yield from _queued(seen, call, call.job, token)
    for attempt in seen.acquires:
        yield from _expired(seen, *attempt)


def _queued(seen: Evidence, opener: Call, job: Seen, token: int) -> Iterator[Span]:
    """From the answer that showed it queued after its attempt with this token, until the next acquire was asked."""
    end, taker = _taken(seen, job.id, token, "queued")
    if opener.responded is not None and opener.responded < end:
        yield Span(job, opener.responded, end, job.available_at, expired=False, proof=(opener, *taker))


def _expired(seen: Evidence, job_id: int, token: int) -> Iterator[Span]:
    """From the end of the longest lease of an attempt that nobody closed, until the next acquire was asked."""
    attempt = (job_id, token)
    acquire = seen.acquires[attempt][0]
    renewing = [call for call in seen.with_token.get(attempt, []) if call.pending]
    job = acquire.job
    doubtful = renewing or seen.closings(attempt) or seen.cancels.get(job_id)
    if doubtful or job is None or acquire.responded is None or job.executions >= job.execution_limit:
        return
    end, taker = _taken(seen, job_id, token, "processing")
    grants = seen.grants(attempt)
    if acquire.responded < end and grants:
        ends = max(leased_until(call) for call in grants)
        yield Span(job, acquire.responded, end, ends, expired=True, proof=(*grants, *taker))


def _taken(seen: Evidence, job_id: int, token: int, status: str) -> tuple[int, list[Call]]:
    """When the attempt after this token was first asked for; without one, for ever if the row has stayed as it was."""
    takers = sorted(seen.acquires.get((job_id, token + 1), []), key=lambda call: call.invoked)
    if takers:
        return takers[0].invoked, takers[:1]
    row = seen.rows.get(job_id)
    untouched = row is not None and (row.token, row.status) == (token, status)
    return (FOR_EVER if untouched else 0), []


def _may_be_held(seen: Evidence, call: Call, span: Span) -> bool:
    """Whether anybody else may have held the job against the caller at some instant of the call."""
    if seen.holding.rows:
        until = call.invoked if call.responded is None else call.responded
        beside = [
            other
            for other in seen.history.during(call.invoked, until)
            if not (other.pending and seen.is_gone(other.process, call.invoked))
        ]
        rivals = [other for other in beside if other.asked.operation == "acquire" and other.process != call.process]
        at_first = seen.history.during(span.start, span.start)
        early = [
            other
            for other in at_first
            if other.asked.operation == "acquire"
            and _is_early(other, span)
            and not (other.pending and seen.is_gone(other.process, call.invoked))
        ]
        if any(_may_hold_row(seen, other, early, span) or _may_be_refused(seen, other, span) for other in rivals):
            return True
        if any(other.asked.job_id == span.job.id for other in beside):
            return True
    return _may_be_refused(seen, call, span)


def _is_early(other: Call, span: Span) -> bool:
    """Whether an acquire had begun before the job was free, and was under way when it was."""
    return other.invoked < span.start and (other.responded is None or other.responded > span.start)


def _may_hold_row(seen: Evidence, other: Call, early: list[Call], span: Span) -> bool:
    """Whether an acquire may have held the row for a while, although it did not get the job.

    It looks at the best queued and at the best expired one, holds both, and takes the better. It lets go of that one,
    too, and begins again, if its lock is refused, or if the row is not any more what it was when the call began. Both
    happen to calls that began before the job was free, and can then happen to those that meet such a call. It begins
    again, too, after it has failed an exhausted job, for which it held the best queued one as well.
    """
    if other.job is None or other.job.was_reclaim is not span.expired or seen.may_have_failed_another(other):
        return True
    return any(one is other or one.overlaps(other) for one in early)


def _may_be_refused(seen: Evidence, call: Call, span: Span) -> bool:
    """Whether the lock of the job may be refused to an acquire: it holds the row until it is told, and goes on."""
    return seen.holding.locks and not span.expired and any(_may_hold_lock(seen, call, span))


def _may_hold_lock(seen: Evidence, call: Call, span: Span) -> Iterator[bool]:
    """For each other session that took the job before, or may have, whether it may not yet have given its lock back.

    To the caller's rivals the caller is one of them: he may have kept the lock of an attempt whose end he has not
    learned, and passes by the row then while it is refused to somebody else.
    """
    for other in seen.pending_acquires:
        left = seen.is_gone(other.process, call.invoked)
        yield other.process != call.process and not call.before(other) and not left
    for token in seen.tokens.get(span.job.id, []):
        takers = seen.acquires[span.job.id, token] if token <= span.job.token else []
        for taker in takers:
            over = _has_learned(seen, taker, call) or seen.is_gone(taker.process, call.invoked)
            yield taker.process != call.process and not over


def _has_learned(seen: Evidence, taker: Call, call: Call) -> bool:
    """Whether the taker was told, before the call, that its attempt was over: then it has unlocked."""
    job = taker.job
    assert job is not None
    return any(
        one.process == taker.process and one.before(call) and one.told is not None and _is_over(one)
        for one in seen.with_token.get((job.id, job.token), [])
    )


def _is_over(call: Call) -> bool:
    kind = None if call.told is None else call.told.kind
    closed = kind in TRUTHY and call.asked.operation != "renew"
    return closed or kind in {"lease_lost", "terminal"}
