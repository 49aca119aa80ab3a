"""Would the promises notice? Each wrong rule must be found, under the name of the promise that it breaks."""

import pytest

from prompt_studio_model.checking.explore import explore
from prompt_studio_model.invariants import ALWAYS
from prompt_studio_model.worlds import WORLDS
from tests.model.extra_worlds import EXTRA_WORLDS
from tests.model.mutations import MUTATIONS, Mutation

pytestmark = pytest.mark.model

EVERYWHERE = WORLDS | EXTRA_WORLDS


class TestMutation:
    @pytest.mark.untraced
    @pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.rule)
    def test_is_noticed_by_the_promise_that_it_breaks(
        self, monkeypatch: pytest.MonkeyPatch, mutation: Mutation
    ) -> None:
        mutation.apply(monkeypatch)

        found = explore(EVERYWHERE[mutation.world])

        assert found.verdict == "violated"
        assert mutation.noticed in found.broken
        assert found.counterexample

    def test_exists_for_every_promise(self) -> None:
        assert {mutation.noticed for mutation in MUTATIONS} == {promise.id for promise in ALWAYS}


class TestExtraWorld:
    @pytest.mark.parametrize("name", EXTRA_WORLDS)
    def test_holds_without_a_mutation(self, name: str) -> None:
        found = explore(EXTRA_WORLDS[name])

        assert (found.verdict, found.broken) == ("holds", [])
