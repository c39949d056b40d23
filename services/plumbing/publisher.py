"""Sends to topics: acks=all, idempotent where the broker can."""

import asyncio
from collections.abc import Iterable
from typing import Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError, KafkaError

from schemas.envelope import Delivery
from services.plumbing.kafka import MAX_RECORD_BYTES, STOP_SECONDS, client_options
from services.plumbing.lanes import Lanes
from services.plumbing.lifecycle import bounded
from services.plumbing.settings import Settings, SettingsError

#: A lane's batch; a single message may be larger.
_MAX_BATCH_BYTES: Final = 1024 * 1024
_LEARN_SECONDS: Final = 15.0


class Publisher:
    """Sends to topics and knows when the broker has it: acks=all, idempotent where the broker can."""

    def __init__(self, settings: Settings, producer: AIOKafkaProducer) -> None:
        """Made by `open`."""
        self._prefix = settings.kafka_topic_prefix
        self._producer = producer
        self._lanes = Lanes(producer)

    @classmethod
    async def open(cls, settings: Settings) -> "Publisher":
        """Connect. Raises KafkaError when no broker answers, SettingsError when it lacks what is demanded."""
        options = client_options(settings) | {"acks": "all", "compression_type": "lz4"}
        options |= {"max_request_size": MAX_RECORD_BYTES, "max_batch_size": _MAX_BATCH_BYTES}
        if settings.kafka_idempotence != "off":
            try:
                return cls(settings, await _started(AIOKafkaProducer(**options, enable_idempotence=True)))
            except (KafkaConnectionError, TimeoutError):
                raise
            except KafkaError as error:
                if settings.kafka_idempotence == "on":
                    raise SettingsError(f"RECONCAL_KAFKA_IDEMPOTENCE: the broker cannot ({error!r})") from error
        return cls(settings, await _started(AIOKafkaProducer(**options)))

    async def learn(self, names: Iterable[str]) -> dict[str, int]:
        """Give the partition counts of topics, so that `put` may be used for them. Raises KafkaError."""
        async with asyncio.timeout(_LEARN_SECONDS):
            return {name: await self._lanes.learn(self._prefix + name) for name in names}

    def put(self, delivery: Delivery) -> "asyncio.Future[None]":
        """Queue a message of a topic that was learned; the future is done when the broker has it on all replicas.

        In order by partition. When one fails, what waits behind it fails, too; who cancels a future takes its message
        out again, unless it is on its way already. Raises LaneFull.
        """
        return self._lanes.put_known(self._prefix + delivery.topic, delivery)

    async def publish(self, delivery: Delivery) -> None:
        """Send one message; returns when the broker has it on all replicas. Raises KafkaError.

        Bound it with `asyncio.timeout`: what was not acknowledged in time may still be written.
        """
        await (await self._lanes.put(self._prefix + delivery.topic, delivery))

    async def publish_all(self, deliveries: Iterable[Delivery]) -> None:
        """Send several, in order, as few requests as possible; returns when the broker has them all."""
        acknowledged = [await self._lanes.put(self._prefix + d.topic, d) for d in deliveries]
        if acknowledged:
            results = await asyncio.gather(*acknowledged, return_exceptions=True)
            for result in results:
                if isinstance(result, BaseException):
                    raise result

    async def close(self) -> None:
        """Stop, within a deadline."""
        await bounded(self._producer.stop(), STOP_SECONDS)


async def _started(producer: AIOKafkaProducer) -> AIOKafkaProducer:
    try:
        async with asyncio.timeout(10):
            await producer.start()
    except BaseException:
        await bounded(producer.stop(), 1)
        raise
    return producer
