"""What a worker counts. This one counts nothing; `prompt_studio.prometheus_metrics` counts for Prometheus.

A worker calls these as things happen, from several threads. Nothing here may raise or wait.
"""

from __future__ import annotations

from enum import StrEnum

from prompt_studio.jobs import JobRow


class Ending(StrEnum):
    """How an attempt ended here."""

    COMPLETED = "completed"
    REQUEUED = "requeued"
    """It failed, and the job is tried again."""
    FAILED = "failed"
    RELEASED = "released"
    """It was given back unfinished, by a stop."""
    LOST = "lost"
    """Its lease was lost, and nothing was written."""
    LEFT = "left"
    """Its handler did not end by a stop, or what it came to could not be written: its lease ends by itself."""


class Metrics:
    """What happens to jobs and leases; each method is told once of each occurrence."""

    def claimed(self, job: JobRow) -> None:
        """A job was leased to this worker."""

    def begun(self, job_type: str) -> None:
        """An attempt begins here; `ended` says of each how it ended."""

    def renewed(self, job_type: str, *, late: bool) -> None:
        """A beat was applied; late: the lease had ended by then, and nobody had taken it."""

    def renewal_failed(self, job_type: str) -> None:
        """A beat had no answer; it is tried again."""

    def lost(self, job_type: str, reason: str) -> None:
        """A lease was lost."""

    def closing_repeated(self, job_type: str) -> None:
        """A closing call had no definite answer; it is tried again."""

    def claim_failed(self) -> None:
        """An acquire ended in an error; it is tried again."""

    def ended(self, job_type: str, ending: Ending, seconds: float) -> None:
        """An attempt has ended here, after so many seconds."""
