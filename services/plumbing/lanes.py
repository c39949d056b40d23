"""One lane a partition: while a request is on its way, what comes meanwhile waits and goes with the next.

A client that hands over message by message costs more than reading, checking and answering an HTTP request. Lanes hand
over batches that are as large as the broker is slow, and no message waits for a timer.
"""

import asyncio
import copy
from collections.abc import Awaitable
from functools import lru_cache
from typing import Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError
from aiokafka.partitioner import murmur2
from aiokafka.producer.message_accumulator import BatchBuilder

from schemas.envelope import Delivery

#: Messages that may wait in one lane; beyond that the sender is told to come again.
WAITING_MAX: Final = 10_000


class LaneFull(TimeoutError):  # noqa: N818 - a passing state, not an error of ours
    """So much waits for the broker already that nothing more is taken."""


def partition_of(key: str, partitions: int) -> int:
    """Give the partition that Kafka's default partitioner (murmur2) puts a key on."""
    return int(murmur2(key.encode()) & 0x7FFFFFFF) % partitions


class Lane:
    """Sends one partition's messages in order, one batch at a time."""

    def __init__(self, producer: AIOKafkaProducer, topic: str, partition: int) -> None:
        """Nothing waits yet."""
        self._producer, self._topic, self._partition = producer, topic, partition
        self._waiting: list[tuple[Delivery, asyncio.Future[None]]] = []
        self._pump: asyncio.Task[None] | None = None

    def put(self, delivery: Delivery) -> "asyncio.Future[None]":
        """Queue a message; the future is done when the broker has it on all replicas. Raises LaneFull."""
        if len(self._waiting) >= WAITING_MAX:
            raise LaneFull("too many messages wait for the broker")
        acknowledged: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((delivery, acknowledged))
        if self._pump is None or self._pump.done():
            self._pump = asyncio.ensure_future(self._run())
        return acknowledged

    async def _run(self) -> None:
        while self._waiting:
            batch = self._producer.create_batch()
            looked_at, going = 0, []
            for delivery, future in self._waiting:
                if not future.done():  # else nobody waits for it any more: it is not sent
                    if _add(batch, delivery) is None:
                        break
                    going.append(future)
                looked_at += 1
            del self._waiting[:looked_at]
            if going:
                await self._send(batch, going)

    async def _send(self, batch: object, futures: "list[asyncio.Future[None]]") -> None:
        try:
            acknowledged = await self._producer.send_batch(batch, self._topic, partition=self._partition)
            await acknowledged
        except asyncio.CancelledError:
            self._fail(futures, KafkaConnectionError("the producer was stopped"))
            raise
        except Exception as error:  # noqa: BLE001 - whoever waits is told
            self._fail(futures, error)
        else:
            _settle(futures, None)

    def _fail(self, futures: "list[asyncio.Future[None]]", error: Exception) -> None:
        """Fail a batch, and what waits behind it: it must not overtake what its sender will send again."""
        behind, self._waiting = self._waiting, []
        _settle(futures, error)
        _settle([future for _, future in behind], error)


def _add(batch: BatchBuilder, delivery: Delivery) -> object | None:
    """Put a message into a batch; None: it is full."""
    added: object | None = batch.append(
        timestamp=None, key=delivery.company_id.encode(), value=delivery.body, headers=delivery.headers()
    )
    return added


def _settle(futures: "list[asyncio.Future[None]]", error: Exception | None) -> None:
    """Tell those who still wait, each with an error of its own; one who has given up is passed over."""
    for future in futures:
        if future.done():
            continue
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(copy.copy(error))


class Lanes:
    """All lanes of one producer. Keys go where Kafka's default partitioner puts them."""

    def __init__(self, producer: AIOKafkaProducer) -> None:
        """The producer stays its owner's."""
        self._producer = producer
        self._lanes: dict[tuple[str, int], Lane] = {}
        self._counts: dict[str, int] = {}
        self._home = lru_cache(maxsize=100_000)(partition_of)

    async def learn(self, topic: str) -> int:
        """Give the topic's partition count; the broker is asked once. Raises KafkaError when the topic is not known."""
        count = self._counts.get(topic)
        if count is None:
            count = self._counts[topic] = len(await self._producer.partitions_for(topic))
        return count

    async def put(self, topic: str, delivery: Delivery) -> Awaitable[None]:
        """Queue a message. Raises KafkaError when the topic is not known, LaneFull."""
        await self.learn(topic)
        return self.put_known(topic, delivery)

    def put_known(self, topic: str, delivery: Delivery) -> "asyncio.Future[None]":
        """Queue a message on a topic that was learned; the order of calls is that of the log. Raises LaneFull."""
        number = self._home(delivery.company_id, self._counts[topic])
        lane = self._lanes.get((topic, number))
        if lane is None:
            lane = self._lanes[(topic, number)] = Lane(self._producer, topic, number)
        return lane.put(delivery)
