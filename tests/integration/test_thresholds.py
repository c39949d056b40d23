"""Companies as wholes, on a real database and by a clock that is moved by hand."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

import asyncpg
import msgspec
import pytest
from prometheus_client import REGISTRY

from schemas import topics
from schemas.flags import THRESHOLDS, Flag, FlagType, Kind, company_flag_id, company_record_id
from services.plumbing import postgres
from services.plumbing.lanes import partition_of
from services.plumbing.lifecycle import keep
from services.plumbing.postgres import Pool
from services.plumbing.settings import Settings, load
from services.reconciler import watch as module
from services.reconciler.core.thresholds import INCIDENT_REST, LEAST_DECIDED, PATIENCE, REST
from services.reconciler.watch import LOCK_ID, STALE, Watch, rest_seconds
from tests.support.hand_clock import HandClock
from tests.support.running import running
from tests.support.stand import stand
from tests.support.wait import until

NOW: Final = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
SECOND, MINUTE, HOUR, DAY = (timedelta(**{unit: 1}) for unit in ("seconds", "minutes", "hours", "days"))
PARTITIONS: Final = 12
OPENED: Final = FlagType.THRESHOLD
ENDED: Final = FlagType.RESOLVED


class Scene:
    """A company's data, and what a look makes of it."""

    def __init__(self, pool: Pool) -> None:
        self.pool, self.clock = pool, HandClock(NOW)
        self.watch = self.another()

    def another(self) -> Watch:
        """Give one as another process has it, or this one after a restart."""
        return Watch(pool=self.pool, owned=lambda: {0}, partitions=PARTITIONS, clock=self.clock, jitter=lambda: 0.5)

    async def look(self, after: timedelta = timedelta(0)) -> list[tuple[Kind, FlagType]]:
        """Look once, so much later; gives what was told."""
        self.clock.seconds += after.total_seconds()
        return [(flag.kind, flag.type) for flag in await self.watch.look()]

    async def company(self, company_id: str = "acme", **columns: Any) -> None:
        names = ["company_id", "name", *columns]
        places = ", ".join(f"${number}" for number in range(1, len(names) + 1))
        await self.pool.execute(
            f"INSERT INTO companies ({', '.join(names)}) VALUES ({places})", company_id, company_id, *columns.values()
        )

    async def limit(self, **columns: float) -> None:
        for name, value in columns.items():
            await self.pool.execute(f"UPDATE companies SET {name} = $1", value)

    async def flag(
        self,
        count: int,
        kind: Kind = Kind.ORPHANED_LOCAL,
        company_id: str = "acme",
        *,
        ago: timedelta = MINUTE,
        resolved_by: str | None = None,
        record: UUID | None = None,
        heard_ago: timedelta = 2 * MINUTE,
    ) -> None:
        """Raise flags about as many records, and leave those waiting for review that nobody has resolved."""
        at = self.clock.now() - ago
        for _ in range(count):
            record_id = record or uuid4()
            await self.pool.execute(
                "INSERT INTO flags (company_id, flag_id, record_id, kind, generation, raised_at, resolved_at,"
                " resolved_by, body) VALUES ($1, $2, $3, $4, 1, $5, $6, $7, '{}')",
                company_id, uuid4(), record_id, kind.value, at, at if resolved_by else None, resolved_by,
            )  # fmt: skip
            await self.record(record_id, company_id, waits=resolved_by is None, heard_ago=heard_ago)

    async def record(self, record_id: UUID, company_id: str, *, waits: bool, heard_ago: timedelta) -> None:
        await self.pool.execute(
            "INSERT INTO records (company_id, record_id, cluster_id, kafka_partition, anchor, calcom_sync_status,"
            " requires_manual_review, version, first_received_at, changed_at, facts, decision)"
            " VALUES ($1, $2, $2, 0, '', 'failed', $3, 1, $4, $4, '{}', '{}') ON CONFLICT DO NOTHING",
            company_id, record_id, waits, self.clock.now() - heard_ago,
        )  # fmt: skip

    async def reviewed(self) -> None:
        await self.pool.execute("UPDATE records SET requires_manual_review = false")

    async def mended(self) -> None:
        """Let everything that is flagged mend itself."""
        query = (
            "UPDATE flags SET resolved_at = $1, resolved_by = 'auto' WHERE resolved_at IS NULL AND body::text = '{}'"
        )
        await self.pool.execute(query, self.clock.now())
        await self.reviewed()

    async def synced(self, count: int, *, ago: timedelta = MINUTE, note: str | None = None) -> None:
        for _ in range(count):
            await self.transition(uuid4(), "pending", "synced", ago=ago, note=note)

    async def transition(
        self, record_id: UUID, before: str, after: str, *, ago: timedelta = MINUTE, note: str | None = None
    ) -> None:
        await self.pool.execute(
            "INSERT INTO transitions (company_id, at, record_id, version, from_status, to_status, cause, note, why)"
            " VALUES ('acme', $1, $2, 1, $3, $4, '', $5, '{}')",
            self.clock.now() - ago, record_id, before, after, note,
        )  # fmt: skip

    async def incident(self, kind: str, *, company_id: str = "acme") -> None:
        """Let trouble be seen now, anew or again."""
        await self.pool.execute(
            "INSERT INTO incidents (company_id, kind, detail, opened_at, last_seen_at) VALUES ($1, $2, $3, $4, $4)"
            " ON CONFLICT (company_id, kind) DO UPDATE SET last_seen_at = excluded.last_seen_at",
            company_id, kind, f"{kind} it is.", self.clock.now(),
        )  # fmt: skip

    async def told(self) -> list[Flag]:
        """Give what waits to go to Kafka, in order."""
        rows = await self.pool.fetch("SELECT * FROM outbox ORDER BY outbox_id")
        flags = [msgspec.json.decode(row["body"], type=Flag) for row in rows]
        for row, flag in zip(rows, flags, strict=True):
            assert (row["topic"], row["ce_id"], row["ce_type"]) == (topics.SYNC_FLAGS, str(flag.id), flag.type.value)
            assert row["kafka_partition"] == partition_of(flag.company_id, PARTITIONS)
        return flags

    async def open(self) -> list[tuple[str, str]]:
        """Give companies and kinds of the open flags that the watch raised."""
        query = "SELECT company_id, kind FROM flags WHERE resolved_at IS NULL AND body::text <> '{}' ORDER BY 1, 2"
        return [tuple(row) for row in await self.pool.fetch(query)]


@pytest.fixture
async def pool(dsn: str) -> AsyncIterator[Pool]:
    pool = await postgres.connect(load({"RECONCAL_POSTGRES_DSN": dsn}), name="test")
    yield pool
    await postgres.close(pool)


@pytest.fixture
async def scene(pool: Pool) -> Scene:
    scene = Scene(pool)
    await scene.company()
    return scene


def shown(kind: Kind) -> float | None:
    return REGISTRY.get_sample_value("reconcal_thresholds_crossed", {"threshold": kind.value.lower()})


async def calm(scene: Scene) -> list[tuple[Kind, FlagType]]:
    """Look until the rest is over; gives what is told at its end, and nothing before it."""
    assert await scene.look(30 * SECOND) == []
    assert await scene.look(REST - SECOND) == []
    return await scene.look(SECOND)


# --- each threshold is crossed and ends


async def test_more_than_five_orphans_a_day_are_told_once_and_their_end_too(scene: Scene) -> None:
    await scene.flag(3)
    await scene.flag(2, Kind.ORPHANED_CALCOM, resolved_by="auto")
    assert await scene.look() == []
    await scene.flag(1, Kind.ORPHANED_CALCOM)
    assert await scene.look() == [(Kind.ORPHANS_A_DAY, OPENED)]
    assert await scene.look(30 * SECOND) == []
    assert shown(Kind.ORPHANS_A_DAY) == 1
    await scene.flag(9)
    assert await scene.look(23 * HOUR) == [], "within 24 hours"
    assert await scene.look(HOUR) == []
    assert await scene.look(REST) == [(Kind.ORPHANS_A_DAY, ENDED)]
    assert shown(Kind.ORPHANS_A_DAY) == 0
    opened, ended = await scene.told()
    assert (opened.company_id, opened.record_id) == ("acme", company_record_id("acme"))
    assert opened.measured is not None
    assert (opened.measured.value, opened.measured.limit, opened.measured.window_seconds) == (6, 5, 86_400)
    assert (ended.resolves, ended.resolved_by) == (opened.id, "auto")
    assert await scene.open() == []


async def test_more_than_ten_failed_checks_an_hour(scene: Scene) -> None:
    await scene.limit(waiting_for_review_max=1000)
    await scene.flag(8, Kind.VERIFICATION_ERROR, ago=2 * HOUR)
    await scene.flag(10, Kind.VERIFICATION_ERROR)
    assert await scene.look() == []
    await scene.flag(1, Kind.VERIFICATION_ERROR)
    assert await scene.look() == [(Kind.FAILED_CHECKS_AN_HOUR, OPENED)]
    assert await scene.look(HOUR) == []
    assert await scene.look(REST) == [(Kind.FAILED_CHECKS_AN_HOUR, ENDED)]


async def test_more_than_twenty_that_wait_for_review(scene: Scene) -> None:
    await scene.flag(20, Kind.DATA_MISMATCH)
    await scene.limit(sync_success_min_percent=0)
    assert await scene.look() == []
    await scene.flag(1, Kind.AMBIGUOUS_MATCH)
    assert await scene.look() == [(Kind.WAITING_FOR_REVIEW, OPENED)]
    await scene.reviewed()
    assert await calm(scene) == [(Kind.WAITING_FOR_REVIEW, ENDED)]


async def test_a_success_under_95_per_cent(scene: Scene) -> None:
    await scene.flag(4, Kind.DATA_MISMATCH)
    await scene.synced(15)
    assert await scene.look() == [], "of 19 nothing is said"
    await scene.synced(1)
    assert await scene.look() == [(Kind.SYNC_SUCCESS, OPENED)]
    await scene.synced(80)
    assert await calm(scene) == [(Kind.SYNC_SUCCESS, ENDED)]
    opened, ended = await scene.told()
    assert opened.measured is not None
    assert ended.measured is not None
    assert (opened.measured.value, ended.measured.value) == (80.0, 96.0)


async def test_a_success_ends_as_well_when_nothing_is_decided_any_more(scene: Scene) -> None:
    await scene.flag(5, Kind.DATA_MISMATCH)
    await scene.synced(LEAST_DECIDED)
    assert await scene.look() == [(Kind.SYNC_SUCCESS, OPENED)]
    assert await scene.look(DAY) == []
    assert await scene.look(REST) == [(Kind.SYNC_SUCCESS, ENDED)]


# --- what counts


async def test_a_record_that_flips_counts_once(scene: Scene) -> None:
    record_id = uuid4()
    for number in range(9):
        kind = (Kind.ORPHANED_LOCAL, Kind.ORPHANED_CALCOM)[number % 2]
        await scene.flag(1, kind, record=record_id, resolved_by="auto")
    await scene.flag(6, resolved_by="merged")
    assert await scene.look() == []


async def test_what_mended_itself_is_a_success(scene: Scene) -> None:
    await scene.limit(orphans_per_day_max=1000, waiting_for_review_max=1000)
    for _ in range(LEAST_DECIDED):
        record_id = uuid4()
        await scene.flag(1, record=record_id)
        await scene.transition(record_id, "orphaned_local", "synced")
    assert await scene.look() == [(Kind.SYNC_SUCCESS, OPENED)], "synced first, flagged then"
    await scene.mended()
    assert await calm(scene) == [(Kind.SYNC_SUCCESS, ENDED)]


async def test_an_old_flag_that_is_checked_again_is_no_new_decision(scene: Scene) -> None:
    await scene.limit(orphans_per_day_max=1000, waiting_for_review_max=1000)
    await scene.synced(LEAST_DECIDED)
    for _ in range(10):
        record_id = uuid4()
        await scene.flag(1, record=record_id, ago=2 * DAY)
        await scene.transition(record_id, "verification_pending", "orphaned_local")
    assert await scene.look() == []


async def test_what_a_human_resolved_stays_what_it_was_for_the_day(scene: Scene) -> None:
    await scene.synced(LEAST_DECIDED)
    await scene.flag(5, Kind.DATA_MISMATCH, resolved_by="Ada")
    assert await scene.look() == [(Kind.SYNC_SUCCESS, OPENED)]


async def test_changed_rules_put_nothing_in_sync(scene: Scene) -> None:
    await scene.synced(15)
    await scene.synced(100, note="policy")
    await scene.flag(5, Kind.DATA_MISMATCH)
    assert await scene.look() == [(Kind.SYNC_SUCCESS, OPENED)]


async def test_the_past_that_was_loaded_today_is_no_trouble_of_today(pool: Pool) -> None:
    scene = Scene(pool)
    await scene.company(
        app_loaded_at=NOW - HOUR,
        calcom_loaded_at=NOW - 2 * HOUR,
        history_began_at=NOW - 90 * DAY,
        waiting_for_review_max=1000,
    )
    await scene.synced(300, ago=90 * MINUTE)
    await scene.flag(30, ago=30 * MINUTE, heard_ago=3 * HOUR)
    assert await scene.look() == []
    await scene.synced(50, ago=30 * MINUTE)
    await scene.flag(6, ago=30 * MINUTE, heard_ago=40 * MINUTE)
    assert sorted(await scene.look()) == [(Kind.ORPHANS_A_DAY, OPENED), (Kind.SYNC_SUCCESS, OPENED)]


async def test_what_was_loaded_once_counts_when_it_goes_wrong_later(pool: Pool) -> None:
    scene = Scene(pool)
    loaded_at = NOW - 2 * DAY
    await scene.company(app_loaded_at=loaded_at, calcom_loaded_at=loaded_at, history_began_at=NOW - 90 * DAY)
    await scene.flag(6, heard_ago=3 * DAY)
    assert await scene.look() == [(Kind.ORPHANS_A_DAY, OPENED)]


async def test_while_one_side_is_not_loaded_what_is_flagged_counts(pool: Pool) -> None:
    scene = Scene(pool)
    await scene.company(history_began_at=NOW - 90 * DAY, calcom_loaded_at=NOW - HOUR)
    await scene.flag(6, heard_ago=3 * HOUR)
    assert await scene.look() == [(Kind.ORPHANS_A_DAY, OPENED)]


async def test_what_is_of_a_company_as_a_whole_waits_for_nobodys_review_and_counts_nowhere(scene: Scene) -> None:
    await scene.flag(30, Kind.WEBHOOK_SILENT, resolved_by="auto")
    await scene.synced(LEAST_DECIDED)
    assert await scene.look() == []


# --- limits, companies


async def test_every_company_has_limits_of_its_own(scene: Scene) -> None:
    await scene.company("strict", orphans_per_day_max=0)
    await scene.company("calm", orphans_per_day_max=50)
    for company_id in ("acme", "strict", "calm"):
        await scene.flag(2, company_id=company_id)
    assert await scene.look() == [(Kind.ORPHANS_A_DAY, OPENED)]
    assert await scene.open() == [("strict", "ORPHANS_A_DAY")]
    assert await scene.look(DAY) == []
    assert await scene.look(REST) == [(Kind.ORPHANS_A_DAY, ENDED)], "a limit of nothing at all can be reached again"


async def test_a_limit_that_is_raised_ends_what_it_began(scene: Scene) -> None:
    await scene.flag(8)
    assert await scene.look() == [(Kind.ORPHANS_A_DAY, OPENED)]
    await scene.limit(orphans_per_day_max=9)
    assert await scene.look(2 * REST) == [], "8 of 9 are not clearly within it"
    await scene.limit(orphans_per_day_max=10)
    assert await calm(scene) == [(Kind.ORPHANS_A_DAY, ENDED)]
    await scene.limit(orphans_per_day_max=7)
    assert await scene.look() == [(Kind.ORPHANS_A_DAY, OPENED)]
    assert [flag.generation for flag in await scene.told()] == [1, 1, 2]
    assert (await scene.told())[-1].id == company_flag_id("acme", Kind.ORPHANS_A_DAY, 2)


async def test_a_figure_that_dances_around_its_limit_is_told_of_once(scene: Scene) -> None:
    await scene.flag(21, Kind.DATA_MISMATCH)
    await scene.limit(sync_success_min_percent=0)
    told = []
    for _ in range(20):
        told += await scene.look(5 * MINUTE)
        await scene.reviewed()
        told += await scene.look(5 * MINUTE)
        await scene.pool.execute("UPDATE records SET requires_manual_review = true")
    assert told == [(Kind.WAITING_FOR_REVIEW, OPENED)]


@pytest.mark.parametrize("how", ["UPDATE companies SET removed_at = now()", "DELETE FROM companies"])
async def test_of_a_company_that_is_removed_nothing_stays_open(scene: Scene, how: str) -> None:
    await scene.flag(6)
    await scene.incident("calcom_unauthorised")
    await scene.look()
    await scene.look(PATIENCE["calcom_unauthorised"])
    assert len(await scene.open()) == 2
    await scene.pool.execute(how)
    assert sorted(await scene.look()) == [(Kind.CALCOM_INCIDENT, ENDED), (Kind.ORPHANS_A_DAY, ENDED)]
    assert await scene.open() == []
    assert await scene.look(HOUR) == []


# --- processes


async def test_a_restart_neither_forgets_nor_repeats(scene: Scene) -> None:
    await scene.flag(6)
    await scene.look()
    scene.watch = scene.another()
    assert await scene.look(30 * SECOND) == []
    await scene.look(DAY)
    scene.watch = scene.another()
    assert await scene.look(REST) == [(Kind.ORPHANS_A_DAY, ENDED)], "how long all was calm is known, too"


async def test_two_that_look_at_once_raise_once(scene: Scene) -> None:
    await scene.flag(6)
    watches = [scene.another() for _ in range(4)]
    told = await asyncio.gather(*(watch.look() for _ in range(5) for watch in watches))
    assert [flag.kind for flags in told for flag in flags] == [Kind.ORPHANS_A_DAY]
    assert await scene.open() == [("acme", "ORPHANS_A_DAY")]
    assert len(await scene.told()) == 1


async def test_while_another_process_looks_nothing_is_done(scene: Scene, dsn: str) -> None:
    await scene.flag(6)
    async with scene.pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", LOCK_ID)
        assert await scene.look() == []
    assert await scene.look() == [(Kind.ORPHANS_A_DAY, OPENED)]


async def test_what_fails_on_its_way_is_told_the_next_time(scene: Scene) -> None:
    """The flag, its place in the queue and the episode are one transaction."""
    await scene.flag(6)
    await scene.pool.execute("ALTER TABLE outbox RENAME TO elsewhere")
    with pytest.raises(Exception, match="outbox"):
        await scene.look()
    await scene.pool.execute("ALTER TABLE elsewhere RENAME TO outbox")
    assert await scene.open() == []
    assert await scene.look() == [(Kind.ORPHANS_A_DAY, OPENED)]


async def test_only_who_owns_the_first_partition_looks(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IDLE_SECONDS", 0.01)
    await scene.flag(6)
    asked, owned, stop = 0, {1, 2}, asyncio.Event()

    def mine() -> set[int]:
        nonlocal asked
        asked += 1
        return owned

    watch = Watch(pool=scene.pool, owned=mine, partitions=PARTITIONS, clock=scene.clock, jitter=lambda: 0.5)
    running = asyncio.create_task(watch.run(stop))

    async def often() -> bool:
        return asked > 5

    await until(often, 5)
    assert await scene.open() == []
    owned.add(0)
    await until(scene.open, 5)
    assert shown(Kind.ORPHANS_A_DAY) == 1
    stop.set()
    await asyncio.wait_for(running, 1)
    assert [shown(kind) for kind in THRESHOLDS] == [0, 0, 0, 0], "whoever does not look says nothing"


async def test_a_database_that_goes_away_is_looked_at_again(
    scene: Scene, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(module, "REST_TIMES", 0.0)
    failures = REGISTRY.get_sample_value("reconcal_loop_failures_total", {"loop": "watch"}) or 0.0
    stop = asyncio.Event()
    running = asyncio.create_task(keep("watch", lambda: scene.watch.run(stop), stop))
    waiting = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND wait_event_type = 'Lock'"""
    other = await asyncpg.connect(dsn)

    async def cut() -> bool:
        return bool(await scene.pool.fetch(waiting))

    async def failed() -> bool:
        return (REGISTRY.get_sample_value("reconcal_loop_failures_total", {"loop": "watch"}) or 0.0) > failures

    async with other.transaction():
        await other.execute("LOCK TABLE episodes IN ACCESS EXCLUSIVE MODE")  # a look waits for it, and is cut there
        await until(cut, 10)
    await other.close()
    await until(failed, 10)
    await scene.flag(6)
    await until(scene.open, 10)
    stop.set()
    await asyncio.wait_for(running, 1)
    assert len(await scene.told()) == 1


def test_a_look_that_took_long_is_followed_by_a_long_rest() -> None:
    assert [rest_seconds(0.2, chance) for chance in (0, 0.5, 1)] == [27, 30, 33]
    assert rest_seconds(4, 0.5) == 80


# --- Cal.com that cannot be asked


@pytest.mark.parametrize("kind", PATIENCE)
async def test_an_incident_is_told_once_it_has_lasted_and_its_end_too(scene: Scene, kind: str) -> None:
    await scene.incident(kind)
    assert await scene.look(PATIENCE[kind] - SECOND) == []
    assert await scene.look(SECOND) == [(Kind.CALCOM_INCIDENT, FlagType.CALCOM_INCIDENT)]
    assert await scene.look(HOUR) == []
    await scene.pool.execute("DELETE FROM incidents")
    assert await scene.look() == []
    assert await scene.look(INCIDENT_REST - SECOND) == []
    assert await scene.look(SECOND) == [(Kind.CALCOM_INCIDENT, ENDED)]
    opened, ended = await scene.told()
    assert (opened.type, opened.kind, opened.why.note, opened.reason) == (
        FlagType.CALCOM_INCIDENT, Kind.CALCOM_INCIDENT, kind, f"{kind} it is.",
    )  # fmt: skip
    assert ended.resolves == opened.id


async def test_an_outage_of_minutes_is_told_to_nobody(scene: Scene) -> None:
    await scene.incident("calcom_unreachable")
    assert await scene.look(10 * MINUTE) == []
    await scene.pool.execute("DELETE FROM incidents")
    assert await scene.look(HOUR) == []


async def test_an_incident_that_comes_back_within_two_minutes_goes_on(scene: Scene) -> None:
    await scene.incident("calcom_unauthorised")
    await scene.look(2 * MINUTE)
    await scene.pool.execute("DELETE FROM incidents")
    assert await scene.look(MINUTE) == []
    await scene.incident("calcom_unauthorised")
    assert await scene.look(MINUTE) == []
    await scene.pool.execute("DELETE FROM incidents")
    assert await scene.look(MINUTE) == []
    assert await scene.look(MINUTE) == []
    assert await scene.look(MINUTE) == [(Kind.CALCOM_INCIDENT, ENDED)]


async def test_one_incident_is_open_a_company_and_what_is_left_of_others_is_told_after_it(scene: Scene) -> None:
    await scene.incident("calcom_unauthorised")
    await scene.incident("calcom_limited")
    await scene.look(20 * MINUTE)
    assert await scene.open() == [("acme", "CALCOM_INCIDENT")]
    await scene.pool.execute("DELETE FROM incidents WHERE kind = 'calcom_unauthorised'")
    await scene.look()
    assert await scene.look(INCIDENT_REST) == [(Kind.CALCOM_INCIDENT, ENDED)]
    assert await scene.look(30 * SECOND) == [(Kind.CALCOM_INCIDENT, FlagType.CALCOM_INCIDENT)]
    assert [flag.why.note for flag in await scene.told()] == [
        "calcom_unauthorised", "calcom_unauthorised", "calcom_limited",
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["wrong_partition", "calcom_list_incomplete", "calcom_filter_ignored"])
async def test_what_keeps_nobody_from_asking_is_not_told_as_if_it_did(scene: Scene, kind: str) -> None:
    """Whoever was told that Cal.com cannot be asked is not told what could not be checked."""
    await scene.incident(kind)
    assert await scene.look(DAY) == []


async def test_an_incident_that_nobody_has_seen_for_hours_says_nothing_of_now(scene: Scene) -> None:
    await scene.incident("calcom_unauthorised")
    await scene.look(2 * MINUTE)
    assert await scene.look(STALE) == []
    assert await scene.look(INCIDENT_REST) == [(Kind.CALCOM_INCIDENT, ENDED)]


# --- as a part of the reconciler


async def test_a_threshold_that_is_crossed_reaches_the_topic_of_flags(embedded_broker: str, dsn: str) -> None:
    settings: Settings = await stand(embedded_broker, dsn, kafka_assignment="all")
    async with running(settings, started=False) as service:
        await service.company(window_seconds=1)
        await service.pool.execute("UPDATE companies SET orphans_per_day_max = 0, waiting_for_review_max = 0")
        for number in range(2):
            await service.appointment(number)
        service.start()
        await service.over()
        await service.stop()  # what runs anew looks at once
        service.start()
        query = "SELECT count(*) = 2 FROM flags WHERE kind = ANY($1::text[])"
        wanted = [Kind.ORPHANS_A_DAY, Kind.WAITING_FOR_REVIEW]
        await service.comes(query, wanted)
        await service.check()
        flags: Sequence[Flag] = await service.flags()
        assert await service.stop() < 5
    assert sorted(flag.kind for flag in flags if flag.type is FlagType.THRESHOLD) == wanted
    assert {flag.record_id for flag in flags if flag.kind in wanted} == {company_record_id("acme")}
