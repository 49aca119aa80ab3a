"""The command `migrate`, as a function from its arguments to what it prints and its exit code."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import asdict
from typing import Final, NamedTuple

from prompt_studio.errors import DatabaseError, InputError
from prompt_studio.migration import migrate
from prompt_studio.storage.migrating import UTC

DONE: Final = 0
NOT_DONE: Final = 1

_EPILOG: Final = (
    "Stop the programs that use the database first, and look at a dry run. Everything happens in one transaction: "
    "whatever goes wrong, the database stays as it was. A dry run does all of it and rolls it back: on a private copy "
    "of a file; on Postgres under the same locks, and it waits no longer for others than a migration does."
)


class Answer(NamedTuple):
    """What a command prints, and its exit code."""

    text: str
    code: int


def parser() -> ArgumentParser:
    """What `python -m prompt_studio` understands."""
    root = ArgumentParser(prog="python -m prompt_studio", description="The job queue of Prompt Studio.")
    commands = root.add_subparsers(dest="command", required=True)
    command = commands.add_parser(
        "migrate",
        help="bring a database to this version of the schema",
        description="Bring a database to this version of the schema; an empty one is initialised.",
        epilog=_EPILOG,
    )
    command.add_argument("--database", required=True, metavar="LOCATION", help="a path, or a postgresql:// URL")
    command.add_argument("--dry-run", action="store_true", help="change nothing; say what, which locks, how long")
    command.add_argument(
        "--timezone",
        default=UTC,
        metavar="NAME",
        help="the zone of old times that have none, on Postgres (UTC); a dry run says which the server's is",
    )
    command.add_argument("--json", action="store_true", help="print the report as JSON")
    return root


def answer(arguments: Sequence[str]) -> Answer:
    """Run the command."""
    asked = parser().parse_args(arguments)
    try:
        report = migrate(asked.database, dry_run=asked.dry_run, timezone=asked.timezone)
    except (DatabaseError, InputError) as error:
        return Answer(f"not migrated: {error}", NOT_DONE)
    text = json.dumps(asdict(report), indent=2) if asked.json else "\n".join(report.lines())
    return Answer(text, DONE)
