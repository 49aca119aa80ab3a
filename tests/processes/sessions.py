"""Which server processes a worker's connections have: noted as they come, so that it can be asked when all are gone.

A server does not notice at once that a client was killed. Until it does, the client's locks are held.
"""

import os
from pathlib import Path
from typing import Any, Final

import psycopg

SUFFIX: Final = ".sessions"

_files: dict[str, int] = {}
"""Where this process notes them: one file, that of the race it takes part in."""


def note_sessions(directory: Path, process: str) -> None:
    """From now on note the server process of each connection that is made."""
    if not _files:
        _wrap_connect()
    else:
        os.close(_files.pop("now"))
    _files["now"] = os.open(directory / f"{process}{SUFFIX}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)


def sessions_of(directory: Path, process: str) -> set[int]:
    """Those that this life of a worker has noted; one that it was just making has done nothing yet."""
    return {int(line) for line in (directory / f"{process}{SUFFIX}").read_bytes().split(b"\n")[:-1]}


def _wrap_connect() -> None:
    connection: Any = psycopg.Connection
    connect = connection.connect.__func__

    def noting(kind: type[Any], *arguments: Any, **named: Any) -> Any:  # noqa: ANN401 - psycopg's own
        handle = connect(kind, *arguments, **named)
        os.write(_files["now"], f"{handle.info.backend_pid}\n".encode())
        return handle

    connection.connect = classmethod(noting)
