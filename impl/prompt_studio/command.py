"""What every command of `python -m prompt_studio` has in common: an answer, and its exit code."""

from __future__ import annotations

from argparse import ArgumentParser, _SubParsersAction
from typing import Final, NamedTuple, TypeAlias

DONE: Final = 0
NOT_DONE: Final = 1

# argparse has no public name for what `add_subparsers` returns, and no brackets for it at run time.
Commands: TypeAlias = "_SubParsersAction[ArgumentParser]"


class Answer(NamedTuple):
    """What a command prints, and its exit code."""

    text: str
    code: int


def new_parser() -> ArgumentParser:
    """The program without its commands."""
    return ArgumentParser(prog="python -m prompt_studio", description="The job queue of Prompt Studio.")
