"""Every state of the bounded worlds, judged by every promise: are the rules themselves right?"""

from dataclasses import replace
from pathlib import Path

import pytest

from prompt_studio_model.checking import rendering
from prompt_studio_model.checking.explore import explore
from prompt_studio_model.invariants import ALWAYS
from prompt_studio_model.witnesses import SOMETIMES
from prompt_studio_model.worlds import WORLDS
from tests.harness.explorations import explored
from tests.model import pin
from tests.model.conftest import Report

pytestmark = pytest.mark.model

REPIN = "if the model was meant to change so, write the sizes anew with `python -m tests.model.pin` and say why"
STATES_SEEN = 60
UPDATES = {"update_cancelled", "update_completed", "update_failed", "update_processing", "update_queued"}
ENDINGS = {"cancel", "complete", "fail", "fail_for_good", "release", "retry"}
OFFERED = {
    "tiny": {"acquire", "complete", "crash", "create", "fail", "lookup", "losereply", "record", "renew", "tick"},
    "leases": {"acquire", "cleanup", "create", "losereply", "renew", "tick", *ENDINGS, *UPDATES},
    "locks": {"acquire", "cleanup", "crash", "create", "losereply", "renew", "tick", "update_processing"}
    | (ENDINGS - {"fail", "fail_for_good", "retry"}),
    "order": {"acquire", "create", "tick"},
    "keys": {"cleanupkeys", "lookup", "record", "tick"},
    "creates": {"cancel", "cleanup", "cleanupkeys", "createonce", "lookup", "losereply", "record", "tick"},
}


class TestWorld:
    @pytest.mark.stateful
    @pytest.mark.verifies(
        "INV-SINGLE-HOLDER",
        "INV-TOKEN-GROWS",
        "INV-LEASE-FIELDS",
        "INV-TERMINAL-ABSORBS",
        "INV-RESULT-FENCED",
        "INV-LEASE-MONOTONE",
        "INV-NO-EARLY-RECLAIM",
        "INV-CLAIM-ORDER",
        "INV-NONE-IS-EMPTY",
        "INV-EXECUTIONS-BOUNDED",
        "INV-LOCKS-MATCH",
        "INV-ONE-EFFECT-PER-KEY",
        "INV-NO-CROSS-USER",
        "INV-NOTHING-LOST",
        "INV-REPLAY-SAFE",
        "INV-BACKENDS-AGREE",
    )
    @pytest.mark.parametrize("name", WORLDS)
    def test_holds_and_is_as_large_as_it_was(self, name: str, report_exploration: Report) -> None:
        found, seconds = explored(name)
        report_exploration(found, seconds)

        sentences = {promise.id: promise.sentence for promise in WORLDS[name].promises}
        story = f"{[sentences[broken] for broken in found.broken]}\n{rendering.path(found.counterexample)}"
        assert found.broken == [], story
        assert found.unwitnessed == [], "this must happen at least once, and never did"
        assert found.verdict == "holds"
        assert pin.size(found) == pin.pinned()[name], REPIN

    @pytest.mark.parametrize("name", WORLDS)
    def test_offers_its_calls_from_the_beginning(self, name: str) -> None:
        found = explore(replace(WORLDS[name], label=lambda seen: seen.invocation.operation), states_limit=STATES_SEEN)

        assert found.verdict == "inconclusive"
        assert found.first_seen.keys() == OFFERED[name]

    def test_is_pinned_and_nothing_else_is(self) -> None:
        assert list(pin.pinned()) == list(WORLDS), REPIN

    @pytest.mark.parametrize("name", WORLDS)
    def test_is_judged_by_every_promise(self, name: str) -> None:
        assert set(ALWAYS) <= set(WORLDS[name].promises)

    def test_in_which_it_is_hoped_for_exists_for_everything_that_must_happen(self) -> None:
        hoped = {promise for world in WORLDS.values() for promise in world.promises if promise not in ALWAYS}

        assert hoped == set(SOMETIMES)


class TestPin:
    def test_writes_what_an_exploration_finds(self, tmp_path: Path) -> None:
        page = tmp_path / "exploration.toml"

        assert pin.main(page, {"order": WORLDS["order"]}) == 0

        assert pin.pinned(page) == {"order": pin.pinned()["order"]}

    def test_refuses_when_a_world_does_not_hold(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        page = tmp_path / "exploration.toml"
        nothing_happens = replace(WORLDS["order"], actions=lambda _: ())

        assert pin.main(page, {"order": nothing_happens}) == 1

        assert not page.exists()
        assert "inconclusive (['SEEN-TIE'])" in capsys.readouterr().err

    def test_left_the_file_as_it_writes_it(self) -> None:
        assert pin.PAGE.read_text(encoding="utf-8") == pin.render(pin.pinned())
