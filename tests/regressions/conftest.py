"""The workers and databases of schedules, as the other tests of interleavings have them."""

from tests.interleaved.conftest import opened, pool

__all__ = ["opened", "pool"]
