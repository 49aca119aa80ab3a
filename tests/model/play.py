"""The model with a memory: each call moves the state on, and gives the answer."""

from typing import Any

from prompt_studio_model import operations as op
from prompt_studio_model.state import Job, Scope, Settings, State
from prompt_studio_model.step import step

LEASE = 60
KEY = Scope("prompt", "key", "ann")
JOB_KEY = KEY._replace(entity_type="job")


class Play:
    """One queue in virtual time. `a` and `b` are workers with a session each; the operator's has no name."""

    def __init__(self, **settings: Any) -> None:  # noqa: ANN401 - any field of Settings
        self.settings = Settings(**settings)
        self.state = State()

    def do(self, call: op.Invocation) -> op.Response:
        """Make the call, which must have one outcome."""
        ((self.state, answer),) = step(self.state, call, self.settings)
        return answer

    def told(self, call: op.JobCall) -> op.Outcome:
        """Make a call that is answered with an outcome."""
        answer = self.do(call)
        assert isinstance(answer, op.Outcome), answer
        return answer

    def given(self, call: op.Create | op.Acquire | op.UpdateStatus) -> Job | None:
        """Make a call that is answered with a row or none."""
        answer = self.do(call)
        assert isinstance(answer, op.Row), answer
        return answer.job

    def create(self, **wanted: Any) -> Job:  # noqa: ANN401 - any field of Create
        """Create a job."""
        job = self.given(op.Create(**wanted))
        assert job is not None
        return job

    def acquire(self, worker: str = "a", **wanted: Any) -> Job:  # noqa: ANN401 - any field of Acquire
        """Acquire a job, of which there must be one."""
        job = self.given(self.claim(worker, **wanted))
        assert job is not None
        return job

    def claim(self, worker: str = "a", **wanted: Any) -> op.Acquire:  # noqa: ANN401 - any field of Acquire
        """The call by which a worker acquires under its own name, in its own session."""
        asked: dict[str, Any] = {"session": worker, "owner": worker, "lease": LEASE} | wanted
        return op.Acquire(**asked)

    def update(self, status: Any, **wanted: Any) -> Job | None:  # noqa: ANN401 - any status and field
        """Make the old general call on job 1."""
        asked: dict[str, Any] = {"job_id": 1, "status": status, "lease": LEASE} | wanted
        return self.given(op.UpdateStatus(**asked))

    def tick(self, milliseconds: int) -> None:
        """Let time pass."""
        self.do(op.Tick(milliseconds=milliseconds))

    def job(self, job_id: int = 1) -> Job:
        """The row as it is, which must be there."""
        job = self.state.job(job_id)
        assert job is not None
        return job

    def locks(self, session: str) -> set[tuple[int, int]]:
        """The (job, token) of each advisory lock of the session."""
        return {(lock.job_id, lock.lease_token) for lock in self.state.session(session).locks}

    def fail_for_good(self) -> None:
        """Acquire the best job and fail it for good."""
        job = self.acquire()
        self.do(op.Fail(job_id=job.id, token=job.lease_token, retryable=False, error="broken"))
