"""A wire to PostgreSQL that breaks exactly in COMMIT: nobody knows what became of the transaction."""

import asyncio
from contextvars import ContextVar
from typing import Final

from tests.support.tcp_proxy import TcpProxy

#: The message of a client that ends its transaction, as asyncpg spells it.
_COMMIT: Final = b"Q\x00\x00\x00\x0cCOMMIT;\x00"
#: Of one connection: PostgreSQL's next word is the last, and does not arrive.
_last_word: ContextVar[asyncio.Event] = ContextVar("last_word")


class CommitCutter(TcpProxy):
    """While `armed`, cuts every so many commits: in turn before PostgreSQL hears of it, and after it has committed."""

    def __init__(self, target_host: str, target_port: int, *, every: int) -> None:
        """Let `every - 1` commits pass between two cuts. See TcpProxy."""
        super().__init__(target_host, target_port)
        self.armed = False
        self.unheard = self.unanswered = 0
        self._every, self._commits = every, 0

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _last_word.set(asyncio.Event())
        await super()._connect(reader, writer)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asks = writer.get_extra_info("peername")[:2] == self.target
        while data := await reader.read(65536):
            if _last_word.get().is_set() or (asks and _COMMIT in data and self._cuts_now()):
                raise ConnectionResetError
            writer.write(data)
            await writer.drain()

    def _cuts_now(self) -> bool:
        """Say whether to break the wire now; every other time it breaks at PostgreSQL's answer instead."""
        if not self.armed:
            return False
        self._commits += 1
        if self._commits % self._every:
            return False
        if self.unheard > self.unanswered:
            self.unanswered += 1
            _last_word.get().set()
            return False
        self.unheard += 1
        return True
