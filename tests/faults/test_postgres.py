"""PostgreSQL goes away, refuses to write, has no room, breaks off in COMMIT: scenarios 52 and 53, on Apache Kafka."""

import os
import pwd
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest

from services.embedded.database import EmbeddedDatabase
from services.embedded.ports import HOST, free_port
from services.plumbing.migrate import migrate
from tests.faults.scene import Scene, scene
from tests.faults.shift import shift
from tests.support.commit_cutter import CommitCutter
from tests.support.small_disk import SmallDisk
from tests.support.stand import TEMPLATE
from tests.support.wait import until

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]

PER_SECOND: Final = 150
#: Longer than a busy machine may hold up one of the two sides, shorter than an outage.
WINDOW_SECONDS: Final = 2.0
#: So many events are taken during an outage: windows end in it.
MEANWHILE: Final = int(2 * PER_SECOND * WINDOW_SECONDS * 1.3)
DISK_BYTES: Final = 40 * 1024 * 1024
CUTS: Final = 12


async def test_a_database_that_is_stopped_or_killed_under_load_costs_nothing(apache_kafka: str, tmp_path: Path) -> None:
    database = EmbeddedDatabase(tmp_path / "postgres", free_port())
    await database.start()
    try:
        await migrate(database.dsn)
        async with (
            scene(apache_kafka, database.dsn, tmp_path) as stage,
            shift(stage, window_seconds=WINDOW_SECONDS, per_second=PER_SECOND) as work,
        ):
            for go, meanwhile in ((database.stop, PER_SECOND), (lambda: _killed(database), MEANWHILE)):
                await stage.applied_beyond(await stage.applied() + PER_SECOND)
                await go()
                await work.waits()
                await work.taken(meanwhile)
                await database.start()
            await work.holds()
            assert not work.steady.refused
    finally:
        await database.stop()


async def _killed(database: EmbeddedDatabase) -> None:
    """Kill -9 of the postmaster; what was committed is on the disk."""
    assert database._child is not None
    database._child.kill()


async def test_while_the_database_is_read_only_ingest_goes_on_and_the_reconciler_waits(faults: Scene) -> None:
    async with shift(faults, window_seconds=WINDOW_SECONDS, per_second=PER_SECOND) as work:
        await faults.applied_beyond(PER_SECOND)
        await _read_only(faults, "on")
        await work.waits("read-only")
        before = await faults.applied()
        await work.taken(MEANWHILE)
        assert await faults.applied() == before
        await _read_only(faults, "off")
        await work.holds()
        assert not work.steady.refused


_TO_ALL: Final = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND application_name LIKE 'reconcal-%' AND application_name <> 'reconcal-tests'"""


async def _read_only(faults: Scene, value: str) -> None:
    """Set what sessions begin with, and end those that there are, as a fail-over does."""
    name = urlsplit(faults.settings.postgres_dsn).path.removeprefix("/")
    await faults.pool.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = {value}")
    await faults.pool.execute(_TO_ALL)


async def test_while_the_disk_of_the_database_is_full_ingest_goes_on_and_the_reconciler_waits(
    apache_kafka: str, database: EmbeddedDatabase, small_disk: Callable[..., SmallDisk], tmp_path: Path
) -> None:
    disk = small_disk(DISK_BYTES, owner=pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else os.geteuid())
    async with (
        _on_disk(database, disk) as dsn,
        scene(apache_kafka, dsn, tmp_path) as stage,
        shift(stage, window_seconds=WINDOW_SECONDS, per_second=PER_SECOND) as work,
    ):
        await stage.applied_beyond(PER_SECOND)
        disk.fill()
        await work.waits("diskfull")
        await work.taken(MEANWHILE)
        assert await stage.applied() < await stage.written()
        disk.clear()
        await work.holds()
        assert not work.steady.refused


@asynccontextmanager
async def _on_disk(server: EmbeddedDatabase, disk: SmallDisk) -> AsyncIterator[str]:
    """Give a migrated database all of whose tables lie on a disk."""
    name = f"small_{uuid4().hex}"
    connection = await asyncpg.connect(server.dsn)
    await connection.execute(f"CREATE TABLESPACE {name} LOCATION '{disk.path}'")
    await connection.execute(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE} TABLESPACE {name}")
    try:
        yield urlsplit(server.dsn)._replace(path=f"/{name}").geturl()
    finally:
        disk.clear()
        await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await connection.execute(f"DROP TABLESPACE {name}")
        await connection.close()


async def test_a_connection_that_breaks_in_commit_loses_nothing_and_doubles_nothing(faults: Scene) -> None:
    """Whether PostgreSQL had heard of it or had committed already: the offsets say which."""
    address = urlsplit(faults.settings.postgres_dsn)
    assert address.port is not None
    async with CommitCutter(HOST, address.port, every=5) as wire:
        by_wire = address._replace(netloc=address.netloc.replace(f":{address.port}", f":{wire.port}")).geturl()
        settings = {"postgres_dsn": by_wire, "batch_max_records": 50}
        async with shift(faults, window_seconds=WINDOW_SECONDS, per_second=PER_SECOND, reconciler=settings) as work:
            await faults.applied_beyond(PER_SECOND)
            wire.armed = True

            async def often_enough() -> bool:
                return wire.unheard + wire.unanswered >= CUTS

            await until(often_enough, 60)
            wire.armed = False
            await work.holds()
            assert min(wire.unheard, wire.unanswered) >= CUTS // 2 - 1
            assert not work.steady.refused
