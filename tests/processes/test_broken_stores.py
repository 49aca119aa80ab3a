"""The races notice stores that are wrong: a judge that always says yes must turn something red."""

from pathlib import Path
from typing import Final

import pytest

from tests.harness.judgement import explained, names_of
from tests.harness.locations import Location
from tests.harness.processes import Pool
from tests.processes.arena import Arena
from tests.processes.broken import BROKEN, Broken
from tests.processes.participant import Participant
from tests.processes.storm import ALL_RACES

pytestmark = [pytest.mark.processes, pytest.mark.untraced, pytest.mark.timeout(300)]

BY_NAME: Final = {race.__name__: race for race in ALL_RACES}
JOBS: Final = 60
CASES: Final = [
    pytest.param(broken, location, id=f"{broken.name}, {location.name}")
    for broken in BROKEN
    for location in broken.locations
]


@pytest.mark.parametrize(("broken", "location"), CASES)
def test_a_broken_store_is_noticed(
    pool: Pool[Participant], tmp_path: Path, seed: str, broken: Broken, location: Location
) -> None:
    arena = Arena(pool, broken.at(location), tmp_path, seed=seed)
    arena.jobs = JOBS
    try:
        arena.hold(BY_NAME[broken.race], broken.rounds)
    finally:
        arena.close()
    found = names_of(arena.findings)
    assert broken.names & set(found), f"found {found}, seed {seed}\n{explained(arena.findings)}"
