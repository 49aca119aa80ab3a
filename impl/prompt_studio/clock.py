"""The one seam for time.

In production the database's own clock decides, inside the statement that uses it, so that workers on machines whose
clocks disagree cannot disagree about a lease. Tests hand in a `Clock`; the store then reads that one instead, at the
same place in the same statements. Nothing else in this package asks what time it is.

On Postgres several machines share the time, so a test keeps it in the database: there the milliseconds are the last
value of the sequence `prompt_studio_virtual_clock`, which the test makes and sets, and `now_milliseconds` is not asked.
"""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """A source of time for tests."""

    def now_milliseconds(self) -> int:
        """Whole milliseconds since 1970-01-01 UTC."""
