"""The reconciler as a service, on a real broker and database: what comes in, what is decided, and where it is told."""

from datetime import UTC, datetime, timedelta
from random import Random
from uuid import UUID

import msgspec
import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from msgspec.structs import replace

from schemas import topics
from schemas.commands import Resolve
from schemas.envelope import Delivery
from schemas.flags import FlagType
from services.plumbing.kafka import client_options, inspect
from services.plumbing.settings import Settings, SettingsError
from services.reconciler.core.policy import Policy
from tests.sim import plan
from tests.sim.judge import judge
from tests.sim.pen import BEGIN, Case
from tests.support import builders
from tests.support.memory import MemoryStore
from tests.support.running import Running, assignment, at_home, running
from tests.support.stand import PARTITIONS, stand
from tests.support.stores import InPostgres
from tests.support.wait import until

COMPANIES = tuple(at_home(number) for number in range(PARTITIONS))


@pytest.fixture
async def here(request: pytest.FixtureRequest, broker: str, dsn: str) -> Settings:
    """Give settings for one broker after the other, with topics of the test's own."""
    return await stand(broker, dsn, **assignment(request))


async def test_every_planted_case_comes_out_as_planted(here: Settings) -> None:
    """All of them were there before anybody read them: repeated, reordered, torn apart."""
    cases = plan.plan(Random(4711), dict.fromkeys(COMPANIES, Policy()), 300)
    assert len({case.name for case in cases}) > 40
    messages = sorted((m for case in cases for m in case.messages), key=lambda m: m.arrives)
    async with running(here, started=False) as service:
        for company_id in COMPANIES:
            await service.company(company_id, window_seconds=5)
        await service.pool.execute("UPDATE companies SET unconfirmed_window_seconds = 5, unpaid_window_seconds = 5")
        await service.publish([message.delivery(BEGIN + timedelta(seconds=message.arrives)) for message in messages])
        service.start()
        await service.comes("SELECT count(*) >= $1 FROM events", len(messages))
        await service.over()
        await service.check()
        judge([_whenever(case) for case in cases], await _as_in_memory(service))


def _whenever(case: Case) -> Case:
    """Let flags be raised at any time: the windows are short, and all that is told was long ago."""
    ends, or_ends = ([replace(end, not_before=-1e6) for end in many] for many in (case.ends, case.or_ends))
    return replace(case, ends=tuple(ends), or_ends=tuple(or_ends))


async def _as_in_memory(service: Running) -> MemoryStore:
    written, store = InPostgres(service.pool), MemoryStore()
    store.records = {ref: (record, 0) for ref, record in (await written.records()).items()}
    store.aliases = await written.aliases()
    store.outbox = await service.flags()
    return store


async def test_a_deadline_becomes_a_flag_on_its_topic_soon_after_it(here: Settings) -> None:
    async with running(here) as service:
        await service.company()
        await service.appointment(1)
        await service.status(1, "orphaned_local")
        await service.check()
        (flag,) = await service.flags()
    assert flag.type is FlagType.ORPHANED_LOCAL
    assert flag.deadline_at is not None
    assert min(flag.why.frontiers.values()) > flag.deadline_at
    assert flag.decided_at - flag.deadline_at < timedelta(seconds=5)
    assert flag.appointment is not None
    assert flag.appointment.calcom_booking_uid == "uid-1"


async def test_a_partner_that_comes_after_the_flag_resolves_it(here: Settings) -> None:
    async with running(here) as service:
        await service.company(window_seconds=1)
        await service.booking(1)
        await service.comes("SELECT true FROM records WHERE calcom_sync_status = 'orphaned_calcom'")
        await service.appointment(1)
        await service.status(1, "synced")
        await service.check()
        told = await service.flags()
    assert [flag.type for flag in told] == [FlagType.ORPHANED_CALCOM, FlagType.RESOLVED]
    assert told[1].resolves == told[0].id


async def test_a_company_that_was_added_a_moment_ago_is_not_unknown(
    broker: str, dsn: str, request: pytest.FixtureRequest
) -> None:
    settings = await stand(broker, dsn, companies_refresh_seconds="600", **assignment(request))
    async with running(settings) as service:
        await service.company("first", window_seconds=600)
        await service.appointment(1, "first")
        await service.status(1, "pending", "first")
        await service.company("second", window_seconds=600)
        await service.appointment(1, "second")
        await service.status(1, "pending", "second")
        assert await service.value("SELECT count(*) FROM dead_letters") == 0
        await service.check()


async def test_after_a_restart_it_reads_on_where_postgresql_says(here: Settings) -> None:
    async with running(here) as service:
        await service.company(window_seconds=600)
        await service.appointment(1)
        await service.status(1, "pending")
        await service.stop()
        await service.booking(1)
        service.start()
        await service.status(1, "synced")
        assert await service.value("SELECT count(*) FROM events") == 2
        await service.check()


async def test_after_a_restart_what_came_in_one_batch_is_not_read_twice(here: Settings) -> None:
    async with running(here) as service:
        await service.company(window_seconds=600)
        await service.publish([message(topics.CALCOM_BOOKINGS, _ping(n)) for n in range(20)])
        await service.comes("SELECT count(*) = 20 FROM events")
        await service.stop()
        service.start()
        await service.appointment(1)
        await service.status(1, "pending")
        assert await service.value("SELECT count(*) FROM events") == 21
        await service.check()


async def test_a_batch_that_is_half_applied_proves_nothing(
    request: pytest.FixtureRequest, broker: str, dsn: str
) -> None:
    """The partner lies at the end of the batch: until then its deadline waits, however long ago that was."""
    settings = await stand(broker, dsn, batch_max_records="1", stall_grace_seconds="0", **assignment(request))
    async with running(settings) as service:
        await service.company(window_seconds=5)
        await service.appointment(1)
        await service.status(1, "pending")
        await service.stop()
        booking = builders.body(builders.booking_created("uid-1", booking_id=1))
        bodies = [*(_ping(n) for n in range(200)), booking]
        await service.publish([message(topics.CALCOM_BOOKINGS, body) for body in bodies])
        await service.comes("SELECT deadline_at < now() FROM records")
        service.start()
        await service.status(1, "synced")
        await service.check()
        assert await service.flags() == []


def _ping(number: int) -> bytes:
    return builders.body(builders.ping() | {"number": number})


def message(topic: str, body: bytes) -> Delivery:
    """Give a message of a company; it came through the door long enough ago to be in time."""
    return Delivery(
        topic=topic, company_id="acme", ce_id="", ce_source="test", ce_type="test",
        received_at=datetime.now(UTC) - timedelta(seconds=60), body=body,
    )  # fmt: skip


async def test_deadlines_that_passed_while_nobody_ran_fire_after_the_start(here: Settings) -> None:
    async with running(here) as service:
        await service.company(window_seconds=1)
        await service.appointment(1, waited_seconds=0)
        await service.appointment(2, waited_seconds=0)
        await service.comes("SELECT count(*) = 2 FROM records")
        await service.stop()
        await service.booking(2, waited_seconds=60)
        service.start()
        await service.status(1, "orphaned_local")
        await service.status(2, "synced")
        await service.check()


# --- commands ---------------------------------------------------------------------------------------------------


async def command(service: Running, command_id: str, record_id: UUID, version: int) -> str:
    """Resolve a record as somebody who saw this version of it; gives the outcome's reason."""
    body = Resolve(
        id=command_id, record_id=record_id, version=version, actor="Ada", issued_at=datetime.now(UTC), reason="by phone"
    )
    await service.put(topics.SYNC_COMMANDS, msgspec.json.encode(body))
    found: str = await service.comes("SELECT reason FROM command_outcomes WHERE command_id = $1", command_id)
    return found


async def test_a_command_leaves_its_outcome_under_its_id_and_one_that_saw_less_is_refused(here: Settings) -> None:
    async with running(here) as service:
        await service.company(window_seconds=1)
        await service.appointment(1)
        await service.status(1, "orphaned_local")
        ((record_id, version),) = await service.pool.fetch("SELECT record_id, version FROM records")
        assert await command(service, "one", record_id, version) == "applied"
        assert await command(service, "two", record_id, version) == "newer_version"
        assert await command(service, "one", record_id, version + 1) == "applied", "the first outcome stands"
        assert await service.value("SELECT requires_manual_review FROM records") is False
        assert await service.value("SELECT resolved_by FROM flags") == "Ada"
        await service.booking(1)  # and so the log folded anew ends in the same record
        await service.status(1, "synced")
        await service.check()
        assert [flag.resolved_by for flag in await service.flags()] == [None, "Ada"]


async def test_a_command_on_another_companys_record_finds_nothing(here: Settings) -> None:
    async with running(here) as service:
        await service.company("bern", window_seconds=600)
        await service.company("acme", window_seconds=600)
        await service.appointment(1, "bern")
        await service.status(1, "pending", "bern")
        record_id = await service.value("SELECT record_id FROM records")
        assert await command(service, "one", record_id, 1) == "unknown_record"
        await service.check()


# --- what no retry mends ----------------------------------------------------------------------------------------


async def test_input_topics_with_different_partition_counts_are_refused_by_name(here: Settings) -> None:
    settings = msgspec.structs.replace(here, kafka_topic_prefix=here.kafka_topic_prefix + "odd.")
    admin = AIOKafkaAdminClient(**client_options(settings))
    await admin.start()
    counts = dict.fromkeys(topics.ALL, 3) | {topics.CALCOM_BOOKINGS: 4}
    await admin.create_topics([NewTopic(settings.kafka_topic_prefix + name, n, 1) for name, n in counts.items()])
    await admin.close()

    async def there() -> bool:
        return await inspect(settings) == counts

    await until(there, 10)
    with pytest.raises(SettingsError, match="calcom.bookings.v1 has 4, sync.commands.v1 has 3"):
        await _ends_by_itself(settings)


async def test_topics_that_are_not_there_are_named(here: Settings) -> None:
    settings = msgspec.structs.replace(here, kafka_topic_prefix=here.kafka_topic_prefix + "none.")
    with pytest.raises(SettingsError, match=r"topics that are not there: app.appointments.v1, calcom.bookings.v1"):
        await _ends_by_itself(settings)


async def test_a_database_that_was_filled_with_another_count_is_refused(here: Settings) -> None:
    async with running(here, started=False) as service:
        await service.pool.execute("INSERT INTO partitions (kafka_partition) SELECT generate_series(0, 4)")
        with pytest.raises(SettingsError, match="3 partitions, PostgreSQL was filled with 5"):
            await _ends_by_itself(here)
        assert await service.value("SELECT max(epoch) FROM partitions") == 0


async def _ends_by_itself(settings: Settings) -> None:
    async with running(settings) as service:
        assert service._serving is not None
        await service._serving


async def test_outcomes_of_commands_are_forgotten_after_a_month(here: Settings) -> None:
    """A sweep leaves one for every record that it asks about, four times a day."""
    async with running(here, started=False) as service:
        now = datetime.now(UTC)
        for command_id, days in (("old", 31), ("young", 29)):
            row = ("acme", command_id, UUID(int=1), True, "applied", 1, now - timedelta(days=days))
            await service.pool.execute("INSERT INTO command_outcomes VALUES ($1, $2, $3, $4, $5, $6, $7)", *row)
        service.start()
        await service.comes("SELECT count(*) = $1 FROM command_outcomes", 1)
        assert await service.pool.fetchval("SELECT command_id FROM command_outcomes") == "young"
