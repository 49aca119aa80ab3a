"""The rules for values that callers give: each function returns the value to store, or raises InputError.

All of them run before anything is sent to the store, so a refused call has changed nothing. What is accepted here
comes back exactly as it was given, from every database. A message names the argument, the value (cut) and the rule.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final, TypeVar

from prompt_studio.errors import InputError

INT64_MIN: Final = -(2**63)
INT64_MAX: Final = 2**63 - 1
TEXT_CHARACTERS_MAX: Final = 255
WORKER_CHARACTERS_MAX: Final = 128
ERROR_CHARACTERS_MAX: Final = 10_000
LONG_TEXT_CHARACTERS_MAX: Final = 50_000
JSON_DEPTH_MAX: Final = 100
JSON_VALUES_MAX: Final = 1_000_000
JSON_CHARACTERS_MAX: Final = 16 * 1024 * 1024
JSON_DIGITS_MAX: Final = 640
"""No Python, however it is configured, refuses to read a number as long as that back."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_MILLISECOND: Final = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // timedelta(milliseconds=1)
_SHOWN_CHARACTERS: Final = 80
_UNSTORABLE: Final = re.compile("[\0\ud800-\udfff]")
"""NUL and lone surrogates: some database or encoding refuses them, or gives them back changed."""

Word = TypeVar("Word", bound=StrEnum)


def shown(value: object) -> str:
    """The value as a message may show it: short, printable, whatever it is."""
    if value is None or isinstance(value, bool):
        return str(value)
    if isinstance(value, str):
        cut = str.__repr__(value[:_SHOWN_CHARACTERS])
        return cut if len(value) <= _SHOWN_CHARACTERS else f"{cut}... ({len(value)} characters)"
    if isinstance(value, int):
        bits = value.bit_length()
        return int.__repr__(value) if bits <= _SHOWN_CHARACTERS else f"a whole number of {bits} bits"
    if isinstance(value, float):
        return float.__repr__(value)
    return f"a value of type {type(value).__name__}"


def whole_number(argument: str, value: object, low: int, high: int) -> int:
    """A whole number in a range. True and 60.0 are none: both are more likely mistakes than meant so."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        # impl: PS-INPUT-1, PS-INPUT-2
        raise InputError(f"{argument} must be a whole number from {low} to {high}, not {shown(value)}")
    return int(value)


def number(argument: str, value: object, low: float, high: float) -> float:
    """A number in a range, whole or not; NaN is in no range."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise InputError(f"{argument} must be a number from {low} to {high}, not {shown(value)}")
    return value


def positive_number(argument: str, value: object) -> float:
    """A finite number above 0, whole or not."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise InputError(f"{argument} must be a finite number above 0, not {shown(value)}")
    return value


def flag(argument: str, value: object) -> bool:
    """True or False and nothing that Python takes for them: the text "false" is true."""
    if not isinstance(value, bool):
        raise InputError(f"{argument} must be True or False, not {shown(value)}")
    return value


def row_id(argument: str, value: object) -> int:
    """A number that fits a database's 64-bit column."""
    return whole_number(argument, value, INT64_MIN, INT64_MAX)


def fencing_token(value: object) -> int:
    """A token that a worker can have been given; 0 never was."""
    return whole_number("lease_token", value, 1, INT64_MAX)


def is_storable(value: str) -> bool:
    """Whether every database and encoding takes this text, and gives it back unchanged."""
    return _UNSTORABLE.search(value) is None


def text(argument: str, value: object, characters_max: int = TEXT_CHARACTERS_MAX) -> str:
    """A name or key: some characters, all of which every database can store."""
    if not isinstance(value, str):
        raise InputError(f"{argument} must be a string, not {shown(value)}")
    if not 1 <= len(value) <= characters_max:
        raise InputError(f"{argument} must have 1 to {characters_max} characters, not {shown(value)}")
    if not is_storable(value):
        raise InputError(f"{argument} must not contain U+0000 or a lone surrogate, as {shown(value)} does")
    return str(value)


def long_text(argument: str, value: object) -> str | None:
    """A text of any kind, also an empty one, or None; all of its characters every database can store."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise InputError(f"{argument} must be a string or None, not {shown(value)}")
    if len(value) > LONG_TEXT_CHARACTERS_MAX:
        raise InputError(f"{argument} must have at most {LONG_TEXT_CHARACTERS_MAX} characters, not {len(value)}")
    if not is_storable(value):
        raise InputError(f"{argument} must not contain U+0000 or a lone surrogate, as {shown(value)} does")
    return str(value)


def user(value: object) -> str | None:
    """A user's id, or None for the scope that belongs to no user."""
    return None if value is None else text("user_id", value)


def worker_name(value: object) -> str | None:
    """A worker's name, stripped and cut to 128 characters; nothing but spaces counts as no name."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise InputError(f"worker_id must be a string or None, not {shown(value)}")
    name = value.strip()[:WORKER_CHARACTERS_MAX]
    return text("worker_id", name, WORKER_CHARACTERS_MAX) if name else None


def error_text(value: object) -> str | None:
    """An error's text, cleaned and cut and never refused for what it says: a job must be able to fail."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise InputError(f"error_message must be a string or None, not {shown(value)}: pass str(error)")
    # impl: PS-INPUT-4
    return _UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", value[:ERROR_CHARACTERS_MAX])


def word(argument: str, value: object, words: type[Word]) -> Word:
    """One of the words of a closed list."""
    if not isinstance(value, str) or value not in set(words):
        raise InputError(f"{argument} must be one of {', '.join(words)}, not {shown(value)}")
    return words(value)


def words(argument: str, value: object, known: type[Word]) -> tuple[Word, ...]:
    """Some words of a closed list, each once; None stands for all of them."""
    if value is None:
        return tuple(known)
    # A bare string is a collection too, of letters, and never what was meant.
    if isinstance(value, str) or not isinstance(value, Collection) or not value:
        raise InputError(f"{argument} must be None or a list of at least one of {', '.join(known)}, not {shown(value)}")
    return tuple(dict.fromkeys(word(argument, item, known) for item in value))


def milliseconds(argument: str, value: object) -> int:
    """An instant, in whole milliseconds since 1970-01-01 UTC; a part of a millisecond counts as a whole one."""
    if not isinstance(value, datetime) or value.utcoffset() is None:
        raise InputError(f"{argument} must be a datetime with a time zone, not {shown(value)}: try datetime.now(UTC)")
    # Rounded up: a job must not become available before the instant that was asked for.
    instant = -((_EPOCH - value) // timedelta(milliseconds=1))
    if not 0 <= instant <= _LAST_MILLISECOND:
        raise InputError(f"{argument} must lie in the years 1970 to 9999, in UTC")
    return instant


def instant(value: int) -> datetime:
    """The datetime of a stored instant, exact: no floating point on the way."""
    return _EPOCH + timedelta(milliseconds=value)


def json_text(argument: str, value: object) -> str:
    """The value as JSON that reads back as the value, tuples as lists.

    `json.dumps` alone would turn keys that are no strings into strings, let NUL and lone surrogates through as escapes
    that not every database accepts, and fail in as many ways as there are odd values. Hence the walk before it.
    """
    _refuse_what_json_cannot_carry(argument, value)  # impl: PS-INPUT-3
    # impl: PS-CONCURRENCY-22
    encoded = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    if len(encoded) > JSON_CHARACTERS_MAX:
        raise InputError(f"{argument} must have at most {JSON_CHARACTERS_MAX} characters as JSON, not {len(encoded)}")
    return encoded


def _refuse_what_json_cannot_carry(argument: str, value: object) -> None:
    """Walk the value without recursion: how deep it goes is the caller's choice, and ours is to survive it."""
    pending: list[tuple[object, int]] = [(value, 1)]
    visited = 0
    while pending:
        item, depth = pending.pop()
        visited += 1
        if not isinstance(item, (dict, list, tuple)):
            _refuse_bad_scalar(argument, item)
        # A value that contains itself is endlessly deep, so the limits also end the walk of a cycle.
        elif depth > JSON_DEPTH_MAX:
            raise InputError(f"{argument} must be at most {JSON_DEPTH_MAX} levels deep: does it contain itself?")
        elif isinstance(item, dict):
            _refuse_bad_keys(argument, item)
            pending.extend((child, depth + 1) for child in item.values())
        else:
            pending.extend((child, depth + 1) for child in item)
        if visited > JSON_VALUES_MAX:
            raise InputError(f"{argument} must hold at most {JSON_VALUES_MAX} values: does it hold one many times?")


def _refuse_bad_keys(argument: str, item: dict[object, object]) -> None:
    for key in item:
        if not isinstance(key, str):
            raise InputError(f"{argument} must have strings as its keys, not {shown(key)}")
        _refuse_bad_scalar(argument, key)


def _refuse_bad_scalar(argument: str, item: object) -> None:
    if item is None or isinstance(item, bool):
        return
    if isinstance(item, str):
        if _UNSTORABLE.search(item):
            raise InputError(f"{argument} must not contain U+0000 or a lone surrogate, as {shown(item)} does")
    elif isinstance(item, int):
        if abs(item) >= 10**JSON_DIGITS_MAX:
            raise InputError(
                f"{argument} must hold whole numbers of at most {JSON_DIGITS_MAX} digits, not {shown(item)}"
            )
    elif isinstance(item, float):
        if not math.isfinite(item):
            raise InputError(f"{argument} must hold finite numbers, not {shown(item)}")
    else:
        raise InputError(f"{argument} must hold JSON values only, not {shown(item)}")
