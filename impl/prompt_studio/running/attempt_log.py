"""Lines of the log about one attempt: each begins with its job, and carries what the attempt is known by."""

from __future__ import annotations

import logging
from collections.abc import Mapping, MutableMapping
from typing import Any


class AttemptLog(logging.LoggerAdapter[logging.Logger]):
    """A logger of one attempt, so that no line about it can lack its job, its token or its worker."""

    def __init__(self, logger: logging.Logger, facts: Mapping[str, object]) -> None:
        """Write to this logger; `facts` become attributes of each record, beside those of the line's own `extra`."""
        super().__init__(logger, facts)
        self._facts = facts

    def process(self, msg: object, kwargs: MutableMapping[str, Any]) -> tuple[object, MutableMapping[str, Any]]:
        """The line as it is written."""
        more = kwargs.get("extra") or {}
        # impl: PS-LEASE-HB-16
        return f"job {self._facts['job_id']}: {msg}", {**kwargs, "extra": {**self._facts, **more}}
