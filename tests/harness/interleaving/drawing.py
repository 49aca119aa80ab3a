"""Scenarios and their schedules as Hypothesis draws them, and shrinks what does not hold.

Only what the store did wrong is shrunk. What went wrong here is no example of anything: nothing more is played then.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from hypothesis import given, seed, settings
from hypothesis import strategies as st
from hypothesis.database import ExampleDatabase

from tests.harness.interleaving.failing import OURS, keep, require
from tests.harness.interleaving.generated import Chooser, generate
from tests.harness.interleaving.judging import Judge, Judgement
from tests.harness.interleaving.runs import Run
from tests.harness.interleaving.scenario import Scenario
from tests.harness.interleaving.scheduler import Scheduler, deviations
from tests.harness.violation import Violation

Item = TypeVar("Item")
STEPS: Final = 30
DEVIATIONS_MAX: Final = 3
OTHERS_MAX: Final = 3
"""A deviation goes to this many lanes further on at most."""


Generate = Callable[[str, Chooser], Scenario]


def require_drawn(  # noqa: PLR0913 - what is drawn, where it is played, where it is kept
    scheduler: Scheduler,
    judge: Judge,
    directory: Path,
    drawn_from: int,
    *,
    examples: int,
    generate: Generate = generate,
    tell: Callable[[Run, Judgement], object] = lambda _run, _judged: None,
    failed_before: ExampleDatabase | None = None,
) -> None:
    """Play so many examples, those that failed before first; the smallest that does not hold is shortened and kept.

    Args:
        scheduler: who plays them.
        judge: who judges them.
        directory: where the schedule goes that does not hold.
        drawn_from: the seed.
        examples: how many, unless one does not hold.
        generate: makes a scenario of choices.
        tell: of each that was played and judged.
        failed_before: where what fails is kept, and looked for; where Hypothesis keeps everything if it is None.

    Raises:
        Violation: one does not hold.
        Exception: what went wrong here, at its first time. Workers and database are as that has left them.
    """
    failing: list[tuple[Run, Judgement]] = []
    troubles: list[Exception] = []
    kept: dict[str, Any] = {} if failed_before is None else {"database": failed_before, "derandomize": False}

    @settings(max_examples=examples, **kept)  # above the seed, which alone would look at nothing that failed before
    @seed(drawn_from)
    @given(
        st.data(),
        st.lists(st.tuples(st.integers(0, STEPS), st.integers(1, OTHERS_MAX)), max_size=DEVIATIONS_MAX),
    )
    def every_schedule_holds(data: st.DataObject, points: list[tuple[int, int]]) -> None:
        scenario = generate("drawn", partial(_drawn, data))  # always, since a generation that stops early is an error
        if troubles:
            return
        try:
            run = scheduler.run(scenario, deviations(points))
            judged = judge.judge(run)
            assert judged.verdict != "inconclusive", judged.why
            tell(run, judged)
            scheduler.forget(scenario)
        except OURS as trouble:
            troubles.append(trouble)
            return
        if judged.verdict == "violated":
            failing[:] = [(run, judged)]  # the last one that fails is the smallest: Hypothesis ends with it
            raise Violation(list(judged.names), judged.why)

    try:
        every_schedule_holds()
    except Exception as error:
        if failing and troubles:
            raise _not_shortened(failing[0], scheduler.location, directory) from error
        if failing:
            try:
                require(scheduler, judge, failing[0][0], directory)
            finally:
                scheduler.forget(failing[0][0].scenario)
        raise
    if troubles:
        raise troubles[0]


def _not_shortened(failing: tuple[Run, Judgement], store: str, directory: Path) -> Violation:
    run, judged = failing
    path = keep(run, store, judged.names, directory)
    told = f"{judged.why}\nnot shortened, since there was trouble\nto play it again: pytest -m stateful --replay={path}"
    return Violation(list(judged.names), told)


def _drawn(data: st.DataObject, items: Sequence[Item]) -> Item:
    return items[data.draw(st.integers(0, len(items) - 1))]
