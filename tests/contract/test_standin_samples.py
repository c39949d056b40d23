"""The stand-in beside samples of Cal.com, kept outside of this repository: the same keys, the same kinds of values."""

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from services.embedded.calcom import Booking, Calcom, EventType, pranks
from tests.support.calcom import KEY, NORA, Heard, at, client
from tests.support.hand_clock import HandClock

SAMPLES = Path(__file__).parents[2].parent / "shared" / "calcom" / "samples"
START = at(14)
NAMED = {"appointment_id": "4711"}
VISIT = EventType(id=7, requires_confirmation=True)
CLASS = EventType(id=9, seats=5)

pytestmark = pytest.mark.skipif(not SAMPLES.is_dir(), reason="the collection of Cal.com samples is not here")


class Scene:
    """A stand-in, with what the samples show."""

    def __init__(self) -> None:
        self.heard = Heard()
        clock = HandClock(at(9, day=2))
        self.calcom = Calcom(clock.now, post=self.heard)
        self.ada = self.calcom.join("ada-host", KEY)
        self.calcom.subscribe(self.ada, "https://reconcal.example.com", secret="s")
        self.client = client(self.calcom)

    async def book(self, event_type: EventType | None = None) -> Booking:
        person = msgspec.structs.replace(NORA, metadata=NAMED if event_type is CLASS else {})
        return await self.calcom.book(self.ada, START, person, event_type=event_type or EventType(), metadata=NAMED)

    async def moved(self, by: Any = "api") -> tuple[Booking, Booking]:
        old = await self.book()
        return old, await self.calcom.move(old.uid, START + timedelta(days=1), by=by, reason="ill")

    def last(self) -> Any:
        return json.loads(self.heard.posts[-1][1])


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    made = Scene()
    yield made
    await made.client.aclose()
    await made.calcom.aclose()


def sample(name: str) -> Any:
    return json.loads((SAMPLES / name).read_bytes())


def kinds(value: Any, *, open_keys: tuple[str, ...] = ("metadata", "value", "target")) -> Any:
    """Give the shape of a value: keys and kinds; of a list, that of its first item. What users name is left open."""
    if isinstance(value, dict):
        return {key: "open" if key in open_keys else kinds(value[key]) for key in sorted(value)}
    if isinstance(value, list):
        return [kinds(value[0])] if value else []
    return type(value).__name__


async def test_a_booking_in_each_of_its_states(scene: Scene) -> None:
    calcom = scene.calcom
    accepted, seated, pending, unwanted = [await scene.book(kind) for kind in (None, CLASS, VISIT, VISIT)]
    ended = await calcom.cancel((await scene.book()).uid, reason="better", by=NORA.email)
    await calcom.reject(unwanted.uid)
    old, new = await scene.moved()
    shown = {
        "api-booking.json": accepted,
        "api-booking-seated.json": seated,
        "api-booking-pending.json": pending,
        "api-booking-rejected.json": unwanted,
        "api-booking-cancelled.json": ended,
        "api-booking-rescheduled-old.json": old,
        "api-booking-rescheduled-new.json": new,
    }
    for name, row in shown.items():
        answer = await scene.client.get(f"/bookings/{row.uid}")
        assert kinds(answer.json()) == kinds(sample(name)), name
        assert answer.json()["data"]["status"] == sample(name)["data"]["status"]


async def test_lists_by_both_ways_to_page(scene: Scene) -> None:
    empty = (await scene.client.get("/bookings")).json()
    assert empty == sample("api-bookings-list-empty.json")
    await scene.moved()
    listed = (await scene.client.get("/bookings")).json()
    wanted = sample("api-bookings-list.json")
    assert listed["pagination"] == wanted["pagination"]
    assert [set(row) ^ set(told) for row, told in zip(listed["data"], wanted["data"], strict=True)] == [
        {"rescheduledByEmail"}, {"rescheduledByEmail", "reschedulingReason"},
    ]  # fmt: skip
    async with client(scene.calcom, version="2026-05-01") as other:
        by_cursor = (await other.get("/bookings")).json()
    assert by_cursor["pagination"] == sample("api-bookings-list.2026-05-01.json")["pagination"]


async def test_errors_have_the_documented_words(scene: Scene) -> None:
    async def told(answer: httpx.Response, name: str) -> None:
        wanted = sample(name)
        assert kinds(answer.json()) == kinds(wanted)
        assert answer.json()["error"] == wanted["error"]
        assert answer.json()["path"] == wanted["path"]

    await told(await scene.client.get("/bookings/doesNotExist"), "api-booking-404.json")
    await told(await scene.client.get("/bookings", params={"status": "accepted"}), "api-400-validation.json")
    async with client(scene.calcom, "cal_wrong") as other:
        await told(await other.get("/bookings"), "api-401.json")
    scene.calcom.mischief.play(pranks.too_many())
    limited = await scene.client.get("/bookings", params={"take": 100})
    await told(limited, "api-429.json")
    lines = (SAMPLES / "api-429.headers.txt").read_text().splitlines()[1:]
    wanted = {name.lower(): value for name, value in (line.split(": ") for line in lines)}
    own = {"x-ratelimit-limit-default": "120", "x-ratelimit-reset-default": "60"}
    assert {name: limited.headers[name] for name in wanted} == wanted | own


async def test_a_webhook_is_given_as_it_was_made(scene: Scene) -> None:
    wanted = sample("api-webhook-created.json")
    asked = {key: wanted["data"][key] for key in ("subscriberUrl", "triggers", "active", "secret")}
    answer = await scene.client.post("/webhooks", json=asked)
    assert kinds(answer.json()) == kinds(wanted)


async def test_no_webhook_says_more_than_cal_coms_own(scene: Scene) -> None:
    """Nor calls anything by another name; what it leaves out is nothing that anybody here reads."""
    said: dict[str, Any] = {}
    await scene.book()
    said["booking_created.metadata.json"] = scene.last()
    await scene.book(CLASS)
    said["booking_created.seat-first.json"] = scene.last()
    asked = await scene.book(VISIT)
    said["booking_requested.json"] = scene.last()
    await scene.calcom.confirm(asked.uid)
    said["booking_created.after-confirmation.json"] = scene.last()
    await scene.moved("api")
    said["booking_rescheduled.api-v2.json"] = scene.last()
    _, new = await scene.moved("page")
    said["booking_rescheduled.web-ui.json"] = scene.last()
    await scene.calcom.cancel(new.uid, by=NORA.email)
    said["booking_cancelled.realistic.json"] = scene.last()
    await scene.calcom.reject((await scene.book(VISIT)).uid)
    said["booking_rejected.json"] = scene.last()
    await scene.calcom.ask_to_move((await scene.book()).uid, reason="ill")
    said["booking_cancelled.request-reschedule.json"] = scene.last()
    await scene.calcom.hold_meeting((await scene.book()).uid)
    said["meeting_ended.json"] = scene.last()
    for name, body in said.items():
        wanted = sample(name)
        assert set(body) <= set(wanted), name
        assert body["triggerEvent"] == wanted["triggerEvent"], name
        payload, known = body.get("payload", {}), wanted.get("payload", {})
        assert set(payload) <= set(known), (name, set(payload) - set(known))
        read = {"uid", "bookingId", "startTime", "endTime", "status", "eventTypeId", "attendees", "metadata", "iCalUID"}
        read |= {"rescheduleUid", "rescheduleId", "attendeeSeatId", "requestReschedule", "cancelledBy"}
        assert (set(known) - set(payload)) & read == set(), name
        times = [key for key in ("startTime", "endTime") if key in payload]
        assert [_spelling(payload[key]) for key in times] == [_spelling(known[key]) for key in times], name


def _spelling(text: str) -> str:
    return "".join("9" if sign.isdigit() else sign for sign in text)
