"""The reconciler as a process: the only place here that knows the concrete Kafka, PostgreSQL and clock."""

import asyncio
import random
import socket
from datetime import timedelta
from functools import lru_cache, partial
from typing import Final

from schemas import topics
from services.companies.register import Register
from services.plumbing import health, postgres, telemetry
from services.plumbing.backoff import Backoff
from services.plumbing.clock import Clock, WallClock
from services.plumbing.kafka import inspect, partition_count
from services.plumbing.lanes import partition_of
from services.plumbing.lifecycle import PASSING, bounded, cut, describe, keep, new_holder, pause, together
from services.plumbing.postgres import Pool
from services.plumbing.probe import Probe
from services.plumbing.publisher import Publisher
from services.plumbing.reader import Reader
from services.plumbing.settings import Settings, SettingsError
from services.reconciler.core.frontier import Contact
from services.reconciler.doors import PostgresDoors
from services.reconciler.limits import Limits
from services.reconciler.policies import RegisterPolicies
from services.reconciler.ports import Ports
from services.reconciler.relay import Relay
from services.reconciler.store import PostgresStore
from services.reconciler.watch import Watch
from services.reconciler.worker import Worker

GROUP = "reconciler"
INCIDENT_OVER: Final = timedelta(days=7)
#: Whoever sent a command waits for its outcome for minutes; every sweep leaves one for each record that it asks about.
OUTCOME_OVER: Final = timedelta(days=30)
_random: Final = random.Random()  # noqa: S311 - spreads load, guards nothing


class Reconciler:
    """One process of the reconciler: a worker and a relay over shared connections."""

    def __init__(self, settings: Settings, clock: Clock, stop: asyncio.Event) -> None:
        """Nothing is opened yet."""
        self._settings, self._clock, self._stop = settings, clock, stop
        self.health = health.Health()
        self._contact = Contact(clock.now())
        self._worker: Worker | None = None
        self._relay: Relay | None = None
        self._owner = new_holder()
        self.health.unready("kafka", "not connected yet")
        self.health.unready("postgres", "not connected yet")

    async def work(self) -> None:
        """Connect, then turn the worker until `stop`. Raises passing errors: called again then."""
        settings = self._settings
        pool = await postgres.connect(settings, name="reconciler")
        self.health.ready("postgres")
        opened: list[Reader | Probe | Publisher] = []
        try:
            found = await inspect(settings)
            count = partition_count(found)
            await _fits(pool, count)
            group = GROUP if settings.kafka_assignment == "group" else None
            reader = await Reader.open(settings, self._clock, topics.INPUTS, group=group, partitions=count)
            opened.append(reader)
            probe = await Probe.open(settings)
            opened.append(probe)
            publisher = await Publisher.open(settings)
            opened.append(publisher)
            self.health.ready("kafka")
            register = Register()
            await register.refresh(pool)
            relay = Relay(pool, publisher, lambda: worker.owned)
            watch = Watch(
                pool=pool,
                owned=lambda: worker.owned,
                partitions=count,
                clock=self._clock,
                jitter=_random.random,
            )
            doors = PostgresDoors(pool, settings.door_silence_seconds)
            worker = Worker(
                Ports(
                    reader,
                    probe,
                    PostgresStore(pool),
                    RegisterPolicies(register, pool, self._clock),
                    self._clock,
                    doors,
                ),
                owner=self._owner,
                log_id=found.cluster_id,
                home_of=lru_cache(maxsize=100_000)(partial(partition_of, partitions=count)),
                limits=_limits(settings),
                contact=self._contact,
                told=relay.wake.set,
            )
            await together(
                self._turn(worker),
                keep("relay", lambda: relay.run(self._stop), self._stop),
                keep("thresholds", lambda: watch.run(self._stop), self._stop),
                register.follow(pool, settings.companies_refresh_seconds, self._stop),
                keep("partitions", lambda: self._make_partitions(pool), self._stop),
                keep("tidy", lambda: self._tidy(pool, doors), self._stop),
            )
        finally:
            self.health.unready("kafka", "not connected")
            await asyncio.gather(*(part.close() for part in opened))  # each takes its whole deadline without a broker
            await postgres.close(pool)

    async def _turn(self, worker: Worker) -> None:
        backoff = Backoff()
        while not self._stop.is_set():
            try:
                await worker.turn()
                backoff.succeeded()
                self._say(worker)
            except PASSING as error:
                worker.doubt()
                self.health.unready("store", describe(error))
                telemetry.loop_failures.labels("worker").inc()
                telemetry.log().warning(telemetry.LOOP_FAILED, loop="worker", error=describe(error))
                await pause(backoff.failed(), self._stop)
            self._contact = worker.contact
        await bounded(worker.rest(), 3)

    def _say(self, worker: Worker) -> None:
        self.health.ready("store")
        if worker.stopped:
            self.health.unready("brake", "; ".join(f"partition {n}: {why}" for n, why in worker.stopped.items()))
        else:
            self.health.ready("brake")

    async def _make_partitions(self, pool: Pool) -> None:
        """Make the coming months' tables, now and once a day."""
        while not self._stop.is_set():
            await pool.execute("SELECT ensure_partitions($1, 3)", self._clock.now())
            await pause(86_400, self._stop)

    async def _tidy(self, pool: Pool, doors: PostgresDoors) -> None:
        """Forget, once an hour, what is over for good: doors, incidents, outcomes of commands."""
        while not self._stop.is_set():
            now = self._clock.now()
            await doors.forget(now)
            await pool.execute("DELETE FROM incidents WHERE last_seen_at < $1", now - INCIDENT_OVER)
            await pool.execute("DELETE FROM command_outcomes WHERE decided_at < $1", now - OUTCOME_OVER)
            await pause(3_600, self._stop)


async def serve(
    settings: Settings,
    stop: asyncio.Event,
    *,
    listener: socket.socket | None = None,
    clock: Clock | None = None,
) -> None:
    """Run the reconciler until `stop`. Raises SettingsError for what no retry mends."""
    reconciler = Reconciler(settings, clock or WallClock(), stop)
    listener = listener or health.listen(settings.reconciler_host, settings.reconciler_port)
    telemetry.log().info(telemetry.SERVICE_STARTED, service="reconciler", address=str(listener.getsockname()))
    await together(
        cut(keep("reconciler", reconciler.work, stop), stop, grace_seconds=3),
        health.serve(health.app(reconciler.health), listener, stop),
    )
    telemetry.log().info(telemetry.SERVICE_STOPPED, service="reconciler")


def _limits(settings: Settings) -> Limits:
    return Limits(
        batch_max_records=settings.batch_max_records,
        probe_interval_seconds=settings.probe_interval_seconds,
        stall_after_seconds=settings.stall_after_seconds,
        stall_grace_seconds=settings.stall_grace_seconds,
        brake_run=settings.dead_letter_brake_run,
        brake_share=settings.dead_letter_brake_share,
        brake_of=settings.dead_letter_brake_of,
    )


async def _fits(pool: Pool, partitions: int) -> None:
    """Refuse topics whose partition count is not the one that PostgreSQL was filled with."""
    known = await pool.fetchval("SELECT max(kafka_partition) + 1 FROM partitions")
    if known is None:
        await pool.execute(
            "INSERT INTO partitions (kafka_partition) SELECT generate_series(0, $1 - 1) ON CONFLICT DO NOTHING",
            partitions,
        )
    elif known != partitions:
        raise SettingsError(
            f"the input topics have {partitions} partitions, PostgreSQL was filled with {known}: companies would move"
            " between partitions; make topics with the old count, or rebuild PostgreSQL from the topics"
        )
