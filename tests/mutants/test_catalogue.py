"""The catalogue itself: each entry still fits the code, and names promises that exist; each promise has an entry."""

import ast

import pytest

from prompt_studio_model.invariants import ALWAYS
from tests.mutants.catalogue import ROOT, Mutant, Stale, mutants
from tests.repository.requirements import known_ids

CATALOGUE = mutants()


@pytest.mark.parametrize("mutant", CATALOGUE, ids=lambda mutant: mutant.id)
def test_a_mutant_fits_the_code(mutant: Mutant) -> None:
    text = (ROOT / mutant.file).read_text(encoding="utf-8")
    changed = mutant.applied_to(text)
    assert changed != text
    if mutant.file.endswith(".py"):
        ast.parse(changed, mutant.file)  # what is no Python is noticed by no test for the right reason


@pytest.mark.parametrize("mutant", CATALOGUE, ids=lambda mutant: mutant.id)
def test_a_mutant_names_promises_that_exist(mutant: Mutant) -> None:
    # A test of one fact says which requirement it verifies; the lockstep may find a difference that has no other name.
    more = {*known_ids(), "conformance"} if mutant.suite else set()
    assert set(mutant.invariant) <= {promise.id for promise in ALWAYS} | more


def test_names_are_unique() -> None:
    names = [mutant.id for mutant in CATALOGUE]
    assert sorted(set(names)) == sorted(names)


def test_every_promise_has_a_mutant() -> None:
    named = {name for mutant in CATALOGUE for name in mutant.invariant}
    assert {promise.id for promise in ALWAYS} <= named


def test_a_mutant_whose_line_is_gone_is_stale() -> None:
    mutant = CATALOGUE[0]
    with pytest.raises(Stale, match=mutant.id):
        mutant.applied_to("SELECT 1;")
