"""The cancel of an optimization on a server: it waits for a rival's row, and gives its own session's locks back."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from prompt_studio import OptimizationRow, PromptStudioDatabase
from tests.conformance.rows import claimed
from tests.faults.server_sessions import Stranger, await_that

pytestmark = [pytest.mark.faults, pytest.mark.verifies("PS-ENTITIES-4")]

# A transaction sees the others as they were when it looked at them first, unless it asks to look anew.
LOOK = "SELECT pg_stat_clear_snapshot()"
WAITING = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%cancel_optimization%'"


@pytest.fixture
def optimization(served: PromptStudioDatabase) -> OptimizationRow:
    project = served.create_project("home", user_id="ann")["id"]
    prompt = served.create_prompt(project_id=project, name="first")["id"]
    return served.create_optimization(
        project_id=project, name="run", initial_prompt_id=prompt, optimizer_type="mipro", job={}
    )


@pytest.mark.parametrize("user", [None, "ann"])
def test_a_completion_that_is_under_way_comes_first(
    served: PromptStudioDatabase, observer: Stranger, optimization: OptimizationRow, user: str | None
) -> None:
    number = optimization["id"]
    with ThreadPoolExecutor(1) as canceller:
        with observer.session.transaction():
            observer.run("UPDATE prompt_studio_optimizations SET status = 'completed' WHERE id = %s", number)
            told = canceller.submit(served.cancel_optimization, number, user_id=user)
            await_that(lambda: bool(observer.run(LOOK) and observer.run(WAITING)), "the cancel waits for the row")
        row = told.result()
    assert row is not None
    assert row["status"] == "completed"
    assert [job["status"] for job in served.list_jobs()] == ["queued"]


@pytest.mark.verifies("INV-LOCKS-MATCH")
def test_the_locks_of_its_jobs_are_given_back(
    served: PromptStudioDatabase, observer: Stranger, optimization: OptimizationRow
) -> None:
    job = claimed(served)
    assert observer.locked() == [job["id"]]
    served.cancel_optimization(optimization["id"])
    assert observer.locked() == []
