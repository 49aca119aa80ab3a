"""What idempotency keys stand for, in the scope of a user or of nobody."""

from __future__ import annotations

from dataclasses import dataclass

from prompt_studio.errors import TransientConflict
from prompt_studio.jobs import IdempotencyRecord
from prompt_studio.storage.operations import MILLISECONDS, Operations
from prompt_studio.storage.transactions import Session


@dataclass(frozen=True, slots=True)
class Key:
    """A key and its scope; all parts count. A user of None is a scope of its own, which no user sees."""

    entity_type: str
    idempotency_key: str
    user_id: str | None


class IdempotencyOperations(Operations):
    """Idempotency keys."""

    def lookup_idempotency(self, key: Key) -> int | None:
        """The id of the entity that the key stands for; None when there is none or it has expired."""

        def operation(session: Session) -> int | None:
            rows = self._run(session, _lookup(key), self._parameters(key))
            return rows[0]["entity_id"] if rows else None  # impl: PS-IDEMPOTENCY-PG-4

        return self._sessions.current().read(operation)

    def record_idempotency(self, key: Key, entity_id: int) -> IdempotencyRecord:
        """The entity that the key stands for from now on: this one, unless it stood for another already.

        May be part of the caller's transaction.
        """
        parameters = self._parameters(key) | {"entity_id": entity_id}
        name = "record_key_without_user" if key.user_id is None else "record_key_of_user"

        def operation(session: Session) -> IdempotencyRecord:
            if self._run(session, name, parameters):
                return IdempotencyRecord(entity_id, created=True)
            # Whoever was first is the answer, even when its row expires between the two statements. It is read in a
            # second one, since the first would see only what was there when it began.
            winner = self._run(session, _lookup(key), parameters | {"retention_milliseconds": None})
            if winner:
                return IdempotencyRecord(winner[0]["entity_id"], created=False)
            # Nothing was written, so the whole is tried again, within the limit; in a caller's transaction by him.
            raise TransientConflict("the key was taken, and its row was gone when it was looked for")

        return self._sessions.current().write(operation, joins=True, alone=True)

    def _parameters(self, key: Key) -> dict[str, object]:
        retention = self._settings.idempotency_retention_seconds
        return {
            "entity_type": key.entity_type,  # impl: PS-IDEMPOTENCY-SCOPE-3
            "idempotency_key": key.idempotency_key,
            "user_id": key.user_id,
            "retention_milliseconds": None if retention is None else retention * MILLISECONDS,
        }


def _lookup(key: Key) -> str:
    return "lookup_key_without_user" if key.user_id is None else "lookup_key_of_user"
