"""The table of outcomes: operation x situation of the row x credential of the caller. This is who wins a race.

`RULES` is read from the top; the first rule that fits decides. `TABLE` is the same, written out, and its keys are the
pairs that a conformance run must witness on a real store. A decision that depends on anything else (whether a failed
attempt is requeued, how far a lease is extended) is an effect and stands in `leases`.
"""

from typing import Final, Literal, NamedTuple

from prompt_studio_model.operations import JobCall, OutcomeKind
from prompt_studio_model.state import Closing, Job

Decision = OutcomeKind | Literal["rejected"]
Key = tuple[str, str, str]

# Situations of a row. A closed one was closed by a call with the row's present token, and that call may be repeated.
ABSENT, ANY = "absent", "any"  # ANY: the answer is given before a row is looked at
IN_QUEUE: Final = "queued delayed requeued backing_off released"  # never run or revived; then after fail; after release
READY: Final = "queued requeued released"
RUNNING: Final = "live live_last expired exhausted"  # last: no attempt left, as in exhausted, which is expired too
COMPLETE: Final = "completed completed_tokenless"
BROKEN: Final = "failed failed_tokenless"
OVER: Final = f"{COMPLETE} {BROKEN} cancelled"

# Credentials of a caller: a token compared with the row's, or none; a name instead of one, for old renewals.
CURRENT, STALE, FUTURE, NONE, OWNER, OTHER = "current", "stale", "future", "none", "owner", "other"

CLOSES: Final[dict[str, Closing]] = {
    **dict.fromkeys(("complete", "update_completed"), "complete"),
    **dict.fromkeys(("fail", "fail_for_good", "retry", "update_failed"), "fail"),
    **dict.fromkeys(("release", "update_queued"), "release"),
}
CLOSING: Final = " ".join(CLOSES)
UPDATES: Final = "update_queued update_processing update_completed update_failed update_cancelled"


class Rule(NamedTuple):
    """Everything in the cross product of the three lists has this outcome, unless an earlier rule said otherwise."""

    operations: str
    situations: str
    credentials: str
    outcome: Decision


RULES: Final = (
    # A call that cannot be understood is refused before any row is looked at.
    Rule("complete fail fail_for_good release renew", ANY, NONE, "rejected"),
    Rule("update_cancelled update_processing", ANY, CURRENT, "rejected"),
    # With a token: existence, then the token, then the state, then whether this very call was applied before.
    Rule(f"{CLOSING} renew", ABSENT, FUTURE, "not_found"),
    Rule(f"{CLOSING} renew", f"{IN_QUEUE} {RUNNING} {OVER}", f"{STALE} {FUTURE}", "lease_lost"),
    Rule(f"{CLOSING} renew", RUNNING, CURRENT, "applied"),
    Rule("complete update_completed", "completed", CURRENT, "already"),
    Rule("fail fail_for_good retry update_failed", "failed requeued backing_off", CURRENT, "already"),
    Rule("release update_queued", "released", CURRENT, "already"),
    Rule(f"{CLOSING} renew", OVER, CURRENT, "terminal"),
    Rule(f"{CLOSING} renew", IN_QUEUE, CURRENT, "lease_lost"),
    # Renewal by name, for callers from before there were tokens.
    Rule("renew", ABSENT, OTHER, "not_found"),
    Rule("renew", OVER, OTHER, "terminal"),
    Rule("renew", RUNNING, OWNER, "applied"),
    Rule("renew", f"{IN_QUEUE} {RUNNING}", OTHER, "lease_lost"),
    # Operators and old callers, without a token.
    Rule(f"cancel retry {UPDATES}", ABSENT, NONE, "not_found"),
    Rule("cancel update_cancelled", f"{IN_QUEUE} {RUNNING}", NONE, "applied"),
    Rule("cancel update_cancelled", "cancelled", NONE, "already"),
    Rule("retry update_queued", BROKEN, NONE, "applied"),
    Rule("retry", f"{IN_QUEUE} {RUNNING}", NONE, "refused"),
    Rule("update_queued", RUNNING, NONE, "applied"),
    Rule("update_queued", IN_QUEUE, NONE, "already"),
    Rule("update_processing", READY, NONE, "applied"),
    Rule("update_processing", f"{IN_QUEUE} {RUNNING}", NONE, "refused"),
    Rule("update_completed update_failed", RUNNING, NONE, "applied"),
    Rule("update_completed", COMPLETE, NONE, "already"),
    Rule("update_failed", BROKEN, NONE, "already"),
    Rule("update_completed update_failed", IN_QUEUE, NONE, "refused"),
    Rule(f"cancel retry {UPDATES}", OVER, NONE, "terminal"),
)

# Situations and credentials that cannot meet, with the argument.
UNREACHABLE: Final[dict[tuple[str, str], str]] = {
    ("delayed", CURRENT): "only create delays a row that was never closed, so its token is 0, which no caller can name",
    ("delayed", STALE): "the same: no token is below 0",
}


def written_out(rules: tuple[Rule, ...]) -> dict[Key, Decision]:
    """Return the rules as a table: the first rule that names a key decides it."""
    table: dict[Key, Decision] = {}
    for rule in rules:
        for operation in rule.operations.split():
            for found in rule.situations.split():
                for who in rule.credentials.split():
                    table.setdefault((operation, found, who), rule.outcome)
    return table


TABLE: Final = written_out(RULES)
PAIRS: Final = frozenset(key for key in TABLE if key[1:] not in UNREACHABLE)


def situation(job: Job | None, now: int) -> str:
    """Return which situation of the table the job is in at `now`."""
    if job is None:
        return ABSENT
    if job.status == "processing":
        last = job.executions >= job.execution_limit
        if job.expired(now):
            return "exhausted" if last else "expired"
        return "live_last" if last else "live"
    if job.status == "queued":
        if job.closed_by == "release":
            return "released"
        ready = job.available_at <= now
        if job.closed_by == "fail":
            return "requeued" if ready else "backing_off"
        return "queued" if ready else "delayed"
    if job.status == "cancelled":
        return "cancelled"
    name = "completed" if job.status == "completed" else "failed"
    return name if job.closed_by is not None else f"{name}_tokenless"


def credential(call: JobCall, job: Job | None) -> str:
    """Return what the caller brought, compared with the row."""
    if call.token is not None:
        if job is None or call.token > job.lease_token:
            return FUTURE
        return CURRENT if call.token == job.lease_token else STALE
    if call.operation == "renew" and call.owner is not None:
        return OWNER if job is not None and call.owner == job.lease_owner else OTHER
    return NONE


def pair(call: JobCall, job: Job | None, now: int) -> Key:
    """Return the key of the table that decides this call."""
    if (call.operation, ANY, CURRENT) in TABLE and call.token is not None:
        return (call.operation, ANY, CURRENT)
    who = credential(call, job)
    return (call.operation, ANY if (call.operation, ANY, who) in TABLE else situation(job, now), who)
