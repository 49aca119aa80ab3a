"""The table of outcomes: whole, without dead rules, and what the specification says in words."""

from dataclasses import replace

import pytest

from prompt_studio_model import operations as op
from prompt_studio_model.checking.explore import explore
from prompt_studio_model.invariants import Transition
from prompt_studio_model.leases import EFFECTS
from prompt_studio_model.state import TERMINAL, Job
from prompt_studio_model.table import (
    CLOSES,
    PAIRS,
    RULES,
    TABLE,
    UNREACHABLE,
    Key,
    Rule,
    credential,
    pair,
    situation,
    written_out,
)
from prompt_studio_model.worlds import WORLDS
from tests.model.rows import CALLS, CURRENT, FUTURE, NOW, ROWS, STALE, every_call

pytestmark = pytest.mark.model

MET = {pair(call, row, NOW): (call, row) for call in every_call() for row in ROWS.values()}
CLOSING = {
    "complete": {"complete", "update_completed"},
    "fail": {"fail", "fail_for_good", "retry", "update_failed"},
    "release": {"release", "update_queued"},
}


def with_a_token(call: op.JobCall, row: Job | None) -> str:
    """The five steps of the specification, in their order, over the row's columns."""
    if row is None:
        return "not_found"
    if call.token != row.lease_token:
        return "lease_lost"
    if row.status == "processing":
        return "applied"
    if row.closed_token == call.token and call.operation in CLOSING[row.closed_by or "complete"]:
        return "already"
    return "terminal" if row.status in TERMINAL else "lease_lost"


def renewed_by_name(call: op.JobCall, row: Job | None) -> str:
    """The order of decision 0001, point 14."""
    if row is None:
        return "not_found"
    if row.status in TERMINAL:
        return "terminal"
    return "applied" if row.status == "processing" and row.lease_owner == call.owner else "lease_lost"


def moved_by_an_operator(call: op.JobCall, row: Job | None, now: int) -> str:
    """Calls without a token: the moves that exist, then the same status again, then why not."""
    if row is None:
        return "not_found"
    target = {"cancel": "cancelled", "retry": "queued"}.get(call.operation, call.operation.removeprefix("update_"))
    moves = {
        "queued": {"cancelled"} | ({"processing"} if row.available_at <= now else set()),
        "processing": {"completed", "failed", "cancelled"} | ({"queued"} if call.operation != "retry" else set()),
        "failed": {"queued"},
    }
    if target in moves.get(row.status, set()):
        return "applied"
    if target == row.status and target != "processing" and call.operation != "retry":
        return "already"
    return "terminal" if row.status in TERMINAL else "refused"


def in_words(call: op.JobCall, row: Job | None) -> str:
    """The decision as the specification's sentences give it, without the table."""
    if call.token is not None:
        misspelled = call.operation in {"update_cancelled", "update_processing"}
        return "rejected" if misspelled else with_a_token(call, row)
    if call.operation == "renew":
        return "rejected" if call.owner is None else renewed_by_name(call, row)
    if call.operation in {"complete", "fail", "fail_for_good", "release"}:
        return "rejected"
    return moved_by_an_operator(call, row, NOW)


@pytest.fixture(scope="module")
def met() -> set[Key]:
    """Every pair that the world `leases` meets."""

    def label(seen: Transition) -> Key | None:
        call = seen.invocation
        if not isinstance(call, op.JobCall):
            return None
        return pair(call, seen.before.job(call.job_id), seen.before.now)

    found = explore(replace(WORLDS["leases"], promises=(), label=label))
    return {key for key in found.first_seen if isinstance(key, tuple)}


class TestTable:
    @pytest.mark.verifies("PS-CONCURRENCY-10")
    def test_decides_everything_that_can_occur_and_nothing_else(self) -> None:
        assert MET.keys() == TABLE.keys()

    def test_knows_every_call_that_names_a_job(self) -> None:
        assert {key[0] for key in TABLE} == CALLS.keys()
        # By name: a class with slots is made twice, and its first form is a subclass too until it is collected.
        assert {type(call(job_id=1)).__name__ for call in CALLS.values()} == {
            subclass.__name__ for subclass in op.JobCall.__subclasses__()
        }

    @pytest.mark.verifies("PS-CONCURRENCY-9", "PS-CONCURRENCY-10", "PS-CONCURRENCY-17", "PS-CONCURRENCY-18")
    @pytest.mark.verifies("PS-CONCURRENCY-12", "PS-CONCURRENCY-19")
    @pytest.mark.parametrize("key", sorted(TABLE), ids="/".join)
    def test_says_what_the_specification_says_in_words(self, key: Key) -> None:
        call, row = MET[key]

        assert TABLE[key] == in_words(call, row)

    def test_says_the_same_of_every_call_and_row_that_share_a_key(self) -> None:
        for call in every_call():
            for row in ROWS.values():
                assert TABLE[pair(call, row, NOW)] == in_words(call, row), (call, row)

    def test_has_an_effect_for_every_call_that_it_accepts_and_for_no_other(self) -> None:
        accepted = {(key[0], key[2] in {"none", "owner"}) for key, decision in TABLE.items() if decision == "applied"}
        with_effect = {
            (operation, tokenless)
            for operation, effects in EFFECTS.items()
            for tokenless, effect in enumerate(effects)
            if effect is not None
        }

        assert accepted - {("update_processing", True)} == with_effect

    def test_marks_a_row_as_closed_by_the_call_of_which_each_spelling_is_one(self) -> None:
        closed_by = {operation: by for by, operations in CLOSING.items() for operation in operations}

        assert closed_by == CLOSES


class TestRules:
    @pytest.mark.parametrize("number", range(len(RULES)))
    def test_decides_at_least_one_pair_that_no_earlier_rule_decides(self, number: int) -> None:
        before, with_it = written_out(RULES[:number]), written_out(RULES[: number + 1])

        assert len(with_it) > len(before), RULES[number]

    def test_that_comes_first_wins(self) -> None:
        rules = (Rule("renew", "live", "current", "applied"), Rule("renew", "live expired", "current", "refused"))

        assert written_out(rules) == {
            ("renew", "live", "current"): "applied",
            ("renew", "expired", "current"): "refused",
        }


class TestSituation:
    @pytest.mark.parametrize("name", ROWS)
    def test_is_told_by_the_row_and_the_clock(self, name: str) -> None:
        assert situation(ROWS[name], NOW) == name

    @pytest.mark.verifies("PS-CONCURRENCY-4")
    @pytest.mark.parametrize(
        ("earlier", "later"), [("delayed", "queued"), ("backing_off", "requeued"), ("live", "expired")]
    )
    def test_changes_at_the_very_moment(self, earlier: str, later: str) -> None:
        assert [situation(ROWS[earlier], now) for now in (NOW, NOW + 1)] == [earlier, later]


class TestCredential:
    @pytest.mark.parametrize(
        ("call", "expected"),
        [
            (op.Complete(job_id=1, token=STALE), "stale"),
            (op.Complete(job_id=1, token=CURRENT), "current"),
            (op.Complete(job_id=1, token=FUTURE), "future"),
            (op.Complete(job_id=1, owner="a"), "none"),
            (op.Renew(job_id=1, lease=1), "none"),
            (op.Renew(job_id=1, lease=1, owner="a"), "owner"),
            (op.Renew(job_id=1, lease=1, owner="b"), "other"),
            (op.Renew(job_id=1, lease=1, owner="b", token=CURRENT), "current"),
        ],
    )
    def test_is_the_token_and_only_for_old_renewals_the_name(self, call: op.JobCall, expected: str) -> None:
        assert credential(call, ROWS["live"]) == expected

    def test_for_a_row_that_is_not_there_is_a_token_that_was_never_given(self) -> None:
        assert credential(op.Complete(job_id=1, token=STALE), None) == "future"
        assert credential(op.Renew(job_id=1, lease=1, owner="a"), None) == "other"


class TestPairs:
    @pytest.mark.untraced
    def test_are_all_reachable(self, met: set[Key]) -> None:
        assert met == PAIRS
        assert {key for key in met if key[1:] in UNREACHABLE} == set()

    def test_called_unreachable_exist(self) -> None:
        assert UNREACHABLE.keys() - {key[1:] for key in TABLE} == set()
        assert len(PAIRS) < len(TABLE)
