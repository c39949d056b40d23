"""Ingest as a service: what was acknowledged lies in the broker, and outages are answered in time."""

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import perf_counter
from typing import Final

import asyncpg
import httpx
import pytest
from msgspec.structs import replace

from schemas import topics
from schemas.envelope import Envelope
from services.companies import admin
from services.companies.model import Purpose
from services.embedded.broker import EmbeddedBroker
from services.ingest.main import serve
from services.plumbing import health, kafka
from services.plumbing.clock import WallClock
from services.plumbing.lifecycle import STOP_SECONDS
from services.plumbing.reader import Reader
from services.plumbing.secrets import Vault
from services.plumbing.settings import Settings
from tests.support.stand import PARTITIONS, stand
from tests.support.wait import until

CALCOM, TOKEN = "a secret at cal.com", "rct_token"
PING: Final = b'{"triggerEvent":"PING"}'
#: What a sender waits at most for a 503.
SOON_SECONDS: Final = 5.0


class Ingest:
    """A running service, and a sender that knows the secrets of the company `acme`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.stop = asyncio.Event()
        listener = health.listen("127.0.0.1", 0)
        self.client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=10)
        self.running = asyncio.ensure_future(serve(settings, self.stop, listener=listener))

    async def calcom(self, body: bytes = PING, secret: str = CALCOM) -> httpx.Response:
        signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        return await self.client.post("/webhooks/calcom/acme", content=body, headers={"X-Cal-Signature-256": signature})

    async def app(self, body: bytes) -> httpx.Response:
        return await self.client.post(
            "/events/appointments/acme", content=body, headers={"Authorization": f"Bearer {TOKEN}"}
        )

    async def ready(self, wanted: int = 200) -> dict[str, str]:
        """Wait until /readyz answers so; gives the troubles it names."""
        async with asyncio.timeout(20):
            while (answer := await self.client.get("/readyz")).status_code != wanted:
                await asyncio.sleep(0.02)
        troubles: dict[str, str] = answer.json()["troubles"]
        return troubles

    async def undegraded(self) -> None:
        """Wait until /readyz says that all is as usual."""
        async with asyncio.timeout(20):
            while (await self.client.get("/readyz")).json() != {"ready": True, "troubles": {}}:
                await asyncio.sleep(0.02)

    async def accepted(self, secret: str = CALCOM) -> None:
        """Wait until the door opens to this secret."""
        async with asyncio.timeout(20):
            while (await self.calcom(secret=secret)).status_code != 202:
                await asyncio.sleep(0.05)


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[Ingest]:
    ingest = Ingest(settings)
    try:
        yield ingest
    finally:
        ingest.stop.set()
        await asyncio.wait_for(ingest.running, 10)
        await ingest.client.aclose()


def event(number: int) -> dict[str, object]:
    appointment = {"id": "4711", "starts_at": "2026-12-01T10:00:00+01:00", "status": "confirmed", "origin": "x" * 1000}
    at = "2026-11-22T09:00:00Z"
    return {"id": f"evt_{number}", "type": "appointment.updated", "occurred_at": at, "appointment": appointment}


async def add_company(settings: Settings) -> None:
    connection = await asyncpg.connect(settings.postgres_dsn)
    new = admin.NewCompany(company_id="acme", name="Acme", calcom_webhook=CALCOM, ingest_token=TOKEN)
    await admin.add(connection, Vault(settings.secret_key), new)
    await connection.close()


async def log_of(settings: Settings, topic: str, count: int) -> list[Envelope]:
    """Read a topic until so many envelopes have come."""
    reader = await Reader.open(settings, WallClock(), (topic,), group=None, partitions=PARTITIONS)
    reader.begin({(topic, number): 0 for number in range(PARTITIONS)})
    found: list[Envelope] = []

    async def enough() -> bool:
        found.extend(await reader.poll(max_records=1000, timeout_seconds=1))
        return len(found) >= count

    try:
        await until(enough, 10)
    except AssertionError:
        print(f"{topic}: only {[(one.offset, one.body[-40:]) for one in found]}")  # noqa: T201 - what came, for people
        raise
    finally:
        await reader.close()
    return found


async def test_what_is_acknowledged_lies_in_the_broker_as_it_came(settings: Settings) -> None:
    await add_company(settings)
    bodies = [PING, b"false", b"\xff\x00 \r\n", b"x" * settings.ingest_max_body_bytes]
    async with serving(settings) as ingest:
        await ingest.ready()
        assert [(await ingest.calcom(body)).status_code for body in bodies] == [202] * 4
        found = await log_of(settings, topics.CALCOM_BOOKINGS, 4)
    assert [one.body for one in found] == bodies
    assert {(one.company_id, one.ce_type, one.ce_source) for one in found} == {
        ("acme", "com.cal.webhook", "reconcal/ingest/calcom")
    }
    assert len({one.ce_id for one in found}) == 4


async def test_a_batch_lies_in_the_broker_in_its_order(settings: Settings) -> None:
    await add_company(settings)
    events = [event(number) for number in range(500)]
    body = b"\n".join(json.dumps(event).encode() for event in events)
    async with serving(replace(settings, ingest_max_body_bytes=4 * 1024 * 1024)) as ingest:
        await ingest.ready()
        answer = await ingest.app(body)
        assert answer.status_code == 202
        assert answer.json()["results"][-1] == {"id": "evt_499", "status": "accepted"}
        found = await log_of(settings, topics.APP_APPOINTMENTS, 500)
    assert [one.ce_id for one in found] == [f"evt_{n}" for n in range(500)]
    assert b"\n".join(one.body for one in found) == body


async def test_a_body_over_the_limit_gets_its_413_on_a_connection_that_lives_on(embedded_settings: Settings) -> None:
    await add_company(embedded_settings)
    async with serving(embedded_settings) as ingest:
        await ingest.ready()
        assert (await ingest.calcom(b"x" * 5_000_000)).status_code == 413
        assert (await ingest.calcom()).status_code == 202


async def test_a_new_secret_opens_the_door_without_a_restart_and_the_old_one_with_it(
    embedded_settings: Settings,
) -> None:
    await add_company(embedded_settings)
    async with serving(embedded_settings) as ingest:
        await ingest.ready()
        connection = await asyncpg.connect(embedded_settings.postgres_dsn)
        vault = Vault(embedded_settings.secret_key)
        now = WallClock().now()
        new = await admin.rotate_secret(connection, vault, "acme", Purpose.CALCOM_WEBHOOK, keep_old_seconds=60, now=now)
        await connection.close()
        await ingest.accepted(new)
        assert (await ingest.calcom()).status_code == 202


async def test_without_a_spool_while_kafka_is_away_the_sender_gets_503_in_time_and_afterwards_202_again(
    dsn: str,
) -> None:
    """By the same service: nobody restarts it. Readiness tells the outage, and its end."""
    broker = EmbeddedBroker()
    await broker.start()
    settings = await stand(broker.bootstrap_servers, dsn, ingest_spool_dir="")
    await add_company(settings)
    async with serving(settings) as ingest:
        await ingest.accepted()
        await broker.stop()
        started = perf_counter()
        answers = await asyncio.gather(ingest.calcom(), ingest.app(json.dumps(event(1)).encode()), ingest.calcom())
        assert perf_counter() - started < SOON_SECONDS
        assert {(answer.status_code, answer.headers["retry-after"]) for answer in answers} == {(503, "5")}
        assert await ingest.ready(503) == {"kafka": "the broker did not acknowledge"}
        async with EmbeddedBroker(port=int(broker.bootstrap_servers.rpartition(":")[2])):
            await kafka.ensure_topics(settings)
            await ingest.accepted()
            await ingest.ready()


async def test_without_a_spool_it_ends_in_time_while_kafka_is_away_and_a_sender_waits(dsn: str) -> None:
    broker = EmbeddedBroker()
    await broker.start()
    settings = await stand(broker.bootstrap_servers, dsn, ingest_spool_dir="")
    await add_company(settings)
    async with serving(settings) as ingest:
        await ingest.accepted()
        await broker.stop()
        sending = asyncio.ensure_future(ingest.calcom())
        await ingest.client.get("/livez")
        started = perf_counter()
        ingest.stop.set()
        await asyncio.wait_for(ingest.running, 10)
        assert perf_counter() - started < STOP_SECONDS
        [answer] = await asyncio.gather(sending, return_exceptions=True)
        assert isinstance(answer, httpx.Response | httpx.HTTPError)
        assert isinstance(answer, httpx.HTTPError) or answer.status_code == 503


@pytest.mark.parametrize(("spool", "troubles"), [("spool", {"companies"}), ("", {"companies", "kafka"})])
async def test_it_starts_with_everything_away_and_says_so(
    embedded_settings: Settings, spool: str, troubles: set[str]
) -> None:
    nowhere = replace(
        embedded_settings,
        kafka_bootstrap_servers="127.0.0.1:1",
        postgres_dsn="postgresql://x@127.0.0.1:1/x",
        ingest_spool_dir=spool and embedded_settings.ingest_spool_dir,
    )
    async with serving(nowhere) as ingest:
        assert (await ingest.client.get("/livez")).status_code == 200
        assert set(await ingest.ready(503)) == troubles
        answer = await ingest.calcom()
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")


@pytest.mark.parametrize("secret_key", ["", base64.b64encode(b"short").decode()])
async def test_it_does_not_start_on_a_wrong_key(embedded_settings: Settings, secret_key: str) -> None:
    with pytest.raises(Exception, match="RECONCAL_SECRET_KEY"):
        await serve(replace(embedded_settings, secret_key=secret_key), asyncio.Event())
