"""Strategies that are only there where they are switched on."""

import pytest

from prompt_studio import InputError
from prompt_studio.optimization.gates import switched_on

pytestmark = [pytest.mark.conformance, pytest.mark.verifies("PS-VALIDATION-EXPAND-1")]
MCTS = frozenset({"mcts"})


@pytest.mark.parametrize(
    ("environment", "there"),
    [
        ({}, True),
        ({"ENVIRONMENT": "production"}, False),
        ({"ENVIRONMENT": " Development "}, True),
        ({"ENVIRONMENT": "", "APP_ENV": "local"}, True),
        ({"ENVIRONMENT": "prod", "ENV": "dev"}, False),
        ({"APP_ENV": "prod", "ENV": "dev"}, False),
        ({"ENV": "debug"}, True),
        ({"ENV": "staging"}, False),
        ({"PROMPT_STUDIO_ENABLE_MCTS_CANARY": "false"}, False),
        ({"PROMPT_STUDIO_ENABLE_MCTS_CANARY": "off", "PROMPT_STUDIO_ENABLE_MCTS": "1"}, True),
        ({"ENVIRONMENT": "production", "PROMPT_STUDIO_ENABLE_MCTS": "YES"}, True),
        ({"ENVIRONMENT": "production", "PROMPT_STUDIO_ENABLE_MCTS": "0"}, False),
    ],
    ids=str,
)
def test_mcts_is_there_if_it_is_enabled_or_a_canary(environment: dict[str, str], *, there: bool) -> None:
    assert switched_on(environment) == (MCTS if there else frozenset())


@pytest.mark.parametrize("variable", ["PROMPT_STUDIO_ENABLE_MCTS", "PROMPT_STUDIO_ENABLE_MCTS_CANARY"])
def test_what_is_neither_on_nor_off_is_refused(variable: str) -> None:
    with pytest.raises(InputError, match=f"{variable} must be one of .*'perhaps'"):
        switched_on({variable: "perhaps"})
