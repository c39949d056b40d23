"""Events of the booking app. Every event carries the whole appointment."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from msgspec import Meta, Struct

Id = Annotated[str, Meta(min_length=1, max_length=200)]
Text = Annotated[str, Meta(max_length=1000)]
Instant = Annotated[datetime, Meta(tz=True)]


class AppointmentStatus(StrEnum):
    """What the booking app calls the state of an appointment."""

    SCHEDULED = "scheduled"
    PENDING = "pending"
    CONFIRMED = "confirmed"
    CANCELLED = "cancelled"
    COMPLETED = "completed"
    NO_SHOW = "no_show"


class Customer(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who comes. Any field may be unknown."""

    name: Text | None = None
    email: Text | None = None
    phone: Text | None = None


class Appointment(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The whole appointment as the app sees it; instants carry an offset."""

    id: Id
    starts_at: Instant
    status: AppointmentStatus
    ends_at: Instant | None = None
    time_zone: Text | None = None
    calcom_booking_uid: Id | None = None
    calcom_booking_id: int | None = None
    event_type_id: int | None = None
    origin: Text | None = None
    customer: Customer | None = None


class _Event(Struct, frozen=True, kw_only=True, tag_field="type"):
    id: Id
    occurred_at: Instant
    appointment: Appointment


class AppointmentCreated(_Event, frozen=True, kw_only=True, tag="appointment.created"):
    """An appointment was made in the app."""


class AppointmentUpdated(_Event, frozen=True, kw_only=True, tag="appointment.updated"):
    """Something about it changed."""


class AppointmentRescheduled(_Event, frozen=True, kw_only=True, tag="appointment.rescheduled"):
    """It was moved to another time."""


class AppointmentCancelled(_Event, frozen=True, kw_only=True, tag="appointment.cancelled"):
    """It was called off; the app still has it."""


class AppointmentDeleted(_Event, frozen=True, kw_only=True, tag="appointment.deleted"):
    """The app no longer has it."""


AppointmentEvent = (
    AppointmentCreated | AppointmentUpdated | AppointmentRescheduled | AppointmentCancelled | AppointmentDeleted
)
