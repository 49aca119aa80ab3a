"""A proxy that pools transactions, as a client meets one: on the loopback, before a server of our own.

It signs its clients in by itself. A client gets one of the server sessions with the first message of a transaction, and
gives it back with the answer that ends it; nothing is reset in between, and prepared statements keep their names.
"""

import asyncio
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Literal

Order = Literal["last in", "first in"]
"""Which of its free sessions the proxy hands out: the one that was given back last, or the one that waited longest."""

LIMIT_SECONDS: Final = 10.0
_LENGTH: Final = struct.Struct("!i")
_PROTOCOL_3: Final = 196_608
_ANSWERED: Final = b"QS"  # the messages after which a server says when it is ready for the next
_READY: Final = b"Z"
_IDLE: Final = b"I"


class Stream:
    """One end of a connection that speaks the server's protocol."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def startup(self) -> bytes:
        """The body of a first message, which has no type."""
        (length,) = _LENGTH.unpack(await self._reader.readexactly(4))
        return await self._reader.readexactly(length - 4)

    async def message(self) -> tuple[bytes, bytes]:
        """A message's type, and the whole of it."""
        head = await self._reader.readexactly(5)
        (length,) = _LENGTH.unpack(head[1:])
        return head[:1], head + await self._reader.readexactly(length - 4)

    async def send(self, message: bytes) -> None:
        """Write it out."""
        self._writer.write(message)
        await self._writer.drain()

    def close(self) -> None:
        """End it."""
        self._writer.close()


class PoolingProxy:
    """The proxy, with so many sessions on one database of the server whose socket is in this directory."""

    def __init__(self, socket: Path, user: str, database: str, order: Order, sessions: int) -> None:
        self._socket = socket
        self._startup = b"".join(
            word.encode() + b"\0" for word in ("user", user, "database", database, "client_encoding", "UTF8")
        )
        self._location = f"postgresql://{user}@127.0.0.1:{{}}/{database}?sslmode=disable&gssencmode=disable"
        self._order = order
        self._count = sessions
        self._greeting = b""
        self._clients: set[asyncio.Task[None]] = set()

    async def start(self) -> str:
        """Answer from now on; where."""
        self._free: asyncio.Queue[Stream] = asyncio.LifoQueue() if self._order == "last in" else asyncio.Queue()
        self._servers = [await self._session() for _ in range(self._count)]
        for server in self._servers:
            self._free.put_nowait(server)
        self._listener = await asyncio.start_server(self._accepted, "127.0.0.1", 0)
        return self._location.format(self._listener.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """End every connection."""
        self._listener.close()
        clients = list(self._clients)
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
        for server in self._servers:
            server.close()

    async def _session(self) -> Stream:
        server = Stream(*await asyncio.open_unix_connection(self._socket))
        await server.send(_LENGTH.pack(len(self._startup) + 9) + _LENGTH.pack(_PROTOCOL_3) + self._startup + b"\0")
        self._greeting, kind = b"", b""
        while kind != _READY:
            kind, message = await server.message()
            assert kind != b"E", message
            self._greeting += message
        return server

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._clients.add(task)
        client = Stream(reader, writer)
        try:
            with suppress(asyncio.IncompleteReadError, ConnectionError):  # the client has gone
                await client.startup()
                await client.send(self._greeting)
                while await self._transaction(client):
                    pass
        finally:
            self._clients.discard(task)
            client.close()

    async def _transaction(self, client: Stream) -> bool:
        kind, message = await client.message()
        if kind == b"X":
            return False
        server = await self._free.get()
        try:
            while await self._exchange(client, server, kind, message) != _IDLE:
                kind, message = await client.message()
        except (asyncio.IncompleteReadError, ConnectionError):
            await self._roll_back(server)
            raise
        finally:
            self._free.put_nowait(server)
        return True

    @staticmethod
    async def _exchange(client: Stream, server: Stream, kind: bytes, message: bytes) -> bytes:
        """Pass messages on until the server is ready for the next; the state of its transaction."""
        await server.send(message)
        while kind not in _ANSWERED:
            kind, message = await client.message()
            await server.send(message)
        while kind != _READY:
            kind, message = await server.message()
            await client.send(message)
        return message[-1:]

    @staticmethod
    async def _roll_back(server: Stream) -> None:
        kind = b""
        text = b"ROLLBACK\0"
        await server.send(b"Q" + _LENGTH.pack(4 + len(text)) + text)
        while kind != _READY:
            kind, _ = await server.message()


@contextmanager
def pooling_proxy(socket: Path, user: str, database: str, *, order: Order, sessions: int) -> Iterator[str]:
    """The location of the database by way of such a proxy, which lasts as long as the block."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="proxy")
    thread.start()
    proxy = PoolingProxy(socket, user, database, order, sessions)
    try:
        yield asyncio.run_coroutine_threadsafe(proxy.start(), loop).result(LIMIT_SECONDS)
    finally:
        asyncio.run_coroutine_threadsafe(proxy.stop(), loop).result(LIMIT_SECONDS)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(LIMIT_SECONDS)
        loop.close()
