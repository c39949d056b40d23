"""Kafka is gone, and we are told to stop: scenario 50, on Apache Kafka with real processes."""

import asyncio
import time
from typing import Final

import httpx
import pytest

from tests.faults.scene import PARTITIONS, Scene
from tests.support.kafka_server import KafkaServer
from tests.support.load import Case, Side, on_partition
from tests.support.processes import Service
from tests.support.senders import Senders

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]

COMPANY: Final = on_partition(0, PARTITIONS)
ROLES: Final = ("ingest", "reconciler", "notifier", "console")
STOP_SECONDS: Final = 10.0


async def _at_work(fragile: Scene) -> tuple[list[Service], Senders]:
    """Start every service and see that they work: an orphan is sent and flagged."""
    senders = Senders(await fragile.company(COMPANY, window_seconds=0.5))
    services = [fragile.start(role) for role in ROLES]
    addresses = [await service.ready() for service in services]
    async with httpx.AsyncClient(base_url=addresses[0]) as client:
        await senders.appointment(client, Case(COMPANY, 1, Side.APP))
    await fragile.flagged(COMPANY)
    return services, senders


async def _all_end(services: list[Service]) -> list[float]:
    """Tell all to stop; gives the seconds that each took."""
    began = time.monotonic()
    for service in services:
        service.tell_to_stop()

    async def took(service: Service) -> float:
        await service.ended(STOP_SECONDS + 5)
        return time.monotonic() - began

    return await asyncio.gather(*(took(service) for service in services))


@pytest.mark.parametrize("fate", ["paused", "killed"])
async def test_when_kafka_is_gone_every_service_ends_within_10_s_of_being_told(
    fragile: Scene, fragile_kafka: KafkaServer, fate: str
) -> None:
    """Code 70 is `lifecycle`'s last resort: it left without a goodbye, but in time."""
    services, senders = await _at_work(fragile)
    if fate == "paused":
        fragile_kafka.pause()
    else:
        await asyncio.to_thread(fragile_kafka.kill)
    async with httpx.AsyncClient(base_url=await services[0].base_url(), timeout=10) as client:
        for number in range(3, 30):
            assert (
                await senders.appointment(client, Case(COMPANY, number, Side.APP))
            ).status_code == httpx.codes.ACCEPTED
        waiting = asyncio.ensure_future(senders.appointment(client, Case(COMPANY, 2, Side.APP)))
        seconds = await _all_end(services)
        assert (await waiting).status_code == httpx.codes.ACCEPTED, "who waits is answered first, from the spool"
    print(dict(zip(ROLES, seconds, strict=True)), [service.exit_code for service in services])  # noqa: T201
    assert max(seconds) < STOP_SECONDS
    assert {service.exit_code for service in services} <= {0, 70}
    await _goes_on(fragile, fragile_kafka)
    await fragile.holds([Case(COMPANY, number, Side.APP) for number in range(1, 30)])


async def test_when_kafka_is_there_every_service_ends_soon(fragile: Scene) -> None:
    services, _ = await _at_work(fragile)
    seconds = await _all_end(services)
    assert max(seconds) < STOP_SECONDS / 2
    assert {service.exit_code for service in services} == {0}
    fragile.start("reconciler")
    await fragile.holds([Case(COMPANY, 1, Side.APP)])


async def _goes_on(fragile: Scene, fragile_kafka: KafkaServer) -> None:
    """When Kafka is back new processes go on where the last ones stopped: ingest with what lies in the spool."""
    if fragile_kafka.running:
        fragile_kafka.resume()
    else:
        await asyncio.to_thread(fragile_kafka.start)
    await fragile.start("ingest").ready()
    await fragile.drained()
    fragile.start("reconciler")
