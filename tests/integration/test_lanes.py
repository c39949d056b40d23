"""Messages that go to the broker in lanes: order, company and every answer are kept."""

import asyncio
from datetime import UTC, datetime
from typing import Final

from schemas import topics
from schemas.envelope import Delivery
from services.plumbing.clock import WallClock
from services.plumbing.lanes import partition_of
from services.plumbing.probe import Probe
from services.plumbing.publisher import Publisher
from services.plumbing.reader import Reader
from services.plumbing.settings import Settings

NAMES: Final = (topics.CALCOM_BOOKINGS,)


def delivery(company_id: str, body: bytes) -> Delivery:
    return Delivery(
        topic=topics.CALCOM_BOOKINGS,
        company_id=company_id,
        ce_id="e1",
        ce_source="test",
        ce_type=topics.TYPE_CALCOM_WEBHOOK,
        received_at=datetime.now(UTC),
        body=body,
    )


async def everything(settings: Settings, partitions: int) -> list[tuple[str | None, int, bytes]]:
    """Read a topic from its start to its end."""
    reader = await Reader.open(settings, WallClock(), NAMES, group=None, partitions=partitions)
    probe = await Probe.open(settings)
    try:
        ends = await probe.ends(NAMES, range(partitions))
        reader.begin(dict.fromkeys(ends, 0))
        found: list[tuple[str | None, int, bytes]] = []
        while len(found) < sum(ends.values()):
            batch = await reader.poll(max_records=1000, timeout_seconds=1)
            found.extend((envelope.company_id, envelope.partition, envelope.body) for envelope in batch)
        return found
    finally:
        await probe.close()
        await reader.close()


async def test_messages_that_come_at_once_keep_their_order_and_go_where_their_company_lives(settings: Settings) -> None:
    companies = [f"company-{n}" for n in range(7)]
    publisher = await Publisher.open(settings)
    sent = [(company, b"%d" % n) for n in range(100) for company in companies]
    await asyncio.gather(*(publisher.publish(delivery(company, body)) for company, body in sent))
    await publisher.close()
    partitions = settings.kafka_partitions
    found = await everything(settings, partitions)
    for company in companies:
        mine = [body for key, _, body in found if key == company]
        assert mine == [b"%d" % n for n in range(100)]
        assert {number for key, number, _ in found if key == company} == {partition_of(company, partitions)}


async def test_a_message_larger_than_a_batch_rides_alone_and_holds_up_nobody(settings: Settings) -> None:
    publisher = await Publisher.open(settings)
    large = bytes(3 * 1024 * 1024)
    await asyncio.gather(*(publisher.publish(delivery("acme", body)) for body in (b"1", large, b"2")))
    await publisher.close()
    assert [body for _, _, body in await everything(settings, settings.kafka_partitions)] == [b"1", large, b"2"]


async def test_one_who_gives_up_waiting_takes_nobody_along(settings: Settings) -> None:
    publisher = await Publisher.open(settings)
    given_up, patient = (asyncio.ensure_future(publisher.publish(delivery("acme", b"x"))) for _ in range(2))
    await asyncio.sleep(0)
    given_up.cancel()
    await patient
    await publisher.close()
    assert given_up.cancelled()
