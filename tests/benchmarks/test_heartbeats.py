"""The trials of workers with the figures of the issue that asked for them, and what their command says of trouble."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.benchmarks import heartbeats
from tests.benchmarks.heartbeats import TRIALS, Trial
from tests.harness.heartbeats.trials import Outcome
from tests.harness.heartbeats.workers import Beater, Plan
from tests.harness.locations import LOCATIONS, SQLITE, Location
from tests.harness.processes import Pool, Trouble
from tests.harness.violation import Violation

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool[Beater]]:
    pool = heartbeats.new_pool()
    yield pool
    pool.close()


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("trial", TRIALS.values(), ids=list(TRIALS))
@pytest.mark.parametrize("location", LOCATIONS, ids=lambda location: location.name)
@pytest.mark.verifies(
    "PS-LEASE-HB-1", "PS-LEASE-HB-2", "PS-LEASE-HB-3", "PS-LEASE-HB-11", "PS-LEASE-HB-12", "PS-LEASE-HB-14"
)
def test_leases_are_kept_and_taken(pool: Pool[Beater], location: Location, trial: Trial, tmp_path: Path) -> None:
    outcome = heartbeats.held(pool, location, trial, tmp_path)
    if outcome.found:
        names = list(dict.fromkeys(found.name for found in outcome.found))
        raise Violation(names, "\n".join(found.story for found in outcome.found))


def test_a_trial_that_comes_to_nothing_is_no_success_and_does_not_keep_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def in_vain(pool: Pool[Beater], plan: Plan) -> Outcome:
        del pool, plan
        raise Trouble("nobody came")

    monkeypatch.setattr(heartbeats, "PROCESSES", 1)
    monkeypatch.setattr(heartbeats, "TRIALS", {name: Trial(in_vain, 0) for name in ("one", "two")})
    assert heartbeats.main(["--store", SQLITE.name]) == 1
    assert capsys.readouterr().out.count("TROUBLE nobody came") == 2
