"""What a migration did, or would do: plain values, and the text that people read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

BEFORE_VERSIONS: Final = 0
"""The version of a database from before this library."""

CHANGES: Final = {
    "lease_kept": "running jobs that keep their lease and its end",
    "lease_given": "running jobs without an end of their lease: it ends now, and they are taken up again",
    "owner_given": "running jobs without an owner: it is 'migrated'",
    "lease_cleared": "jobs that do not run and had the rest of a lease, which is cleared",
    "error_cleared": "running jobs with the error of an earlier attempt, which is cleared",
    "result_cleared": "jobs that have not ended and had a result, which is cleared",
    "time_cleared": "jobs with the time of a start or an end that has not happened, which is cleared",
    "time_given": "jobs without the time of their start or end: the nearest that is known",
    "priority_limited": "jobs with a priority outside 1..10: the nearest limit",
    "count_limited": "jobs with a count of retries outside its limits: the nearest limit",
    "default_given": "jobs without a status, priority, count, uuid or time of creation: its default",
    "future": "jobs made later than now, as if the old times were not UTC: they are available at once",
    "key_repeated": "keys that were recorded again: kept in prompt_studio_idempotency_superseded",
    "key_unaskable": "keys that no call can ask for: kept in prompt_studio_idempotency_superseded",
    "key_time_given": "keys without a time: it is now",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationReport:
    """What `migrate` did, or, after a dry run, would do.

    Attributes:
        place: which database, without a password.
        dry_run: nothing was changed.
        from_version: the schema's version as it was found; 0 is from before this library, None is none at all.
        to_version: the version that this library has.
        steps: what is done, in order; empty when there is nothing to do.
        jobs: how many there are to convert.
        keys: how many rows of idempotency keys there are to convert.
        changes: how many rows are changed beyond their form, by the names of `CHANGES`; those of none are left out.
        drops: what goes away with the old tables, such as their indexes.
        kept: what becomes of tables that the host application has brought, which are left as they are.
        locks: which locks are held until the end, and who waits for them.
        seconds: how long this call took, which is how long the migration takes.
        measured: how far a dry run can know that.
    """

    place: str
    dry_run: bool
    from_version: int | None
    to_version: int
    steps: tuple[str, ...] = ()
    jobs: int = 0
    keys: int = 0
    changes: Mapping[str, int]
    drops: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    locks: tuple[str, ...] = ()
    seconds: float
    measured: str

    def lines(self) -> Iterator[str]:
        """The report as text."""
        if not self.steps:
            yield f"{self.place} has version {self.to_version} of the schema: there is nothing to do"
            return
        found = {None: "has no schema of ours", BEFORE_VERSIONS: "is from before this library"}
        would = "would be migrated" if self.dry_run else "was migrated"
        yield (
            f"{self.place} {found.get(self.from_version, f'had version {self.from_version}')}, and {would} to "
            f"version {self.to_version} of the schema"
        )
        yield f"rows: {self.jobs} jobs, {self.keys} idempotency keys"
        yield from _listed("steps", self.steps)
        yield from _listed("changed rows", tuple(f"{rows} {CHANGES[name]}" for name, rows in self.changes.items()))
        yield from _listed("dropped with the old tables", self.drops)
        yield from _listed("the application's tables", self.kept)
        yield from _listed("locks", self.locks)
        yield f"time: {self.seconds:.1f} s ({self.measured})"
        if self.dry_run:
            yield "nothing was changed: run it again without --dry-run"


def _listed(title: str, entries: tuple[str, ...]) -> Iterator[str]:
    if entries:
        yield f"{title}:"
        yield from (f"  - {entry}" for entry in entries)
