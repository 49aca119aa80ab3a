"""Which process of a server has a client's connection, as the system tells it: nobody else knows, on Linux."""

from pathlib import Path
from typing import Final

import httpx2

_PROCESSES: Final = Path("/proc")


def processes_of(parent: int) -> list[int]:
    """The processes that a server has started, and that listen: all have one socket, which the parent bound."""
    bound = _sockets(parent)
    return sorted(child for child in _children(parent) if bound & _sockets(child))


def process_of(answer: httpx2.Response, among: list[int]) -> int:
    """The one of these processes that has sent this answer, whose connection is still open."""
    stream = answer.extensions["network_stream"]
    here, there = (stream.get_extra_info(name)[1] for name in ("client_addr", "server_addr"))
    theirs = _socket_between(there, here)
    (found,) = (process for process in among if theirs in _sockets(process))
    return found


def _children(parent: int) -> list[int]:
    told = [task.read_text() for task in (_PROCESSES / str(parent) / "task").glob("*/children")]
    return [int(child) for children in told for child in children.split()]


def _sockets(process: int) -> set[str]:
    """What its open sockets are called."""
    found = set()
    for descriptor in (_PROCESSES / str(process) / "fd").iterdir():
        try:
            name = str(descriptor.readlink())
        except FileNotFoundError:
            continue  # it was closed meanwhile
        if name.startswith("socket:"):
            found.add(name)
    return found


def _socket_between(local: int, remote: int) -> str:
    """The socket of the connection between these ports, at the end of the first of them."""
    for line in (_PROCESSES / "net/tcp").read_text().splitlines()[1:]:
        (
            _,
            own,
            other,
            *_,
        ) = fields = line.split()
        if (int(own.partition(":")[2], 16), int(other.partition(":")[2], 16)) == (local, remote):
            return f"socket:[{fields[9]}]"
    raise AssertionError(f"there is no connection between ports {local} and {remote}")
