"""What the creates with an idempotency key have in common: the key that is asked for, and the row that is answered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar, cast

from prompt_studio import values
from prompt_studio.fingerprints import fingerprint
from prompt_studio.storage.keyed_creates import Key, Made, Once

Row = TypeVar("Row", bound=Mapping[str, object])


@dataclass(frozen=True, slots=True)
class Wish:
    """What a caller said of the key of a create.

    Attributes:
        key: the idempotency key, or None: then each call makes another entity.
        user_id: whose key it is; None is a scope of its own.
        request: the request as it was received, any JSON value but null; None: the call's own arguments stand for it.
        operation: the name of what was asked for, where several operations make such an entity.
    """

    key: object
    user_id: object
    request: object
    operation: object = None

    def once(self, entity_type: str, arguments: Mapping[str, object]) -> Once | None:
        """The key and the fingerprint of the create of such an entity.

        Raises:
            InputError: one of them breaks its rule, also where no key was given.
        """
        user_id, operation = values.user(self.user_id), operation_of(entity_type, self.operation)
        asked = None if self.request is None else fingerprint(operation, self.request)
        if self.key is None:
            return None
        key = Key(entity_type, values.text("idempotency_key", self.key), user_id)
        return Once(key, fingerprint(operation, arguments) if asked is None else asked)


def operation_of(entity_type: str, operation: object) -> str:
    """The operation's name, by which its requests are told from those of another one with the same content."""
    return f"create_{entity_type}" if operation is None else values.text("operation", operation)


def answer(made: Made[Row]) -> Row:
    """The row; where a key was given it says whether an earlier call had made it."""
    if made.replayed is None:
        return made.entity
    return cast("Row", {**made.entity, "replayed": made.replayed})
