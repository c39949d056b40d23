"""The door's report: what it received and Kafka does not have yet. No decision passes it (design, section 5)."""

import asyncio
from collections.abc import Callable
from typing import Any, Final

import asyncpg

from services.ingest.keeper import Unsent
from services.plumbing.clock import Clock
from services.plumbing.lifecycle import PASSING, bounded, first_of
from services.plumbing.settings import Settings

#: A `NOTIFY` on it makes every door report at once.
CHANNEL: Final = "reconcal_doors"
EVERY_SECONDS: Final = 2.0
#: At the start a door reports before it opens, if the database answers within this time.
FIRST_SECONDS: Final = 2.0
_CONNECT_SECONDS: Final = 5.0
_COMMAND_SECONDS: Final = 5.0

_REPORT: Final = """
WITH gone AS (
  UPDATE doors SET closed_at = $2 WHERE door_id = ANY($7::text[]) AND door_id <> $1 AND closed_at IS NULL)
INSERT INTO doors (door_id, reported_at, oldest_unsent_at, spool_messages, spool_bytes, closed_at)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (door_id) DO UPDATE SET reported_at = excluded.reported_at, oldest_unsent_at = excluded.oldest_unsent_at,
  spool_messages = excluded.spool_messages, spool_bytes = excluded.spool_bytes, closed_at = excluded.closed_at"""


class Report:
    """The row of one door. `gone`: doors whose spools are ours now; they are closed once our row counts them in."""

    def __init__(self, door_id: str, unsent: Callable[[], Unsent], clock: Clock) -> None:
        """`unsent` tells what waits at this moment."""
        self.door_id, self._unsent, self._clock = door_id, unsent, clock
        self.gone: set[str] = set()

    async def first(self, settings: Settings) -> None:
        """Report once, before the door opens; a database that is away does not keep it shut."""
        await bounded(self._first(settings), FIRST_SECONDS)

    async def follow(self, settings: Settings, ended: asyncio.Event) -> None:
        """Report until `ended`, and then the end; a loop for `lifecycle.keep`."""
        connection = await _connect(settings)
        asked = asyncio.Event()
        try:
            await connection.add_listener(CHANNEL, lambda *_: asked.set())
            while not ended.is_set():
                asked.clear()
                await self._write(connection)
                await first_of(asked, ended, seconds=EVERY_SECONDS)
            await self._write(connection, closing=True)
        finally:
            await _close(connection)

    async def _first(self, settings: Settings) -> None:
        try:
            connection = await _connect(settings)
            try:
                await self._write(connection)
            finally:
                await _close(connection)
        except PASSING:
            return  # `follow` will say so

    async def _write(self, connection: "asyncpg.Connection[Any]", *, closing: bool = False) -> None:
        gone = list(self.gone)
        now, unsent = self._clock.now(), self._unsent()  # together: nothing runs between them
        closed_at = now if closing and unsent.oldest_at is None else None
        await connection.execute(
            _REPORT, self.door_id, now, unsent.oldest_at, unsent.messages, unsent.bytes, closed_at, gone
        )  # fmt: skip
        self.gone.difference_update(gone)


async def _connect(settings: Settings) -> "asyncpg.Connection[Any]":
    settings.need("postgres_dsn")
    return await asyncpg.connect(
        settings.postgres_dsn,
        timeout=_CONNECT_SECONDS,
        command_timeout=_COMMAND_SECONDS,
        server_settings={"application_name": "reconcal-door", "timezone": "UTC", "statement_timeout": "5s"},
    )


async def _close(connection: "asyncpg.Connection[Any]") -> None:
    try:
        await connection.close(timeout=1)
    except PASSING:
        connection.terminate()
