"""`python -m prompt_studio.web`: the HTTP interface by itself, on SQLite by default.

What its processes need to know stands in their environment: uvicorn starts several of them from a name, and a password
is nothing for a command line that everybody can read.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from prompt_studio.config import Settings, switch
from prompt_studio.database import PromptStudioDatabase
from prompt_studio.errors import DatabaseError, InputError
from prompt_studio.optimization.gates import switched_on

try:
    import uvicorn
    from fastapi import FastAPI

    from prompt_studio.web.app import create_app
    from prompt_studio.web.tokens import Users
except ImportError as missing:
    raise SystemExit(f"{missing.name} is missing: install the extra, prompt-studio-core[web]") from missing

DATABASE_VARIABLE: Final = "TLDW_PS_DATABASE"
USERS_VARIABLE: Final = "TLDW_PS_USERS"
STRICT_VARIABLE: Final = "TLDW_PS_STRICT_KNOBS"
DATABASE_DEFAULT: Final = "prompt_studio.db"
CLIENT: Final = "web"


def app_from_environment(environment: Mapping[str, str] = os.environ) -> FastAPI:
    """The application that the environment asks for; its database is closed when the server stops.

    Raises:
        InputError: a variable breaks its rule, or there is no file of users.
        DatabaseError: the database cannot be opened.
    """
    path = environment.get(USERS_VARIABLE)
    if not path:
        raise InputError(f"{USERS_VARIABLE} must name a file of users: on each line a bearer token, a space and a user")
    users = Users.read(Path(path))
    location = environment.get(DATABASE_VARIABLE, DATABASE_DEFAULT)
    database = PromptStudioDatabase(location, CLIENT, settings=Settings.from_environment(environment))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        database.close()

    return create_app(
        database,
        users,
        strict=switch(environment, STRICT_VARIABLE, default=False),
        switched_on=switched_on(environment),
        lifespan=lifespan,
    )


def main(arguments: list[str] | None = None) -> int:
    """Serve until a signal comes; 1 if the server could not begin."""
    parser = argparse.ArgumentParser(
        prog="python -m prompt_studio.web", description="Serve Prompt Studio's HTTP interface."
    )
    parser.add_argument(
        "--database",
        default=os.environ.get(DATABASE_VARIABLE, DATABASE_DEFAULT),
        help=f"a file, or a postgresql:// URL; one with a password is best given by {DATABASE_VARIABLE}",
    )
    parser.add_argument(
        "--users",
        default=os.environ.get(USERS_VARIABLE),
        help=f"a file: on each line a bearer token, a space and the user whose it is (or {USERS_VARIABLE})",
    )
    parser.add_argument("--host", default="127.0.0.1", help="where to listen (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="(default: %(default)s)")
    parser.add_argument("--workers", type=int, default=1, help="processes (default: %(default)s)")
    parser.add_argument("--strict", action="store_true", help="refuse strategies and knobs that nobody knows")
    asked = parser.parse_args(arguments)
    if not asked.users:
        parser.error(f"--users FILE is needed: on each line a bearer token, a space and a user (or {USERS_VARIABLE})")
    os.environ |= {DATABASE_VARIABLE: asked.database, USERS_VARIABLE: asked.users}
    if asked.strict:
        os.environ[STRICT_VARIABLE] = "1"
    try:
        # Here, and once: what is wrong is said in a line, and processes that start together find a database.
        Users.read(Path(asked.users))
        PromptStudioDatabase(asked.database, CLIENT, settings=Settings.from_environment(os.environ)).close()
        switched_on(os.environ)
        switch(os.environ, STRICT_VARIABLE, default=False)
    except (InputError, DatabaseError) as error:
        print(f"not started: {error}", file=sys.stderr)
        return 1
    uvicorn.run(
        "prompt_studio.web.__main__:app_from_environment",
        factory=True,
        host=asked.host,
        port=asked.port,
        workers=asked.workers,
        log_level="warning",
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
