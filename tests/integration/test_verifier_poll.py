"""Poll, backfill and the look at our webhook: on PostgreSQL, with the stand-in of Cal.com over HTTP."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import asyncpg
import msgspec
import pytest

from schemas.bookings import BookingEvent, BookingStatus
from schemas.envelope import Delivery
from schemas.flags import Flag, FlagType, Kind
from schemas.observations import Observation
from schemas.topics import CALCOM_BOOKINGS, SYNC_FLAGS
from schemas.triggers import TRIGGERS
from services.embedded.calcom import Booking, Calcom
from services.embedded.calcom import model as calcom_model
from services.embedded.calcom.pranks import EmptyLists, IgnoredFilters, unauthorised
from services.plumbing.lanes import partition_of
from services.plumbing.postgres import Pool
from services.plumbing.settings import Settings, load
from services.reconciler.core.events import HeardBooking
from services.reconciler.store import PostgresStore
from services.verifier.accounts import budget_of
from services.verifier.gate.budget import Limits
from services.verifier.gate.budgets import PostgresBudgets
from services.verifier.gate.gateway import CalcomGateway
from services.verifier.gate.incidents import PostgresIncidents
from services.verifier.ports import Account
from services.verifier.rounds import backfill
from services.verifier.rounds.backfill import Backfiller
from services.verifier.rounds.pages import Teller
from services.verifier.rounds.poll import Poller
from services.verifier.rounds.polls import LIST_INCOMPLETE
from services.verifier.rounds.turns import HASTEN, Lost, Turns
from services.verifier.rounds.watch import Watch
from services.verifier.wire.client import HttpClient
from tests.support.calcom import KEY, NORA, running_calcom
from tests.support.hand_clock import HandClock
from tests.support.stores import Teller as Reconciler
from tests.support.wait import until

BEGIN: Final = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
PARTITIONS: Final = 3
PLACE: Final = partition_of("acme", PARTITIONS)
PUBLIC: Final = "https://in.example.com"
PLENTY: Final = Limits(burst=10_000, reserve=1, per_second=1000)


class Told:
    """A broker in memory that acknowledges, or is away."""

    def __init__(self) -> None:
        self.deliveries: list[Delivery] = []
        self.away = False

    async def publish_all(self, deliveries: Iterable[Delivery]) -> None:
        """See `pages.Publishes`."""
        if self.away:
            raise TimeoutError("no broker")
        self.deliveries += deliveries

    def uids(self) -> list[str]:
        """Give the bookings that were told of."""
        return [msgspec.json.decode(one.body, type=Observation).booking["uid"] for one in self.deliveries]


class Scene:
    """A company at Cal.com, and a verifier's loops on a clock that is moved by hand."""

    def __init__(self, pool: Pool, clock: HandClock, calcom: Calcom, client: HttpClient, base_url: str) -> None:
        self.pool, self.clock, self.calcom, self.client = pool, clock, calcom, client
        self.doctor = calcom.join("kim-vale", KEY)
        self.account: Account | None = Account(
            company_id="acme", base_url=base_url, api_key=KEY, budget_id=budget_of(base_url, KEY)
        )
        self.told = Told()
        self.settings = settings()

    def of(self, company_id: str) -> Account | None:
        """See `pages.Accounts`."""
        return self.account if company_id == "acme" else None

    def common(self, holder: str = "one") -> dict[str, Any]:
        gateway = CalcomGateway(
            self.client,
            PostgresBudgets(self.pool, PLENTY, self.clock),
            PostgresIncidents(self.pool, self.clock),
            self.clock,
        )
        shared = {"pool": self.pool, "gateway": gateway, "accounts": self, "companies": lambda: ["acme"]}
        return shared | {"holder": holder, "clock": self.clock}

    def poller(self) -> Poller:
        more: dict[str, Any] = {"settings": self.settings, "partitions": PARTITIONS, "jitter": lambda: 0.5}
        return Poller(**self.common(), **more, teller=Teller(self.told))

    def watch(self, public_url: str = PUBLIC) -> Watch:
        more: dict[str, Any] = {
            "settings": settings(ingest_public_url=public_url),
            "partitions": PARTITIONS,
            "jitter": lambda: 0.5,
        }
        return Watch(**self.common(), **more)

    def backfiller(self, holder: str = "one") -> Backfiller:
        return Backfiller(**self.common(holder), publisher=self.told)

    async def take(self, kind: Any, holder: str = "one") -> list[str]:
        """Take the turns that are due."""
        return await Turns(self.pool, kind, holder, self.clock).claim(["acme"], 10)

    async def poll(self, poller: Poller) -> None:
        """Let five minutes pass, and poll."""
        self.clock.seconds += 330
        assert await self.take("poll") == ["acme"]
        await poller.poll("acme")

    async def look(self, watch: Watch) -> None:
        """Let an hour pass, and look at the webhook."""
        self.clock.seconds += 3960
        assert await self.take("webhook") == ["acme"]
        await watch.look("acme")

    async def book(self, **more: Any) -> Booking:
        """Book at Cal.com, a second later; by no webhook, unless told."""
        self.clock.seconds += 1
        start = self.clock.now() + timedelta(days=2)
        return await self.calcom.book(self.doctor, start, NORA, send=False, **more)

    async def row(self, table: str) -> Any:
        return await self.pool.fetchrow(f"SELECT * FROM {table} WHERE company_id = 'acme'")

    async def incidents(self) -> set[str]:
        return {row["kind"] for row in await self.pool.fetch("SELECT kind FROM incidents")}

    async def read_until(self, at: datetime) -> None:
        """Say how far the reconciler has read."""
        frontiers = msgspec.json.encode({CALCOM_BOOKINGS: at}).decode()
        await self.pool.execute(
            "INSERT INTO partitions (kafka_partition, frontiers) VALUES ($1, $2::jsonb)"
            " ON CONFLICT (kafka_partition) DO UPDATE SET frontiers = excluded.frontiers",
            PLACE,
            frontiers,
        )

    async def webhook_came(self, booking: Booking, trigger: str = "BOOKING_CREATED") -> None:
        """Let the reconciler take in a webhook, or an observation."""
        at = self.clock.now()
        event = BookingEvent(
            event_id=f"{trigger}-{booking.uid}",
            trigger=trigger,
            occurred_at=at,
            uid=booking.uid,
            status=BookingStatus.ACCEPTED,
            starts_at=booking.start,
        )
        teller = await Reconciler.claim(PostgresStore(self.pool), partition=PLACE)
        await teller.tell(HeardBooking(at, event))
        record_id = await self.pool.fetchval("SELECT record_id FROM records WHERE booking_uid = $1", booking.uid)
        await self.pool.execute(
            "INSERT INTO events (company_id, received_at, topic, kafka_partition, kafka_offset, record_id, event_id,"
            " kind, disposition) VALUES ('acme', $1, $2, $3, (SELECT count(*) FROM events), $4, 'e', $5, 'applied')",
            at,
            CALCOM_BOOKINGS,
            PLACE,
            record_id,
            trigger,
        )

    async def flags(self) -> list[Flag]:
        """Give what the reconciler's relay would send."""
        found = await self.pool.fetch("SELECT * FROM outbox ORDER BY outbox_id")
        assert all((row["topic"], row["kafka_partition"]) == (SYNC_FLAGS, PLACE) for row in found)
        flags = [msgspec.json.decode(row["body"], type=Flag) for row in found]
        assert [(row["ce_id"], row["ce_type"]) for row in found] == [(str(one.id), one.type.value) for one in flags]
        return flags


def settings(**more: str) -> Settings:
    environ = {"calcom_private_addresses": "allow"} | more
    return load({f"RECONCAL_{name.upper()}": value for name, value in environ.items()})


@pytest.fixture
async def pool(dsn: str) -> AsyncIterator[Pool]:
    opened: Pool = await asyncpg.create_pool(dsn, min_size=1, max_size=4, server_settings={"timezone": "UTC"})
    await opened.execute("INSERT INTO companies (company_id, name) VALUES ('acme', 'Acme')")
    yield opened
    await opened.close()


@pytest.fixture
async def scene(pool: Pool) -> AsyncIterator[Scene]:
    clock = HandClock(BEGIN)
    client = HttpClient.open(settings())
    async with running_calcom(clock.now, requests_per_minute=100_000) as (calcom, base_url):
        yield Scene(pool, clock, calcom, client, base_url)
    await client.close()


# --- the poll ----------------------------------------------------------------------------------------------------


async def test_what_no_webhook_told_of_is_found_and_told_once(scene: Scene) -> None:
    poller = scene.poller()
    await scene.poll(poller)
    assert scene.told.deliveries == []
    booking = await scene.book()
    await scene.poll(poller)
    await scene.poll(poller)
    assert scene.told.uids() == [booking.uid]
    assert (scene.told.deliveries[0].topic, scene.told.deliveries[0].company_id) == (CALCOM_BOOKINGS, "acme")
    polled = await scene.row("api_polls")
    assert (polled["cursor_at"], polled["rows_seen"], polled["error"]) == (booking.updated_at, 1, None)
    await scene.calcom.cancel(booking.uid, send=False)
    await scene.poll(poller)
    assert scene.told.uids() == [booking.uid] * 2


async def test_what_is_so_young_that_its_webhook_may_be_on_its_way_is_left_for_the_next_time(scene: Scene) -> None:
    poller = scene.poller()
    await scene.poll(poller)
    scene.clock.seconds += 329
    booking = await scene.book()
    assert await scene.take("poll") == ["acme"]
    await poller.poll("acme")
    assert scene.told.deliveries == []
    assert (await scene.row("api_polls"))["cursor_at"] < booking.updated_at
    await scene.poll(poller)
    assert scene.told.uids() == [booking.uid]


async def test_the_cursor_stays_where_the_broker_is_away(scene: Scene) -> None:
    poller = scene.poller()
    await scene.poll(poller)
    booking = await scene.book()
    before = (await scene.row("api_polls"))["cursor_at"]
    scene.told.away = True
    with pytest.raises(TimeoutError):
        await scene.poll(poller)
    assert (await scene.row("api_polls"))["cursor_at"] == before
    scene.told.away = False
    await scene.poll(poller)
    assert scene.told.uids() == [booking.uid]


async def test_an_empty_answer_moves_nothing(scene: Scene) -> None:
    poller = scene.poller()
    await scene.poll(poller)
    booking = await scene.book()
    playing = scene.calcom.mischief.play(EmptyLists())
    for _ in range(4):
        await scene.poll(poller)
    playing.stop()
    assert scene.told.uids() == []
    await scene.poll(poller)
    assert scene.told.uids() == [booking.uid]


async def test_many_changes_are_read_page_by_page_and_none_twice(scene: Scene) -> None:
    poller = scene.poller()
    await scene.poll(poller)
    booked = [await scene.book() for _ in range(230)]
    await scene.poll(poller)
    assert scene.told.uids() == [one.uid for one in booked]


async def test_a_filter_that_is_ignored_loses_nothing_and_is_an_incident_until_it_is_heeded_again(scene: Scene) -> None:
    poller = scene.poller()
    for _ in range(120):
        await scene.book()
    scene.clock.seconds += 86_400
    await scene.poll(poller)
    new = [await scene.book() for _ in range(3)]
    playing = scene.calcom.mischief.play(IgnoredFilters())
    await scene.poll(poller)
    assert sorted(scene.told.uids()) == sorted(one.uid for one in new)
    assert await scene.incidents() == {"calcom_filter_ignored"}
    playing.stop()
    await scene.poll(poller)
    assert await scene.incidents() == set()


async def test_a_list_without_a_booking_that_a_webhook_told_of_is_not_trusted(scene: Scene) -> None:
    poller = scene.poller()
    await scene.poll(poller)
    booking = await scene.book()
    await scene.webhook_came(booking)
    before = (await scene.row("api_polls"))["cursor_at"]
    playing = scene.calcom.mischief.play(EmptyLists())
    await scene.poll(poller)
    polled = await scene.row("api_polls")
    assert polled["cursor_at"] == before
    assert booking.uid in polled["error"]
    assert await scene.incidents() == {LIST_INCOMPLETE}
    playing.stop()
    await scene.poll(poller)
    assert scene.told.uids() == [booking.uid]
    assert await scene.incidents() == set()


async def test_where_cal_com_does_not_answer_it_is_said_why_and_tried_again(scene: Scene) -> None:
    poller = scene.poller()
    await scene.poll(poller)
    booking = await scene.book()
    playing = scene.calcom.mischief.play(unauthorised())
    await scene.poll(poller)
    assert "401" in (await scene.row("api_polls"))["error"]
    playing.stop()
    await scene.pool.execute("UPDATE api_budgets SET refused_at = NULL")  # ten minutes later, by the database's clock
    await scene.poll(poller)
    assert scene.told.uids() == [booking.uid]
    assert (await scene.row("api_polls"))["error"] is None


async def test_bookings_that_came_by_no_webhook_are_counted_and_have_our_webhook_looked_at(scene: Scene) -> None:
    poller = scene.poller()
    await scene.poll(poller)
    assert await scene.take("webhook") == ["acme"]
    await Turns(scene.pool, "webhook", "one", scene.clock).pass_on("acme", scene.clock.now() + timedelta(days=1))
    booked = [await scene.book() for _ in range(4)]
    await scene.webhook_came(booked[0])
    await scene.webhook_came(booked[1], "OBSERVED")
    await scene.poll(poller)
    assert (await scene.row("api_polls"))["unseen"] == 0, "how far the reconciler has read is not known"
    await scene.read_until(scene.clock.now())
    await scene.poll(poller)
    polled = await scene.row("api_polls")
    assert (polled["unseen"], msgspec.json.decode(polled["recent"])[0][1:]) == (3, [4, 3])
    assert await scene.take("webhook") == ["acme"]
    await scene.poll(poller)
    assert (await scene.row("api_polls"))["unseen"] == 3, "each is counted once"


async def test_two_verifiers_do_not_poll_a_company_at_once_and_a_dead_ones_turn_is_taken(scene: Scene) -> None:
    assert await scene.take("poll", "one") == ["acme"]
    assert await scene.take("poll", "two") == []
    scene.clock.seconds += 121
    assert await scene.take("poll", "two") == ["acme"]
    poller = scene.poller()
    with pytest.raises(Lost):
        await poller.poll("acme")
    assert (await scene.row("api_polls"))["polled_at"] is None


async def test_the_loop_takes_the_turns_that_are_due_and_ends_when_told_to(scene: Scene) -> None:
    stop = asyncio.Event()
    running = asyncio.ensure_future(scene.poller().run(stop))

    async def polled() -> bool:
        row = await scene.row("api_polls")
        return row is not None and row["polled_at"] is not None

    await until(polled, 5)
    stop.set()
    await asyncio.wait_for(running, 5)


# --- the backfill ------------------------------------------------------------------------------------------------


async def request(scene: Scene, days: float = 90) -> backfill.Backfill:
    async with scene.pool.acquire() as connection:
        return await backfill.request(connection, "acme", days, scene.clock.now())


async def past(scene: Scene, count: int) -> list[Booking]:
    """Book in the past and in the future, some beyond the reach of a backfill."""
    booked = [await scene.book() for _ in range(count)]
    old = scene.clock.now() - timedelta(days=100)
    await scene.calcom.book(scene.doctor, old, NORA, send=False)
    return booked


async def test_a_backfill_tells_of_all_bookings_of_its_time_and_says_that_they_are_loaded(scene: Scene) -> None:
    booked = await past(scene, 270)
    asked = await request(scene)
    company = await scene.row("companies")
    assert (company["history_began_at"], company["calcom_loaded_at"]) == (asked.requested_at, None)
    assert await scene.take("backfill") == ["acme"]
    await scene.backfiller().load("acme")
    assert sorted(scene.told.uids()) == sorted(one.uid for one in booked)
    loaded = await scene.row("backfills")
    assert (loaded["rows_seen"], loaded["finished_at"], loaded["error"]) == (270, scene.clock.now(), None)
    assert (await scene.row("companies"))["calcom_loaded_at"] == scene.clock.now()
    scene.clock.seconds += 60
    again = await request(scene)
    assert (again.finished_at, again.rows_seen) == (None, 0)
    assert (await scene.row("companies"))["history_began_at"] == asked.requested_at


async def test_a_backfill_that_was_killed_goes_on_where_it_was(scene: Scene) -> None:
    booked = await past(scene, 520)
    await request(scene)
    assert await scene.take("backfill") == ["acme"]
    first = scene.told.publish_all

    async def second_page_is_lost(deliveries: Iterable[Delivery]) -> None:
        scene.told.away = bool(scene.told.deliveries)
        await first(deliveries)

    scene.told.publish_all = second_page_is_lost  # type: ignore[method-assign] # the broker goes away in the middle
    with pytest.raises(TimeoutError):
        await scene.backfiller().load("acme")
    scene.told.publish_all, scene.told.away = first, False  # type: ignore[method-assign]
    assert (await scene.row("backfills"))["cursor_at"] == booked[249].start
    scene.clock.seconds += 121
    assert await scene.take("backfill", "two") == ["acme"]
    await scene.backfiller("two").load("acme")
    assert set(scene.told.uids()) == {one.uid for one in booked}
    assert len(scene.told.uids()) == 521, "the row at the cursor comes twice"


async def test_a_backfill_without_a_filter_leaves_out_what_is_too_old(scene: Scene) -> None:
    booked = await past(scene, 260)
    scene.calcom.mischief.play(IgnoredFilters())
    await request(scene)
    assert await scene.take("backfill") == ["acme"]
    await scene.backfiller().load("acme")
    assert set(scene.told.uids()) == {one.uid for one in booked}
    assert (await scene.row("backfills"))["finished_at"] is not None


async def test_an_empty_list_is_not_believed_where_there_are_bookings(scene: Scene) -> None:
    await past(scene, 3)
    await request(scene)
    scene.calcom.mischief.play(EmptyLists(), times=1)
    assert await scene.take("backfill") == ["acme"]
    await scene.backfiller().load("acme")
    loaded = await scene.row("backfills")
    assert loaded["finished_at"] is None
    assert "empty list" in loaded["error"]
    scene.clock.seconds += 700
    assert await scene.take("backfill") == ["acme"]
    await scene.backfiller().load("acme")
    assert (await scene.row("backfills"))["finished_at"] is not None


async def test_a_backfill_that_is_under_way_goes_on_unless_more_is_asked_for(scene: Scene) -> None:
    first = await request(scene)
    scene.clock.seconds += 60
    assert (await request(scene)).requested_at == first.requested_at
    assert (await request(scene, days=365)).requested_at == scene.clock.now()


async def test_the_loop_loads_what_was_asked_for(scene: Scene) -> None:
    booked = await scene.book()
    await request(scene)
    stop = asyncio.Event()
    running = asyncio.ensure_future(scene.backfiller().run(stop))

    async def loaded() -> bool:
        return (await scene.row("backfills"))["finished_at"] is not None

    await until(loaded, 5)
    stop.set()
    await asyncio.wait_for(running, 5)
    assert scene.told.uids() == [booked.uid]


# --- our webhook -------------------------------------------------------------------------------------------------


def entered(scene: Scene, **over: Any) -> calcom_model.Webhook:
    options = {"secret": "not our business", "triggers": TRIGGERS} | over
    return scene.calcom.subscribe(scene.doctor, f"{PUBLIC}/webhooks/calcom/acme", **options)


async def test_a_webhook_that_is_switched_off_is_flagged_once_and_resolved_when_it_is_on_again(scene: Scene) -> None:
    watch, webhook = scene.watch(), entered(scene, active=False)
    await scene.look(watch)
    await scene.look(watch)
    (raised,) = await scene.flags()
    assert (raised.type, raised.kind, raised.company_id) == (FlagType.WEBHOOK_SILENT, Kind.WEBHOOK_SILENT, "acme")
    assert "switched off" in raised.reason
    row = await scene.row("flags")
    assert (row["flag_id"], row["resolved_at"]) == (raised.id, None)
    checked = await scene.row("webhook_checks")
    assert (checked["state"], checked["silent_since"], checked["generation"]) == ("inactive", raised.decided_at, 1)
    scene.calcom.store.webhooks[webhook.id] = msgspec.structs.replace(webhook, active=True)
    await scene.look(watch)
    resolved = (await scene.flags())[-1]
    assert (resolved.type, resolved.resolves, resolved.decided_at) == (
        FlagType.RESOLVED,
        raised.id,
        scene.clock.now(),
    )
    assert (await scene.row("flags"))["resolved_by"] == "auto"
    checked = await scene.row("webhook_checks")
    assert (checked["state"], checked["silent_since"]) == ("well", None)
    del scene.calcom.store.webhooks[webhook.id]
    await scene.look(watch)
    once_more = (await scene.flags())[-1]
    assert (once_more.generation, once_more.id != raised.id, "no webhook" in once_more.reason) == (2, True, True)


async def test_a_key_that_is_taken_away_ends_the_silence_for_nobody_could_ever_end_it_else(scene: Scene) -> None:
    watch = scene.watch()
    entered(scene, active=False)
    await scene.look(watch)
    scene.account = None
    assert "acme" in await watch._all()
    await scene.look(watch)
    raised, resolved = await scene.flags()
    assert (resolved.type, resolved.resolves) == (FlagType.RESOLVED, raised.id)
    assert (await scene.row("webhook_checks"))["silent_since"] is None


async def test_where_cal_com_refuses_the_key_nothing_is_said_of_the_webhook(scene: Scene) -> None:
    watch = scene.watch()
    scene.calcom.mischief.play(unauthorised())
    await scene.look(watch)
    assert await scene.flags() == []
    assert (await scene.row("webhook_checks"))["state"] == "not_asked"


async def test_bookings_that_came_by_no_webhook_flag_it_and_one_that_does_ends_it(scene: Scene) -> None:
    watch, poller = scene.watch(public_url=""), scene.poller()
    await scene.poll(poller)
    for _ in range(4):
        await scene.book()
    scene.clock.seconds += 200
    await scene.read_until(scene.clock.now())
    await scene.poll(poller)
    assert await scene.take("webhook") == ["acme"]
    await watch.look("acme")
    (raised,) = await scene.flags()
    assert "Of 4 new bookings of the last hour 4 came by no webhook" in raised.reason
    await scene.look(watch)
    assert len(await scene.flags()) == 1, "nothing came at all, which proves nothing"
    await scene.poll(poller)
    await scene.webhook_came(await scene.book())
    scene.clock.seconds += 200
    await scene.read_until(scene.clock.now())
    await scene.poll(poller)
    await scene.pool.execute(HASTEN, "acme", "webhook", scene.clock.now())
    assert await scene.take("webhook") == ["acme"]
    await watch.look("acme")
    assert [flag.type for flag in await scene.flags()] == [FlagType.WEBHOOK_SILENT, FlagType.RESOLVED]


async def test_a_webhook_of_a_team_is_not_flagged_as_missing_while_webhooks_come(scene: Scene) -> None:
    await scene.webhook_came(await scene.book())
    await scene.look(scene.watch())
    assert await scene.flags() == []
    assert (await scene.row("webhook_checks"))["state"] == "elsewhere"
