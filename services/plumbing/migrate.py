"""Migrations: SQL files by number, each in a transaction of its own, under a lock, with a lock timeout."""

import hashlib
import re
from importlib.resources import files
from typing import Final

import asyncpg
from msgspec import Struct

LOCK_ID: Final = 7_302_114_908_331
_NAME: Final = re.compile(r"^(\d{4})_([a-z0-9_]+)\.sql$")
_LEDGER: Final = """
CREATE TABLE IF NOT EXISTS schema_migrations (
  version int PRIMARY KEY, name text NOT NULL, checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now());
COMMENT ON TABLE schema_migrations IS 'The migrations that this database has had, with what they were made of.'"""


class MigrationError(Exception):
    """The database and the migrations do not fit: one line that says how."""


class Migration(Struct, frozen=True):
    """One step of the schema and the way back."""

    version: int
    name: str
    up: str
    down: str

    @property
    def checksum(self) -> str:
        """Fingerprint the step, so that a changed one is noticed."""
        return hashlib.sha256(self.up.encode()).hexdigest()


def migrations() -> list[Migration]:
    """Read the migrations that come with this version, in order."""
    folder = files("schemas").joinpath("sql")
    found = [(match, entry) for entry in folder.iterdir() if (match := _NAME.match(entry.name))]
    steps = [
        Migration(
            int(match[1]),
            match[2],
            entry.read_text("utf-8"),
            folder.joinpath(entry.name.removesuffix(".sql") + ".down.sql").read_text("utf-8"),
        )
        for match, entry in found
    ]
    return sorted(steps, key=lambda step: step.version)


async def migrate(dsn: str, *, to: int | None = None, lock_timeout_ms: int = 5000) -> list[str]:
    """Bring the database to a version (the newest by default), up or down; gives the names of the steps taken.

    Raises MigrationError, and asyncpg's LockNotAvailableError when a table is busy: nothing is half done then.
    """
    steps = migrations()
    target = steps[-1].version if to is None else to
    if target != 0 and target not in {step.version for step in steps}:
        raise MigrationError(f"there is no migration {target}; the newest is {steps[-1].version}")
    connection = await asyncpg.connect(dsn, timeout=10, command_timeout=300)
    try:
        await connection.execute("SELECT pg_advisory_lock($1)", LOCK_ID)
        await connection.execute(_LEDGER)
        await connection.execute(f"SET lock_timeout = {int(lock_timeout_ms)}")
        return await _move(connection, steps, target)
    finally:
        await connection.close(timeout=5)


async def _move(connection: "asyncpg.Connection[asyncpg.Record]", steps: list[Migration], target: int) -> list[str]:
    applied = {row["version"]: row["checksum"] for row in await connection.fetch("SELECT * FROM schema_migrations")}
    newest = steps[-1].version
    if applied and max(applied) > newest:
        raise MigrationError(f"the database is at version {max(applied)}, this program knows up to {newest}: update it")
    for step in steps:
        if step.version in applied and applied[step.version] != step.checksum:
            raise MigrationError(f"migration {step.version} ({step.name}) is not the one that this database has had")
    taken: list[str] = []
    for step in steps:
        if step.version <= target and step.version not in applied:
            async with connection.transaction():
                await connection.execute(step.up)
                await connection.execute(
                    "INSERT INTO schema_migrations VALUES ($1, $2, $3)", step.version, step.name, step.checksum
                )
            taken.append(f"up {step.version:04d} {step.name}")
    for step in reversed(steps):
        if step.version > target and step.version in applied:
            async with connection.transaction():
                await connection.execute(step.down)
                await connection.execute("DELETE FROM schema_migrations WHERE version = $1", step.version)
            taken.append(f"down {step.version:04d} {step.name}")
    return taken


async def pending(
    connection: "asyncpg.Connection[asyncpg.Record] | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]",
) -> int:
    """Count the migrations that the database has not had yet."""
    if await connection.fetchval("SELECT to_regclass('schema_migrations')") is None:
        return len(migrations())
    done = await connection.fetchval("SELECT count(*) FROM schema_migrations")
    return len(migrations()) - int(done)
