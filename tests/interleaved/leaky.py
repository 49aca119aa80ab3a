"""Workers of which something slips past the gate, and one that notes by itself what its store runs."""

from typing import Any

from psycopg import _cursor_base

from prompt_studio.storage.sqlite.connection import SqliteConnection
from tests.harness.interleaving.gates import name_of
from tests.harness.interleaving.session import SessionWorker
from tests.harness.processes import Seat


class LeakyWorker(SessionWorker):
    """Sends BEGIN and COMMIT unseen, as if psycopg had a way for them that nobody knew of."""

    def __init__(self, seat: Seat) -> None:
        cursor: Any = _cursor_base.BaseCursor
        ungated = cursor._maybe_prepare_gen
        super().__init__(seat)
        gated = cursor._maybe_prepare_gen

        def leaking(self: Any, pgq: Any, **named: Any) -> Any:  # noqa: ANN401 - psycopg's own
            leaks = name_of(pgq.query.decode()) in {"begin", "commit"}
            return (yield from (ungated if leaks else gated)(self, pgq, **named))

        cursor._maybe_prepare_gen = leaking


class NotingWorker(SessionWorker):
    """Notes the statements that the store on SQLite asks for, above the gate."""

    def __init__(self, seat: Seat) -> None:
        super().__init__(seat)
        self._noted: list[str] = []
        kind: Any = SqliteConnection
        run = kind.run

        def noting(connection: Any, statement: Any, *rest: Any) -> Any:  # noqa: ANN401 - as the one that it replaces
            self._noted.append(statement.name)
            return run(connection, statement, *rest)

        kind.run = noting

    def noted(self) -> list[str]:
        """The statements since the last time."""
        noted, self._noted = self._noted, []
        return noted
