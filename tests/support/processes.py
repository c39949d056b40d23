"""Our services as processes of their own, to be killed, paused and told to stop; each by its own id."""

import re
import signal
import sys
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec

from services.embedded.child import Child
from services.plumbing.settings import PREFIX, Settings
from tests.support.wait import until

#: From the start of the interpreter to the first line; the machine may be busy.
START_SECONDS: Final = 20.0
_PORT: Final = re.compile(r"(\d+)\D*$")
_TAIL_LINES: Final = 30


class Service:
    """`reconcal <role>` under these settings. What it says is in `log`; it never outlives us."""

    def __init__(self, role: str, child: Child, log: Path) -> None:
        """Made by `start`."""
        self.role, self.log = role, log
        self._child = child
        self._base_url: str | None = None

    @classmethod
    def start(cls, role: str, settings: Settings, log: Path) -> "Service":
        """Start it; it is not ready yet. Raises ChildError."""
        command = [sys.executable, "-m", "services.cli", role]
        child = Child.start(command, log=log, grace_seconds=1, env=environ_of(settings))
        return cls(role, child, log)

    @property
    def running(self) -> bool:
        """Say whether it is there, be it paused."""
        return self._child.running

    @property
    def exit_code(self) -> int | None:
        """Give the code that it ended with, 256 - n where signal n ended it; None while it runs."""
        return self._child._guard.poll()

    def kill(self) -> None:
        """Kill -9, and wait until it is gone."""
        self._child.kill()

    def pause(self) -> None:
        """SIGSTOP: it keeps its connections and its transaction, and does nothing."""
        self._child.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT: it goes on as if no time had passed."""
        self._child.signal(signal.SIGCONT)

    def tell_to_stop(self) -> None:
        """SIGTERM."""
        self._child.signal(signal.SIGTERM)

    async def ended(self, seconds: float) -> None:
        """Wait until it has ended. Raises AssertionError with its last words when that takes longer."""

        async def gone() -> bool:
            return not self.running

        await until(gone, seconds)

    def lines(self, event: str | None = None) -> list[dict[str, Any]]:
        """Give its log lines, of one event or of all; what is no JSON is left out."""
        if not self.log.exists():
            return []
        found = [_line(raw) for raw in self.log.read_bytes().split(b"\n")]
        return [line for line in found if line and event in (None, line.get("event"))]

    async def said(self, event: str, *, times: int = 1, seconds: float = START_SECONDS) -> dict[str, Any]:
        """Wait until it has logged an event so many times; gives the latest line."""

        async def enough() -> list[dict[str, Any]]:
            found = self.lines(event)
            assert self.running, f"{self.role} ended:\n{self.last_words()}"
            return found if len(found) >= times else []

        return (await until(enough, seconds))[-1]

    async def base_url(self) -> str:
        """Give the address of its HTTP, once it has said it; later the log may have lost that line."""
        if self._base_url is None:
            address = str((await self.said("service.started"))["address"])
            port = _PORT.search(address)
            assert port, address
            self._base_url = f"http://127.0.0.1:{port[1]}"
        return self._base_url

    async def ready(self, seconds: float = START_SECONDS) -> str:
        """Wait until /readyz says so; gives the address."""
        base_url = await self.base_url()
        async with httpx.AsyncClient(base_url=base_url) as client:

            async def is_ready() -> bool:
                return (await client.get("/readyz")).status_code == httpx.codes.OK

            await until(is_ready, seconds)
        return base_url

    async def troubles(self) -> dict[str, str]:
        """Give what /readyz says is wrong, with reasons; nothing: it is ready."""
        troubles: dict[str, str] = (await self._readyz())["troubles"]
        return troubles

    async def degraded(self) -> dict[str, Any]:
        """Give what /readyz says is not as usual, though it is ready."""
        degraded: dict[str, Any] = (await self._readyz()).get("degraded", {})
        return degraded

    async def spooled(self) -> int:
        """Give how many messages lie in an ingest's spools at this moment."""
        return int((await self.degraded()).get("spool", {}).get("messages", 0))

    async def as_usual(self, seconds: float = START_SECONDS) -> str:
        """Wait until it is ready and nothing is unusual: ingest has reached Kafka, too. Gives the address."""

        async def usual() -> bool:
            return not await self.troubles() and not await self.degraded()

        await until(usual, seconds)
        return await self.base_url()

    async def _readyz(self) -> dict[str, Any]:
        async with httpx.AsyncClient(base_url=await self.base_url()) as client:
            answer = await client.get("/readyz")
        said: dict[str, Any] = answer.json()
        assert (answer.status_code == httpx.codes.OK) is (not said["troubles"])
        return said

    async def metric(self, name: str) -> float:
        """Give the sum of a metric over its labels."""
        async with httpx.AsyncClient(base_url=await self.base_url()) as client:
            text = (await client.get("/metrics")).text
        rows = [line for line in text.splitlines() if line.startswith((f"{name} ", f"{name}{{"))]
        return sum(float(row.rpartition(" ")[2]) for row in rows)

    def last_words(self) -> str:
        """Give the end of its log, for people."""
        text = self.log.read_text("utf-8", errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-_TAIL_LINES:])


def environ_of(settings: Settings) -> dict[str, str]:
    """Spell settings as the environment that gives them."""
    return {f"{PREFIX}{name.upper()}": str(value) for name, value in msgspec.structs.asdict(settings).items()}


def _line(raw: bytes) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(raw)
    except msgspec.DecodeError:
        return {}
    return found if isinstance(found, dict) else {}
