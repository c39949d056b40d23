"""Load with a known truth: appointments and bookings that belong together, and some that stand alone."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from random import Random
from typing import Final

from msgspec import Struct

from schemas import topics
from schemas.envelope import Delivery
from services.plumbing.lanes import partition_of
from tests.support import builders

#: Messages that are handed to the client at once.
CHUNK: Final = 500


class Side(StrEnum):
    """What there is of a case."""

    BOTH = "both"
    APP = "app"
    CALCOM = "calcom"


#: What a case comes to once its window is over.
STATUS: Final = {Side.BOTH: "synced", Side.APP: "orphaned_local", Side.CALCOM: "orphaned_calcom"}


class Case(Struct, frozen=True):
    """One appointment, its booking, or both. `number` is unique within the company."""

    company_id: str
    number: int
    side: Side = Side.BOTH

    @property
    def appointment_id(self) -> str | None:
        """Give what the app calls it, if it has it."""
        return None if self.side is Side.CALCOM else str(self.number)

    @property
    def uid(self) -> str | None:
        """Give what Cal.com calls it, if it has it."""
        return None if self.side is Side.APP else self.booking_uid

    @property
    def booking_uid(self) -> str:
        """Give the uid that its booking has, or would have."""
        return f"uid{self.number:08d}"

    def appointment(self) -> bytes:
        """Give the body of the app's event."""
        return builders.body(
            builders.appointment_event(
                appointment_id=str(self.number),
                starts_at=self._starts_at,
                calcom_booking_uid=self.booking_uid,
                customer={"name": f"Guest {self.number}", "email": self._email, "phone": None},
            )
        )

    def booking(self) -> bytes:
        """Give the body of the webhook."""
        return builders.body(
            builders.booking_created(
                self.booking_uid,
                booking_id=self.number,
                starts_at=self._starts_at,
                attendees=[builders.attendee(self._email, f"Guest {self.number}", None)],
                eventTypeId=None,
            )
        )

    @property
    def _email(self) -> str:
        """Give the guest's address, unlike all others: two that stand alone must not be taken for one."""
        return f"guest{self.number}@example.org"

    @property
    def _starts_at(self) -> datetime:
        return builders.STARTS_AT + timedelta(minutes=self.number % 10_000)


def cases(company_ids: Sequence[str], count: int, random: Random, *, first: int = 1) -> list[Case]:
    """Give cases over companies; one in ten is alone on either side."""
    sides = (Side.BOTH,) * 8 + (Side.APP, Side.CALCOM)
    return [Case(random.choice(company_ids), first + n, random.choice(sides)) for n in range(count)]


def on_partition(number: int, of: int) -> str:
    """Give a company whose key lies on this partition."""
    return next(name for n in range(1000) if partition_of(name := f"praxis-{n}", of) == number)


def from_app(case: Case) -> Delivery:
    """Give the appointment's event as the door keeps it, received now."""
    return delivery(topics.APP_APPOINTMENTS, case.company_id, f"evt-{case.number}", case.appointment())


def from_calcom(case: Case) -> Delivery:
    """Give the webhook as the door keeps it, received now."""
    return delivery(topics.CALCOM_BOOKINGS, case.company_id, f"hook-{case.number}", case.booking())


def both_sides(planted: Iterable[Case], random: Random) -> list[Delivery]:
    """Give all that the cases have to say, sides of one case in either order, received now."""
    found: list[Delivery] = []
    for case in planted:
        sides = [from_app(case)] if case.appointment_id else []
        sides += [from_calcom(case)] if case.uid else []
        random.shuffle(sides)
        found += sides
    return found


def pings(company_id: str, count: int) -> list[Delivery]:
    """Give presses of Cal.com's test button: read, understood, and of no account.

    They do not compress well, so that the client buffers few of them.
    """
    random = Random(count)
    bodies = (builders.body(builders.ping() | {"note": random.randbytes(600).hex()}) for _ in range(count))
    return [delivery(topics.CALCOM_BOOKINGS, company_id, f"ping-{n}", body) for n, body in enumerate(bodies)]


def delivery(topic: str, company_id: str, ce_id: str, body: bytes) -> Delivery:
    """Give a message as the door keeps it, received now."""
    kind = topics.TYPE_APPOINTMENT if topic == topics.APP_APPOINTMENTS else topics.TYPE_CALCOM_WEBHOOK
    return Delivery(
        topic=topic,
        company_id=company_id,
        ce_id=ce_id,
        ce_source="tests/load",
        ce_type=kind,
        received_at=datetime.now(UTC),
        body=body,
    )
