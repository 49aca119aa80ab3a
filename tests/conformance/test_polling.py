"""How long a worker waits before it looks again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prompt_studio.running.polling import FIRST_PAUSE_SECONDS, SPREAD_MIN, Idle, doubled

pytestmark = pytest.mark.conformance


class TestIdle:
    def test_waits_twice_as_long_each_time(self) -> None:
        idle, pauses = Idle(2.0), []
        for _ in range(8):
            pauses.append(idle.pause(1))
            idle = idle.nothing()
        assert pauses == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]

    def test_begins_anew_when_there_was_a_job(self) -> None:
        assert Idle(2.0, looks=5).something().pause(1) == FIRST_PAUSE_SECONDS

    @pytest.mark.verifies("PS-LEASE-HB-14")
    @given(limit=st.floats(0.001, 3600), looks=st.integers(0, 10**9), spread=st.floats(SPREAD_MIN, 1))
    def test_never_waits_longer_than_its_limit(self, limit: float, looks: int, spread: float) -> None:
        assert 0 < Idle(limit, looks).pause(spread) <= limit


def test_doubling_ends_at_the_limit() -> None:
    assert [doubled(times, 0.3) for times in (0, 1, 2, 3, 10**6)] == [0.05, 0.1, 0.2, 0.3, 0.3]
