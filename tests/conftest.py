"""What holds for every test: the Hypothesis profiles, and that a `verifies` mark names ids that exist."""

import os

import pytest
from hypothesis import Phase, settings

from tests.repository.requirements import known_ids

pytest_plugins = ["tests.harness.failures", "tests.harness.plugin", "tests.harness.postgres_fixtures"]

# No profile has a deadline: two busy cores are shared with other work, and a slow example is not a wrong one. What must
# not hang is held by the limit per test in pyproject.toml.
settings.register_profile("dev", deadline=None)
# The same examples each time: a change is red because of what it changed.
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
# New examples each night, and all of them spent on looking, not on explaining.
settings.register_profile(
    "nightly",
    deadline=None,
    max_examples=2_000,
    print_blob=True,
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.target, Phase.shrink],
)
# Fixed examples, and none shrunk: a mutant needs a verdict, not an explanation.
settings.register_profile("mutants", deadline=None, database=None, phases=[Phase.explicit, Phase.generate])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A mark with an id that no spec defines is an error of the collection: a typo would verify nothing."""
    known = known_ids()
    unknown = [
        f"{item.nodeid}: verifies({named!r}), which no file in specs/ defines"
        for item in items
        for mark in item.iter_markers("verifies")
        for named in mark.args
        if named not in known
    ]
    if unknown:
        raise pytest.UsageError(*unknown)
