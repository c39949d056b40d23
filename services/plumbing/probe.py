"""Asks how far the logs go."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaTimeoutError, LeaderNotAvailableError, OffsetOutOfRangeError, for_code
from aiokafka.protocol.fetch import FetchRequest

from services.plumbing.kafka import STOP_SECONDS, client_options
from services.plumbing.lifecycle import bounded
from services.plumbing.settings import Settings

#: A fetch that is about the end and not about what lies there.
_FETCH_MS: Final = 500
_FETCH_BYTES: Final = 1


class Probe:
    """Asks for log ends. A client of its own: on a shared one the question waits behind a fetch in flight."""

    def __init__(self, settings: Settings, consumer: AIOKafkaConsumer) -> None:
        """Made by `open`."""
        self._prefix = settings.kafka_topic_prefix
        self._consumer = consumer

    @classmethod
    async def open(cls, settings: Settings) -> "Probe":
        """Connect. Raises KafkaError."""
        consumer = AIOKafkaConsumer(**client_options(settings), enable_auto_commit=False)
        try:
            async with asyncio.timeout(10):
                await consumer.start()
        except BaseException:
            await bounded(consumer.stop(), 1)
            raise
        return cls(settings, consumer)

    async def ends(self, names: Iterable[str], numbers: Iterable[int]) -> dict[tuple[str, int], int]:
        """Give the end offset of each topic's partition: one more than the last record's. Raises KafkaError."""
        tps = self._tps(names, numbers)
        async with asyncio.timeout(5):
            listed = await self._consumer.end_offsets(tps)
            return self._named(await self._high_watermarks(listed))

    async def _high_watermarks(self, listed: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        """Give the ends as a fetch of the last records tells them.

        The embedded broker's list of offsets counts the first record of its last batch only: too low an end would
        prove that all was read while the rest of the batch is still to come.
        """
        client = self._consumer._client  # noqa: SLF001 - there is no public way to fetch without consuming
        by_node: dict[int, dict[str, list[tuple[int, int, int]]]] = {}
        for tp, offset in listed.items():
            node = client.cluster.leader_for_partition(tp)
            if node in (None, -1):
                raise LeaderNotAvailableError(f"{tp.topic}/{tp.partition}")
            if offset > 0:  # of an empty partition there is nothing to say, and the embedded broker would wait
                by_node.setdefault(node, {}).setdefault(tp.topic, []).append((tp.partition, offset - 1, _FETCH_BYTES))
        found = {tp: offset for tp, offset in listed.items() if offset == 0}
        for node, by_topic in by_node.items():
            answer = await client.send(node, FetchRequest(_FETCH_MS, 0, _FETCH_BYTES, 0, list(by_topic.items())))
            for topic, partitions in answer.topics:
                for number, code, high_watermark, *_ in partitions:
                    if code and for_code(code) is not OffsetOutOfRangeError:  # its last record has expired
                        raise for_code(code)(f"{topic}/{number}")
                    tp = TopicPartition(topic, number)
                    found[tp] = max(listed[tp], high_watermark)
        if len(found) < len(listed):
            raise KafkaTimeoutError("the broker did not say where every partition ends")
        return found

    async def starts(self, names: Iterable[str], numbers: Iterable[int]) -> dict[tuple[str, int], int]:
        """Give the offset of the oldest record still there. Raises KafkaError."""
        tps = self._tps(names, numbers)
        async with asyncio.timeout(5):
            return self._named(await self._consumer.beginning_offsets(tps))

    async def close(self) -> None:
        """Stop, within a deadline."""
        await bounded(self._consumer.stop(), STOP_SECONDS)

    def _tps(self, names: Iterable[str], numbers: Iterable[int]) -> list[TopicPartition]:
        wanted = list(numbers)
        return [TopicPartition(self._prefix + name, number) for name in names for number in wanted]

    def _named(self, offsets: Mapping[TopicPartition, int]) -> dict[tuple[str, int], int]:
        return {(tp.topic[len(self._prefix) :], tp.partition): offset for tp, offset in offsets.items()}
