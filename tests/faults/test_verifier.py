"""The verifier is killed, told to stop, and cut off from all that it needs, on Apache Kafka with real processes."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import Final
from urllib.parse import urlsplit

import pytest

from services.embedded.calcom import pranks
from services.plumbing.postgres import Pool
from tests.faults.asking import asking
from tests.faults.practice import COMPANY, SETTINGS, Practice, practice
from tests.faults.scene import scene
from tests.support.kafka_server import KafkaServer
from tests.support.mute_proxy import MuteProxy
from tests.support.processes import Service
from tests.support.tcp_proxy import TcpProxy
from tests.support.wait import moment, until

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]

ROUNDS: Final = 20
A_ROUND: Final = 12
STOP_SECONDS: Final = 10.0
NOWHERE: Final = "uidThatNobodyHas"


@pytest.fixture
async def here(apache_kafka: str, dsn: str, tmp_path: Path) -> AsyncIterator[Practice]:
    """Give a practice on the broker that all share."""
    async with scene(apache_kafka, dsn, tmp_path, **SETTINGS) as stage, practice(stage) as made:
        yield made


@pytest.fixture
async def fragile_here(fragile_kafka: KafkaServer, dsn: str, tmp_path: Path) -> AsyncIterator[Practice]:
    """Give a practice on the broker that may be paused."""
    async with scene(fragile_kafka.bootstrap_servers, dsn, tmp_path, **SETTINGS) as stage, practice(stage) as made:
        yield made


# --- kill -9 ----------------------------------------------------------------------------------------------------


async def test_kill_9_at_any_moment_leaves_no_record_stuck_and_counts_no_attempt_twice(here: Practice) -> None:
    """Twenty times, while questions come all the time; what is absent is asked for twice at least."""
    random = Random(67)
    await here.enter()
    here.calcom.mischief.play(pranks.Slow(seconds=0.05))
    absent = {number: f"{NOWHERE}{number}" for number in range(10_000, 10_006)}
    await here.tell(absent)
    told = 0
    for _ in range(ROUNDS):
        bookings = await here.book(range(told, told + A_ROUND))
        told += A_ROUND
        await here.tell({number: booking.uid for number, booking in bookings.items()})
        verifier = here.stage.start("verifier")
        await here.asked(len(here.requests()) + random.randrange(A_ROUND // 2))
        await moment(asyncio.get_running_loop().time() + random.uniform(0, 0.1))
        verifier.kill()
    await here.ready()
    await here.quiet(seconds=90)
    records = await here.records()
    assert {number: records[number] for number in range(told)} == dict.fromkeys(range(told), ("synced", 1))
    assert {status for status, _ in (records[number] for number in absent)} == {"orphaned_local"}
    assert max(attempts for _, attempts in (records[number] for number in absent)) <= 3
    assert {flag["appointment_id"] for flag in await here.stage.flags()} == set(map(str, absent))
    await here.holds()


@pytest.mark.parametrize("where", ["before_it_asks", "while_it_asks"])
async def test_kill_9_before_the_answer_is_made_good_when_the_lease_ends(here: Practice, where: str) -> None:
    first, uids = await _at_work(here)
    await {"before_it_asks": _before, "while_it_asks": _while}[where](here, first, uids)
    assert await here.stage.pool.fetchval("SELECT leased_by IS NOT NULL FROM verifications"), "the dead one's lease"
    await here.ready()
    await here.status(2, "synced")
    assert (await here.records())[2] == ("synced", 1)
    await here.holds()


async def test_kill_9_after_the_publish_tells_the_answer_twice_and_counts_it_once(here: Practice) -> None:
    """The reconciler sleeps meanwhile: it would end the question itself."""
    first, uids = await _at_work(here)
    slow = here.calcom.mischief.play(pranks.Slow(seconds=1))
    before = len(await here.checks())
    await here.tell(uids)
    await _leased(here)
    here.reconciler.pause()
    async with here.stage.pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT FROM verifications FOR UPDATE")
        await _told(here, before + 1)
        await _killed(here.stage.pool, first)
    slow.stop()
    await here.ready()
    await _told(here, before + 2)
    here.reconciler.resume()
    await here.status(2, "synced")
    assert (await here.records())[2] == ("synced", 1)
    assert len({one.id for one in await here.checks()}) == before + 1
    await here.holds()


async def _at_work(here: Practice) -> tuple[Service, dict[int, str]]:
    """Let a verifier decide about an appointment; gives it, and the next one with its booking."""
    await here.enter()
    (first,) = await here.ready()
    bookings = await here.book([1, 2])
    await here.tell({1: bookings[1].uid})
    await here.status(1, "synced")
    return first, {2: bookings[2].uid}


async def _told(here: Practice, count: int) -> None:
    """Wait until so many answers are in Kafka."""

    async def enough() -> bool:
        return len(await here.checks()) >= count

    await until(enough, 20)


async def _before(here: Practice, verifier: Service, uids: dict[int, str]) -> None:
    """Kill it while it waits for its key's budget."""
    asked = len(here.requests())
    async with here.stage.pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT FROM api_budgets FOR UPDATE")
        await here.tell(uids)
        await _leased(here)
        await _killed(here.stage.pool, verifier)
    assert len(here.requests()) == asked


async def _while(here: Practice, verifier: Service, uids: dict[int, str]) -> None:
    """Kill it while Cal.com thinks."""
    hanging = here.calcom.mischief.play(pranks.Hang(), under="/v2/bookings/")
    asked = len(here.requests())
    await here.tell(uids)
    await here.asked(asked)
    await _killed(here.stage.pool, verifier)
    hanging.stop()


async def _leased(here: Practice) -> None:
    async def leased() -> bool:
        return bool(await here.stage.pool.fetchval("SELECT leased_by IS NOT NULL FROM verifications"))

    await until(leased, 20)


async def _killed(pool: Pool, verifier: Service) -> None:
    """Kill -9, and what it had asked PostgreSQL for dies with it, as it would where nothing held it up."""
    verifier.kill()
    await pool.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name LIKE 'reconcal-verifier%'"
    )


async def test_what_kafka_does_not_take_is_asked_again_and_counted_once(
    fragile_here: Practice, fragile_kafka: KafkaServer
) -> None:
    """The answer was there, the broker was not; then the verifier is killed before it can tell."""
    here = fragile_here
    await here.enter()
    (first,) = await here.ready()
    slow = here.calcom.mischief.play(pranks.Slow(seconds=1.5))
    bookings = await here.book([1])
    await here.tell({1: bookings[1].uid})
    await here.asked(0)
    fragile_kafka.pause()
    await moment(asyncio.get_running_loop().time() + 2.5)
    first.kill()
    fragile_kafka.resume()
    slow.stop()
    await here.ready()
    await here.status(1, "synced", seconds=60)
    assert (await here.records())[1] == ("synced", 1)
    assert len(here.requests()) == 2
    await here.holds()


# --- SIGTERM ----------------------------------------------------------------------------------------------------


async def _ends(verifier: Service) -> float:
    """Tell it to stop; gives the seconds until it has ended."""
    began = time.monotonic()
    verifier.tell_to_stop()
    await verifier.ended(STOP_SECONDS + 5)
    assert verifier.exit_code in (0, 70)
    return time.monotonic() - began


async def test_while_cal_com_hangs_it_ends_soon_and_gives_its_questions_back(here: Practice) -> None:
    """Another need not wait for the lease to end."""
    await here.enter()
    (first,) = await here.ready(calcom_timeout_seconds=60, verifier_lease_seconds=300)
    here.calcom.mischief.play(pranks.Hang(), under="/v2/bookings/")
    bookings = await here.book(range(20))
    await here.tell({number: booking.uid for number, booking in bookings.items()})
    await here.asked(2)
    assert await _ends(first) < STOP_SECONDS / 2
    assert first.exit_code == 0
    assert not await here.stage.pool.fetchval("SELECT count(*) FROM verifications WHERE leased_by IS NOT NULL")
    here.calcom.mischief.stop()
    await here.ready()
    await here.holds()
    assert set((await here.records()).values()) == {("synced", 1)}


async def test_while_kafka_is_away_it_ends_within_10_s(fragile_here: Practice, fragile_kafka: KafkaServer) -> None:
    here = fragile_here
    await here.enter()
    (first,) = await here.ready()
    slow = here.calcom.mischief.play(pranks.Slow(seconds=1))
    bookings = await here.book(range(8))
    await here.tell({number: booking.uid for number, booking in bookings.items()})
    await here.asked(2)
    fragile_kafka.pause()
    await moment(asyncio.get_running_loop().time() + 2)
    assert await _ends(first) < STOP_SECONDS
    fragile_kafka.resume()
    slow.stop()
    await here.ready()
    await here.holds(seconds=90)
    assert set((await here.records()).values()) == {("synced", 1)}


@pytest.mark.parametrize("fate", ["cut", "stalled"])
async def test_while_postgresql_is_away_it_ends_within_10_s(here: Practice, fate: str) -> None:
    await here.enter()
    dsn = urlsplit(here.stage.settings.postgres_dsn)
    assert dsn.port
    async with TcpProxy("127.0.0.1", dsn.port) as wire:
        by_wire = dsn._replace(netloc=dsn.netloc.replace(f":{dsn.port}", f":{wire.port}")).geturl()
        (first,) = await here.ready(postgres_dsn=by_wire)
        slow = here.calcom.mischief.play(pranks.Slow(seconds=1))
        bookings = await here.book(range(8))
        await here.tell({number: booking.uid for number, booking in bookings.items()})
        await here.asked(2)
        if fate == "cut":
            await wire.cut()
        else:
            wire.stall()
        await moment(asyncio.get_running_loop().time() + 1)
        assert await _ends(first) < STOP_SECONDS
    slow.stop()
    await here.ready()
    await here.holds(seconds=90)
    assert set((await here.records()).values()) == {("synced", 1)}


async def test_while_it_is_cut_off_from_kafka_it_is_not_ready_and_afterwards_all_is_told(
    fragile_here: Practice, wire: MuteProxy, by_wire: dict[str, object]
) -> None:
    here = fragile_here
    await here.enter()
    (verifier,) = await here.ready(1, **by_wire)
    await wire.cut()
    bookings = await here.book(range(8))
    await here.tell({number: booking.uid for number, booking in bookings.items()})

    async def unready() -> bool:
        return "kafka" in await verifier.troubles()

    await until(unready, 30)
    await wire.heal()
    await verifier.ready(60)
    await here.holds(seconds=90)
    assert set((await here.records()).values()) == {("synced", 1)}
    assert COMPANY not in {flag["company_id"] for flag in await here.stage.flags()}


# --- a sweep, and humans ------------------------------------------------------------------------------------------


async def test_a_manual_retry_is_decided_within_2_s_while_a_sweep_of_1000_records_waits(
    apache_kafka: str, dsn: str, tmp_path: Path
) -> None:
    """Two verifiers, and never more than is allowed. `python -m tests.faults.asking` does so with 120 a minute."""
    settings = SETTINGS | {"calcom_requests_per_minute": "600"}
    async with scene(apache_kafka, dsn, tmp_path, **settings) as stage:
        figures = await asking(stage, seconds=15, a_minute=600, records=1000, every_seconds=0.6, span_seconds=5)
        print(figures)  # noqa: T201
        assert len(figures.human_seconds) >= 15
