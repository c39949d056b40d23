"""What can move a record, each kind of event with the times that it brings along."""

from datetime import datetime, timedelta
from typing import Final, final
from uuid import UUID

from msgspec import Struct

from schemas.appointments import AppointmentEvent
from schemas.bookings import BookingEvent
from schemas.commands import Command
from services.reconciler.core.answers import Answer

#: A producer's clock that runs ahead by more than this is not believed: such an event would win over all that
#: follow it until its time has come.
CLOCK_AHEAD_MAX: Final = timedelta(minutes=10)
#: Nor is one that says that it happened so long before it came: a clock that was never set would put its events
#: before all others for good.
CLOCK_BEHIND_MAX: Final = timedelta(days=366)

#: The trigger of a booking's event that is no webhook but an answer of Cal.com's API.
OBSERVED: Final = "OBSERVED"


@final
class HeardAppointment(Struct, frozen=True, array_like=True):
    """An event of the app and when it first came through the door."""

    received_at: datetime
    event: AppointmentEvent


@final
class HeardBooking(Struct, frozen=True, array_like=True):
    """An event of Cal.com and when it first came through the door."""

    received_at: datetime
    event: BookingEvent


Heard = HeardAppointment | HeardBooking


@final
class Commanded(Struct, frozen=True):
    """A command and when it came through the door."""

    received_at: datetime
    command: Command


@final
class Checked(Struct, frozen=True):
    """What Cal.com answered to a question about a record. The bookings that it found are events of their own."""

    answer: Answer

    @property
    def received_at(self) -> datetime:
        """Say when it was first heard of."""
        return self.answer.received_at


@final
class DeadlineReached(Struct, frozen=True, kw_only=True):
    """Every side is known to have been read until `known_until`; with the grounds, to be stored.

    `at` is the moment of the decision. The deadline fires only if `known_until` lies past it: a partner
    that came at the very moment of the deadline is in time.
    """

    record_id: UUID
    at: datetime
    known_until: datetime
    frontiers: dict[str, datetime] = {}
    offsets: dict[str, int] = {}
    #: Doors that fell silent and were waited for as long as one waits: what they hold may be missing.
    silent_doors: tuple[str, ...] = ()


@final
class PolicyChanged(Struct, frozen=True):
    """The company's rules are others now: its records are decided anew by them. `at`: when that was noticed."""

    at: datetime


Event = HeardAppointment | HeardBooking | Checked | Commanded | DeadlineReached | PolicyChanged


def order(heard: Heard) -> tuple[datetime, str]:
    """Give the place of an event in its side's history: (event time, event id), never arrival."""
    moment, received_at = heard.event.occurred_at, heard.received_at
    if moment > received_at:
        moment = min(moment, received_at + CLOCK_AHEAD_MAX)
    elif received_at - moment > CLOCK_BEHIND_MAX:
        moment = received_at - CLOCK_BEHIND_MAX
    return (moment, event_id(heard))


def event_id(event: Event) -> str:
    """Give the id under which an event's effects are explained."""
    # `type() is`, here and wherever every event passes: isinstance of a Struct goes through ABCMeta, ten times as slow.
    if type(event) is HeardAppointment:
        return event.event.id
    if type(event) is HeardBooking:
        return event.event.event_id
    if type(event) is Commanded:
        return event.command.id
    if type(event) is Checked:
        return event.answer.id
    return "deadline" if type(event) is DeadlineReached else "policy"
