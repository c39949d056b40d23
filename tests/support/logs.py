"""Logs as the source's contract suite sees them: what reads them, and a pen to write records past every door."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Protocol

from aiokafka import AIOKafkaProducer

from schemas import topics
from schemas.envelope import Delivery, Envelope
from services.plumbing.clock import WallClock
from services.plumbing.kafka import client_options
from services.plumbing.probe import Probe
from services.plumbing.reader import Reader
from services.plumbing.settings import Settings
from services.reconciler.ports import Ends, Position, Source
from tests.support.memory import MemoryBroker, MemoryEnds, MemorySource

PARTITIONS = 3


class Log(Protocol):
    """A log with one reader of the three inputs that was assigned all numbers and has not begun."""

    @property
    def source(self) -> Source:
        """Give what reads."""
        ...

    @property
    def ends(self) -> Ends:
        """Give what says how far it goes."""
        ...

    async def write(self, topic: str, number: int, *bodies: bytes) -> None:
        """Append records with all headers; ids are c0, c1, … by partition number."""
        ...

    async def write_batch(self, topic: str, number: int, *bodies: bytes) -> None:
        """Append records in one request, as one batch."""
        ...

    async def close(self) -> None:
        """Let go of it."""
        ...


def delivery(topic: str, number: int, body: bytes) -> Delivery:
    """Give a message of the company whose place is a partition number."""
    return Delivery(
        topic=topic,
        company_id=f"c{number}",
        ce_id=f"id-of-{body.hex()[:40]}",
        ce_source="pen",
        ce_type="test",
        received_at=datetime.now(UTC) - timedelta(seconds=90),
        body=body,
        traceparent="00-1-2-01",
    )


class LogInMemory:
    """Lists."""

    def __init__(self) -> None:
        """Empty."""
        self.broker = MemoryBroker(PARTITIONS, lambda company: int(company[1:]))
        self.source = MemorySource(self.broker, range(PARTITIONS))
        self.ends = MemoryEnds(self.broker)

    async def write(self, topic: str, number: int, *bodies: bytes) -> None:
        """See `Log`."""
        for body in bodies:
            self.broker.append(delivery(topic, number, body), at=datetime.now(UTC))

    async def write_batch(self, topic: str, number: int, *bodies: bytes) -> None:
        """See `Log`."""
        await self.write(topic, number, *bodies)

    async def close(self) -> None:
        """See `Log`."""


class LogInKafka:
    """A broker. The producer is a plain one: what it is given is all that there is of a record."""

    def __init__(self, settings: Settings, source: Reader, ends: Probe, pen: AIOKafkaProducer) -> None:
        """Made by `open`."""
        self.settings, self.source, self.ends, self._pen = settings, source, ends, pen

    @classmethod
    async def open(cls, settings: Settings) -> "LogInKafka":
        """Connect."""
        source = await Reader.open(settings, WallClock(), topics.INPUTS, group=None, partitions=PARTITIONS)
        pen = AIOKafkaProducer(**client_options(settings), acks="all")
        await pen.start()
        return cls(settings, source, await Probe.open(settings), pen)

    async def write(self, topic: str, number: int, *bodies: bytes) -> None:
        """See `Log`."""
        for body in bodies:
            given = delivery(topic, number, body)
            await self.write_raw(topic, number, body, key=given.company_id.encode(), headers=given.headers())

    async def write_batch(self, topic: str, number: int, *bodies: bytes) -> None:
        """See `Log`."""
        batch = self._pen.create_batch()
        for body in bodies:
            given = delivery(topic, number, body)
            batch.append(timestamp=None, key=given.company_id.encode(), value=body, headers=given.headers())
        await (await self._pen.send_batch(batch, self.settings.kafka_topic_prefix + topic, partition=number))

    async def write_raw(
        self,
        topic: str,
        number: int,
        body: bytes | None,
        *,
        key: bytes | None = None,
        headers: Sequence[tuple[str, bytes]] = (),
        at: datetime | None = None,
    ) -> None:
        """Append a record as a stranger would."""
        await self._pen.send_and_wait(
            self.settings.kafka_topic_prefix + topic,
            body,
            key=key,
            partition=number,
            headers=list(headers),
            timestamp_ms=int(at.timestamp() * 1000) if at else None,
        )

    async def close(self) -> None:
        """See `Log`."""
        for part in (self._pen.stop(), self.source.close(), self.ends.close()):
            await part


def beginnings(offset: int = 0, numbers: Iterable[int] = range(PARTITIONS)) -> dict[Position, int]:
    """Give one offset in all partitions of the inputs."""
    wanted = list(numbers)
    return {(topic, number): offset for topic in topics.INPUTS for number in wanted}


async def read(source: Source, count: int, *, seconds: float = 15.0, most: int = 1000) -> list[Envelope]:
    """Read so many envelopes; raises TimeoutError when they do not come."""
    found: list[Envelope] = []
    async with asyncio.timeout(seconds):
        while len(found) < count:
            found.extend(await source.poll(max_records=most, timeout_seconds=0.2))
    return found


async def nothing_comes(source: Source, *, seconds: float = 0.7) -> bool:
    """Tell whether a poll that waits as long as a fetch takes gives nothing."""
    return not await source.poll(max_records=1000, timeout_seconds=seconds)


def bodies(envelopes: Iterable[Envelope]) -> Mapping[Position, list[bytes]]:
    """Give bodies by place, in the order in which they came."""
    found: dict[Position, list[bytes]] = {}
    for envelope in envelopes:
        found.setdefault((envelope.topic, envelope.partition), []).append(envelope.body)
    return found
