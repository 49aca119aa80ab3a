"""A run that several processes share (`pytest -n`): each hands over what it has to say, and the first puts it together.

pytest-xdist tells the first process how each test ended. What the tests wrote into the certificate of their own process
it does not know of, so that is sent when a process ends; of one that dies the first hears that tests did not pass.
"""

import pickle
from typing import Any, Final, NamedTuple, cast

import pytest

from tests.harness.certificate import Certificate

_NAME: Final = "certificate"
_SEED: Final = "stateful_seed"


class Share(NamedTuple):
    """What one process has to say, and how many stateful tests it selected of how many it collected."""

    certificate: Certificate
    selected: tuple[int, int]


def is_share(config: pytest.Config) -> bool:
    """Whether this process runs a share of the tests for another."""
    return hasattr(config, "workerinput")


def tell_seed(node: Any, seed: int) -> None:  # noqa: ANN401 - xdist's, which has no types
    """Tell a process that is about to start what everything is drawn from."""
    node.workerinput[_SEED] = seed


def told_seed(config: pytest.Config) -> int:
    """What this process was told to draw from."""
    return int(cast("Any", config).workerinput[_SEED])


def hand_over(config: pytest.Config, share: Share) -> None:
    """Send it to the first process."""
    cast("Any", config).workeroutput[_NAME] = pickle.dumps(share)


def handed_over(node: Any) -> Share | None:  # noqa: ANN401 - xdist's, which has no types
    """What a process that ended has sent; None if it died before it could."""
    sent = getattr(node, "workeroutput", {}).get(_NAME)
    return None if sent is None else pickle.loads(sent)  # noqa: S301 - from a process of this very run
