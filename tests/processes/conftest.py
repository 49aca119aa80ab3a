"""How races are held in a run: where, how often, with which dice; and the table that they end with.

`make races` (`--races full`) runs them as often as the issue that asked for them says; a run of everything holds a
quick share of each.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.harness.history import RACES, keep
from tests.harness.judgement import explained, names_of
from tests.harness.locations import LOCATIONS, Location
from tests.harness.plugin import CERTIFICATE
from tests.harness.processes import Pool
from tests.harness.processes_layer import ProcessesLayer
from tests.harness.violation import Violation
from tests.processes.arena import Arena, Race, name_of
from tests.processes.participant import Participant
from tests.processes.storm import ALL_RACES

WORKERS: Final = 4
PRELOAD: Final = ("prompt_studio", "psycopg", "tests.processes.participant")

EXPECTED: Final = frozenset(name_of(race) for race in ALL_RACES)
"""What a layer must have held to hold."""

Hold = Callable[..., None]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the races behind what needs no luck: a failure is looked for in the model first, and in lockstep next."""
    items.sort(key=lambda item: item.get_closest_marker("processes") is not None)


@pytest.fixture(scope="session")
def layers(request: pytest.FixtureRequest) -> dict[str, ProcessesLayer]:
    """What the races of this run came to, by store."""
    return request.config.stash[CERTIFICATE].processes


@pytest.fixture(scope="session")
def seed(request: pytest.FixtureRequest) -> str:
    """The seed of all dice, which the certificate names."""
    return str(request.config.stash[CERTIFICATE].seed)


@pytest.fixture(scope="session")
def full(request: pytest.FixtureRequest) -> bool:
    """Whether the races are run as often as they can be."""
    return bool(request.config.getoption("races", "quick") == "full")


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool[Participant]]:
    """The processes of all races of a module."""
    pool = Pool(WORKERS, Participant, preload=PRELOAD)
    yield pool
    pool.close()


@pytest.fixture(params=LOCATIONS, ids=lambda location: location.name)
def location(request: pytest.FixtureRequest) -> Location:
    """Where the race is held."""
    chosen: Location = request.param
    return chosen


@pytest.fixture
def hold(  # noqa: PLR0913, PLR0917 - fixtures
    request: pytest.FixtureRequest,
    pool: Pool[Participant],
    location: Location,
    tmp_path: Path,
    seed: str,
    layers: dict[str, ProcessesLayer],
) -> Hold:
    """Holds a race, and raises if it proves a promise to be broken."""

    def held(race: Race, rounds: int, *, real_time: bool = False) -> None:
        layer = layers.setdefault(location.name, ProcessesLayer(EXPECTED))
        arena = Arena(pool, location, tmp_path, seed=f"{seed}/{race.__name__}", real_time=real_time)
        try:
            result = arena.hold(race, rounds)
        except AssertionError as trouble:
            layer.failed = "inconclusive"
            trouble.add_note(f"seed {seed}; the histories are in {tmp_path}")
            raise
        finally:
            arena.close()
        layer.races.append(result)
        if arena.findings:
            kept = keep(tmp_path, request.config.rootpath / RACES / f"{race.__name__} {location.name}")
            story = f"{explained(arena.findings)}\n{result.note}\nseed {seed}; the histories are in {kept}"
            raise Violation(names_of(arena.findings), story)

    return held
