"""What every command of `python -m prompt_studio` has in common: an answer, and its exit code."""

from __future__ import annotations

import os
from argparse import ArgumentParser, _SubParsersAction
from typing import Final, NamedTuple, TypeAlias

DONE: Final = 0
NOT_DONE: Final = 1
DATABASE_VARIABLE: Final = "TLDW_PS_DATABASE"

# argparse has no public name for what `add_subparsers` returns, and no brackets for it at run time.
Commands: TypeAlias = "_SubParsersAction[ArgumentParser]"


class Answer(NamedTuple):
    """What a command prints, and its exit code."""

    text: str
    code: int


def new_parser() -> ArgumentParser:
    """The program without its commands."""
    return ArgumentParser(prog="python -m prompt_studio", description="The job queue of Prompt Studio.")


def add_database(command: ArgumentParser) -> None:
    """Let a command take the database as an option, or from the environment, which `ps` does not show to everybody."""
    location = os.environ.get(DATABASE_VARIABLE) or None
    command.add_argument(
        "--database",
        required=location is None,
        default=location,
        metavar="LOCATION",
        help=f"a path, or a postgresql:// URL ({DATABASE_VARIABLE})",
    )
