"""The command `migrate`: what it takes, and what it answers."""

from __future__ import annotations

import json
from argparse import Namespace
from dataclasses import asdict
from typing import Final

from prompt_studio.command import DONE, NOT_DONE, Answer, Commands, add_database
from prompt_studio.errors import DatabaseError, InputError
from prompt_studio.migration import migrate
from prompt_studio.storage.migrating import UTC

_EPILOG: Final = (
    "Stop the programs that use the database first, and look at a dry run. Everything happens in one transaction: "
    "whatever goes wrong, the database stays as it was. A dry run does all of it and rolls it back: on a private copy "
    "of a file; on Postgres under the same locks, and it waits no longer for others than a migration does."
)


def add_to(commands: Commands) -> None:
    """Teach the program this command."""
    command = commands.add_parser(
        "migrate",
        help="bring a database to this version of the schema",
        description="Bring a database to this version of the schema; an empty one is initialised.",
        epilog=_EPILOG,
    )
    add_database(command)
    command.add_argument("--dry-run", action="store_true", help="change nothing; say what, which locks, how long")
    command.add_argument(
        "--timezone",
        default=UTC,
        metavar="NAME",
        help="the zone of old times that have none, on Postgres (UTC); a dry run says which the server's is",
    )
    command.add_argument("--json", action="store_true", help="print the report as JSON")
    command.set_defaults(run=answer)


def answer(asked: Namespace) -> Answer:
    """Run the command."""
    try:
        report = migrate(asked.database, dry_run=asked.dry_run, timezone=asked.timezone)
    except (DatabaseError, InputError) as error:
        return Answer(f"not migrated: {error}", NOT_DONE)
    text = json.dumps(asdict(report), indent=2) if asked.json else "\n".join(report.lines())
    return Answer(text, DONE)
