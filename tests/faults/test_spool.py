"""The spool under faults: full, on a full disk, damaged. Nothing that was acknowledged is lost; on Apache Kafka."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import httpx
import pytest

from tests.faults.scene import PARTITIONS, Scene
from tests.faults.shift import Shift, shift
from tests.support.load import Case, on_partition
from tests.support.mute_proxy import MuteProxy
from tests.support.senders import Senders
from tests.support.small_disk import SmallDisk
from tests.support.wait import until

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]

COMPANY: Final = on_partition(0, PARTITIONS)
PER_SECOND: Final = 100
SPOOL_BYTES: Final = 200_000
DISK_BYTES: Final = 8 * 1024 * 1024
SILENCE_SECONDS: Final = 2.0
NO_DATABASE: Final = b"this is no database " * 500


async def test_a_full_spool_says_come_again_and_nothing_acknowledged_is_lost(
    fragile: Scene, wire: MuteProxy, by_wire: dict[str, object]
) -> None:
    settings = by_wire | {"ingest_spool_max_bytes": SPOOL_BYTES}
    async with shift(fragile, window_seconds=2, per_second=PER_SECOND, ingest=settings) as work:
        await work.taken(PER_SECOND)
        await wire.cut()
        await _is_refused(work)
        await until(work.ingest.troubles, 10)
        await wire.heal()
        await _goes_on(work)


async def test_a_spool_on_a_full_disk_says_come_again_and_goes_on_when_kafka_is_back(
    fragile: Scene, wire: MuteProxy, by_wire: dict[str, object], small_disk: Callable[..., SmallDisk]
) -> None:
    """Though nobody makes room."""
    disk = small_disk(DISK_BYTES)
    settings = by_wire | {"ingest_spool_dir": str(disk.path)}
    async with shift(fragile, window_seconds=2, per_second=PER_SECOND, ingest=settings) as work:
        await work.taken(PER_SECOND)
        await wire.cut()
        await _is_spooled(work)
        disk.fill()
        await _is_refused(work)
        await wire.heal()
        await _goes_on(work)


async def _is_spooled(work: Shift) -> None:
    async def some() -> bool:
        return await work.stage.spooled() > PER_SECOND

    await until(some, 20)


async def _is_refused(work: Shift) -> None:
    """Wait until senders are told to come again; they are told nothing else."""

    async def often() -> bool:
        return len(work.steady.refused) > 20

    await until(often, 30)
    assert {refusal.status for refusal in work.steady.refused} == {httpx.codes.SERVICE_UNAVAILABLE}
    assert all(int(refusal.retry_after or 0) > 0 for refusal in work.steady.refused)


async def _goes_on(work: Shift) -> None:
    """Kafka is back: what was spooled is drained, and what comes is taken again."""
    await work.stage.drained()
    refused = len(work.steady.refused)
    await work.taken(PER_SECOND)
    assert len(work.steady.refused) == refused, "it takes everything again"
    await work.holds()
    await work.ingest.as_usual()


async def test_a_damaged_spool_is_set_aside_and_said_and_the_door_opens(
    fragile: Scene, wire: MuteProxy, by_wire: dict[str, object]
) -> None:
    senders = Senders(await fragile.company(COMPANY))
    ingest = fragile.start("ingest", **by_wire)
    async with httpx.AsyncClient(base_url=await ingest.as_usual()) as client:
        await wire.cut()
        for number in range(1, 20):
            assert (await senders.appointment(client, Case(COMPANY, number))).status_code == httpx.codes.ACCEPTED
    ingest.kill()
    _damage(Path(fragile.settings.ingest_spool_dir))
    again = fragile.start("ingest", **by_wire)
    async with httpx.AsyncClient(base_url=await again.base_url()) as client:

        async def taken() -> bool:
            return (await senders.appointment(client, Case(COMPANY, 20))).status_code == httpx.codes.ACCEPTED

        await until(taken, 20)
    said = await again.said("ingest.spool_damaged")
    assert said["level"] == "error"
    assert _is_there(Path(fragile.settings.ingest_spool_dir)), "set aside, not thrown away"
    await wire.heal()
    await again.as_usual()
    fragile.start("reconciler", door_silence_seconds=SILENCE_SECONDS)
    view = await fragile.holds()
    assert any(e.body == Case(COMPANY, 20).appointment() for e in view.envelopes)
    assert all(flag.why.silent_doors for flag in view.of_records.values()), "nobody knows what had lain in it"


def _damage(directory: Path) -> None:
    """Overwrite the file, and the log that it could be mended from."""
    (path,) = directory.glob("*.sqlite")
    for damaged in (path, path.with_name(f"{path.name}-wal")):
        damaged.write_bytes(NO_DATABASE)


def _is_there(directory: Path) -> bool:
    return any(path.is_file() and path.read_bytes() == NO_DATABASE for path in directory.rglob("*"))
