"""The verifier as a process: the only place here that knows the concrete Cal.com, Kafka, PostgreSQL and clock."""

import asyncio
import random
import socket
from collections.abc import Coroutine, Iterable
from datetime import datetime
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from aiokafka.errors import KafkaError, OutOfOrderSequenceNumber, ProducerClosed, ProducerFenced

from schemas.envelope import Delivery
from services.companies.model import Purpose
from services.companies.register import Register
from services.plumbing import health, kafka, postgres, telemetry
from services.plumbing.clock import Clock, WallClock
from services.plumbing.lifecycle import PASSING, bounded, cut, describe, keep, new_holder, pause, together
from services.plumbing.postgres import Pool
from services.plumbing.publisher import Publisher
from services.plumbing.secrets import Vault
from services.plumbing.settings import Settings, SettingsError
from services.verifier.accounts import Accounts
from services.verifier.checks.asking import Asker
from services.verifier.checks.queue import Queue, listen
from services.verifier.checks.worker import Worker
from services.verifier.gate.budget import Limits
from services.verifier.gate.budgets import PostgresBudgets
from services.verifier.gate.gateway import CalcomGateway
from services.verifier.gate.incidents import PostgresIncidents
from services.verifier.measure import Measure
from services.verifier.rounds.backfill import Backfiller
from services.verifier.rounds.pages import Teller
from services.verifier.rounds.poll import Poller
from services.verifier.rounds.sweeps import Sweeps
from services.verifier.rounds.watch import Watch
from services.verifier.wire.client import HttpClient

#: After these aiokafka's producer refuses everything for good; so it does after a plain KafkaError.
_SPENT: Final = (OutOfOrderSequenceNumber, ProducerClosed, ProducerFenced)
#: After a stop: to end by itself. With `lifecycle.CUT_SECONDS`, to let go, less than `lifecycle.STOP_SECONDS`.
GRACE_SECONDS: Final = 3.0
CLOSE_SECONDS: Final = 1.0
#: How often the incidents of companies without a key are ended, and all are counted.
TIDY_SECONDS: Final = 30.0
_random: Final = random.Random()  # noqa: S311 - spreads load, guards nothing


async def serve(
    settings: Settings, stop: asyncio.Event, *, listener: socket.socket | None = None, clock: Clock | None = None
) -> None:
    """Ask Cal.com until `stop`. Raises SettingsError for what no retry mends; OSError when the port is taken."""
    settings.need("kafka_bootstrap_servers", "postgres_dsn", "secret_key")
    verifier = Verifier(settings, clock or WallClock(), stop)
    listener = listener or health.listen(settings.verifier_host, settings.verifier_port)
    telemetry.log().info(telemetry.SERVICE_STARTED, service="verifier", address="{}:{}".format(*listener.getsockname()))
    await together(
        health.serve(health.app(verifier.health), listener, stop),
        cut(keep("verifier", verifier.work, stop), stop, grace_seconds=GRACE_SECONDS),
    )
    telemetry.log().info(telemetry.SERVICE_STOPPED, service="verifier")


class Verifier:
    """One process of the verifier: its loops over shared connections, and one way to Cal.com."""

    def __init__(self, settings: Settings, clock: Clock, stop: asyncio.Event) -> None:
        """Nothing is opened yet. Raises SettingsError."""
        self._settings, self._clock, self._stop = settings, clock, stop
        self._vault = Vault(settings.secret_key)
        self._zone = _zone(settings.sweep_time_zone)
        self._holder = new_holder()
        self.health = health.Health()
        self.health.unready("kafka", "not connected yet")
        self.health.unready("postgres", "not connected yet")

    async def work(self) -> None:
        """Connect, then run every loop until `stop`. Raises passing errors: called again then."""
        opened: list[Pool] = []
        publisher: Publisher | None = None
        part = "postgres"
        try:
            # The rounds have connections of their own: checks, which people wait for, are not held up by them.
            opened.append(pool := await postgres.connect(self._settings, name="verifier"))
            opened.append(rounds := await postgres.connect(self._settings, name="verifier-rounds"))
            self.health.ready(part)
            part = "kafka"
            partitions = kafka.partition_count(await kafka.inspect(self._settings))
            publisher = await Publisher.open(self._settings)
            self.health.ready(part)
            part = "verifier"
            self.health.ready(part)
            await self._run(pool, rounds, Line(publisher, self.health), partitions)
        except PASSING as error:
            self.health.unready(part, describe(error))
            raise
        finally:
            closing = [postgres.close(pool, CLOSE_SECONDS) for pool in opened]
            await asyncio.gather(*closing, *([publisher.close()] if publisher is not None else []))

    async def _run(self, pool: Pool, rounds: Pool, publisher: "Line", partitions: int) -> None:
        settings, clock = self._settings, self._clock
        register = Register(opens={Purpose.CALCOM_API_KEY})
        await register.refresh(pool, self._vault)
        client = HttpClient.open(settings, clock)
        limits = Limits.of(settings.calcom_requests_per_minute, settings.calcom_timeout_seconds)
        incidents = PostgresIncidents(pool, clock)
        gateway = CalcomGateway(client, PostgresBudgets(pool, limits, clock), incidents, clock)
        try:
            await self._loops(pool, rounds, publisher, partitions, register, gateway, incidents)
        finally:
            await gateway.close(CLOSE_SECONDS)
            await bounded(client.close(), CLOSE_SECONDS)

    async def _loops(
        self,
        pool: Pool,
        rounds: Pool,
        publisher: "Line",
        partitions: int,
        register: Register,
        gateway: CalcomGateway,
        incidents: PostgresIncidents,
    ) -> None:
        settings, clock, stop, holder = self._settings, self._clock, self._stop, self._holder
        accounts = Accounts(register, clock)

        def companies(_: datetime | None = None) -> list[str]:
            return [account.company_id for account in accounts.all()]

        async def tidy() -> None:
            while not stop.is_set():
                if register.loaded:
                    await incidents.keep(companies())
                await pause(TIDY_SECONDS, stop)

        worker = Worker(settings, Queue(pool, holder), Asker(gateway), publisher, accounts, clock)
        poller = Poller(
            pool=rounds, gateway=gateway, accounts=accounts, companies=companies, teller=Teller(publisher),
            settings=settings, partitions=partitions, holder=holder, clock=clock, jitter=_random.random,
        )  # fmt: skip
        backfiller = Backfiller(
            pool=rounds, gateway=gateway, accounts=accounts, companies=companies, publisher=publisher, holder=holder,
            clock=clock,
        )  # fmt: skip
        watch = Watch(
            pool=rounds, gateway=gateway, accounts=accounts, companies=companies, settings=settings,
            partitions=partitions, holder=holder, clock=clock, jitter=_random.random,
        )  # fmt: skip
        sweeps = Sweeps(rounds, publisher, companies, clock, self._zone)
        measure = Measure(rounds, clock)
        refresh = settings.companies_refresh_seconds
        await together(
            worker.run(stop),
            publisher.broken(stop),
            keep("verifier-ear", lambda: listen(settings, worker.wake, stop), stop),
            keep(
                "verifier-companies",
                lambda: register.follow(pool, refresh, stop, vault=self._vault, changed=worker.wake.set),
                stop,
            ),
            keep("verifier-poll", lambda: poller.run(stop), stop),
            keep("verifier-backfill", lambda: backfiller.run(stop), stop),
            keep("verifier-watch", lambda: watch.run(stop), stop),
            keep("verifier-sweeps", lambda: sweeps.run(stop), stop),
            keep("verifier-measure", lambda: measure.run(stop), stop),
            keep("verifier-tidy", tidy, stop),
        )


class Line:
    """The way to Kafka of all loops: what it does not take makes us unready; a spent client is replaced."""

    def __init__(self, publisher: Publisher, state: health.Health) -> None:
        """The publisher stays its owner's."""
        self._publisher, self._health = publisher, state
        self._spent: KafkaError | None = None
        self._over = asyncio.Event()

    async def publish(self, delivery: Delivery) -> None:
        """See `Publisher`."""
        await self._watched(self._publisher.publish(delivery))

    async def publish_all(self, deliveries: Iterable[Delivery]) -> None:
        """See `Publisher`."""
        await self._watched(self._publisher.publish_all(deliveries))

    async def broken(self, stop: asyncio.Event) -> None:
        """Wait until `stop`; raises what the client is spent with."""
        told = asyncio.ensure_future(stop.wait())
        over = asyncio.ensure_future(self._over.wait())
        try:
            await asyncio.wait({told, over}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            told.cancel()
            over.cancel()
        if self._spent is not None:
            raise self._spent

    async def _watched(self, publishing: Coroutine[Any, Any, None]) -> None:
        try:
            await publishing
        except asyncio.CancelledError:  # most often: not in time
            self._health.unready("kafka", "the broker did not acknowledge in time")
            raise
        except PASSING as error:
            self._health.unready("kafka", describe(error))
            if isinstance(error, _SPENT) or type(error) is KafkaError:
                self._spent = error
                self._over.set()
            raise
        self._health.ready("kafka")


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        raise SettingsError(f"RECONCAL_SWEEP_TIME_ZONE: there is no time zone {name!r}") from None
