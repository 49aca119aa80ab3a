"""The cancel of an optimization: with its jobs or not at all, and never over an end that came first."""

from collections.abc import Callable

import pytest

from prompt_studio import InputError, JobStatus, OptimizationRow, PromptStudioDatabase, TransientConflict
from prompt_studio.storage.dialect import NO_PARAMETERS, Parameters, Row
from prompt_studio.storage.statements import Statement
from prompt_studio.storage.transactions import Session
from tests.conformance.conftest import Open
from tests.conformance.rows import claimed, stored

pytestmark = [pytest.mark.conformance, pytest.mark.verifies("PS-ENTITIES-4")]

STATEMENTS_MAX = 8


class Meeting:
    """A rival's call, which comes once before a certain statement of somebody else's."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, call: Callable[[], object], before: Callable[[list[str], str], bool]
    ) -> None:
        self.seen: list[str] = []
        self.came = False
        self._tried = False
        run = Session.run

        def met(session: Session, statement: Statement, parameters: Parameters = NO_PARAMETERS) -> list[Row]:
            if not self._tried and before(self.seen, statement.name):
                self._tried = True
                try:
                    call()
                    self.came = True
                except TransientConflict:
                    self.came = False  # the other one has locked what it needs
            self.seen.append(statement.name)
            return run(session, statement, parameters)

        monkeypatch.setattr(Session, "run", met)


@pytest.fixture
def prompt(database: PromptStudioDatabase) -> tuple[int, int]:
    project = database.create_project("home", user_id="ann")["id"]
    return project, database.create_prompt(project_id=project, name="first")["id"]


@pytest.fixture
def optimization(database: PromptStudioDatabase, prompt: tuple[int, int]) -> OptimizationRow:
    """One that runs, with a job that runs and a younger one that is queued."""
    made = database.create_optimization(
        project_id=prompt[0], name="run", initial_prompt_id=prompt[1], optimizer_type="mipro", job={"priority": 9}
    )
    database.acquire_next_job(worker_id="w")
    database.create_job("optimization", made["id"], {})
    running = database.set_optimization_status(made["id"], "running")
    assert running is not None
    return running


def statuses(database: PromptStudioDatabase, optimization_id: int) -> list[JobStatus]:
    return [job["status"] for job in database.list_jobs_for_entity("optimization", optimization_id)]


class TestACancel:
    def test_ends_it_and_all_of_its_jobs(self, database: PromptStudioDatabase, optimization: OptimizationRow) -> None:
        other = database.create_job("evaluation", optimization["id"], {})
        ended = database.create_job("optimization", optimization["id"], {}, priority=10)
        database.complete_job(ended["id"], lease_token=claimed(database)["lease_token"])
        told = database.cancel_optimization(optimization["id"], reason="enough")
        assert told is not None
        assert (told["status"], told["error_message"]) == ("cancelled", "enough")
        assert told["completed_at"] is not None
        assert database.get_optimization(optimization["id"]) == told
        assert sorted(statuses(database, optimization["id"])) == ["cancelled", "cancelled", "completed"]
        assert stored(database, other["id"]) == other

    def test_is_refused_to_none_of_its_jobs_workers_alone(
        self, database: PromptStudioDatabase, optimization: OptimizationRow
    ) -> None:
        running = database.list_jobs_for_entity("optimization", optimization["id"])[0]
        database.cancel_optimization(optimization["id"])
        outcome = database.complete_job(running["id"], lease_token=running["lease_token"])
        assert (outcome.kind, outcome.status) == ("terminal", "cancelled")

    def test_may_be_repeated_and_ends_what_was_queued_meanwhile(
        self, database: PromptStudioDatabase, optimization: OptimizationRow
    ) -> None:
        first = database.cancel_optimization(optimization["id"])
        database.create_job("optimization", optimization["id"], {})
        assert database.cancel_optimization(optimization["id"]) == first
        assert set(statuses(database, optimization["id"])) == {"cancelled"}

    @pytest.mark.parametrize("end", ["completed", "failed"])
    def test_leaves_what_has_ended_otherwise(
        self, database: PromptStudioDatabase, optimization: OptimizationRow, end: str
    ) -> None:
        ended = database.set_optimization_status(optimization["id"], end, error_message="so")
        assert database.cancel_optimization(optimization["id"], reason="enough") == ended
        assert statuses(database, optimization["id"]) == ["processing", "queued"]

    def test_of_none_that_is_there_is_none(self, database: PromptStudioDatabase) -> None:
        assert database.cancel_optimization(99) is None
        assert database.cancel_optimization(99, user_id="ann") is None

    def test_is_no_part_of_a_transaction(self, database: PromptStudioDatabase, optimization: OptimizationRow) -> None:
        with database.transaction(), pytest.raises(InputError, match="transaction"):
            database.cancel_optimization(optimization["id"])
        assert database.get_optimization(optimization["id"]) == optimization

    @pytest.mark.parametrize("at", range(STATEMENTS_MAX))
    def test_never_overwrites_a_completion_that_came_first(
        self,
        database: PromptStudioDatabase,
        opened: Open,
        optimization: OptimizationRow,
        monkeypatch: pytest.MonkeyPatch,
        at: int,
    ) -> None:
        number = optimization["id"]
        with opened("rival", write_retry_seconds=0) as rival:
            rival.count_jobs()
            with monkeypatch.context() as patched:
                meeting = Meeting(
                    patched,
                    lambda: rival.complete_optimization(number),
                    lambda seen, _: len(seen) == at and "commit" not in seen,
                )
                told = database.cancel_optimization(number)
        assert at or meeting.came  # before the first statement nothing is locked
        assert told is not None
        if meeting.came:
            assert (told["status"], statuses(database, number)) == ("completed", ["processing", "queued"])
        else:
            assert (told["status"], statuses(database, number)) == ("cancelled", ["cancelled", "cancelled"])
        assert database.get_optimization(number) == told

    def test_is_not_overwritten_by_a_completion_that_comes_later(
        self, database: PromptStudioDatabase, optimization: OptimizationRow
    ) -> None:
        cancelled = database.cancel_optimization(optimization["id"], reason="enough")
        assert database.complete_optimization(optimization["id"], final_metrics={"score": 1}) == cancelled
        assert database.get_optimization(optimization["id"]) == cancelled
        with database.transaction():
            assert database.complete_optimization(optimization["id"]) == cancelled
        database.set_optimization_status(optimization["id"], "running")  # who knows may begin it again
        ended = database.complete_optimization(optimization["id"])
        assert ended is not None
        assert ended["status"] == "completed"

    def test_that_meets_one_who_begins_it_again_looks_again(
        self,
        database: PromptStudioDatabase,
        opened: Open,
        optimization: OptimizationRow,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        number = optimization["id"]
        database.complete_optimization(number)
        with opened("rival", write_retry_seconds=0) as rival:
            rival.count_jobs()
            with monkeypatch.context() as patched:
                meeting = Meeting(
                    patched,
                    lambda: rival.set_optimization_status(number, "running"),
                    lambda _, name: name == "get_optimization",
                )
                told = database.cancel_optimization(number)
        assert told is not None
        assert "get_optimization" in meeting.seen
        assert told["status"] == ("cancelled" if meeting.came else "completed")
        assert meeting.came is not database.capabilities.one_writer


@pytest.mark.verifies("PS-ENTITIES-5")
class TestAUser:
    def test_finds_what_is_in_his_projects_and_nothing_else(
        self, database: PromptStudioDatabase, prompt: tuple[int, int], optimization: OptimizationRow
    ) -> None:
        number, job = optimization["id"], database.list_jobs_for_entity("optimization", optimization["id"])[0]
        project, first = prompt

        def found(user: str) -> list[bool]:
            return [
                one is not None
                for one in (
                    database.get_project(project, user_id=user),
                    database.get_prompt_with_project(first, user_id=user),
                    database.get_optimization(number, user_id=user),
                    database.get_optimization_job(job["id"], user),
                )
            ]

        assert (found("ann"), found("bob")) == ([True] * 4, [False] * 4)
        assert database.get_optimization_job(job["id"], "ann") == job
        assert database.cancel_optimization(number, user_id="bob") is None
        assert database.get_optimization(number) == optimization
        database.delete_project(project)
        assert found("ann") == [False] * 4
        assert database.cancel_optimization(number, user_id="ann") is None
        assert statuses(database, number) == ["processing", "queued"]

    def test_has_the_jobs_of_optimizations_only(
        self, database: PromptStudioDatabase, optimization: OptimizationRow
    ) -> None:
        other = database.create_job("evaluation", optimization["id"], {})
        assert database.get_optimization_job(other["id"], "ann") is None

    def test_may_cancel_his_own(self, database: PromptStudioDatabase, optimization: OptimizationRow) -> None:
        told = database.cancel_optimization(optimization["id"], user_id="ann")
        assert told is not None
        assert told["status"] == "cancelled"
