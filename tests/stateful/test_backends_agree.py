"""SQLite and Postgres in lockstep with each other, and with the model: equal inputs, equal traces."""

import subprocess
import sys
import time
from pathlib import Path
from typing import cast

import pytest

from prompt_studio_model import operations as op
from prompt_studio_model.state import Settings, State
from tests.harness.adapter import SECOND, Adapter
from tests.harness.certificate import Certificate, Conformance
from tests.harness.lockstep import Lockstep
from tests.harness.plugin import CERTIFICATE
from tests.harness.stores import STORES
from tests.harness.twins import PROMISE, Twins
from tests.harness.violation import Violation
from tests.stateful.generating import generate
from tests.stateful.machine import QueueMachine

SHARE = 4  # of the steps that a store by itself makes
RETENTION_SECONDS = 100
ROOT = Path(__file__).resolve().parents[2]
COLLECTED = ("tests/stateful/test_backends_agree.py", "tests/stateful/test_lockstep.py")
LEFT, RIGHT = (store for store in STORES if not store.advisory_locks)


@pytest.mark.stateful
@pytest.mark.conformance
@pytest.mark.verifies("INV-BACKENDS-AGREE")
@pytest.mark.timeout(600)
def test_generated_calls_have_one_answer(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    certificate: Certificate = request.config.stash[CERTIFICATE]
    steps = request.config.option.steps // SHARE
    layer = Conformance(steps_least=steps, pairs_expected=frozenset())
    certificate.agreements[f"{LEFT.name} = {RIGHT.name}"] = layer

    class Machine(QueueMachine):
        @staticmethod
        def start() -> Lockstep:
            twins = Twins(*(store.fresh(tmp_path, RETENTION_SECONDS, None) for store in (LEFT, RIGHT)))
            return Lockstep(twins, Settings(retention=RETENTION_SECONDS * SECOND), layer.coverage)

    began = time.monotonic()
    generate(Machine, certificate.seed, layer.coverage, steps)
    layer.seconds = time.monotonic() - began


class Told:
    """A store that answers and holds what it is told to."""

    def __init__(self, answer: op.Response, state: State) -> None:
        self._answer = answer
        self._state = state

    def perform(self, _: op.Invocation, *, arrives: bool) -> op.Response:
        return self._answer if arrives else op.Nothing()

    def state(self) -> State:
        return self._state


def twins(left: Told, right: Told) -> Twins:
    return Twins(cast("Adapter", left), cast("Adapter", right))


@pytest.mark.conformance
def test_another_answer_of_one_is_a_violation() -> None:
    with pytest.raises(Violation) as caught:
        twins(Told(op.Number(1), State()), Told(op.Number(2), State())).perform(op.Cleanup(age=0))
    assert caught.value.names == [PROMISE]


@pytest.mark.conformance
def test_another_row_of_one_is_a_violation() -> None:
    with pytest.raises(Violation) as caught:
        twins(Told(op.Number(1), State()), Told(op.Number(1), State(next_id=2))).state()
    assert caught.value.names == [PROMISE]


@pytest.mark.conformance
def test_equal_twins_are_one_store() -> None:
    both = twins(Told(op.Number(1), State()), Told(op.Number(1), State()))
    assert both.perform(op.Cleanup(age=0)) == op.Number(1)
    assert both.state() == State()


@pytest.mark.conformance
@pytest.mark.untraced
def test_the_model_is_asked_before_the_twins() -> None:
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-m", "stateful", *COLLECTED]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    files = [line.split("::")[0] for line in listed.stdout.splitlines() if "::" in line]
    assert list(dict.fromkeys(files)) == ["tests/stateful/test_lockstep.py", "tests/stateful/test_backends_agree.py"]
