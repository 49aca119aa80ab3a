"""What idempotency keys stand for, in the scope of a user or of nobody."""

from __future__ import annotations

import json
from typing import Final

from prompt_studio.jobs import IdempotencyRecord
from prompt_studio.storage.keyed_creates import (
    Key,
    KeyedCreates,
    Once,
    lookup_of,
    record_of,
    refuse_another_request,
)
from prompt_studio.storage.transactions import Session

FORGET_BATCH_KEYS: Final = 1_000
"""How many expired keys are deleted in one transaction."""


class IdempotencyOperations(KeyedCreates):
    """Idempotency keys."""

    def lookup_idempotency(self, key: Key) -> int | None:
        """The id of the entity that the key stands for; None when there is none or it has expired."""

        def operation(session: Session) -> int | None:
            rows = self._run(session, lookup_of(key), self._parameters(key))
            return rows[0]["entity_id"] if rows else None  # impl: PS-IDEMPOTENCY-PG-4

        return self._sessions.current().read(operation)

    def lookup_created(self, once: Once) -> int | None:
        """The id of the entity that a create with this key has made; None when there is none or it has expired.

        Raises:
            IdempotencyMismatch: the key stands for the entity of another request.
        """

        def operation(session: Session) -> int | None:
            rows = self._run(session, lookup_of(once.key), self._parameters(once.key))
            if not rows:
                return None
            refuse_another_request(once, rows[0]["entity_id"], rows[0]["fingerprint"])
            return int(rows[0]["entity_id"])

        return self._sessions.current().read(operation)

    def record_idempotency(self, key: Key, entity_id: int) -> IdempotencyRecord:
        """The entity that the key stands for from now on: this one, unless it stood for another already.

        May be part of the caller's transaction.
        """
        parameters = self._parameters(key) | {"entity_id": entity_id, "fingerprint": None}

        def operation(session: Session) -> IdempotencyRecord:
            if self._run(session, record_of(key), parameters):
                return IdempotencyRecord(entity_id, created=True)
            return IdempotencyRecord(self._winner(session, key)[0], created=False)

        return self._sessions.current().write(operation, joins=True, alone=True)

    def cleanup_idempotency(self) -> int:
        """How many expired keys were deleted: all that there were. Without a retention no key expires.

        They are deleted in batches, each committed by itself.
        """
        retention = self._retention()
        session = self._sessions.current()
        session.refuse_callers_transaction()
        if retention is None:
            return 0
        age: dict[str, object] = {"retention_milliseconds": retention}

        def batch(session: Session) -> tuple[int, int]:
            found = self._run(session, "list_expired_keys", age | {"limit": FORGET_BATCH_KEYS})
            ids = json.dumps([row["id"] for row in found])
            return len(found), len(self._run(session, "delete_expired_keys", age | {"ids": ids}))

        total = 0
        while True:
            found, deleted = session.write(batch)
            total += deleted
            # Not `deleted`: of what was found some may have been recorded anew, and yet there may be more.
            if found < FORGET_BATCH_KEYS:
                return total
