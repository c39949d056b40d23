"""Cases in which somebody is waited for: the host's word, a payment, another time that the host asked for."""

from typing import Final

from schemas.rules import Waiting
from tests.sim.pen import Case, Json, Pen
from tests.support import builders

DAY_SECONDS: Final = 86_400.0


# --- the host's word --------------------------------------------------------------------------------------------


def never_answered(pen: Pen) -> Case:
    pen.calcom(builders.booking_requested, 0)
    if pen.policy.unconfirmed is Waiting.IGNORE:
        return pen.case("never answered, ignored by policy", pen.synced(which=None))
    return pen.case("never answered", pen.calcom_alone(waits=DAY_SECONDS))


def never_answered_on_both(pen: Pen) -> Case:
    pen.app("created", 0, status="pending", **pen.link())
    pen.calcom(builders.booking_requested, pen.about(0))
    return pen.case("pending on both sides", pen.synced())


def never_answered_but_told(pen: Pen) -> Case:
    """The app told the customer yes, the host never did."""
    pen.app("created", 0, **pen.link())
    pen.calcom(builders.booking_requested, pen.about(0))
    return pen.case("confirmed in the app only", pen.mismatch(after=-50, waits=DAY_SECONDS))


def answered(pen: Pen) -> Case:
    """The confirmation is a BOOKING_CREATED without metadata; the app knew of the request, or tells of it by then."""
    known = pen.random.random() < 0.7
    if known:
        pen.app("created", 0, status=pen.random.choice(["pending", "scheduled"]), **pen.link())
    pen.calcom(builders.booking_requested, pen.about(0), metadata={"appointment_id": pen.appointment_id()})
    pen.calcom(builders.confirmed_later, 3000)
    pen.app("updated" if known else "created", pen.about(3000))
    return pen.case("confirmed after long", pen.synced())


def answered_alone(pen: Pen) -> Case:
    pen.calcom(builders.booking_requested, 0)
    pen.calcom(builders.confirmed_later, 3000)
    return pen.case("confirmed, and unknown in the app", pen.calcom_alone(after=3000))


def refused_alone(pen: Pen) -> Case:
    pen.calcom(builders.booking_requested, 0)
    pen.calcom(builders.booking_rejected, 3000)
    return pen.case("refused, and unknown in the app", pen.synced(which=None))


def move_that_needs_an_answer(pen: Pen) -> Case:
    """A BOOKING_REQUESTED in the place of the BOOKING_RESCHEDULED; who came before stands in it, or not (cal.diy)."""
    pen.app("created", 0, **pen.link())
    pen.calcom(builders.booking_created, pen.about(0))
    before: Json = {"iCalUID": f"{pen.uid('A')}@Cal.com"}
    if pen.random.random() < 0.5:
        before = {"rescheduleUid": pen.uid("A"), "rescheduleId": pen.booking_id("A")}
    pen.calcom(builders.booking_requested, 1000, "B", minutes=30, **before)
    pen.app(
        "rescheduled", pen.about(1000), minutes=30, status=pen.random.choice(["pending", "confirmed"]), **pen.link()
    )
    pen.calcom(builders.confirmed_later, 2500, "B", minutes=30)
    pen.app("updated", pen.about(2500), minutes=30, **pen.link())
    if pen.random.random() < 0.5:
        return pen.case("move that needed an answer", pen.synced("AB"))
    pen.moved(3500, "C", "B", minutes=75)
    pen.app("rescheduled", pen.about(3500), minutes=75, **pen.link(pen.random.choice("AB")))
    return pen.case("move that needed an answer, and another", pen.synced("ABC"))


# --- another time that the host asked for -----------------------------------------------------------------------


def _recalled(pen: Pen) -> None:
    pen.app("created", 0, **pen.link())
    pen.calcom(builders.booking_created, pen.about(0))
    pen.calcom(builders.booking_cancelled, 1000, requestReschedule=True, cancellationReason="The doctor is ill")
    if pen.random.random() < 0.5:
        pen.app("updated", pen.about(1000), status="pending", **pen.link())


def recalled_and_moved(pen: Pen) -> Case:
    _recalled(pen)
    pen.moved(3000, "B", "A", minutes=90)
    pen.app("rescheduled", pen.about(3000), minutes=90, **pen.link(pen.random.choice("AB")))
    return pen.case("another time asked for, and chosen", pen.synced("AB"))


def recalled_and_booked_anew(pen: Pen) -> Case:
    """Nothing links the new booking to the old one (cal.diy #28543), but it is the only one that can be meant."""
    _recalled(pen)
    pen.calcom(builders.booking_created, 3000, "B", minutes=90)
    pen.app("rescheduled", pen.about(3000), minutes=90, **pen.link("A"))
    return pen.case("another time asked for, and booked anew", pen.synced("AB"))


def recalled_for_good(pen: Pen) -> Case:
    pen.app("created", 0, **pen.link())
    pen.calcom(builders.booking_created, pen.about(0))
    pen.calcom(builders.booking_cancelled, 1000, requestReschedule=True)
    return pen.case("another time asked for, never chosen", pen.mismatch(after=1000, waits=DAY_SECONDS))


# --- a payment --------------------------------------------------------------------------------------------------


def never_paid(pen: Pen) -> Case:
    pen.calcom(builders.payment_initiated, 0, metadata={"appointment_id": pen.appointment_id()})
    if pen.policy.unpaid is Waiting.IGNORE:
        return pen.case("never paid", pen.synced(which=None), reveal=False)
    return pen.case("never paid, flagged by policy", pen.calcom_alone(waits=DAY_SECONDS), reveal=False)


def never_paid_on_both(pen: Pen) -> Case:
    pen.app("created", 0, status="pending", **pen.link())
    pen.calcom(builders.payment_initiated, pen.about(0), metadata={"appointment_id": pen.appointment_id()})
    return pen.case("unpaid on both sides", pen.synced(), reveal=False)


def paid(pen: Pen) -> Case:
    """BOOKING_CREATED comes after the payment, before or after BOOKING_PAID, as the version will have it."""
    _pay(pen)
    if pen.random.random() < 0.5:
        pen.app("created", pen.about(0), status="pending", **pen.link())
        pen.app("updated", pen.about(2000), **pen.link())
    else:
        pen.app("created", pen.about(2000), **pen.link())
    return pen.case("paid after long", pen.synced(), reveal=False)


def paid_and_answered(pen: Pen) -> Case:
    """Payment first, then the host's word: the request says neither its status nor whose it is."""
    pen.app("created", 0, status="pending", **pen.link())
    pen.calcom(builders.payment_initiated, pen.about(0), metadata={"appointment_id": pen.appointment_id()})
    pen.calcom(builders.paid, 1500)
    pen.calcom(builders.booking_requested, 1502, status=None)
    pen.calcom(builders.confirmed_later, 3000)
    pen.app("updated", pen.about(3000), **pen.link())
    return pen.case("paid, and confirmed by the host", pen.synced(), reveal=False)


def paid_alone(pen: Pen) -> Case:
    _pay(pen)
    return pen.case("paid, and unknown in the app", pen.calcom_alone(after=2000), reveal=False)


def _pay(pen: Pen) -> None:
    pen.calcom(builders.payment_initiated, 0, metadata={"appointment_id": pen.appointment_id()})
    first, second = pen.random.sample([builders.paid, builders.confirmed_later], 2)
    pen.calcom(first, 2000)
    if pen.random.random() < 0.8:
        pen.calcom(second, 2001)
