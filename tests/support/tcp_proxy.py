"""A wire that can be cut, stalled and slowed down."""

import asyncio
from contextlib import suppress
from typing import Final, Self

HOST: Final = "127.0.0.1"


class TcpProxy:
    """Passes bytes between its own port and a target's, until told otherwise. Lives in one event loop."""

    def __init__(self, target_host: str, target_port: int, *, port: int = 0) -> None:
        """`port`: where it listens; 0: a free one. Opens nothing yet."""
        self.port = port
        self.target = (target_host, target_port)
        #: How long each piece of data is held up, in each direction.
        self.delay_ms = 0.0
        self._server: asyncio.Server | None = None
        self._passing = asyncio.Event()
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen."""
        self._passing.set()
        await self._listen()

    async def cut(self) -> None:
        """Reset every connection and refuse new ones, until `heal`."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def stall(self) -> None:
        """Accept connections but pass nothing on, in either direction, until `heal`; what came is kept."""
        self._passing.clear()

    async def heal(self) -> None:
        """Pass everything on again; what was cut can connect anew."""
        self._passing.set()
        self.delay_ms = 0.0
        if self._server is None:
            await self._listen()

    async def stop(self) -> None:
        """Reset every connection and listen no more."""
        await self.cut()

    async def __aenter__(self) -> Self:
        """Start."""
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop."""
        await self.stop()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, HOST, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.ensure_future(self._connect(reader, writer))
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)
        connection.add_done_callback(lambda _: writer.transport.abort())  # also if it was cut before it had begun

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._passing.wait()
            far_reader, far_writer = await asyncio.open_connection(*self.target)
        except BaseException as error:
            writer.transport.abort()
            if isinstance(error, OSError):
                return
            raise
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pass(reader, far_writer))
                both.create_task(self._pass(far_reader, writer))
        except* OSError:
            pass  # one end is gone: so is the other
        finally:
            writer.transport.abort()
            far_writer.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if self.delay_ms:
                await asyncio.sleep(self.delay_ms / 1000)
            await self._passing.wait()
            writer.write(data)
            await writer.drain()
        with suppress(OSError):
            writer.write_eof()
