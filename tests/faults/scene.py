"""One fault test's world: topics and a database of its own, services as processes, and the truth that was planted."""

from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any, Final

from msgspec.structs import replace

from schemas import topics
from schemas.envelope import Delivery
from schemas.flags import RECORD_KINDS
from services.companies.admin import Added, NewCompany, add
from services.embedded.database import EmbeddedDatabase
from services.plumbing import postgres
from services.plumbing.migrate import migrate
from services.plumbing.postgres import Pool
from services.plumbing.probe import Probe
from services.plumbing.publisher import Publisher
from services.plumbing.secrets import Vault
from services.plumbing.settings import Settings
from tests.support.invariants import View, check
from tests.support.kafka_server import KafkaServer
from tests.support.live_view import live_view
from tests.support.load import CHUNK, STATUS, Case, Side
from tests.support.processes import Service
from tests.support.stand import stand
from tests.support.wait import until

PARTITIONS: Final = 4
WINDOW_SECONDS: Final = 2.0

_LEFT: Final = """
SELECT (SELECT count(*) FROM outbox) AS untold,
  (SELECT count(*) FROM records WHERE deadline_at IS NOT NULL) AS open"""
_APPLIED: Final = """
SELECT coalesce(sum(value::bigint), 0)::bigint FROM partitions, jsonb_each_text(next_offsets)"""


class Scene:
    """What a test does to the world, and what it sees of it."""

    def __init__(self, settings: Settings, pool: Pool, publisher: Publisher, probe: Probe, folder: Path) -> None:
        """Made by `scene`."""
        self.settings, self.pool, self.folder = settings, pool, folder
        self._publisher, self._probe = publisher, probe
        self._services: list[Service] = []
        self._numbers = count(1)

    async def company(self, company_id: str, *, window_seconds: float = WINDOW_SECONDS) -> Added:
        """Add a company."""
        new = NewCompany(company_id=company_id, name=company_id, window_seconds=window_seconds)
        async with self.pool.acquire() as connection:
            return await add(connection, Vault(self.settings.secret_key), new)

    async def companies(self, names: Iterable[str], *, window_seconds: float = WINDOW_SECONDS) -> None:
        """Add several."""
        for name in names:
            await self.company(name, window_seconds=window_seconds)

    def start(self, role: str, **other: object) -> Service:
        """Start a service, with other settings if wanted. It is killed at the end."""
        settings = replace(self.settings, **other)
        service = Service.start(role, settings, self.folder / f"{role}-{next(self._numbers)}.log")
        self._services.append(service)
        return service

    async def publish(self, deliveries: Sequence[Delivery]) -> None:
        """Put messages on their topics; returns when the broker has them."""
        for n in range(0, len(deliveries), CHUNK):
            await self._publisher.publish_all(deliveries[n : n + CHUNK])

    async def applied(self) -> int:
        """Count the envelopes that are committed."""
        return int(await self.pool.fetchval(_APPLIED))

    async def written(self) -> int:
        """Count the envelopes that lie on the input topics."""
        return sum((await self._probe.ends(topics.INPUTS, range(self.settings.kafka_partitions))).values())

    async def applied_beyond(self, offset: int, seconds: float = 30.0) -> None:
        """Wait until more than so many envelopes are committed: somebody is at work."""

        async def moved() -> bool:
            return await self.applied() > offset

        await until(moved, seconds)

    async def caught_up(self, seconds: float = 60.0) -> None:
        """Wait until every envelope is committed."""
        there = await self.written()
        await self.applied_beyond(there - 1, seconds)

    async def spooled(self) -> int:
        """Count the envelopes that lie in the spools of what runs."""
        ingests = [service for service in self._services if service.role == "ingest" and service.running]
        return sum([await ingest.spooled() for ingest in ingests])

    async def drained(self, seconds: float = 60.0) -> None:
        """Wait until nothing lies in a spool."""

        async def nothing() -> bool:
            return await self.spooled() == 0

        await until(nothing, seconds)

    async def held(self, seconds: float = 30.0) -> int:
        """Wait until decisions are held, and shown; gives how many."""

        async def some() -> int:
            return int(await self.pool.fetchval("SELECT coalesce(sum(held_decisions), 0) FROM partitions"))

        return await until(some, seconds)

    async def settled(self, seconds: float = 60.0) -> None:
        """Wait until every envelope is committed, every window over, and everything told."""
        await self.caught_up(seconds)

        async def nothing_left() -> bool:
            row = await self.pool.fetchrow(_LEFT)
            return row is not None and not any(row)

        await until(nothing_left, seconds)

    async def flags(self) -> list[Any]:
        """Give every flag about a record that was ever raised, with the ids of both sides, oldest first."""
        return await self.pool.fetch(
            "SELECT f.*, r.appointment_id, r.booking_uid FROM flags f LEFT JOIN records r USING (company_id, record_id)"
            " WHERE f.kind = ANY($1::text[]) ORDER BY raised_at",
            list(RECORD_KINDS),
        )

    async def flagged(self, company_id: str, seconds: float = 20.0) -> list[Any]:
        """Wait until a company has a flag; gives its flags."""

        async def any_of_it() -> list[Any]:
            return [flag for flag in await self.flags() if flag["company_id"] == company_id]

        return await until(any_of_it, seconds)

    async def holds(self, planted: Collection[Case] = (), seconds: float = 60.0) -> View:
        """Check, once all is settled, every invariant, and that what was found is what was planted."""
        await self.settled(seconds)
        view = await live_view(self.settings, self.pool)
        check(view)
        if planted:
            await self._is_as_planted(planted, view)
        return view

    async def _is_as_planted(self, planted: Collection[Case], view: View) -> None:
        rows = await self.pool.fetch("SELECT company_id, appointment_id, booking_uid, calcom_sync_status FROM records")
        found = {tuple(row) for row in rows}
        truth = {(case.company_id, case.appointment_id, case.uid, STATUS[case.side]) for case in planted}
        assert len(rows) == len(found), "a record exists twice"
        assert found == truth, f"not planted {list(found - truth)[:5]}, not found {list(truth - found)[:5]}"
        flags = Counter((f["company_id"], f["appointment_id"], f["booking_uid"]) for f in await self.flags())
        assert flags.total() == len(flags), f"flagged twice: {flags.most_common(3)}"
        alone = {(c.company_id, c.appointment_id, c.uid) for c in planted if c.side is not Side.BOTH}
        late = {(c.company_id, c.appointment_id, c.uid) for c in late_ones(planted, view)}
        false, missing = flags.keys() - alone - late, alone - flags.keys()
        assert not false, f"{len(false)} flags too many: {list(false)[:5]}; {len(missing)} missing: {list(missing)[:5]}"
        assert not missing, f"{len(missing)} flags missing: {list(missing)[:5]}"

    def end(self) -> str:
        """Kill what still runs; gives the last words of all."""
        for service in self._services:
            service.kill()
        return "\n".join(f"--- {service.log.name}\n{service.last_words()}" for service in self._services)

    def now(self) -> datetime:
        """Give the present moment."""
        return datetime.now(UTC)


def late_ones(planted: Iterable[Case], view: View) -> list[Case]:
    """Give the cases whose second side came through the door after the window: a flag that was resolved is right."""
    received: dict[bytes, datetime] = {}
    for envelope in view.envelopes:
        received[envelope.body] = min(envelope.received_at, received.get(envelope.body, envelope.received_at))
    late = []
    for case in planted:
        if case.side is Side.BOTH:
            apart = received[case.appointment()] - received[case.booking()]
            if abs(apart.total_seconds()) > view.policies[case.company_id].window_seconds:
                late.append(case)
    return late


@asynccontextmanager
async def scene(bootstrap_servers: str, dsn: str, folder: Path, **other: str) -> AsyncIterator[Scene]:
    """Make topics, and whatever a scene stands on; at the end kill every process and say their last words."""
    more = {"kafka_partitions": str(PARTITIONS), "kafka_assignment": "group", "ingest_spool_dir": str(folder / "spool")}
    settings = await stand(bootstrap_servers, dsn, **more, **other)
    pool = await postgres.connect(settings, name="tests", size=3)
    publisher = await Publisher.open(settings)
    probe = await Probe.open(settings)
    made = Scene(settings, pool, publisher, probe, folder)
    try:
        yield made
    finally:
        print(made.end())  # noqa: T201 - pytest shows it when the test failed
        await probe.close()
        await publisher.close()
        await postgres.close(pool)


@asynccontextmanager
async def alone(folder: Path, **other: str) -> AsyncIterator[tuple[Scene, KafkaServer]]:
    """Stand up an Apache Kafka and a PostgreSQL for a command of its own, and a scene on them."""
    async with EmbeddedDatabase() as database:
        await migrate(database.dsn)
        with KafkaServer() as server:
            async with scene(server.bootstrap_servers, database.dsn, folder, **other) as made:
                yield made, server
