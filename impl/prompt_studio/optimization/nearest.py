"""Which of the known names is nearest to one that is not known."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import SequenceMatcher
from typing import Final

from prompt_studio.optimization.rules import folded

CHARACTERS_COMPARED: Final = 64
"""More than the longest known name has; comparing takes a time that grows with the product of the lengths."""


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name that has most in common with this one, whatever its case; of equally near ones the first.

    However little that is, there is one: the caller decides what to make of it.

    Raises:
        ValueError: nothing is known.
    """
    matcher = SequenceMatcher(autojunk=False)
    matcher.set_seq2(folded(name[:CHARACTERS_COMPARED].strip()))

    def likeness(other: str) -> float:
        matcher.set_seq1(other)
        return matcher.ratio()

    return max(known, key=likeness)
