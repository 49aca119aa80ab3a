"""Creates that happen once for each idempotency key, whatever it is that they make."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from prompt_studio.errors import EntityGone, IdempotencyMismatch, TransientConflict
from prompt_studio.storage.operations import MILLISECONDS, Operations
from prompt_studio.storage.transactions import Session

NOT_MADE_YET: Final = 0
"""What a claimed key stands for until its entity is made, in the same transaction: nobody else ever sees it."""

Entity = TypeVar("Entity")


@dataclass(frozen=True, slots=True)
class Key:
    """A key and its scope; all parts count. A user of None is a scope of its own, which no user sees."""

    entity_type: str
    idempotency_key: str
    user_id: str | None


@dataclass(frozen=True, slots=True)
class Once:
    """The key of a create that happens once, and the fingerprint of its request."""

    key: Key
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Made(Generic[Entity]):
    """What a create made, or an earlier one with the same key (`replayed`); None where no key was given."""

    entity: Entity
    replayed: bool | None


class KeyedCreates(Operations):
    """The ground of everything that a key may be claimed for."""

    def _made(
        self,
        once: Once | None,
        create: Callable[[Session], tuple[int, Entity]],
        find: Callable[[Session, int], Entity | None],
        *,
        alone: bool,
    ) -> Made[Entity]:
        """What `create` makes; with a key, once: whoever comes second is given what the first has made.

        Claimed key, entity and the entity's id in the key's row are one transaction, which may be the caller's. A rival
        waits for its end at the claim: where there is one writer, at the transaction's begin.

        Args:
            once: the key.
            create: makes the entity; its id, and the entity.
            find: the entity of an id, or None.
            alone: without a key `create` is one statement.

        Raises:
            IdempotencyMismatch: the key stands for the entity of another request.
            EntityGone: what it stands for is not there any more.
            TransientConflict: a rival did not come to an end within the limit.
        """
        if once is None:
            made = self._sessions.current().write(lambda session: create(session)[1], joins=True, alone=alone)
            return Made(made, replayed=None)

        def operation(session: Session) -> Made[Entity]:
            claim = self._parameters(once.key) | {"entity_id": NOT_MADE_YET, "fingerprint": once.fingerprint}
            claimed = self._run(session, record_of(once.key), claim)
            if not claimed:
                return Made(self._canonical(session, once, find), replayed=True)
            entity_id, entity = create(session)
            self._run(session, "fill_key", {"key_id": claimed[0]["id"], "entity_id": entity_id})
            return Made(entity, replayed=False)

        return self._sessions.current().write(operation, joins=True)  # impl: PS-IDEMPOTENCY-PG-5

    def _canonical(self, session: Session, once: Once, find: Callable[[Session, int], Entity | None]) -> Entity:
        entity_id, known = self._winner(session, once.key)
        refuse_another_request(once, entity_id, known)
        name = once.key.entity_type
        entity = find(session, entity_id)
        if entity is None:  # impl: PS-IDEMPOTENCY-PG-8
            raise EntityGone(
                f"the idempotency key {once.key.idempotency_key!r} stands for {name} {entity_id}, which is not there "
                "any more: use a new key to make another"
            )
        return entity

    def _winner(self, session: Session, key: Key) -> tuple[int, str | None]:
        """Whoever was first, as id and fingerprint, even when its row expires between the two statements.

        It is read in a second one, since the first would see only what was there when it began.

        Raises:
            TransientConflict: the row is gone meanwhile, which can only be where each of the two was committed by
                itself. Nothing was written, so the whole may be tried again, within the limit.
        """
        rows = self._run(session, lookup_of(key), self._parameters(key) | {"retention_milliseconds": None})
        if not rows:
            raise TransientConflict("the key was taken, and its row was gone when it was looked for")
        return rows[0]["entity_id"], rows[0]["fingerprint"]

    def _parameters(self, key: Key) -> dict[str, object]:
        return {
            "entity_type": key.entity_type,  # impl: PS-IDEMPOTENCY-SCOPE-3
            "idempotency_key": key.idempotency_key,
            "user_id": key.user_id,
            "retention_milliseconds": self._retention(),
        }

    def _retention(self) -> int | None:
        seconds = self._settings.idempotency_retention_seconds
        return None if seconds is None else seconds * MILLISECONDS


def refuse_another_request(once: Once, entity_id: int, known: str | None) -> None:
    """Raise IdempotencyMismatch if the key's row is of another request; one that was recorded by hand is of any."""
    if known not in {None, once.fingerprint}:  # impl: PS-IDEMPOTENCY-PG-6
        raise IdempotencyMismatch(
            f"the idempotency key {once.key.idempotency_key!r} was used for another request, which made "
            f"{once.key.entity_type} {entity_id}: use a new key for a new request"
        )


def lookup_of(key: Key) -> str:
    """The statement that finds the key's row."""
    return "lookup_key_without_user" if key.user_id is None else "lookup_key_of_user"


def record_of(key: Key) -> str:
    """The statement that makes the key's row, unless it has one; an expired one is replaced."""
    return "record_key_without_user" if key.user_id is None else "record_key_of_user"
