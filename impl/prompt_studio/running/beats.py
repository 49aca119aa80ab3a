"""When to renew a lease, and when it is lost: decisions on numbers and answers.

Pure: instants are handed in, as seconds of one local clock that never goes back, and so is chance. That clock decides
nothing about the lease, which is the database's; it only tells a holder when to stop believing in it. A deadline is
counted from before the call that was answered, so it is never later than the end that the database wrote.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from prompt_studio.errors import InputError
from prompt_studio.jobs import JobStatus, Outcome, OutcomeKind

BEATS_PER_LEASE: Final = 3
"""Unless overridden: two beats in a row may fail, and the lease is kept."""

JITTER: Final = 0.1
"""The part of an interval by which a beat comes sooner or later, so that workers that began together do not beat so."""

TRIES_PER_LEASE: Final = 10
"""How often a beat without an answer is tried again in the length of a lease; in that of a long one more often."""

UNANSWERED_SECONDS_MAX: Final = 10.0
"""The longest until it is tried again, however long the lease: meanwhile no other job is claimed."""

BEAT_SECONDS_MIN: Final = 0.1
"""A database is given that long for an answer, however short the lease."""

LOCKED_SECONDS: Final = 0.05
"""How long a beat waits for a row that another session has locked: meanwhile no other job's lease is renewed."""


class Loss(StrEnum):
    """Why a holder must stop."""

    LEASE_LOST = "lease_lost"
    """The lease has passed to another attempt, or was given up."""
    CANCELLED = "cancelled"
    """An operator has cancelled the job."""
    ENDED = "ended"
    """The job was ended by somebody else."""
    GONE = "gone"
    """There is no such job any more."""
    DEADLINE = "deadline"
    """No beat was answered for as long as the lease is."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How a job's lease is kept.

    Attributes:
        lease_seconds: for how long each beat renews it.
        interval_seconds: how often it beats.
    """

    lease_seconds: int
    interval_seconds: float

    @property
    def is_slow(self) -> bool:
        """Whether fewer beats fit into a lease than are wise: one or two that fail lose it."""
        return self.interval_seconds > self.lease_seconds / BEATS_PER_LEASE

    @property
    def beat_seconds(self) -> float:
        """How long one beat may take: a call that outlives the lease would renew nothing."""
        return max(BEAT_SECONDS_MIN, min(self.interval_seconds, self.lease_seconds / BEATS_PER_LEASE))


def pace(lease_seconds: int, override_seconds: float | None) -> Pace:
    """The pace of a lease of this length.

    Raises:
        InputError: the interval that was asked for is not shorter than the lease, which no beat would then reach.
    """
    if override_seconds is None:
        return Pace(lease_seconds, lease_seconds / BEATS_PER_LEASE)
    if override_seconds >= lease_seconds:  # impl: PS-LEASE-HB-5
        raise InputError(
            f"heartbeat_seconds (TLDW_PS_HEARTBEAT_SECONDS) must be shorter than the lease of {lease_seconds} s, not "
            f"{override_seconds:g}: a third of it or less, or none for that"
        )
    return Pace(lease_seconds, override_seconds)


@dataclass(frozen=True, slots=True)
class Beat:
    """What a holder knows of its lease, and what it does next.

    Attributes:
        pace: how the lease is kept.
        due: when to beat next.
        deadline: when to stop believing in the lease.
        is_unanswered: the last beat ended in an error.
    """

    pace: Pace
    due: float
    deadline: float
    is_unanswered: bool = False

    @property
    def turn(self) -> tuple[bool, float]:
        """Of several that are due the lowest is next: one beat is made at a time.

        First come those whose last beat was answered, and of them whoever has the least time left. Those that had no
        answer may have to be waited for again, and take turns: of them none is always next, however little time it has.
        """
        return self.is_unanswered, self.due if self.is_unanswered else self.deadline


def first_beat(pace: Pace, asked_at: float, spread: float) -> Beat:
    """After a claim that was called at `asked_at`.

    `spread` is drawn evenly from 1 - JITTER to 1 + JITTER, here and below.
    """
    return Beat(pace, asked_at + _interval(pace, spread), asked_at + pace.lease_seconds)


def renewed(beat: Beat, asked_at: float, spread: float) -> Beat:
    """After a beat that was called at `asked_at`, and applied. The deadline never goes back."""
    deadline = max(beat.deadline, asked_at + beat.pace.lease_seconds)
    return Beat(beat.pace, asked_at + _interval(beat.pace, spread), deadline)


def unanswered(beat: Beat, now: float, spread: float) -> Beat:
    """After a beat that ended in an error at `now`: it may have been applied, and proves nothing."""
    kept = beat.pace
    pause = min(kept.interval_seconds, kept.lease_seconds / TRIES_PER_LEASE, UNANSWERED_SECONDS_MAX)
    return replace(beat, due=now + pause * spread, is_unanswered=True)


def is_over(beat: Beat, now: float) -> bool:
    """Whether the holder must take the lease for lost: the database has not said otherwise for its whole length."""
    return now >= beat.deadline  # impl: PS-LEASE-HB-7


def loss(outcome: Outcome) -> Loss | None:
    """What an answered beat says: None, that the lease is kept."""
    if outcome:
        return None
    if outcome.kind is OutcomeKind.NOT_FOUND:
        return Loss.GONE
    if outcome.kind is OutcomeKind.TERMINAL:
        return Loss.CANCELLED if outcome.status is JobStatus.CANCELLED else Loss.ENDED
    return Loss.LEASE_LOST


def _interval(pace: Pace, spread: float) -> float:
    # Of an interval nearly as long as the lease, the jitter must not reach the lease's end.
    return min(pace.interval_seconds * spread, (pace.interval_seconds + pace.lease_seconds) / 2)
