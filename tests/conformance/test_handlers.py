"""Handlers on every store: how they are called, which are refused, and what they may say meanwhile."""

import json
import logging
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from prompt_studio import Handlers, InputError, JobContext, JobManager, JobStatus, JobType
from prompt_studio.running.handlers import Progress
from tests.conformance.conftest import Open
from tests.conformance.managing import PAYLOAD, async_context, claimed, context_only, found, processed

pytestmark = pytest.mark.conformance


def old(payload: Any, entity_id: int) -> object:  # noqa: ANN401 - a payload
    return [payload, entity_id]


async def old_async(payload: Any, entity_id: int) -> object:  # noqa: ANN401 - a payload
    return [payload, entity_id]


async def wrapped(*arguments: object, **named: object) -> object:
    assert not named
    return list(arguments)


class Called:
    async def __call__(self, context: JobContext) -> object:
        return context.entity_id


def text_annotation(context: "JobContext", more: int = 0) -> object:
    return context.entity_id + more


def context_and_more(context: JobContext, *more: object) -> object:
    return [context.entity_id, *more]


def old_with_default(payload: object, entity_id: object = None) -> object:
    return (payload, entity_id)


def context_with_default(context: Any, more: object = None) -> object:  # noqa: ANN401 - a context, which it does not say
    return (context.payload, more)


def keyword_only(*, payload: object) -> object:
    return payload


def three(payload: object, entity_id: int, more: object) -> object:
    return (payload, entity_id, more)


class TestAHandler:
    @pytest.mark.parametrize(
        ("handler", "result"),
        [
            (context_only, PAYLOAD),
            (async_context, 4),
            (old, [PAYLOAD, 7]),
            (old_async, [PAYLOAD, 7]),
            (wrapped, [PAYLOAD, 7]),
            (Called(), 7),
            (text_annotation, 7),
            (context_and_more, [7]),
            (partial(three, more=1), [PAYLOAD, 7, 1]),
        ],
        ids=lambda value: getattr(value, "__name__", type(value).__name__),
    )
    @pytest.mark.verifies("PS-LEASE-HB-15")
    def test_is_called_by_its_shape_and_its_result_is_written(
        self, manager: JobManager, handler: Callable[..., Any], result: object
    ) -> None:
        manager.register_handler("evaluation", handler)
        job = claimed(manager)
        told = processed(manager, job)
        assert json.loads(json.dumps(told)) == result
        row = found(manager, job)
        assert (row["status"], row["result"], row["late"]) == (JobStatus.COMPLETED, result, False)

    @pytest.mark.parametrize(
        "handler",
        [keyword_only, three, lambda: None, 5, int, old_with_default, context_with_default],
        ids=["keyword", "three", "none", "number", "type", "old with default", "context with default"],
    )
    @pytest.mark.verifies("PS-LEASE-HB-15")
    def test_of_another_shape_is_refused(self, manager: JobManager, handler: Any) -> None:  # noqa: ANN401 - is none
        with pytest.raises(InputError, match="a handler must"):
            manager.register_handler("evaluation", handler)

    def test_may_be_registered_by_a_decorator(self, manager: JobManager) -> None:
        @manager.register_handler("evaluation", lease_seconds=90)
        def handler(context: JobContext) -> object:
            return context.lease_token

        assert handler.__name__ == "handler"
        assert processed(manager, claimed(manager)) == 1

    @pytest.mark.parametrize(("job_type", "lease"), [("cleaning", None), ("evaluation", 0), ("evaluation", 3601)])
    def test_of_an_unknown_type_or_lease_is_refused(self, manager: JobManager, job_type: str, lease: int) -> None:
        with pytest.raises(InputError):
            manager.register_handler(job_type, context_only, lease_seconds=lease)

    @pytest.mark.verifies("PS-LEASE-HB-5")
    def test_whose_lease_the_heartbeat_would_not_reach_is_refused(self, opened: Open) -> None:
        with opened(heartbeat_seconds=50.0) as database:
            manager = JobManager(database)
            with pytest.raises(InputError, match="shorter than the lease of 50 s"):
                manager.register_handler("evaluation", context_only, lease_seconds=50)
            with pytest.raises(InputError, match="there is no handler"):
                processed(manager, claimed(manager))

    @pytest.mark.parametrize(("lease", "warned"), [(59, True), (151, False)])
    @pytest.mark.verifies("PS-LEASE-HB-5")
    def test_whose_lease_has_room_for_few_beats_is_warned_of(
        self, opened: Open, caplog: pytest.LogCaptureFixture, lease: int, *, warned: bool
    ) -> None:
        with opened(heartbeat_seconds=50.0) as database, caplog.at_level(logging.WARNING):
            JobManager(database).register_handler("evaluation", context_only, lease_seconds=lease)
        assert ("TLDW_PS_HEARTBEAT_SECONDS of 50 s" in caplog.text) is warned

    @pytest.mark.verifies("PS-LEASE-HB-15")
    def test_gets_its_job_its_token_and_may_say_how_far_it_is(
        self, manager: JobManager, caplog: pytest.LogCaptureFixture
    ) -> None:
        seen: list[JobContext] = []

        @manager.register_handler("evaluation")
        def handler(context: JobContext) -> None:
            context.progress(0.5, "half")
            seen.extend(manager.running_jobs())

        with caplog.at_level(logging.INFO, logger="prompt_studio"):
            processed(manager, claimed(manager))
        (context,) = seen
        assert (context.job_id, context.lease_token, context.entity_id, context.worker_id) == (1, 1, 7, "me")
        assert (context.last_progress.fraction, context.last_progress.note) == (0.5, "half")
        assert not context.cancellation.is_set()
        assert manager.running_jobs() == []
        assert any(getattr(record, "fraction", None) == 0.5 for record in caplog.records)

    @pytest.mark.parametrize(
        ("report", "known"),
        [
            ((1.0000001, ""), Progress(1, "")),
            ((-0.5, None), Progress(0)),
            ((math.inf, "a" * 10_001), Progress(1, "a" * 10_000)),
            ((10**400, "a\0b\udc00"), Progress(1, "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}")),
            ((math.nan, 5), Progress(None, "5")),
            ((True, b"x"), Progress(None, "a value of type bytes")),
            (("half", None), Progress()),
        ],
        ids=["above", "below", "long", "cleaned", "no number", "no text", "a word"],
    )
    @pytest.mark.verifies("PS-LEASE-HB-15")
    def test_loses_no_job_by_what_it_reports(
        self, manager: JobManager, report: tuple[Any, Any], known: Progress
    ) -> None:
        seen: list[Progress] = []

        @manager.register_handler("evaluation")
        def handler(context: JobContext) -> None:
            context.progress(*report)
            seen.append(context.last_progress)

        job = claimed(manager)
        processed(manager, job)
        assert seen == [known]
        assert found(manager, job)["status"] is JobStatus.COMPLETED


class TestARegistry:
    def test_is_a_mapping_that_a_manager_takes(self, manager: JobManager) -> None:
        handlers = Handlers()

        @handlers.register("generation", lease_seconds=5)
        def generate(context: JobContext) -> object:
            return context.payload

        handlers.register("evaluation", old)
        assert (len(handlers), set(handlers)) == (2, {JobType.GENERATION, JobType.EVALUATION})
        assert handlers[JobType.GENERATION].handler is generate
        manager.register_handlers(handlers)
        assert processed(manager, claimed(manager, "generation")) == PAYLOAD
