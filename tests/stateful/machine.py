"""The state machine: generated calls, in an order that Hypothesis chooses and shrinks, on a store and a model at once.

Virtual time, one call at a time: a lease expires because a tick moved the clock. What a step may be is in `targets`;
what must hold after it is in `tests.harness.lockstep`. A rule never looks at what the store answered, only at the state
that both agree on, so that a failing example replays from its draws alone.
"""

from collections.abc import Callable

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from prompt_studio_model import operations as op
from prompt_studio_model.state import State
from tests.harness.adapter import Adapter
from tests.harness.lockstep import Lockstep
from tests.stateful import bad_input, reads, targets

OPEN_JOBS_MAX = 4
JOBS_MAX = 10
AFTER_A_TICK = targets.calls_with_token()


def _has_room(machine: "QueueMachine") -> bool:
    """Whether one more job would be worth its time: not among many that nobody does, nor that are over."""
    jobs = machine.now.jobs
    return len(jobs) < JOBS_MAX and sum(job.completed_at is None for job in jobs) < OPEN_JOBS_MAX


def _has_one_store(machine: "QueueMachine") -> bool:
    """Whether calls can be made that the model does not know."""
    return isinstance(machine.lockstep.system, Adapter)


class QueueMachine(RuleBasedStateMachine):
    """Drives one `Lockstep`. `start` is given by the test: a fresh, empty store beside a fresh model."""

    start: Callable[[], Lockstep]

    def __init__(self) -> None:
        super().__init__()
        self.lockstep = type(self).start()

    @property
    def now(self) -> State:
        """The state that store and model agree on."""
        return self.lockstep.state

    @property
    def retention(self) -> int | None:
        """How long keys are kept, in milliseconds."""
        return self.lockstep.settings.retention

    @initialize(calls=targets.beginnings())
    def begin(self, calls: list[op.Create | op.Acquire]) -> None:
        for call in calls:
            self.lockstep.do(call)

    @precondition(_has_room)
    @rule(call=targets.creations())
    def create(self, call: op.Create) -> None:
        self.lockstep.do(call)

    @rule(call=targets.acquisitions())
    def acquire(self, call: op.Acquire) -> None:
        self.lockstep.do(call)

    @rule(call=targets.calls_with_token())
    def call_with_token(self, call: op.JobCall) -> None:
        self.lockstep.do(call)

    @rule(call=targets.calls_without_token())
    def call_without_token(self, call: op.JobCall) -> None:
        self.lockstep.do(call)

    @rule(call=targets.calls_with_token())
    def call_twice(self, call: op.JobCall) -> None:
        self.lockstep.do(call)
        self.lockstep.do(call)

    @rule(tick=targets.ticks())
    def tick(self, tick: op.Tick) -> None:
        self.lockstep.do(tick)

    @rule(tick=targets.ticks(), data=st.data())
    def tick_and_call(self, tick: op.Tick, data: st.DataObject) -> None:
        self.lockstep.do(tick)
        self.lockstep.do(data.draw(AFTER_A_TICK))

    @rule(call=targets.key_calls())
    def key(self, call: op.Lookup | op.Record | op.CleanupKeys) -> None:
        self.lockstep.do(call)

    @precondition(_has_room)
    @rule(call=targets.keyed_creations())
    def create_once(self, call: op.CreateOnce) -> None:
        self.lockstep.do(call)

    @rule(call=targets.troubles(), arrives=st.booleans())
    def trouble(self, call: op.LoseReply | op.Crash | op.Cleanup, *, arrives: bool) -> None:
        self.lockstep.do(call, arrives=arrives)

    @precondition(_has_one_store)
    @rule(case=st.sampled_from(bad_input.CASES))
    def refuse(self, case: bad_input.Case) -> None:
        bad_input.check(case, self.lockstep)

    @precondition(_has_one_store)
    @rule(data=st.data())
    def read(self, data: st.DataObject) -> None:
        reads.check(data, self.lockstep)

    def teardown(self) -> None:
        self.lockstep.system.close()
