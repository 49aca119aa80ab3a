"""The catalogue itself: each entry still fits the code, and names promises that exist; each promise has an entry."""

import pytest

from prompt_studio_model.invariants import ALWAYS
from tests.mutants.catalogue import ROOT, Mutant, Stale, mutants

CATALOGUE = mutants()


@pytest.mark.parametrize("mutant", CATALOGUE, ids=lambda mutant: mutant.id)
def test_a_mutant_fits_the_code(mutant: Mutant) -> None:
    text = (ROOT / mutant.file).read_text(encoding="utf-8")
    assert mutant.applied_to(text) != text


@pytest.mark.parametrize("mutant", CATALOGUE, ids=lambda mutant: mutant.id)
def test_a_mutant_names_promises_that_exist(mutant: Mutant) -> None:
    assert set(mutant.invariant) <= {promise.id for promise in ALWAYS}


def test_names_are_unique() -> None:
    names = [mutant.id for mutant in CATALOGUE]
    assert sorted(set(names)) == sorted(names)


def test_every_promise_but_the_one_about_two_databases_has_a_mutant() -> None:
    named = {name for mutant in CATALOGUE for name in mutant.invariant}
    without = {promise.id for promise in ALWAYS} - named
    assert without == {"INV-BACKENDS-AGREE"}


def test_a_mutant_whose_line_is_gone_is_stale() -> None:
    mutant = CATALOGUE[0]
    with pytest.raises(Stale, match=mutant.id):
        mutant.applied_to("SELECT 1;")
