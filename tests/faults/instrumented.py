"""SQLite connections that fail on purpose, put under the store from outside."""

import sqlite3
from collections.abc import Callable
from typing import Any

import pytest

# Asked before each statement; may raise.
Interference = Callable[[sqlite3.Connection, str], None]


def interfere(monkeypatch: pytest.MonkeyPatch, interference: Interference) -> None:
    """From now on every new connection asks `interference` before each statement."""

    class Interfered(sqlite3.Connection):
        def execute(self, sql: str, *arguments: Any) -> sqlite3.Cursor:  # noqa: ANN401 - passed on as they are
            interference(self, sql)
            return super().execute(sql, *arguments)

    connect = sqlite3.connect

    def interfered(*arguments: Any, **options: Any) -> sqlite3.Connection:  # noqa: ANN401 - passed on as they are
        return connect(*arguments, factory=Interfered, **options)

    monkeypatch.setattr(sqlite3, "connect", interfered)


def sqlite_error(code: int, message: str = "as arranged") -> sqlite3.OperationalError:
    """An error as SQLite would raise it."""
    error = sqlite3.OperationalError(message)
    error.sqlite_errorcode = code
    return error
