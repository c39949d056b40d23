"""Webhooks in pieces, on a real database and real HTTP: the test says when what happens."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from schemas.flags import Flag
from services.companies import endpoints as register
from services.companies.endpoints import NewEndpoint
from services.notifier.hooks import endpoints
from services.notifier.hooks.delivery import Hooks
from services.notifier.hooks.poster import SlackPoster
from services.notifier.troubles import PostgresTroubles
from services.plumbing import postgres
from services.plumbing.health import Health
from services.plumbing.postgres import Pool
from services.plumbing.secrets import Vault, new_key
from services.plumbing.settings import Settings, load
from tests.support import wait
from tests.support.hand_clock import HandClock
from tests.support.raw_http import HOST, Heard, RawHttp

KEY: Final = new_key()
_THEIRS: Final = "FROM pg_stat_activity WHERE application_name = 'reconcal-' || $1 AND datname = current_database()"
_WAITS: Final = f"SELECT count(*) {_THEIRS} AND wait_event_type = 'Lock'"
_CUT: Final = f"SELECT pg_terminate_backend(pid) {_THEIRS}"


class Desk:
    """A database with endpoints, and what tells them."""

    def __init__(self, dsn: str, pool: Pool) -> None:
        self.dsn, self.pool, self.stop = dsn, pool, asyncio.Event()
        self.clock = HandClock(datetime.now(UTC).replace(microsecond=0))  # the reference library looks at the wall
        self.vault = Vault(KEY)
        self.troubles = PostgresTroubles(pool, self.clock)
        self.secrets: dict[UUID, str | None] = {}
        self._opened: list[Hooks | SlackPoster] = []

    def settings(self, **changed: object) -> Settings:
        environ = {
            "postgres_dsn": self.dsn,
            "secret_key": KEY,
            "endpoint_private_addresses": "allow",
            "endpoint_timeout_seconds": "0.5",
        } | changed
        return load({f"RECONCAL_{name.upper()}": str(value) for name, value in environ.items()})

    def hooks(self, pool: "Pool | None" = None, **changed: object) -> Hooks:
        """Give a loop of its own name."""
        made = Hooks(
            self.settings(**changed), pool or self.pool, self.troubles, self.clock, Health(), asyncio.Event(), self.stop
        )
        self._opened.append(made)
        return made

    def poster(self, **changed: object) -> SlackPoster:
        made = SlackPoster(self.settings(**changed), self.pool, self.troubles, self.clock)
        self._opened.append(made)
        return made

    async def close(self) -> None:
        for one in self._opened:
            await one.close()
        await postgres.close(self.pool)

    async def company(self, company_id: str = "praxis") -> None:
        await self.pool.execute(
            "INSERT INTO companies (company_id, name) VALUES ($1, $1) ON CONFLICT DO NOTHING", company_id
        )

    async def endpoint(self, url: str | RawHttp, company_id: str = "praxis", **more: Any) -> UUID:
        """Add an endpoint, and its company where there is none."""
        await self.company(company_id)
        address = url if isinstance(url, str) else f"http://{HOST}:{url.port}/hook"
        new = NewEndpoint(url=address, **more)
        async with self.pool.acquire() as connection:
            made, secret = await register.add(connection, self.vault, company_id, new, allow_private=True)
        self.secrets[made.endpoint_id] = secret
        return made.endpoint_id

    async def queue(self, *flags: Flag) -> int:
        async with self.pool.acquire() as connection, connection.transaction():
            return await endpoints.queue(connection, flags, self.clock.at)

    async def states(self) -> list[str]:
        """Give the states of all messages, in the order in which they were queued."""
        return [row["state"] for row in await self.pool.fetch("SELECT state FROM endpoint_messages ORDER BY position")]

    async def row(self, endpoint_id: UUID | None = None) -> dict[str, Any]:
        """Give an endpoint's row; without an id that of the only one."""
        found = await self.pool.fetch("SELECT * FROM endpoints WHERE $1::uuid IS NULL OR endpoint_id = $1", endpoint_id)
        assert len(found) == 1
        return dict(found[0])

    async def alerts(self) -> list[tuple[str, bool]]:
        """Give kinds of alerts, and whether each is over."""
        rows = await self.pool.fetch("SELECT kind, resolved_at FROM alerts ORDER BY taken_at")
        return [(row["kind"], row["resolved_at"] is not None) for row in rows]

    async def inbox(self) -> list[tuple[str, str]]:
        """Give whose inbox has a notification of which type."""
        rows = await self.pool.fetch(
            "SELECT k.name, n.type FROM notifications n JOIN contacts k USING (company_id, contact_id) ORDER BY 2, 1"
        )
        return [(row["name"], row["type"]) for row in rows]

    @asynccontextmanager
    async def dying(self, name: str) -> AsyncIterator[None]:
        """Let whoever has connections of that name try to note something of a message, and die before it is noted."""
        async with self.pool.acquire() as connection, connection.transaction():
            await connection.execute("SELECT FROM endpoint_messages FOR UPDATE")
            yield

            async def waits() -> bool:
                return bool(await self.pool.fetchval(_WAITS, name))

            await wait.until(waits, 10)
            await self.pool.execute(_CUT, name)

    async def enable(self, endpoint_id: UUID, company_id: str = "praxis") -> None:
        async with self.pool.acquire() as connection:
            await register.enable(connection, company_id, str(endpoint_id))

    async def remove(self, endpoint_id: UUID, company_id: str = "praxis") -> None:
        async with self.pool.acquire() as connection:
            await register.remove(connection, company_id, str(endpoint_id))


async def drain(hooks: Hooks) -> None:
    """Tell all that is due now."""
    while await hooks.burst():
        pass


def ids(heard: list[Heard]) -> list[str]:
    return [one.headers["webhook-id"] for one in heard]


def told(one: Heard) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(one.body)
    return found
