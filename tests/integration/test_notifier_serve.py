"""The notifier as it runs: from the topic of flags to the mail server, and with either of them gone."""

import asyncio
import re
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import msgspec
import pytest
from aiosmtpd.smtp import SMTP, Envelope, Session
from msgspec.structs import replace

from schemas.envelope import Delivery
from schemas.flags import AppointmentFacts, Flag, FlagType, Kind
from schemas.topics import SYNC_FLAGS
from services.embedded.broker import EmbeddedBroker
from services.embedded.mailsink import MailSink
from services.notifier import main
from services.plumbing import health
from services.plumbing.publisher import Publisher
from services.plumbing.settings import Settings, SettingsError
from tests.support.stand import stand

COMPANY = "praxis"
NOW = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
_NUMBER = re.compile(r"#(\d+)")


class Sink(MailSink):
    """A mail sink for which one can wait."""

    def __init__(self) -> None:
        super().__init__()
        self._came = asyncio.Condition()

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        answer = await super().handle_DATA(server, session, envelope)
        async with self._came:
            self._came.notify_all()
        return answer

    async def numbers(self, count: int) -> list[str]:
        """Wait until so many appointments were told of, at most 20 s; gives their numbers, as often as mails did."""
        async with asyncio.timeout(20), self._came:
            await self._came.wait_for(lambda: len(self._told()) >= count)
        return self._told()

    def _told(self) -> list[str]:
        return [number for mail in self.mails for number in dict.fromkeys(_NUMBER.findall(mail.text))]


@pytest.fixture
async def sink() -> AsyncIterator[Sink]:
    async with Sink() as sink:
        yield sink


@asynccontextmanager
async def running(settings: Settings, sink: MailSink) -> AsyncIterator[str]:
    """Run a notifier; gives its address. It must end within 10 s."""
    stop = asyncio.Event()
    listener = health.listen("127.0.0.1", 0)
    settings = replace(settings, smtp_port=sink.smtp_port)
    serving = asyncio.ensure_future(main.serve(settings, stop, listener=listener))
    try:
        yield "http://{}:{}".format(*listener.getsockname())
    finally:
        stop.set()
        await asyncio.wait_for(serving, 10)


@pytest.fixture
def alone(embedded_settings: Settings) -> Settings:
    """Give settings for the embedded broker, as `reconcal up` has them: all partitions at once."""
    return replace(embedded_settings, kafka_assignment="all")


async def found(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute(
        "INSERT INTO companies (company_id, name, group_wait_seconds, group_interval_seconds)"
        " VALUES ($1, $1, 0.3, 0.3)",
        COMPANY,
    )
    await connection.execute(
        "INSERT INTO contacts (company_id, contact_id, name, email, role)"
        " VALUES ($1, $2, 'Mia', 'mia@example.com', 'admin')",
        COMPANY,
        uuid4(),
    )
    await connection.close()


async def raise_flags(settings: Settings, *flags: Flag | bytes) -> None:
    publisher = await Publisher.open(settings)
    for flag in flags:
        body = flag if isinstance(flag, bytes) else msgspec.json.encode(flag)
        delivery = Delivery(
            topic=SYNC_FLAGS,
            company_id=COMPANY,
            ce_id=str(uuid4()),
            ce_source="/reconciler",
            ce_type="sync.orphaned_local",
            received_at=NOW,
            body=body,
        )
        await publisher.publish(delivery)
    await publisher.close()


def a_flag(number: int, **over: Any) -> Flag:
    appointment = AppointmentFacts(
        appointment_id=str(number), status="confirmed", starts_at=NOW + timedelta(days=99, hours=number)
    )
    flag = Flag(
        id=uuid4(),
        type=FlagType.ORPHANED_LOCAL,
        company_id=COMPANY,
        record_id=uuid4(),
        kind=Kind.ORPHANED_LOCAL,
        generation=1,
        decided_at=NOW,
        reason="no booking came",
        verdict="not_verified",
        appointment=appointment,
    )
    return replace(flag, **over)


async def test_flags_are_mailed_once_each_and_those_that_resolved_not_at_all(settings: Settings, sink: Sink) -> None:
    await found(settings.postgres_dsn)
    one, two, last = a_flag(1), a_flag(2), a_flag(3)
    resolved = replace(two, id=uuid4(), type=FlagType.RESOLVED, resolves=two.id)
    async with running(settings, sink):
        await raise_flags(settings, one, one, two, resolved, one, last)
        assert await sink.numbers(2) == ["1", "3"]


async def test_what_is_no_flag_or_anothers_flag_is_passed_over(alone: Settings, sink: Sink) -> None:
    await found(alone.postgres_dsn)
    stranger = a_flag(1, company_id="somebody-else")
    async with running(alone, sink):
        await raise_flags(alone, b"\xff{", b"{}", stranger, a_flag(2))
        assert await sink.numbers(1) == ["2"]


async def test_a_notifier_goes_on_where_the_last_one_stopped(alone: Settings, sink: Sink) -> None:
    await found(alone.postgres_dsn)
    async with running(alone, sink):
        await raise_flags(alone, a_flag(1))
        await sink.numbers(1)
    await raise_flags(alone, a_flag(2))
    async with running(alone, sink):
        assert await sink.numbers(2) == ["1", "2"]


async def test_two_notifiers_mail_every_flag_once(settings: Settings, sink: Sink) -> None:
    await found(settings.postgres_dsn)
    async with running(settings, sink), running(settings, sink):
        await raise_flags(settings, *(a_flag(number) for number in range(18)), a_flag(99))
        assert sorted(map(int, await sink.numbers(19))) == [*range(18), 99]


async def test_a_new_log_is_read_from_its_start_and_old_flags_in_it_are_known(dsn: str, sink: Sink) -> None:
    await found(dsn)
    one = a_flag(1)
    async with AsyncExitStack() as opened:
        broker = await opened.enter_async_context(EmbeddedBroker())
        settings = await stand(broker.bootstrap_servers, dsn, kafka_assignment="all", stall_after_seconds="0.5")
        await opened.enter_async_context(running(settings, sink))
        await raise_flags(settings, one, a_flag(2))
        assert await sink.numbers(2) == ["1", "2"]
        await broker.stop()
        await broker_at(broker.bootstrap_servers, opened)
        await stand(broker.bootstrap_servers, dsn, kafka_topic_prefix=settings.kafka_topic_prefix)
        await raise_flags(settings, one, a_flag(3))
        assert await sink.numbers(3) == ["1", "2", "3"]


async def broker_at(address: str, opened: AsyncExitStack) -> None:
    """Start an empty broker where another one was."""
    await opened.enter_async_context(EmbeddedBroker(int(address.rpartition(":")[2])))


async def test_it_says_what_is_missing_and_mends_by_itself(alone: Settings, sink: Sink) -> None:
    await found(alone.postgres_dsn)
    await sink.stop()
    async with running(alone, sink) as address, httpx.AsyncClient(base_url=address) as client:
        await raise_flags(alone, a_flag(1))
        async with asyncio.timeout(20):
            while "smtp" not in (troubles := (await client.get("/readyz")).json()["troubles"]):
                pass
        assert "Connect" in troubles["smtp"]
        await sink.start()
        assert await sink.numbers(1) == ["1"]
        assert (await client.get("/livez")).status_code == 200


@pytest.mark.parametrize("setting", ["kafka_bootstrap_servers", "postgres_dsn", "smtp"])
async def test_it_ends_in_time_while_something_does_not_answer(alone: Settings, sink: Sink, setting: str) -> None:
    """`running` bounds the end by 10 s; the listener takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        host, port = mute.getsockname()
        given = {"kafka_bootstrap_servers": f"{host}:{port}", "postgres_dsn": f"postgresql://u:p@{host}:{port}/d"}
        settings = alone
        if setting == "smtp":
            sink.smtp_port = port
            await found(settings.postgres_dsn)
            await raise_flags(settings, a_flag(1))
        else:
            settings = replace(settings, **{setting: given[setting]})
        async with running(replace(settings, smtp_timeout_seconds=30.0), sink):
            mute.settimeout(0)
            caller, _ = await asyncio.wait_for(asyncio.get_running_loop().sock_accept(mute), 20)
        caller.close()


async def test_a_sender_that_is_no_address_is_refused_at_the_start(alone: Settings) -> None:
    with pytest.raises(SettingsError, match="RECONCAL_MAIL_FROM"):
        await main.serve(replace(alone, mail_from="nobody"), asyncio.Event())
