"""Several reconcilers, on Apache Kafka with real processes: scenarios 33, 35 and 36."""

import asyncio
from datetime import timedelta
from random import Random
from typing import Final

import pytest

from tests.faults.scene import PARTITIONS, Scene
from tests.support.load import Case, Side, both_sides, cases, from_app, from_calcom, on_partition
from tests.support.processes import Service
from tests.support.wait import until

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]

COMPANIES: Final = [on_partition(number, PARTITIONS) for number in range(PARTITIONS)]
#: The broker misses a member after 6 s; its locks in PostgreSQL go after 15 s; the one that takes over has to join.
TAKEOVER_SECONDS: Final = 40.0

_IN_TRANSACTION: Final = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'reconcal-reconciler' AND xact_start IS NOT NULL"""


async def _owns(worker: Service, count: int) -> None:
    """Wait until a process says that so many partitions are its own."""

    async def so_many() -> bool:
        assigned = worker.lines("reconciler.assigned")
        return bool(assigned) and len(assigned[-1]["partitions"]) == count

    await until(so_many, TAKEOVER_SECONDS)


async def _paused_in_a_transaction(faults: Scene, worker: Service) -> None:
    """Pause a process while PostgreSQL has a transaction of it open."""

    async def caught() -> bool:
        worker.pause()
        if await faults.pool.fetchval(_IN_TRANSACTION):
            return True
        worker.resume()
        return False

    await until(caught, 20)


@pytest.mark.parametrize("in_a_transaction", [True, False])
async def test_a_sleeper_that_lost_its_partitions_changes_nothing_when_it_wakes(
    faults: Scene, *, in_a_transaction: bool
) -> None:
    """Nor does it hold up the one that takes over, even if it sleeps with PostgreSQL's locks in its hands."""
    random = Random(33)
    await faults.companies(COMPANIES)
    planted = cases(COMPANIES, 4000, random)
    sleeper = faults.start("reconciler", batch_max_records=100)
    await _owns(sleeper, PARTITIONS)
    sleeper.pause()
    await faults.publish(both_sides(planted, random))
    if in_a_transaction:
        sleeper.resume()
        await faults.applied_beyond(100)
        await _paused_in_a_transaction(faults, sleeper)
    assert await faults.applied() < await faults.written(), "it fell asleep in the middle of work"
    other = faults.start("reconciler")
    await _owns(other, PARTITIONS)
    await faults.caught_up(TAKEOVER_SECONDS)
    sleeper.resume()
    await _owns(sleeper, PARTITIONS // 2)
    more = cases(COMPANIES, 500, random, first=10_001)
    await faults.publish(both_sides(more, random))
    await faults.holds([*planted, *more])
    owners = await faults.pool.fetch("SELECT DISTINCT owner FROM partitions")
    assert len(owners) == 2, "both are at work again"


async def test_two_workers_and_many_deadlines_make_one_flag_each(faults: Scene) -> None:
    await faults.companies(COMPANIES)
    alone = [Case(COMPANIES[n % PARTITIONS], n, Side.APP if n % 3 else Side.CALCOM) for n in range(1, 2001)]
    workers = [faults.start("reconciler"), faults.start("reconciler")]
    for worker in workers:
        await _owns(worker, PARTITIONS // 2)
    await faults.publish(both_sides(alone, Random(35)))
    view = await faults.holds(alone)
    assert len(view.of_records) == len(alone)
    assert len(view.told) == len(view.raised)


async def test_a_match_at_the_very_deadline_is_a_match_or_a_flag_that_is_resolved(faults: Scene) -> None:
    random = Random(36)
    window = timedelta(seconds=1)
    await faults.companies(COMPANIES, window_seconds=window.total_seconds())
    await faults.start("reconciler").said("reconciler.assigned")
    pairs = [Case(random.choice(COMPANIES), n) for n in range(1, 241)]
    for begin in range(0, len(pairs), 40):
        await _partners_at_the_deadline(faults, pairs[begin : begin + 40], window, random)
    view = await faults.holds()
    assert set(view.of_records) <= set(view.resolved), "no flag stays open"
    assert 0 < len(view.raised) < len(pairs), "some came before, some after"
    assert {(r.status, r.flag) for r in view.records} == {("synced", None)}


async def _partners_at_the_deadline(faults: Scene, pairs: list[Case], window: timedelta, random: Random) -> None:
    """Publish one side, and the other just when the window of the first ends, some milliseconds around it."""
    first = [(case, random.random() < 0.5) for case in pairs]
    deliveries = [from_app(case) if app else from_calcom(case) for case, app in first]
    await faults.publish(deliveries)
    ends_at = deliveries[0].received_at + window
    for number, (case, app) in enumerate(first):
        moment = ends_at + timedelta(milliseconds=6 * (number - len(first) / 2))
        while faults.now() < moment:
            await asyncio.sleep(0)
        await faults.publish([from_calcom(case) if app else from_app(case)])
