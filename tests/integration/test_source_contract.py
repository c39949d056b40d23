"""What a source and its ends promise: in memory, on the embedded broker and on Apache Kafka."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Final

import pytest
from msgspec.structs import replace

from schemas import topics
from services.plumbing.clock import WallClock
from services.plumbing.publisher import Publisher
from services.plumbing.reader import Reader
from services.plumbing.settings import Settings
from tests.support.logs import (
    PARTITIONS,
    Log,
    LogInKafka,
    LogInMemory,
    beginnings,
    bodies,
    delivery,
    nothing_comes,
    read,
)
from tests.support.stand import stand
from tests.support.wait import until

APP: Final = topics.APP_APPOINTMENTS
CALCOM: Final = topics.CALCOM_BOOKINGS
COMMANDS: Final = topics.SYNC_COMMANDS
NO_DSN: Final = "postgresql://nobody@127.0.0.1/none"
BROKERS: Final = {"embedded": "embedded_broker", "apache": "apache_kafka"}
ON_APACHE: Final = pytest.param("apache", marks=pytest.mark.kafka)


@pytest.fixture(params=["memory", "embedded", ON_APACHE])
async def log(request: pytest.FixtureRequest, servers: dict[str, str]) -> AsyncIterator[Log]:
    """Give a log in which nothing was written yet."""
    opened = LogInMemory() if request.param == "memory" else await LogInKafka.open(await stand(*servers.values()))
    yield opened
    await opened.close()


@pytest.fixture(params=["embedded", ON_APACHE])
async def kafka_log(request: pytest.FixtureRequest, servers: dict[str, str]) -> AsyncIterator[LogInKafka]:
    """Give a log on a broker."""
    opened = await LogInKafka.open(await stand(*servers.values()))
    yield opened
    await opened.close()


@pytest.fixture
def servers(request: pytest.FixtureRequest) -> dict[str, str]:
    """Give what `stand` wants: brokers start outside of a test's own event loop."""
    params = request.node.callspec.params
    name = params.get("log") or params["kafka_log"]
    return {} if name == "memory" else {"broker": request.getfixturevalue(BROKERS[name]), "dsn": NO_DSN}


# --- reading ----------------------------------------------------------------------------------------------------


async def test_all_numbers_are_assigned_and_nothing_is_given_before_it_was_said_where_to_begin(log: Log) -> None:
    assert log.source.assigned == (1, frozenset(range(PARTITIONS)))
    await log.write(CALCOM, 0, b"one")
    assert await nothing_comes(log.source)


async def test_what_was_not_told_to_begin_is_not_read(log: Log) -> None:
    for number in range(PARTITIONS):
        await log.write(CALCOM, number, b"one")
    log.source.begin(beginnings(numbers=[1]))
    assert bodies(await read(log.source, 1)) == {(CALCOM, 1): [b"one"]}
    assert await nothing_comes(log.source)


async def test_reading_begins_at_the_offsets_given_and_keeps_the_order(log: Log) -> None:
    await log.write(CALCOM, 0, b"a", b"b", b"c")
    await log.write(APP, 0, b"x", b"y")
    log.source.begin(beginnings() | {(CALCOM, 0): 1})
    found = await read(log.source, 4)
    assert bodies(found) == {(CALCOM, 0): [b"b", b"c"], (APP, 0): [b"x", b"y"]}
    assert [e.offset for e in found if e.topic == CALCOM] == [1, 2]


async def test_what_comes_later_is_read_as_well(log: Log) -> None:
    log.source.begin(beginnings())
    assert await nothing_comes(log.source)
    await log.write(COMMANDS, 2, b"late")
    assert bodies(await read(log.source, 1)) == {(COMMANDS, 2): [b"late"]}


async def test_a_poll_gives_no_more_than_was_asked_for_and_the_next_one_the_rest(log: Log) -> None:
    await log.write(CALCOM, 0, *(b"%d" % n for n in range(10)))
    await log.write(APP, 1, *(b"%d" % n for n in range(10)))
    log.source.begin(beginnings())
    sizes: list[int] = []
    while sum(sizes) < 20:
        sizes.append(len(await log.source.poll(max_records=3, timeout_seconds=5)))
    assert max(sizes) <= 3
    assert await nothing_comes(log.source)


async def test_positions_are_the_next_offsets_to_be_read(log: Log) -> None:
    await log.write(CALCOM, 1, b"a", b"b", b"c")
    log.source.begin(beginnings(numbers=[0, 1]))
    await read(log.source, 3)
    assert await log.source.positions([1]) == {(APP, 1): 0, (CALCOM, 1): 3, (COMMANDS, 1): 0}


async def test_positions_count_what_was_given_and_not_what_was_only_fetched(log: Log) -> None:
    await log.write(CALCOM, 0, b"a", b"b", b"c")
    log.source.begin(beginnings())
    await read(log.source, 1, most=1)
    assert (await log.source.positions([0]))[(CALCOM, 0)] == 1


async def test_beginning_at_an_earlier_offset_reads_again(log: Log) -> None:
    await log.write(CALCOM, 0, b"a", b"b", b"c")
    log.source.begin(beginnings())
    await read(log.source, 3)
    log.source.begin({(CALCOM, 0): 1})
    assert bodies(await read(log.source, 2)) == {(CALCOM, 0): [b"b", b"c"]}


async def test_beginning_anew_forgets_what_was_fetched_and_not_given(log: Log) -> None:
    await log.write(CALCOM, 0, b"a", b"b", b"c", b"d")
    log.source.begin(beginnings())
    await read(log.source, 1, most=1)
    log.source.begin({(CALCOM, 0): 3})
    assert bodies(await read(log.source, 1)) == {(CALCOM, 0): [b"d"]}
    assert await nothing_comes(log.source)


async def test_a_halt_stops_one_number_in_all_topics_and_no_other(log: Log) -> None:
    await log.write(CALCOM, 0, b"a", b"b", b"c")
    log.source.begin(beginnings())
    await read(log.source, 1, most=1)
    log.source.halt(0)
    for topic in topics.INPUTS:
        for number in (0, 1):
            await log.write(topic, number, b"more")
    assert bodies(await read(log.source, 3)) == {(topic, 1): [b"more"] for topic in topics.INPUTS}
    assert await nothing_comes(log.source)


async def test_a_number_that_was_halted_is_read_again_once_it_is_told_to_begin(log: Log) -> None:
    await log.write(CALCOM, 0, b"a", b"b")
    log.source.begin(beginnings())
    log.source.halt(0)
    assert await nothing_comes(log.source)
    log.source.begin(beginnings(numbers=[0]))
    assert bodies(await read(log.source, 2)) == {(CALCOM, 0): [b"a", b"b"]}


async def test_telling_the_broker_how_far_we_are_changes_nothing(log: Log) -> None:
    await log.write(CALCOM, 0, b"a", b"b")
    log.source.begin(beginnings())
    await read(log.source, 1, most=1)
    await log.source.commit({(CALCOM, 0): 2})
    assert bodies(await read(log.source, 1)) == {(CALCOM, 0): [b"b"]}


# --- ends -------------------------------------------------------------------------------------------------------


async def test_ends_are_one_more_than_the_last_offset_and_starts_are_the_oldest(log: Log) -> None:
    await log.write(CALCOM, 0, b"a", b"b")
    await log.write(APP, 2, b"x")
    ends = await log.ends.ends(topics.SIDES, [0, 2])
    assert ends == {(APP, 0): 0, (APP, 2): 1, (CALCOM, 0): 2, (CALCOM, 2): 0}
    assert await log.ends.starts(topics.SIDES, [0, 2]) == dict.fromkeys(ends, 0)


async def test_an_end_says_what_has_come_until_it_was_asked_for(log: Log) -> None:
    for count in range(1, 6):
        await log.write(CALCOM, 1, b"more")
        assert await log.ends.ends([CALCOM], [1]) == {(CALCOM, 1): count}


async def test_an_end_lies_behind_every_record_of_the_last_batch(log: Log) -> None:
    """An end that is too low would prove that all was read when half a batch was."""
    await log.write_batch(CALCOM, 1, b"a", b"b", b"c", b"d", b"e", b"f")
    assert await log.ends.ends([CALCOM], [1]) == {(CALCOM, 1): 6}
    await log.write_batch(CALCOM, 1, b"g", b"h")
    assert await log.ends.ends([CALCOM], [1]) == {(CALCOM, 1): 8}


async def test_who_has_read_everything_stands_at_the_end(log: Log) -> None:
    await log.write_batch(CALCOM, 1, b"a", b"b")
    log.source.begin(beginnings())
    await read(log.source, 2)
    assert await log.source.positions(range(PARTITIONS)) == await log.ends.ends(topics.INPUTS, range(PARTITIONS))


# --- envelopes --------------------------------------------------------------------------------------------------


async def test_everything_that_the_door_wrote_of_a_message_is_read(log: Log) -> None:
    body = b"\x00\xff{"
    before = delivery(CALCOM, 1, body)
    await log.write(CALCOM, 1, body)
    log.source.begin(beginnings())
    (envelope,) = await read(log.source, 1)
    assert (envelope.company_id, envelope.body) == ("c1", body)
    assert (envelope.topic, envelope.partition, envelope.offset) == (CALCOM, 1, 0)
    assert (envelope.ce_id, envelope.ce_source, envelope.ce_type) == (before.ce_id, "pen", "test")
    assert (envelope.content_type, envelope.traceparent) == ("application/json", "00-1-2-01")
    assert abs(envelope.received_at - before.received_at) < timedelta(seconds=5)
    assert before.received_at + timedelta(seconds=60) < envelope.appended_at <= datetime.now(UTC)


async def test_a_strangers_record_without_key_and_headers_is_an_envelope(kafka_log: LogInKafka) -> None:
    await kafka_log.write_raw(CALCOM, 0, b"")
    kafka_log.source.begin(beginnings())
    (envelope,) = await read(kafka_log.source, 1)
    assert (envelope.company_id, envelope.body) == (None, b"")
    assert (envelope.ce_id, envelope.ce_source, envelope.ce_type) == (None, None, None)
    assert (envelope.content_type, envelope.traceparent) == (None, None)
    assert datetime.now(UTC) - timedelta(seconds=30) < envelope.received_at <= datetime.now(UTC)


async def test_a_strangers_tombstone_has_an_empty_body(kafka_log: LogInKafka) -> None:
    await kafka_log.write_raw(CALCOM, 0, None, key=b"c0")
    kafka_log.source.begin(beginnings())
    (envelope,) = await read(kafka_log.source, 1)
    assert (envelope.company_id, envelope.body) == ("c0", b"")


@pytest.mark.parametrize("key", [b"", b"\xff", b"a\0b"])
async def test_a_key_that_is_no_text_is_no_key(kafka_log: LogInKafka, key: bytes) -> None:
    await kafka_log.write_raw(CALCOM, 0, b"{}", key=key, headers=[("ce_id", key), ("content-type", b"text/plain")])
    kafka_log.source.begin(beginnings())
    (envelope,) = await read(kafka_log.source, 1)
    assert (envelope.company_id, envelope.ce_id, envelope.content_type) == (None, None, "text/plain")


@pytest.mark.parametrize("given", [b"yesterday", b"\xff", b"2026-01-01T00:00:00", b"2999-01-01T00:00:00+00:00"])
async def test_a_receive_time_that_cannot_be_is_not_believed(kafka_log: LogInKafka, given: bytes) -> None:
    """Neither one without a zone nor one that is still to come: the broker's time or that of reading counts."""
    await kafka_log.write_raw(CALCOM, 0, b"{}", key=b"c0", headers=[("received_at", given)])
    kafka_log.source.begin(beginnings())
    (envelope,) = await read(kafka_log.source, 1)
    assert datetime.now(UTC) - timedelta(seconds=30) < envelope.received_at <= datetime.now(UTC)


async def test_a_producers_own_stamp_moves_no_receive_time(kafka_log: LogInKafka) -> None:
    for days in (-3, 3):
        stamp = datetime.now(UTC) + timedelta(days=days)
        await kafka_log.write_raw(CALCOM, 0, b"{}", key=b"c0", at=stamp)
    kafka_log.source.begin(beginnings())
    for envelope in await read(kafka_log.source, 2):
        assert datetime.now(UTC) - timedelta(seconds=30) < envelope.received_at <= datetime.now(UTC)
        assert envelope.appended_at <= datetime.now(UTC)


@pytest.mark.kafka
async def test_the_broker_stamps_and_its_stamps_never_go_back(apache_kafka: str) -> None:
    log = await LogInKafka.open(await stand(apache_kafka, NO_DSN))
    try:
        for days in (3, -3, 0):
            await log.write_raw(CALCOM, 0, b"{}", at=datetime.now(UTC) + timedelta(days=days))
        log.source.begin(beginnings())
        stamps = [envelope.appended_at for envelope in await read(log.source, 3)]
    finally:
        await log.close()
    assert stamps == sorted(stamps)
    assert datetime.now(UTC) - stamps[0] < timedelta(seconds=30)


async def test_five_megabytes_are_read(kafka_log: LogInKafka) -> None:
    publisher = await Publisher.open(kafka_log.settings)
    await publisher.publish(replace(delivery(CALCOM, 0, b"big"), body=bytes(5 * 1024 * 1024)))
    await publisher.close()
    kafka_log.source.begin(beginnings())
    (envelope,) = await read(kafka_log.source, 1)
    assert len(envelope.body) == 5 * 1024 * 1024


# --- groups -----------------------------------------------------------------------------------------------------


@pytest.mark.kafka
async def test_readers_of_a_group_share_the_numbers_and_a_number_is_one_readers_in_all_topics(
    apache_kafka: str,
) -> None:
    settings = await stand(apache_kafka, NO_DSN)
    readers = [await _joins(settings), await _joins(settings)]
    try:
        await until(lambda: _shared(readers), 30)
        assert sorted(len(reader.assigned[1]) for reader in readers) == [1, 2]
        generations = [reader.assigned[0] for reader in readers]
        readers.append(await _joins(settings))
        await until(lambda: _shared(readers), 30)
        assert [len(reader.assigned[1]) for reader in readers] == [1, 1, 1]
        assert all(reader.assigned[0] > before for reader, before in zip(readers, generations, strict=False))
        held = [reader._consumer.assignment() for reader in readers]
        assert all(len(tps) == 3 and len({tp.partition for tp in tps}) == 1 for tps in held)
    finally:
        await asyncio.gather(*(reader.close() for reader in readers))


@pytest.mark.kafka
async def test_what_was_moved_waits_for_its_new_owner_to_begin(apache_kafka: str) -> None:
    log = await LogInKafka.open(await stand(apache_kafka, NO_DSN))
    for number in range(PARTITIONS):
        await log.write(CALCOM, number, b"%d" % number)
    readers = [await _joins(log.settings)]
    try:
        await until(lambda: _shared(readers), 30)
        readers[0].begin(beginnings())
        assert len(await read(readers[0], PARTITIONS)) == PARTITIONS
        readers.append(await _joins(log.settings))
        await until(lambda: _shared(readers), 30)
        for reader in readers:
            assert await nothing_comes(reader), "eager assignment: all wait, the old owner too"
            reader.begin(beginnings(numbers=reader.assigned[1]))
        found = [bodies(await read(reader, len(reader.assigned[1]))) for reader in readers]
        assert found[0].keys() | found[1].keys() == {(CALCOM, n) for n in range(PARTITIONS)}
        assert not found[0].keys() & found[1].keys()
    finally:
        await asyncio.gather(*(reader.close() for reader in readers))
        await log.close()


@pytest.mark.kafka
async def test_beginning_where_one_has_lost_its_place_is_passed_over(apache_kafka: str) -> None:
    settings = await stand(apache_kafka, NO_DSN)
    readers = [await _joins(settings), await _joins(settings)]
    try:
        await until(lambda: _shared(readers), 30)
        for reader in readers:
            reader.begin(beginnings())
            assert {number for _, number in await reader.positions(range(PARTITIONS))} == reader.assigned[1]
    finally:
        await asyncio.gather(*(reader.close() for reader in readers))


async def _joins(settings: Settings) -> Reader:
    return await Reader.open(settings, WallClock(), topics.INPUTS, group="contract", partitions=PARTITIONS)


async def _shared(readers: list[Reader]) -> bool:
    """Tell whether everybody has something, everything has somebody, and nothing has two."""
    for reader in readers:
        await reader.poll(max_records=1, timeout_seconds=0)
    numbers = [number for reader in readers for number in reader.assigned[1]]
    return sorted(numbers) == list(range(PARTITIONS)) and all(reader.assigned[1] for reader in readers)
