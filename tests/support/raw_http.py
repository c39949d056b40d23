"""An HTTP server that answers exactly the bytes that a test wants, as slowly and as broken as it wants."""

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final

import msgspec

HOST: Final = "127.0.0.1"
#: What plays one answer. When it ends, the connection stays open for the next request unless it was closed.
Play = Callable[[asyncio.StreamWriter], Awaitable[None]]


class Heard(msgspec.Struct, frozen=True):
    """A request as it came: "GET /v2/bookings/x HTTP/1.1", headers by name in lower case, body."""

    line: str
    headers: dict[str, str]
    body: bytes


class RawHttp:
    """What was heard, and what is answered next."""

    def __init__(self) -> None:
        """Answers 503 until told otherwise."""
        self.heard: list[Heard] = []
        self.connections = 0
        self.open_at_once = 0
        self.port = 0
        self.play: Play = pieces(answer(503))
        self._open = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def says(self, *parts: bytes) -> None:
        """Answer each request with these bytes, in so many packets, and keep the connection open."""
        self.play = pieces(*parts)

    def says_and_closes(self, *parts: bytes) -> None:
        """Answer with these bytes and close the connection."""

        async def play(writer: asyncio.StreamWriter) -> None:
            await pieces(*parts)(writer)
            writer.close()

        self.play = play

    def says_and_resets(self, *parts: bytes) -> None:
        """Answer with these bytes and reset the connection."""

        async def play(writer: asyncio.StreamWriter) -> None:
            await pieces(*parts)(writer)
            sock: socket.socket = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

        self.play = play

    def stays_silent(self) -> None:
        """Read each request and answer nothing."""

        async def play(_: asyncio.StreamWriter) -> None:
            await asyncio.get_running_loop().create_future()

        self.play = play

    def repeats(self, head: bytes, piece: bytes) -> None:
        """Answer a beginning, then the same piece until the other side goes away."""

        async def play(writer: asyncio.StreamWriter) -> None:
            writer.write(head)
            while True:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)

        self.play = play

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        self._open += 1
        self.open_at_once = max(self.open_at_once, self._open)
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while not writer.is_closing():
                self.heard.append(await _request(reader))
                await self.play(writer)
        self._open -= 1
        self._tasks.discard(task)
        writer.close()

    async def stop(self) -> None:
        """End all connections."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def raw_http(*, tls: ssl.SSLContext | None = None) -> AsyncIterator[RawHttp]:
    """Serve on a free port of the loopback."""
    raw = RawHttp()
    server = await asyncio.start_server(raw.connected, HOST, 0, ssl=tls)
    raw.port = server.sockets[0].getsockname()[1]
    try:
        yield raw
    finally:
        server.close()
        await raw.stop()


def answer(status: int, body: bytes = b"", *headers: str, length: int | None = None) -> bytes:
    """Give an answer's bytes; `length`: another Content-Length than the true one, none when negative."""
    lines = [f"HTTP/1.1 {status} Said So", "Content-Type: application/json; charset=utf-8", *headers]
    told = len(body) if length is None else length
    if told >= 0:
        lines.append(f"Content-Length: {told}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def chunked(status: int, body: bytes, *headers: str, size: int = 7) -> bytes:
    """Give an answer in chunks of so many bytes."""
    head = answer(status, b"", "Transfer-Encoding: chunked", *headers, length=-1)
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    return head + b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in [*parts, b""])


def pieces(*parts: bytes) -> Play:
    """Write parts one by one, each in a packet of its own as far as the system allows."""

    async def play(writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0)

    return play


async def _request(reader: asyncio.StreamReader) -> Heard:
    line, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (one.partition(":") for one in lines if one)}
    return Heard(line, headers, await reader.readexactly(int(headers.get("content-length", "0"))))
