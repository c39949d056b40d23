"""What a stack stands on: broker, database and mail sink where nobody gave one, and open addresses."""

import asyncio
import socket
from collections.abc import Collection
from contextlib import AsyncExitStack
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from services.embedded import state
from services.embedded.broker import EmbeddedBroker
from services.embedded.database import EmbeddedDatabase
from services.embedded.mailsink import MailSink
from services.embedded.ports import HOST
from services.plumbing import health, kafka, migrate
from services.plumbing.settings import Settings


class Plan(Struct, frozen=True, kw_only=True):
    """What to run. `given` names the settings that somebody chose: the others are this stack's to set.

    A port that is 0 is any free one. `pointers` is the directory in which other commands look for running stacks.
    """

    settings: Settings
    given: Collection[str]
    data_dir: Path
    pointers: Path
    kafka_port: int = 0
    postgres_port: int = 0


class Furnished(Struct, frozen=True, kw_only=True):
    """The settings that have come to be, and a listening socket for each service. `sink`: where mails go to ours."""

    settings: Settings
    ingest: socket.socket
    reconciler: socket.socket
    verifier: socket.socket
    notifier: socket.socket
    console: socket.socket
    sink: MailSink | None
    mailbox: socket.socket | None


async def furnish(plan: Plan, opened: AsyncExitStack) -> Furnished:
    """Start what nobody gave, bring database and topics up to date, and open the addresses."""
    settings, sink = plan.settings, None
    async with asyncio.TaskGroup() as starting:
        broker = starting.create_task(_broker(plan, opened))
        database = starting.create_task(_database(plan, opened))
    if not settings.kafka_bootstrap_servers and "kafka_assignment" not in plan.given:
        settings = replace(settings, kafka_assignment="all")
    settings = replace(settings, kafka_bootstrap_servers=broker.result(), postgres_dsn=database.result())
    if "ingest_spool_dir" not in plan.given:
        settings = replace(settings, ingest_spool_dir=str(plan.data_dir / "spool"))
    if "calcom_private_addresses" not in plan.given:
        # Whoever runs all of it on a machine of his own chooses the addresses himself, that of his own Cal.com too.
        settings = replace(settings, calcom_private_addresses="allow")
    if not settings.secret_key:
        settings = replace(settings, secret_key=state.ensure_key(plan.data_dir))
    if "smtp_host" not in plan.given:
        sink = await opened.enter_async_context(MailSink())
        settings = replace(settings, smtp_host=HOST, smtp_port=sink.smtp_port, smtp_security="none", smtp_username="")
    await migrate.migrate(settings.postgres_dsn)
    await kafka.ensure_topics(settings)
    kafka.partition_count(await kafka.inspect(settings))
    doors = [
        opened.enter_context(_listen(name, host, port if name in plan.given else 0))
        for name, host, port in (
            ("ingest_port", settings.ingest_host, settings.ingest_port),
            ("reconciler_port", settings.reconciler_host, settings.reconciler_port),
            ("verifier_port", settings.verifier_host, settings.verifier_port),
            ("notifier_port", settings.notifier_host, settings.notifier_port),
            ("console_port", settings.console_host, settings.console_port),
        )
    ]
    if not settings.ingest_public_url:
        settings = replace(settings, ingest_public_url=url(doors[0]))
    if "console_url" not in plan.given:
        settings = replace(settings, console_url=url(doors[4]))
    mailbox = opened.enter_context(health.listen(HOST, 0)) if sink else None
    return Furnished(
        settings=settings,
        ingest=doors[0],
        reconciler=doors[1],
        verifier=doors[2],
        notifier=doors[3],
        console=doors[4],
        sink=sink,
        mailbox=mailbox,
    )


async def _broker(plan: Plan, opened: AsyncExitStack) -> str:
    given = plan.settings.kafka_bootstrap_servers
    if given:
        return given
    broker = await opened.enter_async_context(EmbeddedBroker(plan.kafka_port or None))
    return broker.bootstrap_servers


async def _database(plan: Plan, opened: AsyncExitStack) -> str:
    given = plan.settings.postgres_dsn
    if given:
        return given
    folder = plan.data_dir / "database"
    database = await opened.enter_async_context(EmbeddedDatabase(folder, plan.postgres_port or None))
    return database.dsn


def _listen(name: str, host: str, port: int) -> socket.socket:
    try:
        return health.listen(host, port)
    except OSError as error:
        raise state.StackError(f"RECONCAL_{name.upper()}: {host}:{port}: {error.strerror}") from None


def url(door: socket.socket) -> str:
    """Give the address under which this machine reaches a listening socket."""
    host, port = door.getsockname()[:2]
    host = {"0.0.0.0": HOST, "::": "::1"}.get(host, host)  # noqa: S104 - read, not bound
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
