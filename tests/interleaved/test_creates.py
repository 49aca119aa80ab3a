"""A create with a key is killed at every gate: neither row nor job is left, or both are, and the same call goes on."""

import pytest

from prompt_studio_model.checking.history import Invoked, Lost
from tests.harness.interleaving.explorers import every_order
from tests.harness.interleaving.runs import Run
from tests.harness.interleaving.scenarios import KILLED
from tests.harness.interleaving.scheduler import Scheduler
from tests.interleaved.conftest import Holds

pytestmark = [
    pytest.mark.interleaved,
    pytest.mark.timeout(600),
    pytest.mark.verifies("PS-IDEMPOTENCY-PG-5", "INV-ONE-EFFECT-PER-KEY", "INV-NOTHING-LOST"),
]

ONCE = next(scenario for scenario in KILLED if scenario.name == "create once, be killed, create once")
OF_A_CREATE = {"record_key_of_user", "create_job", "fill_key", "commit"}


def killed_at(run: Run) -> str | None:
    """The statement before which, or inside of which, the first create was killed; None if it was not."""
    (number,) = [number for number, step in enumerate(run.steps) if step.what == "kill a"]
    begun = [event.number for event in run.events if isinstance(event, Invoked)]
    lost = [event.number for event in run.events if isinstance(event, Lost)]
    if not lost or lost[0] != begun[0]:
        return None
    after = [step.what for step in run.steps[:number] if step.lane == "a"]
    return after[-1] if after else None


def test_a_kill_at_every_gate_leaves_both_or_neither(scheduler: Scheduler, holds: Holds) -> None:
    seen, schedules = set(), 0
    for run in every_order(scheduler, ONCE):
        holds(run)
        seen.add(killed_at(run))
        schedules += 1
        assert len(run.after.jobs) == len(run.after.keys) == 1
        assert run.after.keys[0].entity_id == run.after.jobs[0].id
    # The kill came after each of these steps, the last of which only the answer follows; and when nothing had begun.
    assert OF_A_CREATE | {None} <= seen
    assert schedules > len(OF_A_CREATE)
