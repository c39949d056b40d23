"""A shift: ingest and a reconciler at work under a steady stream, and the truth of what was sent."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

from schemas import topics
from services.embedded.ports import free_port
from services.plumbing.lifecycle import bounded
from tests.faults.scene import PARTITIONS, Scene
from tests.support.invariants import View
from tests.support.live_view import read_all
from tests.support.load import on_partition
from tests.support.processes import Service
from tests.support.steady import Steady
from tests.support.wait import until

COMPANIES: Final = [on_partition(number, PARTITIONS) for number in range(PARTITIONS)]


class Shift:
    """What runs, and how it is held to what it promised. Ingest keeps its port from start to start."""

    def __init__(self, stage: Scene, steady: Steady, ingest: Mapping[str, object]) -> None:
        """Made by `shift`."""
        self.stage, self.steady = stage, steady
        self._ingest_settings = {"ingest_port": free_port()} | dict(ingest)
        self._appointments_port = self.port
        self.ingest = self.start_ingest()
        self.reconciler: Service | None = None
        self._stop = asyncio.Event()
        self._load: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """Give ingest's port."""
        return int(str(self._ingest_settings["ingest_port"]))

    def start_ingest(self) -> Service:
        """Start ingest, also where it was before."""
        self.ingest = self.stage.start("ingest", **self._ingest_settings)
        return self.ingest

    def start_reconciler(self, **other: object) -> Service:
        """Start a reconciler."""
        self.reconciler = self.stage.start("reconciler", **other)
        return self.reconciler

    def send(self) -> None:
        """Begin to send, once ingest is ready."""
        self._load = asyncio.ensure_future(self.steady.run(self._port_of, self._stop))

    def appointments_at(self, port: int) -> None:
        """Let the app knock at another ingest's door."""
        self._appointments_port = port

    def _port_of(self, topic: str) -> int:
        return self._appointments_port if topic == topics.APP_APPOINTMENTS else self.port

    async def taken(self, more: int, seconds: float = 30.0) -> None:
        """Wait until so many more events are taken than now."""
        goal = self.steady.taken + more

        async def enough() -> bool:
            if self._load is not None and self._load.done():
                self._load.result()
            return self.steady.taken >= goal

        await until(enough, seconds)

    async def waits(self, because: str = "", seconds: float = 20.0) -> None:
        """Wait until the reconciler says that it is not ready, and gives this reason; any, if none is named."""
        reconciler = self.reconciler
        assert reconciler is not None

        async def says_so() -> bool:
            return any(reason and because in reason.lower() for reason in (await reconciler.troubles()).values())

        await until(says_so, seconds)

    async def sent(self) -> None:
        """Send no more, and wait until all of it is taken."""
        self._stop.set()
        if self._load is not None:
            await self._load

    async def holds(self, seconds: float = 60.0) -> View:
        """Send no more; nothing is lost, doubled, out of order or falsely flagged, and all still run, or it raises."""
        await self.sent()
        await self.stage.drained(seconds)
        self.steady.check(await read_all(self.stage.settings, topics.SIDES))
        view = await self.stage.holds(self.steady.planted, seconds)
        assert self.ingest.running
        assert self.reconciler is None or self.reconciler.running
        return view

    async def close(self) -> None:
        """Let go of what still sends."""
        if self._load is not None and not self._load.done():
            self._load.cancel()
            await bounded(_ended(self._load), 5)


async def _ended(load: "asyncio.Task[None]") -> None:
    await asyncio.wait({load})


@asynccontextmanager
async def shift(
    stage: Scene,
    *,
    window_seconds: float,
    per_second: float,
    lag_seconds: float = 0.5,
    companies: Sequence[str] = COMPANIES,
    sending: bool = True,
    ingest: Mapping[str, object] | None = None,
    reconciler: Mapping[str, object] | None = None,
) -> AsyncIterator[Shift]:
    """Begin a shift: both services are ready and, unless `sending` is off, the stream runs."""
    added = [await stage.company(name, window_seconds=window_seconds) for name in companies]
    steady = Steady(added, per_second, lag_seconds=lag_seconds)
    made = Shift(stage, steady, ingest or {})
    try:
        made.start_reconciler(**(reconciler or {}))
        await made.ingest.as_usual()
        assert made.reconciler is not None
        await made.reconciler.ready()
        if sending:
            made.send()
        yield made
    finally:
        await made.close()
