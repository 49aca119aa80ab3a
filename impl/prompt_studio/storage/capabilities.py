"""What a store can and cannot do, as named values.

Callers and tests ask these and never a database's name: a difference between two databases that nobody has named is
a difference that nobody has checked.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class BackendType(StrEnum):
    """The kinds of database."""

    SQLITE = "sqlite"
    POSTGRESQL = "postgresql"


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """The differences between databases that somebody may notice.

    Attributes:
        advisory_locks: a claimed job is also held by a lock of its worker's session.
        one_writer: write transactions of all sessions follow one another, so a claim never has to skip a held row.
        in_one_file: the whole database is one file that can be copied, deleted or made read-only.
        notifications: who listens hears when a job is queued.
    """

    advisory_locks: bool
    one_writer: bool
    in_one_file: bool
    notifications: bool
