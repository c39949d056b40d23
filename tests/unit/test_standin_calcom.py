"""Cal.com's stand-in: what it answers, whom it tells, how it misbehaves."""

import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import msgspec
import pytest

from schemas.bookings import BookingEvent
from services.embedded.calcom import Account, Calcom, EventType, pranks
from services.reconciler.core.events import HeardBooking
from services.reconciler.decode import decode
from tests.support.builders import decoded, from_calcom, observation, observed
from tests.support.calcom import KEY, KIM, NORA, Heard, at, client
from tests.support.hand_clock import HandClock

NOW = at(9, day=2)
START = at(14)
SECRET = "a secret of nobody"
URL = "https://reconcal.example.com/webhooks/calcom/acme"
ASKED_FIRST = EventType(id=7, slug="visit", title="Visit", requires_confirmation=True)
COSTS = EventType(id=8, slug="coaching", title="Coaching", price=5000)
CLASS = EventType(id=9, slug="class", title="Class", seats=2)
OLD = "2024-04-15"
BY_CURSOR = "2026-05-01"


class Scene:
    """A stand-in with one user, a subscriber and a client."""

    def __init__(self, requests_per_minute: int = 10_000) -> None:
        self.clock = HandClock(NOW)
        self.heard = Heard()
        self.calcom = Calcom(
            self.clock.now, post=self.heard, sleep=self.clock.sleep, requests_per_minute=requests_per_minute
        )
        self.ada = self.calcom.join("ada-host", KEY)
        self.webhook = self.calcom.subscribe(self.ada, URL, secret=SECRET)
        self.client = client(self.calcom)

    async def get(self, path: str, **params: Any) -> httpx.Response:
        return await self.client.get(path, params=params)

    async def one(self, uid: str) -> dict[str, Any]:
        booking: dict[str, Any] = (await self.get(f"/bookings/{uid}")).json()["data"]
        return booking

    async def uids(self, **params: Any) -> list[str]:
        answer = await self.get("/bookings", **params)
        assert answer.status_code == 200, answer.text
        return [row["uid"] for row in answer.json()["data"]]

    def posted(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body, _ in self.heard.posts]

    def triggers(self) -> list[str]:
        return [body["triggerEvent"] for body in self.posted()]


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    made = Scene()
    yield made
    await made.client.aclose()
    await made.calcom.aclose()


def told(body: bytes) -> BookingEvent:
    heard = decoded(from_calcom(body))
    assert isinstance(heard, HeardBooking)
    return heard.event


def seen(booking: object) -> BookingEvent:
    heard = decoded(observed(observation(booking)))
    assert isinstance(heard, HeardBooking)
    return heard.event


# --- Single bookings ------------------------------------------------------------------------------------------------


async def test_a_booking_is_given_as_documented(scene: Scene) -> None:
    row = await scene.calcom.book(scene.ada, START, NORA, metadata={"appointment_id": "4711"})
    answer = await scene.get(f"/bookings/{row.uid}")
    booking = answer.json()["data"]
    assert (answer.status_code, answer.json()["status"]) == (200, "success")
    assert (booking["uid"], booking["status"], booking["start"]) == (row.uid, "accepted", "2026-03-09T14:00:00.000Z")
    assert (booking["updatedAt"], booking["metadata"]) == ("2026-03-02T09:00:00.000Z", {"appointment_id": "4711"})
    assert booking["hosts"][0]["id"] == scene.ada.user_id
    assert booking["attendees"][0]["phoneNumber"] == NORA.phone


async def test_what_is_not_there_is_the_documented_404(scene: Scene) -> None:
    row = await scene.calcom.book(scene.ada, START, NORA)
    for unknown in ("nowhere", f"{row.id}"):  # a number is no uid
        answer = await scene.get(f"/bookings/{unknown}")
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (404, "NotFoundException")
        assert error["message"] == f"Booking with uid={unknown} was not found in the database"
        assert answer.json()["path"] == f"/v2/bookings/{unknown}"


async def test_a_wrong_path_is_a_404_of_the_framework(scene: Scene) -> None:
    answer = await scene.get("/v2/bookings/x")
    assert (answer.status_code, answer.json()["error"]["message"]) == (404, "Cannot GET /v2/v2/bookings/x")


async def test_a_series_is_an_array(scene: Scene) -> None:
    rows = await scene.calcom.book_series(scene.ada, [START, START + timedelta(days=7)], NORA)
    series = (await scene.one(rows[0].uid))["recurringBookingUid"]
    found = (await scene.get(f"/bookings/{series}")).json()["data"]
    assert [one["uid"] for one in found] == [row.uid for row in rows]
    assert scene.triggers() == ["BOOKING_CREATED"] * 2
    assert scene.posted()[0]["payload"]["recurringEvent"]["count"] == 2


async def test_a_move_is_a_chain_and_the_old_booking_looks_cancelled(scene: Scene) -> None:
    old = await scene.calcom.book(scene.ada, START, NORA)
    new = await scene.calcom.move(old.uid, START + timedelta(days=1))
    before, after = await scene.one(old.uid), await scene.one(new.uid)
    assert (before["status"], before["rescheduledToUid"]) == ("cancelled", new.uid)
    assert (after["status"], after["rescheduledFromUid"], after["icsUid"]) == ("accepted", old.uid, before["icsUid"])
    assert scene.triggers() == ["BOOKING_CREATED", "BOOKING_RESCHEDULED"]


async def test_one_number_in_the_metadata_and_the_api_gives_none(scene: Scene) -> None:
    row = await scene.calcom.book(scene.ada, START, NORA, metadata={"appointment_id": 4711})
    booking = await scene.one(row.uid)
    assert (booking["metadata"], booking["location"]) == ({}, "unknown")


async def test_anybody_may_see_a_booking_but_not_who_sits_there(scene: Scene) -> None:
    row = await scene.calcom.book(scene.ada, START, NORA, event_type=CLASS)
    scene.calcom.join("bob", "cal_bob")
    assert [one["email"] for one in (await scene.one(row.uid))["attendees"]] == [NORA.email]
    for key in ("cal_bob", None):
        async with client(scene.calcom, key) as stranger:
            answer = await stranger.get(f"/bookings/{row.uid}")
            assert (answer.status_code, answer.json()["data"]["attendees"]) == (200, [])


@pytest.mark.parametrize("version", [None, OLD, "2030-01-01", "2024-06-14"])
async def test_a_version_that_is_missing_or_unknown_is_the_old_one(scene: Scene, version: str | None) -> None:
    row = await scene.calcom.book(scene.ada, START, NORA)
    async with client(scene.calcom, version=version) as other:
        booking = (await other.get(f"/bookings/{row.uid}")).json()["data"]
        assert (booking["status"], booking["startTime"]) == ("ACCEPTED", "2026-03-09T14:00:00.000Z")
        assert "start" not in booking
        assert (await other.get("/bookings")).status_code == 400  # filters[status] is required
        listed = (await other.get("/bookings", params={"filters[status]": "upcoming"})).json()["data"]
        assert ([one["uid"] for one in listed["bookings"]], listed["nextCursor"]) == ([row.uid], None)


# --- Lists ----------------------------------------------------------------------------------------------------------


async def test_filters_mean_what_the_database_makes_of_them(scene: Scene) -> None:
    calcom, ada = scene.calcom, scene.ada
    first = await calcom.book(ada, START, NORA)
    scene.clock.seconds = 60
    second = await calcom.book(ada, START + timedelta(hours=1), KIM, event_type=ASKED_FIRST)
    scene.clock.seconds = 120
    await calcom.cancel(first.uid)
    both = [first.uid, second.uid]
    assert await scene.uids() == both
    assert await scene.uids(attendeeEmail=NORA.email) == [first.uid]
    assert await scene.uids(attendeeEmail=NORA.email.upper()) == []
    assert await scene.uids(attendeeName=KIM.name) == [second.uid]
    assert await scene.uids(bookingUid=second.uid) == [second.uid]
    assert await scene.uids(eventTypeId=7) == [second.uid]
    assert await scene.uids(eventTypeIds="7,2420858") == both
    assert await scene.uids(afterStart="2026-03-09T15:00:00Z") == [second.uid]
    assert await scene.uids(beforeEnd="2026-03-09T15:29:59+01:00") == []
    assert await scene.uids(beforeEnd="2026-03-09T14:30:00Z") == [first.uid]
    assert await scene.uids(afterCreatedAt="2026-03-02T09:01:00Z") == [second.uid]
    assert await scene.uids(beforeCreatedAt="2026-03-02T09:00:59.999Z") == [first.uid]
    assert await scene.uids(afterUpdatedAt="2026-03-02T09:02:00Z") == [first.uid]
    assert await scene.uids(beforeUpdatedAt="2026-03-02T09:01:00Z") == [second.uid]
    assert await scene.uids(status="cancelled") == [first.uid]
    assert await scene.uids(status="upcoming") == [second.uid]
    assert await scene.uids(status="unconfirmed,cancelled") == both
    assert await scene.uids(sortUpdatedAt="asc") == [second.uid, first.uid]
    assert await scene.uids(sortStart="desc") == [second.uid, first.uid]


async def test_a_pending_booking_whose_time_is_over_is_past_and_nothing_else(scene: Scene) -> None:
    row = await scene.calcom.book(scene.ada, START, NORA, event_type=ASKED_FIRST)
    scene.clock.seconds = timedelta(days=30).total_seconds()
    found = [status for status in ("upcoming", "past", "unconfirmed", "cancelled") if await scene.uids(status=status)]
    assert (found, row.status) == (["past"], "PENDING")


async def test_pages_by_take_and_skip_say_where_they_stand(scene: Scene) -> None:
    for hour in range(5):
        await scene.calcom.book(scene.ada, START + timedelta(hours=hour), NORA)
    page = (await scene.get("/bookings", take=2, skip=2)).json()
    assert len(page["data"]) == 2
    assert page["pagination"] == {
        "returnedItems": 2, "totalItems": 5, "itemsPerPage": 2, "remainingItems": 1, "currentPage": 2,
        "totalPages": 3, "hasNextPage": True, "hasPreviousPage": True,
    }  # fmt: skip
    empty = (await scene.get("/bookings", attendeeEmail="nobody@example.org")).json()["pagination"]
    assert (empty["currentPage"], empty["totalItems"], empty["hasNextPage"]) == (0, 0, False)


async def test_pages_by_cursor_have_every_booking_once(scene: Scene) -> None:
    made = {(await scene.calcom.book(scene.ada, START, NORA)).uid for _ in range(5)}
    found: list[str] = []
    async with client(scene.calcom, version=BY_CURSOR) as other:
        cursor: dict[str, str] = {}
        while True:
            page = (await other.get("/bookings", params={"take": "2"} | cursor)).json()
            found += [row["uid"] for row in page["data"]]
            if not page["pagination"]["hasMore"]:
                break
            cursor = {"cursor": page["pagination"]["nextCursor"]}
        assert (await other.get("/bookings", params={"status": "past,upcoming"})).status_code == 400
    assert (sorted(made), page["pagination"]) == (found, {"nextCursor": None, "hasMore": False})


@pytest.mark.parametrize(
    ("params", "prop", "constraint"),
    [
        ({"status": "accepted"}, "status", "isEnum"),
        ({"take": "251"}, "take", "max"),
        ({"take": "0"}, "take", "min"),
        ({"take": "many"}, "take", "isNumber"),
        ({"skip": "-1"}, "skip", "min"),
        ({"afterUpdatedAt": "yesterday"}, "afterUpdatedAt", "isISO8601"),
        ({"sortUpdatedAt": "up"}, "sortUpdatedAt", "isEnum"),
        ({"eventTypeId": "x"}, "eventTypeId", "isNumber"),
    ],
)
async def test_a_query_that_is_at_fault_says_why(
    scene: Scene, params: dict[str, str], prop: str, constraint: str
) -> None:
    answer = await scene.get("/bookings", **params)
    [error] = answer.json()["error"]["details"]["errors"]
    assert (answer.status_code, error["property"], list(error["constraints"])) == (400, prop, [constraint])


async def test_a_list_has_what_concerns_the_user(scene: Scene) -> None:
    bob = scene.calcom.join("bob", "cal_bob")
    of_bob = await scene.calcom.book(bob, START, NORA)
    of_ada = await scene.calcom.book(scene.ada, START, msgspec.structs.replace(KIM, email=bob.email))
    assert await scene.uids() == [of_ada.uid]
    async with client(scene.calcom, "cal_bob") as other:
        rows = (await other.get("/bookings")).json()["data"]
        assert [row["uid"] for row in rows] == [of_bob.uid, of_ada.uid]


# --- Keys and limits ------------------------------------------------------------------------------------------------


async def test_a_key_must_be_valid_and_a_list_needs_one(scene: Scene) -> None:
    row = await scene.calcom.book(scene.ada, START, NORA)
    scene.calcom.set_key(scene.ada, "cal_old", "expired")
    for key, message in [
        ("cal_wrong", "ApiAuthStrategy - api key - Your api key is not valid"),
        ("cal_old", "ApiAuthStrategy - api key - Your api key is expired"),
    ]:
        async with client(scene.calcom, key) as other:
            for path in ("/bookings", f"/bookings/{row.uid}", "/webhooks"):
                answer = await other.get(path)
                assert (answer.status_code, answer.json()["error"]["message"]) == (401, message)
                assert answer.json()["error"]["code"] == "UnauthorizedException"
    async with client(scene.calcom, None) as other:
        assert (await other.get("/bookings")).status_code == 401
    scene.calcom.set_key(scene.ada, KEY, "revoked")
    assert (await scene.get("/bookings")).status_code == 401


async def test_a_key_that_asks_too_much_is_blocked_for_a_minute() -> None:
    scene = Scene(requests_per_minute=3)
    scene.calcom.join("bob", "cal_bob")
    for left, full_in in ((2, 60), (1, 50), (0, 40)):
        scene.clock.seconds += 10
        answer = await scene.get("/bookings")
        named = [answer.headers[f"x-ratelimit-{name}-default"] for name in ("limit", "remaining", "reset")]
        assert (answer.status_code, named) == (200, ["3", f"{left}", f"{full_in}"])
    scene.clock.seconds = 31
    limited = await scene.get("/bookings")
    assert (limited.status_code, limited.headers["x-ratelimit-reset-default"]) == (429, "60")
    assert isinstance(limited.json()["error"]["details"], str)
    assert "retry-after" not in limited.headers
    async with client(scene.calcom, "cal_bob") as other:
        assert (await other.get("/bookings")).status_code == 200
    scene.clock.seconds = 90
    assert (await scene.get("/bookings")).status_code == 429
    scene.clock.seconds = 91
    assert (await scene.get("/bookings")).status_code == 200


async def test_the_book_knows_the_fullest_minute(scene: Scene) -> None:
    for seconds in (0, 30, 59, 61, 89, 120, 200):
        scene.clock.seconds = seconds
        await scene.get("/bookings")
    await scene.get("/bookings/x")
    requests = scene.calcom.requests
    assert (requests.most_in(60, KEY), requests.most_in(60, "other"), requests.most_in(1)) == (4, 0, 2)
    assert [one.status for one in requests.of(KEY, under="/v2/bookings/")] == [404]
    assert KEY not in repr(requests.requests)
    assert not requests.asked_together


# --- Webhooks by the API --------------------------------------------------------------------------------------------


async def test_webhooks_are_made_changed_and_removed(scene: Scene) -> None:
    wanted = {
        "subscriberUrl": "https://b.example.com/x",
        "triggers": ["BOOKING_CREATED"],
        "active": True,
        "secret": "s",
    }
    created = await scene.client.post("/webhooks", json=wanted)
    made = created.json()["data"]
    assert (created.status_code, {key: made[key] for key in wanted}) == (201, wanted)
    assert [one["id"] for one in (await scene.get("/webhooks")).json()["data"]] == [scene.webhook.id, made["id"]]
    assert (await scene.client.post("/webhooks", json=wanted)).status_code == 409
    changed = await scene.client.patch(f"/webhooks/{made['id']}", json={"active": False, "triggers": ["BOOKING_PAID"]})
    assert (changed.status_code, changed.json()["data"]["triggers"], changed.json()["data"]["secret"]) == (
        200, ["BOOKING_PAID"], "s",
    )  # fmt: skip
    assert not (await scene.get(f"/webhooks/{made['id']}")).json()["data"]["active"]
    assert (await scene.client.delete(f"/webhooks/{made['id']}")).status_code == 200
    gone = await scene.get(f"/webhooks/{made['id']}")
    assert (gone.status_code, gone.json()["error"]["code"]) == (404, "NotFoundException")


@pytest.mark.parametrize(
    "wrong", [{}, {"subscriberUrl": "no url"}, {"triggers": ["BOOKING_CONFIRMED"]}, {"active": "yes"}]
)
async def test_a_webhook_that_is_at_fault_is_refused(scene: Scene, wrong: dict[str, Any]) -> None:
    good = {"subscriberUrl": "https://b.example.com/x", "triggers": ["BOOKING_CREATED"], "active": True}
    answer = await scene.client.post("/webhooks", json=good | wrong if wrong else {})
    assert (answer.status_code, len(answer.json()["error"]["details"]["errors"])) == (400, 1)


async def test_webhooks_come_in_pages_too(scene: Scene) -> None:
    scene.calcom.subscribe(scene.ada, "https://b.example.com", secret=None)
    [second] = (await scene.get("/webhooks", take=1, skip=1)).json()["data"]
    assert second["subscriberUrl"] == "https://b.example.com"
    assert (await scene.get("/webhooks", take="many")).status_code == 400


async def test_a_user_sees_no_webhook_of_another(scene: Scene) -> None:
    scene.calcom.join("bob", "cal_bob")
    async with client(scene.calcom, "cal_bob") as other:
        assert (await other.get("/webhooks")).json()["data"] == []
        assert (await other.get(f"/webhooks/{scene.webhook.id}")).status_code == 404


# --- Webhooks posted ------------------------------------------------------------------------------------------------


async def test_a_webhook_is_signed_over_its_bytes(scene: Scene) -> None:
    await scene.calcom.book(scene.ada, START, NORA)
    [(url, body, headers)] = scene.heard.posts
    assert (url, headers["X-Cal-Webhook-Version"]) == (URL, "2021-10-20")
    assert headers["X-Cal-Signature-256"] == hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    assert headers["Content-Type"] == "application/json"


async def test_only_who_subscribed_is_told(scene: Scene) -> None:
    subscribe = scene.calcom.subscribe
    subscribe(scene.ada, "https://off.example.com", secret=None, active=False)
    subscribe(scene.ada, "https://paid.example.com", secret=None, triggers=["BOOKING_PAID"])
    subscribe(scene.ada, "https://open.example.com", secret=None)
    subscribe(scene.calcom.join("bob"), "https://bob.example.com", secret="s")
    await scene.calcom.book(scene.ada, START, NORA)
    assert [url for url, _, _ in scene.heard.posts] == [URL, "https://open.example.com"]
    assert scene.heard.posts[1][2]["X-Cal-Signature-256"] == "no-secret-provided"


async def test_a_lost_webhook_is_never_sent_again(scene: Scene) -> None:
    lost = await scene.calcom.book(scene.ada, START, NORA, send=False)
    scene.heard.status = 503
    await scene.calcom.cancel(lost.uid)
    scene.heard.error = httpx.ConnectError("nobody there")
    await scene.calcom.book(scene.ada, START, NORA)
    assert scene.triggers() == ["BOOKING_CANCELLED", "BOOKING_CREATED"]
    assert [one.status for one in scene.calcom.hooks.delivered] == [503, None]
    assert (await scene.one(lost.uid))["status"] == "cancelled"


async def test_a_410_switches_a_webhook_off(scene: Scene) -> None:
    scene.heard.status = 410
    await scene.calcom.book(scene.ada, START, NORA)
    scene.heard.status = 202
    await scene.calcom.book(scene.ada, START, NORA)
    assert len(scene.heard.posts) == 1
    assert not (await scene.get(f"/webhooks/{scene.webhook.id}")).json()["data"]["active"]


async def test_what_a_webhook_says_the_api_says_too(scene: Scene) -> None:
    """Of every act: uid, number, time and status, read by the reconciler's own decoder."""
    calcom, ada = scene.calcom, scene.ada
    plain = await calcom.book(ada, START, NORA, metadata={"appointment_id": "1"})
    pending = await calcom.book(ada, START, NORA, event_type=ASKED_FIRST, metadata={"appointment_id": "2"})
    checks = [plain.uid, pending.uid]
    await _agree(scene, checks)
    await calcom.confirm(pending.uid)
    moved = await calcom.move(plain.uid, START + timedelta(days=1), by="api")
    await _agree(scene, [pending.uid, moved.uid])
    await calcom.cancel(moved.uid, reason="ill", by=NORA.email)
    unwanted = await calcom.book(ada, START, KIM, event_type=ASKED_FIRST, send=False)
    await calcom.reject(unwanted.uid)
    await _agree(scene, [moved.uid, unwanted.uid])
    assert scene.heard.posts == []


async def _agree(scene: Scene, uids: list[str]) -> None:
    bodies = [body for _, body, _ in scene.heard.posts]
    scene.heard.posts.clear()
    assert sorted(told(body).uid for body in bodies) == sorted(uids)
    for body in bodies:
        word = told(body)
        answer = seen(await scene.one(word.uid))
        for field in ("uid", "booking_id", "starts_at", "ends_at", "status", "event_type_id"):
            assert getattr(word, field) == getattr(answer, field), field
        assert word.appointment_id in (None, answer.appointment_id)
        assert word.parent_uid in (None, answer.parent_uid)
        assert answer.occurred_at == word.occurred_at


async def test_times_are_spelt_in_three_ways(scene: Scene) -> None:
    calcom = scene.calcom
    row = await calcom.book(scene.ada, START, NORA, event_type=ASKED_FIRST)
    await calcom.confirm(row.uid)
    await calcom.cancel(row.uid)
    assert [body["payload"]["startTime"] for body in scene.posted()] == [
        "2026-03-09T14:00:00Z", "2026-03-09T14:00:00.000Z", "2026-03-09T15:00:00+01:00",
    ]  # fmt: skip


async def test_metadata_has_its_holes(scene: Scene) -> None:
    calcom, named = scene.calcom, {"appointment_id": "4711"}
    asked = await calcom.book(scene.ada, START, NORA, event_type=ASKED_FIRST, metadata=named)
    await calcom.confirm(asked.uid)
    by_api = await calcom.move((await calcom.book(scene.ada, START, NORA, metadata=named)).uid, START, by="api")
    by_page = await calcom.move(by_api.uid, START)
    await calcom.cancel(by_page.uid)
    kept = [body["payload"].get("metadata", {}).get("appointment_id") for body in scene.posted()]
    assert list(zip(scene.triggers(), kept, strict=True)) == [
        ("BOOKING_REQUESTED", "4711"),
        ("BOOKING_CREATED", None),
        ("BOOKING_CREATED", "4711"),
        ("BOOKING_RESCHEDULED", "4711"),
        ("BOOKING_RESCHEDULED", None),
        ("BOOKING_CANCELLED", None),
    ]
    assert (await scene.one(by_page.uid))["metadata"] == named


async def test_a_payment_is_awaited_then_told(scene: Scene) -> None:
    row = await scene.calcom.book(scene.ada, START, NORA, event_type=COSTS, metadata={"appointment_id": "1"})
    assert (await scene.one(row.uid))["status"] == "pending"
    assert told(scene.heard.posts[0][1]).unpaid
    await scene.calcom.pay(row.uid)
    assert scene.triggers() == ["BOOKING_PAYMENT_INITIATED", "BOOKING_CREATED", "BOOKING_PAID"]
    assert told(scene.heard.posts[2][1]).paid
    assert (await scene.one(row.uid))["status"] == "accepted"
    with pytest.raises(ValueError, match="not PENDING"):
        await scene.calcom.pay(row.uid)


async def test_a_move_that_must_be_confirmed_is_a_request_that_names_nothing(scene: Scene) -> None:
    old = await scene.calcom.book(scene.ada, START, NORA, event_type=ASKED_FIRST)
    new = await scene.calcom.move(old.uid, START + timedelta(days=1))
    assert scene.triggers() == ["BOOKING_REQUESTED"] * 2
    assert "rescheduleUid" not in scene.posted()[1]["payload"]
    assert (await scene.one(new.uid))["rescheduledFromUid"] == old.uid


async def test_seats_share_a_uid_and_are_told_of_one_by_one(scene: Scene) -> None:
    calcom = scene.calcom
    row = await calcom.book(scene.ada, START, NORA, event_type=CLASS, metadata={"appointment_id": "1"})
    row = await calcom.take_seat(row.uid, msgspec.structs.replace(KIM, metadata={"appointment_id": "2"}))
    nora, kim = row.attendees
    assert [seat["seatUid"] for seat in (await scene.one(row.uid))["attendees"]] == [nora.seat_uid, kim.seat_uid]
    assert [told(body).seat for _, body, _ in scene.heard.posts] == [NORA.email, KIM.email]
    with pytest.raises(ValueError, match="no seat is free"):
        await calcom.take_seat(row.uid, NORA)
    assert kim.seat_uid
    await calcom.leave_seat(row.uid, kim.seat_uid)
    left = scene.posted()[-1]
    assert (left["triggerEvent"], [one["email"] for one in left["payload"]["attendees"]]) == (
        "BOOKING_CANCELLED", [KIM.email],
    )  # fmt: skip
    assert (await scene.one(row.uid))["status"] == "accepted"
    await calcom.move(row.uid, START + timedelta(days=1))
    moved = scene.posted()[-1]["payload"]
    assert (moved["rescheduleUid"], "rescheduleId" in moved) == (row.uid, False)
    assert (await scene.one(row.uid))["start"] == "2026-03-10T14:00:00.000Z"


async def test_the_rest_of_a_series_is_called_off_by_one_webhook(scene: Scene) -> None:
    starts = [START + timedelta(weeks=week) for week in range(4)]
    rows = await scene.calcom.book_series(scene.ada, starts, NORA, send=False)
    await scene.calcom.cancel_rest(rows[2].uid, remaining=False)
    assert [(await scene.one(row.uid))["status"] for row in rows] == ["accepted", "accepted", "cancelled", "cancelled"]
    await scene.calcom.cancel_rest(rows[1].uid)
    assert await scene.uids(status="upcoming") == []
    assert [("recurringEvent" in body["payload"]) for body in scene.posted()] == [False, True]


async def test_one_word_confirms_or_rejects_a_series(scene: Scene) -> None:
    starts = [START, START + timedelta(weeks=1)]
    rows = await scene.calcom.book_series(scene.ada, starts, NORA, event_type=ASKED_FIRST, send=False)
    await scene.calcom.confirm(rows[0].uid)
    assert [(await scene.one(row.uid))["status"] for row in rows] == ["accepted", "accepted"]
    assert scene.triggers() == ["BOOKING_CREATED"]


async def test_every_other_word_is_one_that_the_reconciler_reads(scene: Scene) -> None:
    calcom = scene.calcom
    row = await calcom.book(scene.ada, START, NORA)
    await calcom.mark_absent(row.uid, NORA.email)
    await calcom.hold_meeting(row.uid)
    await calcom.ask_to_move(row.uid)
    dear = EventType(id=10, price=100, requires_confirmation=True)
    paid = await calcom.book(scene.ada, START, NORA, event_type=dear)
    await calcom.pay(paid.uid)
    await calcom.press_test_button(scene.webhook.id)
    for _, body, _ in scene.heard.posts:
        assert len(decode(from_calcom(body))) == 1
    assert scene.triggers()[1:] == [
        "BOOKING_NO_SHOW_UPDATED", "MEETING_ENDED", "BOOKING_CANCELLED", "BOOKING_PAYMENT_INITIATED", "BOOKING_PAID",
        "BOOKING_REQUESTED", "PING",
    ]  # fmt: skip


async def test_what_is_dead_is_not_changed(scene: Scene) -> None:
    row = await scene.calcom.book(scene.ada, START, NORA)
    await scene.calcom.cancel(row.uid)
    for act in (scene.calcom.cancel(row.uid), scene.calcom.move(row.uid, START), scene.calcom.confirm(row.uid)):
        with pytest.raises(ValueError, match="CANCELLED"):
            await act


async def test_a_row_can_be_edited_behind_everybodys_back(scene: Scene) -> None:
    row = await scene.calcom.book(scene.ada, START, NORA, send=False)
    scene.calcom.edit(row.uid, status="AWAITING_HOST", updated_at=None, ical_uid="")
    booking = await scene.one(row.uid)
    assert (booking["status"], booking["updatedAt"], booking["icsUid"]) == ("awaiting_host", None, "")
    assert scene.heard.posts == []


# --- Mischief -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prank", "status", "begins"),
    [
        (pranks.html(404, "Not Found"), 404, "<!DOCTYPE html>"),
        (pranks.html(502, "Bad Gateway"), 502, "<!DOCTYPE html>"),
        (pranks.empty(404), 404, ""),
        (pranks.other_json(404), 404, '{"message":"no Route'),
        (pranks.not_json(), 200, '{"status": "success"'),
        (pranks.redirect("https://elsewhere.example.com/"), 302, ""),
        (pranks.unauthorised(401), 401, '{"status":"error"'),
        (pranks.unauthorised(403), 403, '{"status":"error"'),
        (pranks.unauthorised(498), 498, '{"status":"error"'),
        (pranks.broken(500), 500, '{"status":"error"'),
        (pranks.broken(503), 503, '{"status":"error"'),
    ],
)
async def test_another_answer_can_be_given_as_often_as_said(
    scene: Scene, prank: pranks.Prank, status: int, begins: str
) -> None:
    row = await scene.calcom.book(scene.ada, START, NORA)
    playing = scene.calcom.mischief.play(prank, times=2)
    for _ in range(2):
        answer = await scene.get(f"/bookings/{row.uid}")
        assert (answer.status_code, answer.text[: len(begins)]) == (status, begins)
        assert ("x-ratelimit-limit-default" in answer.headers) is isinstance(prank, pranks.Refusal)
    assert (await scene.get(f"/bookings/{row.uid}")).status_code == 200
    assert playing.played == 2


async def test_a_429_can_be_told_with_and_without_retry_after(scene: Scene) -> None:
    scene.calcom.mischief.play(pranks.too_many(17), times=1)
    scene.calcom.mischief.play(pranks.too_many(retry_after="30"), times=1)
    first, second = await scene.get("/bookings"), await scene.get("/bookings")
    assert (first.status_code, first.headers["x-ratelimit-reset-default"]) == (429, "17")
    assert first.headers["x-ratelimit-remaining-default"] == "0"
    assert "retry-after" not in first.headers
    assert (second.status_code, second.headers["retry-after"]) == (429, "30")


async def test_a_prank_is_played_on_one_key_and_below_one_path(scene: Scene) -> None:
    scene.calcom.join("bob", "cal_bob")
    scene.calcom.mischief.play(pranks.broken(), key="cal_bob")
    scene.calcom.mischief.play(pranks.html(502), under="/v2/webhooks")
    assert (await scene.get("/bookings")).status_code == 200
    assert (await scene.get("/webhooks")).status_code == 502
    async with client(scene.calcom, "cal_bob") as other:
        assert (await other.get("/bookings")).status_code == 500
        scene.calcom.mischief.stop("cal_bob")
        assert (await other.get("/bookings")).status_code == 200
    scene.calcom.mischief.stop()
    assert (await scene.get("/webhooks")).status_code == 200


async def test_a_slow_answer_takes_its_time(scene: Scene) -> None:
    scene.calcom.mischief.play(pranks.Slow(seconds=25), times=1)
    assert (await scene.get("/bookings")).status_code == 200
    assert scene.clock.seconds == 25


async def test_a_replica_lags_behind(scene: Scene) -> None:
    row = await scene.calcom.book(scene.ada, START, NORA)
    scene.calcom.mischief.play(pranks.Lag(seconds=5))
    assert (await scene.get(f"/bookings/{row.uid}")).status_code == 404
    assert await scene.uids() == []
    scene.clock.seconds = 5
    assert (await scene.one(row.uid))["status"] == "accepted"
    await scene.calcom.cancel(row.uid)
    assert (await scene.one(row.uid))["status"] == "accepted"
    scene.clock.seconds = 10
    assert (await scene.one(row.uid))["status"] == "cancelled"


async def test_a_booking_can_appear_later(scene: Scene) -> None:
    row = await scene.calcom.book(scene.ada, START, NORA, seen_from=NOW + timedelta(seconds=30))
    assert (await scene.get(f"/bookings/{row.uid}")).status_code == 404
    scene.clock.seconds = 30
    assert await scene.uids() == [row.uid]


async def test_filters_can_be_ignored_and_lists_be_empty_or_a_strangers(scene: Scene) -> None:
    mine = await scene.calcom.book(scene.ada, START, NORA)
    other = await scene.calcom.book(scene.calcom.join("bob"), START, KIM)
    play, stop = scene.calcom.mischief.play, scene.calcom.mischief.stop
    play(pranks.IgnoredFilters())
    assert await scene.uids(attendeeEmail="nobody@example.org", sortStart="asc") == [mine.uid]
    stop()
    play(pranks.IgnoredFilters(names=("afterStart",)))
    assert await scene.uids(afterStart="2030-01-01T00:00:00Z") == [mine.uid]
    assert await scene.uids(attendeeEmail="nobody@example.org") == []
    stop()
    play(pranks.Strangers())
    assert await scene.uids() == [mine.uid, other.uid]
    stop()
    play(pranks.EmptyLists())
    answer = await scene.get("/bookings")
    assert (answer.status_code, answer.json()["data"], answer.json()["pagination"]["totalItems"]) == (200, [], 0)


async def test_the_old_version_can_come_whatever_was_asked_for(scene: Scene) -> None:
    row = await scene.calcom.book(scene.ada, START, NORA)
    scene.calcom.mischief.play(pranks.OldVersion())
    assert (await scene.one(row.uid))["startTime"] == "2026-03-09T14:00:00.000Z"
    listed = (await scene.get("/bookings", take=100)).json()["data"]
    assert [one["uid"] for one in listed["bookings"]] == [row.uid]


async def test_a_huge_answer_is_valid_json_all_the_same(scene: Scene) -> None:
    row = await scene.calcom.book(scene.ada, START, NORA)
    for declared in (False, True):
        scene.calcom.mischief.play(pranks.Huge(megabytes=1, declared=declared), times=1)
        answer = await scene.get(f"/bookings/{row.uid}")
        assert len(answer.content) > 1_048_576
        assert answer.json()["data"]["uid"] == row.uid
        assert ("content-length" in answer.headers) is declared


def test_neither_keys_nor_secrets_are_shown(scene: Scene) -> None:
    account: Account = scene.ada
    assert KEY not in repr(account)
    assert SECRET not in repr(scene.webhook)
