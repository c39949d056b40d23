"""The words in which the table of histories is written: how a record ends, and bodies in Cal.com's own shapes."""

from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import Any, Final, NamedTuple

from msgspec import Struct

from schemas.flags import Kind, SyncStatus
from services.reconciler.core.events import Heard, HeardAppointment, HeardBooking
from services.reconciler.core.matching import Rule
from services.reconciler.core.policy import Policy
from services.reconciler.core.record import Record
from services.reconciler.core.sides import uids
from services.reconciler.decode import decode
from tests.support import builders as b
from tests.support.history import START, at

MIA: Final = "mia@example.com"
TOM: Final = "tom@example.com"


class End(NamedTuple):
    """How a record ends. `booking` is the chain of uids, oldest first: `A>B`, of a seat `A#mia@example.com`."""

    appointment: str | None
    booking: str | None
    status: SyncStatus
    kind: Kind | None = None
    rule: Rule | None = None


def same(appointment: str, booking: str, rule: Rule = Rule.BOOKING) -> End:
    """Both sides, in agreement."""
    return End(appointment, booking, SyncStatus.SYNCED, None, rule)


def differ(appointment: str, booking: str, rule: Rule = Rule.BOOKING) -> End:
    """Both sides, in disagreement."""
    return End(appointment, booking, SyncStatus.FAILED, Kind.DATA_MISMATCH, rule)


def deleted(appointment: str, booking: str, rule: Rule = Rule.BOOKING) -> End:
    """A booking that lives on while the app has deleted its appointment."""
    return End(appointment, booking, SyncStatus.ORPHANED_CALCOM, Kind.ORPHANED_CALCOM, rule)


def alone(appointment: str | None = None, booking: str | None = None) -> End:
    """One side that lives, without the other."""
    if booking is None:
        return End(appointment, None, SyncStatus.ORPHANED_LOCAL, Kind.ORPHANED_LOCAL)
    return End(None, booking, SyncStatus.ORPHANED_CALCOM, Kind.ORPHANED_CALCOM)


def over(appointment: str | None = None, booking: str | None = None) -> End:
    """One side, to which nobody is coming (or that is nobody's business yet)."""
    return End(appointment, booking, SyncStatus.SYNCED)


def unclear(appointment: str | None = None, booking: str | None = None) -> End:
    """One side of those between which a human has to choose."""
    return End(appointment, booking, SyncStatus.FAILED, Kind.AMBIGUOUS_MATCH)


class Row(Struct, frozen=True, kw_only=True):
    """One history. `off`: its ending with the third rung off. `corrected`: the timeline has to say so."""

    events: tuple[Heard, ...]
    ends: frozenset[End]
    off: frozenset[End]
    flags: tuple[Kind, ...]
    policy: Policy
    corrected: bool

    def ending(self, policy: Policy) -> frozenset[End]:
        """Give what is expected under the row's policy, or under the same with the third rung off."""
        return self.ends if policy.match_by_attendee else self.off


Events = Sequence[Heard | Sequence[Heard]]


def flat(events: Events) -> Iterable[Heard]:
    """Give events one by one; an answer about several seats is several."""
    for event in events:
        if isinstance(event, HeardAppointment | HeardBooking):
            yield event
        else:
            yield from event


def end_of(record: Record) -> End:
    """Say how a record ended."""
    kind = record.finding.kind if record.finding else None
    appointment = record.appointment.appointment_id if record.appointment else None
    return End(appointment, _name(record), record.status, kind, record.rule)


def _name(record: Record) -> str | None:
    if not record.chain:
        return None
    seat = record.chain[-1].seat
    return ">".join(uids(record.chain)) + (f"#{seat}" if seat else "")


# --- bodies in Cal.com's shapes ---------------------------------------------------------------------------------


def number(uid: str) -> int:
    """Give a booking's number at Cal.com."""
    return 9000 + int.from_bytes(uid.encode(), "big") % 1000


def hook(
    build: Callable[..., b.Json], seconds: float = 1, uid: str = "A", *, minutes: float = 0, **options: Any
) -> HeardBooking:
    """Give a webhook: one of the builders' bodies, as decoded. `people` are the attendees' e-mails."""
    if "email" not in options:
        options["attendees"] = [b.attendee(email=one, phone=None) for one in options.pop("people", (MIA,))]
    starts_at = START + timedelta(minutes=minutes)
    options = {"booking_id": number(uid), "starts_at": starts_at, "created_at": at(seconds)} | options
    return said(build(uid, **options), seconds)


def moved(
    seconds: float, uid: str, old: str, build: Callable[..., b.Json] = b.booking_rescheduled, **options: Any
) -> HeardBooking:
    """Give a reschedule to a new uid, with the calendar's id of the first."""
    more: dict[str, Any] = {"old_uid": old, "old_booking_id": number(old), "iCalUID": "A@Cal.com"}
    return hook(build, seconds, uid, **(more | options))


def in_place(uid: str, *, booking_id: int, **options: Any) -> b.Json:
    """Give the body of a seated booking that its owner moved, under a number of its own."""
    return b.having(b.seats_moved(uid, **options), bookingId=booking_id)


def without_uid(uid: str, **options: Any) -> b.Json:
    """Give the body of a seat's move that names what it left and not where it went (cal.diy #10631)."""
    lost: dict[str, Any] = {"booking_id": None, "old_booking_id": None, "iCalUID": None}
    return b.having(b.booking_rescheduled(uid, **({"old_uid": uid} | options | lost)), uid=None)


def said(content: bytes | object, seconds: float) -> HeardBooking:
    """Decode a body that came through the door at a moment."""
    (one,) = decode(b.from_calcom(content, received_at=at(seconds)))
    assert isinstance(one, HeardBooking)
    return one


def flat_fact(body: b.Json, seconds: float) -> HeardBooking:
    """Decode a fact, said at a moment by Mia's booking."""
    return said(body | {"createdAt": b.z_ms(at(seconds)), "attendees": [b.attendee(email=MIA, phone=None)]}, seconds)


def observed(seconds: float, uid: str = "A", *, minutes: float = 0, **over: Any) -> list[Heard]:
    """Decode what Cal.com's API answered at a moment; one event a seat."""
    person = {"name": "Mia", "email": MIA, "timeZone": "Europe/Vienna", "language": "de"}
    more: b.Json = {"id": number(uid), "metadata": {}, "attendees": [person], "updatedAt": b.z_ms(at(seconds))}
    booking = b.api_booking(uid, starts_at=START + timedelta(minutes=minutes), **(more | over))
    found = decode(b.observed(b.observation(booking, observed_at=at(seconds)), received_at=at(seconds)))
    return [one for one in found if isinstance(one, HeardBooking)]


def told(seconds: float, kind: str = "created", **over: Any) -> HeardAppointment:
    """Decode an event of the app as it is written; `over` replaces keys of the appointment."""
    body = b.appointment_event(kind, occurred_at=at(seconds), starts_at=START, event_id=f"evt-{kind}-{seconds}")
    body["appointment"] |= {"customer": {"name": "Mia", "email": MIA, "phone": None}} | over
    (one,) = decode(b.from_app(body, received_at=at(seconds)))
    assert isinstance(one, HeardAppointment)
    return one


def meta(appointment: str = "4711") -> b.Json:
    """Give what the app adds when it books."""
    return {"appointment_id": appointment}
