"""What a value may be: a handful of rules, each of which has a sentence for people and a type for pydantic.

The types are strict. True is no number, 2.0 is no whole number, and "3" is neither: whoever writes one of these meant
something else more often than not. A tuple is as good as a list, for callers in Python.
"""

from __future__ import annotations

import string
from dataclasses import dataclass
from typing import Annotated, Any, Final

from pydantic import AfterValidator, AllowInfNan, BeforeValidator, Field, Strict, StringConstraints

from prompt_studio.values import INT64_MAX, TEXT_CHARACTERS_MAX

TEXTS_MAX: Final = 1_000


_LOWER: Final = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


def folded(text: str) -> str:
    """The text as names and words are compared: A to Z in lower case, and every other character as it is.

    By all of Unicode's rules the Kelvin sign would be a k, and some capitals would become two characters.
    """
    return text.translate(_LOWER)


def _folded(value: object) -> object:
    return folded(value) if isinstance(value, str) else value


def _counted(value: object) -> object:
    """The value if it is a number of Python's own: pydantic takes whatever can be made a float, such as a Decimal."""
    if not isinstance(value, int | float):
        raise ValueError("is no number")  # noqa: TRY004 - pydantic reports this one
    return value


def _listed(value: object) -> object:
    """A tuple as a list: JSON has no other, and callers in Python mean the same by both."""
    return list(value) if isinstance(value, tuple) else value


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("is blank")
    return text


def _rising(span: list[int]) -> list[int]:
    if span[0] >= span[1]:
        raise ValueError("does not rise")
    return span


_Text = Annotated[str, Strict(), Field(min_length=1, max_length=TEXT_CHARACTERS_MAX), AfterValidator(_not_blank)]


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number within bounds."""

    at_least: int
    at_most: int = INT64_MAX

    @property
    def sentence(self) -> str:
        """The rule, as it follows "must be"."""
        bounds = _bounds(self.at_least, None if self.at_most == INT64_MAX else self.at_most)
        return f"a whole number of 64 bits{bounds}" if self.at_most == INT64_MAX else f"a whole number{bounds}"

    @property
    def annotation(self) -> Any:  # noqa: ANN401 - a type form
        """The rule, as pydantic knows it."""
        return Annotated[int, Strict(), Field(ge=self.at_least, le=self.at_most)]


@dataclass(frozen=True, slots=True)
class Number:
    """A finite number within bounds, whole or not. `above` and `below` are bounds that it may not reach."""

    at_least: float | None = None
    at_most: float | None = None
    above: float | None = None
    below: float | None = None

    @property
    def sentence(self) -> str:
        """The rule, as it follows "must be"."""
        if self.at_least is not None and self.at_most is not None:
            return f"a finite number{_bounds(self.at_least, self.at_most)}"
        bounds = [
            f"{word} {bound:g}"
            for word, bound in (
                ("above", self.above),
                ("at least", self.at_least),
                ("below", self.below),
                ("at most", self.at_most),
            )
            if bound is not None
        ]
        kind = "a finite number of 64 bits" if self.at_most is None and self.below is None else "a finite number"
        return f"{kind}, {' and '.join(bounds)}"

    @property
    def annotation(self) -> Any:  # noqa: ANN401 - a type form
        """The rule, as pydantic knows it."""
        bounds = Field(ge=self.at_least, le=self.at_most, gt=self.above, lt=self.below)
        return Annotated[float, Strict(), AllowInfNan(allow_inf_nan=False), bounds, BeforeValidator(_counted)]


@dataclass(frozen=True, slots=True)
class Word:
    """One of some words, in whatever case it is written."""

    words: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """The rule, as it follows "must be"."""
        return f"one of {', '.join(self.words)}"

    @property
    def annotation(self) -> Any:  # noqa: ANN401 - a type form
        """The rule, as pydantic knows it."""
        pattern = f"^({'|'.join(self.words)})$"
        return Annotated[str, Strict(), BeforeValidator(_folded), StringConstraints(pattern=pattern)]


@dataclass(frozen=True, slots=True)
class Text:
    """A text with something in it besides spaces."""

    @property
    def sentence(self) -> str:
        """The rule, as it follows "must be"."""
        return f"a text that is not blank, of at most {TEXT_CHARACTERS_MAX} characters"

    @property
    def annotation(self) -> Any:  # noqa: ANN401 - a type form
        """The rule, as pydantic knows it."""
        return _Text


@dataclass(frozen=True, slots=True)
class Texts:
    """A list of such texts, with at least one in it."""

    @property
    def sentence(self) -> str:
        """The rule, as it follows "must be"."""
        return f"a list of 1 to {TEXTS_MAX:,} texts, none of them blank or above {TEXT_CHARACTERS_MAX} characters"

    @property
    def annotation(self) -> Any:  # noqa: ANN401 - a type form
        """The rule, as pydantic knows it."""
        return Annotated[list[_Text], Strict(), Field(min_length=1, max_length=TEXTS_MAX), BeforeValidator(_listed)]


@dataclass(frozen=True, slots=True)
class Span:
    """Two whole numbers within bounds, the smaller one first."""

    at_least: int
    at_most: int

    @property
    def sentence(self) -> str:
        """The rule, as it follows "must be"."""
        return f"[min, max], whole numbers with {self.at_least} <= min < max <= {self.at_most}"

    @property
    def annotation(self) -> Any:  # noqa: ANN401 - a type form
        """The rule, as pydantic knows it."""
        within = Field(ge=self.at_least, le=self.at_most)
        pair = Annotated[list[Annotated[int, Strict(), within]], Strict(), Field(min_length=2, max_length=2)]
        return Annotated[pair, AfterValidator(_rising), BeforeValidator(_listed)]


Rule = Whole | Number | Word | Text | Texts | Span


def _bounds(at_least: float | None, at_most: float | None) -> str:
    if at_most is None:
        return "" if at_least is None else f", at least {at_least:,}"
    return f" from {at_least:,} to {at_most:,}"
