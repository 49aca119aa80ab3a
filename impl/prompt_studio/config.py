"""Every setting, parsed once, when the database is opened.

A setting that breaks its rule stops the start with a message; none is silently bent into range, since a lease that
is not as long as its owner thinks is a job that runs twice.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from prompt_studio.errors import InputError
from prompt_studio.values import flag, number, positive_number, shown, whole_number

LEASE_SECONDS_VARIABLE: Final = "TLDW_PS_JOB_LEASE_SECONDS"
HEARTBEAT_SECONDS_VARIABLE: Final = "TLDW_PS_HEARTBEAT_SECONDS"
SQLITE_WAL_VARIABLE: Final = "TLDW_PS_SQLITE_WAL"
ADVISORY_LOCKS_VARIABLE: Final = "TLDW_PS_ADVISORY_LOCKS"
TRANSACTION_POOLER_VARIABLE: Final = "TLDW_PS_TRANSACTION_POOLER"
LEASE_SECONDS_MAX: Final = 3600
LEASE_SECONDS_DEFAULT: Final = 60

_DECIMAL: Final = re.compile(r"[+-]?(?:[0-9]{1,30}(?:\.[0-9]{0,30})?|\.[0-9]{1,30})(?:[eE][+-]?[0-9]{1,3})?", re.ASCII)
"""A number as people write one: `float` would also read "nan", "infinity", "1_0" and the digits of any script."""

_WORDS: Final = dict.fromkeys(("1", "true", "yes", "on"), True) | dict.fromkeys(("0", "false", "no", "off"), False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of one opened database.

    Attributes:
        lease_seconds: the length of a lease when the caller names none.
        heartbeat_seconds: how often a `JobManager` renews the lease of a running job; None: at a third of its lease.
        sqlite_wal: write-ahead log (readers and a writer do not wait for each other) or a rollback journal.
        idempotency_retention_seconds: how long a key stands for its entity; None is for ever.
        write_retry_seconds: how long a call waits for other sessions before it gives up with TransientConflict.
        advisory_locks: Postgres: a claimed job is also held by an advisory lock of its worker's session.
        patience_seconds: how long a worker may be refused one queued job by its lock; None: as long as its lease.
        pool_connections: Postgres: how many connections there are at most, beside the one that holds locks.
        statement_seconds: Postgres: the longest that one statement may run.
        answer_seconds: Postgres: how much later than that an answer may come, before its session ends. The server ends
            a statement in time, unless it stands still, or its host does, or the network.
        notifications: Postgres: listening workers are told when a job is queued, so that they need not wait for their
            next look. Each such commit then waits for the one before it, for a moment.
        idle_in_transaction_seconds: Postgres: the longest pause within a transaction before the server ends it.
        transaction_pooler: Postgres: between us and the server there is a proxy that changes server connections between
            transactions. Nothing is prepared and there are no locks. No session is set up: the role must have the
            settings that `specs/backends.md` lists.
    """

    lease_seconds: int = LEASE_SECONDS_DEFAULT
    heartbeat_seconds: float | None = None
    sqlite_wal: bool = True
    idempotency_retention_seconds: int | None = None
    write_retry_seconds: float = 5.0
    advisory_locks: bool = True
    patience_seconds: int | None = None
    pool_connections: int = 10
    statement_seconds: float = 30.0
    answer_seconds: float = 5.0
    notifications: bool = True
    idle_in_transaction_seconds: float = 60.0
    transaction_pooler: bool = False

    def __post_init__(self) -> None:
        whole_number("lease_seconds", self.lease_seconds, 1, LEASE_SECONDS_MAX)
        if self.heartbeat_seconds is not None:
            positive_number("heartbeat_seconds", self.heartbeat_seconds)
        flag("sqlite_wal", self.sqlite_wal)
        if self.idempotency_retention_seconds is not None:
            whole_number("idempotency_retention_seconds", self.idempotency_retention_seconds, 1, 10**10)
        number("write_retry_seconds", self.write_retry_seconds, 0, LEASE_SECONDS_MAX)
        flag("advisory_locks", self.advisory_locks)
        if self.patience_seconds is not None:
            whole_number("patience_seconds", self.patience_seconds, 0, LEASE_SECONDS_MAX)
        whole_number("pool_connections", self.pool_connections, 1, 1_000)
        number("statement_seconds", self.statement_seconds, 0.1, LEASE_SECONDS_MAX)
        number("answer_seconds", self.answer_seconds, 0.01, LEASE_SECONDS_MAX)
        flag("notifications", self.notifications)
        number("idle_in_transaction_seconds", self.idle_in_transaction_seconds, 0.1, LEASE_SECONDS_MAX)
        if flag("transaction_pooler", self.transaction_pooler) and self.advisory_locks:
            raise InputError(
                "advisory_locks must be False behind a transaction_pooler, which gives a session's locks to strangers"
            )

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """The settings that these variables ask for; a variable that is not set leaves its default.

        Raises:
            InputError: a variable is set to something that its rule does not allow.
        """
        pooler = switch(environment, TRANSACTION_POOLER_VARIABLE, default=False)
        locks = switch(environment, ADVISORY_LOCKS_VARIABLE, default=not pooler)
        if pooler and locks:
            raise InputError(
                f"{ADVISORY_LOCKS_VARIABLE} must be off, or unset, where {TRANSACTION_POOLER_VARIABLE} is on: a pooler "
                "gives a session's locks to strangers"
            )
        return cls(
            lease_seconds=_lease_seconds(environment),
            heartbeat_seconds=_heartbeat_seconds(environment),
            sqlite_wal=switch(environment, SQLITE_WAL_VARIABLE, default=True),
            advisory_locks=locks,
            transaction_pooler=pooler,
        )


def _lease_seconds(environment: Mapping[str, str]) -> int:
    text = environment.get(LEASE_SECONDS_VARIABLE)
    if text is None:
        return LEASE_SECONDS_DEFAULT
    # No more than six digits: a longer number is out of range, and `int` need not find out how much.
    if not re.fullmatch(r"[0-9]{1,6}", text.strip(), re.ASCII) or not 1 <= int(text) <= LEASE_SECONDS_MAX:
        raise InputError(  # impl: PS-INPUT-5
            f"{LEASE_SECONDS_VARIABLE} must be a whole number of seconds from 1 to {LEASE_SECONDS_MAX}, "
            f"not {shown(text)}: correct it, or unset it for the default"
        )
    return int(text)


def _heartbeat_seconds(environment: Mapping[str, str]) -> float | None:
    text = environment.get(HEARTBEAT_SECONDS_VARIABLE, "").strip()
    if text in {"", "0"}:
        return None
    seconds = float(text) if _DECIMAL.fullmatch(text) else math.nan
    if not 0 < seconds < math.inf:
        raise InputError(  # impl: PS-LEASE-HB-4
            f"{HEARTBEAT_SECONDS_VARIABLE} must be a finite number of seconds above 0, not {shown(text)}: correct it, "
            "or unset it for a third of the lease"
        )
    return seconds


def switch(environment: Mapping[str, str], variable: str, *, default: bool) -> bool:
    """Whether a variable is on.

    Raises:
        InputError: it is neither on nor off.
    """
    text = environment.get(variable)
    if text is None:
        return default
    word = text.strip().lower()
    if word not in _WORDS:
        state = "on" if default else "off"
        raise InputError(
            f"{variable} must be one of {', '.join(_WORDS)}, not {shown(text)}: correct it, or unset it for {state}"
        )
    return _WORDS[word]
