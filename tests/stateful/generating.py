"""Hypothesis drives a machine until so many steps were generated: how many an example has is its own affair."""

from typing import Final

from hypothesis import HealthCheck, seed
from hypothesis import settings as hypothesis_settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from tests.harness.lockstep import Coverage

STEPS_PER_EXAMPLE: Final = 50
MORE: Final = 10
"""An example has up to so many steps more: those that it begins with."""


def generate(machine: type[RuleBasedStateMachine], drawn_from: int, coverage: Coverage, least: int) -> None:
    """Run examples until the coverage has counted so many steps more; those that failed before come first.

    Args:
        machine: what is driven.
        drawn_from: the seed; each round that is needed has the next.
        coverage: what the machine counts its steps in.
        least: how many.
    """
    end = coverage.steps + least
    while (left := end - coverage.steps) > 0:
        run_state_machine_as_test(
            seed(drawn_from)(machine),
            settings=hypothesis_settings(
                max_examples=max(1, left // (STEPS_PER_EXAMPLE + MORE)),
                stateful_step_count=STEPS_PER_EXAMPLE,
                deadline=None,
                report_multiple_bugs=False,  # the first broken promise, soon, is worth more than all of them, later
                # An example is dozens of commits on real databases: slow, and meant to be.
                suppress_health_check=[HealthCheck.too_slow],
            ),
        )
        assert end - coverage.steps < left, "an example made no step"
        drawn_from += 1
