"""Cases of a company whose Cal.com can be asked: webhooks that were lost, and what is true all the same."""

from typing import Final

from tests.sim.pen import WINDOW_SECONDS, Case, Json, Pen
from tests.support import builders

#: A replica is behind by less than two questions are apart.
LAG_SECONDS: Final = 25


def told_by_nobody(pen: Pen) -> Case:
    """The webhook was lost, and the app knows the booking by uid or by number."""
    pen.app("created", 0, **pen.link())
    pen.at_calcom(0)
    return pen.case("webhook lost", pen.synced())


def found_by_search(pen: Pen) -> Case:
    """The webhook was lost, and the app knows nothing of the booking but who comes when."""
    pen.app("created", 0)
    metadata = {"appointment_id": pen.appointment_id()} if pen.random.random() < 0.5 else {}
    pen.at_calcom(pen.about(0), metadata=metadata)
    return pen.case("webhook lost, found by search", pen.synced())


def there_is_none(pen: Pen) -> Case:
    """Cal.com has no such booking, nor ever had."""
    pen.app("created", 0, **(pen.link() if pen.random.random() < 0.5 else {}))
    return pen.case("no booking at Cal.com", pen.local_alone())


def ghost(pen: Pen) -> Case:
    pen.calcom(builders.booking_created, 0)
    pen.at_calcom(0)
    return pen.case("ghost booking, confirmed", pen.calcom_alone())


def ghost_that_is_gone(pen: Pen) -> Case:
    """Its row was deleted at Cal.com, which tells nobody."""
    pen.calcom(builders.booking_created, 0)
    pen.at_calcom(0)
    pen.gone_at_calcom(60)
    return pen.case("ghost booking that is gone", pen.synced(which=None))


def moved_in_silence(pen: Pen) -> Case:
    """The webhook of a move was lost; the app names the new booking, the old one, or none."""
    _paired(pen)
    pen.at_calcom(1000, status="cancelled", rescheduledToUid=pen.uid("B"))
    pen.at_calcom(1000, "B", minutes=60, rescheduledFromUid=pen.uid("A"))
    pen.app("rescheduled", pen.about(1000), minutes=60, **pen.random.choice([pen.link(), pen.link("B"), {}]))
    return pen.case("move whose webhook was lost", pen.synced("AB"))


def moved_twice_in_silence(pen: Pen) -> Case:
    _paired(pen)
    pen.at_calcom(1000, status="cancelled", rescheduledToUid=pen.uid("B"))
    pen.at_calcom(
        1000, "B", minutes=60, status="cancelled", rescheduledFromUid=pen.uid("A"), rescheduledToUid=pen.uid("C")
    )
    pen.at_calcom(1000, "C", minutes=90, rescheduledFromUid=pen.uid("B"))
    pen.app("rescheduled", pen.about(1000), minutes=90)
    return pen.case("two moves whose webhooks were lost", pen.synced("ABC"))


def moved_on_one(pen: Pen) -> Case:
    _paired(pen)
    pen.app("rescheduled", 1000, minutes=60)
    return pen.case("moved in the app only, confirmed", pen.mismatch(after=1000))


def cancelled_in_silence(pen: Pen) -> Case:
    _paired(pen)
    pen.at_calcom(1000, status=pen.random.choice(["cancelled", "rejected"]))
    pen.app("cancelled", pen.about(1000))
    return pen.case("cancel whose webhook was lost", pen.synced())


def cancelled_on_one(pen: Pen) -> Case:
    _paired(pen)
    pen.app("cancelled", 1000)
    return pen.case("cancelled in the app only, confirmed", pen.mismatch(after=1000))


def seen_late(pen: Pen) -> Case:
    """The replica that answers does not have it yet."""
    pen.app("created", 0, **pen.link())
    pen.at_calcom(WINDOW_SECONDS + pen.random.uniform(0, LAG_SECONDS))
    return pen.case("booking that the replica shows late", pen.synced())


def pair(pen: Pen) -> Case:
    _paired(pen)
    return pen.case("pair, of a company that is asked", pen.synced())


def _paired(pen: Pen) -> None:
    known: Json = pen.link()
    pen.app("created", 0, **known)
    pen.calcom(builders.booking_created, pen.about(0, 100))
    pen.at_calcom(0)


ALL: Final = (
    told_by_nobody, found_by_search, there_is_none, ghost, ghost_that_is_gone, moved_in_silence,
    moved_twice_in_silence, moved_on_one, cancelled_in_silence, cancelled_on_one, seen_late, pair,
)  # fmt: skip
