"""Which schedules `--store` and `--scenario` ask for: by the names of stores and scenarios that a test is given."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import pytest

from tests.harness.interleaving.plain_tables import PLAIN

STORE, SCENARIO = "store", "scenario"
OPTIONS: Final = (STORE, SCENARIO)


def select(items: Sequence[Any], option: Any) -> list[Any]:  # noqa: ANN401 - argparse's own
    """The tests that were asked for; those that play no schedules are not what these options are about.

    Raises:
        UsageError: no schedule has such a name.
    """
    asked = {kind: getattr(option, kind) for kind in OPTIONS if getattr(option, kind)}
    playing = [item for item in items if item.get_closest_marker("interleaved") is not None]
    if not asked or option.replay is not None or not playing:  # a file says itself where it is played
        return list(items)
    names = {id(item): names_of(_params(item)) for item in playing}
    for kind, wanted in asked.items():
        known = sorted(set().union(*(found[kind] for found in names.values())))
        if not any(wanted in name for name in known):
            raise pytest.UsageError(f"--{kind} {wanted!r} is part of no name; there are: {', '.join(known)}")
    return [item for item in items if id(item) not in names or _is_asked_for(names[id(item)], asked)]


def names_of(params: Mapping[str, Any]) -> dict[str, set[str]]:
    """The names of the store and of the scenario that a test is given, whatever it calls them."""
    broken, program = params.get("broken"), params.get("one")
    stores = [params.get("ground"), params.get("location"), getattr(broken, "location", None)]
    scenarios = [params.get("scenario"), getattr(program, "programs", program)]
    found = {
        STORE: {str(one.name) for one in stores if one is not None},
        SCENARIO: {str(one.name) for one in scenarios if one is not None},
    }
    found[STORE] |= {name for name, make in PLAIN.items() if make is params.get("make")}
    found[SCENARIO] |= {str(broken.scenario)} if broken is not None else set()
    return found


def _params(item: Any) -> Mapping[str, Any]:  # noqa: ANN401 - pytest's
    params: Mapping[str, Any] = getattr(getattr(item, "callspec", None), "params", {})
    return params


def _is_asked_for(names: Mapping[str, set[str]], asked: Mapping[str, str]) -> bool:
    return all(any(wanted in name for name in names[kind]) for kind, wanted in asked.items())
