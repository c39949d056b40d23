"""No false alarms, on Apache Kafka with real processes: scenarios 20 to 25."""

from datetime import timedelta
from random import Random
from typing import Any, Final

import msgspec
import pytest

from schemas import topics
from schemas.flags import Flag
from tests.faults.scene import PARTITIONS, Scene
from tests.support import builders
from tests.support.kafka_server import KafkaServer
from tests.support.load import Case, Side, both_sides, cases, delivery, from_app, from_calcom, on_partition, pings
from tests.support.wait import until

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]

ZERO: Final = on_partition(0, PARTITIONS)
ONE: Final = on_partition(1, PARTITIONS)
#: Deadline to flag, with the machine's load on top of what `tests/bench` holds it to.
ON_TIME: Final = timedelta(seconds=1.5)


def lateness(row: Any) -> timedelta:
    """Give the time from a flag's deadline to its decision."""
    flag = msgspec.json.decode(row["body"], type=Flag)
    assert flag.deadline_at is not None
    return flag.decided_at - flag.deadline_at


def proved(row: Any) -> bool:
    """Say whether both sides were known beyond the deadline when the flag was decided."""
    flag = msgspec.json.decode(row["body"], type=Flag)
    assert flag.deadline_at is not None
    return all(flag.why.frontiers[side] > flag.deadline_at for side in topics.SIDES)


async def test_while_calcom_is_behind_nothing_is_flagged_and_afterwards_only_true_orphans(faults: Scene) -> None:
    await faults.companies([ZERO, ONE])
    planted = cases([ZERO], 300, Random(20))
    await faults.publish(pings(ZERO, 10_000))
    await faults.publish(both_sides(planted, Random(20)))
    begun = faults.now()

    async def every_window_is_over() -> bool:
        return faults.now() > begun + timedelta(seconds=2.5)

    await until(every_window_is_over, 5)
    reconciler = faults.start("reconciler", batch_max_records=100)
    held = await reconciler.said("reconciler.deadlines")
    assert held["held"]["0"] > 0, "decisions are held, and counted"
    assert not await faults.flags()
    await faults.holds(planted)
    assert all(proved(flag) for flag in await faults.flags())


async def test_while_one_partition_lags_the_others_flags_come_on_time(faults: Scene) -> None:
    await faults.companies([ZERO, ONE])
    reconciler = faults.start("reconciler", batch_max_records=5)
    await reconciler.said("reconciler.assigned")
    lagging = [Case(ZERO, 1), Case(ZERO, 2, Side.APP)]
    current = [Case(ONE, 3), Case(ONE, 4, Side.APP)]
    reconciler.pause()
    await faults.publish(pings(ZERO, 10_000))
    await faults.publish(both_sides([*lagging, *current], Random(21)))
    reconciler.resume()
    (flag,) = await faults.flagged(ONE)
    assert lateness(flag) < ON_TIME
    assert await faults.applied() < await faults.written(), "the other partition is still behind"
    await faults.holds([*lagging, *current])
    (late,) = await faults.flagged(ZERO)
    assert late["raised_at"] > flag["raised_at"]
    assert proved(late)


async def test_when_calcom_is_idle_but_read_to_its_end_an_orphan_is_flagged_on_time(faults: Scene) -> None:
    await faults.companies([ZERO])
    await faults.start("reconciler").said("reconciler.assigned")
    await faults.publish(both_sides([Case(ZERO, 1)], Random(22)))
    await faults.caught_up()
    await faults.publish([from_app(Case(ZERO, 2, Side.APP))])
    (flag,) = await faults.flagged(ZERO)
    assert lateness(flag) < ON_TIME
    await faults.holds([Case(ZERO, 1), Case(ZERO, 2, Side.APP)])


async def test_while_the_broker_does_not_answer_decisions_are_held_and_made_after_the_grace(
    fragile: Scene, fragile_kafka: KafkaServer
) -> None:
    await fragile.companies([ZERO])
    reconciler = fragile.start("reconciler", stall_after_seconds=2.0, stall_grace_seconds=3.0)
    await reconciler.said("reconciler.assigned")
    partner, orphan = Case(ZERO, 1), Case(ZERO, 2, Side.APP)
    await fragile.publish([from_app(partner), from_app(orphan)])
    await fragile.caught_up()
    fragile_kafka.pause()

    async def two_are_held() -> bool:
        return await reconciler.metric("reconcal_held_decisions") == 2

    await until(two_are_held, 20)
    assert not await fragile.flags()
    resumed = fragile.now()
    fragile_kafka.resume()
    await fragile.publish([from_calcom(partner)])
    (flag,) = await fragile.flagged(ZERO, 40)
    assert flag["raised_at"] - resumed > timedelta(seconds=3)
    await fragile.holds([partner, orphan])


async def test_the_last_events_ever_are_flagged_though_nothing_follows(faults: Scene) -> None:
    await faults.companies([ZERO])
    await faults.start("reconciler").said("reconciler.assigned")
    planted = [Case(ZERO, 1), Case(ZERO, 2, Side.APP), Case(ZERO, 3, Side.CALCOM)]
    await faults.publish(both_sides(planted, Random(24)))
    await faults.holds(planted)
    assert max(lateness(flag) for flag in await faults.flags()) < ON_TIME


async def test_disorder_within_the_window_flags_nothing(faults: Scene) -> None:
    await faults.companies([ZERO, ONE], window_seconds=3)
    await faults.start("reconciler").said("reconciler.assigned")
    planted = [Case(random_company, n) for n in range(1, 101) for random_company in (ZERO, ONE)]
    told = both_sides(planted, Random(25))
    cancelled = builders.booking_cancelled("gone", booking_id=9001)
    created = builders.booking_created("gone", booking_id=9001)
    told += [
        delivery(topics.CALCOM_BOOKINGS, ZERO, f"x{n}", builders.body(b)) for n, b in enumerate((cancelled, created))
    ]
    Random(25).shuffle(told)
    await faults.publish(told)
    await faults.holds()
    assert not await faults.flags()
    assert await faults.pool.fetchval("SELECT count(*) FROM records WHERE calcom_sync_status <> 'synced'") == 0
