"""From a deadline to its flag on Kafka: how much later the broker's stamp is. All clocks are this machine's."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final
from uuid import UUID

import msgspec
from aiokafka import AIOKafkaConsumer
from msgspec import Struct

from schemas import topics
from schemas.flags import RECORD_KINDS, Flag
from services.plumbing.kafka import client_options
from services.plumbing.publisher import Publisher
from services.plumbing.settings import Settings
from tests.bench import bodies
from tests.bench.filling import COMPANIES, delivery
from tests.bench.findings import Figure, Findings, Plan, UnmeasuredError, percentile
from tests.bench.ground import Ground, companies, stopped
from tests.support.wait import until

P99_MS: Final = 500.0
WINDOW_SECONDS: Final = 2.0
_WARM_UP: Final = 50
_PER_SECOND: Final = 100
_PATIENCE_SECONDS: Final = 60.0


class Seen(Struct, frozen=True):
    """One flag as it lies on the topic. `late_ms`: from its deadline to the broker's stamp."""

    flag_id: UUID
    appointment: str
    late_ms: float


async def measure(ground: Ground, plan: Plan) -> Findings:
    """Send appointments that stand alone, evenly, and wait for the flag of each."""
    wanted = 500 if plan.quick else 2_000
    settings = await ground.settings()
    await companies(settings, COMPANIES, WINDOW_SECONDS)
    service = ground.start("reconciler", settings)
    await service.ready()
    async with _flags(settings) as seen:
        await _sent_and_flagged(settings, range(_WARM_UP), seen)
        await _sent_and_flagged(settings, range(_WARM_UP, _WARM_UP + wanted), seen)
    await stopped(service)
    return _findings(seen, wanted)


async def _sent_and_flagged(settings: Settings, numbers: range, seen: list[Seen]) -> None:
    await _send(settings, numbers)
    expected = numbers.stop

    async def all_flagged() -> bool:
        return len({flag.appointment for flag in seen}) >= expected

    try:
        await until(all_flagged, _PATIENCE_SECONDS)
    except AssertionError:
        raise UnmeasuredError(f"{expected} appointments stood alone, {len(seen)} flags came") from None


async def _send(settings: Settings, numbers: range) -> None:
    """Send at even distances, whatever the broker takes for each."""
    publisher = await Publisher.open(settings)
    loop = asyncio.get_running_loop()
    began_at = loop.time()
    try:
        async with asyncio.TaskGroup() as tasks:
            for turn, number in enumerate(numbers):
                await asyncio.sleep(max(0.0, began_at + turn / _PER_SECOND - loop.time()))
                company = COMPANIES[number % len(COMPANIES)]
                body = bodies.appointment(company, number)
                message = delivery(topics.APP_APPOINTMENTS, company, f"evt-{number}", body)
                tasks.create_task(publisher.publish(message))
    finally:
        await publisher.close()


@asynccontextmanager
async def _flags(settings: Settings) -> AsyncIterator[list[Seen]]:
    """Read the topic of flags; the list grows."""
    consumer = AIOKafkaConsumer(
        settings.kafka_topic_prefix + topics.SYNC_FLAGS,
        **client_options(settings),
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    await consumer.start()
    seen: list[Seen] = []
    reading = asyncio.create_task(_read(consumer, seen.append))
    try:
        yield seen
    finally:
        reading.cancel()
        await asyncio.wait({reading})
        await consumer.stop()


async def _read(consumer: Any, put: Callable[[Seen], None]) -> None:
    decoder = msgspec.json.Decoder(Flag)
    async for record in consumer:
        flag = decoder.decode(record.value)
        if flag.kind not in RECORD_KINDS:
            continue  # so many orphans are a threshold crossed
        assert flag.deadline_at is not None
        assert flag.appointment is not None
        late_ms = record.timestamp - flag.deadline_at.timestamp() * 1000
        put(Seen(flag.id, flag.appointment.appointment_id, late_ms))


def _findings(seen: list[Seen], wanted: int) -> Findings:
    counts = Counter(flag.appointment for flag in seen)
    again = sum(counts.values()) - len(counts)
    late = [flag.late_ms for flag in seen[_WARM_UP:]]
    early = sum(1 for one in late if one < 0)
    named = {"p50": percentile(late, 50), "max": max(late)}
    figures = [
        Figure(what="deadline to flag on Kafka: p99", unit="ms", samples=(percentile(late, 99),), at_most=P99_MS),
        *(Figure(what=f"deadline to flag on Kafka: {name}", unit="ms", samples=(n,)) for name, n in named.items()),
        Figure(what="flags more than one an appointment", unit="", samples=(float(again),), at_most=0),
    ]
    load = f"{wanted:,} lone appointments, {_PER_SECOND}/s, window {WINDOW_SECONDS:.0f} s"
    return Findings(figures, [f"{load}; {early} flags before their deadline"])
