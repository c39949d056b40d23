"""The service: who is made of what, and the loops beside the doors."""

import asyncio
import socket
from typing import Final

from starlette.types import ASGIApp

from services.companies.register import Register
from services.ingest.app import create_app
from services.ingest.guard import Limits
from services.ingest.keeper import KafkaKeeper
from services.plumbing import health as http
from services.plumbing import kafka, postgres, telemetry
from services.plumbing.clock import Clock, WallClock
from services.plumbing.health import Health
from services.plumbing.lifecycle import keep, pause, together
from services.plumbing.publisher import Publisher
from services.plumbing.secrets import Vault
from services.plumbing.settings import Settings

#: Between two publishers: what breaks each at once must not become a storm.
_RENEWAL_SECONDS: Final = 1.0
#: Longer than a produce may take; with the publisher's own goodbye it ends before `lifecycle` loses patience.
_GOODBYE_SECONDS: Final = 4.0


async def serve(
    settings: Settings, stop: asyncio.Event, *, listener: socket.socket | None = None, clock: Clock | None = None
) -> None:
    """Serve until `stop`; ends within 10 s of it, whatever is away.

    Starts with broker and database away: the doors answer 503 and /readyz says why. Raises SettingsError for a
    setting that is missing or a key that opens no secret, OSError when the address is taken.
    """
    settings.need("kafka_bootstrap_servers", "postgres_dsn", "secret_key")
    vault = Vault(settings.secret_key)
    register, health = Register(), Health()
    keeper = KafkaKeeper(settings.ingest_produce_timeout_seconds)
    health.unready("companies", "not read yet")
    health.unready("kafka", "not reached yet")
    app = create_app(
        register,
        keeper,
        health,
        clock=clock or WallClock(),
        max_body_bytes=settings.ingest_max_body_bytes,
        limits=Limits(settings.ingest_events_per_second, settings.ingest_events_burst),
    )
    listener = listener or http.listen(settings.ingest_host, settings.ingest_port)
    telemetry.log().info(telemetry.SERVICE_STARTED, service="ingest", address=listener.getsockname()[:2])
    closed = asyncio.Event()
    await together(
        _open_doors(app, listener, stop, closed),
        keep("ingest-companies", lambda: _follow(settings, vault, register, health, stop), stop),
        keep("ingest-publisher", lambda: _supply(settings, keeper, health, closed), closed),
        keep("ingest-broker", lambda: _watch(settings, keeper, health, stop), stop),
    )
    telemetry.log().info(telemetry.SERVICE_STOPPED, service="ingest")


async def _follow(settings: Settings, vault: Vault, register: Register, health: Health, stop: asyncio.Event) -> None:
    """Keep the register fresh. Once it was read, a database that is away does not matter to the doors."""
    pool = await postgres.connect(settings, name="ingest", size=1, command_seconds=10)
    try:
        await register.follow(
            pool,
            settings.companies_refresh_seconds,
            stop,
            vault=vault,
            changed=lambda: health.ready("companies"),
        )
    finally:
        await postgres.close(pool, 2)


async def _open_doors(app: ASGIApp, listener: socket.socket, stop: asyncio.Event, closed: asyncio.Event) -> None:
    """Serve HTTP; when the last request was answered, and not before, the publisher may go."""
    try:
        await http.serve(app, listener, stop, stop_seconds=_GOODBYE_SECONDS)
    finally:
        closed.set()


async def _supply(settings: Settings, keeper: KafkaKeeper, health: Health, closed: asyncio.Event) -> None:
    """Open a publisher, and another one when it is spent. It lives through outages: the client reconnects itself."""
    publisher = await Publisher.open(settings)
    keeper.use(publisher)
    health.ready("kafka")
    try:
        await _either(keeper.spent, closed)
    finally:
        keeper.use(None)
        await publisher.close()
    if not closed.is_set():
        health.unready("kafka", "the client broke and is being replaced")
        await pause(_RENEWAL_SECONDS, closed)


async def _watch(settings: Settings, keeper: KafkaKeeper, health: Health, stop: asyncio.Event) -> None:
    """After a failure say that we are not ready, until the broker answers again."""
    await _either(keeper.doubt, stop)
    if stop.is_set():
        return
    health.unready("kafka", "the broker did not acknowledge")
    await kafka.inspect(settings)
    keeper.doubt.clear()
    health.ready("kafka")


async def _either(first: asyncio.Event, second: asyncio.Event) -> None:
    waiting = [asyncio.ensure_future(event.wait()) for event in (first, second)]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for one in waiting:
            one.cancel()
