"""Histories of events in a few letters, and the one function that folds them."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from msgspec.structs import replace

from schemas.appointments import (
    Appointment,
    AppointmentCancelled,
    AppointmentCreated,
    AppointmentDeleted,
    AppointmentEvent,
    AppointmentRescheduled,
    AppointmentStatus,
    AppointmentUpdated,
    Customer,
)
from schemas.bookings import Attendee, BookingEvent, BookingStatus
from schemas.flags import Flag
from schemas.verification import Question, Verdict, check_id
from services.reconciler.core.answers import Answer
from services.reconciler.core.decision import Decision
from services.reconciler.core.events import (
    Checked,
    DeadlineReached,
    Event,
    Heard,
    HeardAppointment,
    HeardBooking,
    PolicyChanged,
)
from services.reconciler.core.policy import Policy
from services.reconciler.core.record import Record
from services.reconciler.core.sides import appointment_facts, booking_facts
from services.reconciler.desk import Desk
from services.reconciler.ports import Changes, Loaded

NOW: Final = datetime(2026, 11, 24, 8, 0, tzinfo=UTC)
START: Final = NOW + timedelta(days=7)
POLICY: Final = Policy(window_seconds=300)

_KINDS: Final[dict[str, Callable[..., AppointmentEvent]]] = {
    "created": AppointmentCreated,
    "updated": AppointmentUpdated,
    "rescheduled": AppointmentRescheduled,
    "cancelled": AppointmentCancelled,
    "deleted": AppointmentDeleted,
}
_STATUSES: Final = {
    "BOOKING_CREATED": BookingStatus.ACCEPTED,
    "BOOKING_RESCHEDULED": BookingStatus.ACCEPTED,
    "BOOKING_REQUESTED": BookingStatus.PENDING,
    "BOOKING_REJECTED": BookingStatus.REJECTED,
    "BOOKING_CANCELLED": BookingStatus.CANCELLED,
    "BOOKING_PAYMENT_INITIATED": BookingStatus.PENDING,
}
#: What is said under a name that does not begin with BOOKING_.
_OTHER_TRIGGERS: Final = frozenset({"OBSERVED", "MEETING_STARTED", "MEETING_ENDED"})


def at(seconds: float) -> datetime:
    """Give a moment of the story: seconds after its beginning."""
    return NOW + timedelta(seconds=seconds)


def local(
    kind: str = "created",
    seconds: float = 0,
    appointment: str = "4711",
    *,
    received: float | None = None,
    **fields: Any,
) -> HeardAppointment:
    """Say that the app told something at a moment.

    `minutes` moves the start, `lasts` is the length in minutes; `email` and `phone` are the customer's.
    """
    minutes, lasts = fields.pop("minutes", 0), fields.pop("lasts", 30)
    status = fields.pop("status", "cancelled" if kind == "cancelled" else "confirmed")
    starts_at = START + timedelta(minutes=minutes)
    event_id = fields.pop("id", f"evt-{appointment}-{kind}-{seconds}")
    email, phone = fields.pop("email", "mia@example.com"), fields.pop("phone", None)
    body = Appointment(
        id=appointment,
        starts_at=starts_at,
        ends_at=starts_at + timedelta(minutes=lasts),
        status=AppointmentStatus(status),
        customer=Customer(name="Mia Patient", email=email, phone=phone),
        **fields,
    )
    event = _KINDS[kind](id=event_id, occurred_at=at(seconds), appointment=body)
    return HeardAppointment(at(seconds if received is None else received), event)


def calcom(
    trigger: str = "CREATED", seconds: float = 0, uid: str = "A", *, received: float | None = None, **fields: Any
) -> HeardBooking:
    """Say that Cal.com told something at a moment; `parent` is the uid that this one took the place of.

    A trigger that changes nothing is a fact. `minutes` moves the start, `lasts` is the length in minutes; `email` and
    `phone` are the booker's, `guests` the e-mails of who comes along.
    """
    name = trigger if trigger in _OTHER_TRIGGERS else f"BOOKING_{trigger}"
    starts_at = START + timedelta(minutes=fields.pop("minutes", 0))
    event_id = f"cal-{uid}-{fields.get('seat', '')}-{trigger}-{seconds}"
    booker = Attendee(name="Mia Patient", email=fields.pop("email", "mia@example.com"), phone=fields.pop("phone", None))
    marks = {"PAYMENT_INITIATED": {"unpaid": True}, "PAID": {"paid": True}}.get(trigger, {})
    status = fields.pop("status", _STATUSES.get(name))
    event = BookingEvent(
        event_id=fields.pop("id", event_id),
        trigger=name,
        occurred_at=at(seconds),
        uid=uid,
        status=None if status is None else BookingStatus(status),
        starts_at=starts_at,
        ends_at=starts_at + timedelta(minutes=fields.pop("lasts", 30)),
        parent_uid=fields.pop("parent", None),
        attendees=(booker, *(Attendee(email=guest) for guest in fields.pop("guests", ()))),
        **(marks | fields),
    )
    return HeardBooking(at(seconds if received is None else received), event)


def checked(record: Record, verdict: str, seconds: float, *, number: int | None = None, reason: str = "") -> Checked:
    """Say that Cal.com answered the question about a record that is open (or that of a number), `seconds` in."""
    number = record.asked if number is None else number
    uid = booking_facts(record.chain).uid if record.chain else None
    if record.appointment and not record.chain:
        uid = appointment_facts(record.appointment).calcom_booking_uid
    answer = Answer(
        id=check_id(record.record_id, number),
        subject=record.anchor,
        number=number,
        observed_at=at(seconds),
        received_at=at(seconds),
        verdict=Verdict(verdict),
        reason=reason or verdict,
        uid=uid,
    )
    return Checked(answer)


class Story:
    """A company's records under a sequence of events, laid out on the desk as the worker does it."""

    def __init__(self, policy: Policy = POLICY) -> None:
        """Begin with nothing."""
        self.policy = policy
        self.desk = Desk(Loaded({}, {}, {}), Changes.begin(NOW, {}))
        self.flags: list[Flag] = []
        self.questions: list[Question] = []
        self.decisions: list[Decision] = []

    def tell(self, *events: Event) -> "Story":
        """Fold events in this order."""
        for event in events:
            decision = self.desk.fold("acme", event, self.policy, 0, NOW)
            self.flags.extend(decision.flags)
            self.questions.extend(question for _, question in decision.questions if question is not None)
            self.decisions.append(decision)
        return self

    @property
    def records(self) -> list[Record]:
        """Give every record there is."""
        return self.desk.records()

    def copy(self) -> "Story":
        """Give a story that goes on from here by itself, as after a batch was stored and loaded again."""
        other = Story(self.policy)
        desk = self.desk
        loaded = Loaded(dict(desk._clusters), dict(desk._records), dict(desk._of_record))
        other.desk = Desk(loaded, Changes.begin(NOW, {}))
        other.flags, other.decisions = list(self.flags), list(self.decisions)
        other.questions = list(self.questions)
        return other

    def laid(self) -> dict[Any, tuple[Record, ...]]:
        """Give all that the next event is decided by: two stories that lie alike go on alike."""
        return {
            cluster: tuple([replace(record, version=0) for record in records])
            for cluster, records in self.desk._records.items()
        }

    def live(self, events: Iterable[Heard], seconds: float) -> "Story":
        """Tell events as they came in, and let each deadline fire when its time is there; at last until a moment."""
        for event in sorted(events, key=lambda heard: heard.received_at):
            self.until((event.received_at - NOW).total_seconds()).tell(event)
        return self.until(seconds)

    def under(self, policy: Policy, seconds: float) -> "Story":
        """Let the company have other rules from a moment on."""
        self.policy = policy
        for ref in [("acme", record.record_id) for record in self.records]:
            self.decisions.append(self.desk.fold("acme", PolicyChanged(at(seconds)), policy, 0, at(seconds), [], [ref]))
        return self

    def until(self, seconds: float) -> "Story":
        """Let every deadline before a moment fire, both sides being read until then."""
        while due := [r for r in self.records if r.deadline_at is not None and r.deadline_at < at(seconds)]:
            first = min(due, key=lambda r: (r.deadline_at, r.record_id))
            self.tell(DeadlineReached(record_id=first.record_id, at=at(seconds), known_until=at(seconds)))
        return self

    @property
    def record(self) -> Record:
        """Give the only record there is."""
        (only,) = self.records
        return only


def fold(events: Iterable[Event], policy: Policy = POLICY) -> Story:
    """Fold a history from nothing."""
    return Story(policy).tell(*events)


def essence(story: Story) -> set[tuple[object, ...]]:
    """Give what must not depend on order or repetition: everything but counters, and what deadlines left behind."""
    return {
        (
            r.record_id,
            r.anchor,
            r.first_received_at,
            r.appointment,
            r.chain,
            r.rule,
            r.candidates,
            r.finding,
        )
        for r in story.records
    }


def ending(story: Story) -> set[tuple[object, ...]]:
    """Give the essence with status and open flag, for when all deadlines have fired."""
    flagged = {(r.record_id, r.status, r.flag.kind if r.flag else None) for r in story.records}
    return essence(story) | flagged


def repeated(heard: Heard, *, later: float) -> Heard:
    """Give the same event as received again, later."""
    return replace(heard, received_at=heard.received_at + timedelta(seconds=later))
