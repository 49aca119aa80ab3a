"""A file that is taken away, or replaced, while the database is open."""

from pathlib import Path

import pytest

from prompt_studio import PromptStudioDatabase, StoreUnavailable

pytestmark = pytest.mark.faults


class TestAFileThatIsGone:
    @pytest.mark.verifies("PS-FAULTS-2", "PS-IDEMPOTENCY-PG-4")
    def test_is_noticed_by_the_next_call(self, made: Path) -> None:
        with PromptStudioDatabase(made, "tester") as database:
            database.count_jobs()
            made.unlink()
            with pytest.raises(StoreUnavailable, match=r"cannot be found.*nothing was written") as caught:
                database.create_job("evaluation", 1, {})
            assert not caught.value.outcome_unknown
            with pytest.raises(StoreUnavailable):
                database.lookup_idempotency("job", "k", None)
        assert not made.exists()

    @pytest.mark.verifies("PS-FAULTS-2")
    def test_is_not_made_again_by_a_new_connection(self, made: Path) -> None:
        with PromptStudioDatabase(made, "tester") as database:
            made.unlink()
            database.close_connection()
            with pytest.raises(StoreUnavailable, match="does not exist"):
                database.count_jobs()
        assert not made.exists()


class TestAFileThatWasReplaced:
    @pytest.mark.parametrize("connected", [True, False])
    @pytest.mark.verifies("PS-FAULTS-2", "INV-NOTHING-LOST")
    def test_is_not_written_to(self, made: Path, *, connected: bool) -> None:
        with PromptStudioDatabase(made, "tester") as database:
            if connected:
                database.count_jobs()
            kept = made.rename(made.with_name("kept.db"))
            with PromptStudioDatabase(made, "other") as other:
                with pytest.raises(StoreUnavailable, match=r"replaced by another file.*open it again"):
                    database.create_job("evaluation", 1, {})
                assert other.count_jobs() == 0
            made.unlink()
            kept.rename(made)
            assert database.count_jobs() == 1
