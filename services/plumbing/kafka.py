"""Kafka: one module knows the client. Every call has a deadline; every stop is bounded."""

import asyncio
import ssl
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import (
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    LeaderNotAvailableError,
    TopicAlreadyExistsError,
    for_code,
)
from aiokafka.protocol.fetch import FetchRequest

from schemas import topics
from schemas.envelope import Delivery, Envelope
from services.plumbing.clock import Clock
from services.plumbing.lanes import Lanes
from services.plumbing.lifecycle import bounded
from services.plumbing.settings import Settings, SettingsError

STOP_SECONDS: Final = 3.0
_LOG_APPEND_TIME: Final = 1
#: Larger than what ingest takes, so that what an app wrote straight to Kafka can still be read, and set aside.
_MAX_RECORD_BYTES: Final = 16 * 1024 * 1024
#: A lane's batch; a single message may be larger.
_MAX_BATCH_BYTES: Final = 1024 * 1024
#: A fetch that is about the end and not about what lies there: answered at once.
_FETCH_MS: Final = 1000
_FETCH_BYTES: Final = 1


def client_options(settings: Settings) -> dict[str, Any]:
    """Give what every client needs to connect."""
    settings.need("kafka_bootstrap_servers")
    options: dict[str, Any] = {
        "bootstrap_servers": settings.kafka_bootstrap_servers,
        "security_protocol": settings.kafka_security_protocol,
        "request_timeout_ms": 10_000,
        "retry_backoff_ms": 100,
    }
    if "SASL" in settings.kafka_security_protocol:
        options |= {
            "sasl_mechanism": settings.kafka_sasl_mechanism,
            "sasl_plain_username": settings.kafka_sasl_username,
            "sasl_plain_password": settings.kafka_sasl_password,
        }
    if "SSL" in settings.kafka_security_protocol:
        options["ssl_context"] = ssl.create_default_context(cafile=settings.kafka_ssl_ca_file or None)
    return options


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
        options |= {"max_request_size": _MAX_RECORD_BYTES, "max_batch_size": _MAX_BATCH_BYTES}
        if settings.kafka_idempotence != "off":
            try:
                return cls(settings, await _started(AIOKafkaProducer(**options, enable_idempotence=True)))
            except (KafkaConnectionError, TimeoutError):
                raise
            except KafkaError as error:
                if settings.kafka_idempotence == "on":
                    raise SettingsError(f"RECONCAL_KAFKA_IDEMPOTENCE: the broker cannot ({error!r})") from error
        return cls(settings, await _started(AIOKafkaProducer(**options)))

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
            "max_partition_fetch_bytes": _MAX_RECORD_BYTES // 8,
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
        """Give what a fetch says of the ends.

        The embedded broker's list of offsets counts the first record of its last batch only: too low an end would
        prove that all was read while the rest of the batch is still to come.
        """
        client = self._consumer._client  # noqa: SLF001 - there is no public way to fetch without consuming
        by_node: dict[int, dict[str, list[tuple[int, int, int]]]] = {}
        for tp, offset in listed.items():
            node = client.cluster.leader_for_partition(tp)
            if node in (None, -1):
                raise LeaderNotAvailableError(f"{tp.topic}/{tp.partition}")
            by_node.setdefault(node, {}).setdefault(tp.topic, []).append((tp.partition, offset, _FETCH_BYTES))
        found: dict[TopicPartition, int] = {}
        for node, by_topic in by_node.items():
            answer = await client.send(node, FetchRequest(_FETCH_MS, 0, _FETCH_BYTES, 0, list(by_topic.items())))
            for topic, partitions in answer.topics:
                for number, code, high_watermark, *_ in partitions:
                    if code:
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


# --- topics -----------------------------------------------------------------------------------------------------

_CONFIG: Final = {"message.timestamp.type": "LogAppendTime", "max.message.bytes": str(_MAX_RECORD_BYTES)}


class Cluster(dict[str, int]):
    """Partition counts by topic (ours only, without the prefix), and the cluster's id."""

    cluster_id: str = ""


async def inspect(settings: Settings) -> Cluster:
    """Ask the broker which of our topics it has, and who it is. Raises KafkaError."""
    admin = AIOKafkaAdminClient(**client_options(settings))
    try:
        async with asyncio.timeout(15):
            await admin.start()
            wanted = [settings.kafka_topic_prefix + name for name in topics.ALL]
            have = set(await admin.list_topics())
            known = [name for name in wanted if name in have]
            found = Cluster()
            found.cluster_id = str((await admin.describe_cluster())["cluster_id"])
            for described in await admin.describe_topics(known) if known else []:
                name = described["topic"].removeprefix(settings.kafka_topic_prefix)
                found[name] = len(described["partitions"])
            return found
    finally:
        await bounded(admin.close(), STOP_SECONDS)


async def ensure_topics(settings: Settings) -> list[str]:
    """Make the topics that are not there yet; gives their names. Raises KafkaError."""
    have = await inspect(settings)
    missing = [name for name in topics.ALL if name not in have]
    if not missing:
        return []
    admin = AIOKafkaAdminClient(**client_options(settings))
    try:
        async with asyncio.timeout(30):
            await admin.start()
            answer = await admin.create_topics(
                [
                    NewTopic(
                        settings.kafka_topic_prefix + name,
                        settings.kafka_partitions,
                        settings.kafka_replication_factor,
                        topic_configs=_CONFIG,
                    )
                    for name in missing
                ]
            )
    finally:
        await bounded(admin.close(), STOP_SECONDS)
    for topic_error in answer.topic_errors:
        code = topic_error[1]
        if code and for_code(code) is not TopicAlreadyExistsError:
            raise for_code(code)(f"{topic_error[0]}: {topic_error[2] if len(topic_error) > 2 else ''}")  # noqa: PLR2004
    return missing


def partition_count(found: Cluster) -> int:
    """Give the partition count of the three input topics. Raises SettingsError that names those that do not fit."""
    missing = [name for name in topics.INPUTS if name not in found]
    if missing:
        raise SettingsError(f"topics that are not there: {', '.join(missing)}; `reconcal topics` makes them")
    counts = {name: found[name] for name in topics.INPUTS}
    if len(set(counts.values())) > 1:
        said = ", ".join(f"{name} has {count}" for name, count in counts.items())
        raise SettingsError(f"the input topics must have the same partition count: {said}")
    return next(iter(counts.values()))
