"""The fingerprint of a request: by it a key that comes again is told from a key that is used for something else."""

from __future__ import annotations

import hashlib
import json

from prompt_studio import values


def fingerprint(operation: str, request: object) -> str:
    """SHA-256 of the operation's name and the request, in hexadecimal digits.

    What is hashed is the name, a line feed, and the JSON as UTF-8: keys sorted, no spaces, nothing escaped that need
    not be. So two requests are one if they differ in the order of their keys and in spaces only.

    Raises:
        InputError: the request is no JSON value.
    """
    values.json_text("request", request)  # refuses what JSON cannot carry
    text = json.dumps(request, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(f"{operation}\n{text}".encode()).hexdigest()  # impl: PS-IDEMPOTENCY-PG-6
