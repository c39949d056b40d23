"""Kill -9 of the reconciler, on Apache Kafka with real processes: scenarios 30 to 32."""

import asyncio
from random import Random
from typing import Final

import pytest

from tests.faults.scene import PARTITIONS, Scene
from tests.support.load import Case, Side, both_sides, cases, on_partition
from tests.support.wait import until

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]

COMPANIES: Final = [on_partition(number, PARTITIONS) for number in range(PARTITIONS)]
CASES: Final = 4000
KILLS: Final = 6


async def _trickle(faults: Scene, planted: list[Case], random: Random) -> None:
    """Publish so that there is always something to do."""
    for n in range(0, len(planted), 100):
        await faults.publish(both_sides(planted[n : n + 100], random))


async def test_kill_9_in_the_middle_of_load_loses_nothing_and_doubles_nothing(faults: Scene) -> None:
    """Wherever it strikes: before the commit, in it, or between it and Kafka's."""
    random = Random(30)
    await faults.companies(COMPANIES)
    planted = cases(COMPANIES, CASES, random)
    load = asyncio.ensure_future(_trickle(faults, planted, random))
    for _ in range(KILLS):
        reconciler = faults.start("reconciler", kafka_assignment="all", batch_max_records=50)
        await faults.applied_beyond(await faults.applied() + random.randrange(400))
        reconciler.kill()
    await load
    assert await faults.applied() < await faults.written(), "the kills came while there was work"
    faults.start("reconciler", kafka_assignment="all")
    await faults.holds(planted)


async def test_a_flag_whose_crash_came_between_commit_and_publish_is_told_by_the_next_process(faults: Scene) -> None:
    await faults.companies(COMPANIES, window_seconds=1)
    alone = [Case(COMPANIES[n % PARTITIONS], n, Side.APP if n % 2 else Side.CALCOM) for n in range(1, CASES)]
    await faults.publish(both_sides(alone, Random(32)))
    left = [await _killed_between_commit_and_publish(faults) for _ in range(KILLS)]
    assert max(left) > 0, "no kill came between commit and publish"
    faults.start("reconciler", kafka_assignment="all")
    view = await faults.holds(alone)
    assert {flag.id for flag in view.told} == set(view.raised)


async def _killed_between_commit_and_publish(faults: Scene) -> int:
    """Kill a process as soon as a flag is committed that Kafka has not; gives how many were left."""
    reconciler = faults.start("reconciler", kafka_assignment="all")

    async def untold() -> bool:
        return bool(await faults.pool.fetchval("SELECT count(*) FROM outbox"))

    before = await faults.pool.fetchval("SELECT count(*) FROM flags")
    if before < CASES - 1:
        await until(untold, 20)
    reconciler.kill()
    return int(await faults.pool.fetchval("SELECT count(*) FROM outbox"))
