"""`--store` and `--scenario` choose schedules of every sort, and say so when there are none."""

from types import SimpleNamespace
from typing import Any, Final

import pytest

from tests.harness.interleaving.plain_tables import PlainPostgres, PlainSqlite
from tests.harness.interleaving.scenarios import TWO_SESSIONS
from tests.harness.locations import SQLITE, WITH_LOCKS
from tests.interleaved.broken import BROKEN
from tests.interleaved.programs import RIGHT_ON_SQLITE, WRONG_ON_SQLITE
from tests.interleaved.selection import names_of, select

pytestmark = pytest.mark.interleaved

PLAYS: Final = pytest.mark.interleaved.mark


class Item:
    """A test, as far as it is looked at."""

    def __init__(self, name: str, *, plays: bool = True, **params: Any) -> None:  # noqa: ANN401 - of a test
        self.name = name
        self.callspec = SimpleNamespace(params=params)
        self._plays = plays

    def get_closest_marker(self, name: str) -> object:
        """Whether it plays schedules."""
        return PLAYS if self._plays and name == PLAYS.name else None


ITEMS: Final = [
    Item("other", plays=False),
    Item("by itself"),
    Item("acquire on sqlite", ground=SQLITE, scenario=TWO_SESSIONS[0]),
    Item("acquire on postgres", ground=WITH_LOCKS, scenario=TWO_SESSIONS[0]),
    Item("renew on postgres", ground=WITH_LOCKS, scenario=TWO_SESSIONS[4]),
    Item("a program", make=PlainSqlite, one=RIGHT_ON_SQLITE[0]),
    Item("a bug", broken=BROKEN[0]),
]


def chosen(store: str = "", scenario: str = "", replay: str | None = None) -> list[str]:
    option = SimpleNamespace(store=store, scenario=scenario, replay=replay)
    return [item.name for item in select(ITEMS, option)]


class TestSelect:
    def test_leaves_all_if_nothing_is_asked_for_or_a_file_is_played(self) -> None:
        assert chosen() == chosen(store="none such", replay="a file") == [item.name for item in ITEMS]

    def test_chooses_a_store(self) -> None:
        assert chosen(store=SQLITE.name) == ["other", "acquire on sqlite", "a program"]
        assert chosen(store="no locks") == ["other", "a bug"]

    def test_chooses_a_scenario(self) -> None:
        assert chosen(scenario="acquire, renew") == ["other", "renew on postgres"]
        assert chosen(scenario=RIGHT_ON_SQLITE[0].name) == ["other", "a program"]

    def test_chooses_both(self) -> None:
        assert chosen(store=WITH_LOCKS.name, scenario="acquire, acquire") == ["other", "acquire on postgres", "a bug"]

    @pytest.mark.parametrize(("asked", "told"), [({"store": "orcale"}, "no locks"), ({"scenario": "mirgate"}, "renew")])
    def test_refuses_a_name_that_nobody_has(self, asked: dict[str, str], told: str) -> None:
        with pytest.raises(pytest.UsageError, match=f"is part of no name; there are: .*{told}"):
            chosen(**asked)


class TestNames:
    def test_are_those_of_whatever_a_test_plays(self) -> None:
        wrong = WRONG_ON_SQLITE[0]
        assert names_of({}) == {"store": set(), "scenario": set()}
        assert names_of({"make": PlainPostgres, "one": wrong})["scenario"] == {wrong.programs.name}
        assert names_of({"broken": BROKEN[0]}) == {
            "store": {BROKEN[0].location.name},
            "scenario": {BROKEN[0].scenario},
        }
