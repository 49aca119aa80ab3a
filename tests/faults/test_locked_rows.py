"""Beats beside somebody who has locked the rows of some jobs: theirs are lost, and no others."""

import queue
import threading
from functools import partial
from typing import Final

import pytest

from prompt_studio import Metrics, PromptStudioDatabase
from prompt_studio.running.beats import Loss, pace
from prompt_studio.running.heartbeat import Attempt, Heartbeat, beating_database, local_seconds
from tests.faults.server_sessions import Stranger

pytestmark = pytest.mark.faults

LEASE: Final = 6
LIMIT_SECONDS: Final = 10 * LEASE
LOCKED: Final = 3
FREE: Final = 4


class Told(Metrics):
    """A sign at each beat of a free job that is applied, and at each loss."""

    def __init__(self) -> None:
        self.lost_reasons: queue.Queue[str] = queue.Queue()
        self.again = threading.Semaphore(0)

    def renewed(self, job_type: str, *, late: bool) -> None:
        assert not late
        if job_type == "free":
            self.again.release()

    def lost(self, job_type: str, reason: str) -> None:
        assert job_type
        self.lost_reasons.put(reason)


@pytest.mark.verifies("PS-LEASE-HB-2", "PS-LEASE-HB-6", "PS-LEASE-HB-7")
def test_rows_that_others_have_locked_cost_no_other_job_its_lease(
    served: PromptStudioDatabase, observer: Stranger
) -> None:
    """The rows stay locked until their leases are lost, which is as long as a lease is; the first have least time."""
    told, lost = Told(), list[tuple[str, Loss]]()

    def note(kind: str, loss: Loss) -> None:
        lost.append((kind, loss))

    heartbeat = Heartbeat(partial(beating_database, served, pace(LEASE, None)), metrics=told)
    for _ in range(LOCKED + FREE):
        served.create_job("evaluation", 1, {})
    for number in range(LOCKED + FREE):
        asked_at, job = local_seconds(), served.acquire_next_job(lease_seconds=LEASE)
        assert job is not None
        kind = "locked" if number < LOCKED else "free"
        attempt = Attempt(job_id=job["id"], job_type=kind, lease_token=job["lease_token"], worker_id="holder")
        holding = heartbeat.watch(attempt, pace(LEASE, None), asked_at=asked_at)
        heartbeat.tell(holding, partial(note, kind))
    with observer.session.transaction():
        observer.run("SELECT id FROM prompt_studio_job_queue WHERE id <= %s FOR UPDATE", LOCKED)
        heartbeat.start()
        for _ in range(LOCKED):
            assert told.lost_reasons.get(timeout=LIMIT_SECONDS) == Loss.DEADLINE
    while told.again.acquire(blocking=False):
        """These came before."""
    for _ in range(2 * FREE):
        assert told.again.acquire(timeout=LIMIT_SECONDS)
    heartbeat.close()
    assert lost == [("locked", Loss.DEADLINE)] * LOCKED
