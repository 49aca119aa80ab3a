"""A session that hears when a job was queued, so that a worker need not look again and again.

A notification is a hint and no more: some are lost with a session, and a lease that expires says nothing. Whoever
listens looks from time to time all the same.
"""

from __future__ import annotations

from typing import Final

from prompt_studio.storage.postgres.connection import PostgresConnection
from prompt_studio.storage.postgres.schema import CHANNEL
from prompt_studio.storage.statements import Statement

LISTEN: Final = Statement("listen", f"LISTEN {CHANNEL}")


class PostgresListener:
    """It listens outside of any transaction, and so holds nothing back that the server would like to clean up."""

    def __init__(self, connection: PostgresConnection) -> None:
        """Take a connection that nobody else uses; it is begun by the first `wait`."""
        self._connection = connection
        self._listening_in = 0

    def wait(self, seconds: float) -> bool:
        """Whether a job may have been queued, as soon as it may, and False after so many seconds without one."""
        if self._connection.begun() != self._listening_in:
            self._connection.run(LISTEN)
            self._listening_in = self._connection.sessions_begun
            return True
        return self._connection.was_notified(seconds)

    def close(self) -> None:
        """End the session."""
        self._connection.close()
