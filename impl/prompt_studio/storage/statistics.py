"""The queue as numbers. Each answer comes from one statement, so its numbers belong to one instant."""

from __future__ import annotations

from dataclasses import replace

from prompt_studio.jobs import JobStats, JobStatus, JobType, LeaseStats
from prompt_studio.storage.claims import LockCounts
from prompt_studio.storage.operations import MILLISECONDS, Operations


class Statistics(Operations):
    """The queue as numbers."""

    def job_stats(self) -> JobStats:
        """Counts, the mean duration of the completed jobs, and their percentage of the completed and failed ones."""
        by_status = dict.fromkeys(map(str, JobStatus), 0)
        by_type = dict.fromkeys(map(str, JobType), 0)
        processing_milliseconds = 0
        for row in self._read("job_stats"):
            by_status[row["status"]] += row["jobs"]
            by_type[row["job_type"]] += row["jobs"]
            processing_milliseconds += row["processing_milliseconds"]
        completed = by_status[JobStatus.COMPLETED]
        ended = completed + by_status[JobStatus.FAILED]
        return {
            "by_status": by_status,
            "by_type": by_type,
            "avg_processing_time_seconds": processing_milliseconds / MILLISECONDS / completed if completed else 0.0,
            "success_rate": 100.0 * completed / ended if ended else 0.0,
            "queue_depth": by_status[JobStatus.QUEUED],
            "processing": by_status[JobStatus.PROCESSING],
        }

    def schema_version(self) -> int:
        """Which version of the schema the database has."""
        return int(self._read("schema_version")[0]["version"])

    def lock_counts(self) -> LockCounts:
        """What happened to advisory locks since the database was opened."""
        return replace(self._claims.counts)

    def lease_stats(self, warn_seconds: int) -> LeaseStats:
        """How many leases are live, how many of those end within `warn_seconds`, and how many have expired."""
        row = self._read("lease_stats", {"warn_milliseconds": warn_seconds * MILLISECONDS})[0]
        return {
            "active": row["active"],
            "expiring_soon": row["expiring_soon"],
            "stale_processing": row["stale_processing"],
        }
