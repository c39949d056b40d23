"""Cases of every day: pairs, late and lost webhooks, cancels, moves, deletions, links that change."""

from datetime import timedelta
from typing import Final

from tests.sim.pen import CALCOM, LOCAL, MISMATCH, RESOLVED, WINDOW_SECONDS, Case, Pen
from tests.support import builders

DISORDER_STEP_SECONDS: Final = 25
CALM_STEP_SECONDS: Final = 700
CHAIN: Final = "ABCDEF"


def pair(pen: Pen) -> Case:
    _paired(pen)
    return pen.case("pair", pen.synced())


def _paired(pen: Pen) -> None:
    pen.app("created", 0, **pen.link())
    pen.calcom(builders.booking_created, pen.about(0, 100))


def pair_by_metadata(pen: Pen) -> Case:
    pen.app("created", 0)
    pen.calcom(builders.booking_created, pen.about(0, 100), metadata={"appointment_id": pen.appointment_id()})
    return pen.case("pair by metadata", pen.synced())


def lost_webhook(pen: Pen) -> Case:
    pen.app("created", 0, **pen.link())
    return pen.case("lost webhook", pen.local_alone())


def ghost(pen: Pen) -> Case:
    pen.calcom(builders.booking_created, 0)
    return pen.case("ghost booking", pen.calcom_alone())


def ghost_that_moves(pen: Pen) -> Case:
    pen.calcom(builders.booking_created, 0)
    pen.moved(30, "B", "A", minutes=60)
    pen.moved(70, "C", "B", minutes=90)
    return pen.case("ghost booking that moves", pen.calcom_alone("ABC"))


def late(pen: Pen) -> Case:
    pen.app("created", 0, **pen.link())
    pen.calcom(builders.booking_created, 10, delay=WINDOW_SECONDS + pen.random.uniform(100, 3000))
    return pen.case("late webhook", pen.end("synced", (), (LOCAL, RESOLVED)), reveal=False)


def late_in_the_app(pen: Pen) -> Case:
    pen.calcom(builders.booking_created, 0)
    pen.app("created", 10, delay=WINDOW_SECONDS + pen.random.uniform(100, 3000), **pen.link())
    return pen.case("late appointment", pen.end("synced", (), (CALCOM, RESOLVED)))


def cancelled_on_both(pen: Pen) -> Case:
    _paired(pen)
    pen.app("cancelled", 1000, **pen.link())
    pen.calcom(builders.booking_cancelled, pen.about(1000, 100))
    return pen.case("cancelled on both", pen.synced())


def clock_is_wrong(pen: Pen) -> Case:
    """No clock of a producer moves a window; one that runs ahead does not win over what comes after it."""
    skew = timedelta(days=pen.random.choice([-3, 3]))
    pen.app("created", 0, skew=skew, **pen.link())
    pen.calcom(builders.booking_created, pen.about(0))
    pen.app("cancelled", 1000, skew=skew, **pen.link())
    pen.calcom(builders.booking_cancelled, pen.about(1000))
    return pen.case("the app's clock is wrong", pen.synced())


def cancelled_on_one(pen: Pen) -> Case:
    _paired(pen)
    if pen.random.random() < 0.5:
        pen.app("cancelled", 1000, **pen.link())
    else:
        pen.calcom(builders.booking_cancelled, 1000)
    return pen.case("one-sided cancel", pen.mismatch(after=1000))


def cancel_first(pen: Pen) -> Case:
    pen.calcom(builders.booking_created, 0, delay=50)
    pen.calcom(builders.booking_cancelled, 30, delay=0)
    return pen.case("cancel before create", pen.synced(which=None))


def rejected(pen: Pen) -> Case:
    pen.app("created", 0, status="pending", **pen.link())
    pen.calcom(builders.booking_requested, 10)
    pen.calcom(builders.booking_rejected, 1000)
    pen.app("cancelled", 1000, **pen.link())
    return pen.case("request that was rejected", pen.synced())


# --- moves ------------------------------------------------------------------------------------------------------


def moved_on_one(pen: Pen) -> Case:
    _paired(pen)
    if pen.random.random() < 0.5:
        pen.moved(1000, "B", "A", minutes=30)
        return pen.case("moved at Cal.com only", pen.mismatch("AB", after=1000))
    pen.app("rescheduled", 1000, minutes=30, **pen.link())
    return pen.case("moved in the app only", pen.mismatch(after=1000))


def chain(pen: Pen) -> Case:
    """Three to five moves; in disorder they overtake each other, and the app names any uid of the chain, or none."""
    step = pen.random.choice([DISORDER_STEP_SECONDS, CALM_STEP_SECONDS])
    moves = pen.random.randint(3, 5)
    letters = CHAIN[: moves + 1]
    pen.app("created", 0, **pen.link())
    pen.calcom(builders.booking_created, pen.about(0, 10))
    for n in range(1, moves + 1):
        pen.moved(n * step, letters[n], letters[n - 1], minutes=30 * n)
        link = pen.link(pen.random.choice(letters[: n + 1])) if pen.random.random() < 0.5 else pen.link()
        pen.app("rescheduled", pen.about(n * step, 10), minutes=30 * n, **link)
    return pen.case(f"chain of {moves} moves", pen.synced(letters))


def chain_that_is_told_backwards(pen: Pen) -> Case:
    moves = pen.random.randint(3, 5)
    letters = CHAIN[: moves + 1]
    for n in range(moves, 0, -1):
        pen.moved(n * 10, letters[n], letters[n - 1], minutes=30 * n, delay=(moves - n) * 20)
    pen.calcom(builders.booking_created, 0, delay=moves * 20)
    pen.app("created", 5, delay=pen.random.uniform(0, 120), **pen.link())
    pen.app("rescheduled", moves * 10 + 5, minutes=30 * moves, delay=pen.random.uniform(0, 120), **pen.link())
    return pen.case("chain that is told backwards", pen.synced(letters))


def chain_without_a_link(pen: Pen) -> Case:
    """Only the first body names the appointment; all that follow name their predecessors."""
    pen.app("created", 0)
    pen.calcom(builders.booking_created, pen.about(0, 20), metadata={"appointment_id": pen.appointment_id()})
    for n, letter in enumerate("BCD", 1):
        pen.moved(n * CALM_STEP_SECONDS, letter, CHAIN[n - 1], minutes=30 * n)
        pen.app("rescheduled", pen.about(n * CALM_STEP_SECONDS), minutes=30 * n)
    return pen.case("chain that metadata began", pen.synced("ABCD"))


def chain_with_a_hole(pen: Pen) -> Case:
    """The middle's webhook was lost: the calendar's id alone links what comes after it to what came before."""
    _paired(pen)
    pen.moved(1000, "C", "B", minutes=60, iCalUID=f"{pen.uid('A')}@Cal.com", delay=0)
    pen.app("rescheduled", pen.about(1000), minutes=60, **pen.link())
    return pen.case("chain with a hole", pen.synced("AC"))


def chain_without_its_beginning(pen: Pen) -> Case:
    pen.app("created", 0, **pen.link())
    pen.moved(40, "B", "A", minutes=60)
    pen.app("rescheduled", 60, minutes=60, **pen.link())
    return pen.case("chain without its beginning", pen.synced("B"))


def move_known_by_asking(pen: Pen) -> Case:
    """The move's webhook was lost: only the answers of the API tell where the booking went."""
    _paired(pen)
    pen.answer(1000, "A", status="cancelled", rescheduledToUid=pen.uid("B"))
    letters = "A"  # that it was moved is known, and not to when: nothing differs
    if pen.random.random() < 0.5:
        pen.answer(1000, "B", minutes=60, rescheduledFromUid=pen.uid("A"))
        letters = "AB"
    pen.app("rescheduled", pen.about(1000), minutes=60, **pen.link())
    return pen.case("move known by asking", pen.end("synced", letters=letters, in_force="B"), reveal=False)


# --- deletions, and links that change -----------------------------------------------------------------------------


def deleted(pen: Pen) -> Case:
    _paired(pen)
    pen.app("deleted", 1000, **pen.link())
    return pen.case("deleted in the app", pen.end("orphaned_calcom", (CALCOM,), after=1000))


def restored(pen: Pen) -> Case:
    _paired(pen)
    pen.app("deleted", 1000, **pen.link())
    pen.app("updated", 1100, **pen.link())
    return pen.case("deleted and restored", pen.synced())


def restored_late(pen: Pen) -> Case:
    _paired(pen)
    pen.app("deleted", 1000, **pen.link())
    pen.app("created", 3000, **pen.link())
    return pen.case("restored late", pen.end("synced", (), (CALCOM, RESOLVED), after=1000))


def booked_anew(pen: Pen) -> Case:
    """The booking was called off and another made instead of being moved: the app names the new one."""
    _paired(pen)
    pen.calcom(builders.booking_cancelled, pen.about(1000))
    pen.calcom(builders.booking_created, pen.about(1000), "B", minutes=45)
    pen.app("updated", 1000, minutes=45, calcom_booking_uid=pen.uid("B"))
    return pen.case("another uid, the old one cancelled", pen.synced("B"), pen.synced(which=None))


def booked_twice(pen: Pen) -> Case:
    """The app names another booking, and nobody called off the first."""
    _paired(pen)
    pen.calcom(builders.booking_created, pen.about(1000), "B", minutes=45)
    pen.app("updated", 1000, minutes=45, calcom_booking_uid=pen.uid("B"))
    return pen.case("another uid, the old one alive", pen.synced("B"), pen.calcom_alone(after=900))


def longer(pen: Pen) -> Case:
    """The duration was changed on one side, and half an hour later on the other."""
    _paired(pen)
    ends_at = pen.starts_at + 2 * builders.HALF_AN_HOUR
    pen.app("updated", 1000, ends_at=ends_at, **pen.link())
    pen.calcom(builders.booking_created, 2800, endTime=builders.z(ends_at))
    return pen.case("longer, late", pen.end("synced", (), (MISMATCH, RESOLVED), after=1000))
