"""The verifier as it runs: from the queue to the topic by way of a Cal.com, and with any of the three gone."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import UUID

import asyncpg
import httpx
import msgspec
import pytest
from msgspec.structs import replace

from schemas import topics
from schemas.observations import Check
from schemas.verification import QUESTIONS, Priority, Question, Verdict
from services.companies import admin
from services.companies.admin import NewCompany
from services.embedded.broker import EmbeddedBroker
from services.embedded.calcom import Calcom
from services.embedded.calcom.pranks import Hang
from services.plumbing import health
from services.plumbing.secrets import Vault
from services.plumbing.settings import Settings, SettingsError
from services.verifier import main
from tests.support.calcom import KEY, NORA, running_calcom
from tests.support.live_view import read_all
from tests.support.stand import stand
from tests.support.tcp_proxy import TcpProxy
from tests.support.wait import until

COMPANY: Final = "praxis"
_PUT: Final = """
INSERT INTO verifications (company_id, record_id, number, priority, starts_at, not_before, question)
VALUES ($1, $2, $3, $4, $5, $6, $7)"""


@pytest.fixture
async def calcom() -> AsyncIterator[tuple[Calcom, str]]:
    async with running_calcom() as made:
        yield made


@pytest.fixture
def alone(embedded_settings: Settings) -> Settings:
    """Give settings for the embedded broker, as `reconcal up` has them, and a Cal.com on this machine."""
    return here(embedded_settings)


def here(settings: Settings) -> Settings:
    return replace(settings, kafka_assignment="all", calcom_private_addresses="allow", verifier_port=0)


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """Run a verifier; gives a client of its address. It must end within 10 s."""
    stop = asyncio.Event()
    listener = health.listen("127.0.0.1", 0)
    serving = asyncio.ensure_future(main.serve(settings, stop, listener=listener))
    try:
        async with httpx.AsyncClient(base_url="http://{}:{}".format(*listener.getsockname())) as client:
            yield client
    finally:
        stop.set()
        await asyncio.wait_for(serving, 10)


async def company(settings: Settings, base_url: str) -> None:
    connection = await asyncpg.connect(settings.postgres_dsn)
    new = NewCompany(company_id=COMPANY, name=COMPANY, calcom_api_key=KEY, calcom_base_url=base_url)
    await admin.add(connection, Vault(settings.secret_key), new)
    await connection.close()


def question(number: int, uid: str, **over: Any) -> Question:
    now = datetime.now(UTC)
    given: dict[str, Any] = {"subject": f"a:{number}", "number": 1, "priority": Priority.DEADLINE, "not_before": now}
    given |= {"company_id": COMPANY, "record_id": UUID(int=number), "not_older_than": now, "uid": uid}
    return Question(**(given | over))


def row(asked: Question) -> tuple[Any, ...]:
    place = (COMPANY, asked.record_id, 1, list(Priority).index(asked.priority), None, asked.not_before)
    return (*place, msgspec.json.encode(asked).decode())


async def ask(settings: Settings, number: int, uid: str, **over: Any) -> None:
    """Queue a question as the reconciler does."""
    connection = await asyncpg.connect(settings.postgres_dsn)
    await connection.execute(_PUT, *row(question(number, uid, **over)))
    await connection.execute(f"NOTIFY {QUESTIONS}")
    await connection.close()


async def told(settings: Settings, count: int) -> list[Check]:
    """Wait for so many answers on the topic; gives them by question."""

    async def there() -> list[Check] | None:
        envelopes = await read_all(settings, (topics.CALCOM_BOOKINGS,))
        checks = [msgspec.json.decode(one.body, type=Check) for one in envelopes if one.ce_type == topics.TYPE_CHECK]
        return sorted(checks, key=lambda one: one.subject) if len(checks) >= count else None

    return await until(there, 40)


async def booked(calcom: Calcom) -> str:
    account = calcom.join(COMPANY, KEY)
    booking = await calcom.book(account, datetime.now(UTC) + timedelta(days=3), NORA, send=False)
    return booking.uid


async def troubled(client: httpx.AsyncClient, part: str) -> None:
    async def said() -> bool:
        return part in (await client.get("/readyz")).json()["troubles"]

    await until(said, 20)


async def ready(client: httpx.AsyncClient) -> None:
    async def said() -> bool:
        return (await client.get("/readyz")).status_code == httpx.codes.OK

    await until(said, 30)


async def test_questions_are_answered_on_the_topic(settings: Settings, calcom: tuple[Calcom, str]) -> None:
    settings = here(settings)
    await company(settings, calcom[1])
    await ask(settings, 1, await booked(calcom[0]))
    await ask(settings, 2, "nobodyHasThis")
    async with running(settings) as client:
        first, second = await told(settings, 2)
        assert (first.verdict, second.verdict) == (Verdict.FOUND_EQUAL, Verdict.ABSENT_ONCE)
        assert (first.bookings[0]["uid"], second.bookings) == (first.uid, [])
        await ready(client)
        assert 'reconcal_checks_total{reason="not_found",verdict="absent_once"}' in (await client.get("/metrics")).text
        assert (await client.get("/livez")).status_code == httpx.codes.OK


async def test_a_human_is_answered_within_two_seconds_while_a_sweep_of_a_thousand_runs(
    alone: Settings, calcom: tuple[Calcom, str]
) -> None:
    """95 of 100: at Cal.com's limit, with the reserve that is kept for humans."""
    await company(alone, calcom[1])
    uid = await booked(calcom[0])
    connection = await asyncpg.connect(alone.postgres_dsn)
    await connection.executemany(
        _PUT, [row(question(n, "nobodyHasThis", priority=Priority.SWEEP)) for n in range(100, 1100)]
    )
    loop, took = asyncio.get_running_loop(), []

    async def answered() -> bool:
        return not await connection.fetchval("SELECT count(*) FROM verifications WHERE priority = 0")

    async with running(alone):
        await until(lambda: asyncio.sleep(0, len(calcom[0].requests.requests) > 5), 20)
        for number in range(20):
            began = loop.time()
            await ask(alone, number, uid, priority=Priority.HUMAN)
            await until(answered, 20)
            took.append(loop.time() - began)
    assert sorted(took)[18] < 2.0, took
    assert await connection.fetchval("SELECT count(*) FROM verifications") > 900, (
        "the sweep was under way all the while"
    )
    await connection.close()


async def test_kafka_goes_away_and_comes_back(dsn: str, calcom: tuple[Calcom, str]) -> None:
    async with AsyncExitStack() as opened:
        broker = await opened.enter_async_context(EmbeddedBroker())
        settings = here(await stand(broker.bootstrap_servers, dsn))
        await company(settings, calcom[1])
        uid = await booked(calcom[0])
        client = await opened.enter_async_context(running(settings))
        await ready(client)
        await broker.stop()
        await ask(settings, 1, uid)
        await troubled(client, "kafka")
        await opened.enter_async_context(EmbeddedBroker(int(broker.bootstrap_servers.rpartition(":")[2])))
        await stand(broker.bootstrap_servers, dsn, kafka_topic_prefix=settings.kafka_topic_prefix)
        (check, *_) = await told(settings, 1)
        assert check.verdict is Verdict.FOUND_EQUAL
        await ready(client)


async def test_postgres_goes_away_and_comes_back(alone: Settings, calcom: tuple[Calcom, str]) -> None:
    place = urlsplit(alone.postgres_dsn)
    assert place.hostname is not None
    proxy = TcpProxy(place.hostname, place.port or 5432)
    await proxy.start()
    by_proxy = place._replace(netloc=f"{place.netloc.rpartition('@')[0]}@127.0.0.1:{proxy.port}").geturl()
    await company(alone, calcom[1])
    uid = await booked(calcom[0])
    async with running(replace(alone, postgres_dsn=by_proxy)) as client:
        await ready(client)
        await proxy.cut()
        await troubled(client, "postgres")
        await ask(alone, 1, uid)
        await proxy.heal()
        assert len(await told(alone, 1)) == 1
        await ready(client)
    await proxy.stop()


async def test_a_cal_com_that_hangs_is_no_answer_and_does_not_keep_us(
    alone: Settings, calcom: tuple[Calcom, str]
) -> None:
    """`running` bounds the end by 10 s while a request hangs."""
    await company(alone, calcom[1])
    uid = await booked(calcom[0])
    calcom[0].mischief.play(Hang(), key=KEY)
    await ask(alone, 1, uid)
    async with running(replace(alone, calcom_timeout_seconds=0.5)):
        (check, *_) = await told(alone, 1)
        assert (check.verdict, check.reason) == (Verdict.UNKNOWN, "timeout")
    await ask(alone, 2, uid)
    asked = len(calcom[0].requests.requests)
    async with running(replace(alone, calcom_timeout_seconds=60.0)):
        await until(lambda: asyncio.sleep(0, len(calcom[0].requests.requests) > asked), 20)
    connection = await asyncpg.connect(alone.postgres_dsn)
    assert await connection.fetchval("SELECT leased_by IS NULL FROM verifications"), "it was given back"
    await connection.close()


@pytest.mark.parametrize("setting", ["kafka_bootstrap_servers", "postgres_dsn"])
async def test_it_ends_in_time_while_something_does_not_answer(alone: Settings, setting: str) -> None:
    """`running` bounds the end by 10 s; the listener takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        host, port = mute.getsockname()
        given = {"kafka_bootstrap_servers": f"{host}:{port}", "postgres_dsn": f"postgresql://u:p@{host}:{port}/d"}
        async with running(replace(alone, **{setting: given[setting]})):
            mute.settimeout(0)
            caller, _ = await asyncio.wait_for(asyncio.get_running_loop().sock_accept(mute), 20)
        caller.close()


@pytest.mark.parametrize(
    ("setting", "value"), [("sweep_time_zone", "Mars/Olympus"), ("secret_key", "short"), ("secret_key", "")]
)
async def test_what_no_retry_mends_is_named_at_the_start(alone: Settings, setting: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"RECONCAL_{setting.upper()}"):
        await main.serve(replace(alone, **{setting: value}), asyncio.Event())
