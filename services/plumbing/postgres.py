"""PostgreSQL: a pool with deadlines."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

import asyncpg

from services.plumbing.lifecycle import bounded
from services.plumbing.settings import Settings

#: The first version that ends a transaction by its age, whatever it waits for.
_TRANSACTION_TIMEOUT_SINCE: Final = 17

#: PostgreSQL's infinities, as asyncpg writes them; it reads them without a zone: let none come back.
FOREVER: Final = datetime.max.replace(tzinfo=UTC)
BEFORE_ALL: Final = datetime.min.replace(tzinfo=UTC)

# In quotes: asyncpg's classes are generic for the type checker only.
Pool: TypeAlias = "asyncpg.Pool[Any]"
Connection: TypeAlias = "asyncpg.pool.PoolConnectionProxy[Any]"


async def connect(settings: Settings, *, name: str, size: int | None = None, command_seconds: float = 30.0) -> Pool:
    """Open a pool. Raises OSError, TimeoutError or asyncpg's errors when the database is away."""
    settings.need("postgres_dsn")
    limits = {
        # A process that sleeps in a transaction must not hold its locks for much longer than Kafka believes in it:
        # between two statements, or within one. Neither ends a COPY that waits for its next rows: use none there.
        "idle_in_transaction_session_timeout": "10s",
        "statement_timeout": "15s",
    }
    if await _version(settings.postgres_dsn) >= _TRANSACTION_TIMEOUT_SINCE:
        # Nor does either end one that sleeps between asyncpg's Parse, which it ends by Flush, and its Bind: this does.
        limits["transaction_timeout"] = "20s"
    pool: Pool = await asyncpg.create_pool(
        settings.postgres_dsn,
        min_size=1,
        max_size=size or settings.postgres_pool_size,
        command_timeout=command_seconds,
        timeout=5,
        max_inactive_connection_lifetime=120,
        server_settings={"application_name": f"reconcal-{name}", "timezone": "UTC"} | limits,
    )
    return pool


async def _version(dsn: str) -> int:
    connection = await asyncpg.connect(dsn, timeout=5)
    try:
        return connection.get_server_version().major
    finally:
        await bounded(connection.close(), 1)


async def close(pool: Pool, seconds: float = 3.0) -> None:
    """Close a pool, within a deadline."""
    if await bounded(_close(pool), seconds) is None:
        pool.terminate()


async def _close(pool: Pool) -> bool:
    await pool.close()
    return True


def columns(rows: Iterable[tuple[object, ...]]) -> list[list[Any]]:
    """Turn rows, of which there is one at least, into columns, as `unnest` wants them."""
    return [list(column) for column in zip(*rows, strict=True)]
