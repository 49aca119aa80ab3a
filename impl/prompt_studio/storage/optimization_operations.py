"""Optimizations and what they have tried. An optimization is made together with its job, or without one."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Final

from prompt_studio.entities import (
    IterationPage,
    IterationRow,
    OptimizationPage,
    OptimizationRow,
    OptimizationStatus,
)
from prompt_studio.errors import TransientConflict
from prompt_studio.jobs import JobRow, uuid_made_with
from prompt_studio.storage.dialect import Row
from prompt_studio.storage.entity_operations import EntityOperations, Page
from prompt_studio.storage.entity_rows import iteration_row, optimization_row
from prompt_studio.storage.job_operations import JobOperations, NewJob
from prompt_studio.storage.keyed_creates import Made, Once
from prompt_studio.storage.transactions import Session

OVER: Final = frozenset({OptimizationStatus.COMPLETED, OptimizationStatus.FAILED, OptimizationStatus.CANCELLED})


@dataclass(frozen=True, slots=True, kw_only=True)
class NewOptimization:
    """An optimization that is to be made; all values are checked, its configuration is JSON text."""

    project_id: int
    name: str | None
    initial_prompt_id: int
    optimizer_type: str
    optimization_config: str
    max_iterations: int | None
    bootstrap_samples: int | None
    status: OptimizationStatus
    client_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """What is known of an optimization that has ended well; None is not known. Metrics are JSON text."""

    optimized_prompt_id: int | None
    initial_metrics: str | None
    final_metrics: str | None
    improvement_percentage: float | None
    iterations_completed: int | None
    total_tokens: int | None
    total_cost: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewIteration:
    """What an optimization has tried; all values are checked, variant and metrics are JSON text."""

    optimization_id: int
    iteration_number: int
    prompt_variant: str | None
    metrics: str | None
    tokens_used: int | None
    cost: float | None
    note: str | None


class OptimizationOperations(EntityOperations, JobOperations):
    """Optimizations."""

    def create_optimization(self, new: NewOptimization, once: Once | None, job: NewJob | None) -> Made[OptimizationRow]:
        """A new optimization, or the one that the key stands for. May be part of the caller's transaction.

        `job` is made in the same transaction, for the new optimization; a replay makes none.

        Raises:
            MissingReference: there is no such prompt in the project.
        """

        def create(session: Session) -> tuple[int, OptimizationRow]:
            needs = f"there is no prompt {new.initial_prompt_id} in a project {new.project_id}"
            row = self._inserted(session, "create_optimization", asdict(new), optimization_row, needs=needs)
            if job is not None:
                row["job"] = self._new_job(session, replace(job, entity_id=row["id"]), uuid_made_with(row["uuid"]))
            return row["id"], row

        def find(session: Session, optimization_id: int) -> OptimizationRow | None:
            row = self._whosever(session, optimization_id)
            if row is not None and job is not None:
                row["job"] = None
            return row

        return self._made(once, create, find, alone=job is None)

    def get_optimization(
        self, optimization_id: int, *, include_deleted: bool, user_id: str | None
    ) -> OptimizationRow | None:
        """The optimization with this id; of a user's projects, if one is named, deleted ones only where they count."""
        parameters = {"optimization_id": optimization_id, "include_deleted": include_deleted, "user_id": user_id}
        return self._found("get_optimization", parameters, optimization_row)

    def get_optimization_job(self, job_id: int, user_id: str) -> JobRow | None:
        """The job of one of the user's optimizations."""
        found = self._read_jobs("get_optimization_job_of_user", {"job_id": job_id, "user_id": user_id})
        return next(iter(found), None)

    def list_optimizations(
        self, project_id: int | None, status: OptimizationStatus | None, page: Page
    ) -> OptimizationPage:
        """A page of optimizations, the youngest first."""
        wanted = {"project_id": project_id, "status": status}
        optimizations, pagination = self._listed("optimizations", wanted, page, optimization_row)
        return {"optimizations": optimizations, "pagination": pagination}

    def set_optimization_status(
        self, optimization_id: int, status: OptimizationStatus, error_message: str | None
    ) -> OptimizationRow | None:
        """The optimization in this status; None if there is none."""
        parameters = {
            "optimization_id": optimization_id,
            "status": status,
            "error_message": error_message,
            "running": status is OptimizationStatus.RUNNING,
            "over": status in OVER,
        }
        return self._changed("set_optimization_status", parameters, optimization_row)

    def cancel_optimization(
        self, optimization_id: int, user_id: str | None, reason: str | None
    ) -> OptimizationRow | None:
        """The optimization, cancelled with its jobs, or as it had ended; None if there is none, or not of this user."""
        parameters = {"optimization_id": optimization_id, "user_id": user_id, "reason": reason}

        def operation(session: Session) -> tuple[OptimizationRow | None, list[Row]]:
            row = self._one(session, "cancel_optimization", parameters, optimization_row)
            if row is None:
                still_there = parameters | {"include_deleted": False}
                row = self._one(session, "get_optimization", still_there, optimization_row)
                if row is not None and row["status"] not in OVER:
                    raise TransientConflict("the optimization had ended, and was begun again before it was looked at")
            if row is None or row["status"] is not OptimizationStatus.CANCELLED:
                return row, []
            return row, self._run(session, "cancel_jobs_of_optimization", parameters)

        row, jobs = self._sessions.current().write(operation)
        for job in jobs:  # by what they were, since a row that cannot be read is cancelled too
            self._claims.forget(job["id"], job["lease_token"])
        return row

    def complete_optimization(self, optimization_id: int, known: Completion) -> OptimizationRow | None:
        """The optimization, completed, or as it was cancelled; None if there is none."""
        parameters = {"optimization_id": optimization_id, **asdict(known)}

        def operation(session: Session) -> OptimizationRow | None:
            completed = self._one(session, "complete_optimization", parameters, optimization_row)
            return completed or self._whosever(session, optimization_id)

        return self._sessions.current().write(operation, joins=True, alone=True)

    def _whosever(self, session: Session, optimization_id: int) -> OptimizationRow | None:
        anybodys = {"optimization_id": optimization_id, "include_deleted": True, "user_id": None}
        return self._one(session, "get_optimization", anybodys, optimization_row)

    def record_iteration(self, new: NewIteration) -> IterationRow:
        """A new iteration.

        Raises:
            MissingReference: there is no such optimization.
        """

        def operation(session: Session) -> IterationRow:
            needs = f"there is no optimization {new.optimization_id}"
            return self._inserted(session, "record_iteration", asdict(new), iteration_row, needs=needs)

        return self._sessions.current().write(operation, joins=True, alone=True)

    def list_iterations(self, optimization_id: int, page: Page) -> IterationPage:
        """A page of an optimization's iterations, in their order."""
        iterations, pagination = self._listed("iterations", {"optimization_id": optimization_id}, page, iteration_row)
        return {"iterations": iterations, "pagination": pagination}
