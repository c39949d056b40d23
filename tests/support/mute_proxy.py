"""A wire that loses the answers."""

import asyncio

from tests.support.tcp_proxy import TcpProxy


class MuteProxy(TcpProxy):
    """While `mute`, requests reach the target, and what it answers is thrown away."""

    def __init__(self, target_host: str, target_port: int, *, port: int = 0) -> None:
        """See TcpProxy."""
        super().__init__(target_host, target_port, port=port)
        self.mute = False
        self.lost_bytes = 0

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if writer.get_extra_info("peername")[:2] == self.target:
            await super()._pass(reader, writer)
            return
        while data := await reader.read(65536):
            await self._passing.wait()
            if self.mute:
                self.lost_bytes += len(data)
                continue
            writer.write(data)
            await writer.drain()
