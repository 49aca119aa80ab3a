"""What tests of the lockstep itself share: a store beside the model, with one job that is running."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from prompt_studio_model import operations as op
from prompt_studio_model.state import Settings
from tests.harness.lockstep import Coverage, Lockstep
from tests.harness.stores import STORES


@pytest.fixture
def lockstep(tmp_path: Path) -> Iterator[Lockstep]:
    """Job 1, acquired with token 1 for a second."""
    lockstep = Lockstep(STORES[0].fresh(tmp_path, None, None), Settings(), Coverage())
    lockstep.do(op.Create(request=(1, None, "{}", "client")))
    lockstep.do(op.Acquire(session="worker", owner="ann", lease=1_000))
    yield lockstep
    lockstep.adapter.close()
