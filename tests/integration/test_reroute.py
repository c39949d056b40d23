"""librdkafka's clients do not partition as Kafka's own do: what they write astray goes home, once, and is told of."""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import pytest
from confluent_kafka import KafkaError, Message, Producer

from schemas import topics
from schemas.envelope import Envelope
from services.plumbing.lanes import partition_of
from services.plumbing.settings import Settings
from tests.support import builders
from tests.support.live_view import read_all
from tests.support.running import Running, assignment, running
from tests.support.stand import PARTITIONS, stand

COMPANIES: Final = tuple(f"praxis-{n}" for n in range(8))
EVENTS: Final = 5
#: CloudEvents in binary mode, as an app sends them that keeps to the letter.
HEADERS: Final = [("ce_specversion", b"1.0"), ("ce_source", b"shop"), ("ce_type", b"shop.appointment")]
FLUSH_SECONDS: Final = 20.0


@pytest.fixture
async def here(request: pytest.FixtureRequest, broker: str, dsn: str) -> Settings:
    """Give settings for one broker after the other, with topics of the test's own."""
    return await stand(broker, dsn, **assignment(request))


def write(settings: Settings, records: Sequence[tuple[str, bytes, list[tuple[str, bytes]]]], **config: Any) -> None:
    """Write appointments with librdkafka: company, body and headers of each. Blocks until the broker has them."""
    failed: list[KafkaError] = []

    def told(error: KafkaError | None, _: Message) -> None:
        if error is not None:
            failed.append(error)

    producer = Producer({"bootstrap.servers": settings.kafka_bootstrap_servers, "acks": "all", **config})
    for company_id, body, headers in records:
        producer.produce(
            settings.kafka_topic_prefix + topics.APP_APPOINTMENTS,
            body,
            key=company_id.encode(),
            headers=[*headers],
            on_delivery=told,
        )
    assert producer.flush(FLUSH_SECONDS) == 0
    assert not failed


def appointment(number: int, **fields: Any) -> dict[str, Any]:
    return builders.appointment_event("created", f"{number}", calcom_booking_uid=f"uid-{number}", **fields)


def said(with_headers: bool) -> list[tuple[str, bytes, list[tuple[str, bytes]]]]:  # noqa: FBT001 - a parameter of the test
    """Give every company's appointments, one a record and two in one record."""
    records = []
    for company_id in COMPANIES:
        bodies = [appointment(n) for n in range(EVENTS)]
        for n, body in enumerate([*bodies, [appointment(90), appointment(91)]]):
            headers = [*HEADERS, ("ce_id", f"{company_id}-{n}".encode())] if with_headers else []
            records.append((company_id, builders.body(body), headers))
    return records


def is_astray(envelope: Envelope) -> bool:
    return partition_of(envelope.company_id or "", PARTITIONS) != envelope.partition


async def companies(service: Running) -> None:
    for company_id in COMPANIES:
        await service.company(company_id, window_seconds=600)


@pytest.mark.parametrize("with_headers", [True, False])
async def test_what_librdkafka_writes_ends_in_records_once_wherever_it_lay(here: Settings, with_headers: bool) -> None:  # noqa: FBT001
    async with running(here) as service:
        await companies(service)
        await asyncio.to_thread(write, here, said(with_headers))
        wanted = len(COMPANIES) * (EVENTS + 2)
        await service.comes("SELECT count(*) = $1 FROM records", wanted)
        await service.check()
        assert await service.value("SELECT count(*) FROM events") == wanted
        assert await service.value("SELECT count(*) FROM events WHERE disposition <> 'applied'") == 0
        assert await service.value("SELECT count(*) FROM dead_letters") == 0
        lay = await read_all(here, (topics.APP_APPOINTMENTS,))
        astray = [envelope for envelope in lay if is_astray(envelope)]
        assert 0 < len(astray) < len(said(with_headers)), "some were right by chance, and some were not"
        assert len(lay) == len(said(with_headers)) + len(astray)
        incidents = await service.pool.fetch("SELECT * FROM incidents")
        assert {row["company_id"] for row in incidents} == {envelope.company_id for envelope in astray}
        assert sum(row["seen"] for row in incidents) == len(astray)
        assert all(row["kind"] == "wrong_partition" for row in incidents)
        assert all("partitioner=murmur2_random" in row["detail"] for row in incidents)
        assert all(topics.APP_APPOINTMENTS in row["detail"] for row in incidents)
        _as_they_were(lay, astray, with_headers=with_headers)


def _as_they_were(lay: Sequence[Envelope], astray: Sequence[Envelope], *, with_headers: bool) -> None:
    """What was sent on has its own id, or that of its place, and everything else as it was."""
    home = {(e.ce_id, e.body): e for e in lay if not is_astray(e)}
    for envelope in astray:
        place = f"{envelope.topic}/{envelope.partition}/{envelope.offset}"
        sent = home[(envelope.ce_id or f"reroute:{place}", envelope.body)]
        if with_headers:
            assert (sent.ce_source, sent.ce_type) == (envelope.ce_source, envelope.ce_type)
        assert sent.received_at <= sent.appended_at


async def test_with_the_partitioner_that_the_incident_names_nothing_lies_astray(here: Settings) -> None:
    async with running(here) as service:
        await companies(service)
        await asyncio.to_thread(write, here, said(with_headers=False), partitioner="murmur2_random")
        await service.comes("SELECT count(*) = $1 FROM records", len(COMPANIES) * (EVENTS + 2))
        await service.check()
        assert not any(is_astray(envelope) for envelope in await read_all(here, (topics.APP_APPOINTMENTS,)))
        assert await service.value("SELECT count(*) FROM incidents") == 0


async def test_windows_count_from_when_it_first_came_in_however_long_it_waited_to_be_sent_on(here: Settings) -> None:
    """Nobody runs while it comes; the partner of each is there in time, and is believed to be."""
    async with running(here, started=False) as service:
        for company_id in COMPANIES:
            await service.company(company_id, window_seconds=2)
        await asyncio.to_thread(write, here, said(with_headers=True))
        for company_id in COMPANIES:
            for number in (*range(EVENTS), 90):
                await service.booking(number, company_id)
        service.start()
        await service.comes("SELECT count(*) = $1 FROM records WHERE calcom_sync_status = 'orphaned_local'", 8)
        await service.over()
        await service.check()
        told = await service.flags()
        assert [flag.type.value for flag in told] == ["sync.orphaned_local"] * len(COMPANIES)
        assert {flag.appointment.appointment_id for flag in told if flag.appointment} == {"91"}


async def test_a_process_that_is_stopped_between_finding_and_sending_loses_nothing(here: Settings) -> None:
    async with running(here) as service:
        await companies(service)
        for number in range(3):
            body = builders.body(appointment(number))
            await asyncio.to_thread(write, here, [(company_id, body, []) for company_id in COMPANIES])
            await service.stop()
            service.start()
        await service.comes("SELECT count(*) = $1 FROM records", 3 * len(COMPANIES))
        await service.check()
        assert await service.value("SELECT count(*) FROM dead_letters") == 0
