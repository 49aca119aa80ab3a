"""What the judges say together, and that none of them goes untested."""

import pytest

from tests.harness.evidence import Remains
from tests.harness.judgement import JUDGES, explained
from tests.processes import test_judged_claims, test_judged_leases, test_judged_records
from tests.processes.story import Story

pytestmark = pytest.mark.processes


class TestTheJudges:
    def test_each_have_a_history_that_they_find_wrong(self) -> None:
        """A judge that nobody asks would say yes for ever."""
        tested = {*vars(test_judged_claims), *vars(test_judged_leases), *vars(test_judged_records)}
        named = {"Test" + judge.__name__.title().replace("_", "") for judge in JUDGES}
        assert named <= tested

    def test_tell_the_story(self) -> None:
        story = test_judged_leases.reclaimed()
        story.close("a", "complete", 1, 1)
        told = explained(story.findings())
        assert "INV-SINGLE-HOLDER: token 1 of job 1 was obeyed after a later one had been given out" in told
        assert "b: acquire() -> row: job 1 processing, token 2" in told
        assert "a: complete(job_id=1, token=1) -> applied: job 1 completed" in told

    def test_tell_no_more_than_can_be_read(self) -> None:
        story = Story()
        for job_id in range(1, 31):
            story.create(job_id)
        assert explained(story.findings()).endswith("... and 20 more")

    def test_of_remains_read_the_rows_of_a_table(self) -> None:
        row = dict.fromkeys(
            ("id", "entity_id", "lease_token", "priority", "created_at", "available_at", "executions"), 1
        ) | {
            "execution_limit": 4,
            "status": "queued",
            "leased_until": None,
            "closed_token": None,
            "closed_by": None,
            "completed_at": None,
        }
        remains = Remains.of([row | {"result": '["a",1]'}], [])
        assert remains.jobs[0].result == ["a", 1]
