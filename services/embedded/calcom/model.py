"""What Cal.com's database has: users with API keys, bookings as rows, webhooks. Plain values."""

from datetime import datetime
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct

Json = dict[str, Any]
Status = Literal["ACCEPTED", "PENDING", "CANCELLED", "REJECTED", "AWAITING_HOST"]
KeyState = Literal["valid", "expired", "revoked"]

#: What can be subscribed to. PING is none of them: only the test button sends it.
TRIGGERS: Final = frozenset({
    "BOOKING_CREATED", "BOOKING_PAYMENT_INITIATED", "BOOKING_PAID", "BOOKING_RESCHEDULED", "BOOKING_REQUESTED",
    "BOOKING_CANCELLED", "BOOKING_REJECTED", "BOOKING_NO_SHOW_UPDATED", "FORM_SUBMITTED", "MEETING_ENDED",
    "MEETING_STARTED", "RECORDING_READY", "INSTANT_MEETING", "RECORDING_TRANSCRIPTION_GENERATED", "OOO_CREATED",
    "AFTER_HOSTS_CAL_VIDEO_NO_SHOW", "AFTER_GUESTS_CAL_VIDEO_NO_SHOW", "FORM_SUBMITTED_NO_EVENT",
    "ROUTING_FORM_FALLBACK_HIT", "DELEGATION_CREDENTIAL_ERROR", "WRONG_ASSIGNMENT_REPORT",
})  # fmt: skip


class Account(Struct, kw_only=True):
    """A user of Cal.com, as a company has one. Never shows its keys."""

    user_id: int
    name: str
    email: str
    username: str
    time_zone: str
    keys: dict[str, KeyState]

    def __repr__(self) -> str:
        """Hide the keys."""
        return f"Account({self.user_id}, {self.username!r})"


class EventType(Struct, frozen=True, kw_only=True):
    """What can be booked."""

    id: int = 2420858
    slug: str = "intake-30"
    title: str = "Intake"
    length_minutes: int = 30
    price: int = 0  # in cents; above 0 a booking waits for its payment
    requires_confirmation: bool = False
    seats: int | None = None


class Person(Struct, frozen=True, kw_only=True):
    """An attendee. `seat_uid` and `metadata` are a seat's."""

    name: str
    email: str
    phone: str | None = None
    time_zone: str = "Europe/Berlin"
    language: str = "de"
    absent: bool = False
    seat_uid: str | None = None
    metadata: Json = msgspec.field(default_factory=dict)


class Booking(Struct, frozen=True, kw_only=True):
    """A row, as it is at one moment; times are aware, UTC. `updated_at` may be NULL."""

    id: int
    uid: str
    user_id: int
    title: str
    event_type: EventType
    start: datetime
    end: datetime
    status: Status
    created_at: datetime
    updated_at: datetime | None
    attendees: tuple[Person, ...]
    location: str = "integrations:daily"
    metadata: Json = msgspec.field(default_factory=dict)
    cancellation_reason: str = ""
    cancelled_by: str = ""
    rejection_reason: str = ""
    from_uid: str | None = None
    to_uid: str | None = None
    rescheduled_by: str | None = None
    rescheduling_reason: str | None = None
    ical_uid: str = ""
    ical_sequence: int = 0
    series_uid: str | None = None
    occurrences: int = 1
    paid: bool = False
    absent_host: bool = False

    @property
    def alive(self) -> bool:
        """Tell whether it is neither cancelled nor rejected."""
        return self.status not in ("CANCELLED", "REJECTED")

    @property
    def call_url(self) -> str:
        """Give the address of its video call."""
        return f"https://app.cal.com/video/{self.uid}"


class Webhook(Struct, frozen=True, kw_only=True):
    """A subscription of a user's bookings."""

    id: str
    user_id: int
    subscriber_url: str
    triggers: tuple[str, ...]
    active: bool
    secret: str | None = None
    payload_template: str | None = None

    def __repr__(self) -> str:
        """Hide the secret."""
        return f"Webhook({self.id!r}, {self.subscriber_url!r}, active={self.active}, secret hidden)"
