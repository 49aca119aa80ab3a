"""A worker that stops working on an attempt, and what the advisory gate has counted."""

import pytest

from prompt_studio import InputError, JobStatus, PromptStudioDatabase
from tests.conformance.conftest import Create, Open

pytestmark = pytest.mark.conformance


class TestForgetLease:
    @pytest.mark.verifies("PS-LEASE-HB-8", "INV-LOCKS-MATCH")
    def test_gives_the_lock_back_and_leaves_the_row(self, database: PromptStudioDatabase, create: Create) -> None:
        create()
        job = database.acquire_next_job(lease_seconds=60)
        assert job is not None
        database.forget_lease(job["id"], lease_token=job["lease_token"])
        database.forget_lease(job["id"], lease_token=job["lease_token"])
        assert database.get_job(job["id"]) == job
        counts = database.get_lock_counts()
        assert counts.acquired == counts.unlocked == database.capabilities.advisory_locks
        assert database.complete_job(job["id"], lease_token=job["lease_token"])

    @pytest.mark.verifies("INV-LOCKS-MATCH")
    def test_of_an_older_attempt_gives_nothing_back(self, database: PromptStudioDatabase, create: Create) -> None:
        create()
        first = database.acquire_next_job()
        assert first is not None
        assert database.release_job(first["id"], lease_token=1)
        second = database.acquire_next_job()
        assert second is not None
        database.forget_lease(first["id"], lease_token=1)
        counts = database.get_lock_counts()
        assert counts.acquired - counts.unlocked == database.capabilities.advisory_locks

    def test_needs_a_token(self, database: PromptStudioDatabase) -> None:
        with pytest.raises(InputError, match="lease_token"):
            database.forget_lease(1, lease_token=None)


class TestOpenedAgain:
    def test_is_the_same_database_with_other_settings(self, database: PromptStudioDatabase, create: Create) -> None:
        create()
        with database.opened_again(database.settings) as again:
            assert again.count_jobs(status=JobStatus.QUEUED) == 1
            assert again.client_id == database.client_id


class TestAListener:
    def test_is_there_where_the_database_can_say_so(self, opened: Open) -> None:
        with opened() as database:
            listener = database.listener()
            assert (listener is not None) is database.capabilities.notifications
            if listener is not None:
                listener.close()
