"""The lockstep notices: a store that lies, or does what it was not asked, or says nothing, is caught under a name."""

import pytest

from prompt_studio_model import operations as op
from prompt_studio_model.state import State
from tests.harness.adapter import Adapter, RefusedByDatabase
from tests.harness.lockstep import Lockstep
from tests.harness.violation import Violation

pytestmark = pytest.mark.conformance


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
    def refuse(*_: object, **__: object) -> op.Response:
        raise RefusedByDatabase("a CHECK says no", invariant="INV-LEASE-FIELDS")

    monkeypatch.setattr(Adapter, "perform", refuse)
    with pytest.raises(Violation, match="a CHECK says no") as caught:
        lockstep.do(op.Release(job_id=1, token=1))
    assert caught.value.names == ["INV-LEASE-FIELDS"]
