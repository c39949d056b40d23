"""PostgreSQL as pages need it: a connection at once, or the word that it is away now."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from services.plumbing import postgres
from services.plumbing.health import Health
from services.plumbing.lifecycle import PASSING, describe, first_of
from services.plumbing.postgres import Connection, Pool
from services.plumbing.settings import Settings

#: A page's whole work with the database; then it is taken for away.
ANSWER_SECONDS: Final = 5.0
#: To get a connection, and to let go of one whose query was given up.
HANDLE_SECONDS: Final = 2.0
#: How often it is asked whether it is there while nobody wants a page.
LOOK_SECONDS: Final = 5.0
_CLOSE_SECONDS: Final = 1.0

#: Fails where the tables are not as far as this program, too.
_LOOK: Final = "SELECT preferences_token FROM contacts LIMIT 0"


class AwayError(Exception):
    """The database does not answer now; what was to be written may not have been."""


class Database:
    """A pool that comes and goes. `/readyz` says which, as `postgres`."""

    def __init__(self, settings: Settings, health: Health) -> None:
        """Nothing is opened yet."""
        self._settings, self._health = settings, health
        self._pool: Pool | None = None
        self._doubt = asyncio.Event()
        health.unready("postgres", "not connected yet")

    async def follow(self, stop: asyncio.Event) -> None:
        """Connect and look after the connection until `stop`. Raises a passing error when it is gone: call it again."""
        pool: Pool | None = None
        try:
            pool = await postgres.connect(self._settings, name="console", command_seconds=ANSWER_SECONDS)
            while not stop.is_set():
                self._doubt.clear()
                await _look(pool)
                self._pool = pool
                self._health.ready("postgres")
                await first_of(stop, self._doubt, seconds=LOOK_SECONDS)
        except PASSING as error:
            self._health.unready("postgres", describe(error))
            raise
        finally:
            self._pool = None
            if pool is not None:
                await postgres.close(pool, _CLOSE_SECONDS)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Lend a connection for one page. Raises AwayError, within some ANSWER_SECONDS."""
        if self._pool is None:
            raise AwayError("not connected")
        try:
            async with asyncio.timeout(ANSWER_SECONDS), self._pool.acquire(timeout=HANDLE_SECONDS) as connection:
                yield connection
        except PASSING as error:
            self._doubt.set()
            raise AwayError(describe(error)) from error


async def _look(pool: Pool) -> None:
    async with asyncio.timeout(ANSWER_SECONDS), pool.acquire(timeout=HANDLE_SECONDS) as connection:
        await connection.execute(_LOOK)
