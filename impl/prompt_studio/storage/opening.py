"""Which database a location means."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from prompt_studio import values
from prompt_studio.clock import Clock
from prompt_studio.config import Settings
from prompt_studio.errors import InputError
from prompt_studio.storage.dialect import Dialect
from prompt_studio.storage.sqlite.dialect import SqliteDialect

_POSTGRES: Final = ("postgresql://", "postgres://")


def dialect_of(location: object, settings: Settings, *, clock: Clock | None, create: bool) -> Dialect:
    """The dialect of the database at a path or a `postgresql://` URL; nothing is opened yet.

    Raises:
        InputError: it is neither.
    """
    if isinstance(location, str) and location.startswith(_POSTGRES):
        return _postgres(location, settings, clock=clock, create=create)
    return SqliteDialect(_sqlite_path(location), settings, clock=clock, create=create)


def _postgres(dsn: str, settings: Settings, *, clock: Clock | None, create: bool) -> Dialect:
    try:
        # Here, so that who uses SQLite needs neither psycopg nor libpq.
        from prompt_studio.storage.postgres.dialect import PostgresDialect  # noqa: PLC0415 - an optional dependency
    except ImportError as error:
        raise InputError(
            f"a Postgres location needs {error.name or 'psycopg'}: install the extra, prompt-studio-core[postgres]"
        ) from error
    return PostgresDialect(dsn, settings, clock=clock, create=create)


def _sqlite_path(location: object) -> Path:
    if not isinstance(location, (str, os.PathLike)):
        raise InputError(f"location must be a path or a postgresql:// URL, not {values.shown(location)}")
    text = os.fspath(location)
    # Lone surrogates are allowed: they stand for the bytes of a name that is not in the system's encoding.
    if not isinstance(text, str) or not text or "\0" in text:
        raise InputError(f"location must be a path, as text, not empty and without U+0000, not {values.shown(text)}")
    if text.startswith(("postgresql:", "postgres:")):
        raise InputError("location must be a path, or a URL that begins with postgresql://")
    if text.startswith(("file:", "sqlite:")):
        raise InputError(f"location must be a plain path, not the URI {values.shown(text)}")
    if text == ":memory:":
        raise InputError("location must be a file, not :memory:, which no second connection could share: name a file")
    return Path(text)
