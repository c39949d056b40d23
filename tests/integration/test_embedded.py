"""What the embedded broker, database and mail sink promise."""

import os
import signal
import smtplib
import stat
from asyncio import to_thread
from datetime import UTC, datetime
from email.message import EmailMessage
from pathlib import Path

import asyncpg
import httpx
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from services.embedded.broker import EmbeddedBroker
from services.embedded.child import ChildError
from services.embedded.database import EmbeddedDatabase
from services.embedded.mailbox import mailbox_app
from services.embedded.mailsink import KEPT_MAILS, MailSink, read

MOMENT = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)


async def test_the_broker_gives_back_what_it_took_with_headers_and_timestamp() -> None:
    async with EmbeddedBroker() as broker:
        await _create(broker, NewTopic("notes", 3, 1))
        stamp_ms = int(MOMENT.timestamp() * 1000)
        producer = AIOKafkaProducer(bootstrap_servers=broker.bootstrap_servers, acks="all")
        consumer = AIOKafkaConsumer(bootstrap_servers=broker.bootstrap_servers, auto_offset_reset="earliest")
        async with producer, consumer:
            await producer.send_and_wait(
                "notes", b"body", key=b"acme", headers=[("ce_id", b"1")], partition=2, timestamp_ms=stamp_ms
            )
            consumer.assign([TopicPartition("notes", 2)])
            record = await consumer.getone()
    assert (record.key, record.value, record.headers) == (b"acme", b"body", (("ce_id", b"1"),))
    assert (record.partition, record.offset, record.timestamp) == (2, 0, stamp_ms)


async def test_each_start_of_the_broker_is_a_new_cluster() -> None:
    """What it held is gone, and its id says so: who keeps offsets can tell that the log is new."""
    seen = set()
    for _ in range(2):
        async with EmbeddedBroker() as broker:
            admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
            await admin.start()
            seen.add((await admin.describe_cluster())["cluster_id"])
            await admin.close()
    assert len(seen) == 2


async def test_a_broker_on_a_port_that_is_taken_says_so_at_once() -> None:
    async with EmbeddedBroker() as broker:
        port = int(broker.bootstrap_servers.rpartition(":")[2])
        with pytest.raises(ChildError, match="the embedded broker ended"):
            await EmbeddedBroker(port).start()


async def test_the_database_keeps_its_data_when_its_process_is_killed(tmp_path: Path) -> None:
    database = EmbeddedDatabase(tmp_path)
    await database.start()
    connection = await asyncpg.connect(database.dsn)
    await connection.execute("CREATE TABLE notes AS SELECT 'kept' AS note")
    assert database.pid is not None
    os.kill(database.pid, signal.SIGKILL)
    connection.terminate()
    await database.stop()
    assert (tmp_path / "postgres" / "postmaster.pid").exists(), "it was not stopped in an orderly way"

    async with EmbeddedDatabase(tmp_path) as again:
        connection = await asyncpg.connect(again.dsn)
        assert await connection.fetchval("SELECT note FROM notes") == "kept"
        await connection.close()


async def test_the_database_asks_for_its_password_and_keeps_it_to_itself(tmp_path: Path) -> None:
    async with EmbeddedDatabase(tmp_path) as database:
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(database.dsn, password="guessed")
        password = tmp_path / "postgres-password"
        assert password.read_text("ascii").strip() in database.dsn
        assert stat.S_IMODE(password.stat().st_mode) == 0o600


async def test_a_process_id_that_now_belongs_to_another_program_is_no_obstacle(tmp_path: Path) -> None:
    async with EmbeddedDatabase(tmp_path):
        pass
    (tmp_path / "postgres" / "postmaster.pid").write_text(f"{os.getpid()}\n{tmp_path}\n0\n0\n", "ascii")
    async with EmbeddedDatabase(tmp_path) as database:
        assert database.pid


async def test_a_mail_is_shown_with_every_field() -> None:
    mail = EmailMessage()
    mail["From"] = "Reconcal <reconcal@example.com>"
    mail["To"] = "Mia Müster <mia@example.com>, ben@example.com"
    mail["Subject"] = "Prüfung nötig: Termin #4711"
    mail["Message-ID"] = "<2@reconcal>"
    mail["In-Reply-To"] = "<1@reconcal>"
    mail.set_content("Grüße\n")
    mail.add_alternative("<p>Grüße</p>\n", subtype="html")
    async with MailSink() as sink:
        await to_thread(_send, sink, mail)
        (shown,) = (await _get(sink, "/messages")).json()
    assert shown["raw"].startswith("From: Reconcal <reconcal@example.com>")
    assert datetime.fromisoformat(shown["received_at"]).tzinfo is not None
    del shown["raw"], shown["received_at"]
    assert shown == {
        "from": "reconcal@example.com",
        "to": ["mia@example.com", "ben@example.com"],
        "subject": "Prüfung nötig: Termin #4711",
        "message_id": "<2@reconcal>",
        "in_reply_to": "<1@reconcal>",
        "text": "Grüße\n",
        "html": "<p>Grüße</p>\n",
    }


async def test_the_mailbox_page_runs_nothing_that_a_mail_brings() -> None:
    sink = MailSink()
    sink.mails.append(read(b"Subject: <script>1</script>\n\n<b>hi</b>", "a@b.c", ["d@e.f"], MOMENT))
    page = await _get(sink, "/")
    assert "<script" not in page.text
    assert "&lt;script&gt;1&lt;/script&gt;" in page.text
    assert "&lt;b&gt;hi&lt;/b&gt;" in page.text
    assert page.headers["content-security-policy"].startswith("default-src 'none'; style-src 'sha256-")


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xfe\x00", b"Content-Type: text/plain; charset=nope\n\nhi", b"Message-ID: [\nFrom: <<\n\nhi"],
)
async def test_a_malformed_mail_is_shown_too(content: bytes) -> None:
    mail = read(content, "a@b.c", ["d@e.f"], MOMENT)
    assert (mail.to, mail.html) == (["d@e.f"], None)


async def test_the_mail_sink_forgets_the_oldest() -> None:
    sink = MailSink()
    for number in range(KEPT_MAILS + 1):
        sink.mails.append(read(f"Subject: {number}\n\n".encode(), "a@b.c", ["d@e.f"], MOMENT))
    shown = (await _get(sink, "/messages")).json()
    assert (len(shown), shown[0]["subject"], shown[-1]["subject"]) == (KEPT_MAILS, "1", str(KEPT_MAILS))


def _send(sink: MailSink, mail: EmailMessage) -> None:
    host, _, port = sink.smtp_address.rpartition(":")
    with smtplib.SMTP(host, int(port), timeout=5) as smtp:
        smtp.send_message(mail)


async def _get(sink: MailSink, path: str) -> httpx.Response:
    transport = httpx.ASGITransport(app=mailbox_app(sink))
    async with httpx.AsyncClient(transport=transport, base_url="http://mailbox") as client:
        return await client.get(path)


async def _create(broker: EmbeddedBroker, topic: NewTopic) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
    await admin.start()
    await admin.create_topics([topic])
    await admin.close()
