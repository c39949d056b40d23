"""The notifier as a process: the place that knows the concrete classes."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from services.notifier import measure
from services.notifier.couriers import Courier, MailCourier, SlackCourier
from services.notifier.hooks.delivery import Hooks
from services.notifier.hooks.poster import SlackPoster
from services.notifier.mail.compose import sender
from services.notifier.mail.smtp import Postman
from services.notifier.sender import Sender
from services.notifier.store import Store
from services.notifier.troubles import PostgresTroubles
from services.notifier.turns import Channel, Turns, forget
from services.notifier.worker import Worker
from services.plumbing import health, lifecycle, postgres, telemetry
from services.plumbing.clock import Clock, WallClock
from services.plumbing.health import Health
from services.plumbing.postgres import Pool
from services.plumbing.settings import Settings, SettingsError

#: After a stop: to end by itself. With `lifecycle.CUT_SECONDS`, to let go, less than `lifecycle.STOP_SECONDS`.
GRACE_SECONDS: Final = 3.5
CLOSE_SECONDS: Final = 1.0
#: Longer than all that is done with a letter beside handing it over.
LEASE_MORE_SECONDS: Final = 10.0
#: How often what ended long ago is forgotten, and what waits is counted.
CHORES_SECONDS: Final = 15.0

_POOL_SIZES: Final = {"webhooks": 4}


async def serve(
    settings: Settings, stop: asyncio.Event, *, listener: socket.socket | None = None, clock: Clock | None = None
) -> None:
    """Take in flags and send mails until `stop`. Raises SettingsError; OSError when the port is taken."""
    settings.need("kafka_bootstrap_servers", "postgres_dsn", "console_url", "smtp_host", "mail_from")
    _check(settings)
    notifier = _Notifier(settings, clock or WallClock(), stop)
    listener = listener or health.listen(settings.notifier_host, settings.notifier_port)
    telemetry.log().info(telemetry.SERVICE_STARTED, service="notifier", address="{}:{}".format(*listener.getsockname()))
    parts = ("flags", "mail", "slack", "webhooks", "chores")
    await lifecycle.together(
        health.serve(health.app(notifier.health), listener, stop),
        *(
            lifecycle.cut(
                lifecycle.keep(f"notifier.{part}", partial(notifier.run, part), stop), stop, grace_seconds=GRACE_SECONDS
            )
            for part in parts
        ),
    )
    telemetry.log().info(telemetry.SERVICE_STOPPED, service="notifier")


class _Notifier:
    """The loops, each with a connection of its own, so that any can begin anew without the others."""

    def __init__(self, settings: Settings, clock: Clock, stop: asyncio.Event) -> None:
        self.health = Health()
        self._settings = settings
        self._clock = clock
        self._stop = stop
        self._holder = lifecycle.new_holder()
        #: One a loop: whoever wakes clears its own.
        self._news = {part: asyncio.Event() for part in ("mail", "slack", "webhooks")}
        self._loops: dict[str, Callable[[Pool], Awaitable[None]]] = {
            "flags": self._flags,
            "mail": self._mail,
            "slack": self._slack,
            "webhooks": self._webhooks,
            "chores": self._chores,
        }
        for part in ("flags", "mail"):
            self.health.unready(part, "not connected yet")

    async def run(self, part: str) -> None:
        """Run one loop until stop."""
        try:
            pool = await postgres.connect(self._settings, name="notifier", size=_POOL_SIZES.get(part, 1))
            try:
                await self._loops[part](pool)
            finally:
                await postgres.close(pool, CLOSE_SECONDS)
        except lifecycle.PASSING as error:
            self.health.unready(part, lifecycle.describe(error))
            raise

    async def _flags(self, pool: Pool) -> None:
        store = Store(pool, console_url=self._settings.console_url)
        await Worker(self._settings, store, self._clock, self.health, self._news.values(), self._stop).run()

    async def _mail(self, pool: Pool) -> None:
        postman = Postman(self._settings)
        try:
            await self._sender(pool, MailCourier(self._settings, postman, self._clock)).run()
        finally:
            await postman.close()

    async def _slack(self, pool: Pool) -> None:
        poster = SlackPoster(self._settings, pool, PostgresTroubles(pool, self._clock), self._clock)
        try:
            await self._sender(pool, SlackCourier(self._settings, poster)).run()
        finally:
            await poster.close()

    async def _webhooks(self, pool: Pool) -> None:
        troubles = PostgresTroubles(pool, self._clock)
        queued = self._news["webhooks"]
        await Hooks(self._settings, pool, troubles, self._clock, self.health, queued, self._stop).run()

    async def _chores(self, pool: Pool) -> None:
        """Forget what ended long ago, and show how it stands: whatever the channels are busy with."""
        while not self._stop.is_set():
            await forget(pool, self._clock.now())
            await measure.measure(pool, self._clock.now())
            self.health.ready("chores")
            await lifecycle.pause(CHORES_SECONDS, self._stop)

    def _sender(self, pool: Pool, courier: Courier) -> Sender:
        channel = courier.channel
        lease_seconds = lease_seconds_of(self._settings, channel)
        turns = Turns(pool, channel, self._holder, mail_from=self._settings.mail_from, lease_seconds=lease_seconds)
        troubles, news = PostgresTroubles(pool, self._clock), self._news[channel.value]
        return Sender(courier, turns, troubles, self._clock, self.health, news, self._stop)


def lease_seconds_of(settings: Settings, channel: Channel) -> float:
    """Say after what time a letter that was taken and not heard of again is taken for left behind."""
    whole = 3 * settings.smtp_timeout_seconds if channel is Channel.MAIL else settings.endpoint_timeout_seconds
    return whole + LEASE_MORE_SECONDS


def _check(settings: Settings) -> None:
    try:
        sender(settings.mail_from)
    except ValueError as error:
        raise SettingsError(f"RECONCAL_MAIL_FROM: {error}") from None
