"""Empties the spools: a task a lane, each in order, with pauses that grow while the broker is away."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Final

from services.ingest import slots
from services.ingest.holdings import Lane
from services.ingest.keeper import Broker
from services.ingest.reports import Report
from services.ingest.slots import Slot
from services.ingest.spool import Spool, SpoolFullError
from services.ingest.spooling import SpoolKeeper
from services.plumbing import telemetry
from services.plumbing.backoff import Backoff
from services.plumbing.lifecycle import PASSING, describe, first_of
from services.plumbing.settings import Settings, SettingsError

ADOPT_SECONDS: Final = 30.0
#: At the end what is there is drained for so long; the rest is drained by whoever comes next.
LAST_SECONDS: Final = 2.0
_TICK_SECONDS: Final = 1.0
_PAUSE_SECONDS: Final = (0.1, 2.0)

Held = tuple[Slot, Spool]


async def open_spool(settings: Settings, now: Callable[[], datetime]) -> Held:
    """Take a slot and open its spool. Raises SettingsError when the directory cannot be made or written."""
    directory = Path(settings.ingest_spool_dir)
    try:
        slot = slots.take(directory)
        try:
            spool = await _open(slot, settings.ingest_spool_max_bytes, now)
            with suppress(SpoolFullError):  # it takes nothing, but what lies there can still be sent
                await spool.probe()
        except BaseException:
            slot.release()
            raise
        if spool.was_damaged():
            slot = slot.renamed()
    except OSError as error:  # a TimeoutError is one
        why = error.strerror or describe(error)
        raise SettingsError(f"RECONCAL_INGEST_SPOOL_DIR: {directory}: {why}") from None
    return slot, spool


async def _open(slot: Slot, max_bytes: int, now: Callable[[], datetime]) -> Spool:
    return await Spool.open(slot.path, max_bytes=max_bytes, now=now)


class Drainer:
    """Drains the process's own spool and those that nobody holds any more."""

    def __init__(
        self,
        keeper: SpoolKeeper,
        broker: Broker,
        own: Held,
        report: Report,
        *,
        seconds: float,
        now: Callable[[], datetime],
    ) -> None:
        """`seconds`: how long the broker has to acknowledge."""
        self._keeper, self._broker, self._own, self._report = keeper, broker, own, report
        self._seconds, self._now = seconds, now
        self._tasks: dict[Lane, asyncio.Task[None]] = {}
        self._adopted: list[Held] = []
        self._adopt_at = 0.0
        self._busy = False

    async def run(self, closed: asyncio.Event, left_seconds: Callable[[], float]) -> None:
        """Drain until `closed`, and then for `left_seconds` at most what is still there."""
        loop = asyncio.get_running_loop()
        try:
            while not closed.is_set():
                await self._tick()
                await first_of(self._keeper.begun, closed, seconds=_TICK_SECONDS)
            ends_at = loop.time() + left_seconds()
            while self._keeper.lanes() and loop.time() < ends_at:
                self._start()
                await asyncio.wait(self._tasks.values(), timeout=max(0.0, ends_at - loop.time()))
        finally:
            await self._end()

    async def _tick(self) -> None:
        self._keeper.begun.clear()
        try:
            await self.adopt()
            if self._own[1].failing:
                await self._own[1].probe()
            await self._keeper.rehome()
            await self._let_go()
            self._mind_damage()
        except PASSING as error:
            _note("ingest-spool", error)
        self._start()
        self._measure()

    def _mind_damage(self) -> None:
        """Report under another name once our spool was damaged: the old row falls silent, and decisions wait for it."""
        slot, spool = self._own
        if spool.was_damaged():
            self._own = (slot.renamed(), spool)
            self._report.door_id = self._own[0].door_id

    def detail(self) -> dict[str, object] | None:
        """Tell for /readyz how full the spool is, and how old; None: it is empty and takes what comes."""
        unsent, own = self._keeper.unsent(), self._own[1]
        if not unsent.messages and own.takes:
            return None
        age_seconds = (self._now() - unsent.oldest_at).total_seconds() if unsent.oldest_at else 0.0
        return {
            "takes": own.takes,
            "messages": unsent.messages,
            "bytes": unsent.bytes,
            "max_bytes": own.max_bytes,
            "oldest_seconds": round(age_seconds, 1),
        }

    def _start(self) -> None:
        """See to it that every lane that holds something has its task; an error of ours goes up."""
        for lane, task in list(self._tasks.items()):
            if task.done():
                del self._tasks[lane]
                task.result()
        for lane in self._keeper.lanes() - self._tasks.keys():
            self._tasks[lane] = asyncio.ensure_future(self._drain(lane))

    async def _drain(self, lane: Lane) -> None:
        backoff = Backoff(*_PAUSE_SECONDS)
        while self._keeper.holds(lane):
            try:
                await self._keeper.drain(lane, seconds=self._seconds)
                backoff.succeeded()
            except PASSING as error:
                telemetry.loop_failures.labels("ingest-drain").inc()
                telemetry.log().debug(telemetry.LOOP_FAILED, loop="ingest-drain", lane=lane, error=describe(error))
                await asyncio.sleep(backoff.failed())

    async def adopt(self) -> None:
        """Take over what others have left behind: before the doors open, and now and then."""
        loop = asyncio.get_running_loop()
        if loop.time() < self._adopt_at:
            return
        self._adopt_at = loop.time() + ADOPT_SECONDS
        for slot in slots.deserted(self._own[0].path.parent):
            try:
                spool = await _open(slot, 0, self._now)
            except PASSING as error:
                slot.release()
                _note("ingest-adopt", error)
                continue
            self._keeper.adopt(spool)
            if spool.was_damaged():
                slot = slot.renamed()  # noqa: PLW2901 - the row of the old one stays: decisions wait, and say why not
            self._report.gone.add(slot.door_id)
            self._adopted.append((slot, spool))
            held = spool.holdings
            telemetry.log().info(
                telemetry.SPOOL_ADOPTED, path=str(slot.path), messages=held.messages, bytes=held.bytes
            )  # fmt: skip

    async def _let_go(self) -> None:
        """Remove what was adopted and is done."""
        for held in list(self._adopted):
            slot, spool = held
            if not self._is_done(held):
                continue
            self._keeper.drop(spool)
            self._adopted.remove(held)
            await spool.close(remove=True)
            slot.release()

    def _is_done(self, held: Held) -> bool:
        """Tell whether an adopted spool is empty, and our row has taken its door's place."""
        return not held[1].holdings.messages and held[0].door_id not in self._report.gone

    def _measure(self) -> None:
        unsent = self._keeper.unsent()
        age_seconds = (self._now() - unsent.oldest_at).total_seconds() if unsent.oldest_at else 0.0
        telemetry.spool_messages.set(unsent.messages)
        telemetry.spool_bytes.set(unsent.bytes)
        telemetry.spool_max_bytes.set(self._own[1].max_bytes)
        telemetry.spool_oldest_seconds.set(max(0.0, age_seconds))
        if self._busy != bool(unsent.messages):
            self._busy = bool(unsent.messages)
            event = telemetry.SPOOL_BEGUN if self._busy else telemetry.SPOOL_DRAINED
            telemetry.log().warning(event, messages=unsent.messages, bytes=unsent.bytes, kafka=self._broker.trouble)

    async def _end(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=1)
        self._measure()

    async def close(self) -> None:
        """Close every spool, within a deadline each; what was adopted and is done is removed."""
        await asyncio.gather(*(_close(held, remove=self._is_done(held)) for held in self._adopted))
        await _close(self._own, remove=False)


def _note(loop: str, error: BaseException) -> None:
    telemetry.loop_failures.labels(loop).inc()
    telemetry.log().warning(telemetry.LOOP_FAILED, loop=loop, error=describe(error))


async def _close(held: Held, *, remove: bool) -> None:
    await held[1].close(remove=remove)
    held[0].release()
