"""The races notice stores that are wrong: a judge that always says yes must turn something red."""

from pathlib import Path

import pytest

from tests.harness.judgement import explained, names_of
from tests.harness.locations import Location
from tests.harness.processes import Pool
from tests.processes import races
from tests.processes.arena import Arena
from tests.processes.broken import BROKEN, Broken
from tests.processes.participant import Participant
from tests.processes.storm import storm

pytestmark = [pytest.mark.processes, pytest.mark.timeout(300)]

RACES = {
    race.__name__: race
    for race in (
        races.one_job,
        races.drain,
        races.reclaim,
        races.renew_or_reclaim,
        races.complete_or_reclaim,
        races.zombie,
        races.record,
        storm,
    )
}
CASES = [
    pytest.param(broken, location, id=f"{broken.name}, {location.name}")
    for broken in BROKEN
    for location in broken.locations
]


@pytest.mark.parametrize(("broken", "location"), CASES)
def test_a_broken_store_is_noticed(
    pool: Pool[Participant], tmp_path: Path, seed: str, broken: Broken, location: Location
) -> None:
    arena = Arena(pool, broken.at(location), tmp_path, seed=seed)
    try:
        arena.hold(RACES[broken.race], broken.rounds)
    finally:
        arena.close()
    found = names_of(arena.findings)
    assert broken.names & set(found), f"found {found}, seed {seed}\n{explained(arena.findings)}"
