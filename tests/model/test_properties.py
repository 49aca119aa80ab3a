"""What holds of every run of the model, over calls drawn at random: it answers all, and it is a function."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prompt_studio_model import operations as op
from prompt_studio_model.checking import rendering
from prompt_studio_model.checking.explore import Step
from prompt_studio_model.checking.properties import violated
from prompt_studio_model.invariants import ALWAYS, observe
from prompt_studio_model.state import Settings, State
from prompt_studio_model.step import step
from prompt_studio_model.table import situation
from prompt_studio_model.witnesses import SOMETIMES
from tests.model.random_calls import CALLS, INVOCATIONS, RUNS, SETTINGS, aimed
from tests.model.rows import ROWS

pytestmark = [pytest.mark.model, pytest.mark.untraced]


def ran(settings: Settings, run: list[op.Invocation]) -> Iterator[tuple[State, op.Invocation, op.Response, State]]:
    """Walk through the model, each call aimed; of several allowed ways, take the last."""
    state = State()
    for drawn in run:
        invocation = aimed(state, drawn)
        reached, answer = step(state, invocation, settings)[-1]
        yield state, invocation, answer, reached
        state = reached


def reached_by(settings: Settings, run: list[op.Invocation]) -> State:
    return [after for _, _, _, after in ran(settings, run)][-1]


class TestRuns:
    def test_get_somewhere(self) -> None:
        """Properties of runs in which nothing happens would hold of anything."""
        witnessed: Counter[str] = Counter()

        @hypothesis.settings(max_examples=1_000, derandomize=True, database=None)
        @given(SETTINGS, RUNS)
        def look(settings: Settings, run: list[op.Invocation]) -> None:
            for before, invocation, answer, after in ran(settings, run):
                seen = observe(settings, before, invocation, answer, after)
                witnessed.update(promise.id for promise in SOMETIMES if promise.predicate(seen))
                witnessed.update(situation(job, after.now) for job in after.jobs)
                if isinstance(answer, op.Outcome):
                    witnessed[answer.kind] += 1

        look()

        assert witnessed.keys() >= ROWS.keys() - {"absent"}
        assert witnessed.keys() >= {"applied", "already", "not_found", "lease_lost", "terminal", "refused"}
        assert len(witnessed.keys() & {promise.id for promise in SOMETIMES}) >= len(SOMETIMES) - 2


class TestEveryRun:
    @given(SETTINGS, RUNS)
    def test_keeps_every_promise(self, settings: Settings, run: list[op.Invocation]) -> None:
        for before, invocation, answer, after in ran(settings, run):
            seen = observe(settings, before, invocation, answer, after)
            assert violated(seen, ALWAYS) == [], (before, invocation, answer, after)

    @given(SETTINGS, RUNS)
    def test_keeps_rows_sorted_and_sessions_that_hold_nothing_out(
        self, settings: Settings, run: list[op.Invocation]
    ) -> None:
        state = reached_by(settings, run)

        assert [job.id for job in state.jobs] == sorted(job.id for job in state.jobs)
        assert all(job.id < state.next_id for job in state.jobs)
        assert [session.name for session in state.sessions] == sorted({session.name for session in state.sessions})
        assert all(session.locks or session.refusals for session in state.sessions)

    @given(SETTINGS, RUNS)
    def test_can_be_shown(self, settings: Settings, run: list[op.Invocation]) -> None:
        for before, invocation, answer, after in ran(settings, run):
            action, told, changes = rendering.step(Step(before, invocation, answer, after))
            assert action.startswith(type(invocation).__name__)
            assert told.startswith(type(answer).__name__)
            assert bool(changes) == (before != after)


class TestStep:
    @given(SETTINGS, RUNS, INVOCATIONS)
    def test_is_a_function_of_its_arguments(
        self, settings: Settings, run: list[op.Invocation], invocation: op.Invocation
    ) -> None:
        state, again = reached_by(settings, run), reached_by(settings, run)
        call = aimed(state, invocation)

        assert step(state, call, settings) == step(again, call, settings)
        assert state == again

    @given(SETTINGS, RUNS, INVOCATIONS)
    def test_gives_states_and_answers_that_can_be_members_of_a_set(
        self, settings: Settings, run: list[op.Invocation], invocation: op.Invocation
    ) -> None:
        state = reached_by(settings, run)
        allowed = step(state, aimed(state, invocation), settings)

        assert len(set(allowed)) == len(allowed) >= 1

    @given(SETTINGS, RUNS, CALLS)
    def test_of_a_call_with_a_lost_reply_is_the_call_done_or_not_done(
        self, settings: Settings, run: list[op.Invocation], call: op.Invocation
    ) -> None:
        state = reached_by(settings, run)
        call = aimed(state, call)
        ((done, _),) = step(state, call, settings)

        lost = step(state, op.LoseReply(session=call.session, call=call), settings)

        assert {reached[:4] for reached, _ in lost} == {state[:4], done[:4]}
        assert all(answer == op.Nothing() for _, answer in lost)
        assert all(session.name != call.session for reached, _ in lost for session in reached.sessions)

    @given(SETTINGS, RUNS, CALLS)
    def test_tells_the_row_as_the_call_left_it(
        self, settings: Settings, run: list[op.Invocation], call: op.Invocation
    ) -> None:
        state = reached_by(settings, run)
        call = aimed(state, call)
        ((after, answer),) = step(state, call, settings)

        if isinstance(answer, op.Outcome):
            assert isinstance(call, op.JobCall)
            row = after.job(call.job_id)
            assert answer.status == (row.status if row else None)
            assert answer.job == (row if answer else None)
        if isinstance(answer, op.Row) and answer.job is not None:
            assert answer.job == after.job(answer.job.id)

    @given(SETTINGS, RUNS, CALLS)
    def test_changes_nothing_when_it_refuses(
        self, settings: Settings, run: list[op.Invocation], call: op.Invocation
    ) -> None:
        state = reached_by(settings, run)
        ((after, answer),) = step(state, aimed(state, call), settings)

        if answer in {op.Rejected(), op.Mismatch(), op.Gone()} or (
            isinstance(answer, op.Outcome) and answer.kind != "applied"
        ):
            assert after[:4] == state[:4]


class TestSymmetry:
    @given(SETTINGS, RUNS, st.permutations(["a", "b", "c"]))
    def test_names_of_sessions_mean_nothing(
        self, settings: Settings, run: list[op.Invocation], names: list[str]
    ) -> None:
        renamed = dict(zip("abc", names, strict=True))

        def other(call: op.Invocation) -> Any:  # noqa: ANN401 - the same class of call
            inner: Any = {"call": other(call.call)} if isinstance(call, op.LoseReply) else {}
            return replace(call, session=renamed.get(call.session, call.session), **inner)

        # `Crash` and `LoseReply` take their session with them, `Create` and the rest have none.
        told = [answer for _, _, answer, _ in ran(settings, run)]
        told_others = [answer for _, _, answer, _ in ran(settings, [other(call) for call in run])]

        assert told == told_others

    @given(SETTINGS, RUNS)
    def test_names_of_users_mean_nothing(self, settings: Settings, run: list[op.Invocation]) -> None:
        swapped = {"ann": "bob", "bob": "ann", None: None}

        def other(call: op.Invocation) -> Any:  # noqa: ANN401 - the same class of call
            if isinstance(call, op.LoseReply):
                return replace(call, call=other(call.call))
            if isinstance(call, op.Lookup | op.Record | op.CreateOnce):
                return replace(call, scope=call.scope._replace(user_id=swapped[call.scope.user_id]))
            return call

        told = [answer for _, _, answer, _ in ran(settings, run)]
        told_others = [answer for _, _, answer, _ in ran(settings, [other(call) for call in run])]

        assert told == told_others

    @given(SETTINGS, RUNS, st.integers(1, 10**12))
    def test_the_hour_at_which_a_run_begins_means_nothing(
        self, settings: Settings, run: list[op.Invocation], hour: int
    ) -> None:
        def later(call: op.Invocation) -> Any:  # noqa: ANN401 - the same class of call
            if isinstance(call, op.LoseReply):
                return replace(call, call=later(call.call))
            if isinstance(call, op.Create) and call.available_at is not None:
                return replace(call, available_at=call.available_at + hour)
            return call

        def kinds(calls: list[op.Invocation]) -> list[object]:
            return [
                getattr(answer, "kind", None) or getattr(answer, "value", None) or bool(answer)
                for _, _, answer, _ in ran(settings, calls)
            ]

        moved = [op.Tick(milliseconds=hour), *(later(call) for call in run)]

        assert kinds(moved)[1:] == kinds(run)
