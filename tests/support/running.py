"""A reconciler in this process, on a real broker and database, and a pen to write on its topics."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import asyncpg
import httpx
import msgspec
import pytest
from aiokafka import AIOKafkaProducer

from schemas import topics
from schemas.dead_letters import DeadLetter
from schemas.envelope import Delivery
from schemas.flags import Flag
from services.plumbing import health, postgres
from services.plumbing.kafka import client_options
from services.plumbing.lanes import partition_of
from services.plumbing.lifecycle import bounded
from services.plumbing.postgres import Pool
from services.plumbing.publisher import Publisher
from services.plumbing.settings import Settings
from services.reconciler.main import serve
from tests.support import builders
from tests.support.invariants import check
from tests.support.live_view import live_view, read_all
from tests.support.wait import until

HOST: Final = "127.0.0.1"
#: For a partition to be assigned, claimed and read.
READY_SECONDS: Final = 30.0


def assignment(request: pytest.FixtureRequest) -> dict[str, str]:
    """Give the setting for the broker that a test runs on: the embedded one's group joins take many seconds."""
    return {"kafka_assignment": "group" if request.node.callspec.params["broker"] == "apache" else "all"}


def at_home(number: int, partitions: int = 3) -> str:
    """Give a company whose place is this partition."""
    return next(name for n in range(1000) if partition_of(name := f"firm{n}", partitions) == number)


class Running:
    """A reconciler under settings, from `start` to `stop`; its topics and its database stay."""

    def __init__(self, settings: Settings, pool: Pool, publisher: Publisher) -> None:
        """Made by `running`."""
        self.settings, self.pool, self._publisher = settings, pool, publisher
        self._stop = asyncio.Event()
        self._serving: asyncio.Task[None] | None = None
        self._url = ""

    def start(self) -> None:
        """Begin to serve."""
        listener = health.listen(HOST, 0)
        self._url = f"http://{HOST}:{listener.getsockname()[1]}"
        self._stop = asyncio.Event()
        self._serving = asyncio.create_task(serve(self.settings, self._stop, listener=listener))

    async def stop(self) -> float:
        """Tell it to stop and wait; gives the seconds that took. Raises what it ended with."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        self._stop.set()
        if self._serving is not None:
            serving, self._serving = self._serving, None
            await serving
        return loop.time() - began

    async def readyz(self) -> dict[str, str]:
        """Give what it says is wrong; nothing: it is ready."""
        assert self._serving is None or not self._serving.done(), self._serving.exception()
        async with httpx.AsyncClient(base_url=self._url) as client:
            answer = await client.get("/readyz")
        troubles: dict[str, str] = answer.json()["troubles"]
        assert (answer.status_code == httpx.codes.OK) is (not troubles)
        return troubles

    async def company(self, company_id: str = "acme", *, window_seconds: float = 2.0) -> str:
        """Add a company past the command line; gives its id."""
        await self.pool.execute(
            "INSERT INTO companies (company_id, name, window_seconds) VALUES ($1, $1, $2)", company_id, window_seconds
        )
        return company_id

    async def put(self, topic: str, body: bytes, company_id: str = "acme", *, waited_seconds: float = 0) -> None:
        """Let a message come through the door; returns when the broker has it. It may have waited in a spool."""
        received_at = datetime.now(UTC) - timedelta(seconds=waited_seconds)
        delivery = Delivery(
            topic=topic, company_id=company_id, ce_id="", ce_source="test", ce_type="test", received_at=received_at,
            body=body,
        )  # fmt: skip
        await self._publisher.publish(delivery)

    async def appointment(self, number: int, company_id: str = "acme", **fields: Any) -> None:
        """Let the app tell of an appointment that names the booking of the same number."""
        event = builders.appointment_event(
            fields.pop("kind", "created"), f"{number}", calcom_booking_uid=f"uid-{number}"
        )
        await self.put(topics.APP_APPOINTMENTS, builders.body(event), company_id, **fields)

    async def booking(self, number: int, company_id: str = "acme", **fields: Any) -> None:
        """Let Cal.com tell of a booking."""
        body = builders.booking_created(f"uid-{number}", booking_id=number)
        await self.put(topics.CALCOM_BOOKINGS, builders.body(body), company_id, **fields)

    async def publish(self, deliveries: Sequence[Delivery]) -> None:
        """Put messages on their topics, in order."""
        await self._publisher.publish_all(deliveries)

    async def value(self, query: str, *arguments: object) -> Any:
        """Ask the database for one value."""
        return await self.pool.fetchval(query, *arguments)

    async def comes(self, query: str, *arguments: object, seconds: float = READY_SECONDS) -> Any:
        """Wait until the database has a true answer; gives it. While it is away there is none."""

        async def ask() -> Any:
            try:
                return await self.value(query, *arguments)
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                return None

        return await until(ask, seconds)

    async def status(
        self, number: int, wanted: str, company_id: str = "acme", *, seconds: float = READY_SECONDS
    ) -> None:
        """Wait until an appointment's record has a status."""
        await self.comes(
            "SELECT true FROM records WHERE company_id = $1 AND appointment_id = $2 AND calcom_sync_status = $3",
            company_id,
            f"{number}",
            wanted,
            seconds=seconds,
        )

    async def flags(self) -> list[Flag]:
        """Give what was told on the topic of flags, in order, as often as it was told."""
        return [msgspec.json.decode(e.body, type=Flag) for e in await read_all(self.settings, (topics.SYNC_FLAGS,))]

    async def notices(self) -> list[DeadLetter]:
        """Give what was told on the topic of dead letters."""
        found = await read_all(self.settings, (topics.SYNC_DEAD_LETTERS,))
        return [msgspec.json.decode(e.body, type=DeadLetter) for e in found]

    async def over(self, seconds: float = READY_SECONDS) -> None:
        """Wait until every window is over."""
        await self.comes("SELECT count(*) = 0 FROM records WHERE deadline_at IS NOT NULL", seconds=seconds)

    async def check(self) -> None:
        """Check every invariant."""
        check(await live_view(self.settings, self.pool))


@asynccontextmanager
async def running(settings: Settings, *, started: bool = True) -> AsyncIterator[Running]:
    """Run a reconciler for a test; at the end it is stopped, and its own errors are the test's."""
    pool = await postgres.connect(settings, name="tests", size=2)
    publisher = await Publisher.open(settings)
    made = Running(settings, pool, publisher)
    if started:
        made.start()
    try:
        yield made
    finally:
        try:
            await made.stop()
        finally:
            await publisher.close()
            await postgres.close(pool)


@asynccontextmanager
async def stranger(settings: Settings) -> AsyncIterator[AIOKafkaProducer]:
    """Give a plain producer: what it is given is all that there is of a record."""
    producer = AIOKafkaProducer(**client_options(settings), acks="all", max_request_size=16 * 1024 * 1024)
    await producer.start()
    try:
        yield producer
    finally:
        await bounded(producer.stop(), 3)
