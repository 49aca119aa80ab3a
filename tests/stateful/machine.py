"""The state machine: generated calls, in an order that Hypothesis chooses and shrinks, on a store and a model at once.

Virtual time, one call at a time: a lease expires because a tick moved the clock. What a step may be is in `targets`;
what must hold after it is in `tests.harness.lockstep`. A rule never looks at what the store answered, only at the state
that both agree on, so that a failing example replays from its draws alone.
"""

from collections.abc import Callable

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from prompt_studio_model import operations as op
from prompt_studio_model.state import State
from tests.harness.adapter import DAY, Adapter
from tests.harness.lockstep import Lockstep
from tests.stateful import bad_input, reads, targets

JOBS_AT_ONCE = 6


class QueueMachine(RuleBasedStateMachine):
    """Drives one `Lockstep`. `start` is given by the test: a fresh, empty store beside a fresh model."""

    start: Callable[[], Lockstep]

    def __init__(self) -> None:
        super().__init__()
        self.lockstep = type(self).start()
        self.last: op.Invocation | None = None

    @property
    def now(self) -> State:
        return self.lockstep.state

    def do(self, invocation: op.Invocation) -> None:
        self.last = invocation
        self.lockstep.do(invocation)

    @precondition(lambda self: len(self.now.jobs) < JOBS_AT_ONCE)
    @rule(data=st.data())
    def create(self, data: st.DataObject) -> None:
        self.do(data.draw(targets.creations(self.now)))

    @rule(call=targets.acquisitions())
    def acquire(self, call: op.Acquire) -> None:
        self.do(call)

    @rule(data=st.data())
    def call_with_token(self, data: st.DataObject) -> None:
        self.do(data.draw(targets.calls_with_token(self.now)))

    @rule(data=st.data())
    def call_without_token(self, data: st.DataObject) -> None:
        self.do(data.draw(targets.calls_without_token(self.now)))

    @rule(data=st.data())
    def call_twice(self, data: st.DataObject) -> None:
        self.do(data.draw(targets.calls_with_token(self.now)))
        assert self.last is not None
        self.do(self.last)

    @rule(data=st.data())
    def tick(self, data: st.DataObject) -> None:
        self.do(data.draw(targets.ticks(self.now, self.lockstep.settings.retention)))

    @rule(data=st.data())
    def tick_and_call(self, data: st.DataObject) -> None:
        self.do(data.draw(targets.ticks(self.now, self.lockstep.settings.retention)))
        self.do(data.draw(targets.calls_with_token(self.now)))

    @rule(data=st.data())
    def key(self, data: st.DataObject) -> None:
        self.do(data.draw(targets.key_calls(self.now)))

    @precondition(lambda self: len(self.now.jobs) < JOBS_AT_ONCE)
    @rule(data=st.data())
    def create_once(self, data: st.DataObject) -> None:
        self.do(data.draw(targets.keyed_creations(self.now)))

    @rule(data=st.data())
    def trouble(self, data: st.DataObject) -> None:
        kinds = ["lose", "lose", "crash", "cleanup", *(["bad input"] if self.has_one_store() else [])]
        kind = data.draw(st.sampled_from(kinds))
        if kind == "crash":
            self.do(op.Crash(session=data.draw(targets.sessions)))
        elif kind == "cleanup":
            self.do(op.Cleanup(age=data.draw(st.integers(0, 1)) * DAY))
        elif kind == "bad input":
            bad_input.check(data.draw(st.sampled_from(bad_input.CASES)), self.lockstep)
        else:
            calls = (targets.acquisitions(), targets.calls_with_token(self.now))
            creations = (targets.creations(self.now), targets.keyed_creations(self.now))
            self.last = data.draw(st.one_of(*calls, *creations))
            self.lockstep.do(op.LoseReply(call=self.last), arrives=data.draw(st.booleans()))

    def has_one_store(self) -> bool:
        """Whether calls can be made that the model does not know."""
        return isinstance(self.lockstep.system, Adapter)

    @precondition(has_one_store)
    @rule(data=st.data())
    def read(self, data: st.DataObject) -> None:
        reads.check(data, self.lockstep)

    def teardown(self) -> None:
        self.lockstep.system.close()
