"""The order of the stateful tests, and what tests of the lockstep itself share: one job that is running."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from prompt_studio_model import operations as op
from prompt_studio_model.state import Settings
from tests.harness.lockstep import Coverage, Lockstep
from tests.harness.stores import STORES

TWINS: Final = "test_backends_agree.py"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the twins behind the lockstep: the model names the promise that was broken, twins see that they differ.

    A run that stops at the first failure, such as a mutant's, would otherwise end with the weaker name.
    """
    items.sort(key=lambda item: item.path.name == TWINS or item.get_closest_marker("processes") is not None)


@pytest.fixture
def lockstep(tmp_path: Path) -> Iterator[Lockstep]:
    """Job 1, acquired with token 1 for a second."""
    lockstep = Lockstep(STORES[0].fresh(tmp_path, None, None), Settings(), Coverage())
    lockstep.do(op.Create(request=(1, None, "{}", "client")))
    lockstep.do(op.Acquire(session="worker", owner="ann", lease=1_000))
    yield lockstep
    lockstep.adapter.close()
