"""The lockstep notices: a store that lies, or does what it was not asked, or says nothing, is caught under a name."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from prompt_studio import InvariantViolation, PromptStudioDatabase
from prompt_studio_model import operations as op
from prompt_studio_model.state import Settings, State
from tests.harness.adapter import Adapter
from tests.harness.lockstep import Coverage, Lockstep, Violation
from tests.harness.stores import STORES
from tests.stateful import bad_input

pytestmark = pytest.mark.conformance
CREATE = op.Create(request=(1, None, "{}", "client"))


@pytest.fixture
def lockstep(tmp_path: Path) -> Iterator[Lockstep]:
    lockstep = Lockstep(STORES[0].fresh(tmp_path, None), Settings(), Coverage())
    lockstep.do(CREATE)
    lockstep.do(op.Acquire(session="worker", owner="ann", lease=1_000))
    yield lockstep
    lockstep.adapter.close()


def test_an_answer_that_is_not_true_is_a_violation(lockstep: Lockstep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Adapter, "perform", lambda *_, **__: op.Number(7))
    with pytest.raises(Violation, match="the model allows Number\\(value=0\\)") as caught:
        lockstep.do(op.Cleanup(age=0))
    assert caught.value.names == ["conformance"]


def test_a_change_that_nobody_asked_for_has_the_promise_s_name(
    lockstep: Lockstep, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = lockstep.adapter.state()
    without_token = seen._replace(jobs=(seen.jobs[0]._replace(lease_token=3),))
    monkeypatch.setattr(Adapter, "state", lambda _: without_token)
    with pytest.raises(Violation) as caught:
        lockstep.do(op.Renew(job_id=1, token=1, lease=1_000))
    assert "INV-TOKEN-GROWS" in caught.value.names


def test_a_lost_row_has_the_promise_s_name(lockstep: Lockstep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Adapter, "state", lambda _: State(next_id=2))
    with pytest.raises(Violation) as caught:
        lockstep.do(op.Tick(milliseconds=0))
    assert "INV-NOTHING-LOST" in caught.value.names


def test_a_reused_made_up_name_shows(lockstep: Lockstep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prompt_studio.storage.lease_operations.uuid.uuid4", lambda: type("Same", (), {"hex": "same"}))
    lockstep.do(op.Release(job_id=1, token=1))
    lockstep.do(op.Acquire(session="worker", lease=1_000))
    lockstep.do(op.Release(job_id=1, token=2))
    with pytest.raises(Violation) as caught:
        lockstep.do(op.Acquire(session="worker", lease=1_000))
    assert caught.value.names == ["conformance"]


def test_a_database_that_refuses_a_write_names_the_promise(lockstep: Lockstep, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise InvariantViolation("a CHECK says no", invariant="INV-LEASE-FIELDS")

    monkeypatch.setattr(PromptStudioDatabase, "release_job", refuse)
    with pytest.raises(Violation) as caught:
        lockstep.do(op.Release(job_id=1, token=1))
    assert caught.value.names == ["INV-LEASE-FIELDS"]


def test_bad_input_that_is_accepted_is_a_violation(lockstep: Lockstep) -> None:
    with pytest.raises(Violation, match="a good call was accepted"):
        bad_input.check(bad_input.Case("a good call", lambda database, _: database.get_job_stats()), lockstep)


def test_bad_input_that_writes_first_is_a_violation(lockstep: Lockstep) -> None:
    def write_then_refuse(database: PromptStudioDatabase, _: int) -> None:
        database.create_job("evaluation", 1, {})
        database.create_job("evaluation", 1, {}, priority=0)

    with pytest.raises(Violation, match="must change nothing"):
        bad_input.check(bad_input.Case("too late", write_then_refuse), lockstep)


@pytest.mark.parametrize("case", bad_input.CASES, ids=lambda case: case.name)
def test_bad_input_is_refused_and_changes_nothing(lockstep: Lockstep, case: bad_input.Case) -> None:
    bad_input.check(case, lockstep)
