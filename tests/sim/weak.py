"""Cases without a key: the same person at the same time, and what a stronger key makes of it later."""

from typing import Final

from tests.sim.pen import AMBIGUOUS, CALCOM, LOCAL, MISMATCH, RESOLVED, Case, Json, Pen
from tests.support import builders

#: Starts that are so far apart are one start; a second more, and they are two.
SAME_START_SECONDS: Final = 60


def _by_email(pen: Pen) -> Json:
    return {"name": "Mia", "email": pen.person().email.upper(), "phone": None}


def _by_phone(pen: Pen) -> Json:
    """A number as people write it at home."""
    return {"name": "Mia", "email": None, "phone": "089 / " + pen.person().phone.removeprefix("+4989")}


def _booked_by_email(pen: Pen, who: int = 0) -> list[Json]:
    return [builders.attendee(pen.person(who).email, phone=None)]


def _booked_by_phone(pen: Pen) -> list[Json]:
    """By phone alone: Cal.com makes an address of the number."""
    return [builders.phone_only_attendee(pen.person().phone)]


def _met(pen: Pen, *, seconds: float = 0, apart_seconds: float = 0) -> None:
    """Write an appointment and a booking that only a person and a time have in common."""
    customer, attendees = pen.random.choice([(_by_email, _booked_by_email), (_by_phone, _booked_by_phone)])
    pen.app("created", seconds, customer=customer(pen), minutes=apart_seconds / 60)
    pen.calcom(builders.booking_created, pen.about(seconds), attendees=attendees(pen))


def met(pen: Pen) -> Case:
    _met(pen, apart_seconds=pen.random.choice([0, 30, -45, SAME_START_SECONDS, -SAME_START_SECONDS]))
    if not pen.policy.match_by_attendee:
        return pen.case("met by person and time, which is off", pen.local_alone(), pen.calcom_alone(after=-50))
    return pen.case("met by person and time", pen.synced())


def met_too_far_apart(pen: Pen) -> Case:
    _met(pen, apart_seconds=pen.random.choice([-1, 1]) * (SAME_START_SECONDS + 1))
    return pen.case("a second too far apart", pen.local_alone(), pen.calcom_alone(after=-50))


def met_somebody_else(pen: Pen) -> Case:
    pen.app("created", 0, customer=_by_email(pen))
    pen.calcom(builders.booking_created, pen.about(0), attendees=_booked_by_email(pen, 1))
    return pen.case("same time, somebody else", pen.local_alone(), pen.calcom_alone(after=-50))


def met_and_cancelled(pen: Pen) -> Case:
    _met(pen)
    pen.app("cancelled", 1000)
    pen.calcom(builders.booking_cancelled, pen.about(1000))
    if not pen.policy.match_by_attendee:
        ends = [
            pen.end("synced", (), (LOCAL, RESOLVED), letters=""),
            pen.end("synced", (), (CALCOM, RESOLVED), which=None, after=-50),
        ]
        return pen.case("cancelled on both, nobody knows that they are one", *ends)
    return pen.case("met, cancelled on both", pen.synced())


def met_and_moved_on_one(pen: Pen) -> Case:
    """What both sides once agreed on stays one: two orphans would be nonsense."""
    _met(pen)
    if pen.random.random() < 0.5:
        pen.calcom(builders.booking_rescheduled, 1500, "B", minutes=60, old_uid=pen.uid("A"), old_booking_id=None)
        letters = "AB"
    else:
        pen.app("rescheduled", 1500, minutes=60)
        letters = "A"
    return pen.case("met, moved on one side", pen.mismatch(letters, after=1500))


def met_and_moved(pen: Pen) -> Case:
    _met(pen)
    pen.calcom(builders.booking_rescheduled, 1500, "B", minutes=60, old_uid=pen.uid("A"), old_booking_id=None)
    pen.app("rescheduled", pen.about(1500), minutes=60)
    return pen.case("met, moved on both", pen.synced("AB"))


def two_appointments_fit(pen: Pen) -> Case:
    pen.app("created", 0, 0, customer=_by_email(pen))
    pen.app("created", pen.about(0), 1, customer=_by_email(pen))
    pen.calcom(builders.booking_created, pen.about(0), attendees=_booked_by_email(pen))
    ends = [
        pen.end("failed", (AMBIGUOUS,), letters="", after=-50),
        pen.end("failed", (AMBIGUOUS,), which=1, letters="", after=-50),
        pen.end("failed", (AMBIGUOUS,), which=None, after=-50),
    ]
    return pen.case("two appointments fit one booking", *ends)


def two_bookings_fit(pen: Pen) -> Case:
    pen.app("created", 0, customer=_by_email(pen))
    pen.calcom(builders.booking_created, pen.about(0), attendees=_booked_by_email(pen))
    pen.calcom(builders.booking_created, pen.about(0), "B", attendees=_booked_by_email(pen))
    ends = [
        pen.end("failed", (AMBIGUOUS,), letters="", after=-50),
        pen.end("failed", (AMBIGUOUS,), which=None, after=-50),
        pen.end("failed", (AMBIGUOUS,), which=None, letters="B", after=-50),
    ]
    return pen.case("two bookings fit one appointment", *ends)


def choice_made_by_a_key(pen: Pen) -> Case:
    """Two bookings fit, until the app names one of them; the other is nobody's."""
    pen.app("created", 0, customer=_by_email(pen))
    pen.calcom(builders.booking_created, pen.about(0), attendees=_booked_by_email(pen))
    pen.calcom(builders.booking_created, pen.about(0), "B", attendees=_booked_by_email(pen))
    pen.app("updated", 1500, customer=_by_email(pen), calcom_booking_uid=pen.uid("B"))
    ends = [
        pen.end("synced", (), (AMBIGUOUS, AMBIGUOUS, RESOLVED, RESOLVED), letters="B", after=-50),
        pen.end("orphaned_calcom", (CALCOM,), (AMBIGUOUS, RESOLVED, CALCOM), which=None, after=-50),
    ]
    return pen.case("two bookings fit until a key chooses", *ends)


def named_at_last(pen: Pen) -> Case:
    """The first booking that the app names is another one: the one that it was met with is called off."""
    _met(pen)
    pen.app("updated", 1500, customer=_by_email(pen), calcom_booking_uid=pen.uid("B"))
    pen.calcom(builders.booking_created, 1520, "B", attendees=_booked_by_email(pen))
    pen.calcom(builders.booking_cancelled, 1540, attendees=_booked_by_email(pen))
    return pen.case("met, and another one named at last", pen.synced("B"), pen.synced(which=None))


def corrected(pen: Pen) -> Case:
    """A person and a time brought the wrong two together; the keys that come later take them apart."""
    _met(pen)
    delay = pen.random.uniform(0, 30)
    pen.app("created", 1500, 1, customer=_by_email(pen), delay=delay, calcom_booking_uid=pen.uid("A"))
    pen.app("updated", 1505, 0, customer=_by_email(pen), calcom_booking_uid=pen.uid("B"))
    pen.calcom(builders.booking_created, pen.about(1500), "B", attendees=_booked_by_email(pen))
    return pen.case("weak match corrected by keys", pen.synced(which=1), pen.synced("B", which=0))


def corrected_for_good(pen: Pen) -> Case:
    """The booking turns out to be another appointment's; the first one has none."""
    _met(pen)
    pen.app("created", 1500, 1, customer=_by_email(pen), calcom_booking_uid=pen.uid("A"))
    ends = [pen.synced(which=1), pen.end("orphaned_local", (LOCAL,), letters="", after=1500)]
    return pen.case("weak match corrected, one is left alone", *ends)


def same_time_again(pen: Pen) -> Case:
    """Cancelled, and booked anew for the same time: the living are each other's."""
    _same_time_again(pen)
    return pen.case("the same time again", pen.synced(), pen.synced("B", which=1))


def same_time_again_in_vain(pen: Pen) -> Case:
    """The second is cancelled, too: who was whose among the cancelled is nobody's business, and nothing to flag."""
    _same_time_again(pen)
    pen.app("cancelled", pen.about(3000), 1)
    pen.calcom(builders.booking_cancelled, pen.about(3000), "B")
    apart = [pen.synced("", 0), pen.synced("", 1), pen.synced("A", None), pen.synced("B", None)]
    ends = [pen.synced(), pen.synced("B", which=1)]
    return pen.case("the same time again, in vain", *ends, or_ends=tuple(apart))


def _same_time_again(pen: Pen) -> None:
    _met(pen)
    pen.app("cancelled", 1000)
    pen.calcom(builders.booking_cancelled, pen.about(1000))
    pen.app("created", pen.about(2000), 1)
    pen.calcom(builders.booking_created, pen.about(2000), "B")


def key_comes_late(pen: Pen) -> Case:
    """A booking at another time and an appointment are one only since the app says so."""
    pen.app("created", 0)
    pen.calcom(builders.booking_created, pen.about(0), minutes=120)
    pen.app("rescheduled", 150, minutes=120, **pen.link())
    return pen.case("the key comes a little later", pen.synced())


def differs_for_a_while(pen: Pen) -> Case:
    _met(pen)
    pen.app("updated", 1500, minutes=25)
    pen.app("updated", 3200)
    return pen.case("met, another time for a while", pen.end("synced", (), (MISMATCH, RESOLVED), after=1500))
