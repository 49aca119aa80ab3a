"""Which strategies are switched on that are only there where they are."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

from prompt_studio.config import switch

MCTS_VARIABLE: Final = "PROMPT_STUDIO_ENABLE_MCTS"
MCTS_CANARY_VARIABLE: Final = "PROMPT_STUDIO_ENABLE_MCTS_CANARY"
ENVIRONMENT_VARIABLES: Final = ("ENVIRONMENT", "APP_ENV", "ENV")
DEVELOPMENT: Final = frozenset({"dev", "development", "local", "debug"})


def switched_on(environment: Mapping[str, str]) -> frozenset[str]:
    """The strategies that these variables switch on: mcts, everywhere or as a canary in development.

    Raises:
        InputError: a variable is neither on nor off.
    """
    everywhere = switch(environment, MCTS_VARIABLE, default=False)
    canary = switch(environment, MCTS_CANARY_VARIABLE, default=True)
    named = (environment[name] for name in ENVIRONMENT_VARIABLES if environment.get(name, "").strip())
    development = next(named, "dev").strip().lower() in DEVELOPMENT
    return frozenset({"mcts"} if everywhere or (canary and development) else ())


def switched_on_here() -> frozenset[str]:
    """The strategies that this process's environment switches on.

    Raises:
        InputError: a variable is neither on nor off.
    """
    return switched_on(os.environ)
