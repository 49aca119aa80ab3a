"""What the groups of calls of `PromptStudioDatabase` stand on, and the rules that several of them share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeVar

from prompt_studio import values
from prompt_studio.create_counts import CreateCounts, Creates
from prompt_studio.keyed_calls import answer
from prompt_studio.storage.api import Store
from prompt_studio.storage.entity_operations import Page
from prompt_studio.storage.keyed_creates import Made

PAGE_MAX: Final = 2**31 - 1
ROWS_PER_PAGE_MAX: Final = 1_000
COUNT_MAX: Final = 2**31 - 1

Row = TypeVar("Row", bound=Mapping[str, object])


class Facade:
    """An opened database."""

    _store: Store
    _client_id: str

    def __init__(self) -> None:
        self._creates = Creates()

    def get_create_counts(self) -> CreateCounts:
        """What creates came to since this object opened the database."""
        return self._creates.counts()

    def _client(self, client_id: object) -> str:
        return self._client_id if client_id is None else values.text("client_id", client_id)

    def _answer(self, entity_type: str, made: Made[Row]) -> Row:
        self._creates.note(entity_type, made)
        return answer(made)


def page_of(page: object, per_page: object) -> Page:
    """Which rows are wanted: pages are counted from 1, and have at most 1,000 rows."""
    return Page(
        values.whole_number("page", page, 1, PAGE_MAX), values.whole_number("per_page", per_page, 1, ROWS_PER_PAGE_MAX)
    )


def id_or_none(argument: str, value: object) -> int | None:
    """A row's id, or None."""
    return None if value is None else values.row_id(argument, value)


def count_or_none(argument: str, value: object) -> int | None:
    """A whole number from 0 on, or None."""
    return None if value is None else values.whole_number(argument, value, 0, COUNT_MAX)


def number_or_none(argument: str, value: object) -> float | None:
    """A finite number, or None."""
    return None if value is None else float(values.number(argument, value, -1e300, 1e300))


def json_or_none(argument: str, value: object) -> str | None:
    """JSON text, or None for None."""
    return None if value is None else values.json_text(argument, value)
