"""What the doors' horizon promises, in memory and in PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol

import asyncpg
import pytest

from services.ingest.keeper import Unsent
from services.ingest.reports import Report
from services.plumbing.clock import WallClock
from services.plumbing.postgres import Pool
from services.plumbing.settings import Settings
from services.reconciler.doors import ASK_SECONDS, PostgresDoors
from services.reconciler.ports import Doors, Horizon
from tests.support import builders
from tests.support.history import NOW, at
from tests.support.memory import MemoryDoors, MemoryStore
from tests.support.stand import stand
from tests.support.stores import Teller
from tests.support.wait import until

SILENCE_SECONDS: Final = 600.0
MOMENT: Final = timedelta(microseconds=1)


class Written(Protocol):
    """Doors, and how one of them reports."""

    @property
    def doors(self) -> Doors:
        """Give what is asked."""
        ...

    async def report(self, door_id: str, reported_at: datetime, oldest_unsent_at: datetime | None = None) -> None:
        """Let a door say how far it is."""
        ...

    async def close(self, door_id: str) -> None:
        """Let a door say goodbye."""
        ...

    async def astray(self, received_at: datetime) -> None:
        """Find an envelope that has to be sent on."""
        ...


class InMemory:
    """Doors in memory."""

    def __init__(self) -> None:
        """None is open."""
        self._store = MemoryStore()
        self.doors = MemoryDoors(self._store, silence_seconds=SILENCE_SECONDS)

    async def report(self, door_id: str, reported_at: datetime, oldest_unsent_at: datetime | None = None) -> None:
        """See `Written`."""
        self.doors.report(door_id, at=reported_at, oldest_unsent_at=oldest_unsent_at)

    async def close(self, door_id: str) -> None:
        """See `Written`."""
        self.doors.close(door_id)

    async def astray(self, received_at: datetime) -> None:
        """See `Written`."""
        self._store.reroutes.append(builders.from_app(b"{}", received_at=received_at))


class InPostgres:
    """Doors in PostgreSQL."""

    def __init__(self, pool: Pool) -> None:
        """None is open."""
        self._pool = pool
        self.doors = PostgresDoors(pool, SILENCE_SECONDS)

    async def report(self, door_id: str, reported_at: datetime, oldest_unsent_at: datetime | None = None) -> None:
        """See `Written`."""
        await self._pool.execute("DELETE FROM doors WHERE door_id = $1", door_id)
        await self._pool.execute("INSERT INTO doors VALUES ($1, $2, $3)", door_id, reported_at, oldest_unsent_at)

    async def close(self, door_id: str) -> None:
        """See `Written`."""
        await self._pool.execute("UPDATE doors SET closed_at = reported_at WHERE door_id = $1", door_id)

    async def astray(self, received_at: datetime) -> None:
        """See `Written`."""
        from services.reconciler.store import PostgresStore  # noqa: PLC0415

        teller = await Teller.claim(PostgresStore(self._pool))
        await teller.store.save(teller.blank(reroutes=[builders.from_app(b"{}", received_at=received_at)]))


@pytest.fixture
async def pool(dsn: str) -> AsyncIterator[Pool]:
    opened: Pool = await asyncpg.create_pool(dsn, min_size=1, max_size=3)
    yield opened
    await opened.close()


@pytest.fixture(params=["memory", "postgres"])
def written(request: pytest.FixtureRequest) -> Written:
    """Give doors, none of which is open."""
    return InMemory() if request.param == "memory" else InPostgres(request.getfixturevalue("pool"))


async def test_where_there_is_no_door_there_is_no_limit(written: Written) -> None:
    assert await written.doors.horizon(NOW) == Horizon(None)


async def test_the_door_that_is_furthest_behind_is_the_limit(written: Written) -> None:
    await written.report("one", at(9))
    await written.report("two", at(8))
    assert await written.doors.horizon(at(10)) == Horizon(at(8))


async def test_nothing_passes_what_waits_in_a_spool_not_even_what_came_at_its_very_moment(written: Written) -> None:
    await written.report("one", at(9), at(3))
    await written.report("two", at(10))
    assert await written.doors.horizon(at(10)) == Horizon(at(3) - MOMENT)


async def test_a_door_that_said_goodbye_is_no_limit(written: Written) -> None:
    await written.report("one", at(0))
    await written.report("two", at(9))
    await written.close("one")
    assert await written.doors.horizon(at(10)) == Horizon(at(9))


async def test_a_door_that_is_silent_holds_for_a_while_is_named_for_a_day_and_forgotten(written: Written) -> None:
    await written.report("one", at(0), at(-50))
    held = Horizon(at(-50) - MOMENT)
    assert await written.doors.horizon(at(SILENCE_SECONDS)) == held
    assert await written.doors.horizon(at(SILENCE_SECONDS) + MOMENT) == Horizon(None, ("one",))
    assert await written.doors.horizon(at(86_399)) == Horizon(None, ("one",))
    assert await written.doors.horizon(at(86_401)) == Horizon(None)


async def test_what_waits_to_be_sent_to_its_own_partition_is_a_limit_too(written: Written) -> None:
    await written.report("one", at(10))
    await written.astray(at(4))
    await written.astray(at(6))
    assert await written.doors.horizon(at(10)) == Horizon(at(4) - MOMENT)


# --- doors that answer ------------------------------------------------------------------------------------------


@asynccontextmanager
async def door(settings: Settings, name: str, unsent: Callable[[], Unsent]) -> AsyncIterator[None]:
    """Open a door that reports as ingest does."""
    ended = asyncio.Event()
    report = Report(name, unsent, WallClock())
    following = asyncio.create_task(report.follow(settings, ended))
    try:
        yield
    finally:
        ended.set()
        await following


async def test_doors_that_live_answer_at_once(pool: Pool, embedded_broker: str, dsn: str) -> None:
    settings = await stand(embedded_broker, dsn)
    doors = PostgresDoors(pool, SILENCE_SECONDS)
    nothing, waits = Unsent(None, 0, 0), Unsent(datetime.now(UTC) - timedelta(seconds=5), 1, 1)
    async with door(settings, "one", lambda: nothing), door(settings, "two", lambda: nothing):
        await until(_reported(pool, 2), 10)
        for _ in range(5):
            asked_at = datetime.now(UTC)
            horizon = await doors.horizon(asked_at)
            assert horizon.until is not None
            assert horizon.until >= asked_at
            assert datetime.now(UTC) - asked_at < timedelta(seconds=1)
        async with door(settings, "three", lambda: waits):
            await until(_reported(pool, 3), 10)
            assert waits.oldest_at is not None
            assert (await doors.horizon(datetime.now(UTC))).until == waits.oldest_at - MOMENT


async def test_a_door_that_does_not_answer_is_not_waited_for_long(pool: Pool) -> None:
    doors, now = PostgresDoors(pool, SILENCE_SECONDS), datetime.now(UTC)
    await InPostgres(pool).report("dead", now - timedelta(seconds=1))
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert await doors.horizon(now) == Horizon(now - timedelta(seconds=1))
    assert ASK_SECONDS <= loop.time() - began < ASK_SECONDS + 1
    began = loop.time()
    await doors.horizon(now + timedelta(seconds=10))
    assert loop.time() - began < ASK_SECONDS, "it has not reported for long: it holds, and nobody waits"


async def test_doors_are_forgotten_a_day_after_their_last_word(pool: Pool) -> None:
    written = InPostgres(pool)
    await written.report("old", at(0))
    await written.report("new", at(2))
    await written.doors.forget(at(86_401))
    assert [row["door_id"] for row in await pool.fetch("SELECT door_id FROM doors")] == ["new"]


def _reported(pool: Pool, count: int) -> Callable[[], Awaitable[Any]]:
    async def enough() -> bool:
        return bool(await pool.fetchval("SELECT count(*) = $1 FROM doors", count))

    return enough
