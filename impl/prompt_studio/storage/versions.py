"""What a database that is to be opened or migrated may hold, and what its user is told.

There is one list of cases for every database, so that opening refuses what `migrate` accepts, and nothing is neither.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from prompt_studio.errors import SchemaError
from prompt_studio.storage.statements import Statement

SCHEMA_TABLE: Final = "prompt_studio_schema"
JOB_TABLE: Final = "prompt_studio_job_queue"
KEY_TABLE: Final = "prompt_studio_idempotency"
CREATE_IT: Final = "open it with create=True (the command `work --create` initialises one)"
SCHEMA_VERSION: Final = Statement("schema_version", "SELECT MAX(version) AS version FROM prompt_studio_schema")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Which database it is, for messages.

    Attributes:
        name: its path, or its server and name; never a password.
        location: how it is given to the command that migrates.
        kind: what else the user may name: another *file*, another *database*.
    """

    name: str
    location: str
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What was found in a database.

    Attributes:
        contents: the names in it.
        version: of the schema; None when it has no number, or is not there.
        known: the version that this program has.
    """

    contents: Collection[str]
    version: int | None
    known: int

    @property
    def is_current(self) -> bool:
        """It is ours, and of this program's version."""
        return SCHEMA_TABLE in self.contents and self.version == self.known

    @property
    def is_ours_and_older(self) -> bool:
        """It is ours, and of a version that this program can lead on from."""
        return SCHEMA_TABLE in self.contents and self.version is not None and 0 < self.version < self.known

    @property
    def is_from_before(self) -> bool:
        """It has the tables of a program from before there were versions."""
        return SCHEMA_TABLE not in self.contents and (JOB_TABLE in self.contents or KEY_TABLE in self.contents)

    def refuse_to_open(self, place: Place) -> None:
        """Accept a database of this version, and refuse every other.

        Raises:
            SchemaError: the message says what to do.
        """
        if self.is_current:  # impl: PS-FAULTS-3
            return
        command = f"python -m prompt_studio migrate --database {place.location} --dry-run"
        if self.is_from_before:  # impl: PS-MIGRATION-1
            raise SchemaError(
                f"{place.name} was made by a program older than this library, and opening converts nothing: stop that "
                f"program, and see what a migration would do by {command}"
            )
        if self.is_ours_and_older:
            raise SchemaError(
                f"{place.name} has version {self.version} of the schema, and this program knows {self.known}: see what "
                f"a migration would do by {command}"
            )
        self.refuse_unknown_version(place)
        raise SchemaError(
            f"{place.name} belongs to another program (it has {min(self.contents)}): name another {place.kind}, or see "
            f"by {command} how the queue's tables are made beside it"
        )

    def refuse_unknown_version(self, place: Place) -> None:
        """Refuse a schema that is ours and not one that this program can lead on from.

        Raises:
            SchemaError: it is newer, or has no number.
        """
        if SCHEMA_TABLE in self.contents and not (self.is_current or self.is_ours_and_older):
            raise SchemaError(
                f"{place.name} has version {self.version} of the schema, and this program knows {self.known}: "
                f"use a newer version of this library, or name another {place.kind}"
            )
