"""Why a call did not change a job: pure decisions on the row that it found.

A guarded statement has already refused when one of these is asked, so a wrong answer here misleads a caller and can
never harm a job. The order of the cases is the contract's: `specs/leases.md`.
"""

from __future__ import annotations

from prompt_studio.jobs import TERMINAL, ClosedBy, JobRow, JobStatus, Outcome, OutcomeKind

NOT_FOUND = Outcome(OutcomeKind.NOT_FOUND)


def applied(job: JobRow, *, late: bool = False) -> Outcome:
    """The call changed the job into this row."""
    return Outcome(OutcomeKind.APPLIED, job["status"], late, job)


def refused_token(job: JobRow | None, lease_token: int, closing: ClosedBy | None) -> Outcome:
    """The answer to a call with a token that was not applied.

    Args:
        job: the row, or None when there is none.
        lease_token: the caller's.
        closing: which closing call it was; None for a renewal, which no closing mark answers.
    """
    if job is None:
        return NOT_FOUND
    if job["lease_token"] != lease_token:  # impl: PS-CONCURRENCY-10
        return Outcome(OutcomeKind.LEASE_LOST, job["status"])
    if closing is not None and job["closed_token"] == lease_token and job["closed_by"] is closing:
        # impl: PS-CONCURRENCY-12
        return Outcome(OutcomeKind.ALREADY, job["status"], job["late"], job)
    return terminal_or(job, OutcomeKind.LEASE_LOST)


def refused_owner(job: JobRow | None) -> Outcome:
    """The answer to a renewal by owner's name that was not applied."""
    return NOT_FOUND if job is None else terminal_or(job, OutcomeKind.LEASE_LOST)


def refused_move(job: JobRow | None, wanted: JobStatus) -> Outcome:
    """The answer to a tokenless change of status that was not applied.

    A job that is where the caller wants it is fine, unless that is `processing`: he must not believe that it is his.
    """
    if job is not None and job["status"] is wanted is not JobStatus.PROCESSING:  # impl: PS-CONCURRENCY-19
        return Outcome(OutcomeKind.ALREADY, job["status"], job=job)
    return refused_retry(job)


def refused_retry(job: JobRow | None) -> Outcome:
    """The answer to an operator's retry of a job that has not failed."""
    return NOT_FOUND if job is None else terminal_or(job, OutcomeKind.REFUSED)


def terminal_or(job: JobRow, kind: OutcomeKind) -> Outcome:
    """That the job is over, or else this."""
    return Outcome(OutcomeKind.TERMINAL if job["status"] in TERMINAL else kind, job["status"])
