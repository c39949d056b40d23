"""Sweeps on a real database: who runs them, what they ask about, and that nothing is lost when somebody dies."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import msgspec
import pytest
from aiokafka.errors import KafkaTimeoutError

from schemas import topics
from schemas.commands import Command, Retry
from schemas.envelope import Delivery
from services.plumbing import lifecycle, postgres
from services.plumbing.postgres import Pool
from services.plumbing.publisher import Publisher
from services.plumbing.settings import Settings, load
from services.verifier.rounds import sweeps as module
from services.verifier.rounds.schedule import SweepKind
from services.verifier.rounds.sweeps import LOCK_ID, PATIENCE, WAITING_MAX, Sends, Sweeps
from tests.support.hand_clock import HandClock
from tests.support.live_view import read_all
from tests.support.wait import until

#: 08:30 in Berlin: the sweeps of 06:00 UTC and 01:00 UTC (02:00 in Berlin) have fallen due.
NOW: Final = datetime(2026, 11, 24, 7, 30, tzinfo=UTC)
BERLIN: Final = ZoneInfo("Europe/Berlin")
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
KINDS: Final = [kind.value for kind in SweepKind]
SECONDS: Final = 20.0


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look often: nothing here waits for a moment of the day."""
    monkeypatch.setattr(module, "_IDLE_SECONDS", 0.05)
    monkeypatch.setattr(module, "_BUSY_SECONDS", 0.01)


@asynccontextmanager
async def opened(dsn: str, name: str = "sweeps") -> AsyncIterator[Pool]:
    pool = await postgres.connect(load({"RECONCAL_POSTGRES_DSN": dsn}), name=name, size=2)
    try:
        yield pool
    finally:
        await postgres.close(pool)


@pytest.fixture
async def pool(dsn: str) -> AsyncIterator[Pool]:
    async with opened(dsn, "tests") as pool:
        yield pool


class Desk:
    """Where commands go, and what the reconciler makes of them: an outcome, a newer version, a question."""

    def __init__(self, pool: Pool, *, queues: bool = False) -> None:
        self.pool, self.queues = pool, queues
        self.commands: list[Retry] = []
        self.deliveries: list[Delivery] = []
        self.batches: list[int] = []

    async def publish_all(self, deliveries: Iterable[Delivery]) -> None:
        batch = list(deliveries)
        for delivery in batch:
            command = msgspec.json.decode(delivery.body, type=Command)
            assert isinstance(command, Retry)
            self.commands.append(command)
            await self.decide(delivery.company_id, command)
        self.deliveries += batch
        self.batches.append(len(batch))

    async def decide(self, company_id: str, command: Retry) -> None:
        applied = await self.pool.fetchval(
            "UPDATE records SET version = version + 1, last_sync_attempt_at = $4 "
            "WHERE company_id = $1 AND record_id = $2 AND version = $3 RETURNING true",
            company_id, command.record_id, command.version, command.issued_at,
        )  # fmt: skip
        if applied and self.queues:
            await self.pool.execute(
                "INSERT INTO verifications (company_id, record_id, number, priority, not_before, question) "
                "VALUES ($1, $2, 1, 2, $3, '{}')",
                company_id, command.record_id, command.issued_at,
            )  # fmt: skip
        await self.pool.execute(
            "INSERT INTO command_outcomes VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
            company_id, command.id, command.record_id, bool(applied), "applied" if applied else "newer_version",
            command.version + 1, command.issued_at,
        )  # fmt: skip

    @property
    def asked(self) -> list[UUID]:
        """Give the records whose command was applied or repeated, once each."""
        return list(dict.fromkeys(command.record_id for command in self.commands))


class Worn(Desk):
    """A desk that fails once: before it has taken a batch, or by taking it and ending the sender's connection."""

    def __init__(self, pool: Pool, at_batch: int, error: Exception | None = None) -> None:
        super().__init__(pool)
        self.at_batch, self.error = at_batch, error
        self.unread: list[Retry] = []

    async def publish_all(self, deliveries: Iterable[Delivery]) -> None:
        batch = list(deliveries)
        if len(self.batches) + 1 != self.at_batch:
            return await super().publish_all(batch)
        self.batches.append(0)
        if self.error:
            raise self.error
        self.unread = [msgspec.json.decode(delivery.body, type=Retry) for delivery in batch]
        await kill(self.pool, await holder(self.pool))
        return None


async def holder(pool: Pool) -> tuple[int, str]:
    """Give the process and the name of the connection that holds the lock."""
    query = """
    SELECT a.pid, a.application_name FROM pg_locks l JOIN pg_stat_activity a USING (pid)
    WHERE l.locktype = 'advisory' AND l.granted AND (l.classid::bigint << 32) + l.objid::bigint = $1
      AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"""

    async def look() -> Any:
        return await pool.fetchrow(query, LOCK_ID)

    pid, name = await until(look, SECONDS)
    return pid, name


async def kill(pool: Pool, found: tuple[int, str]) -> None:
    await pool.execute("SELECT pg_terminate_backend($1, 5000)", found[0])


def sweeps(pool: Pool, desk: Sends, clock: HandClock, *companies: str) -> Sweeps:
    return Sweeps(pool, desk, lambda _: companies or ("acme",), clock, BERLIN)


@asynccontextmanager
async def running(*runners: Sweeps) -> AsyncIterator[None]:
    """Run them as the verifier does; at the end each must stop by itself."""
    stop = asyncio.Event()
    tasks = [asyncio.ensure_future(lifecycle.keep("sweeps", lambda r=r: r.run(stop), stop)) for r in runners]  # type: ignore[misc]
    try:
        yield
    finally:
        stop.set()
        await asyncio.wait_for(asyncio.gather(*tasks), SECONDS)


async def record(pool: Pool, company_id: str = "acme", **over: Any) -> UUID:
    """Lay a record down: an orphan of yesterday that was flagged and never tried, but for what is said."""
    row: dict[str, Any] = {
        "company_id": company_id, "record_id": uuid4(), "cluster_id": uuid4(), "kafka_partition": 0, "anchor": "a:1",
        "starts_at": NOW + DAY, "calcom_sync_status": "orphaned_local", "sync_error_code": "ORPHANED_LOCAL",
        "requires_manual_review": True, "version": 7, "first_received_at": NOW - DAY, "changed_at": NOW - DAY,
        "facts": "{}", "decision": "{}",
    } | over  # fmt: skip
    numbers = ", ".join(f"${n}" for n in range(1, len(row) + 1))
    await pool.execute(f"INSERT INTO records ({', '.join(row)}) VALUES ({numbers})", *row.values())
    found: UUID = row["record_id"]
    return found


async def many(pool: Pool, count: int, company_id: str = "acme") -> set[UUID]:
    rows = await pool.fetch(
        "INSERT INTO records (company_id, record_id, cluster_id, kafka_partition, anchor, starts_at, "
        "calcom_sync_status, requires_manual_review, version, first_received_at, changed_at, facts, decision) "
        "SELECT $1, gen_random_uuid(), gen_random_uuid(), 0, 'a:' || n, $3, 'orphaned_local', true, 1, $3, $3, '{}', "
        "'{}' FROM generate_series(1, $2::int) AS n RETURNING record_id",
        company_id, count, NOW - DAY,
    )  # fmt: skip
    return {row["record_id"] for row in rows}


async def requested(pool: Pool, company_id: str = "acme", days: int = 90) -> UUID:
    """Ask for a company's sweep, as `reconcal retry --company` does."""
    sweep_id = uuid4()
    await pool.execute(
        "INSERT INTO sweeps (company_id, sweep_id, kind, requested_at, requested_by, since) "
        "VALUES ($1, $2, 'company', $3, 'ada', $4)",
        company_id, sweep_id, NOW, NOW - days * DAY,
    )  # fmt: skip
    return sweep_id


async def only(pool: Pool, *kinds: str) -> None:
    """Have the scheduled sweeps of now over but for these, so that a test sees one kind alone."""
    async with running(sweeps(pool, Desk(pool), HandClock(NOW))):
        await over(pool)
    await pool.execute(
        "UPDATE sweeps SET finished_at = NULL, started_at = NULL, after_company_id = '', after_record_id = NULL "
        "WHERE kind = ANY($1::text[])",
        list(kinds),
    )


async def over(pool: Pool, *, least: int = 1) -> None:
    """Wait until so many sweeps were there and all are finished."""

    async def look() -> bool:
        found = await pool.fetchrow("SELECT count(*) AS n, count(finished_at) AS finished FROM sweeps")
        return found is not None and found["n"] == found["finished"] >= least

    await until(look, SECONDS)


async def progress(pool: Pool, kind: str) -> tuple[int, int]:
    row = await pool.fetchrow("SELECT found, asked FROM sweeps WHERE kind = $1", kind)
    assert row is not None
    return row["found"], row["asked"]


# --- what is asked about ----------------------------------------------------------------------------------------

ALL, SIX, DAILY, ASKED = {"six_hours", "daily", "company"}, {"six_hours", "company"}, {"daily", "company"}, {"company"}
PENDING = {"calcom_sync_status": "pending", "sync_error_code": None, "requires_manual_review": False}
CASES: Final[dict[str, tuple[dict[str, Any], set[str]]]] = {
    "an orphan of yesterday": ({}, ALL),
    "an orphan of the other side": ({"calcom_sync_status": "orphaned_calcom"}, ALL),
    "a difference": ({"calcom_sync_status": "failed", "sync_error_code": "DATA_MISMATCH"}, ALL),
    "one that could not be verified": ({"calcom_sync_status": "failed", "sync_error_code": "VERIFICATION_ERROR"}, ALL),
    "one that is in order": ({"calcom_sync_status": "synced", "sync_error_code": None}, set()),
    "one that is being asked about": ({"calcom_sync_status": "verification_pending"}, set()),
    "one of two that could be meant": ({"calcom_sync_status": "failed", "sync_error_code": "AMBIGUOUS_MATCH"}, set()),
    "one whose window ends soon": (PENDING | {"deadline_at": NOW + HOUR}, set()),
    "one that waits for long": (PENDING | {"deadline_at": NOW + 7 * HOUR}, SIX),
    "one of which nothing can be said yet": (PENDING | {"deadline_at": None}, set()),
    "one that was tried at the last sweep, and after two": ({"last_sync_attempt_at": NOW - 5.6 * HOUR}, SIX),
    "one that was tried since": ({"last_sync_attempt_at": NOW - 5.4 * HOUR}, ASKED),
    "one that was tried before two": ({"last_sync_attempt_at": NOW - 7 * HOUR}, ALL),
    "an old one to come": ({"first_received_at": NOW - 200 * DAY, "starts_at": NOW + 100 * DAY}, ALL),
    "an old one without a time": ({"first_received_at": NOW - 89 * DAY, "starts_at": None}, DAILY),
    "one that was a month ago": ({"first_received_at": NOW - 80 * DAY, "starts_at": NOW - 31 * DAY}, DAILY),
    "one that was a year ago": ({"first_received_at": NOW - 400 * DAY, "starts_at": NOW - 365 * DAY}, {"daily"}),
    "one that nobody has to review": ({"requires_manual_review": False}, SIX),
    "one that a human decided about": (
        {"requires_manual_review": False, "decision": '{"resolution": {"kind": "ORPHANED_LOCAL"}}'},
        set(),
    ),
    "one of a company without a key": ({"company_id": "keyless"}, set()),
}


@pytest.mark.parametrize("kind", KINDS)
async def test_each_kind_of_sweep_asks_about_its_own(pool: Pool, kind: str) -> None:
    if kind != "company":
        await only(pool, kind)
    else:
        await only(pool)
        await requested(pool)
    placed = {await record(pool, **over): name for name, (over, _) in CASES.items()}
    desk = Desk(pool)
    async with running(sweeps(pool, desk, HandClock(NOW))):
        await over(pool)
    assert {placed[one] for one in desk.asked} == {name for name, (_, kinds) in CASES.items() if kind in kinds}
    count = len(desk.asked)
    assert await progress(pool, kind) == (count, count)


async def test_a_command_says_what_was_seen_and_who_asks(pool: Pool) -> None:
    found = await record(pool)
    desk = Desk(pool)
    sweep_id = await requested(pool)
    async with running(sweeps(pool, desk, HandClock(NOW))):
        await over(pool)
    (command,) = desk.commands[:1]
    (delivery,) = desk.deliveries[:1]
    assert (command.id, command.version, command.actor) == (f"{sweep_id}:{found}", 7, "sweep:company")
    assert (command.sweep, command.issued_at, delivery.ce_id) == (True, NOW, command.id)
    assert (delivery.topic, delivery.company_id) == (topics.SYNC_COMMANDS, "acme")


async def test_a_companys_sweep_is_about_that_company_and_comes_first(pool: Pool) -> None:
    mine, other = await many(pool, 150), await many(pool, 20, "zeta")
    sweep_id = await requested(pool)
    desk = Desk(pool)
    async with running(sweeps(pool, desk, HandClock(NOW), "acme", "zeta")):
        await over(pool)
    assert {command.record_id for command in desk.commands[:150]} == mine
    assert {c.record_id for c in desk.commands if c.id.startswith(str(sweep_id))} == mine
    assert set(desk.asked[150:]) == other, "the others are those of the scheduled sweeps"


# --- when -------------------------------------------------------------------------------------------------------


async def test_a_missed_sweep_is_made_up_once_and_nothing_is_swept_twice(pool: Pool) -> None:
    clock = HandClock(NOW)
    query = "SELECT kind, requested_at FROM sweeps ORDER BY requested_at"
    first = [("daily", datetime(2026, 11, 24, 1, tzinfo=UTC)), ("six_hours", datetime(2026, 11, 24, 6, tzinfo=UTC))]
    for _ in range(3):  # started again and again
        async with running(sweeps(pool, Desk(pool), clock)):
            await over(pool, least=2)
        assert [tuple(row) for row in await pool.fetch(query)] == first
    clock.seconds = 3 * 86_400.0  # nobody was there for three days
    async with running(sweeps(pool, Desk(pool), clock)):
        await over(pool, least=4)
    again = [(kind, at + 3 * DAY) for kind, at in first]
    assert [tuple(row) for row in await pool.fetch(query)] == first + again


async def test_a_sweep_begins_when_it_falls_due_while_one_looks(pool: Pool) -> None:
    clock = HandClock(NOW)
    async with running(sweeps(pool, Desk(pool), clock)):
        await over(pool, least=2)
        clock.seconds = 4.5 * 3600  # 12:00 UTC
        await over(pool, least=3)
    assert await pool.fetchval("SELECT max(requested_at) FROM sweeps") == datetime(2026, 11, 24, 12, tzinfo=UTC)


async def test_what_is_over_for_a_month_is_forgotten(pool: Pool) -> None:
    old = await requested(pool)
    await pool.execute("UPDATE sweeps SET finished_at = $1", NOW - 31 * DAY)
    open_one = await requested(pool)
    async with running(sweeps(pool, Desk(pool), HandClock(NOW))):
        await over(pool, least=3)
    left = {row["sweep_id"] for row in await pool.fetch("SELECT sweep_id FROM sweeps")}
    assert (old in left, open_one in left) == (False, True)


# --- who, and what when that one dies -----------------------------------------------------------------------------


async def test_of_two_runners_one_works_and_the_other_takes_over_when_it_is_gone(dsn: str, pool: Pool) -> None:
    await only(pool)
    clock = HandClock(NOW)
    async with opened(dsn, "one") as first, opened(dsn, "two") as second:
        desks = {f"reconcal-{name}": Desk(pool) for name in ("one", "two")}
        runners = [sweeps(p, d, clock) for p, d in zip((first, second), desks.values(), strict=True)]
        async with running(*runners):
            worked: list[str] = []
            for _ in range(4):
                pid, name = await holder(pool)
                worked.append(name)
                wanted, before = await many(pool, 30), len(desks[name].commands)
                await requested(pool)
                await over(pool)
                assert wanted <= {command.record_id for command in desks[name].commands[before:]}
                await kill(pool, (pid, name))
    assert await pool.fetchval("SELECT count(*) FROM sweeps WHERE finished_at IS NULL") == 0
    for command in (c for desk in desks.values() for c in desk.commands):
        assert command.sweep


async def test_a_runner_that_is_killed_within_a_sweep_loses_nothing(dsn: str, pool: Pool) -> None:
    """After a batch was published and before the cursor moved: the batch comes again under the same ids."""
    await only(pool, "six_hours")
    wanted = await many(pool, 450)
    worn = Worn(pool, at_batch=3)
    async with opened(dsn, "one") as first, running(sweeps(first, worn, HandClock(NOW))):
        await over(pool)
    assert set(worn.asked) == wanted
    assert worn.batches == [100, 100, 0, 100, 100, 50]
    assert [c.id for c in worn.unread] == [c.id for c in worn.commands[200:300]]
    assert await progress(pool, "six_hours") == (450, 450)
    for command in worn.unread:  # what was published twice
        await worn.decide("acme", command)
    assert await pool.fetchval("SELECT count(*) FROM records WHERE version = 2") == 450
    assert await pool.fetchval("SELECT count(*) FROM command_outcomes WHERE applied") == 450


async def test_a_batch_that_kafka_did_not_take_moves_no_cursor(pool: Pool) -> None:
    await only(pool, "six_hours")
    wanted = await many(pool, 250)
    worn = Worn(pool, at_batch=2, error=KafkaTimeoutError())
    stop = asyncio.Event()
    with pytest.raises(KafkaTimeoutError):
        await sweeps(pool, worn, HandClock(NOW)).run(stop)
    assert await progress(pool, "six_hours") == (250, 100)
    place = await pool.fetchval("SELECT after_record_id FROM sweeps WHERE kind = 'six_hours'")
    assert place == max(worn.asked)
    other = Desk(pool)
    async with running(sweeps(pool, other, HandClock(NOW))):
        await over(pool)
    assert [len(worn.commands), len(other.commands)] == [100, 150]
    assert {*worn.asked, *other.asked} == wanted


async def test_whoever_stops_gives_the_lock_back(dsn: str, pool: Pool) -> None:
    async with opened(dsn, "one") as first:
        async with running(sweeps(first, Desk(pool), HandClock(NOW))):
            assert (await holder(pool))[1] == "reconcal-one"
        assert await pool.fetchval("SELECT pg_try_advisory_lock($1)", LOCK_ID)


# --- how much -----------------------------------------------------------------------------------------------------


async def test_no_more_is_asked_than_can_be_answered(pool: Pool) -> None:
    await only(pool, "six_hours")
    wanted = await many(pool, 1000)
    desk, most = Desk(pool, queues=True), 0

    async def answered() -> bool:
        """Answer some of what waits, as Cal.com would."""
        nonlocal most
        waiting = await pool.fetchval("SELECT count(*) FROM verifications")
        most = max(most, waiting)
        await pool.execute(
            "DELETE FROM verifications WHERE record_id IN (SELECT record_id FROM verifications LIMIT 40)"
        )
        return bool(await pool.fetchval("SELECT bool_and(finished_at IS NOT NULL) FROM sweeps"))

    async with running(sweeps(pool, desk, HandClock(NOW))):
        await until(answered, SECONDS)
    assert set(desk.asked) == wanted
    assert len(desk.commands) == 1000
    assert WAITING_MAX <= most < WAITING_MAX + module.BATCH


async def test_no_batch_follows_one_that_the_reconciler_has_not_decided_about(pool: Pool) -> None:
    await only(pool, "six_hours")
    await many(pool, 300)
    desk, clock = Desk(pool), HandClock(NOW)

    async def decide_later(company_id: str, command: Retry) -> None:
        held.append((company_id, command))

    held: list[tuple[str, Retry]] = []
    decide, desk.decide = desk.decide, decide_later  # type: ignore[method-assign]
    async with running(sweeps(pool, desk, clock)):
        await until(_many_times(lambda: len(held) == 100), SECONDS)
        desk.decide = decide  # type: ignore[method-assign]
        assert desk.batches == [100]
        for company_id, command in held:
            await decide(company_id, command)
        await over(pool)
    assert desk.batches == [100, 100, 100]


async def test_a_sweep_is_over_when_the_reconciler_has_decided_about_all_of_it(pool: Pool) -> None:
    await only(pool, "six_hours")
    await many(pool, 10)
    desk = Desk(pool)
    decide, held = desk.decide, []

    async def decide_later(company_id: str, command: Retry) -> None:
        held.append((company_id, command))

    desk.decide = decide_later  # type: ignore[method-assign]
    async with running(sweeps(pool, desk, HandClock(NOW))):
        await until(_many_times(lambda: len(held) == 10), SECONDS)
        assert await pool.fetchval("SELECT finished_at FROM sweeps WHERE kind = 'six_hours'") is None
        for company_id, command in held:
            await decide(company_id, command)
        await over(pool)


def _many_times(condition: Any, times: int = 10) -> Any:
    """Hold a condition true only after it was found so often in a row: nothing changes it."""
    seen = 0

    async def look() -> bool:
        nonlocal seen
        seen = seen + 1 if condition() else 0
        return seen >= times

    return look


async def test_a_company_that_cal_com_does_not_answer_for_does_not_hold_up_the_others(pool: Pool) -> None:
    await only(pool, "six_hours")
    dead, alive = await many(pool, 500, "acme"), await many(pool, 120, "zeta")
    desk, clock = Desk(pool, queues=True), HandClock(NOW)
    async with running(sweeps(pool, desk, clock, "acme", "zeta")):
        await until(_many_times(lambda: len(desk.commands) == WAITING_MAX), SECONDS)
        assert set(desk.asked) < dead
        clock.seconds += PATIENCE.total_seconds()
        await over(pool)
    assert alive < set(desk.asked)
    assert len(desk.asked) == WAITING_MAX + 120, "the rest of the first is left to the next sweep"
    assert await progress(pool, "six_hours") == (620, 420)


@pytest.mark.parametrize(
    ("kind", "minutes", "asked"),
    [
        ("calcom_unauthorised", 5, False),
        ("calcom_unreachable", 5, False),
        ("calcom_wrong_address", 5, False),
        ("calcom_limited", 5, True),  # it answers, only not now
        ("calcom_unauthorised", 90, True),  # nobody has looked since
    ],
)
async def test_a_company_whose_key_is_known_to_be_refused_is_left_out(
    pool: Pool, kind: str, minutes: int, *, asked: bool
) -> None:
    await only(pool, "six_hours")
    await pool.execute(
        "INSERT INTO incidents VALUES ('acme', $1, 'detail', $2, $2)", kind, NOW - timedelta(minutes=minutes)
    )
    mine, other = await many(pool, 10), await many(pool, 10, "zeta")
    desk = Desk(pool)
    async with running(sweeps(pool, desk, HandClock(NOW), "acme", "zeta")):
        await over(pool)
    assert set(desk.asked) == (mine | other if asked else other)
    assert await progress(pool, "six_hours") == (20, len(desk.asked))


async def test_a_human_who_asks_waits_for_no_other_sweep(pool: Pool) -> None:
    """A company's sweep goes before one that is under way, which then goes on where it was."""
    await only(pool, "six_hours")
    others = await many(pool, 600, "beta")
    mine = await many(pool, 10, "zeta")
    desk = Desk(pool, queues=True)
    async with running(sweeps(pool, desk, HandClock(NOW), "beta", "zeta")):
        await until(_many_times(lambda: len(desk.commands) == WAITING_MAX), SECONDS)
        sweep_id = await requested(pool, "zeta")
        await pool.execute(
            "DELETE FROM verifications WHERE record_id IN (SELECT record_id FROM verifications LIMIT 50)"
        )
        await until(_many_times(lambda: len(desk.commands) >= WAITING_MAX + 10), SECONDS)
        await pool.execute("DELETE FROM verifications")
        await until(_many_times(lambda: len(desk.commands) == 610), SECONDS)
        await over(pool)
    assert {c.record_id for c in desk.commands[300:310]} == mine
    assert all(c.id.startswith(str(sweep_id)) for c in desk.commands[300:310])
    assert set(desk.asked) == others | mine


async def test_a_page_costs_what_is_not_in_order_however_much_is(pool: Pool) -> None:
    await many(pool, 20_000)
    await pool.execute("UPDATE records SET calcom_sync_status = 'synced', requires_manual_review = false")
    await many(pool, 3000)
    await pool.execute("VACUUM ANALYZE records")
    wanted = (["acme"], NOW - 30 * DAY, NOW, False, NOW + 6 * HOUR)
    place = ("", UUID(int=0), module.LOOKED_AT)
    page = [row[0] for row in await pool.fetch(f"EXPLAIN {module._PAGE}", *wanted, *place)]
    count = [row[0] for row in await pool.fetch(f"EXPLAIN {module._COUNT}", *wanted)]
    assert [line for line in page if "Index Scan using records_troubled" in line], page
    assert not [line for line in (*page, *count) if "Seq Scan" in line], (page, count)


# --- on a real broker ---------------------------------------------------------------------------------------------


async def test_what_a_sweep_asks_for_lies_in_kafka_by_company(settings: Settings, pool: Pool) -> None:
    await only(pool, "six_hours")
    wanted = {name: await many(pool, 30, name) for name in ("acme", "beta", "zeta")}
    publisher = await Publisher.open(settings)
    async with running(sweeps(pool, publisher, HandClock(NOW), *wanted)):

        async def published() -> bool:
            return (await progress(pool, "six_hours"))[1] == 90

        await until(published, SECONDS)
    await publisher.close()
    lying = await read_all(settings, (topics.SYNC_COMMANDS,))
    found: dict[str, set[UUID]] = {name: set() for name in wanted}
    for envelope in lying:
        command = msgspec.json.decode(envelope.body, type=Command)
        assert isinstance(command, Retry)
        assert (envelope.ce_type, envelope.ce_id) == (topics.TYPE_COMMAND, command.id)
        found[envelope.company_id or ""].add(command.record_id)
    assert found == wanted
