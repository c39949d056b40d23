"""Ingest with its spool, on a real broker and database: Kafka away and back, and what the door reports meanwhile."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest
from msgspec.structs import replace

from schemas import topics
from schemas.envelope import Envelope
from services.embedded.broker import EmbeddedBroker
from services.ingest.reports import CHANNEL
from services.plumbing.lifecycle import STOP_SECONDS
from services.plumbing.settings import Settings
from tests.integration.test_ingest import PING, Ingest, add_company, event, serving
from tests.support.live_view import read_all
from tests.support.stand import stand
from tests.support.tcp_proxy import TcpProxy
from tests.support.wait import until


class FragileBroker(EmbeddedBroker):
    """A broker that may be paused: what it holds stays, and nobody is answered."""

    def pause(self) -> None:
        assert self._child is not None
        self._child.signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._child is not None
        self._child.signal(signal.SIGCONT)


@asynccontextmanager
async def broker_of_mine() -> AsyncIterator[FragileBroker]:
    """Give a broker that may be paused."""
    broker = FragileBroker()
    await broker.start()
    try:
        yield broker
    finally:
        broker.resume()
        await broker.stop()


async def door(settings: Settings) -> dict[str, Any]:
    """Give the only row of `doors`."""
    connection = await asyncpg.connect(settings.postgres_dsn)
    try:
        [row] = await connection.fetch("SELECT * FROM doors")
    finally:
        await connection.close()
    return dict(row)


async def comes(settings: Settings, seconds: float = 15, **wanted: object) -> dict[str, Any]:
    """Wait until the door reports so."""

    async def reported() -> dict[str, Any] | None:
        row = await door(settings)
        return row if wanted.items() <= row.items() else None

    return await until(reported, seconds)


async def in_order(settings: Settings, topic: str) -> list[Envelope]:
    """Give what lies in a topic, by offset: a company has one partition."""
    return sorted(await read_all(settings, (topic,)), key=lambda envelope: envelope.offset)


async def numbered(ingest: Ingest, first: int, count: int) -> None:
    """Send webhooks one after another, and appointments beside them; all are kept."""

    async def webhooks() -> list[int]:
        return [(await ingest.calcom(b'{"n":%d}' % n)).status_code for n in range(first, first + count)]

    async def appointments() -> list[int]:
        return [(await ingest.app(json.dumps(event(n)).encode())).status_code for n in range(first, first + count)]

    answers = tuple(await asyncio.gather(webhooks(), appointments()))
    assert answers == ([202] * count, [202] * count)


async def test_while_kafka_is_away_everything_is_kept_and_then_it_is_there_in_order(dsn: str) -> None:
    """Readiness stays, with the outage beside it; the door's row says what is unsent, and when nothing is."""
    async with broker_of_mine() as broker:
        settings = await stand(broker.bootstrap_servers, dsn, ingest_spool_after_seconds="0.5")
        await add_company(settings)
        async with serving(settings) as ingest:
            await ingest.accepted()
            before = datetime.now(UTC)
            assert (await comes(settings, oldest_unsent_at=None))["closed_at"] is None
            broker.pause()
            started = perf_counter()
            await numbered(ingest, 0, 50)
            assert perf_counter() - started < 10, "only the first wait for the broker"
            row = await comes(settings, spool_messages=100)
            assert before < row["oldest_unsent_at"] < row["reported_at"]
            answer = await ingest.client.get("/readyz")
            assert (answer.status_code, answer.json()["troubles"]) == (200, {})
            assert answer.json()["degraded"]["kafka"] == "the broker did not acknowledge"
            assert answer.json()["degraded"]["spool"]["messages"] == 100
            broker.resume()
            await numbered(ingest, 50, 50)
            await comes(settings, oldest_unsent_at=None, spool_messages=0, spool_bytes=0)
            await ingest.undegraded()
            for topic, key in ((topics.CALCOM_BOOKINGS, b'"n":'), (topics.APP_APPOINTMENTS, b'"evt_')):
                found = [one.body for one in await in_order(settings, topic) if one.body != PING]
                numbers = dict.fromkeys(int(body.split(key)[1].split(b'"')[0].strip(b"}")) for body in found)
                assert list(numbers) == list(range(100))
            metrics = (await ingest.client.get("/metrics")).text
            assert "reconcal_spool_messages 0.0" in metrics
            assert "reconcal_spool_drained_total" in metrics
        assert (await door(settings))["closed_at"] is not None


async def test_what_is_left_at_the_end_holds_the_row_open_until_the_next_one_has_sent_it(dsn: str) -> None:
    async with broker_of_mine() as broker:
        settings = await stand(broker.bootstrap_servers, dsn, ingest_spool_after_seconds="0.5")
        await add_company(settings)
        async with serving(settings) as ingest:
            await ingest.accepted()
            broker.pause()
            await numbered(ingest, 0, 5)
            started = perf_counter()
        assert perf_counter() - started < STOP_SECONDS
        left = await door(settings)
        assert (left["spool_messages"], left["closed_at"]) == (10, None)
        async with serving(settings) as ingest:
            await ingest.ready()
            again = await door(settings)
            assert again["door_id"] == left["door_id"]
            assert again["reported_at"] > left["reported_at"]
            assert again["oldest_unsent_at"] == left["oldest_unsent_at"]
            broker.resume()
            await comes(settings, oldest_unsent_at=None, seconds=30)
            found = await in_order(settings, topics.CALCOM_BOOKINGS)
            assert list(dict.fromkeys(one.body for one in found))[-5:] == [b'{"n":%d}' % n for n in range(5)]
        assert (await door(settings))["closed_at"] is not None


async def test_a_sender_that_waits_when_it_is_told_to_stop_is_answered_from_the_spool(dsn: str) -> None:
    async with broker_of_mine() as broker:
        settings = await stand(broker.bootstrap_servers, dsn)
        await add_company(settings)
        async with serving(settings) as ingest:
            await ingest.accepted()
            broker.pause()
            sending = asyncio.ensure_future(ingest.calcom())
            await ingest.client.get("/livez")
            started = perf_counter()
            ingest.stop.set()
            await asyncio.wait_for(ingest.running, 10)
            assert perf_counter() - started < STOP_SECONDS
            [answer] = await asyncio.gather(sending, return_exceptions=True)
            assert isinstance(answer, httpx.Response | httpx.HTTPError)
            assert isinstance(answer, httpx.HTTPError) or answer.status_code == 202
        assert (await door(settings))["spool_messages"] == (not isinstance(answer, httpx.HTTPError))


async def test_a_door_reports_at_once_when_somebody_asks(embedded_settings: Settings) -> None:
    await add_company(embedded_settings)
    async with serving(embedded_settings) as ingest:
        await ingest.accepted()
        connection = await asyncpg.connect(embedded_settings.postgres_dsn)
        for _ in range(5):
            asked_at = datetime.now(UTC)
            await connection.execute(f"NOTIFY {CHANNEL}")

            async def answered(asked_at: datetime = asked_at) -> bool:
                return bool((await door(embedded_settings))["reported_at"] > asked_at)

            await until(answered, 1)
        await connection.close()


async def test_a_door_without_a_spool_reports_too(embedded_settings: Settings) -> None:
    settings = replace(embedded_settings, ingest_spool_dir="")
    await add_company(settings)
    async with serving(settings) as ingest:
        await ingest.accepted()
        row = await comes(settings, oldest_unsent_at=None)
        assert (row["spool_messages"], row["closed_at"]) == (0, None)
        assert "reconcal_spool_max_bytes 0.0" in (await ingest.client.get("/metrics")).text
    assert (await door(settings))["closed_at"] is not None


async def test_while_the_database_is_away_the_door_stays_open_and_reports_when_it_is_back(
    embedded_settings: Settings,
) -> None:
    await add_company(embedded_settings)
    where = urlsplit(embedded_settings.postgres_dsn)
    assert where.hostname is not None
    async with TcpProxy(where.hostname, where.port or 5432) as wire:
        through = where._replace(netloc=f"{where.username}:{where.password}@127.0.0.1:{wire.port}").geturl()
        async with serving(replace(embedded_settings, postgres_dsn=through)) as ingest:
            await ingest.accepted()
            await wire.cut()
            gone_at = (await door(embedded_settings))["reported_at"]
            assert (await ingest.calcom()).status_code == 202
            await ingest.ready()
            await wire.heal()

            async def reported() -> bool:
                return bool((await door(embedded_settings))["reported_at"] > gone_at)

            await until(reported, 20)


@pytest.mark.parametrize("away", ["refused", "stalled"])
async def test_a_database_that_is_away_at_the_start_keeps_nobody_waiting(
    embedded_settings: Settings, away: str
) -> None:
    async with TcpProxy("127.0.0.1", 1) as wire:
        wire.stall() if away == "stalled" else await wire.cut()
        dsn = f"postgresql://x:y@127.0.0.1:{wire.port}/x"
        started = perf_counter()
        async with serving(replace(embedded_settings, postgres_dsn=dsn)) as ingest:
            assert (await ingest.calcom()).status_code == 503
            assert perf_counter() - started < 6, "2 s for the report, 2 s for the companies"
