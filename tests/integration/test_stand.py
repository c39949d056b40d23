"""What tests stand on holds: topics and databases are a test's own, on either broker."""

from datetime import UTC, datetime

import asyncpg

from schemas import topics
from schemas.envelope import Delivery
from services.plumbing import kafka
from services.plumbing.clock import WallClock
from services.plumbing.publisher import Publisher
from services.plumbing.reader import Reader
from services.plumbing.settings import Settings
from tests.support.stand import PARTITIONS

ZERO = dict.fromkeys([(topics.CALCOM_BOOKINGS, number) for number in range(PARTITIONS)], 0)


async def test_the_topics_are_there_with_equal_partition_counts(settings: Settings) -> None:
    found = await kafka.inspect(settings)
    assert found == dict.fromkeys(topics.ALL, PARTITIONS)
    assert found.cluster_id
    assert kafka.partition_count(found) == PARTITIONS
    assert await kafka.ensure_topics(settings) == []


async def test_what_is_published_is_read_back_byte_for_byte(settings: Settings) -> None:
    delivery = Delivery(
        topic=topics.CALCOM_BOOKINGS,
        company_id="praxis",
        ce_id="one",
        ce_source="/test",
        ce_type=topics.TYPE_CALCOM_WEBHOOK,
        received_at=datetime.now(UTC),
        body=b"\xff\0{",
    )
    publisher = await Publisher.open(settings)
    await publisher.publish(delivery)
    await publisher.close()
    reader = await Reader.open(settings, WallClock(), (topics.CALCOM_BOOKINGS,), group=None, partitions=PARTITIONS)
    reader.begin(ZERO)
    try:
        envelopes = await reader.poll(max_records=10, timeout_seconds=10)
    finally:
        await reader.close()
    (envelope,) = envelopes
    assert (envelope.company_id, envelope.ce_id, envelope.body) == ("praxis", "one", delivery.body)
    assert envelope.received_at <= envelope.appended_at


async def test_a_database_is_migrated_and_empty(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    assert await connection.fetchval("SELECT count(*) FROM records") == 0
    await connection.execute("INSERT INTO companies (company_id, name) VALUES ('praxis', 'Praxis')")
    await connection.close()


async def test_and_the_next_one_knows_nothing_of_it(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    assert await connection.fetchval("SELECT count(*) FROM companies") == 0
    await connection.close()
