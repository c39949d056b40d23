"""Reads topics from positions that the caller keeps, and gives records as envelopes."""

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import KafkaError

from schemas.envelope import WEBHOOK_VERSION, Envelope
from services.plumbing.clock import Clock
from services.plumbing.kafka import MAX_RECORD_BYTES, STOP_SECONDS, client_options
from services.plumbing.lifecycle import bounded
from services.plumbing.settings import Settings

_LOG_APPEND_TIME: Final = 1


class Reader(ConsumerRebalanceListener):
    """Reads topics from positions that the caller keeps.

    Newly assigned partitions are paused until `begin` says where to start: nothing is read from a place that
    PostgreSQL does not know of.
    """

    def __init__(
        self, settings: Settings, clock: Clock, consumer: AIOKafkaConsumer, names: tuple[str, ...], *, grouped: bool
    ) -> None:
        """Made by `open`."""
        self._prefix = settings.kafka_topic_prefix
        self._clock = clock
        self._consumer = consumer
        self._names = names
        self._grouped = grouped
        self._assigned: frozenset[int] = frozenset()
        self._generation = 0

    @classmethod
    async def open(
        cls, settings: Settings, clock: Clock, names: tuple[str, ...], *, group: str | None, partitions: int
    ) -> "Reader":
        """Connect and subscribe (or assign all partitions, where `group` is None). Raises KafkaError."""
        options = client_options(settings) | {
            "enable_auto_commit": False,
            "auto_offset_reset": "earliest",
            "max_partition_fetch_bytes": MAX_RECORD_BYTES // 8,
            "fetch_max_wait_ms": 500,
            "max_poll_interval_ms": 300_000,
        }
        if group is not None:
            options |= {
                "group_id": settings.kafka_topic_prefix + group,
                "partition_assignment_strategy": (RangePartitionAssignor,),
                "session_timeout_ms": 6_000,  # the least by default: the dead hold up the living
                "heartbeat_interval_ms": 2_000,
            }
        consumer = AIOKafkaConsumer(**options)
        reader = cls(settings, clock, consumer, names, grouped=group is not None)
        try:
            async with asyncio.timeout(15):
                await consumer.start()
        except BaseException:
            await bounded(consumer.stop(), 1)
            raise
        if group is None:
            tps = [reader._tp(name, number) for name in names for number in range(partitions)]
            consumer.assign(tps)
            await reader.on_partitions_assigned(tps)
        else:
            consumer.subscribe([reader._prefix + name for name in names], listener=reader)
        return reader

    @property
    def assigned(self) -> tuple[int, frozenset[int]]:
        """Give the number of the assignment (it counts up) and the partition numbers that are ours in it."""
        return self._generation, self._assigned

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Note that partitions are no longer ours."""
        gone = {tp.partition for tp in revoked}
        if gone:
            self._assigned -= gone
            self._generation += 1

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Note which partitions are ours; they wait until `begin`."""
        tps = list(assigned)
        if tps:
            self._consumer.pause(*tps)
        self._assigned = frozenset(tp.partition for tp in tps)
        self._generation += 1

    def begin(self, positions: Mapping[tuple[str, int], int]) -> None:
        """Read from these offsets on. Partitions that were taken away meanwhile are passed over."""
        held = self._consumer.assignment()
        for (name, number), offset in positions.items():
            tp = self._tp(name, number)
            if tp in held:
                self._consumer.seek(tp, offset)
                self._consumer.resume(tp)

    def halt(self, number: int) -> None:
        """Read no more of one partition number, in any of the topics."""
        held = self._consumer.assignment()
        tps = [tp for name in self._names if (tp := self._tp(name, number)) in held]
        if tps:
            self._consumer.pause(*tps)

    async def poll(self, *, max_records: int, timeout_seconds: float) -> list[Envelope]:
        """Give what has come, at most `max_records`; an empty list when nothing came in time."""
        found = await self._consumer.getmany(timeout_ms=int(timeout_seconds * 1000), max_records=max_records)
        now = self._clock.now()
        start = len(self._prefix)
        return [_envelope(record, record.topic[start:], now) for records in found.values() for record in records]

    async def commit(self, positions: Mapping[tuple[str, int], int]) -> None:
        """Tell Kafka how far we are, for lag tools only. Errors of a rebalance do not matter."""
        held = self._consumer.assignment()
        offsets = {tp: at for (name, number), at in positions.items() if (tp := self._tp(name, number)) in held}
        if offsets and self._grouped:
            with suppress(KafkaError, TimeoutError):
                async with asyncio.timeout(2):
                    await self._consumer.commit(offsets)

    async def positions(self, numbers: Iterable[int]) -> dict[tuple[str, int], int]:
        """Give the next offset to be read, past what holds no records (gaps, markers of transactions)."""
        held = self._consumer.assignment()
        places = [(name, number) for name in self._names for number in numbers if self._tp(name, number) in held]
        async with asyncio.timeout(2):
            return {place: await self._consumer.position(self._tp(*place)) for place in places}

    async def close(self) -> None:
        """Stop, within a deadline."""
        await bounded(self._consumer.stop(), STOP_SECONDS)

    def _tp(self, name: str, number: int) -> TopicPartition:
        return TopicPartition(self._prefix + name, number)


def _envelope(record: "ConsumerRecord[bytes, bytes]", name: str, now: datetime) -> Envelope:
    """Read a record as an envelope, headers or none.

    Where the broker stamps (LogAppendTime) its clock is the receive time, and the door's cannot be later. A producer's
    own stamp is not believed: without the door's, the moment of reading counts.
    """
    headers: dict[str, bytes] = dict(record.headers)
    stamped = datetime.fromtimestamp(record.timestamp / 1000, UTC) if record.timestamp > 0 else now
    appended_at = stamped if record.timestamp_type == _LOG_APPEND_TIME else min(stamped, now)
    fallback = appended_at if record.timestamp_type == _LOG_APPEND_TIME else now
    return Envelope(
        topic=name,
        partition=record.partition,
        offset=record.offset,
        company_id=_text(record.key),
        body=record.value or b"",
        appended_at=appended_at,
        received_at=_moment(headers.get("received_at"), fallback),
        ce_id=_text(headers.get("ce_id")),
        ce_source=_text(headers.get("ce_source")),
        ce_type=_text(headers.get("ce_type")),
        content_type=_text(headers.get("content-type")),
        traceparent=_text(headers.get("traceparent")),
        webhook_version=_text(headers.get(WEBHOOK_VERSION)),
    )


def _moment(given: bytes | None, fallback: datetime) -> datetime:
    if given is None:
        return fallback
    try:
        moment = datetime.fromisoformat(given.decode("ascii"))
    except ValueError:
        return fallback
    return min(moment, fallback) if moment.tzinfo is not None else fallback


def _text(given: bytes | None) -> str | None:
    if given is None:
        return None
    try:
        text = given.decode()
    except UnicodeDecodeError:
        return None
    return text if text and "\0" not in text else None
