"""What an event costs, and a tick, while millions of records are open, beside the same while few are.

Both databases lie in one PostgreSQL that is sized for millions; no Kafka, for it does not know how many are open.
"""

from asyncio import TaskGroup
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final
from unittest.mock import patch
from urllib.parse import urlsplit

import asyncpg
from psutil import virtual_memory

from services.embedded import database
from services.embedded.database import EmbeddedDatabase
from services.plumbing.migrate import migrate
from services.reconciler.ports import Applied, Changes
from services.reconciler.store import PostgresStore
from tests.bench.filling import COMPANIES
from tests.bench.findings import Figure, Findings, Plan
from tests.bench.ground import PARTITIONS, Ground, worker
from tests.bench.open_filling import Order as Filling
from tests.bench.open_templates import NOW, POLICY
from tests.bench.stepping import Database
from tests.bench.stepping import Order as Stepping

COST: Final = 1.2
TICK_MS: Final = 250.0
SMALL: Final = 10_000
_FILL_SECONDS: Final = 1_800.0
_STEP_SECONDS: Final = 900.0
_EVENTS: Final = 4_000
_TABLES: Final = ("records", "record_keys", "flags")
#: What a server gets that is to hold millions, beside a quarter of the memory; the rest is as the embedded one has it.
_SIZED: Final = {
    "maintenance_work_mem": "1GB",
    "max_wal_size": "16GB",
    "checkpoint_timeout": "15min",
    "wal_level": "minimal",  # so that filling need not write everything twice
    "max_wal_senders": "0",
}
#: Reads all of a table, and its indexes into PostgreSQL's own memory: a server that has run for a while has them there.
_WARM: Final = """
SELECT sum(pg_prewarm(pg_class.oid, CASE relkind WHEN 'i' THEN 'buffer' ELSE 'read' END))
FROM pg_class LEFT JOIN pg_index ON indexrelid = pg_class.oid
WHERE coalesce(indrelid, pg_class.oid) = ANY($1::text[]::regclass[])"""


async def measure(ground: Ground, plan: Plan) -> Findings:
    """Fill both, then let the worker take the same mixture of events in turns."""
    large = 500_000 if plan.quick else 5_000_000
    async with _server() as server:
        cases = {"few": SMALL, "many": large}
        databases = {name: Database(await _made(server, name), count) for name, count in cases.items()}
        filled = {name: await _filled(one) for name, one in databases.items()}
        sizes = {name: await _size(one.dsn) for name, one in databases.items()}
        for one in databases.values():
            await _warm(one.dsn)
        assert server.pid is not None
        order = Stepping(databases, server.pid, plan.rounds * 4, _EVENTS)
        said = await worker("stepping", order, _STEP_SECONDS)
    notes = [f"{cases[name]:,} open: {sizes[name]}; {filled[name]}" for name in databases]
    return Findings([*_costs(said["cost"], large), *_ticks(said["ticks"], large)], notes)


@asynccontextmanager
async def _server() -> AsyncIterator[EmbeddedDatabase]:
    sized = _SIZED | {"shared_buffers": f"{virtual_memory().total // 2**22}MB"}
    with TemporaryDirectory(prefix="reconcal-bench-") as folder, patch.dict(database.SETTINGS, sized):
        async with EmbeddedDatabase(Path(folder)) as server:
            yield server


async def _made(server: EmbeddedDatabase, name: str) -> str:
    """Make a migrated database whose records are decided by the rules in force; gives its address."""
    connection = await asyncpg.connect(server.dsn)
    try:
        await connection.execute(f"CREATE DATABASE {name}")
    finally:
        await connection.close()
    dsn = urlsplit(server.dsn)._replace(path=f"/{name}").geturl()
    await migrate(dsn)
    async with asyncpg.create_pool(dsn, min_size=1, max_size=1) as pool:
        store = PostgresStore(pool)
        claims = await store.claim(range(PARTITIONS), owner="bench", at=NOW)
        changes = Changes.begin(NOW, {number: claim.epoch for number, claim in claims.items()})
        changes.applied.extend(Applied(company, POLICY, None) for company in COMPANIES)
        await store.save(changes)
    return dsn


async def _filled(where: Database) -> str:
    """Fill the tables side by side; says what took how long."""
    said: dict[str, dict[str, float]] = {}

    async def fill(table: str) -> None:
        said[table] = await worker("open_filling", Filling(where.dsn, table, where.cases), _FILL_SECONDS)

    async with TaskGroup() as tasks:
        for table in _TABLES:
            tasks.create_task(fill(table))
    taken = {table: " + ".join(f"{seconds:.0f} s {what}" for what, seconds in said[table].items()) for table in _TABLES}
    return "; ".join(f"{table} {text}" for table, text in taken.items())


async def _size(dsn: str) -> str:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("CHECKPOINT")
        bytes_ = await connection.fetchval("SELECT pg_database_size(current_database())")
        counts = [await connection.fetchval(f"SELECT count(*) FROM {table}") for table in _TABLES]
    finally:
        await connection.close()
    return f"{bytes_ / 1e9:.1f} GB, " + ", ".join(f"{n:,} {table}" for n, table in zip(counts, _TABLES, strict=True))


async def _warm(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("CREATE EXTENSION pg_prewarm")
        await connection.fetchval(_WARM, list(_TABLES))
    finally:
        await connection.close()


def _costs(cost: dict[str, dict[str, list[float]]], large: int) -> list[Figure]:
    few, many = cost["few"], cost["many"]
    names = {"few": f"{SMALL:,} open", "many": f"{large:,} open"}
    ratios = tuple(b / a for a, b in zip(few["time"], many["time"], strict=True))
    cpu = {name: [a + b for a, b in zip(one["loop"], one["PostgreSQL"], strict=True)] for name, one in cost.items()}
    return [
        Figure(what=f"time of an event: {large:,} / {SMALL:,} open", unit="x", samples=ratios, at_most=COST),
        Figure(
            what=f"CPU of an event: {large:,} / {SMALL:,} open",
            unit="x",
            samples=tuple(b / a for a, b in zip(cpu["few"], cpu["many"], strict=True)),
        ),
        *(
            Figure(what=f"{what}: {names[name]}", unit="µs", samples=tuple(cost[name][key]))
            for what, key in _WHATS.items()
            for name in names
        ),
    ]


_WHATS: Final = {
    "time of an event": "time",
    "CPU of an event, worker": "loop",
    "CPU of an event, PostgreSQL": "PostgreSQL",
}


def _ticks(ticks: dict[str, dict[str, dict[str, float]]], large: int) -> list[Figure]:
    found: list[Figure] = []
    for what, values in ticks["many"].items():
        few: Any = ticks["few"].get(what, {}).get("p50", 0.0)
        named = f"{what}: p99, {large:,} open ({SMALL:,}: p50 {few:.1f} ms)"
        found.append(Figure(what=named, unit="ms", samples=(values["p99"],), at_most=TICK_MS))
    return found
