"""The certificate says `holds` only when it may: known-bad runs, each with the verdict and exit code it deserves."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from prompt_studio_model.checking.explore import Exploration, Verdict
from prompt_studio_model.worlds import WORLDS
from tests.harness.certificate import Certificate, Conformance, worst
from tests.harness.interleaved_layer import Exhausted, InterleavedLayer, Volume
from tests.harness.lockstep import Coverage
from tests.harness.pairs import ALL_PAIRS
from tests.harness.plugin import FIXED, LAYER_ORDER
from tests.harness.processes_layer import ProcessesLayer, RaceResult

pytestmark = pytest.mark.conformance
pytest_plugins = ["pytester"]
ROOT = Path(__file__).resolve().parents[2]


def explored(name: str = "tiny", **findings: Any) -> Exploration[Any, Any, Any]:  # noqa: ANN401 - its fields
    found: Exploration[Any, Any, Any] = Exploration(name)
    for field, finding in ({"complete": True} | findings).items():
        setattr(found, field, finding)
    return found


def complete() -> Certificate:
    """A certificate with nothing wanting."""
    certificate = Certificate()
    certificate.explored(explored(), 1.0)
    coverage = Coverage(steps=20, examples=1, pairs=Counter(ALL_PAIRS), sometimes=Counter(["SEEN-TIE"]))
    certificate.stores["store"] = Conformance(coverage, steps_least=20, sometimes_expected=frozenset({"SEEN-TIE"}))
    return certificate


class TestVerdict:
    def test_holds_when_nothing_is_wanting(self) -> None:
        assert complete().verdict == "holds"

    def test_is_inconclusive_when_a_scenario_was_not_played_in_every_order(self) -> None:
        certificate = complete()
        certificate.interleaved["store"] = InterleavedLayer(frozenset({"one", "two"}), 0, {"one": Exhausted(2)})
        assert certificate.verdict == "inconclusive"
        assert "  not exhausted: two" in certificate.lines()

    def test_holds_when_each_was(self) -> None:
        certificate = complete()
        every = {"one": Exhausted(2), "two": Exhausted(3)}
        certificate.interleaved["store"] = InterleavedLayer(frozenset(every), 0, every)
        assert certificate.verdict == "holds"
        assert certificate.as_json()["stores"]["store"]["layers"]["interleaved"]["schedules"] == 5

    def test_is_inconclusive_with_fewer_schedules_than_were_asked_for(self) -> None:
        certificate = complete()
        certificate.interleaved["store"] = InterleavedLayer(frozenset(), 10, {"one": Exhausted(2)}, Volume(9))
        assert certificate.verdict == "inconclusive"

    def test_is_inconclusive_when_nothing_ran(self) -> None:
        assert Certificate().verdict == "inconclusive"

    def test_is_inconclusive_without_a_store(self) -> None:
        certificate = complete()
        certificate.stores.clear()
        assert certificate.verdict == "inconclusive"

    def test_is_inconclusive_without_a_world(self) -> None:
        certificate = complete()
        certificate.worlds.clear()
        assert certificate.verdict == "inconclusive"

    def test_is_inconclusive_when_a_pair_was_never_witnessed(self) -> None:
        certificate = complete()
        pair = min(ALL_PAIRS)
        del certificate.stores["store"].coverage.pairs[pair]
        assert certificate.verdict == "inconclusive"
        assert f"  never witnessed: {'/'.join(pair)}" in certificate.lines()

    def test_is_inconclusive_when_something_hoped_for_never_happened(self) -> None:
        certificate = complete()
        certificate.stores["store"].coverage.sometimes.clear()
        assert certificate.verdict == "inconclusive"

    def test_is_inconclusive_after_too_few_steps(self) -> None:
        certificate = complete()
        certificate.stores["store"].coverage.steps = 19
        assert certificate.verdict == "inconclusive"

    def test_is_inconclusive_when_steps_were_only_played(self) -> None:
        certificate = complete()
        coverage = certificate.stores["store"].coverage
        coverage.steps, coverage.played = 0, 1_000_000
        assert certificate.verdict == "inconclusive"

    @pytest.mark.parametrize(
        ("races", "verdict"),
        [
            ([RaceResult("drain", "store", rounds=1)], "holds"),
            ([RaceResult("drain", "store", rounds=1, lost=1)], "violated"),
            ([RaceResult("drain", "store", rounds=1, locks_left=1)], "violated"),
            ([], "inconclusive"),
        ],
    )
    def test_of_the_races_counts(self, races: list[RaceResult], verdict: Verdict) -> None:
        certificate = complete()
        certificate.processes["store"] = ProcessesLayer(frozenset({"drain"}), races)
        assert certificate.verdict == verdict
        assert certificate.as_json()["stores"]["store"]["verdict"] == verdict

    def test_of_a_disagreement_counts(self) -> None:
        certificate = complete()
        certificate.agreements["one = other"] = Conformance(steps_least=1, pairs_expected=frozenset())
        assert certificate.verdict == "inconclusive"

    @pytest.mark.parametrize("came_to", ["violated", "inconclusive"])
    def test_of_a_store_is_what_its_failed_test_came_to(self, came_to: Verdict) -> None:
        certificate = complete()
        certificate.stores["store"].failed = came_to
        assert certificate.as_json()["stores"]["store"]["verdict"] == came_to
        assert certificate.verdict == came_to

    def test_is_inconclusive_when_a_world_was_not_finished(self) -> None:
        certificate = complete()
        certificate.explored(explored("leases", complete=False), 1.0)
        assert certificate.verdict == "inconclusive"

    def test_is_inconclusive_after_trouble_of_our_own(self) -> None:
        certificate = complete()
        certificate.troubles.append("the disk is full")
        assert certificate.verdict == "inconclusive"

    def test_is_violated_when_the_model_breaks_a_promise(self) -> None:
        certificate = complete()
        certificate.explored(explored("leases", broken=["INV-TOKEN-GROWS"]), 1.0)
        assert certificate.verdict == "violated"
        assert "violated: INV-TOKEN-GROWS (model, world leases)" in certificate.lines()

    def test_is_violated_even_when_more_is_wanting(self) -> None:
        certificate = complete()
        certificate.troubles.append("the disk is full")
        certificate.violations.append("conformance (test)")
        assert certificate.verdict == "violated"

    @pytest.mark.parametrize(
        ("verdicts", "whole"),
        [
            (["holds", "holds"], "holds"),
            (["holds", "inconclusive"], "inconclusive"),
            (["inconclusive", "violated", "holds"], "violated"),
            ([], "inconclusive"),
        ],
    )
    def test_of_the_whole_is_the_worst(self, verdicts: list[Verdict], whole: Verdict) -> None:
        assert worst(verdicts) == whole


STAND_IN = """
import pytest
from prompt_studio_model.worlds import WORLDS
from tests.harness.certificate import Conformance
from tests.harness.explorations import Exploration
from tests.harness.interleaved_layer import Exhausted, InterleavedLayer, Volume
from tests.harness.lockstep import Coverage
from tests.harness.violation import Violation
from tests.harness.interleaved_layer import Exhausted, InterleavedLayer
from tests.harness.pairs import ALL_PAIRS
from tests.harness.plugin import CERTIFICATE
from tests.harness.processes_layer import ProcessesLayer, RaceResult
from tests.harness.stores import STORES

@pytest.mark.stateful
def test_everything(request):
    certificate = request.config.stash[CERTIFICATE]
    for name in WORLDS:
        certificate.explored(Exploration(name, complete=True), 0.0)
    for store in STORES:
        certificate.stores[store.name] = Conformance(Coverage(pairs=dict.fromkeys(ALL_PAIRS, 1)))
        certificate.processes[store.name] = ProcessesLayer(races=[RaceResult("one job", store.name, rounds=1)])
        certificate.interleaved[store.name] = InterleavedLayer(exhaustive={"two acquire": Exhausted(14)})
"""


@pytest.mark.untraced
class TestRun:
    @pytest.fixture
    def project(self, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
        """A project of its own, whose only stateful test claims to have done everything."""
        monkeypatch.setenv("PYTHONPATH", str(ROOT))
        pytester.makeini("[pytest]\nmarkers = stateful: all of it")
        pytester.makeconftest('import pytest\npytest_plugins = ["tests.harness.failures", "tests.harness.plugin"]')
        pytester.makepyfile(test_everything=STAND_IN)
        return pytester

    def verdict(self, project: pytest.Pytester, *arguments: str) -> tuple[str, int]:
        result = project.runpytest_subprocess("-q", *arguments)
        told = [line for line in result.outlines if line.startswith(("verdict: ", "none: "))]
        return told[0].split(" ")[1] if told[0].startswith("verdict") else "none", int(result.ret)

    def test_holds_and_is_green(self, project: pytest.Pytester) -> None:
        assert self.verdict(project) == ("holds", 0)
        assert '"verdict": "holds"' in (project.path / "build" / "certificate.json").read_text()

    def test_with_a_violation_is_violated_and_red(self, project: pytest.Pytester) -> None:
        project.makepyfile(
            test_more="import pytest\nfrom tests.harness.violation import Violation\n"
            "@pytest.mark.stateful\ndef test_more():\n    raise ExceptionGroup('two', [Violation(['INV-X'], 'story')])"
        )
        assert self.verdict(project) == ("violated", 1)
        assert "INV-X (test_more)" in (project.path / "build" / "certificate.json").read_text()

    @pytest.mark.parametrize("body", ["assert False", "pytest.skip('no time')", "pytest.xfail('known')"])
    def test_with_a_test_that_proves_nothing_is_inconclusive_and_red(self, project: pytest.Pytester, body: str) -> None:
        project.makepyfile(test_more=f"import pytest\n@pytest.mark.stateful\ndef test_more():\n    {body}")
        assert self.verdict(project) == ("inconclusive", 1)

    def test_that_gives_up_early_is_inconclusive(self, project: pytest.Pytester) -> None:
        project.makepyfile(
            test_a="import pytest\n@pytest.mark.stateful\ndef test_a():\n    pytest.exit('enough', returncode=0)"
        )
        assert self.verdict(project)[0] == "inconclusive"

    @pytest.mark.parametrize("end", ["raise KeyboardInterrupt", "pytest.exit('enough', returncode=0)"])
    def test_that_is_cut_short_at_its_end_is_inconclusive(self, project: pytest.Pytester, end: str) -> None:
        project.makepyfile(test_more=f"import pytest\n@pytest.mark.stateful\ndef test_more():\n    {end}")
        assert self.verdict(project)[0] == "inconclusive"

    def test_takes_the_old_certificate_away_first(self, project: pytest.Pytester) -> None:
        old = project.mkdir("build") / "certificate.json"
        old.write_text('{"verdict": "holds"}')
        project.makepyfile(test_more="import os, pytest\n@pytest.mark.stateful\ndef test_more():\n    os._exit(1)")
        project.runpytest_subprocess("-q")
        assert not old.exists()

    def test_without_a_store_is_inconclusive_and_red(self, project: pytest.Pytester) -> None:
        project.makepyfile(test_everything=STAND_IN.replace("for store in STORES:", "for store in ():"))
        assert self.verdict(project) == ("inconclusive", 1)

    def test_that_processes_share_is_of_all_of_them_and_of_one_seed(self, project: pytest.Pytester) -> None:
        drawn_from = "request.config.stash[CERTIFICATE].seed, request.config.option.hypothesis_seed"
        seeds = f"    with open('seeds', 'a') as seeds: print({drawn_from}, file=seeds)\n"
        first = STAND_IN.replace("for name in WORLDS:", "for name in list(WORLDS)[1:]:")
        rest = STAND_IN.replace("for name in WORLDS:", "for name in list(WORLDS)[:1]:")
        project.makepyfile(test_everything=first + seeds)
        project.makepyfile(test_rest=rest.replace("for store in STORES:", "for store in ():") + seeds)
        assert self.verdict(project, "-n", "2") == ("holds", 0)
        told = json.loads((project.path / "build" / "certificate.json").read_text())
        assert told["model"]["worlds"].keys() == WORLDS.keys()
        # Hypothesis is told of none that was not given: it would look at nothing that failed before.
        given = "0" if os.environ.get("HYPOTHESIS_PROFILE") in FIXED else "None"
        assert (project.path / "seeds").read_text().splitlines() == [f"{told['seed']} {given}"] * 2

    @pytest.mark.parametrize(
        ("body", "verdict"),
        [("raise Violation(['INV-X'], 'story')", "violated"), ("os._exit(1)", "inconclusive")],
    )
    def test_that_processes_share_hears_how_each_test_ended(
        self, project: pytest.Pytester, body: str, verdict: str
    ) -> None:
        project.makepyfile(
            test_more="import os, pytest\nfrom tests.harness.violation import Violation\n"
            f"@pytest.mark.stateful\ndef test_more():\n    {body}"
        )
        assert self.verdict(project, "-n", "2") == (verdict, 1)

    def test_of_some_tests_has_no_certificate(self, project: pytest.Pytester) -> None:
        project.makepyfile(test_more="import pytest\n@pytest.mark.stateful\ndef test_more(): pass")
        assert self.verdict(project, "-k", "everything") == ("none", 0)
        assert self.verdict(project, "test_everything.py") == ("none", 0)


@pytest.mark.untraced
def test_the_layers_are_asked_from_the_top_down() -> None:
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", "-m", "stateful"]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=100).stdout
    directories = [line.split("/")[1] for line in told.splitlines() if line.startswith("tests/")]
    assert [name for name in dict.fromkeys(directories) if name in LAYER_ORDER] == list(LAYER_ORDER)
    assert directories == sorted(directories, key=LAYER_ORDER.index)
