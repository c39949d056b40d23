"""Ingest under faults, on Apache Kafka with real processes: what it acknowledges is kept; scenarios 49 and 51."""

import asyncio
import time
from random import Random
from typing import Final

import httpx
import pytest

from schemas import topics
from tests.faults.scene import PARTITIONS, Scene
from tests.support.kafka_server import KafkaServer
from tests.support.live_view import read_all
from tests.support.load import Case, on_partition
from tests.support.mute_proxy import MuteProxy
from tests.support.senders import Senders
from tests.support.wait import until

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]

COMPANY: Final = on_partition(0, PARTITIONS)
ROUNDS: Final = 6


async def test_nothing_that_was_acknowledged_is_lost_by_kills_of_ingest_under_load(faults: Scene) -> None:
    senders, random = Senders(await faults.company(COMPANY)), Random(49)
    coming = faults.start("ingest")
    for _ in range(ROUNDS):
        ingest, coming = coming, faults.start("ingest")
        sending = asyncio.ensure_future(senders.send_until(await ingest.ready(), asyncio.Event()))
        enough = senders.promised.count + random.randrange(200, 600)

        async def many_are_promised(enough: int = enough) -> bool:
            return senders.promised.count >= enough

        await until(many_are_promised, 20)
        ingest.kill()
        await sending
    kept = {envelope.body for envelope in await read_all(faults.settings, topics.SIDES)}
    assert {n for n in senders.promised.appointments if Case(COMPANY, n).appointment() not in kept} == set()
    assert {n for n in senders.promised.bookings if Case(COMPANY, n).booking() not in kept} == set()
    await faults.start("ingest").ready()  # it takes over what the last of the dead has left behind, and speaks for it
    faults.start("reconciler")
    await faults.holds()


async def test_while_kafka_does_not_answer_all_is_taken_within_5_s_and_refused_where_there_is_no_spool(
    fragile: Scene, fragile_kafka: KafkaServer
) -> None:
    senders = Senders(await fragile.company(COMPANY, window_seconds=5))
    services = [fragile.start("ingest"), fragile.start("ingest", ingest_spool_dir="")]
    kept = [Case(COMPANY, n) for n in range(1, 5)]
    first, refused = kept[0], [Case(COMPANY, n) for n in range(5, 8)]
    addresses = [await service.as_usual() for service in services]
    async with (
        httpx.AsyncClient(base_url=addresses[0], timeout=15) as spooling,
        httpx.AsyncClient(base_url=addresses[1], timeout=15) as plain,
    ):
        for client, send in ((spooling, senders.appointment), (plain, senders.booking)):
            assert (await send(client, first)).status_code == httpx.codes.ACCEPTED
        fragile_kafka.pause()
        began = time.monotonic()
        taken, answers = await asyncio.gather(_both(senders, spooling, kept[1:]), _both(senders, plain, refused))
        assert time.monotonic() - began < 5
        assert {answer.status_code for answer in taken} == {httpx.codes.ACCEPTED}
        assert {answer.status_code for answer in answers} == {httpx.codes.SERVICE_UNAVAILABLE}
        assert all(int(answer.headers["retry-after"]) > 0 for answer in answers)
        assert (await plain.get("/readyz")).status_code == httpx.codes.SERVICE_UNAVAILABLE
        assert (await spooling.get("/readyz")).status_code == httpx.codes.OK, "it takes what comes"
        fragile_kafka.resume()

        async def again() -> bool:
            return {a.status_code for a in await _both(senders, plain, refused)} == {httpx.codes.ACCEPTED}

        await until(again, 30)
    for service in services:
        await service.as_usual()
    fragile.start("reconciler")
    await fragile.holds([*kept, *refused])


async def _both(senders: Senders, client: httpx.AsyncClient, cases: list[Case]) -> list[httpx.Response]:
    """Send both sides of cases, all at once."""
    return await asyncio.gather(
        *(send(client, case) for case in cases for send in (senders.appointment, senders.booking))
    )


async def test_an_event_whose_acknowledgement_was_lost_is_one_logical_event_though_the_spool_writes_it_again(
    fragile: Scene, wire: MuteProxy, by_wire: dict[str, object]
) -> None:
    senders = Senders(await fragile.company(COMPANY, window_seconds=5))
    ingest = fragile.start("ingest", **by_wire)
    cases = [Case(COMPANY, 1), Case(COMPANY, 2)]
    async with httpx.AsyncClient(base_url=await ingest.as_usual(), timeout=15) as client:
        assert {a.status_code for a in await _both(senders, client, cases[:1])} == {httpx.codes.ACCEPTED}
        wire.mute = True

        async def written_by_now() -> bool:
            return await fragile.written() > 2

        assert {a.status_code for a in await _both(senders, client, cases[1:])} == {httpx.codes.ACCEPTED}
        await until(written_by_now, 10)
        assert wire.lost_bytes > 0
        await wire.cut()
        wire.mute = False
        await wire.heal()
    await ingest.as_usual()
    fragile.start("reconciler")
    await fragile.holds(cases)
    kinds = await fragile.pool.fetch("SELECT event_id, disposition, count(*) FROM events GROUP BY 1, 2")
    applied = [row["count"] for row in kinds if row["disposition"] == "applied"]
    assert applied == [1] * 4, "each event counts once"
    assert sum(row["count"] for row in kinds if row["disposition"] == "repeat") >= 1, "some were written twice"
