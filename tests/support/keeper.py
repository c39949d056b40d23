"""A keeper whose log is a list, and a broker of lists for the keeper that spools."""

import asyncio
import copy
from collections.abc import Callable, Sequence
from random import Random

from aiokafka.errors import KafkaConnectionError

from schemas.envelope import Delivery


class MemoryKeeper:
    """Keeps in memory; while `away` is an error, it raises that and keeps nothing."""

    def __init__(self) -> None:
        """Begin empty, and there."""
        self.kept: list[Delivery] = []
        self.away: Exception | None = None

    async def keep(self, deliveries: Sequence[Delivery]) -> None:
        """Keep all, or none."""
        if self.away is not None:
            raise self.away
        self.kept.extend(deliveries)


class MemorySender:
    """Writes to lists, lane by lane, as plumbing's lanes do: batch after batch, and what is behind a failure fails.

    `stalled`: nothing is written or answered; `mute`: what is written is not answered; `error`: nothing is written.
    """

    def __init__(self, lane_of: Callable[[Delivery], object] = lambda delivery: delivery.topic) -> None:
        """`lane_of` tells whose order counts together."""
        self.log: list[Delivery] = []
        self.stalled = self.mute = False
        self.error: Exception | None = None
        self._lane_of = lane_of
        self._waiting: dict[object, list[tuple[Delivery, asyncio.Future[None]]]] = {}

    def put(self, delivery: Delivery) -> "asyncio.Future[None]":
        """Queue a message."""
        loop = asyncio.get_running_loop()
        sending: asyncio.Future[None] = loop.create_future()
        lane = self._lane_of(delivery)
        self._waiting.setdefault(lane, []).append((delivery, sending))
        loop.call_soon(self.work, lane)
        return sending

    def recover(self) -> None:
        """Be well again, and do what waits."""
        self.stalled, self.mute, self.error = False, False, None
        for lane in list(self._waiting):
            self.work(lane)

    def work(self, lane: object) -> None:
        """Write what waits in a lane."""
        if self.stalled:
            return
        waiting = [one for one in self._waiting.pop(lane, []) if not one[1].done()]
        for delivery, sending in waiting:
            if self.error is None:
                self.log.append(delivery)
            if self.error is not None:
                sending.set_exception(copy.copy(self.error))
            elif not self.mute:
                sending.set_result(None)


class MoodySender(MemorySender):
    """Works when it likes: batches that are written, refused, written without an answer, or late, by a seed."""

    def __init__(self, random: Random, lane_of: Callable[[Delivery], object]) -> None:
        """`random` decides; `well` ends it."""
        super().__init__(lane_of)
        self._random = random
        self._busy: set[object] = set()
        self.well = False

    def work(self, lane: object) -> None:
        """Take a batch; the next one when it has ended."""
        if lane in self._busy or not self._waiting.get(lane):
            return
        waiting = [one for one in self._waiting[lane] if not one[1].done()]
        most = self._random.randrange(1, 6)
        batch, self._waiting[lane] = waiting[:most], waiting[most:]
        if batch:
            self._busy.add(lane)
            mood = "well" if self.well else self._random.choice(("well", "well", "refused", "lost", "late"))
            delay_seconds = self._random.random() * (0.06 if mood == "late" else 0.004)
            asyncio.get_running_loop().call_later(delay_seconds, self._end, lane, batch, mood)

    def _end(self, lane: object, batch: list[tuple[Delivery, "asyncio.Future[None]"]], mood: str) -> None:
        self._busy.discard(lane)
        failed = mood in ("refused", "lost")
        if mood != "refused":
            self.log.extend(delivery for delivery, _ in batch)
        behind = self._waiting.pop(lane, []) if failed else []
        for _, sending in (*batch, *behind):
            if sending.done():
                continue
            if failed:
                sending.set_exception(KafkaConnectionError("moody"))
            else:
                sending.set_result(None)
        self.work(lane)
