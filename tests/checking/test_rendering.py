"""A path as text, letter by letter."""

from dataclasses import dataclass, field
from typing import NamedTuple

import pytest

from prompt_studio_model.checking import rendering
from prompt_studio_model.checking.explore import Step, explore
from tests.checking import toys

pytestmark = pytest.mark.model


class Place(NamedTuple):
    street: str
    number: int = 1


class Person(NamedTuple):
    name: str
    home: Place | None = None
    friends: frozenset[Place] = frozenset()


class Town(NamedTuple):
    hour: int = 0
    people: tuple[Person, ...] = ()
    mayors: tuple[str, ...] = ()


@dataclass(frozen=True)
class Move:
    who: str
    to: Place | None = None
    boxes: int = 0
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Moved:
    person: Person | None = None


@dataclass(frozen=True)
class Nothing:
    pass


ANN, BOB = Person("ann", Place("elm")), Person("bob")


def differences(before: object, after: object) -> list[str]:
    return list(rendering.difference(before, after))


class TestValue:
    @pytest.mark.parametrize(
        ("thing", "text"),
        [
            (1, "1"),
            (None, "None"),
            ("a", "'a'"),
            ((), "()"),
            ((1, "a"), "(1, 'a')"),
            (frozenset({"b", "a"}), "{'a', 'b'}"),
            (Nothing(), "Nothing()"),
            (BOB, "Person(name='bob')"),
            ((Place("elm"), Place("oak", 2)), "(Place(street='elm'), Place(street='oak', number=2))"),
            (Move("ann", Place("oak", 2)), "Move(who='ann', to=Place(street='oak', number=2), notes=[])"),
        ],
        ids=lambda value: value if isinstance(value, str) else type(value).__name__,
    )
    def test_leaves_out_what_has_its_default(self, thing: object, text: str) -> None:
        assert rendering.value(thing) == text

    def test_only_names_a_record_that_is_shown_elsewhere(self) -> None:
        assert rendering.value(Moved(ANN), [ANN]) == "Moved(person=Person(name='ann', …))"
        assert rendering.value(Moved(ANN), [BOB]) == "Moved(person=Person(name='ann', home=Place(street='elm')))"


class TestDifference:
    def test_of_equal_values_is_nothing(self) -> None:
        assert differences(Town(1, (ANN,)), Town(1, (ANN,))) == []

    def test_names_the_field_however_deep(self) -> None:
        moved = ANN._replace(home=Place("elm", 7))

        assert differences(Town(0, (ANN, BOB)), Town(2, (moved, BOB))) == [
            "hour: 0 → 2",
            "people['ann'].home.number: 1 → 7",
        ]

    def test_shows_records_that_came_and_went(self) -> None:
        assert differences(Town(people=(ANN,)), Town(people=(BOB,))) == [
            "people['ann']: - Person(name='ann', home=Place(street='elm'))",
            "people['bob']: + Person(name='bob')",
        ]

    def test_shows_what_a_set_gained_and_lost(self) -> None:
        before, after = (BOB._replace(friends=frozenset({Place(street)})) for street in ("elm", "oak"))

        assert differences(before, after) == ["friends: - Place(street='elm')", "friends: + Place(street='oak')"]

    def test_shows_a_record_whole_where_there_was_none(self) -> None:
        assert differences(BOB, BOB._replace(home=Place("elm"))) == ["home: None → Place(street='elm')"]

    def test_shows_records_of_one_name_as_they_stand(self) -> None:
        assert differences(Town(people=(BOB,)), Town(people=(BOB, BOB))) == [
            "people: (Person(name='bob')) → (Person(name='bob'), Person(name='bob'))"
        ]

    def test_shows_tuples_of_plain_values_as_they_stand(self) -> None:
        assert differences(Town(mayors=("ann",)), Town(mayors=("bob",))) == ["mayors: ('ann') → ('bob')"]

    def test_shows_a_changed_order_of_records(self) -> None:
        assert differences(Town(people=(ANN, BOB)), Town(people=(BOB, ANN))) == [
            "people: order ['ann'] ['bob'] → ['bob'] ['ann']"
        ]

    def test_of_plain_values_has_no_name(self) -> None:
        assert differences(1, 2) == [": 1 → 2"]


class TestPath:
    def test_is_a_numbered_table(self) -> None:
        there = Town(0, (ANN,))
        moved = ANN._replace(home=Place("oak"))
        steps: list[Step[Town, Move, object]] = [
            Step(Town(), Move("ann", Place("elm")), Moved(ANN), there),
            Step(there, Move("bob"), Nothing(), there),
            Step(there, Move("cat"), Moved(ANN), there._replace(people=(moved,))),
        ]

        assert rendering.path(steps).splitlines() == [
            "   1  Move(who='ann', to=Place(street='elm'), notes=[]) → Moved(person=Person(name='ann', …))",
            "        people['ann']: + Person(name='ann', home=Place(street='elm'))",
            "   2  Move(who='bob', notes=[]) → Nothing()",
            "        (nothing changed)",
            "   3  Move(who='cat', notes=[]) → Moved(person=Person(name='ann', home=Place(street='elm')))",
            "        people['ann'].home.street: 'elm' → 'oak'",
        ]

    def test_of_the_jugs_reads_like_the_solution(self) -> None:
        found = explore(toys.jugs(toys.never_four))

        assert rendering.path(found.counterexample).splitlines() == [
            "   1  'fill big' → 'done'",
            "        big: 0 → 5",
            "   2  'big to small' → 'done'",
            "        small: 0 → 3",
            "        big: 5 → 2",
            "   3  'empty small' → 'done'",
            "        small: 3 → 0",
            "   4  'big to small' → 'done'",
            "        small: 0 → 2",
            "        big: 2 → 0",
            "   5  'fill big' → 'done'",
            "        big: 0 → 5",
            "   6  'big to small' → 'done'",
            "        small: 2 → 3",
            "        big: 5 → 4",
        ]
