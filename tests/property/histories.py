"""The table of histories: what comes of each, written by hand from the design and from how Cal.com behaves.

One row: a sentence, the events of both sides, how the records end when every deadline has fired, how they end with the
ladder's third rung off (where that differs), and which flags are raised meanwhile in real time (those that the ending
has, where nothing else is said). Bodies are Cal.com's own shapes where the shape matters (`hook`), else plain events.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

from schemas.flags import Kind
from schemas.rules import Waiting
from services.reconciler.core.events import Heard
from services.reconciler.core.matching import Rule
from services.reconciler.core.policy import Policy
from tests.property.telling import (
    MIA,
    TOM,
    End,
    Events,
    Row,
    alone,
    deleted,
    differ,
    flat,
    flat_fact,
    hook,
    in_place,
    meta,
    moved,
    number,
    observed,
    over,
    said,
    same,
    told,
    unclear,
    without_uid,
)  # fmt: skip
from tests.support import builders as b
from tests.support.history import POLICY, START, at, calcom, local

PHONE: Final = "+4915112345678"
A: Final[dict[str, Any]] = {"calcom_booking_uid": "A"}
B: Final[dict[str, Any]] = {"calcom_booking_uid": "B"}
NOBODY: Final[dict[str, Any]] = {"email": None}
DAY: Final = 86_400
WEEK: Final = 7 * 24 * 60  # minutes

BOOKING, METADATA, ATTENDEE = Rule.BOOKING, Rule.METADATA, Rule.ATTENDEE

TABLE: Final[dict[str, Row]] = {}


def row(
    says: str,
    events: Events,
    ends: Sequence[End],
    *,
    off: Sequence[End] | None = None,
    flags: Sequence[Kind] | None = None,
    policy: Policy = POLICY,
    corrected: bool = False,
) -> None:
    """Add a row. `flags` are raised in this order as time passes."""
    assert says not in TABLE, says
    expected = sorted([end.kind for end in ends if end.kind]) if flags is None else flags
    TABLE[says] = Row(
        events=tuple(flat(events)),
        ends=frozenset(ends),
        off=frozenset(ends if off is None else off),
        flags=tuple(expected),
        policy=policy,
        corrected=corrected,
    )


# --- the rungs of the ladder ------------------------------------------------------------------------------------

APART: Final = [alone("4711"), alone(None, "A")]

row("the app names the booking's uid", [local(**A), hook(b.booking_created)], [same("4711", "A")])
row(
    "the app names the booking's number alone",
    [local(calcom_booking_id=number("A")), hook(b.booking_created)],
    [same("4711", "A")],
)
row(
    "the booking's metadata names the appointment",
    [local(**NOBODY), hook(b.booking_created, metadata=meta())],
    [same("4711", "A", METADATA)],
)
row(
    "the same person at the same time",
    [local(), hook(b.booking_created)],
    [same("4711", "A", ATTENDEE)],
    off=APART,
)
row(
    "the app learns the uid from Cal.com's answer, a moment after",
    [local(), hook(b.booking_created), local("updated", 2, **A)],
    [same("4711", "A")],
)
row(
    "a phone as people dial it at home, and as Cal.com writes it",
    [local(email=None, phone="0151 123 45678"), calcom(seconds=1, email="x@example.org", phone="+4915112345678")],
    [same("4711", "A", ATTENDEE)],
    off=APART,
)
row(
    "a phone at home in another country",
    [local(email=None, phone="0664 1234567"), calcom(seconds=1, email="x@example.org", phone="+436641234567")],
    [same("4711", "A", ATTENDEE)],
    off=APART,
    policy=Policy(window_seconds=300, country="AT"),
)
row(
    "Cal.com's made-up address of someone who left a phone alone",
    [
        local(email=None, phone="+49 151 12345678"),
        hook(b.booking_created, email="", attendees=[b.phone_only_attendee("+4915112345678") | {"phoneNumber": None}]),
    ],
    [same("4711", "A", ATTENDEE)],
    off=APART,
)
row(
    "dots and what follows the plus, where the provider ignores them",
    [local(email="m.i.a+praxis@googlemail.com"), calcom(seconds=1, email="Mia@gmail.com")],
    [same("4711", "A", ATTENDEE)],
    off=APART,
)
row(
    "what follows the plus is another person at a company's own domain",
    [local(email="praxis+mia@firma.example"), calcom(seconds=1, email="praxis+tom@firma.example")],
    APART,
)
row(
    "the client's id that Cal.com's platform puts into an address",
    [local(email="Mia@Firma.Example "), calcom(seconds=1, email="mia+clxyzabc0123456789abcdef0@firma.example")],
    [same("4711", "A", ATTENDEE)],
    off=APART,
)
row(
    "the patient is the second of several who come",
    [local(email=TOM), hook(b.booking_created, people=(MIA, TOM))],
    [same("4711", "A", ATTENDEE)],
    off=APART,
)
row(
    "59 seconds apart is the same start",
    [local(), calcom(seconds=1, minutes=59 / 60)],
    [same("4711", "A", ATTENDEE)],
    off=APART,
)
row(
    "60 seconds apart is the same start, though the buckets of the index lie between",
    [local(minutes=2.2), calcom(seconds=1, minutes=3.2)],
    [same("4711", "A", ATTENDEE)],
    off=APART,
)
row("61 seconds apart is another start", [local(), calcom(seconds=1, minutes=61 / 60)], APART)
row("another person at the same time", [local(email=TOM), hook(b.booking_created)], APART)
row("nobody is named in the app", [local(**NOBODY), hook(b.booking_created)], APART)
row(
    "an appointment that names another booking is not matched by person",
    [local(calcom_booking_uid="X"), hook(b.booking_created)],
    APART,
)
row(
    "a booking that names another appointment is not matched by person",
    [local(), hook(b.booking_created, metadata=meta("4712"))],
    APART,
)
row(
    "two appointments of one person on one day",
    [local(appointment="1"), local(seconds=1, appointment="2", minutes=60), calcom(seconds=2),
     calcom(seconds=3, uid="B", minutes=60)],
    [same("1", "A", ATTENDEE), same("2", "B", ATTENDEE)],
    off=[alone("1"), alone("2"), alone(None, "A"), alone(None, "B")],
)  # fmt: skip

row(
    "another address, and the same phone",
    [local(email="m@work.example", phone="+4915112345678"), calcom(seconds=1, phone="+49 151 12345678")],
    [same("4711", "A", ATTENDEE)],
    off=APART,
)
row(
    "the appointment is told after the booking has moved to its time",
    [moved(0, "B", "A", minutes=30), local(seconds=1, minutes=30)],
    [same("4711", "A>B", ATTENDEE)],
    off=[alone("4711"), alone(None, "A>B")],
)
row(
    "matched by person, and then deleted in the app",
    [local(), calcom(seconds=1), local("deleted", 60)],
    [deleted("4711", "A", ATTENDEE)],
    off=[over("4711"), alone(None, "A")],
)
row(
    "deleted, and made anew under another number without a link",
    [local(), calcom(seconds=1), local("deleted", 60), local(seconds=61, appointment="4712")],
    [same("4712", "A", ATTENDEE), over("4711")],
    off=[alone("4712"), over("4711"), alone(None, "A")],
)

row(
    "the app learns who comes after the appointment was made",
    [local(**NOBODY), calcom(seconds=1), local("updated", 60)],
    [same("4711", "A", ATTENDEE)],
    off=APART,
)
row(
    "Cal.com tells who comes when it is asked",
    [local(), said(b"event=BOOKING_CREATED&uid=A&status=ACCEPTED&startTime=" + b.z(START).encode(), 1), observed(60)],
    [same("4711", "A", ATTENDEE)],
    off=APART,
)
row(
    "the app corrects a time that was mistyped",
    [local(minutes=30), calcom(seconds=1), local("updated", 20)],
    [same("4711", "A", ATTENDEE)],
    off=APART,
)
row(
    "of two appointments of a person one names the only booking",
    [local(appointment="1", **A), local(seconds=1, appointment="2"), hook(b.booking_created)],
    [same("1", "A"), alone("2")],
)
row(
    "of two appointments of a person one names its booking, and the other one is left",
    [local(appointment="1", **A), local(seconds=1, appointment="2"), calcom(seconds=1), calcom(seconds=2, uid="B")],
    [same("1", "A"), same("2", "B", ATTENDEE)],
    off=[same("1", "A"), alone("2"), alone(None, "B")],
)
row(
    "matched by person, called off on both sides, and booked again for the same time",
    [local(appointment="1"), calcom(seconds=1), local("cancelled", 60, "1"), calcom("CANCELLED", 61),
     local(seconds=7200, appointment="2"), calcom(seconds=7201, uid="B")],
    [same("1", "A", ATTENDEE), same("2", "B", ATTENDEE)],
    off=[over("1"), alone("2"), over(None, "A"), alone(None, "B")],
)  # fmt: skip
row(
    "matched by person, called off on both sides, and booked again within the window",
    [local(appointment="1"), calcom(seconds=1), local("cancelled", 60, "1"), calcom("CANCELLED", 61),
     local(seconds=90, appointment="2"), calcom(seconds=91, uid="B")],
    [same("1", "A", ATTENDEE), same("2", "B", ATTENDEE)],
    off=[over("1"), alone("2"), over(None, "A"), alone(None, "B")],
)  # fmt: skip
row(
    "called off at Cal.com, and by telephone booked anew at Cal.com for the same appointment",
    [local(), calcom(seconds=1), calcom("CANCELLED", 60), calcom(seconds=120, uid="B")],
    [same("4711", "B", ATTENDEE), over(None, "A")],
    off=[alone("4711"), over(None, "A"), alone(None, "B")],
)
row(
    "called off in the app, and made anew in the app for the same booking",
    [local(), calcom(seconds=1), local("cancelled", 60), local(seconds=120, appointment="4712")],
    [same("4712", "A", ATTENDEE), over("4711")],
    off=[over("4711"), alone("4712"), alone(None, "A")],
)

# --- two candidates ---------------------------------------------------------------------------------------------

row(
    "two appointments fit one booking",
    [local(appointment="1"), local(seconds=1, appointment="2"), hook(b.booking_created, 2)],
    [unclear("1"), unclear("2"), unclear(None, "A")],
    off=[alone("1"), alone("2"), alone(None, "A")],
)
row(
    "two bookings fit one appointment",
    [local(), hook(b.booking_created, 1), hook(b.booking_created, 2, "B")],
    [unclear("4711"), unclear(None, "A"), unclear(None, "B")],
    off=[alone("4711"), alone(None, "A"), alone(None, "B")],
)
row(
    "the same person twice at the same time on both sides",
    [local(appointment="1"), local(seconds=1, appointment="2"), calcom(seconds=2), calcom(seconds=3, uid="B")],
    [unclear("1"), unclear("2"), unclear(None, "A"), unclear(None, "B")],
    off=[alone("1"), alone("2"), alone(None, "A"), alone(None, "B")],
)
row(
    "of two that fit one names its booking, and the choice is made",
    [local(appointment="1"), local(seconds=1, appointment="2"), calcom(seconds=2), calcom(seconds=3, uid="B"),
     local("updated", 4, "2", **A)],
    [same("1", "B", ATTENDEE), same("2", "A")],
    off=[alone("1"), same("2", "A"), alone(None, "B")],
)  # fmt: skip
row(
    "of two bookings that fit one names the appointment",
    [local(), calcom(seconds=1), calcom(seconds=2, uid="B", appointment_id="4711")],
    [same("4711", "B", METADATA), alone(None, "A")],
)
row(
    "of two appointments that fit one was called off",
    [local(appointment="1"), local("cancelled", 1, "1"), local(seconds=2, appointment="2"), calcom(seconds=3)],
    [same("2", "A", ATTENDEE), over("1")],
    off=[alone("2"), over("1"), alone(None, "A")],
)
row(
    "a double booking of which one is called off",
    [local(), calcom(seconds=1), calcom(seconds=2, uid="B"), calcom("CANCELLED", 60, "B")],
    [same("4711", "A", ATTENDEE), over(None, "B")],
    off=[alone("4711"), alone(None, "A"), over(None, "B")],
)
row(
    "two appointments that name one booking",
    [local(appointment="1", **A), local(seconds=1, appointment="2", **A), hook(b.booking_created, 2)],
    [unclear("1"), unclear("2"), unclear(None, "A")],
)
row(
    "two appointments named one booking, and one of them was called off",
    [local(appointment="1", **A), local(seconds=1, appointment="2", **A), calcom(seconds=2),
     local("cancelled", 30, "2", **A)],
    [same("1", "A"), over("2")],
)  # fmt: skip

row(
    "two bookings that name one appointment: the one at its time is meant",
    [local(**NOBODY), calcom(seconds=1, appointment_id="4711"),
     calcom(seconds=2, uid="B", minutes=60, appointment_id="4711")],
    [same("4711", "A", METADATA), alone(None, "B")],
)  # fmt: skip
row(
    "two bookings that name one appointment, and the API says that one took the place of the other",
    [local(minutes=60, **NOBODY), hook(b.booking_created, metadata=meta()),
     hook(b.booking_created, 2, "B", minutes=60, metadata=meta(), iCalUID=None),
     observed(60, status="cancelled", rescheduledToUid="B")],
    [same("4711", "A>B", METADATA)],
)  # fmt: skip
row(
    "siblings with one phone at the same time: a human decides",
    [local(appointment="1", phone=PHONE), local(seconds=1, appointment="2", email=TOM, phone=PHONE),
     calcom(seconds=2, phone=PHONE), calcom(seconds=3, uid="B", email=TOM, phone=PHONE)],
    [unclear("1"), unclear("2"), unclear(None, "A"), unclear(None, "B")],
    off=[alone("1"), alone("2"), alone(None, "A"), alone(None, "B")],
)  # fmt: skip
row(
    "two fit, the wait is over, and one of them is called off",
    [local(appointment="1"), local(seconds=1, appointment="2"), calcom(seconds=2), local("cancelled", 3600, "1")],
    [same("2", "A", ATTENDEE), over("1")],
    off=[alone("2"), over("1"), alone(None, "A")],
    flags=[Kind.AMBIGUOUS_MATCH] * 3,
)

row(
    "two fit, the wait is over, and the app names the booking of one",
    [local(appointment="1"), local(seconds=1, appointment="2"), calcom(seconds=2), local("updated", 3600, "1", **A)],
    [same("1", "A"), alone("2")],
    flags=[Kind.AMBIGUOUS_MATCH] * 3 + [Kind.ORPHANED_LOCAL],
)
row(
    "a request that waits beside a booking that was accepted: a human decides",
    [local(), hook(b.booking_requested, 1), hook(b.booking_created, 2, "B")],
    [unclear("4711"), unclear(None, "A"), unclear(None, "B")],
    off=[alone("4711"), alone(None, "A"), alone(None, "B")],
)
row(
    "refused, and asked for anew",
    [local(**NOBODY), hook(b.booking_requested, metadata=meta()), hook(b.booking_rejected, 60),
     hook(b.booking_requested, 90, "B", metadata=meta()), hook(b.confirmed_later, 120, "B")],
    [same("4711", "B", METADATA), over(None, "A")],
)  # fmt: skip
row(
    "the app names a booking whose metadata names another appointment",
    [local(**A), local(seconds=1, appointment="4712", email=TOM), hook(b.booking_created, 2, metadata=meta("4712"))],
    [same("4711", "A"), alone("4712")],
)
row(
    "a meeting that began, of an old booking of the same person, is no second candidate",
    [local(), calcom(seconds=1), calcom("MEETING_STARTED", 2, "Z")],
    [same("4711", "A", ATTENDEE), over(None, "Z")],
    off=[*APART, over(None, "Z")],
)

# --- a stronger key corrects a weaker one -----------------------------------------------------------------------

row(
    "a booking that was matched by person belongs to another",
    [local(), calcom(seconds=1), local(seconds=2, appointment="4712", email=TOM, **A)],
    [alone("4711"), same("4712", "A")],
    corrected=True,
)
row(
    "an appointment that was matched by person has another booking",
    [local(), calcom(seconds=1), calcom(seconds=2, uid="B", minutes=0, appointment_id="4711", email=TOM)],
    [same("4711", "B", METADATA), alone(None, "A")],
    corrected=True,
)
row(
    "two that were matched by person change partners",
    [local(appointment="1"), calcom(seconds=1, uid="X"), local(seconds=2, appointment="2", minutes=60),
     calcom(seconds=3, uid="Y", minutes=60), local("updated", 4, "1", calcom_booking_uid="Y"),
     local("updated", 5, "2", minutes=60, calcom_booking_uid="X")],
    [differ("1", "Y"), differ("2", "X")],
    corrected=True,
)  # fmt: skip
row(
    "a name in the metadata that the app's own word corrects",
    [local(), calcom(seconds=1, uid="X", appointment_id="4711"), local("updated", 5, calcom_booking_uid="Y"),
     calcom(seconds=6, uid="Y"), local(seconds=7, appointment="4712", calcom_booking_uid="X")],
    [same("4711", "Y"), same("4712", "X")],
)  # fmt: skip
row(
    "the strong key only confirms what was matched by person",
    [local(), calcom(seconds=1), local("updated", 60, **A), calcom("CANCELLED", 100), local("cancelled", 101, **A)],
    [same("4711", "A")],
)

# --- matched by person, then one side moves ---------------------------------------------------------------------

row(
    "matched by person, moved at Cal.com alone",
    [local(), hook(b.booking_created), moved(60, "B", "A", minutes=30)],
    [differ("4711", "A>B", ATTENDEE)],
    off=[alone("4711"), alone(None, "A>B")],
)
row(
    "matched by person, moved in the app alone",
    [local(), calcom(seconds=1), local("rescheduled", 60, minutes=30)],
    [differ("4711", "A", ATTENDEE)],
    off=APART,
)
row(
    "matched by person, moved on both sides",
    [local(), hook(b.booking_created), moved(60, "B", "A", minutes=30), local("rescheduled", 62, minutes=30)],
    [same("4711", "A>B", ATTENDEE)],
    off=[alone("4711"), alone(None, "A>B")],
)
row(
    "matched by person, called off in the app alone",
    [local(), calcom(seconds=1), local("cancelled", 60)],
    [differ("4711", "A", ATTENDEE)],
    off=[over("4711"), alone(None, "A")],
)
row(
    "matched by person, called off at Cal.com alone",
    [local(), calcom(seconds=1), hook(b.booking_cancelled, 60)],
    [differ("4711", "A", ATTENDEE)],
    off=[alone("4711"), over(None, "A")],
)
row(
    "matched by person, called off on both sides",
    [local(), calcom(seconds=1), hook(b.booking_cancelled, 60), local("cancelled", 61)],
    [same("4711", "A", ATTENDEE)],
    off=[over("4711"), over(None, "A")],
)
row(
    "matched by person, whose address changes in the app later",
    [local(), calcom(seconds=1), local("updated", 3600, email="mia@new.example")],
    [same("4711", "A", ATTENDEE)],
    off=APART,
)
row(
    "a booking made at the time that an appointment had an hour ago is another's",
    [local(), local("rescheduled", 60, minutes=60), calcom(seconds=3660)],
    APART,
)
row(
    "matched by person though the app's clock is three days behind",
    [local(seconds=-3 * DAY, received=0), calcom(seconds=1)],
    [same("4711", "A", ATTENDEE)],
    off=APART,
)
row(
    "matched by person, moved in the app alone, whose clock is an hour behind",
    [local(seconds=-3600, received=0), calcom(seconds=1), local("rescheduled", -2700, minutes=30, received=900)],
    [differ("4711", "A", ATTENDEE)],
    off=APART,
)
row(
    "matched by person, moved at Cal.com alone, while the app's clock is five minutes ahead and more",
    [local(seconds=400, received=0), calcom(seconds=1), calcom("RESCHEDULED", 60, "B", parent="A", minutes=30)],
    [differ("4711", "A>B", ATTENDEE)],
    off=[alone("4711"), alone(None, "A>B")],
)
row(
    "one of two appointments of a person moves, the other stays",
    [local(appointment="1"), local(seconds=1, appointment="2", minutes=60), calcom(seconds=2),
     calcom(seconds=3, uid="B", minutes=60), calcom("RESCHEDULED", 3600, "C", parent="A", minutes=120),
     local("rescheduled", 3602, "1", minutes=120)],
    [same("1", "A>C", ATTENDEE), same("2", "B", ATTENDEE)],
    off=[alone("1"), alone("2"), alone(None, "A>C"), alone(None, "B")],
)  # fmt: skip

# --- chains -----------------------------------------------------------------------------------------------------

row(
    "moved once, the app names the first uid and follows",
    [local(**A), hook(b.booking_created), moved(60, "B", "A", minutes=30), local("rescheduled", 62, minutes=30, **A)],
    [same("4711", "A>B")],
)
row(
    "moved once at Cal.com alone",
    [local(**A), hook(b.booking_created), moved(60, "B", "A", minutes=30)],
    [differ("4711", "A>B")],
)
row(
    "moved three times, the app names the first uid",
    [local(**A), hook(b.booking_created), moved(60, "B", "A", minutes=30), moved(120, "C", "B", minutes=60),
     moved(180, "D", "C", minutes=90), local("rescheduled", 182, minutes=90, **A)],
    [same("4711", "A>B>C>D")],
)  # fmt: skip
row(
    "moved three times, the app names the last uid",
    [hook(b.booking_created), moved(60, "B", "A", minutes=30), moved(120, "C", "B", minutes=60),
     moved(180, "D", "C", minutes=90), local(seconds=182, minutes=90, calcom_booking_uid="D")],
    [same("4711", "A>B>C>D")],
)  # fmt: skip
row(
    "moved by the booking page, which drops the metadata",
    [local(**NOBODY), hook(b.booking_created, metadata=meta()), moved(60, "B", "A", minutes=30),
     local("rescheduled", 61, minutes=30, **NOBODY)],
    [same("4711", "A>B", METADATA)],
)  # fmt: skip
row(
    "moved by the API, which passes the metadata on",
    [local(**NOBODY), hook(b.booking_created, metadata=meta()), moved(60, "B", "A", minutes=30, metadata=meta()),
     local("rescheduled", 61, minutes=30, **NOBODY)],
    [same("4711", "A>B", METADATA)],
)  # fmt: skip
row(
    "a move whose body has lost the number of the old booking",
    [local(calcom_booking_id=number("A")), hook(b.booking_created),
     moved(60, "B", "A", minutes=30, old_booking_id=None, iCalUID=None), local("rescheduled", 62, minutes=30)],
    [same("4711", "A>B")],
)  # fmt: skip
row(
    "a move that names the old booking by its number alone",
    [local(**A), hook(b.booking_created), moved(60, "B", "A", minutes=30, rescheduleUid=None, iCalUID=None),
     local("rescheduled", 62, minutes=30, **A)],
    [same("4711", "A>B")],
)  # fmt: skip
row(
    "the webhook of the first booking was lost",
    [local(**A), moved(60, "B", "A", minutes=30), local("rescheduled", 62, minutes=30, **A)],
    [same("4711", "A>B")],
)
row(
    "the webhook in the middle of a chain was lost, and the calendar's id still tells",
    [local(**A), hook(b.booking_created), moved(120, "C", "B", minutes=60), local("rescheduled", 122, minutes=60, **A)],
    [same("4711", "A>B>C")],
)
row(
    "moved away and back again",
    [local(**A), hook(b.booking_created), moved(60, "B", "A", minutes=30), moved(120, "C", "B")],
    [same("4711", "A>B>C")],
)
row(
    "moved, then called off on both sides",
    [local(**A), hook(b.booking_created), moved(60, "B", "A", minutes=30), hook(b.booking_cancelled, 120, "B"),
     local("cancelled", 122, **A)],
    [same("4711", "A>B")],
)  # fmt: skip
row(
    "the old uid of a chain is called off at last: the new one lives",
    [local(**A), hook(b.booking_created), moved(60, "B", "A"), hook(b.booking_cancelled, 61)],
    [same("4711", "A>B")],
)
row(
    "a move that waits for the host's word and names what it takes the place of",
    [local(**A), hook(b.booking_created), moved(60, "B", "A", b.booking_rescheduled, minutes=30)],
    [differ("4711", "A>B")],
)
row(
    "a move is asked for, and confirmed",
    [local(**A), hook(b.booking_created),
     hook(b.booking_requested, 60, "B", minutes=30, rescheduleUid="A", iCalUID="A@Cal.com"),
     local("rescheduled", 61, minutes=30, status="pending", **A), hook(b.confirmed_later, 120, "B", minutes=30),
     local("updated", 121, minutes=30, **A)],
    [same("4711", "A>B")],
)  # fmt: skip
row(
    "a move is asked for without naming what it takes the place of: the calendar's id tells",
    [local(**A), hook(b.booking_created), hook(b.booking_requested, 60, "B", minutes=30, iCalUID="A@Cal.com"),
     local("rescheduled", 61, minutes=30, status="pending", **A), hook(b.confirmed_later, 120, "B", minutes=30),
     local("updated", 121, minutes=30, **A)],
    [same("4711", "A>B")],
)  # fmt: skip
row(
    "a move is asked for and refused: nobody is coming, and the app knows",
    [local(**A), hook(b.booking_created), hook(b.booking_requested, 60, "B", minutes=30, rescheduleUid="A"),
     hook(b.booking_rejected, 120, "B", minutes=30), local("cancelled", 121, **A)],
    [same("4711", "A>B")],
)  # fmt: skip
row(
    "a move is asked for and refused, and the app goes on as if nothing were",
    [local(**A), hook(b.booking_created), hook(b.booking_requested, 60, "B", minutes=30, rescheduleUid="A"),
     hook(b.booking_rejected, 120, "B", minutes=30)],
    [differ("4711", "A>B")],
)  # fmt: skip
row(
    "the app calls off and books anew under the same appointment",
    [local(), calcom(seconds=1, uid="X", appointment_id="4711"), calcom("CANCELLED", 10, "X"),
     calcom(seconds=20, uid="Y", appointment_id="4711"), local("updated", 21, calcom_booking_uid="Y")],
    [same("4711", "Y"), over(None, "X")],
)  # fmt: skip
row(
    "called off and booked anew, and only the metadata tells",
    [local(), calcom(seconds=1, uid="X", appointment_id="4711"), calcom("CANCELLED", 10, "X"),
     calcom(seconds=20, uid="Y", appointment_id="4711")],
    [same("4711", "Y", METADATA), over(None, "X")],
)  # fmt: skip

row(
    "the app calls off the old appointment and makes a new one where Cal.com moves",
    [local(**A), hook(b.booking_created), moved(60, "B", "A", minutes=30), local("cancelled", 61, **A),
     local("created", 62, "4712", minutes=30, **B)],
    [same("4712", "A>B"), over("4711")],
)  # fmt: skip
row(
    "the app makes a new appointment where Cal.com moves, and keeps the old one",
    [local(**A), hook(b.booking_created), moved(60, "B", "A", minutes=30),
     local("created", 62, "4712", minutes=30, **B)],
    [same("4712", "A>B"), alone("4711")],
)  # fmt: skip
row(
    "the appointment's uid becomes another's, and the old booking was not called off",
    [local(**A), hook(b.booking_created), hook(b.booking_created, 60, "B", minutes=30),
     local("rescheduled", 61, minutes=30, **B)],
    [same("4711", "B"), alone(None, "A")],
)  # fmt: skip
row(
    "deleted, and made anew under another number that names the booking",
    [local(**A), hook(b.booking_created), local("deleted", 60, **A), local("created", 61, "4712", **A)],
    [same("4712", "A"), over("4711")],
)
row(
    "moved under its old uid",
    [local(**A), hook(b.booking_created), hook(b.booking_rescheduled, 60, minutes=30, old_uid="A",
     old_booking_id=number("A")), local("rescheduled", 61, minutes=30, **A)],
    [same("4711", "A")],
)  # fmt: skip
row(
    "called off on both sides, and brought back in the app alone",
    [local(**A), hook(b.booking_created), hook(b.booking_cancelled, 60), local("cancelled", 61, **A),
     local("updated", 120, **A)],
    [differ("4711", "A")],
)  # fmt: skip
row("asked for in the app, and Cal.com knows nothing", [local(status="pending", **A)], [alone("4711")])
row(
    "the new uid of a chain is known from a fact alone",
    [local(**A), hook(b.booking_created), flat_fact(b.meeting_started("B", booking_id=number("B"),
     starts_at=START + 3 * b.HALF_AN_HOUR) | {"fromReschedule": "A"}, 9000),
     local("rescheduled", 60, minutes=90, **A)],
    [same("4711", "A>B")],
    flags=[Kind.DATA_MISMATCH],  # until the fact comes
)  # fmt: skip

# --- what the API answered --------------------------------------------------------------------------------------

row(
    "only an observation knows where a booking went",
    [local(**A), hook(b.booking_created), observed(60, status="cancelled", rescheduledToUid="B")],
    [same("4711", "A>B")],
)
row(
    "an observation links two uids that no webhook linked",
    [local(**A), hook(b.booking_created), observed(90, status="cancelled", rescheduledToUid="B"),
     hook(b.booking_created, 60, "B", minutes=30), local("rescheduled", 61, minutes=30, **A)],
    [same("4711", "A>B")],
)  # fmt: skip
row(
    "an observation of the new booking says what it came from",
    [local(**A), hook(b.booking_created), observed(60, "B", minutes=30, rescheduledFromUid="A", icsUid=""),
     local("rescheduled", 61, minutes=30, **A)],
    [same("4711", "A>B")],
)  # fmt: skip
row(
    "the webhook never came and the API has the booking",
    [local(**A), observed(60)],
    [same("4711", "A")],
)
row(
    "the webhook of the cancellation never came and the API knows of it",
    [local(**A), hook(b.booking_created), local("cancelled", 60, **A), observed(120, status="cancelled")],
    [same("4711", "A")],
)
row(
    "a booking that waits for a host is there",
    [local(**A), observed(60, status="awaiting_host")],
    [same("4711", "A")],
)
row(
    "another host and a guest beside: the same booking",
    [local(**A), hook(b.booking_created),
     observed(60, hosts=[{"id": 5, "name": "Dr. Who", "email": "who@example.org", "timeZone": "UTC"}],
              attendees=[{"name": "Mia", "email": MIA}, {"name": "Tom", "email": TOM}])],
    [same("4711", "A")],
)  # fmt: skip

row(
    "the API's copy has not seen a cancellation yet",
    [local(**A), hook(b.booking_created), hook(b.booking_cancelled, 60), local("cancelled", 61, **A),
     observed(62, updatedAt=b.z_ms(at(1)))],
    [same("4711", "A")],
)  # fmt: skip
row(
    "the API's copy has not seen a cancellation yet, and does not say of when it is",
    [local(**A), hook(b.booking_created), hook(b.booking_cancelled, 60), local("cancelled", 61, **A),
     observed(62, updatedAt=None, createdAt=b.z_ms(at(1)))],
    [same("4711", "A")],
)  # fmt: skip
row(
    "confirmed through the API, and the webhook says that it still waits",
    [local(**A), hook(b.booking_requested), hook(b.booking_requested, 60), observed(90)],
    [same("4711", "A")],
)
row(
    "a webhook built at its delivery says already that the booking went away",
    [local(**A), hook(b.booking_created, status="CANCELLED"), moved(60, "B", "A", minutes=30),
     local("rescheduled", 61, minutes=30, **A)],
    [same("4711", "A>B")],
)  # fmt: skip

# --- the host asks for another time -----------------------------------------------------------------------------

RECALL: Final[dict[str, Any]] = {"requestReschedule": True}
row(
    "the host asks for another time, and the app waits",
    [local(**A), hook(b.booking_created), hook(b.booking_cancelled, 60, **RECALL),
     local("updated", 61, status="pending", **A)],
    [same("4711", "A")],
)  # fmt: skip
row(
    "the host asks for another time, and the app calls it off",
    [local(**A), hook(b.booking_created), hook(b.booking_cancelled, 60, **RECALL), local("cancelled", 61, **A)],
    [same("4711", "A")],
)
row(
    "the host asks for another time, and the app never learns",
    [local(**A), hook(b.booking_created), hook(b.booking_cancelled, 60, **RECALL)],
    [differ("4711", "A")],
)
row(
    "the host asks for another time, hours later a linked booking follows",
    [local(**A), hook(b.booking_created), hook(b.booking_cancelled, 60, **RECALL), moved(9000, "B", "A", minutes=30),
     local("rescheduled", 9002, minutes=30, **A)],
    [same("4711", "A>B")],
)  # fmt: skip
row(
    "the host asks for another time, hours later an unlinked booking follows",
    [local(**A), hook(b.booking_created), hook(b.booking_cancelled, 60, **RECALL),
     hook(b.booking_created, 9000, "B", minutes=30), local("rescheduled", 9002, minutes=30, **A)],
    [same("4711", "A>B")],
)  # fmt: skip
row(
    "the host asks for another time, and two unlinked bookings follow: the app says which",
    [local(**A), hook(b.booking_created), hook(b.booking_cancelled, 60, **RECALL),
     hook(b.booking_created, 90, "B", minutes=30), hook(b.booking_created, 95, "C", minutes=60),
     local("rescheduled", 96, minutes=30, **B), local("created", 97, "4712", minutes=60, calcom_booking_uid="C")],
    [same("4711", "A>B"), same("4712", "C")],
)  # fmt: skip
row(
    "the host asks for another time, and what follows is another person's",
    [local(**A), hook(b.booking_created), hook(b.booking_cancelled, 60, **RECALL), local("cancelled", 61, **A),
     hook(b.booking_created, 90, "B", minutes=30, people=(TOM,)),
     local("created", 91, "4712", minutes=30, email=TOM, **B)],
    [same("4711", "A"), same("4712", "B")],
)  # fmt: skip
row(
    "a booking that the host asks to move, and of which the app has nothing",
    [hook(b.booking_created), hook(b.booking_cancelled, 60, **RECALL)],
    [over(None, "A")],
)

row(
    "the host asks for another time, and an unlinked booking follows that names the appointment",
    [local(**A), hook(b.booking_created), hook(b.booking_cancelled, 60, **RECALL),
     hook(b.booking_created, 9000, "B", minutes=30, metadata=meta())],
    [differ("4711", "A>B")],
)  # fmt: skip
row(
    "the host asks for another time, and the app makes a new appointment for what follows",
    [local(**A), hook(b.booking_created), hook(b.booking_cancelled, 60, **RECALL), local("cancelled", 61, **A),
     moved(120, "B", "A", minutes=30), local("created", 121, "4712", minutes=30, **B)],
    [same("4712", "A>B"), over("4711")],
)  # fmt: skip
row(
    "the host asks for another time, and the app makes a new appointment for an unlinked booking",
    [local(**A), hook(b.booking_created), hook(b.booking_cancelled, 60, **RECALL), local("cancelled", 61, **A),
     hook(b.booking_created, 120, "B", minutes=30), local("created", 121, "4712", minutes=30, **B)],
    [same("4711", "A"), same("4712", "B")],
)  # fmt: skip

row(
    "the host asks for another time, and only person and time tell what follows",
    [local(), hook(b.booking_created), hook(b.booking_cancelled, 60, **RECALL),
     hook(b.booking_created, 9000, "B", minutes=30), local("rescheduled", 9002, minutes=30)],
    [same("4711", "A>B", ATTENDEE)],
    off=[alone("4711"), alone(None, "A>B")],
)  # fmt: skip
row(
    "the host asks for another time, and the app makes a new appointment that only person and time tell",
    [local(), hook(b.booking_created), hook(b.booking_cancelled, 60, **RECALL), local("cancelled", 61),
     hook(b.booking_created, 120, "B", minutes=30), local("created", 121, "4712", minutes=30)],
    [same("4711", "A", ATTENDEE), same("4712", "B", ATTENDEE)],
    off=[over("4711"), over(None, "A"), alone("4712"), alone(None, "B")],
)  # fmt: skip

# --- waiting for the host's word --------------------------------------------------------------------------------

IGNORE: Final = Policy(window_seconds=300, unconfirmed=Waiting.IGNORE)
row(
    "asked for and pending in the app",
    [local(status="pending", **A), hook(b.booking_requested)],
    [same("4711", "A")],
)
row(
    "asked for and confirmed on both sides, without metadata from then on",
    [local(status="pending", **NOBODY), hook(b.booking_requested, metadata=meta()), hook(b.confirmed_later, 60),
     local("updated", 61, **NOBODY)],
    [same("4711", "A", METADATA)],
)  # fmt: skip
row(
    "asked for, confirmed at Cal.com alone",
    [local(status="pending", **A), hook(b.booking_requested), hook(b.confirmed_later, 60)],
    [differ("4711", "A")],
)
row(
    "asked for, confirmed in the app alone: people take their time, but not for ever",
    [local(**A), hook(b.booking_requested)],
    [differ("4711", "A")],
)
row(
    "asked for, and confirmed at Cal.com hours after the app",
    [local(**A), hook(b.booking_requested), hook(b.confirmed_later, 9000)],
    [same("4711", "A")],
)
row("asked for, and the app has nothing", [hook(b.booking_requested)], [alone(None, "A")])
row(
    "asked for, and the app has nothing, in a company that does not mind",
    [hook(b.booking_requested)],
    [over(None, "A")],
    policy=IGNORE,
)
row(
    "asked for and confirmed, and the app has nothing",
    [hook(b.booking_requested), hook(b.confirmed_later, 9000)],
    [alone(None, "A")],
    policy=IGNORE,
)
row(
    "asked for and refused, and the app has nothing",
    [hook(b.booking_requested), hook(b.booking_rejected, 60)],
    [over(None, "A")],
)
row(
    "asked for and refused, and the app knows",
    [
        local(status="pending", **A),
        hook(b.booking_requested),
        hook(b.booking_rejected, 60),
        local("cancelled", 61, **A),
    ],
    [same("4711", "A")],
)
row(
    "asked for and refused, and the app still waits",
    [local(status="pending", **A), hook(b.booking_requested), hook(b.booking_rejected, 60)],
    [differ("4711", "A")],
)

# --- waiting for a payment --------------------------------------------------------------------------------------

row("never paid, and the app has nothing: Cal.com drops it silently", [hook(b.payment_initiated)], [over(None, "A")])
row(
    "never paid, and the app has nothing, in a company that minds",
    [hook(b.payment_initiated)],
    [alone(None, "A")],
    policy=Policy(window_seconds=300, unpaid=Waiting.FLAG),
)
row(
    "not yet paid and pending in the app",
    [local(status="pending", **NOBODY), hook(b.payment_initiated)],
    [same("4711", "A", METADATA)],
)
row(
    "never paid, and confirmed in the app",
    [local(**NOBODY), hook(b.payment_initiated)],
    [differ("4711", "A", METADATA)],
)
row(
    "never paid, and called off in the app",
    [local(**NOBODY), hook(b.payment_initiated), local("cancelled", 9000, **NOBODY)],
    [same("4711", "A", METADATA)],
)
row(
    "paid: the booking is told before the payment",
    [local(**NOBODY), hook(b.payment_initiated), hook(b.confirmed_later, 7200), hook(b.paid, 7201)],
    [same("4711", "A", METADATA)],
)
row(
    "paid: the payment is told before the booking",
    [local(**NOBODY), hook(b.payment_initiated), hook(b.paid, 7200), hook(b.confirmed_later, 7201)],
    [same("4711", "A", METADATA)],
)
row(
    "paid, and the webhook of the booking was lost",
    [local(**NOBODY), hook(b.payment_initiated), hook(b.paid, 7200)],
    [same("4711", "A", METADATA)],
)
row("paid, and the app has nothing", [hook(b.payment_initiated), hook(b.paid, 60)], [alone(None, "A")])
row(
    "paid, and still to be confirmed by the host, which happens hours later",
    [local(status="pending", **NOBODY), hook(b.payment_initiated), hook(b.paid, 60),
     hook(b.booking_requested, 61, status=None), hook(b.confirmed_later, 7200), local("updated", 7201, **NOBODY)],
    [same("4711", "A", METADATA)],
)  # fmt: skip

row(
    "a payment is broken off, and it is booked anew and paid",
    [local(**NOBODY), hook(b.payment_initiated), hook(b.payment_initiated, 60, "B"), hook(b.confirmed_later, 90, "B"),
     hook(b.paid, 91, "B")],
    [same("4711", "B", METADATA), over(None, "A")],
)  # fmt: skip
row(
    "a payment is broken off, and it is booked anew and paid, recognised by person and time",
    [local(), hook(b.payment_initiated, metadata={}), hook(b.confirmed_later, 90, "B"), hook(b.paid, 91, "B")],
    [same("4711", "B", ATTENDEE), over(None, "A")],
    off=[alone("4711"), over(None, "A"), alone(None, "B")],
)
row(
    "a payment is broken off, and it is booked anew and paid, while the app has nothing",
    [hook(b.payment_initiated, metadata={}), hook(b.confirmed_later, 90, "B"), hook(b.paid, 91, "B")],
    [over(None, "A"), alone(None, "B")],
)
row(
    "paid, moved, and called off",
    [local(**NOBODY), hook(b.payment_initiated), hook(b.paid, 60), moved(120, "B", "A", minutes=30),
     hook(b.booking_cancelled, 180, "B", minutes=30), local("cancelled", 181, **NOBODY)],
    [same("4711", "A>B", METADATA)],
)  # fmt: skip

row(
    "the app names a booking that is never paid, and then the one that was booked anew",
    [local(**A), hook(b.payment_initiated), hook(b.booking_created, 60, "B", metadata=meta()),
     local("updated", 61, **B)],
    [same("4711", "B"), over(None, "A")],
)  # fmt: skip

# --- facts of the timeline, and shapes of every kind ------------------------------------------------------------

row(
    "a meeting that began, somebody who did not come: nothing changes",
    [local(**A), hook(b.booking_created), flat_fact(b.meeting_started("A", booking_id=number("A"), starts_at=START), 2),
     flat_fact(b.no_show_updated("A", booking_id=number("A")), 3)],
    [same("4711", "A")],
)  # fmt: skip
row(
    "a fact that comes after the cancellation brings nothing back to life",
    [local(**A), hook(b.booking_created), hook(b.booking_cancelled, 60), local("cancelled", 61, **A),
     flat_fact(b.meeting_started("A", booking_id=number("A"), starts_at=START), 9000)],
    [same("4711", "A")],
)  # fmt: skip
row(
    "a booking of which only facts are known is no orphan",
    [flat_fact(b.meeting_started("A", booking_id=number("A"), starts_at=START), 2)],
    [over(None, "A")],
)
row(
    "a booking of which only facts are known is there",
    [local(**A), flat_fact(b.meeting_started("A", booking_id=number("A"), starts_at=START), 2)],
    [same("4711", "A")],
)
row(
    "a custom template's form instead of JSON",
    [local(**A), said(b"event=BOOKING_CREATED&uid=A&title=Tea & toast&status=ACCEPTED&startTime="
                      + b.z(START).encode() + b"&endTime=" + b.z(START + b.HALF_AN_HOUR).encode(), 2)],
    [same("4711", "A")],
)  # fmt: skip
row(
    "a cancellation that names its booking by the number alone",
    [local(**A), hook(b.booking_created), said(b.booking_cancelled("A", booking_id=number("A"), starts_at=START,
     created_at=at(60)) | {"payload": {"bookingId": number("A")}}, 60), local("cancelled", 61, **A)],
    [same("4711", "A")],
)  # fmt: skip
row(
    "a cancellation of an old version, without the number",
    [local(**A), hook(b.booking_created), hook(b.booking_cancelled, 60, booking_id=None), local("cancelled", 61, **A)],
    [same("4711", "A")],
)
row(
    "a cancellation of a new version, with the metadata",
    [local(**NOBODY), hook(b.booking_cancelled, 60, metadata=meta()), local("cancelled", 61, **NOBODY)],
    [same("4711", "A", METADATA)],
)
row(
    "one webhook registered twice, some milliseconds apart",
    [local(**A), hook(b.booking_created, 1), hook(b.booking_created, 1.003), hook(b.booking_cancelled, 60),
     hook(b.booking_cancelled, 60.002), local("cancelled", 61, **A)],
    [same("4711", "A")],
)  # fmt: skip
row(
    "called off on both sides",
    [local(**A), hook(b.booking_created), local("cancelled", 60, **A), hook(b.booking_cancelled, 61)],
    [same("4711", "A")],
)
row(
    "called off at Cal.com alone",
    [local(**A), hook(b.booking_created), hook(b.booking_cancelled, 60)],
    [differ("4711", "A")],
)
row(
    "called off in the app alone",
    [local(**A), hook(b.booking_created), local("cancelled", 60, **A)],
    [differ("4711", "A")],
)
row(
    "a webhook that comes a day late",
    [local(**A), calcom(seconds=1, received=DAY)],
    [same("4711", "A")],
    flags=[Kind.ORPHANED_LOCAL],
)

# --- the app changes its mind -----------------------------------------------------------------------------------

row(
    "deleted in the app, alive at Cal.com",
    [local(**A), hook(b.booking_created), local("deleted", 60, **A)],
    [deleted("4711", "A")],
)
row(
    "deleted in the app, called off at Cal.com",
    [local(**A), hook(b.booking_created), local("deleted", 60, **A), hook(b.booking_cancelled, 61)],
    [same("4711", "A")],
)
row(
    "deleted and restored",
    [local(**A), hook(b.booking_created), local("deleted", 60, **A), local("updated", 120, **A)],
    [same("4711", "A")],
)
row(
    "deleted, and never booked",
    [local(), local("deleted", 60)],
    [over("4711")],
)
row(
    "deleted and restored, and never booked",
    [local(), local("deleted", 60), local("updated", 120)],
    [alone("4711")],
)
row(
    "the appointment's uid becomes another's",
    [local(**A), hook(b.booking_created), hook(b.booking_created, 60, "B"), local("updated", 61, **B),
     hook(b.booking_cancelled, 62)],
    [same("4711", "B"), over(None, "A")],
)  # fmt: skip
row(
    "the appointment's uid becomes another's, and its number is not told again",
    [local(calcom_booking_id=number("A"), **A), hook(b.booking_created), local("updated", 61, **B),
     hook(b.booking_created, 60, "B")],
    [same("4711", "B"), alone(None, "A")],
)  # fmt: skip
row(
    "the appointment's number becomes another's, and its uid is not told again",
    [local(**A), hook(b.booking_created), local("updated", 61, calcom_booking_id=number("B")),
     hook(b.booking_created, 60, "B")],
    [same("4711", "B"), alone(None, "A")],
)  # fmt: skip
row(
    "the app names the uid first and the number later: they are the same booking's",
    [local(**A), hook(b.booking_created), local("updated", 61, calcom_booking_id=number("A"))],
    [same("4711", "A")],
)
row(
    "a later event of the app that leaves the uid out has not cut the link",
    [local(**A), hook(b.booking_created), local("updated", 60), hook(b.booking_cancelled, 61), local("cancelled", 62)],
    [same("4711", "A")],
)
row(
    "two appointments had each other's uid, and were put right",
    [local(appointment="1", **B), local(seconds=1, appointment="2", minutes=60, **A), hook(b.booking_created, 2),
     hook(b.booking_created, 3, "B", minutes=60), local("updated", 60, "1", **A),
     local("updated", 61, "2", minutes=60, **B)],
    [same("1", "A"), same("2", "B")],
)  # fmt: skip
row(
    "two appointments have each other's uid",
    [local(appointment="1", **B), local(seconds=1, appointment="2", minutes=60, **A), hook(b.booking_created, 2),
     hook(b.booking_created, 3, "B", minutes=60)],
    [differ("1", "B"), differ("2", "A")],
)  # fmt: skip

# --- differences, by policy -------------------------------------------------------------------------------------


def but(*left_out: str) -> Policy:
    """Give a policy for which some fields do not count."""
    return Policy(window_seconds=300, compared=tuple([field for field in POLICY.compared if field not in left_out]))


LONGER: Final[list[Heard]] = [local(event_type_id=1, **A), calcom(seconds=1, event_type_id=1, lasts=45)]
OTHER_TYPE: Final[list[Heard]] = [local(event_type_id=1, **A), calcom(seconds=1, event_type_id=2)]
LATER: Final[list[Heard]] = [local(**A), calcom(seconds=1, minutes=30)]
row("it takes longer at Cal.com", LONGER, [differ("4711", "A")])
row("it takes longer at Cal.com, and nobody minds", LONGER, [same("4711", "A")], policy=but("ends_at"))
row("it is of another type at Cal.com", OTHER_TYPE, [differ("4711", "A")])
row("it is of another type, and nobody minds", OTHER_TYPE, [same("4711", "A")], policy=but("event_type_id"))
row("the app does not say of which type it is", [local(**A), calcom(seconds=1, event_type_id=2)], [same("4711", "A")])
row("another time, and nobody minds", LATER, [same("4711", "A")], policy=but("starts_at", "ends_at"))
row(
    "called off on one side, and nobody minds the status",
    [local(**A), calcom(seconds=1), calcom("CANCELLED", 60)],
    [same("4711", "A")],
    policy=but("status"),
)
row(
    "whether it is there at all counts for everybody",
    [local(**A), calcom(seconds=1), local("deleted", 60, **A)],
    [deleted("4711", "A")],
    policy=but("starts_at", "ends_at", "status", "event_type_id"),
)
row("61 seconds apart are a difference", [local(**A), calcom(seconds=1, minutes=61 / 60)], [differ("4711", "A")])
row("60 seconds apart are none", [local(**A), calcom(seconds=1, minutes=1)], [same("4711", "A")])
row(
    "an end that the app does not know differs from nothing",
    [told(0, ends_at=None, calcom_booking_uid="A"), calcom(seconds=1, lasts=45)],
    [same("4711", "A")],
)
row(
    "a move that takes an hour to reach the app, where that is usual",
    [local(**A), calcom(seconds=1), calcom("RESCHEDULED", 60, "B", parent="A", minutes=30),
     local("rescheduled", 3600, minutes=30, **A)],
    [same("4711", "A>B")],
    policy=Policy(window_seconds=300, settling_window_seconds=7200),
)  # fmt: skip
row(
    "a move that takes an hour to reach the app, where that is not usual",
    [local(**A), calcom(seconds=1), calcom("RESCHEDULED", 60, "B", parent="A", minutes=30),
     local("rescheduled", 3600, minutes=30, **A)],
    [same("4711", "A>B")],
    flags=[Kind.DATA_MISMATCH],
)  # fmt: skip

# --- time -------------------------------------------------------------------------------------------------------

BERLIN: Final = "2026-12-01T09:00:00+01:00"  # what START is there
row(
    "an instant in another zone is the same instant",
    [told(0, starts_at=BERLIN, ends_at="2026-12-01T13:30:00+05:00", calcom_booking_uid="A"), hook(b.booking_created)],
    [same("4711", "A")],
)
row(
    "half past two comes twice in the night when summer time ends: the second is meant on both sides",
    [told(0, starts_at="2027-10-31T02:30:00+01:00", ends_at="2027-10-31T03:00:00+01:00", calcom_booking_uid="A"),
     hook(b.booking_created, startTime="2027-10-31T01:30:00Z", endTime="2027-10-31T02:00:00Z")],
    [same("4711", "A")],
)  # fmt: skip
row(
    "half past two comes twice, and each side means another one",
    [told(0, starts_at="2027-10-31T02:30:00+02:00", ends_at="2027-10-31T03:00:00+02:00", calcom_booking_uid="A"),
     hook(b.booking_created, startTime="2027-10-31T01:30:00.000Z", endTime="2027-10-31T02:00:00.000Z")],
    [differ("4711", "A")],
)  # fmt: skip
row(
    "an hour that does not exist in spring, spelled with its offset",
    [told(0, starts_at="2027-03-28T02:30:00+01:00", ends_at="2027-03-28T04:00:00+02:00", calcom_booking_uid="A"),
     hook(b.booking_created, startTime="2027-03-28T03:30:00+02:00", endTime="2027-03-28T02:00:00Z")],
    [same("4711", "A")],
)  # fmt: skip
row(
    "a clock that is three days ahead does not win over what follows",
    [local("updated", 3 * DAY, received=1, **A), calcom(seconds=2), local("cancelled", 3600, **A),
     calcom("CANCELLED", 3601)],
    [same("4711", "A")],
)  # fmt: skip
row(
    "a clock that is three days behind makes nothing late",
    [local(seconds=-3 * DAY, received=0, **A), calcom(seconds=1),
     local("rescheduled", 3600 - 3 * DAY, minutes=30, received=3600, **A),
     calcom("RESCHEDULED", 3602, "B", parent="A", minutes=30)],
    [same("4711", "A>B")],
)  # fmt: skip

# --- seats ------------------------------------------------------------------------------------------------------

MIAS, TOMS = f"A#{MIA}", f"A#{TOM}"
SEATS: Final[list[Heard]] = [
    local(appointment="1", **A),
    local(seconds=1, appointment="2", email=TOM, **A),
    hook(b.seat_taken, 2, email=MIA, seat_id="seat-mia"),
    hook(b.seat_taken, 3, email=TOM, seat_id="seat-tom"),
]
BOTH_SEATS: Final[dict[str, Any]] = {"attendees": [b.api_seat("seat-mia", MIA), b.api_seat("seat-tom", TOM)]}
row("two seats of one booking", SEATS, [same("1", MIAS), same("2", TOMS)])
row(
    "two seats that only the metadata names",
    [local(appointment="1", **NOBODY), local(seconds=1, appointment="2", **NOBODY),
     hook(b.seat_taken, 2, email=MIA, metadata=meta("1")), hook(b.seat_taken, 3, email=TOM, metadata=meta("2"))],
    [same("1", MIAS, METADATA), same("2", TOMS, METADATA)],
)  # fmt: skip
row(
    "the second seat carries the first one's metadata",
    [local(appointment="1", **A), local(seconds=1, appointment="2", email=TOM, **A),
     hook(b.seat_taken, 2, email=MIA, metadata=meta("1")), hook(b.seat_taken, 3, email=TOM, metadata=meta("1"))],
    [same("1", MIAS), same("2", TOMS)],
)  # fmt: skip
row(
    "two seats that are recognised by who comes",
    [local(appointment="1"), local(seconds=1, appointment="2", email=TOM), hook(b.seat_taken, 2, email=MIA),
     hook(b.seat_taken, 3, email=TOM)],
    [same("1", MIAS, ATTENDEE), same("2", TOMS, ATTENDEE)],
    off=[alone("1"), alone("2"), alone(None, MIAS), alone(None, TOMS)],
)  # fmt: skip
row(
    "Cal.com fires for the first seat alone",
    SEATS[:3],
    [same("1", MIAS), alone("2")],
)
row(
    "Cal.com fires for the first seat alone, and the API has both",
    [*SEATS[:3], observed(60, **BOTH_SEATS)],
    [same("1", MIAS), same("2", TOMS)],
)
row(
    "a seat is left, and the app knows",
    [*SEATS, hook(b.seat_left, 60, email=TOM), local("cancelled", 61, "2", email=TOM, **A)],
    [same("1", MIAS), same("2", TOMS)],
)
row(
    "a seat is left, and the app does not know",
    [*SEATS, hook(b.seat_left, 60, email=TOM)],
    [same("1", MIAS), differ("2", TOMS)],
)
ALL_SEATS: Final[dict[str, Any]] = {"people": (MIA, TOM), "seatsPerTimeSlot": 5}
row(
    "the host calls off all seats by one webhook",
    [*SEATS, hook(b.booking_cancelled, 60, **ALL_SEATS), local("cancelled", 61, "1", **A),
     local("cancelled", 62, "2", email=TOM, **A)],
    [same("1", MIAS), same("2", TOMS)],
)  # fmt: skip
row(
    "the host calls off all seats, and the app knows of one",
    [*SEATS, hook(b.booking_cancelled, 60, **ALL_SEATS), local("cancelled", 61, "1", **A)],
    [same("1", MIAS), differ("2", TOMS)],
)
row(
    "the host calls off all seats, of which one was never told",
    [*SEATS[:3], hook(b.booking_cancelled, 60, **ALL_SEATS), local("cancelled", 61, "1", **A)],
    [same("1", MIAS), differ("2", TOMS)],
)
row(
    "all is called off by a body that knows nothing of seats",
    [*SEATS, hook(b.booking_cancelled, 60, people=(MIA, TOM)), local("cancelled", 61, "1", **A),
     local("cancelled", 62, "2", email=TOM, **A)],
    [same("1", MIAS), same("2", TOMS)],
)  # fmt: skip
row(
    "a seat is left by a body that knows nothing of seats, but of who left",
    [*SEATS, hook(b.booking_cancelled, 60, people=(TOM,)), local("cancelled", 61, "2", email=TOM, **A)],
    [same("1", MIAS), same("2", TOMS)],
)
ON_BOTH: Final[list[Heard]] = [
    local("rescheduled", 61, "1", minutes=60, **A),
    local("rescheduled", 62, "2", minutes=60, email=TOM, **A),
]
row(
    "the host moves all seats in place",
    [*SEATS, hook(in_place, 60, minutes=60, people=(MIA, TOM)), *ON_BOTH],
    [same("1", MIAS), same("2", TOMS)],
)
row(
    "the host moves all seats in place, by a body that names one of them",
    [*SEATS, hook(in_place, 60, minutes=60, people=(MIA,)), *ON_BOTH],
    [same("1", MIAS), same("2", TOMS)],
)
row(
    "the host moves all seats in place, and the app does not know",
    [*SEATS, hook(in_place, 60, minutes=60, people=(MIA, TOM))],
    [differ("1", MIAS), differ("2", TOMS)],
)
ONE_MOVES: Final[dict[str, Any]] = {"people": (TOM,), "seatsPerTimeSlot": 5, "attendeeSeatId": "seat-tom-2"}
row(
    "one seat moves to another booking",
    [*SEATS, moved(60, "B", "A", minutes=60, iCalUID="B@Cal.com", **ONE_MOVES),
     local("rescheduled", 61, "2", minutes=60, email=TOM, **A)],
    [same("1", MIAS), same("2", f"A>B#{TOM}")],
)  # fmt: skip
row(
    "one seat moves to another booking, and is named as what was moved",
    [*SEATS, moved(60, "B", "A", minutes=60, iCalUID="B@Cal.com", rescheduleUid="seat-tom", **ONE_MOVES),
     local("rescheduled", 61, "2", minutes=60, email=TOM, **B)],
    [same("1", MIAS), same("2", f"A>B#{TOM}")],
)  # fmt: skip
row(
    "one seat moves, by a body that has lost the uid",
    [*SEATS, hook(without_uid, 60, minutes=60, **ONE_MOVES), local("rescheduled", 61, "2", minutes=60, email=TOM, **A)],
    [same("1", MIAS), same("2", TOMS)],
)  # fmt: skip
row(
    "a seat that nobody in the app knows",
    [SEATS[0], *SEATS[2:]],
    [same("1", MIAS), alone(None, TOMS)],
)

row(
    "the second seat carries the first one's metadata, and the app has nothing of it",
    [local(appointment="1"), hook(b.seat_taken, 2, email=MIA, metadata=meta("1")),
     hook(b.seat_taken, 3, email=TOM, metadata=meta("1"))],
    [same("1", MIAS, METADATA), alone(None, TOMS)],
)  # fmt: skip
row(
    "seats whose meeting begins",
    [*SEATS, flat_fact(b.meeting_started("A", booking_id=number("A"), starts_at=START), 9000)],
    [same("1", MIAS), same("2", TOMS)],
)
row(
    "a seat was left, and the API hides who sits on the others",
    [*SEATS, hook(b.seat_left, 60, email=TOM), local("cancelled", 61, "2", email=TOM, **A), observed(90, attendees=[])],
    [same("1", MIAS), same("2", TOMS)],
)
row(
    "a seat was left, and the API names who still sits",
    [*SEATS, hook(b.seat_left, 60, email=TOM), local("cancelled", 61, "2", email=TOM, **A),
     observed(90, attendees=[b.api_seat("seat-mia", MIA)])],
    [same("1", MIAS), same("2", TOMS)],
)  # fmt: skip
row(
    "the last who sits moves away, and the API says that the old booking is over",
    [local(appointment="1", **A), hook(b.seat_taken, 2, email=MIA, seat_id="seat-mia"),
     moved(60, "B", "A", minutes=60, people=(MIA,), seatsPerTimeSlot=5, attendeeSeatId="seat-mia-2", iCalUID=None),
     local("rescheduled", 61, "1", minutes=60, **B), observed(90, status="cancelled", attendees=[])],
    [same("1", f"A>B#{MIA}")],
)  # fmt: skip

row(
    "the app names the seats by their own uids",
    [local(appointment="1", calcom_booking_uid="seat-mia", **NOBODY),
     local(seconds=1, appointment="2", calcom_booking_uid="seat-tom", **NOBODY), *SEATS[2:]],
    [same("1", MIAS), same("2", TOMS)],
)  # fmt: skip
row(
    "who sits is known by phone in the app, and by e-mail at Cal.com",
    [local(appointment="1", email=None, phone="+4915112345678", **A), SEATS[2]],
    [same("1", MIAS)],
)
row(
    "the address of a seat's holder as Cal.com's platform makes it, and as the API gives it",
    [local(appointment="1", email="mia@firma.example", **A),
     hook(b.seat_taken, 2, email="mia+clxyzabc0123456789abcdef0@firma.example"),
     observed(60, attendees=[b.api_seat("seat-mia", "mia+clxyzabc0123456789abcdef0@firma.example")
                             | {"displayEmail": "mia@firma.example"}])],
    [same("1", "A#mia@firma.example")],
)  # fmt: skip
row(
    "one seat moves to another booking, and that one is called off",
    [local(appointment="2", email=TOM, **A), SEATS[3],
     moved(60, "B", "A", minutes=60, iCalUID="B@Cal.com", **ONE_MOVES),
     hook(b.booking_cancelled, 120, "B", minutes=60, people=(TOM,)), local("cancelled", 121, "2", email=TOM, **A)],
    [same("2", f"A>B#{TOM}")],
)  # fmt: skip
row(
    "one seat moves to another booking, of which others hold seats",
    [local(appointment="1", minutes=60, **B), hook(b.seat_taken, 1, "B", email=MIA, minutes=60),
     local(appointment="2", email=TOM, **A), hook(b.seat_taken, 3, email=TOM, seat_id="seat-tom"),
     moved(60, "B", "A", minutes=60, iCalUID=None, **ONE_MOVES),
     local("rescheduled", 61, "2", minutes=60, email=TOM, **B)],
    [same("1", f"B#{MIA}"), same("2", f"A>B#{TOM}")],
)  # fmt: skip
row(
    "one seat moves to another booking, and the API says that the old one went there",
    [*SEATS[2:], local(appointment="1", **A), local(seconds=1, appointment="2", minutes=60, email=TOM, **B),
     moved(60, "B", "A", minutes=60, iCalUID=None, **ONE_MOVES),
     hook(b.seat_left, 50, email=MIA), local("cancelled", 51, "1", **A)],
    [same("1", MIAS), same("2", f"A>B#{TOM}")],
)  # fmt: skip
row(
    "a seated booking that is known as a whole before anybody sits",
    [observed(0, attendees=[], status="accepted"), local(appointment="1", **A), SEATS[2]],
    [same("1", MIAS)],
)

row(
    "the API says that a seated booking is over, and names nobody",
    [*SEATS, observed(60, status="cancelled", attendees=[]), local("cancelled", 61, "1", **A),
     local("cancelled", 62, "2", email=TOM, **A)],
    [same("1", MIAS), same("2", TOMS)],
)  # fmt: skip
row(
    "a seat is left and taken again",
    [SEATS[0], SEATS[2], hook(b.seat_left, 60, email=MIA), hook(b.seat_taken, 90, email=MIA, seat_id="seat-mia-2")],
    [same("1", MIAS)],
)
row(
    "a seat is left and taken by another",
    [*SEATS[:1], SEATS[2], hook(b.seat_left, 60, email=MIA), local("cancelled", 61, "1", **A),
     hook(b.seat_taken, 90, email=TOM, seat_id="seat-tom"), local("created", 91, "2", email=TOM, **A)],
    [same("1", MIAS), same("2", TOMS)],
)  # fmt: skip
row(
    "the host calls off all seats, and asks for another time",
    [*SEATS, hook(b.booking_cancelled, 60, **RECALL, **ALL_SEATS), local("updated", 61, "1", status="pending", **A),
     local("cancelled", 62, "2", email=TOM, **A)],
    [same("1", MIAS), same("2", TOMS)],
)  # fmt: skip

row(
    "a seat that was asked for, and the API says that the booking is accepted",
    [local(appointment="1", **A), hook(b.booking_requested, seatsPerTimeSlot=5), observed(60, attendees=[])],
    [same("1", MIAS)],
)
row(
    "the app names a seat by its own uid, and it moves under another",
    [local(appointment="2", calcom_booking_uid="seat-tom", **NOBODY), SEATS[3],
     moved(60, "B", "A", minutes=60, iCalUID=None, rescheduleUid="seat-tom", **ONE_MOVES),
     local("rescheduled", 61, "2", minutes=60, calcom_booking_uid="seat-tom", **NOBODY)],
    [same("2", f"A>B#{TOM}")],
)  # fmt: skip

# --- series -----------------------------------------------------------------------------------------------------

RHYTHM: Final[dict[str, Any]] = {"recurringEvent": b.WEEKLY}
OCCURRENCES: Final = ("A", "B", "C")


def occurrences(build: Callable[..., b.Json], seconds: float = 0, **options: Any) -> list[Heard]:
    """Give a webhook for each of three weekly occurrences, made one after another."""
    return [
        hook(build, seconds + at_, uid, minutes=at_ * WEEK, **(RHYTHM | options)) for at_, uid in enumerate(OCCURRENCES)
    ]


def in_app(kind: str, seconds: float, *which: int, linked: bool = True, **options: Any) -> list[Heard]:
    """Give the app's word on some of them."""
    found: list[Heard] = []
    for one in which:
        link: dict[str, Any] = {"calcom_booking_uid": OCCURRENCES[one]} if linked else {}
        found.append(local(kind, seconds + one, str(one + 1), minutes=one * WEEK, **(link | options)))
    return found


def each(how: Callable[[str, str, Rule], End] = same, rule: Rule = BOOKING) -> list[End]:
    """Give an ending for all three."""
    return [how(str(one + 1), uid, rule) for one, uid in enumerate(OCCURRENCES)]


row("a series", [*in_app("created", 0, 0, 1, 2), *occurrences(b.booking_created)], each())
row(
    "a series of which the app lacks one occurrence",
    [*in_app("created", 0, 0, 2), *occurrences(b.booking_created, metadata=meta("1"))],
    [same("1", "A"), alone(None, "B"), same("3", "C")],
)
row(
    "a series whose occurrences all carry the first one's metadata",
    [*in_app("created", 0, 0, 1, 2, linked=False), *occurrences(b.booking_created, metadata=meta("1"))],
    [same("1", "A", METADATA), same("2", "B", ATTENDEE), same("3", "C", ATTENDEE)],
    off=[same("1", "A", METADATA), alone("2"), alone("3"), alone(None, "B"), alone(None, "C")],
)
row(
    "a series that one webhook confirms",
    [*in_app("created", 0, 0, 1, 2), *occurrences(b.booking_requested), hook(b.confirmed_later, 60, **RHYTHM)],
    each(),
)
row(
    "a series that one webhook confirms, and the app still waits",
    [*in_app("created", 0, 0, 1, 2, status="pending"), *occurrences(b.booking_requested),
     hook(b.confirmed_later, 60, **RHYTHM)],
    each(differ),
)  # fmt: skip
row(
    "a series that one webhook refuses",
    [*in_app("cancelled", 60, 0, 1, 2), *occurrences(b.booking_requested), hook(b.booking_rejected, 59, **RHYTHM)],
    each(),
)
row(
    "a series that one webhook refuses, and the app does not know",
    [*in_app("created", 0, 0, 1, 2), *occurrences(b.booking_requested), hook(b.booking_rejected, 59, **RHYTHM)],
    each(differ),
)
row(
    "the rest of a series is called off by one webhook; what has been stays",
    [*in_app("created", 0, 0), *in_app("cancelled", 10 * DAY + 1, 1, 2), *occurrences(b.booking_created),
     hook(b.booking_cancelled, 10 * DAY, "B", minutes=WEEK, **RHYTHM)],
    each(),
    flags=[Kind.ORPHANED_CALCOM, Kind.ORPHANED_CALCOM],  # the app told of them at the end alone
)  # fmt: skip
row(
    "one occurrence is called off: the others stay",
    [*in_app("created", 0, 0, 2), *in_app("cancelled", 60, 1), *occurrences(b.booking_created),
     hook(b.booking_cancelled, 59, "B", minutes=WEEK)],
    each(),
)  # fmt: skip
row(
    "this occurrence and the following are called off, and no webhook says so of the following",
    [*in_app("created", 0, 0), *in_app("cancelled", 60, 1, 2), *occurrences(b.booking_created),
     hook(b.booking_cancelled, 59, "B", minutes=WEEK)],
    [same("1", "A"), same("2", "B"), differ("3", "C")],
)  # fmt: skip
row(
    "two people's series of one rhythm are two series",
    [hook(b.booking_requested, 0, "A", **RHYTHM), hook(b.booking_requested, 1, "B", minutes=WEEK, **RHYTHM),
     hook(b.booking_requested, 2, "X", people=(TOM,), **RHYTHM), hook(b.confirmed_later, 60, "A", **RHYTHM),
     local(appointment="1", **A), local(appointment="2", minutes=WEEK, **B),
     local(appointment="9", email=TOM, status="pending", calcom_booking_uid="X")],
    [same("1", "A"), same("2", "B"), same("9", "X")],
)  # fmt: skip
row(
    "an occurrence that was refused before stays so when the series is confirmed",
    [*in_app("created", 0, 0), *in_app("cancelled", 50, 1), *occurrences(b.booking_requested)[:2],
     hook(b.booking_rejected, 40, "B", minutes=WEEK), hook(b.confirmed_later, 60, **RHYTHM)],
    [same("1", "A"), same("2", "B")],
)  # fmt: skip

row(
    "a series is confirmed, and then one occurrence moves",
    [*in_app("created", 0, 0), local("created", 120, "2", minutes=WEEK + 60, **B),
     *occurrences(b.booking_requested)[:2], hook(b.confirmed_later, 60, **RHYTHM),
     moved(118, "D", "B", minutes=WEEK + 60, iCalUID="B@Cal.com")],
    [same("1", "A"), same("2", "B>D")],
)  # fmt: skip
row(
    "the rest of a series is called off, of which one occurrence had moved",
    [*in_app("cancelled", 2 * DAY + 1, 0, 1), *occurrences(b.booking_created)[:2],
     moved(DAY, "D", "B", minutes=WEEK + 60, iCalUID="B@Cal.com", **RHYTHM),
     hook(b.booking_cancelled, 2 * DAY, "A", **RHYTHM)],
    [same("1", "A"), same("2", "B>D")],
    flags=[Kind.ORPHANED_CALCOM, Kind.ORPHANED_CALCOM],  # the app told of them at the end alone
)  # fmt: skip
row(
    "two series of one person, for two appointments: the word for one is none for the other",
    [hook(b.booking_requested, 0, "A", metadata=meta("1"), **RHYTHM),
     hook(b.booking_requested, 1, "B", minutes=WEEK, metadata=meta("1"), **RHYTHM),
     hook(b.booking_requested, 2, "X", minutes=120, metadata=meta("9"), **RHYTHM),
     hook(b.confirmed_later, 60, "A", **RHYTHM), local(appointment="1", **A), local(appointment="2", minutes=WEEK, **B),
     local(appointment="9", minutes=120, status="pending", calcom_booking_uid="X")],
    [same("1", "A"), same("2", "B"), same("9", "X")],
)  # fmt: skip

row(
    "a series whose occurrences all have the calendar's id of the first",
    [*in_app("created", 0, 0, 1, 2), *occurrences(b.booking_created, iCalUID="A@Cal.com")],
    each(),
)
row(
    "a series that is recognised by person and time, and of which the app lacks one occurrence",
    [*in_app("created", 0, 0, 2, linked=False), *occurrences(b.booking_created)],
    [same("1", "A", ATTENDEE), alone(None, "B"), same("3", "C", ATTENDEE)],
    off=[alone("1"), alone("3"), alone(None, "A"), alone(None, "B"), alone(None, "C")],
)
row(
    "a series of which the app has one occurrence more",
    [*in_app("created", 0, 0, 1, 2, linked=False), *occurrences(b.booking_created, metadata=meta("1"))[:2]],
    [same("1", "A", METADATA), same("2", "B", ATTENDEE), alone("3")],
    off=[same("1", "A", METADATA), alone("2"), alone("3"), alone(None, "B")],
)
row(
    "a series whose one occurrence is moved by both sides, recognised by person and time",
    [*in_app("created", 0, 0, 1, linked=False), *occurrences(b.booking_created, metadata=meta("1"))[:2],
     moved(60, "D", "B", minutes=WEEK + 60, iCalUID="B@Cal.com", **RHYTHM),
     local("rescheduled", 61, "2", minutes=WEEK + 60)],
    [same("1", "A", METADATA), same("2", "B>D", ATTENDEE)],
    off=[same("1", "A", METADATA), alone("2"), alone(None, "B>D")],
)  # fmt: skip
row(
    "the first occurrence of a series is moved at Cal.com alone",
    [*in_app("created", 0, 0, 1, linked=False), *occurrences(b.booking_created, metadata=meta("1"))[:2],
     moved(60, "D", "A", minutes=60, **RHYTHM)],
    [differ("1", "A>D", METADATA), same("2", "B", ATTENDEE)],
    off=[differ("1", "A>D", METADATA), alone("2"), alone(None, "B")],
)  # fmt: skip

row(
    "the rest of a series is called off, recognised by person and time",
    [*in_app("created", 0, 0, 1, linked=False), *in_app("cancelled", 61, 0, 1, linked=False),
     *occurrences(b.booking_created)[:2], hook(b.booking_cancelled, 60, "A", **RHYTHM)],
    [same("1", "A", ATTENDEE), same("2", "B", ATTENDEE)],
    off=[over("1"), over("2"), over(None, "A"), over(None, "B")],
)  # fmt: skip
row(
    "a series is confirmed by one webhook, and then one occurrence is called off",
    [*in_app("created", 0, 0, 2), *in_app("cancelled", 90, 1), *occurrences(b.booking_requested),
     hook(b.confirmed_later, 60, **RHYTHM), hook(b.booking_cancelled, 89, "B", minutes=WEEK)],
    each(),
)  # fmt: skip
row(
    "the API says of the following occurrences what no webhook said",
    [*in_app("created", 0, 0), *in_app("cancelled", 60, 1, 2), *occurrences(b.booking_created),
     hook(b.booking_cancelled, 59, "B", minutes=WEEK), observed(120, "C", minutes=2 * WEEK, status="cancelled")],
    each(),
)  # fmt: skip
row(
    "a host asks for another time of one occurrence: the others stay",
    [*in_app("created", 0, 0), *in_app("cancelled", 60, 1), *occurrences(b.booking_created)[:2],
     hook(b.booking_cancelled, 59, "B", minutes=WEEK, **RECALL)],
    [same("1", "A"), same("2", "B")],
)  # fmt: skip

row(
    "a series that crosses the end of summer time, and that one webhook confirms",
    [local(appointment="1", **A), local(appointment="2", minutes=WEEK + 60, **B),
     hook(b.booking_requested, 0, **RHYTHM), hook(b.booking_requested, 1, "B", minutes=WEEK + 60, **RHYTHM),
     hook(b.confirmed_later, 60, **RHYTHM)],
    [same("1", "A"), same("2", "B")],
)  # fmt: skip

# --- more than all orders can be walked of ----------------------------------------------------------------------


def _ten() -> list[Heard]:
    found: list[Heard] = []
    for one in range(10):
        found.append(hook(b.booking_created, one, f"S{one}", minutes=one * WEEK, metadata=meta("s0"), **RHYTHM))
        if one != 6:
            uid = f"S{one}"
            found.append(local(seconds=one + 10, appointment=f"s{one}", minutes=one * WEEK, calcom_booking_uid=uid))
    return found


row(
    "ten occurrences at Cal.com and nine in the app",
    _ten(),
    [*(same(f"s{one}", f"S{one}") for one in range(10) if one != 6), alone(None, "S6")],
)
