"""The names of headers, and what OpenAPI says of those that answers have."""

from __future__ import annotations

from typing import Any, Final

KEY: Final = "Idempotency-Key"
REPLAYED: Final = "Idempotency-Replayed"
RETRY_AFTER: Final = "Retry-After"
CHALLENGE: Final = "WWW-Authenticate"

Described = dict[str, dict[str, Any]]

REPLAYED_TOLD: Final[Described] = {
    REPLAYED: {
        "description": "There if an earlier request with this key had made the entity.",
        "schema": {"type": "string", "enum": ["true"]},
    }
}
RETRY_TOLD: Final[Described] = {
    RETRY_AFTER: {
        "description": "After how many seconds the same request may be sent again; not there if it may not.",
        "schema": {"type": "integer", "minimum": 1},
    }
}
CHALLENGE_TOLD: Final[Described] = {
    CHALLENGE: {"description": "How to say who asks.", "required": True, "schema": {"type": "string"}}
}
