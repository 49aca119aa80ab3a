"""Malformed calls are refused before anything is written, and a store that is careless about it is caught."""

import pytest

from prompt_studio import PromptStudioDatabase
from tests.harness.lockstep import Lockstep
from tests.harness.violation import Violation
from tests.stateful import bad_input

pytestmark = pytest.mark.conformance


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
