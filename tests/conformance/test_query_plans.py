"""How SQLite finds the rows: a claim must not become slower as finished and waiting jobs pile up.

The plans are taken from the production statements, with the production clock.
"""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from prompt_studio import PromptStudioDatabase, Settings
from prompt_studio.storage.sqlite.dialect import SqliteDialect

pytestmark = pytest.mark.conformance

QUEUED = "prompt_studio_job_queue_claim_queued"
PROCESSING = "prompt_studio_job_queue_claim_processing"
ENDED = "prompt_studio_job_queue_ended"


class Plan:
    """The steps of a plan, and the step under which each of them stands."""

    def __init__(self, rows: list[tuple[int, int, int, str]]) -> None:
        self.steps = {number: detail for number, _, _, detail in rows}
        self._above = {number: above for number, above, _, _ in rows}

    def __str__(self) -> str:
        return "\n".join(self.steps.values())

    def reads(self) -> list[str]:
        """The steps that read the job table."""
        return [step for step in self.steps.values() if " prompt_studio_job_queue" in step]

    def sorts_beside(self, index: str) -> bool:
        """Whether the rows that this index gives are sorted once more, where they are picked."""
        pickers = {self._above[number] for number, step in self.steps.items() if step.endswith(f"INDEX {index}")}
        return any("B-TREE" in step and self._above[number] in pickers for number, step in self.steps.items())


@pytest.fixture
def plans(path: Path) -> Iterator[dict[str, Plan]]:
    with PromptStudioDatabase(path, "tester") as database:
        for _ in range(20):
            database.create_job("evaluation", 1, {})
    statements = SqliteDialect(path, Settings(), clock=None, create=False).statements
    with closing(sqlite3.connect(path)) as connection:
        found = {}
        for statement in statements:
            names = set(re.findall(r":([a-z]\w*)", statement.sql))
            rows = connection.execute(f"EXPLAIN QUERY PLAN {statement.sql}", dict.fromkeys(names, 1)).fetchall()
            found[statement.name] = Plan(rows)
        yield found


class TestPlans:
    def test_of_a_claim_read_each_partial_index_once_in_its_order(self, plans: dict[str, Plan]) -> None:
        plan = plans["acquire_best_job"]
        assert sorted(plan.reads()) == [
            f"SCAN prompt_studio_job_queue USING INDEX {PROCESSING}",
            f"SCAN prompt_studio_job_queue USING INDEX {QUEUED}",
            "SEARCH prompt_studio_job_queue USING INTEGER PRIMARY KEY (rowid=?)",
        ], plan
        assert not plan.sorts_beside(QUEUED)
        assert not plan.sorts_beside(PROCESSING)
        # Of the two candidates the better one is picked by a sort of two rows, and that is the only one.
        assert sum("B-TREE" in step for step in plan.steps.values()) == 1, plan

    def test_of_an_exhaustion_never_scan_the_table_and_never_sort(self, plans: dict[str, Plan]) -> None:
        plan = plans["fail_best_exhausted_job"]
        assert sorted(plan.reads()) == [
            f"SCAN prompt_studio_job_queue USING INDEX {PROCESSING}",
            f"SCAN prompt_studio_job_queue USING INDEX {PROCESSING}",
            f"SCAN prompt_studio_job_queue USING INDEX {QUEUED}",
            "SEARCH prompt_studio_job_queue USING INTEGER PRIMARY KEY (rowid=?)",
        ], plan
        assert "B-TREE" not in str(plan)

    @pytest.mark.parametrize(
        "name",
        [
            "acquire_this_job",
            "renew_lease",
            "renew_lease_by_owner",
            "complete_job",
            "fail_job",
            "fail_or_requeue_job",
            "release_job",
            "set_completed",
            "set_failed",
            "set_cancelled",
            "requeue_running_job",
            "retry_failed_job",
            "get_job",
        ],
    )
    def test_of_a_call_on_one_job_find_it_by_its_id(self, plans: dict[str, Plan], name: str) -> None:
        assert plans[name].reads() == ["SEARCH prompt_studio_job_queue USING INTEGER PRIMARY KEY (rowid=?)"]

    @pytest.mark.parametrize(("name", "index"), [("list_queued_jobs", QUEUED), ("list_processing_jobs", PROCESSING)])
    def test_of_a_list_follow_the_claim_order(self, plans: dict[str, Plan], name: str, index: str) -> None:
        assert list(plans[name].steps.values()) == [f"SCAN prompt_studio_job_queue USING INDEX {index}"]

    @pytest.mark.verifies("PS-LEASE-HB-23")
    @pytest.mark.parametrize(
        ("name", "index"),
        [("count_queued_jobs", QUEUED), ("count_processing_jobs", PROCESSING), ("lease_stats", PROCESSING)],
    )
    def test_of_a_scrape_look_at_no_job_that_has_ended(self, plans: dict[str, Plan], name: str, index: str) -> None:
        assert list(plans[name].steps.values()) == [f"SCAN prompt_studio_job_queue USING INDEX {index}"]

    def test_of_a_cleanup_follow_the_order_of_the_ends_and_find_each_job_by_its_id(
        self, plans: dict[str, Plan]
    ) -> None:
        assert plans["list_jobs_to_clean_up"].reads() == [
            f"SEARCH prompt_studio_job_queue USING INDEX {ENDED} (completed_at<?)"
        ]
        assert "B-TREE" not in str(plans["list_jobs_to_clean_up"])
        for name in ("pick_jobs_to_clean_up", "cleanup_jobs"):
            assert plans[name].reads() == ["SEARCH prompt_studio_job_queue USING INTEGER PRIMARY KEY (rowid=?)"]

    @pytest.mark.parametrize("name", ["list_jobs_for_entity_ascending", "list_jobs_for_entity_descending"])
    def test_of_an_entitys_jobs_need_no_sort(self, plans: dict[str, Plan], name: str) -> None:
        (step,) = plans[name].steps.values()
        assert "prompt_studio_job_queue_entity (entity_id=? AND job_type=?)" in step

    @pytest.mark.parametrize(
        ("name", "index"),
        [("lookup_key_of_user", "uq_ps_idem_user"), ("lookup_key_without_user", "uq_ps_idem_without_user")],
    )
    def test_of_a_lookup_use_the_scopes_own_index(self, plans: dict[str, Plan], name: str, index: str) -> None:
        assert f"USING INDEX {index}" in str(plans[name])

    def test_of_a_clean_up_of_keys_follow_their_age_and_find_each_by_its_id(self, plans: dict[str, Plan]) -> None:
        (step,) = plans["list_expired_keys"].steps.values()
        assert "USING COVERING INDEX prompt_studio_idempotency_age (created_at<?)" in step
        searched = "SEARCH prompt_studio_idempotency USING INTEGER PRIMARY KEY (rowid=?)"
        for name in ("delete_expired_keys", "fill_key"):
            assert searched in plans[name].steps.values()

    def test_of_a_renewal_touch_no_index(self, path: Path, plans: dict[str, Plan]) -> None:
        assert plans
        with closing(sqlite3.connect(path)) as connection:
            indexes = connection.execute(
                "SELECT sql FROM sqlite_schema"
                " WHERE type = 'index' AND sql IS NOT NULL AND tbl_name = 'prompt_studio_job_queue'"
            ).fetchall()
        assert len(indexes) == 4
        assert not any("leased_until" in sql or "late" in sql for (sql,) in indexes)
