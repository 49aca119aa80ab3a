"""Judges of leases and tokens: who held a job, how often it ran, and what became of it."""

from collections.abc import Iterator

from tests.harness.evidence import CLOSINGS, TERMINAL, Attempt, Evidence, FinalJob, Finding, leased_until
from tests.harness.history import Call, Operation, Seen


def single_holder(seen: Evidence) -> Iterator[Finding]:
    """No two holders of one token, no change by a token that was superseded or closed before it was asked."""
    for (job_id, token), calls in seen.acquires.items():
        if len(calls) > 1:
            names = ("INV-SINGLE-HOLDER", "INV-TOKEN-GROWS")
            yield Finding(names, "double", f"job {job_id} was given out twice with token {token}", tuple(calls))
    for attempt, calls in seen.with_token.items():
        yield from _used_after_its_time(seen, attempt, calls)


def _used_after_its_time(seen: Evidence, attempt: Attempt, calls: list[Call]) -> Iterator[Finding]:
    job_id, token = attempt
    later = [one for other in seen.tokens.get(job_id, []) if other > token for one in seen.acquires[job_id, other]]
    closed = [call for call in calls if call.asked.operation in CLOSINGS and call.applied]
    if len(closed) > 1:
        sentence = f"two calls closed job {job_id} under token {token}"
        yield Finding(("INV-SINGLE-HOLDER",), "double", sentence, tuple(closed))
    for call in calls:
        superseding = [one for one in later if one.before(call)] if call.truthy else []
        if superseding:
            sentence = f"token {token} of job {job_id} was obeyed after a later one had been given out"
            yield Finding(("INV-SINGLE-HOLDER",), "double", sentence, (*superseding[:1], call))
        ended = [one for one in closed if one.before(call)] if call.applied else []
        if ended:
            sentence = f"token {token} of job {job_id} was obeyed after its attempt had been closed"
            yield Finding(("INV-SINGLE-HOLDER",), "double", sentence, (*ended[:1], call))


def attempts_agree(seen: Evidence) -> Iterator[Finding]:
    """Each attempt begins as the one before ended: after a closing from the queue, without one from the holder.

    Two calls that overlap can have come in either order, but only in one: who reclaims has superseded the holder, whose
    closing is then refused; who closes leaves nothing to reclaim.
    """
    names = ("INV-SINGLE-HOLDER",)
    for (job_id, token), calls in seen.acquires.items():
        before = (job_id, token - 1)
        closed = [one for one in seen.with_token.get(before, []) if one.asked.operation in CLOSINGS and one.applied]
        last = [one for one in closed if one.job is not None and one.job.status in TERMINAL]
        for call in calls:
            reclaim = call.job is not None and call.job.was_reclaim
            if last:
                sentence = f"token {token} of job {job_id} was given out, and token {token - 1} ended the job"
                yield Finding(names, "double", sentence, (last[0], call))
            elif reclaim and closed:
                sentence = f"job {job_id} was taken from its holder as token {token}, who closed token {token - 1}"
                yield Finding(names, "double", sentence, (closed[0], call))
            elif reclaim and token == 1:
                yield Finding(names, "wrong", f"job {job_id} was taken from a holder, and had none before", (call,))
            elif not reclaim and token > 1 and not seen.closings(before, "fail", "release"):
                sentence = f"job {job_id} was taken from the queue as token {token}, and nobody had put it back"
                yield Finding(names, "double", sentence, (*seen.acquires.get(before, []), call))


def token_grows(seen: Evidence) -> Iterator[Finding]:
    """A later acquire returns a greater token, and each step of a token is an acquire's."""
    unaccounted = 0
    for job_id, tokens in seen.tokens.items():
        calls = [(token, call) for token in tokens for call in seen.acquires[job_id, token]]
        for token, call in calls:
            earlier = [one for less, one in calls if less < token and call.before(one)]
            if earlier:
                sentence = f"the token of job {job_id} went back"
                yield Finding(("INV-TOKEN-GROWS",), "wrong", sentence, (call, earlier[0]))
        row = seen.rows.get(job_id)
        if row is not None and row.token < tokens[-1]:
            sentence = f"job {job_id} has token {row.token} in the end, and {tokens[-1]} was given out"
            yield Finding(("INV-TOKEN-GROWS",), "lost", sentence, tuple(seen.acquires[job_id, tokens[-1]]))
    for row in seen.remains.jobs:
        unaccounted += max(0, row.token - len([one for one in seen.tokens.get(row.id, []) if one <= row.token]))
    if unaccounted > len(seen.pending_acquires):
        sentence = (
            f"tokens grew {unaccounted} times without an acquire that returned them, "
            f"and only {len(seen.pending_acquires)} acquires got no answer"
        )
        yield Finding(("INV-TOKEN-GROWS",), "wrong", sentence, tuple(seen.pending_acquires))


def executions_bounded(seen: Evidence) -> Iterator[Finding]:
    """Acquires (which a token counts) less releases are executions, and these never exceed their limit."""
    releases: dict[int, list[Call]] = {}
    for call in seen.history.of("release"):
        if call.asked.job_id is not None and (call.applied or call.pending):
            releases.setdefault(call.asked.job_id, []).append(call)
    for row in seen.remains.jobs:
        known = releases.get(row.id, [])
        yield from _counted(row, known, sum(call.applied for call in known), ())
    for call in (one for calls in seen.acquires.values() for one in calls):
        if call.job is not None:
            known = [one for one in releases.get(call.job.id, []) if not call.before(one)]
            yield from _counted(call.job, known, sum(one.applied and one.before(call) for one in known), (call,))


def _counted(job: FinalJob | Seen, releases: list[Call], surely: int, told: tuple[Call, ...]) -> Iterator[Finding]:
    name = ("INV-EXECUTIONS-BOUNDED",)
    if not 0 <= job.executions <= job.execution_limit:
        sentence = f"job {job.id} has {job.executions} executions, and {job.execution_limit} are allowed"
        yield Finding(name, "wrong", sentence, (*releases, *told))
    if not surely <= job.token - job.executions <= len(releases):
        sentence = (
            f"job {job.id} was acquired {job.token} times and has {job.executions} executions, "
            f"and the releases that took effect were {surely} to {len(releases)}"
        )
        yield Finding(name, "wrong", sentence, (*releases, *told))


def no_early_reclaim(seen: Evidence) -> Iterator[Finding]:
    """A reclaim's clock, as its answer tells it, showed no earlier time than every lease of the attempt before."""
    for (job_id, token), calls in seen.acquires.items():
        before = (job_id, token - 1)
        reclaims = [call for call in calls if call.job is not None and _is_reclaim(seen, call.job, before)]
        grants = seen.grants(before)
        if not reclaims or not grants:
            continue
        longest = max(grants, key=leased_until)
        for call in reclaims:
            shown = seen.shown_to(call)
            if shown is not None and shown < leased_until(longest):
                sentence = (
                    f"job {job_id} was reclaimed at {shown}, "
                    f"{leased_until(longest) - shown} ms before the lease of token {token - 1} ended"
                )
                yield Finding(("INV-NO-EARLY-RECLAIM",), "double", sentence, (*grants, call))


def _is_reclaim(seen: Evidence, job: Seen, before: Attempt) -> bool:
    """Whether the row was taken from a holder: it says so, or nobody can have closed the attempt before."""
    return job.token > 1 and (job.was_reclaim or not seen.closings(before))


def lease_monotone(seen: Evidence) -> Iterator[Finding]:
    """No renewal leaves a lease that ends before one that the same token had been told."""
    for attempt in seen.with_token:
        grants = seen.grants(attempt)
        for call in grants:
            shortened = [one for one in grants if one.before(call) and leased_until(call) < leased_until(one)]
            if shortened:
                sentence = f"a renewal took time away from token {attempt[1]} of job {attempt[0]}"
                yield Finding(("INV-LEASE-MONOTONE",), "wrong", sentence, (shortened[0], call))


def endings(seen: Evidence) -> Iterator[Finding]:
    """What was acknowledged as an end is the end, and each end is the work of a call that can have brought it about."""
    for attempt, calls in seen.with_token.items():
        for call in calls:
            row = seen.rows.get(attempt[0])
            if row is not None and call.applied and call.job is not None and call.job.status in TERMINAL:
                yield from _kept(call, row, (call.job.status, attempt[1], call.asked.operation))
    for job_id, cancels in seen.cancels.items():
        row = seen.rows.get(job_id)
        told = [call for call in cancels if call.applied]
        if row is not None and told and row.status != "cancelled":
            sentence = f"job {job_id} was cancelled, and is {row.status} in the end"
            yield Finding(("INV-TERMINAL-ABSORBS",), "lost", sentence, tuple(told))
    for row in seen.remains.jobs:
        if row.status in TERMINAL and not _explained(seen, row):
            sentence = f"job {row.id} is {row.status} under token {row.closed_token}, and no call can have done that"
            calls = [call for call in seen.history.calls if call.asked.job_id == row.id]
            yield Finding(("INV-SINGLE-HOLDER", "INV-TERMINAL-ABSORBS"), "wrong", sentence, tuple(calls))
        elif row.status == "failed" and row.closed_token is None:
            yield from _failed_early(seen, row)


def _failed_early(seen: Evidence, row: FinalJob) -> Iterator[Finding]:
    """Find a job that was failed for want of executions while its last lease was live.

    It was, if the row says so, or if its holder was told of the end before the clock showed that of the lease.
    """
    grants = seen.grants((row.id, row.token))
    calls = seen.with_token.get((row.id, row.token), [])
    learned = [call for call in calls if call.told is not None and call.told.kind == "terminal"]
    most = [seen.history.timeline.most(call.responded) for call in learned if call.responded is not None]
    shown = min((moment for moment in (row.completed_at, *most) if moment is not None), default=None)
    if grants and shown is not None and shown < (end := max(map(leased_until, grants))):
        sentence = f"job {row.id} was failed at {shown}, {end - shown} ms before the lease of its last attempt ended"
        yield Finding(("PS-CONCURRENCY-8",), "lost", sentence, (*grants, *learned))


def _kept(call: Call, row: FinalJob, expected: tuple[str, int, str]) -> Iterator[Finding]:
    if (row.status, row.closed_token, row.closed_by) != expected:
        sentence = f"{call.process} ended job {row.id}, which in the end is {row.status} by token {row.closed_token}"
        yield Finding(("INV-TERMINAL-ABSORBS",), "lost", sentence, (call,))
    elif row.status == "completed" and row.result != [call.process, call.asked.token]:
        sentence = f"{call.process} completed job {row.id}, whose result is {row.result!r}"
        yield Finding(("INV-RESULT-FENCED",), "lost", sentence, (call,))


def _explained(seen: Evidence, row: FinalJob) -> bool:
    if row.status == "cancelled":
        return bool(seen.cancels.get(row.id))
    if row.closed_token is None:
        return row.status == "failed" and row.executions >= row.execution_limit  # its last lease expired
    name: Operation = "complete" if row.status == "completed" else "fail"
    return row.closed_token == row.token and bool(seen.closings((row.id, row.closed_token), name))
