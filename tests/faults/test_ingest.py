"""Ingest under faults, on Apache Kafka with real processes: what it acknowledges is kept; scenarios 49 and 51."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import Final

import httpx
import pytest

from schemas import topics
from services.embedded.ports import HOST, free_port
from tests.faults.scene import PARTITIONS, Scene, scene
from tests.support.kafka_server import KafkaServer
from tests.support.live_view import read_all
from tests.support.load import Case, on_partition
from tests.support.mute_proxy import MuteProxy
from tests.support.senders import Senders
from tests.support.wait import until

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]

COMPANY: Final = on_partition(0, PARTITIONS)
ROUNDS: Final = 10


async def test_nothing_that_was_acknowledged_is_lost_by_ten_kills_of_ingest_under_load(faults: Scene) -> None:
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
    faults.start("reconciler")
    await faults.holds()


async def test_while_kafka_does_not_answer_ingest_says_503_within_5_s_and_then_takes_it(
    fragile: Scene, fragile_kafka: KafkaServer
) -> None:
    senders = Senders(await fragile.company(COMPANY))
    ingest = fragile.start("ingest")
    async with httpx.AsyncClient(base_url=await ingest.ready(), timeout=15) as client:
        assert (await senders.appointment(client, Case(COMPANY, 1))).status_code == httpx.codes.ACCEPTED
        fragile_kafka.pause()
        began = time.monotonic()
        answers = await asyncio.gather(
            *(senders.appointment(client, Case(COMPANY, n)) for n in range(2, 5)),
            *(senders.booking(client, Case(COMPANY, n)) for n in range(2, 5)),
        )
        assert time.monotonic() - began < 5
        assert {answer.status_code for answer in answers} == {httpx.codes.SERVICE_UNAVAILABLE}
        assert all(int(answer.headers["retry-after"]) > 0 for answer in answers)
        assert (await client.get("/readyz")).status_code == httpx.codes.SERVICE_UNAVAILABLE
        fragile_kafka.resume()

        async def taken() -> bool:
            return (await senders.booking(client, Case(COMPANY, 1))).status_code == httpx.codes.ACCEPTED

        await until(taken, 30)
        for n in range(2, 5):
            assert (await senders.appointment(client, Case(COMPANY, n))).status_code == httpx.codes.ACCEPTED
            assert (await senders.booking(client, Case(COMPANY, n))).status_code == httpx.codes.ACCEPTED
    await ingest.ready()
    fragile.start("reconciler")
    await fragile.holds([Case(COMPANY, n) for n in range(1, 5)])


@pytest.fixture
async def wire() -> AsyncIterator[MuteProxy]:
    """Give a wire to a broker that is not there yet."""
    async with MuteProxy(HOST, free_port()) as proxy:
        yield proxy


async def test_an_event_whose_acknowledgement_was_lost_is_one_logical_event_when_it_is_sent_again(
    wire: MuteProxy, dsn: str, tmp_path: Path
) -> None:
    server = KafkaServer(wire.target[1], advertised_port=wire.port)
    await asyncio.to_thread(server.start)
    try:
        async with scene(server.bootstrap_servers, dsn, tmp_path) as stage:
            await _lose_an_acknowledgement(stage, wire)
            stage.start("reconciler")
            await stage.holds([Case(COMPANY, 1), Case(COMPANY, 2)])
            kinds = await stage.pool.fetch("SELECT event_id, disposition, count(*) FROM events GROUP BY 1, 2")
    finally:
        await asyncio.to_thread(server.close)
    applied = [row["count"] for row in kinds if row["disposition"] == "applied"]
    assert applied == [1] * 4, "each event counts once"
    assert sum(row["count"] for row in kinds if row["disposition"] == "repeat") >= 1, "some were written twice"


async def _lose_an_acknowledgement(stage: Scene, wire: MuteProxy) -> None:
    senders = Senders(await stage.company(COMPANY, window_seconds=5))
    ingest = stage.start("ingest")
    case = Case(COMPANY, 1)
    async with httpx.AsyncClient(base_url=await ingest.ready(), timeout=15) as client:
        for send in (senders.appointment, senders.booking):
            assert (await send(client, Case(COMPANY, 2))).status_code == httpx.codes.ACCEPTED
        wire.mute = True
        answers = await asyncio.gather(senders.appointment(client, case), senders.booking(client, case))
        assert {answer.status_code for answer in answers} == {httpx.codes.SERVICE_UNAVAILABLE}
        assert wire.lost_bytes > 0
        await wire.cut()
        wire.mute = False
        await wire.heal()
        for send in (senders.appointment, senders.booking):

            async def taken(send: object = send) -> bool:
                assert callable(send)
                return bool((await send(client, case)).status_code == httpx.codes.ACCEPTED)

            await until(taken, 30)
