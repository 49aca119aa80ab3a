"""Statements that wait for another one of ours, and statements that only take long: what tells them apart is measured.

Which is which is known by how they are made. In each the lane a has a transaction open, and stands at its next gate,
when the statement in question, the last one of the order, is let go.
"""

from dataclasses import dataclass
from typing import Any, Final

from tests.harness.interleaving.programs import Programs
from tests.harness.interleaving.scenario import Call

SCHEMA: Final = "CREATE TABLE items (id INTEGER PRIMARY KEY, n INTEGER NOT NULL)"
ROWS: Final = "INSERT INTO items VALUES (1, 0), (2, 0), (3, 0)"
STRANGERS_LOCK: Final = 77


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of statement.

    Attributes:
        name: for people.
        waits: whether it waits for another one of ours.
        lanes: the statements of each lane's transaction, between its begin and its commit. `{n}` is drawn.
        order: the lanes of the steps up to the one that is measured.
        drawn: between what.
        stranger: what a session that is none of ours has done, and undoes some milliseconds after it is waited for.
    """

    name: str
    waits: bool
    lanes: dict[str, tuple[str, ...]]
    order: str = "aabb"
    drawn: tuple[int, int] = (0, 0)
    stranger: str = ""

    def scenario(self, n: int) -> Programs:
        """The lanes, with what was drawn."""
        lanes: dict[str, Any] = {
            lane: (Call(program=in_one_transaction, arguments=tuple(text.format(n=n) for text in texts)),)
            for lane, texts in self.lanes.items()
        }
        return Programs(name=self.name, lanes=lanes, schema=SCHEMA, rows=ROWS, reads=())


def in_one_transaction(connection: Any, *statements: str) -> None:  # noqa: ANN401 - a connection of psycopg
    """One after another, and a commit."""
    for statement in statements:
        connection.execute(statement)
    connection.commit()


_ROW: Final = "SELECT n FROM items WHERE id = 1 FOR UPDATE"
_CHANGE: Final = "UPDATE items SET n = n + 1 WHERE id = 1"
_INSERT: Final = "INSERT INTO items VALUES (9, 0)"
_ADVISORY: Final = "SELECT pg_advisory_xact_lock(1)"
_SERIES: Final = "SELECT sum(sqrt(n)) FROM generate_series(1, {n}) AS n"
_OF_A_STRANGER: Final = f"SELECT pg_advisory_xact_lock({STRANGERS_LOCK})"
_HUNDREDS: Final = (20_000, 1_000_000)
_MILLISECONDS: Final = (5, 150)

WAITING: Final = (
    Kind("a row that is locked, FOR UPDATE", True, {"a": (_ROW,), "b": (_ROW,)}),
    Kind("an update of a row that was changed", True, {"a": (_CHANGE,), "b": (_CHANGE,)}),
    Kind("a deletion of a row that is shared", True, {"a": (_ROW[:-6] + "SHARE",), "b": ("DELETE FROM items",)}),
    Kind(
        "an insertion of a key that was inserted", True, {"a": (_INSERT,), "b": (f"{_INSERT} ON CONFLICT DO NOTHING",)}
    ),
    Kind(
        "pg_advisory_lock",
        True,
        {"a": ("SELECT pg_advisory_lock(1)",), "b": ("SELECT pg_advisory_lock(1)",)},
    ),
    Kind("a table that is locked", True, {"a": ("LOCK TABLE items",), "b": ("SELECT n FROM items",)}),
    Kind("a row, behind another that waits", True, {"a": (_ROW,), "b": (_ROW,), "c": (_ROW,)}, "aabbcc"),
)
SLOW: Final = (
    Kind("a long sum", False, {"a": (_ROW,), "b": (_SERIES,)}, drawn=_HUNDREDS),
    Kind("pg_sleep", False, {"a": (_ROW,), "b": ("SELECT pg_sleep({n} / 1000.0)",)}, drawn=_MILLISECONDS),
    Kind("a long sum, while another waits", False, {"a": (_ROW,), "b": (_ROW,), "c": (_SERIES,)}, "aabbcc", _HUNDREDS),
    Kind(
        "an advisory lock of a stranger's",
        False,
        {"a": (_ADVISORY,), "b": (_OF_A_STRANGER,)},
        drawn=_MILLISECONDS,
        stranger=_OF_A_STRANGER,
    ),
    Kind(
        "a row that a stranger changed",
        False,
        {"a": (_ADVISORY,), "b": (_CHANGE,)},
        drawn=_MILLISECONDS,
        stranger=_CHANGE,
    ),
)
