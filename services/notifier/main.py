"""The notifier as a process: the place that knows the concrete classes."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Final

from services.notifier.compose import sender
from services.notifier.mailbox import Mailbox
from services.notifier.sender import Sender
from services.notifier.store import Store
from services.notifier.worker import Worker
from services.plumbing import health, lifecycle, postgres, telemetry
from services.plumbing.clock import Clock, WallClock
from services.plumbing.health import Health
from services.plumbing.settings import Settings, SettingsError

#: After a stop: to end by itself. With `lifecycle.CUT_SECONDS`, to let go, less than `lifecycle.STOP_SECONDS`.
GRACE_SECONDS: Final = 3.5
CLOSE_SECONDS: Final = 1.0


async def serve(
    settings: Settings, stop: asyncio.Event, *, listener: socket.socket | None = None, clock: Clock | None = None
) -> None:
    """Take in flags and send mails until `stop`. Raises SettingsError; OSError when the port is taken."""
    settings.need("kafka_bootstrap_servers", "postgres_dsn", "console_url", "smtp_host", "mail_from")
    _check(settings)
    notifier = _Notifier(settings, clock or WallClock(), stop)
    listener = listener or health.listen(settings.notifier_host, settings.notifier_port)
    telemetry.log().info(telemetry.SERVICE_STARTED, service="notifier", address="{}:{}".format(*listener.getsockname()))
    await lifecycle.together(
        health.serve(health.app(notifier.health), listener, stop),
        lifecycle.cut(lifecycle.keep("notifier.flags", notifier.flags, stop), stop, grace_seconds=GRACE_SECONDS),
        lifecycle.cut(lifecycle.keep("notifier.mails", notifier.mails, stop), stop, grace_seconds=GRACE_SECONDS),
    )
    telemetry.log().info(telemetry.SERVICE_STOPPED, service="notifier")


class _Notifier:
    """The two loops, each with connections of its own, so that either can begin anew without the other."""

    def __init__(self, settings: Settings, clock: Clock, stop: asyncio.Event) -> None:
        self.health = Health()
        self._settings = settings
        self._clock = clock
        self._stop = stop
        self._queued = asyncio.Event()
        for part in ("flags", "mails"):
            self.health.unready(part, "not connected yet")

    async def flags(self) -> None:
        """Take flags in until stop."""
        await self._run("flags", lambda pool: self._worker(pool).run())

    async def mails(self) -> None:
        """Send mails until stop."""
        await self._run("mails", lambda pool: self._sender(pool).run())

    async def _run(self, part: str, loop: Callable[[postgres.Pool], Awaitable[None]]) -> None:
        try:
            pool = await postgres.connect(self._settings, name="notifier", size=1)
            try:
                await loop(pool)
            finally:
                await postgres.close(pool, CLOSE_SECONDS)
        except lifecycle.PASSING as error:
            self.health.unready(part, lifecycle.describe(error))
            raise

    def _worker(self, pool: postgres.Pool) -> Worker:
        settings = self._settings
        store = Store(
            pool,
            console_url=settings.console_url,
            mail_from=settings.mail_from,
            hold_seconds=settings.notify_hold_seconds,
        )
        return Worker(settings, store, self._clock, self.health, self._queued, self._stop)

    def _sender(self, pool: postgres.Pool) -> Sender:
        return Sender(self._settings, Mailbox(pool), self._clock, self.health, self._queued, self._stop)


def _check(settings: Settings) -> None:
    try:
        sender(settings.mail_from)
    except ValueError as error:
        raise SettingsError(f"RECONCAL_MAIL_FROM: {error}") from None
