"""What the embedded servers have in common: one child on one port, and a scratch directory that goes with it."""

import asyncio
from abc import ABC, abstractmethod
from tempfile import TemporaryDirectory
from typing import Final, Self

from services.embedded.child import Child, ChildError
from services.embedded.ports import free_port

#: A free port can be taken by another process before the child has it.
_TRIES: Final = 3


class EmbeddedServer(ABC):
    """One server on 127.0.0.1, started and stopped as a child of this process."""

    def __init__(self, port: int | None) -> None:
        """`port`: a free one unless given. Opens nothing yet."""
        self._wanted_port = port
        self._port = 0
        self._child: Child | None = None
        self._scratch: TemporaryDirectory[str] | None = None

    @property
    def pid(self) -> int | None:
        """Give the server's process id while it runs."""
        return self._child.pid if self._child is not None and self._child.running else None

    async def start(self) -> None:
        """Start it and wait until it answers, within a deadline of its own. Raises ChildError."""
        for left in reversed(range(_TRIES if self._wanted_port is None else 1)):
            try:
                return await self._start(self._wanted_port or free_port())
            except BaseException as error:
                started = self._child is not None
                await self.stop()
                if not (isinstance(error, ChildError) and started and left):  # else: the free port was taken meanwhile
                    raise
        return None

    async def stop(self) -> None:
        """Stop it, within the child's grace."""
        if self._child is not None:
            await asyncio.to_thread(self._child.stop)
        if self._scratch is not None:
            await asyncio.to_thread(self._scratch.cleanup)
        self._child = self._scratch = None

    async def __aenter__(self) -> Self:
        """Start."""
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop."""
        await self.stop()

    @abstractmethod
    async def _start(self, port: int) -> None:
        """Start the child on a port and wait until it answers. Raises ChildError."""
