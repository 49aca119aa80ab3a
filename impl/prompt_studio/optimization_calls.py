"""The calls of `PromptStudioDatabase` on optimizations and what they have tried."""

from __future__ import annotations

from dataclasses import asdict
from typing import Final

from prompt_studio import values
from prompt_studio.entities import (
    IterationPage,
    IterationRow,
    JobRequest,
    OptimizationPage,
    OptimizationRow,
    OptimizationStatus,
)
from prompt_studio.errors import InputError
from prompt_studio.facade import Facade, count_or_none, id_or_none, json_or_none, number_or_none, page_of
from prompt_studio.job_values import MAX_RETRIES, PRIORITY, new_job
from prompt_studio.jobs import JobRow, JobType
from prompt_studio.keyed_calls import Wish
from prompt_studio.storage.job_operations import NewJob
from prompt_studio.storage.optimization_operations import Completion, NewIteration, NewOptimization

ROWS_PER_PAGE: Final = 20
ITERATIONS_PER_PAGE: Final = 50
NO_ENTITY_YET: Final = 0
"""The id of an optimization that is not made yet; its job gets it in the transaction that makes both."""


class OptimizationCalls(Facade):
    """Optimizations."""

    def create_optimization(
        self,
        *,
        project_id: int,
        name: str | None,
        initial_prompt_id: int,
        optimizer_type: str,
        optimization_config: object = None,
        max_iterations: int | None = None,
        bootstrap_samples: int | None = None,
        status: str = "pending",
        client_id: str | None = None,
        job: JobRequest | None = None,
        idempotency_key: str | None = None,
        user_id: str | None = None,
        request: object = None,
        operation: str | None = None,
    ) -> OptimizationRow:
        """A new optimization of a prompt of the project, and its job, if one is asked for. May be in a `transaction()`.

        Both are made in one transaction, and the row has the job as `job`. With an idempotency key it is made once for
        each key of the user, as `create_job` says; a replay makes no job, and has None. `operation` is what the caller
        calls this create, if not `create_optimization`: the same request to another operation is another request.

        Raises:
            MissingReference: there is no such prompt in the project.
            IdempotencyMismatch: the key was used for another request.
            EntityGone: the key's optimization was deleted.
            TransientConflict: a rival did not come to an end within `write_retry_seconds`.
        """
        config = {} if optimization_config is None else optimization_config
        new = NewOptimization(
            project_id=values.row_id("project_id", project_id),
            name=None if name is None else values.text("name", name),
            initial_prompt_id=values.row_id("initial_prompt_id", initial_prompt_id),
            optimizer_type=values.text("optimizer_type", optimizer_type),
            optimization_config=values.json_text("optimization_config", config),
            max_iterations=count_or_none("max_iterations", max_iterations),
            bootstrap_samples=count_or_none("bootstrap_samples", bootstrap_samples),
            status=values.word("status", status, OptimizationStatus),
            client_id=self._client(client_id),
        )
        wanted = None if job is None else _job(job, new)
        given = {"optimization_config": config, "client_id": client_id, "job": None}
        if wanted is not None and job is not None:
            given["job"] = asdict(wanted) | {"payload": job.get("payload", {}), "client_id": client_id}
        once = Wish(idempotency_key, user_id, request, operation).once("optimization", asdict(new) | given)
        return self._answer("optimization", self._store.create_optimization(new, once, wanted))

    def get_optimization(
        self, optimization_id: int, *, user_id: str | None = None, include_deleted: bool = False
    ) -> OptimizationRow | None:
        """The optimization with this id, or None.

        With a user only if its project is his and was not deleted, unless deleted ones are asked for, too.
        """
        return self._store.get_optimization(
            values.row_id("optimization_id", optimization_id),
            include_deleted=values.flag("include_deleted", include_deleted),
            user_id=values.user(user_id),
        )

    def get_optimization_job(self, job_id: int, user_id: str) -> JobRow | None:
        """The job with this id, if it is one of an optimization in a project of this user's; or None."""
        return self._store.get_optimization_job(values.row_id("job_id", job_id), values.text("user_id", user_id))

    def list_optimizations(
        self,
        project_id: int | None = None,
        status: str | None = None,
        page: int = 1,
        per_page: int = ROWS_PER_PAGE,
    ) -> OptimizationPage:
        """A page of optimizations, the youngest first: of a project, or a status; None is any."""
        wanted = None if status is None else values.word("status", status, OptimizationStatus)
        return self._store.list_optimizations(id_or_none("project_id", project_id), wanted, page_of(page, per_page))

    def set_optimization_status(
        self, optimization_id: int, status: str, *, error_message: str | None = None
    ) -> OptimizationRow | None:
        """The optimization in this status, with this error or none; None if there is no such optimization.

        It starts when it first runs, and completed, failed and cancelled are ends; each has its time.
        """
        return self._store.set_optimization_status(
            values.row_id("optimization_id", optimization_id),
            values.word("status", status, OptimizationStatus),
            values.error_text(error_message),
        )

    def cancel_optimization(
        self, optimization_id: int, *, user_id: str | None = None, reason: str | None = None
    ) -> OptimizationRow | None:
        """The optimization, cancelled, and with it each of its jobs that has not ended; or None, if there is none.

        One that has ended otherwise is given as it is, and so are its jobs. With a user only if its project is his and
        was not deleted.
        """
        return self._store.cancel_optimization(
            values.row_id("optimization_id", optimization_id), values.user(user_id), values.error_text(reason)
        )

    def complete_optimization(
        self,
        optimization_id: int,
        *,
        optimized_prompt_id: int | None = None,
        initial_metrics: object = None,
        final_metrics: object = None,
        improvement_percentage: float | None = None,
        iterations_completed: int | None = None,
        total_tokens: int | None = None,
        total_cost: float | None = None,
    ) -> OptimizationRow | None:
        """The optimization, completed; what is None stays as it was. None if there is no such optimization.

        One that was cancelled is given as it is (PS-ENTITIES-4): who cancelled it was told so.
        """
        known = Completion(
            optimized_prompt_id=id_or_none("optimized_prompt_id", optimized_prompt_id),
            initial_metrics=json_or_none("initial_metrics", initial_metrics),
            final_metrics=json_or_none("final_metrics", final_metrics),
            improvement_percentage=number_or_none("improvement_percentage", improvement_percentage),
            iterations_completed=count_or_none("iterations_completed", iterations_completed),
            total_tokens=count_or_none("total_tokens", total_tokens),
            total_cost=number_or_none("total_cost", total_cost),
        )
        return self._store.complete_optimization(values.row_id("optimization_id", optimization_id), known)

    def record_optimization_iteration(
        self,
        optimization_id: int,
        *,
        iteration_number: int,
        prompt_variant: object = None,
        metrics: object = None,
        tokens_used: int | None = None,
        cost: float | None = None,
        note: str | None = None,
    ) -> IterationRow:
        """A new iteration of the optimization. May be part of a `transaction()`.

        Raises:
            MissingReference: there is no such optimization.
        """
        number = count_or_none("iteration_number", iteration_number)
        if number is None:
            raise InputError("iteration_number must be a whole number, not None")
        return self._store.record_iteration(
            NewIteration(
                optimization_id=values.row_id("optimization_id", optimization_id),
                iteration_number=number,
                prompt_variant=json_or_none("prompt_variant", prompt_variant),
                metrics=json_or_none("metrics", metrics),
                tokens_used=count_or_none("tokens_used", tokens_used),
                cost=number_or_none("cost", cost),
                note=values.long_text("note", note),
            )
        )

    def list_optimization_iterations(
        self, optimization_id: int, page: int = 1, per_page: int = ITERATIONS_PER_PAGE
    ) -> IterationPage:
        """A page of what the optimization has tried, by its number."""
        return self._store.list_iterations(values.row_id("optimization_id", optimization_id), page_of(page, per_page))


def _job(job: JobRequest, new: NewOptimization) -> NewJob:
    unknown = job.keys() - JobRequest.__annotations__.keys()
    if unknown:
        raise InputError(f"job must have {', '.join(JobRequest.__annotations__)} only, not {sorted(unknown)}")
    return new_job(
        JobType.OPTIMIZATION,
        NO_ENTITY_YET,
        job.get("payload", {}),
        project_id=new.project_id,
        priority=job.get("priority", PRIORITY),
        max_retries=job.get("max_retries", MAX_RETRIES),
        client_id=new.client_id,
        available_at=job.get("available_at"),
    )
