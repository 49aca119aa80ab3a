"""What projects, prompts and optimizations have in common: a statement and its rows, one of them or a page."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from prompt_studio.entities import Pagination
from prompt_studio.errors import MissingReference
from prompt_studio.storage.dialect import Parameters, Row
from prompt_studio.storage.keyed_creates import KeyedCreates
from prompt_studio.storage.transactions import Session

Entity = TypeVar("Entity")


@dataclass(frozen=True, slots=True)
class Page:
    """Which rows are wanted: pages are counted from 1."""

    number: int
    rows: int


class EntityOperations(KeyedCreates):
    """The ground of the entities' operations."""

    def _one(
        self, session: Session, name: str, parameters: Parameters, decode: Callable[[Row], Entity]
    ) -> Entity | None:
        rows = self._run(session, name, parameters)
        return decode(rows[0]) if rows else None

    def _found(self, name: str, parameters: Parameters, decode: Callable[[Row], Entity]) -> Entity | None:
        return self._sessions.current().read(lambda session: self._one(session, name, parameters, decode))

    def _changed(self, name: str, parameters: Parameters, decode: Callable[[Row], Entity]) -> Entity | None:
        """The row after one guarded statement, which may join the caller's transaction; None if there was none."""
        return self._sessions.current().write(
            lambda session: self._one(session, name, parameters, decode), joins=True, alone=True
        )

    def _inserted(
        self,
        session: Session,
        name: str,
        parameters: Mapping[str, object],
        decode: Callable[[Row], Entity],
        *,
        needs: str,
    ) -> Entity:
        """The new row, with a uuid.

        Raises:
            MissingReference: what it refers to is not there; `needs` says what that is.
        """
        made = self._one(session, name, {**parameters, "uuid": str(uuid.uuid4())}, decode)
        if made is None:  # impl: PS-ENTITIES-3
            raise MissingReference(f"{needs}: nothing was made; correct the id, or make it first")
        return made

    def _listed(
        self, name: str, parameters: Mapping[str, object], page: Page, decode: Callable[[Row], Entity]
    ) -> tuple[list[Entity], Pagination]:
        """A page of `list_<name>`, and how many rows there are by `count_<name>`."""
        window = {"limit": page.rows, "offset": (page.number - 1) * page.rows}
        rows = self._read(f"list_{name}", {**parameters, **window})
        total = int(self._read(f"count_{name}", parameters)[0]["total"])
        return [decode(row) for row in rows], {
            "page": page.number,
            "per_page": page.rows,
            "total": total,
            "total_pages": -(-total // page.rows),
        }
