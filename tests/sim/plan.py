"""What is planted in a simulated world: histories of appointments with the outcome that each must have. Pure."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, Final

import msgspec
from msgspec import Struct

from schemas import topics
from schemas.envelope import Delivery
from tests.support import builders

BEGIN: Final = datetime(2026, 11, 24, 6, 0, tzinfo=UTC)
WINDOW_SECONDS: Final = 300.0
#: A message is on its way for at most so long; twice this and a gap between the sides stay within the window.
DELAY_MAX_SECONDS: Final = 60.0


class Message(Struct, frozen=True):
    """A delivery and when it comes to the door, in seconds from the beginning."""

    arrives: float
    topic: str
    company_id: str
    ce_id: str
    body: bytes

    def delivery(self, at: datetime) -> Delivery:
        """Give what ingest would store of it at a moment."""
        kind = topics.TYPE_APPOINTMENT if self.topic == topics.APP_APPOINTMENTS else topics.TYPE_CALCOM_WEBHOOK
        return Delivery(
            topic=self.topic, company_id=self.company_id, ce_id=self.ce_id, ce_source="sim", ce_type=kind,
            received_at=at, body=self.body,
        )  # fmt: skip


class Case(Struct, frozen=True):
    """One appointment's story: how it must end, and which flags it must (or may) have had, in order."""

    name: str
    company_id: str
    appointment_id: str
    uids: tuple[str, ...]
    messages: tuple[Message, ...]
    status: str
    flags: tuple[tuple[str, ...], ...]  # each tuple is one allowed sequence of flag types


class Pen:
    """Writes the messages of one case."""

    def __init__(self, random: Random, company_id: str, number: int) -> None:
        """`number` makes ids unique."""
        self.random, self.company_id, self.number = random, company_id, number
        self.appointment_id = f"{number}"
        self.messages: list[Message] = []
        self.begins = random.uniform(0, 3600)
        self.starts_at = BEGIN + timedelta(days=3, minutes=15 * number)

    def uid(self, letter: str) -> str:
        return f"{letter}{self.number:06d}"

    def _put(self, seconds: float, topic: str, body: dict[str, Any], delay: float | None) -> None:
        late = self.random.uniform(0, DELAY_MAX_SECONDS) if delay is None else delay
        raw = msgspec.json.encode(body)
        for repeat in range(1 if self.random.random() < 0.8 else self.random.randint(2, 3)):
            again = 0 if repeat == 0 else self.random.uniform(0, 900)
            ce_id = f"{self.number}-{len(self.messages)}"
            self.messages.append(Message(self.begins + seconds + late + again, topic, self.company_id, ce_id, raw))

    def app(self, kind: str, seconds: float, *, delay: float | None = None, **fields: Any) -> None:
        minutes = fields.pop("minutes", 0)
        starts_at = self.starts_at + timedelta(minutes=minutes)
        status = fields.pop("status", "cancelled" if kind == "cancelled" else "confirmed")
        appointment = {
            "id": self.appointment_id,
            "starts_at": starts_at.isoformat(),
            "ends_at": (starts_at + timedelta(minutes=30)).isoformat(),
            "status": status,
            "customer": {"name": "Mia Patient", "email": f"p{self.number}@example.org", "phone": None},
            **fields,
        }
        moment = BEGIN + timedelta(seconds=self.begins + seconds)
        event = {
            "id": f"evt-{self.number}-{kind}-{seconds}",
            "type": f"appointment.{kind}",
            "occurred_at": moment.isoformat(),
        }
        self._put(seconds, topics.APP_APPOINTMENTS, event | {"appointment": appointment}, delay)

    def calcom(
        self, trigger: str, seconds: float, letter: str = "A", *, delay: float | None = None, **fields: Any
    ) -> None:
        make: Callable[..., dict[str, Any]] = getattr(builders, f"booking_{trigger}")
        if "old" in fields:
            old = fields.pop("old")
            fields |= {"old_uid": self.uid(old), "old_booking_id": self._booking_id(old)}
        body = make(
            self.uid(letter),
            booking_id=self._booking_id(letter),
            starts_at=self.starts_at + timedelta(minutes=fields.pop("minutes", 0)),
            created_at=BEGIN + timedelta(seconds=self.begins + seconds),
            eventTypeId=None,
            **fields,
        )
        self._put(seconds, topics.CALCOM_BOOKINGS, body, delay)

    def _booking_id(self, letter: str) -> int:
        return self.number * 10 + "ABC".index(letter)

    def linked(self, letter: str = "A") -> dict[str, Any]:
        return {"calcom_booking_uid": self.uid(letter)}

    def case(self, name: str, status: str, *flags: tuple[str, ...], letters: str = "A") -> Case:
        uids = tuple(self.uid(letter) for letter in letters)
        return Case(name, self.company_id, self.appointment_id, uids, tuple(self.messages), status, flags or ((),))


def pair(pen: Pen) -> Case:
    pen.app("created", 0, **pen.linked())
    pen.calcom("created", pen.random.uniform(-100, 100))
    return pen.case("pair", "synced")


def pair_by_metadata(pen: Pen) -> Case:
    pen.app("created", 0)
    pen.calcom("created", pen.random.uniform(-100, 100), metadata={"appointment_id": pen.appointment_id})
    return pen.case("pair by metadata", "synced")


def lost_webhook(pen: Pen) -> Case:
    pen.app("created", 0, **pen.linked())
    return pen.case("lost webhook", "orphaned_local", ("sync.orphaned_local",))


def ghost(pen: Pen) -> Case:
    pen.calcom("created", 0)
    return pen.case("ghost booking", "orphaned_calcom", ("sync.orphaned_calcom",))


def late(pen: Pen) -> Case:
    pen.app("created", 0, **pen.linked())
    pen.calcom("created", 10, delay=WINDOW_SECONDS + pen.random.uniform(100, 3000))
    return pen.case("late webhook", "synced", (), ("sync.orphaned_local", "sync.resolved"))


def cancelled_on_both(pen: Pen) -> Case:
    pair(pen)
    pen.app("cancelled", 1000, **pen.linked())
    pen.calcom("cancelled", 1000 + pen.random.uniform(-100, 100))
    return pen.case("cancelled on both", "synced")


def cancelled_on_one(pen: Pen) -> Case:
    pair(pen)
    if pen.random.random() < 0.5:
        pen.app("cancelled", 1000, **pen.linked())
    else:
        pen.calcom("cancelled", 1000)
    return pen.case("one-sided cancel", "failed", ("sync.data_mismatch",))


def cancel_first(pen: Pen) -> Case:
    pen.calcom("created", 0, delay=50)
    pen.calcom("cancelled", 30, delay=0)
    return pen.case("cancel before create", "synced")


def moved(pen: Pen) -> Case:
    pair(pen)
    pen.calcom("rescheduled", 1000, "B", old="A", minutes=30)
    pen.app("rescheduled", 1050, minutes=30, **pen.linked(pen.random.choice("AB")))
    pen.calcom("rescheduled", 2000, "C", old="B", minutes=60)
    pen.app("rescheduled", 1960, minutes=60, **pen.linked(pen.random.choice("AB")))
    return pen.case("moved twice", "synced", letters="ABC")


def moved_in_disorder(pen: Pen) -> Case:
    pen.app("created", 0, minutes=30, **pen.linked())
    pen.calcom("created", 0, delay=60)
    pen.calcom("rescheduled", 20, "B", old="A", minutes=30, delay=0)
    return pen.case("reschedule before its original", "synced", letters="AB")


def moved_on_one(pen: Pen) -> Case:
    pair(pen)
    pen.calcom("rescheduled", 1000, "B", old="A", minutes=30)
    return pen.case("moved on one side", "failed", ("sync.data_mismatch",), letters="AB")


def deleted(pen: Pen) -> Case:
    pair(pen)
    pen.app("deleted", 1000, **pen.linked())
    return pen.case("deleted in the app", "orphaned_calcom", ("sync.orphaned_calcom",))


def rejected(pen: Pen) -> Case:
    pen.app("created", 0, status="pending", **pen.linked())
    pen.calcom("requested", 10)
    pen.calcom("rejected", 1000)
    pen.app("cancelled", 1000, **pen.linked())
    return pen.case("request that was rejected", "synced")


KINDS: Final = (
    pair, pair, pair_by_metadata, lost_webhook, ghost, late, cancelled_on_both, cancelled_on_one, cancel_first, moved,
    moved_in_disorder, moved_on_one, deleted, rejected,
)  # fmt: skip


def plan(random: Random, companies: tuple[str, ...], cases: int) -> list[Case]:
    """Plant cases over companies."""
    return [random.choice(KINDS)(Pen(random, random.choice(companies), n + 1)) for n in range(cases)]
