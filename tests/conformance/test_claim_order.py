"""The claim, over many small tables, against a plain reading of its rule."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from operator import itemgetter

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from prompt_studio import JobType, PromptStudioDatabase
from tests.conformance.stores import Door, PostgresStore, Store, sqlite_store
from tests.conformance.virtual_time import START_MILLISECONDS

pytestmark = pytest.mark.conformance

NOW = START_MILLISECONDS


@dataclass(frozen=True)
class Row:
    """What of a job matters to a claim."""

    running: bool
    priority: int
    created_at: int
    due: int  # from when it is available, or until when it is leased
    executions_left: int
    job_type: JobType

    def rank(self, job_id: int) -> tuple[int, int, int]:
        return -self.priority, self.created_at, job_id

    @property
    def eligible(self) -> bool:
        return self.due <= NOW and self.executions_left > 0

    @property
    def exhausted(self) -> bool:
        return self.running and self.due <= NOW and self.executions_left == 0


ROWS = st.builds(
    lambda executions_left, **others: Row(executions_left=executions_left if others["running"] else 1, **others),
    running=st.booleans(),
    priority=st.integers(5, 6),
    created_at=st.integers(0, 2),
    due=st.sampled_from([NOW - 1, NOW, NOW + 1]),
    executions_left=st.integers(0, 1),
    job_type=st.sampled_from(list(JobType)[:2]),
)
WANTED = st.sampled_from([[JobType.EVALUATION], [JobType.OPTIMIZATION], list(JobType)])


@pytest.fixture(scope="module")
def filled(
    served: PostgresStore | None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[PromptStudioDatabase, Door]]:
    """One opened database for all of the examples, each of which fills it anew."""
    with ExitStack() as stack:
        store: Store
        if served is None:
            store = stack.enter_context(sqlite_store(tmp_path_factory.mktemp("claims") / "jobs.db"))
        else:
            store = served
            served.empty()
            stack.callback(served.await_farewell)
        assert store.clock.milliseconds == NOW
        database = PromptStudioDatabase(store.location, "tester", clock=store.clock, settings=store.settings())
        with database:
            yield database, store.door()


def fill(raw: Door, rows: list[Row]) -> None:
    """The table has these rows and no others, as if they had come about by themselves."""
    raw.clear()
    for job_id, row in enumerate(rows, start=1):
        raw.execute(
            "INSERT INTO prompt_studio_job_queue (id, uuid, job_type, entity_id, priority, status, payload,"
            " client_id, created_at, available_at, started_at, leased_until, lease_owner, lease_token, executions,"
            " execution_limit) VALUES (:id, :uuid, :job_type, 1, :priority, :status, '{}', 'tester',"
            " :created_at, :available_at, :started_at, :leased_until, :lease_owner, 1, 1, :execution_limit)",
            {
                "id": job_id,
                "uuid": str(job_id),
                "job_type": row.job_type,
                "priority": row.priority,
                "status": "processing" if row.running else "queued",
                "created_at": raw.moment(row.created_at),
                "available_at": raw.moment(0 if row.running else row.due),
                "started_at": raw.moment(0) if row.running else None,
                "leased_until": raw.moment(row.due) if row.running else None,
                "lease_owner": "somebody" if row.running else None,
                "execution_limit": 1 + row.executions_left,
            },
        )


USUAL = Row(running=False, priority=5, created_at=0, due=NOW, executions_left=1, job_type=JobType.EVALUATION)
RUNNING = replace(USUAL, running=True)
EXHAUSTED = replace(RUNNING, executions_left=0)
DELAYED = replace(USUAL, due=NOW + 1)
LIVE = replace(RUNNING, due=NOW + 1)
LATER = replace(USUAL, created_at=1)
LATEST = replace(USUAL, created_at=2)


class TestAcquireNextJob:
    @pytest.mark.untraced
    @pytest.mark.verifies("PS-CONCURRENCY-7", "PS-CONCURRENCY-8", "INV-CLAIM-ORDER", "INV-NONE-IS-EMPTY")
    @given(rows=st.lists(ROWS, max_size=7), wanted=WANTED)
    @example(rows=[EXHAUSTED, LATER, USUAL], wanted=list(JobType))
    @example(rows=[USUAL, EXHAUSTED, RUNNING], wanted=list(JobType))
    @example(rows=[RUNNING, EXHAUSTED, USUAL], wanted=list(JobType))
    @example(rows=[DELAYED, LIVE, EXHAUSTED, LATER], wanted=list(JobType))
    @example(rows=[replace(EXHAUSTED, due=NOW + 1), EXHAUSTED, DELAYED], wanted=list(JobType))
    @example(rows=[USUAL, EXHAUSTED, replace(USUAL, priority=4)], wanted=list(JobType))
    @example(rows=[RUNNING, EXHAUSTED, replace(RUNNING, priority=4)], wanted=list(JobType))
    @example(rows=[LATEST, replace(EXHAUSTED, created_at=1), USUAL], wanted=list(JobType))
    @example(rows=[replace(LATEST, running=True), replace(EXHAUSTED, created_at=1), RUNNING], wanted=list(JobType))
    @example(rows=[replace(EXHAUSTED, created_at=2), EXHAUSTED, LATER], wanted=list(JobType))
    @settings(max_examples=300)
    def test_returns_the_best_and_fails_what_is_exhausted_and_better(
        self, filled: tuple[PromptStudioDatabase, Door], rows: list[Row], wanted: list[JobType]
    ) -> None:
        database, raw = filled
        fill(raw, rows)
        ranked = sorted(
            ((row.rank(job_id), row) for job_id, row in enumerate(rows, start=1) if row.job_type in wanted),
            key=itemgetter(0),
        )
        best = next((rank for rank, row in ranked if row.eligible), None)
        failed = {rank[2] for rank, row in ranked if row.exhausted and (best is None or rank < best)}

        job = database.acquire_next_job(worker_id="me", job_types=wanted)

        assert (job and job["id"]) == (best and best[2])
        stored = {row["id"]: row for row in raw.execute("SELECT * FROM prompt_studio_job_queue")}
        assert {job_id for job_id, row in stored.items() if row["status"] == "failed"} == failed
        assert {job_id for job_id, row in stored.items() if row["lease_owner"] == "me"} == (
            {best[2]} if best else set()
        )
        assert {job_id for job_id, row in stored.items() if row["was_reclaim"]} == (
            {best[2]} if best and rows[best[2] - 1].running else set()
        )
