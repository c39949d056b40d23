"""The service: who is made of what, and the loops beside the doors."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from secrets import token_hex
from typing import Any, Final

from msgspec import Struct
from starlette.types import ASGIApp

from schemas import topics
from services.companies.register import Register
from services.ingest.app import create_app
from services.ingest.drainer import LAST_SECONDS, Drainer, open_spool
from services.ingest.guard import Limits
from services.ingest.keeper import Broker, KafkaKeeper
from services.ingest.reports import Report
from services.ingest.spooling import SpoolKeeper
from services.plumbing import health as http
from services.plumbing import kafka, postgres, telemetry
from services.plumbing.clock import Clock, WallClock
from services.plumbing.health import Health
from services.plumbing.lifecycle import cut, first_of, keep, pause, together
from services.plumbing.publisher import Publisher
from services.plumbing.secrets import Vault
from services.plumbing.settings import Settings

#: Between two publishers: what breaks each at once must not become a storm.
_RENEWAL_SECONDS: Final = 1.0
#: Longer than a produce may take; with the publisher's own goodbye it ends before `lifecycle` loses patience.
_GOODBYE_SECONDS: Final = 4.0
#: From the stop to the end of the last draining, however long the goodbye took.
_DRAINED_SECONDS: Final = 5.5
#: The longest that a loop takes to end by itself: the publisher's goodbye.
_CUT_SECONDS: Final = 3.2


class _Works(Struct, frozen=True):
    """What keeps, and what looks after it; `drainer`: where there is a spool."""

    broker: Broker
    keeper: KafkaKeeper | SpoolKeeper
    report: Report
    drainer: Drainer | None


class _Ends:
    """The end in its order: told to stop, the doors shut, what was kept drained."""

    def __init__(self, stop: asyncio.Event) -> None:
        self.stop, self.closed, self.drained = stop, asyncio.Event(), asyncio.Event()
        self._stopped_at: float | None = None

    async def watch(self) -> None:
        """Note when we are told."""
        await self.stop.wait()
        self._stopped_at = asyncio.get_running_loop().time()

    def left_seconds(self) -> float:
        """Give how long may still be drained."""
        now = asyncio.get_running_loop().time()
        return max(0.2, min(LAST_SECONDS, (self._stopped_at or now) + _DRAINED_SECONDS - now))


async def serve(
    settings: Settings, stop: asyncio.Event, *, listener: socket.socket | None = None, clock: Clock | None = None
) -> None:
    """Serve until `stop`; ends within 10 s of it, whatever is away.

    Starts with broker and database away: without companies the doors answer 503, and /readyz says why. Raises
    SettingsError for a setting that is missing, a key that opens no secret or a spool that cannot be written, OSError
    when the address is taken.
    """
    settings.need("kafka_bootstrap_servers", "postgres_dsn", "secret_key")
    vault = Vault(settings.secret_key)
    clock = clock or WallClock()
    async with _works(settings, clock) as works:
        register, health = Register(), _health(works)
        app = create_app(
            register,
            works.keeper,
            health,
            clock=clock,
            max_body_bytes=settings.ingest_max_body_bytes,
            limits=Limits(settings.ingest_events_per_second, settings.ingest_events_burst),
        )
        listener = listener or http.listen(settings.ingest_host, settings.ingest_port)
        await works.report.first(settings)
        telemetry.log().info(telemetry.SERVICE_STARTED, service="ingest", address=listener.getsockname()[:2])
        ends, broker = _Ends(stop), works.broker
        await together(
            ends.watch(),
            _open_doors(app, listener, ends),
            keep("ingest-companies", lambda: _follow(settings, vault, register, health, stop), stop),
            _until(ends.drained, "ingest-publisher", lambda: _supply(settings, broker, ends.drained)),
            _until(stop, "ingest-broker", lambda: _watch(settings, broker, stop)),
            _until(ends.drained, "ingest-report", lambda: works.report.follow(settings, ends.drained)),
            _drain(works.drainer, ends),
        )
    telemetry.log().info(telemetry.SERVICE_STOPPED, service="ingest")


@asynccontextmanager
async def _works(settings: Settings, clock: Clock) -> AsyncIterator[_Works]:
    broker = Broker()
    if not settings.ingest_spool_dir:
        kafka_keeper = KafkaKeeper(broker, settings.ingest_produce_timeout_seconds)
        door_id = f"{socket.gethostname()}:{os.getpid()}-{token_hex(4)}"
        telemetry.spool_max_bytes.set(0)
        yield _Works(broker, kafka_keeper, Report(door_id, kafka_keeper.unsent, clock), None)
        return
    own = await open_spool(settings, clock.now)
    keeper = SpoolKeeper(broker, own[1], settings.ingest_spool_after_seconds)
    report = Report(own[0].door_id, keeper.unsent, clock)
    drainer = Drainer(keeper, broker, own, report, seconds=settings.ingest_produce_timeout_seconds, now=clock.now)
    try:
        await drainer.adopt()
        yield _Works(broker, keeper, report, drainer)
    finally:
        await drainer.close()


def _health(works: _Works) -> Health:
    """With a spool that takes what comes we are ready, be Kafka away: what is taken out of rotation loses webhooks."""
    health = Health()
    health.unready("companies", "not read yet")
    health.judge("kafka", lambda: works.keeper.trouble)
    if works.drainer is not None:
        health.note("kafka", lambda: works.broker.trouble)
        health.note("spool", works.drainer.detail)
    return health


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


async def _open_doors(app: ASGIApp, listener: socket.socket, ends: _Ends) -> None:
    """Serve HTTP; when the last request was answered, and not before, the spool may be closed and the publisher go."""
    try:
        await http.serve(app, listener, ends.stop, stop_seconds=_GOODBYE_SECONDS)
    finally:
        ends.closed.set()


async def _drain(drainer: Drainer | None, ends: _Ends) -> None:
    try:
        if drainer is None:
            await ends.closed.wait()
        else:
            await drainer.run(ends.closed, ends.left_seconds)
    finally:
        ends.drained.set()


async def _until(ended: asyncio.Event, name: str, loop: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Keep a loop until `ended`; a call that hangs then, for its other end does not answer, is cut short."""
    await keep(name, lambda: cut(loop(), ended, grace_seconds=_CUT_SECONDS), ended)


async def _supply(settings: Settings, broker: Broker, ended: asyncio.Event) -> None:
    """Open a publisher, and another one when it is spent. It lives through outages: the client reconnects itself."""
    publisher = await Publisher.open(settings)
    try:
        broker.use(publisher, await publisher.learn(topics.SIDES))
        await first_of(broker.spent, ended)
    finally:
        broker.use(None)
        await publisher.close()
    if not ended.is_set():
        await pause(_RENEWAL_SECONDS, ended)


async def _watch(settings: Settings, broker: Broker, stop: asyncio.Event) -> None:
    """After a failure wait until the broker answers again; until then we are not ready, or live on the spool."""
    await first_of(broker.doubt, stop)
    if stop.is_set():
        return
    await kafka.inspect(settings)
    broker.answered()
