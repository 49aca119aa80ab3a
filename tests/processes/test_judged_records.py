"""The judges of jobs, keys and locks each find the history that breaks their promise, and let its neighbour pass."""

from typing import Final

import pytest

from tests.harness.evidence import FinalKey
from tests.harness.history import Asked, Told
from tests.processes.story import Story

pytestmark = pytest.mark.processes

KEY: Final = ("job", "k", "ann")


class TestNothingLost:
    def test_finds_an_acknowledged_job_that_is_not_there(self) -> None:
        story = Story()
        story.create(1)
        story.create(2)
        story.row(1)
        assert story.names() == ["INV-NOTHING-LOST"]
        assert [finding.sort for finding in story.findings()] == ["lost"]

    def test_finds_a_job_that_nobody_made(self) -> None:
        story = Story()
        story.create(1)
        story.rows_of([1])
        story.rows.append(story.rows[0]._replace(id=2, entity_id=2))
        assert story.names() == ["INV-NOTHING-LOST"]

    @pytest.mark.parametrize("there", [True, False])
    def test_lets_a_job_whose_maker_got_no_answer_be_there_or_not(self, *, there: bool) -> None:
        story = Story()
        story.create(1)
        story.say("b", Asked("create", entity_id=2), None)
        story.row(1)
        if there:
            story.rows.append(story.rows[0]._replace(id=2, entity_id=2))
        assert story.names() == []

    def test_finds_one_of_them_there_twice(self) -> None:
        story = Story()
        story.create(1)
        story.say("b", Asked("create", entity_id=2), None)
        story.row(1)
        story.rows += [story.rows[0]._replace(id=2, entity_id=2), story.rows[0]._replace(id=3, entity_id=2)]
        assert story.names() == ["INV-NOTHING-LOST"]

    def test_finds_a_job_that_was_to_have_had_no_effect(self) -> None:
        story = Story()
        story.create(1)
        story.refused("b", Asked("create", entity_id=2), "conflict")
        story.row(1)
        story.rows.append(story.rows[0]._replace(id=2, entity_id=2))
        assert story.names() == ["INV-NOTHING-LOST"]

    def test_finds_an_id_that_was_given_twice(self) -> None:
        story = Story()
        story.create(1)
        story.create(1)
        story.row(1)
        assert story.names() == ["INV-NOTHING-LOST"]

    def test_finds_a_job_that_became_another(self) -> None:
        story = Story()
        story.create(1)
        story.row(1, priority=6)
        assert story.names() == ["INV-NOTHING-LOST"]

    @pytest.mark.parametrize(("drained", "broken"), [(True, ["INV-NOTHING-LOST"]), (False, [])])
    def test_finds_a_job_that_is_stuck(self, *, drained: bool, broken: list[str]) -> None:
        story = Story()
        story.create(1)
        story.acquire("a", 1)
        story.row(1)
        assert story.names(drained=drained) == broken

    def test_lets_a_drain_pass_that_ended_every_job(self) -> None:
        story = Story()
        story.create(1)
        story.acquire("a", 1)
        story.close("a", "complete", 1, 1)
        story.row(1, ("a", "complete"))
        assert story.names(drained=True) == []


class TestOneEffectPerKey:
    def test_lets_rivals_pass_that_were_told_one_winner(self) -> None:
        story = Story()
        story.record("a", KEY, 1, 1, created=True)
        story.record("b", KEY, 2, 1, created=False)
        story.say("c", Asked("lookup", scope=KEY), Told("found", entity_id=1))
        story.keys.append(FinalKey(KEY, 1))
        assert story.names() == []

    @pytest.mark.parametrize(
        ("told", "created", "rows", "broken"),
        [
            (2, False, [1], "told another winner"),
            (1, True, [1], "told that it was first, too"),
            (1, False, [1, 1], "two rows"),
            (1, False, [2], "another row than was told"),
            (1, False, [], "no row"),
        ],
    )
    def test_finds_rivals_that_disagree(self, told: int, rows: list[int], broken: str, *, created: bool) -> None:
        story = Story()
        story.record("a", KEY, 1, 1, created=True)
        story.record("b", KEY, 2, told, created=created)
        story.keys += [FinalKey(KEY, entity_id) for entity_id in rows]
        assert story.names() == ["INV-ONE-EFFECT-PER-KEY"], broken

    @pytest.mark.parametrize(("proposed", "broken"), [(1, []), (2, ["INV-ONE-EFFECT-PER-KEY", "INV-NO-CROSS-USER"])])
    def test_lets_the_winner_be_one_that_got_no_answer(self, proposed: int, broken: list[str]) -> None:
        story = Story()
        story.say("a", Asked("record", scope=KEY, entity_id=proposed), None)
        story.record("b", KEY, 3, 1, created=False)
        story.keys.append(FinalKey(KEY, 1))
        assert story.names() == broken

    def test_finds_an_answer_that_is_another_users(self) -> None:
        story = Story()
        bobs = (KEY[0], KEY[1], "bob")
        story.record("a", KEY, 1, 1, created=True)
        story.record("b", bobs, 2, 1, created=True)
        story.keys += [FinalKey(KEY, 1), FinalKey(bobs, 1)]
        assert story.names() == ["INV-NO-CROSS-USER", "INV-ONE-EFFECT-PER-KEY"]

    @pytest.mark.parametrize(("began", "broken"), [(41, ["INV-ONE-EFFECT-PER-KEY"]), (40, [])])
    def test_finds_a_lookup_that_missed_what_was_there(self, began: int, broken: list[str]) -> None:
        story = Story()
        story.record("a", KEY, 1, 1, created=True)
        assert story.calls[-1].responded == 40
        story.say("b", Asked("lookup", scope=KEY), Told("none"), (began, 110))
        story.keys.append(FinalKey(KEY, 1))
        assert story.names() == broken


class TestOneEntityPerKey:
    """Creates with a key: what was made, only the answers say."""

    def made(self, story: Story, process: str, entity_id: int, *, created: bool) -> None:
        story.say(process, Asked("once", scope=KEY), Told("made", entity_id=entity_id, created=created))

    def test_lets_rivals_pass_that_were_told_of_one_entity(self) -> None:
        story = Story()
        self.made(story, "a", 7, created=True)
        self.made(story, "b", 7, created=False)
        story.say("c", Asked("lookup", scope=KEY), Told("found", entity_id=7))
        story.keys.append(FinalKey(KEY, 7))
        assert story.names() == []

    @pytest.mark.parametrize(
        ("told", "created", "rows", "broken"),
        [
            (8, False, [7], "told of another entity"),
            (8, True, [7], "made another"),
            (7, False, [7, 7], "two rows"),
            (7, False, [0], "a row that stands for nothing"),
            (7, False, [], "no row"),
        ],
    )
    def test_finds_rivals_that_disagree(self, told: int, rows: list[int], broken: str, *, created: bool) -> None:
        story = Story()
        self.made(story, "a", 7, created=True)
        self.made(story, "b", told, created=created)
        story.keys += [FinalKey(KEY, entity_id) for entity_id in rows]
        assert "INV-ONE-EFFECT-PER-KEY" in story.names(), broken

    def test_finds_an_entity_that_nobody_made(self) -> None:
        story = Story()
        self.made(story, "b", 7, created=False)
        story.keys.append(FinalKey(KEY, 7))
        assert "INV-ONE-EFFECT-PER-KEY" in story.names()

    def test_lets_it_be_one_that_got_no_answer(self) -> None:
        story = Story()
        story.say("a", Asked("once", scope=KEY), None)
        self.made(story, "b", 7, created=False)
        story.keys.append(FinalKey(KEY, 7))
        assert story.names() == []

    def test_finds_a_job_that_is_there_twice(self) -> None:
        story = Story()
        story.create(1)
        job = story.calls[-1].job
        story.calls.pop()
        story.say("a", Asked("once", scope=KEY, entity_id=1), Told("made", job, 1, created=True))
        story.keys.append(FinalKey(KEY, 1))
        story.row(1)
        assert story.names() == []
        story.rows.append(story.rows[0]._replace(id=2))
        assert story.names() == ["INV-NOTHING-LOST"]

    def test_finds_a_lookup_that_missed_what_was_made(self) -> None:
        story = Story()
        self.made(story, "a", 7, created=True)
        story.say("b", Asked("lookup", scope=KEY), Told("none"))
        story.keys.append(FinalKey(KEY, 7))
        assert story.names() == ["INV-ONE-EFFECT-PER-KEY"]


class TestSchemaHolds:
    @pytest.mark.parametrize(
        ("told", "broken"),
        [(Told("broken", broken="INV-X"), ["INV-X"]), (Told("conflict"), [])],
        ids=str,
    )
    def test_finds_what_the_database_itself_refused(self, told: Told, broken: list[str]) -> None:
        story = Story()
        story.say("a", Asked("acquire"), told)
        assert story.names() == broken


class TestLocksMatch:
    @pytest.mark.parametrize(("left", "broken"), [(0, []), (1, ["INV-LOCKS-MATCH"])])
    def test_finds_locks_that_were_left(self, left: int, broken: list[str]) -> None:
        assert Story().names(locks_left=left) == broken
