"""What the tests of the model share: a queue to play with, and the certificate to report explorations to."""

from collections.abc import Callable
from typing import Any

import pytest

from prompt_studio_model.checking.explore import Exploration
from tests.harness.plugin import CERTIFICATE
from tests.model.play import Play

Report = Callable[[Exploration[Any, Any, Any], float], None]


@pytest.fixture
def play() -> Play:
    """An empty queue without advisory locks, at time 0."""
    return Play()


@pytest.fixture
def report_exploration(request: pytest.FixtureRequest) -> Report:
    """Adds an explored world, with its seconds, to the certificate of this run."""
    return request.config.stash[CERTIFICATE].explored
