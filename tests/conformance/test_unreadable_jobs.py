"""A job whose row somebody has spoilt: it is named, it can be closed, and no worker dies of it."""

from collections.abc import Callable

import pytest

from prompt_studio import JobContext, JobManager, Outcome, PromptStudioDatabase, SchemaError, UnreadableJob
from prompt_studio.metrics import Ending
from prompt_studio.running.heartbeat import local_seconds
from tests.conformance.conftest import Create
from tests.conformance.stores import Door
from tests.conformance.working import NEVER, Counted, Troubled, quick, until, work

pytestmark = pytest.mark.conformance

SPOIL = "UPDATE prompt_studio_job_queue SET revision = revision + 1, payload = :payload WHERE id = 1"
SPOILT = "1" * 5_000
"""A number that is JSON for both databases, and that Python refuses to read."""


@pytest.fixture
def spoil(raw: Door) -> Callable[[], object]:
    return lambda: raw.execute(SPOIL, {"payload": SPOILT})


def status(raw: Door) -> tuple[str, int, str | None]:
    (found,) = raw.execute("SELECT status, lease_token, error_message FROM prompt_studio_job_queue WHERE id = 1")
    return found["status"], found["lease_token"], found["error_message"]


class TestARowThatCannotBeRead:
    @pytest.mark.verifies("PS-FAULTS-4")
    def test_is_claimed_once_and_leaves_the_next_claim_to_others(
        self, database: PromptStudioDatabase, create: Create, raw: Door, spoil: Callable[[], object]
    ) -> None:
        for _ in range(2):
            create()
        spoil()
        with pytest.raises(UnreadableJob, match="claimed all the same, by 'me' with token 1") as unreadable:
            database.acquire_next_job(worker_id="me")
        assert (unreadable.value.job_id, unreadable.value.lease_token) == (1, 1)
        assert status(raw)[:2] == ("processing", 1)
        job = database.acquire_next_job()
        assert job is not None
        assert job["id"] == 2

    @pytest.mark.parametrize("by_name", [True, False], ids=["cancelled", "failed"])
    @pytest.mark.verifies("PS-FAULTS-4")
    def test_can_be_closed_all_the_same(
        self, database: PromptStudioDatabase, create: Create, raw: Door, spoil: Callable[[], object], *, by_name: bool
    ) -> None:
        create()
        assert database.acquire_next_job() is not None
        spoil()

        def close() -> Outcome:
            return (
                database.cancel_job(1)
                if by_name
                else database.fail_job(1, lease_token=1, error_message="spoilt", retryable=False)
            )

        with pytest.raises(UnreadableJob, match="job 1 cannot be read"):
            close()
        assert status(raw)[0] == ("cancelled" if by_name else "failed")
        with pytest.raises(UnreadableJob, match="job 1 cannot be read"):
            close()


class TestAWorker:
    @pytest.mark.verifies("PS-LEASE-HB-24")
    def test_fails_a_job_that_cannot_be_read_and_goes_on(
        self,
        worker: JobManager,
        counted: Counted,
        troubled: Troubled,
        raw: Door,
        spoil: Callable[[], object],
    ) -> None:
        worker.register_handler("evaluation", quick)
        for _ in range(2):
            worker.create_job("evaluation", 1, {})
        spoil()
        assert work(worker, until=1)
        assert [job["id"] for job in counted.claims] == [2]
        assert counted.claims_failed == 1
        found, token, error = status(raw)
        assert (found, token) == ("failed", 1)
        assert error is not None
        assert error.startswith("job 1 cannot be read")
        locks = troubled.get_lock_counts()
        assert locks.acquired == locks.unlocked
        assert locks.unlock_errors == 0

    @pytest.mark.verifies("PS-LEASE-HB-24", "PS-LEASE-HB-11")
    def test_that_can_acquire_no_more_lets_what_runs_come_to_its_end(
        self, worker: JobManager, counted: Counted, troubled: Troubled
    ) -> None:
        """The grace time is longer than the test; the trouble comes while the handler runs."""
        assert worker._grace_seconds == NEVER
        graces: list[float] = []

        @worker.register_handler("evaluation")
        def handler(context: JobContext) -> str:
            assert context.job_id
            troubled.acquiring = [SchemaError("changed by hand")]
            working = worker._worker
            assert working is not None
            until(lambda: working._stopping)
            graces.append(working._grace_ends - local_seconds())
            return "well"

        worker.create_job("evaluation", 1, {})
        with pytest.raises(SchemaError, match="by hand"):
            work(worker, until=9)
        assert counted.endings == [Ending.COMPLETED]
        assert graces[0] > NEVER / 2
