"""Every promise says yes to what is right, and no to what it forbids."""

import pytest

from prompt_studio_model.checking.properties import violated
from prompt_studio_model.invariants import ALWAYS
from tests.model.accepted_transitions import ACCEPTED
from tests.model.rejected_creates import REJECTED_CREATES
from tests.model.rejected_transitions import REJECTED as REJECTED_CALLS
from tests.model.transitions import Case
from tests.model.unnoticed_transitions import UNNOTICED, Gap

pytestmark = pytest.mark.model

REJECTED = (*REJECTED_CALLS, *REJECTED_CREATES)
PROMISES = {promise.id: promise for promise in ALWAYS}


def _name(case: Case) -> str:
    return f"{case.promise}: {case.what}"


@pytest.mark.verifies(
    "INV-SINGLE-HOLDER",
    "INV-TOKEN-GROWS",
    "INV-LEASE-FIELDS",
    "INV-TERMINAL-ABSORBS",
    "INV-RESULT-FENCED",
    "INV-LEASE-MONOTONE",
    "INV-NO-EARLY-RECLAIM",
    "INV-CLAIM-ORDER",
    "INV-NONE-IS-EMPTY",
    "INV-EXECUTIONS-BOUNDED",
    "INV-LOCKS-MATCH",
    "INV-ONE-EFFECT-PER-KEY",
    "INV-NO-CROSS-USER",
    "INV-NOTHING-LOST",
    "INV-REPLAY-SAFE",
    "INV-BACKENDS-AGREE",
)
class TestPromise:
    @pytest.mark.parametrize("case", ACCEPTED, ids=_name)
    def test_accepts(self, case: Case) -> None:
        assert PROMISES[case.promise].predicate(case.seen)

    @pytest.mark.parametrize("case", REJECTED, ids=_name)
    def test_rejects(self, case: Case) -> None:
        assert not PROMISES[case.promise].predicate(case.seen)

    def test_has_something_to_accept_and_something_to_reject(self) -> None:
        assert {case.promise for case in ACCEPTED} == PROMISES.keys()
        assert {case.promise for case in REJECTED} == PROMISES.keys()


class TestKnownGap:
    @pytest.mark.parametrize("gap", UNNOTICED, ids=lambda gap: gap.what)
    @pytest.mark.xfail(strict=True, raises=AssertionError, reason="no promise by itself forbids this yet")
    def test_is_rejected_by_some_promise(self, gap: Gap) -> None:
        by_themselves = [promise for promise in ALWAYS if promise.id != "INV-BACKENDS-AGREE"]

        assert violated(gap.seen, by_themselves)
