"""A keeper that has a disk to fall back on. Per topic and partition, nothing overtakes what came before it.

Three ways lead a message on: straight to the broker; to the spool, when the broker is not known to take it or older
ones of its lane are there; and from the spool to the broker (`drain`). A lane's messages take them in order.
"""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache, partial
from itertools import takewhile
from typing import Final

from aiokafka.errors import MessageSizeTooLargeError, RecordListTooLargeError

from schemas.envelope import Delivery
from services.ingest.holdings import UNKNOWN, Lane
from services.ingest.keeper import Broker, NotConnectedError, Sender, Unsent
from services.ingest.spool import CHUNK_ROWS, DISK_SECONDS, Spool
from services.ingest.spool_file import Row
from services.plumbing import telemetry
from services.plumbing.lanes import LaneFull, partition_of
from services.plumbing.lifecycle import PASSING, describe

#: Requests that may wait at once; beyond that a sender is told to come again.
MOST_PENDING: Final = 20_000
#: The broker will never take such a message, however often it is sent.
_NEVER: Final = (MessageSizeTooLargeError, RecordListTooLargeError)


class _Entry:
    """What one request brought. `kept`: done when it is durable somewhere."""

    __slots__ = ("deadline", "deliveries", "kept", "left", "sending", "since")

    def __init__(self, deliveries: Sequence[Delivery], kept: "asyncio.Future[None]", since: float) -> None:
        self.deliveries, self.kept, self.since = deliveries, kept, since
        self.sending: list[asyncio.Future[None]] = []
        self.left = len(deliveries)
        self.deadline: asyncio.TimerHandle | None = None


class _Way:
    """A lane's way straight to the broker: what is on it, in order, and what goes before it, from the spool."""

    __slots__ = ("entries", "floating", "timer")

    def __init__(self) -> None:
        self.entries: dict[_Entry, None] = {}
        self.floating: list[asyncio.Future[None]] = []
        self.timer: asyncio.TimerHandle | None = None

    def failure(self) -> BaseException | None:
        """Give the error of what is on it, if nobody was told yet: with one all behind it have failed."""
        return _failure(next(reversed(self.entries)).sending[-1]) if self.entries else None


def _failure(sending: "asyncio.Future[None]") -> BaseException | None:
    if not sending.done():
        return None
    return NotConnectedError("the client was stopped") if sending.cancelled() else sending.exception()


class SpoolKeeper:
    """Keeps on the broker, or in the spool. `begun` is set when a lane has something in a spool that had nothing."""

    def __init__(self, broker: Broker, spool: Spool, after_seconds: float) -> None:
        """`after_seconds`: how long the broker has to acknowledge before what is pending goes to the spool."""
        self._broker, self._spool, self._after_seconds = broker, spool, after_seconds
        self._spools = [spool]
        self._pending: dict[_Entry, None] = {}
        self._ways: dict[Lane, _Way] = {}
        self._loop = asyncio.get_running_loop()
        self._home = lru_cache(maxsize=100_000)(partition_of)
        self._partitions: Mapping[str, int] = {}
        self._careful: set[Lane] = set()
        self.homeless = bool(spool.holdings.messages)
        self.begun = asyncio.Event()

    # --- what others may ask ---------------------------------------------------------------------------------

    def unsent(self) -> Unsent:
        """Tell what waits; nothing that was accepted before this call is missing."""
        waiting = [delivery.received_at for entry in self._pending for delivery in entry.deliveries[:1]]
        spooled = [spool.holdings.oldest_at for spool in self._spools]
        oldest_at: datetime | None = min((at for at in (*waiting, *spooled) if at is not None), default=None)
        holdings = [spool.holdings for spool in self._spools]
        return Unsent(oldest_at, sum(held.messages for held in holdings), sum(held.bytes for held in holdings))

    @property
    def trouble(self) -> str | None:
        """Tell why nothing would be taken now, neither by the broker nor by the spool."""
        why = self._broker.trouble
        return None if why is None or self._spool.takes else why

    def lanes(self) -> set[Lane]:
        """Give the lanes of which a spool holds something."""
        return {lane for spool in self._spools for lane in spool.holdings.lanes}

    def holds(self, lane: Lane) -> bool:
        """Tell whether a spool holds something of a lane."""
        return any(lane in spool.holdings.lanes for spool in self._spools)

    def adopt(self, spool: Spool) -> None:
        """Take over what another process has left behind: it goes before ours."""
        self._spools.insert(-1, spool)
        self.homeless = self.homeless or bool(spool.holdings.messages)

    def drop(self, spool: Spool) -> None:
        """Let go of an adopted spool that is empty."""
        self._spools.remove(spool)

    # --- in --------------------------------------------------------------------------------------------------

    async def keep(self, deliveries: Sequence[Delivery]) -> None:
        """Return when all are durable. Raises one of lifecycle.PASSING when neither broker nor spool took them."""
        if len(self._pending) >= MOST_PENDING:
            raise LaneFull("too many requests wait")
        entry = _Entry(deliveries, self._loop.create_future(), self._loop.time())
        self._pending[entry] = None  # before the first await: no report may overlook it
        self._take(entry)
        await entry.kept

    def _take(self, entry: _Entry) -> None:
        lane = self._lane_of(entry.deliveries[0])
        way = self._ways.get(lane)
        if way is None:
            way = self._ways[lane] = _Way()
        error = way.failure()
        if error is not None:
            self._failed(way, error)
        sender = self._broker.sender
        away = self._broker.doubt.is_set() and self._spool.takes
        if sender is None or away or lane[1] == UNKNOWN or self._blocked(lane, way):
            self._divert(way)  # what is pending is older
            self._write(entry)
        else:
            self._send(sender, way, entry)

    def _blocked(self, lane: Lane, way: _Way) -> bool:
        """Tell whether something older of a lane lies in a spool and is not on its way to the broker already."""
        if self.homeless:
            return True
        held = sum(spool.holdings.lanes.get(lane, 0) for spool in self._spools)
        if held == 0 and not way.floating:
            return False
        return held != len(way.floating) or _failure(way.floating[-1]) is not None

    def _lane_of(self, delivery: Delivery) -> Lane:
        partitions = self._broker.partitions
        if partitions is not self._partitions:
            self._meet(partitions)
        count = partitions.get(delivery.topic)
        return (delivery.topic, self._home(delivery.company_id, count) if count else UNKNOWN)

    def _meet(self, partitions: Mapping[str, int]) -> None:
        """Learn how many partitions there are: what lies in the spools may belong elsewhere than was thought."""
        changed = dict(partitions) != dict(self._partitions)
        self._partitions = partitions
        if changed and any(spool.holdings.messages for spool in self._spools):
            self.homeless = True

    # --- straight to the broker ------------------------------------------------------------------------------

    def _send(self, sender: Sender, way: _Way, entry: _Entry) -> None:
        way.entries[entry] = None
        try:
            for delivery in entry.deliveries:
                entry.sending.append(sender.put(delivery))
        except LaneFull:
            self._divert(way)
            return
        except PASSING as error:
            self._failed(way, error)
            return
        for sending in entry.sending:
            sending.add_done_callback(partial(self._sent, way, entry))
        if way.timer is None:
            way.timer = self._loop.call_later(self._after_seconds, self._look, way)

    def _sent(self, way: _Way, entry: _Entry, sending: "asyncio.Future[None]") -> None:
        error = _failure(sending)
        if entry not in way.entries:
            return
        if error is not None:
            self._failed(way, error)
            return
        entry.left -= 1
        if entry.left == 0:
            del way.entries[entry]
            self._settle(entry)

    def _look(self, way: _Way) -> None:
        """See whether the broker has acknowledged in time; one timer a lane."""
        way.timer = None
        if not way.entries:
            return
        waited_seconds = self._loop.time() - next(iter(way.entries)).since
        if waited_seconds >= self._after_seconds:
            self._failed(way, TimeoutError("the broker did not acknowledge in time"))
        else:
            way.timer = self._loop.call_later(self._after_seconds - waited_seconds, self._look, way)

    def _failed(self, way: _Way, error: BaseException) -> None:
        if not isinstance(error, _NEVER):
            self._broker.failed(error)
        self._divert(way)

    def _divert(self, way: _Way) -> None:
        """Write everything that is pending on a way to the spool, in the order in which it was accepted."""
        entries, way.entries = way.entries, {}
        for entry in entries:
            for sending in entry.sending:
                sending.cancel()
        for entry in entries:
            self._write(entry)

    # --- to the spool ----------------------------------------------------------------------------------------

    def _write(self, entry: _Entry) -> None:
        lane = self._lane_of(entry.deliveries[0])
        first = not self.holds(lane)
        try:
            written = self._spool.append(lane, entry.deliveries)
        except PASSING as error:
            self._settle(entry, error)
            return
        entry.deadline = self._loop.call_later(DISK_SECONDS, self._settle, entry, TimeoutError("the disk is too slow"))
        written.add_done_callback(partial(self._written, entry))
        if first:
            self.begun.set()

    def _written(self, entry: _Entry, written: "asyncio.Future[None]") -> None:
        error = written.exception()
        if error is None:
            telemetry.spooled.inc(len(entry.deliveries))
        self._settle(entry, error)

    def _settle(self, entry: _Entry, error: BaseException | None = None) -> None:
        self._pending.pop(entry, None)
        if entry.deadline is not None:
            entry.deadline.cancel()
        if entry.kept.done():
            return
        if error is None:
            entry.kept.set_result(None)
        else:
            entry.kept.set_exception(error)

    # --- from the spool to the broker ------------------------------------------------------------------------

    async def rehome(self) -> None:
        """Put what lies in the spools into the lanes where it belongs, if the broker has said something new about it.

        Raises OSError, TimeoutError.
        """
        partitions = self._broker.partitions
        if self._partitions is not partitions:
            self._meet(partitions)
        if not self.homeless or not partitions:
            return

        def home(topic: str, company_id: str) -> int:
            count = partitions.get(topic)
            return partition_of(company_id, count) if count else UNKNOWN

        for spool in list(self._spools):
            await spool.rehome(lru_cache(maxsize=100_000)(home))
        if partitions is self._broker.partitions:
            self.homeless = False

    async def drain(self, lane: Lane, *, seconds: float) -> int:
        """Send the oldest messages of a lane and remove them; gives how many. Raises one of lifecycle.PASSING.

        What the broker has acknowledged within `seconds` is removed also when the rest failed.
        """
        spool = next((spool for spool in self._spools if lane in spool.holdings.lanes), None)
        if spool is None:
            return 0
        if self.homeless or lane[1] == UNKNOWN:
            raise NotConnectedError("it is not known where it belongs")
        rows = await spool.oldest(lane, 1 if lane in self._careful else CHUNK_ROWS)
        way = self._ways.setdefault(lane, _Way())
        try:
            taken, error = await self._float(way, rows, seconds)
            if error is not None:
                self._broker.examine(error)
                self._divert(way)  # at once: what is behind must not go on alone
            if taken:
                self._broker.answered()
                await spool.forget(rows[:taken], way.floating.clear)
                telemetry.spool_drained.inc(taken)
            if isinstance(error, _NEVER):
                return await self._refuse(spool, lane, rows, error)
        finally:
            way.floating = []
        if error is not None:
            raise error
        return taken

    async def _float(self, way: _Way, rows: list[Row], seconds: float) -> tuple[int, BaseException | None]:
        """Send rows; gives how many from the first on were acknowledged, and why not all."""
        sender = self._broker.sender
        if sender is None:
            raise NotConnectedError("no broker was reached yet")
        sending: list[asyncio.Future[None]] = []
        error: BaseException | None = None
        try:
            for row in rows:
                sending.append(sender.put(row.delivery))
                sending[-1].add_done_callback(_failure)  # an error of what is given up is seen, too
        except PASSING as full:
            error = full
        way.floating = sending  # from here on newer ones may follow behind
        try:
            if sending:
                await asyncio.wait(sending, timeout=seconds)
        finally:
            late = [one for one in sending if one.cancel()]
        taken = sum(1 for _ in takewhile(lambda one: _failure(one) is None, sending))
        if late:
            error = TimeoutError("the broker did not acknowledge in time")
        elif taken < len(sending):
            error = _failure(sending[taken])
        return taken, error

    async def _refuse(self, spool: Spool, lane: Lane, rows: list[Row], error: Exception) -> int:
        """Lay aside what the broker will never take; it is found by sending one at a time."""
        if len(rows) > 1:
            self._careful.add(lane)
            return 0
        self._careful.discard(lane)
        await spool.refuse(rows[0], describe(error))
        telemetry.spool_refused.inc()
        telemetry.log().error(
            telemetry.SPOOL_REFUSED, company=rows[0].company_id, topic=lane[0], ce_id=rows[0].ce_id,
            error=describe(error), path=str(spool.path),
        )  # fmt: skip
        return 1
