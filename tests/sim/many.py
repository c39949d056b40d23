"""Cases of one booking that is many records: seats of one uid, occurrences of one series."""

from typing import Any, Final

from tests.sim.pen import Case, Json, Pen
from tests.support import builders

WEEK_MINUTES: Final = 7 * 24 * 60
LETTERS: Final = "ABCDEF"
SEATS: Final[Json] = {"seatsPerTimeSlot": 5}


# --- seats ------------------------------------------------------------------------------------------------------


def _take_seats(pen: Pen, seats: int) -> None:
    """Everybody has an appointment of their own that names the one uid."""
    for who in range(seats):
        pen.app("created", pen.about(0), who, who=who, **pen.link())
        _take_seat(pen, who)


def _take_seat(pen: Pen, who: int) -> None:
    seat: Json = dict(SEATS)
    if pen.number % 2:  # some versions of Cal.com leave it out
        seat["attendeeSeatId"] = f"seat-{pen.number}-{who}"
    if pen.random.random() < 0.3:
        seat["metadata"] = {"appointment_id": pen.appointment_id(who)}
    pen.calcom(builders.booking_created, pen.about(0), who=who, **seat)


def _everybody(pen: Pen, seats: int) -> list[Json]:
    return [builders.attendee(pen.person(who).email, phone=pen.person(who).phone) for who in range(seats)]


def seats_taken(pen: Pen) -> Case:
    seats = pen.random.randint(2, 4)
    _take_seats(pen, seats)
    return pen.case("seats", *[pen.synced(which=who, seat=who) for who in range(seats)])


def seat_left(pen: Pen) -> Case:
    seats, leaver = pen.random.randint(2, 4), pen.random.randint(0, 1)
    _take_seats(pen, seats)
    pen.calcom(builders.booking_cancelled, 1000, who=leaver, **SEATS)
    pen.app("cancelled", pen.about(1000), leaver, who=leaver, **pen.link())
    return pen.case("a seat is left", *[pen.synced(which=who, seat=who) for who in range(seats)])


def seat_left_on_one(pen: Pen) -> Case:
    seats, leaver = pen.random.randint(2, 4), pen.random.randint(0, 1)
    _take_seats(pen, seats)
    pen.calcom(builders.booking_cancelled, 1000, who=leaver, **SEATS)
    ends = [
        pen.mismatch(which=who, seat=who, after=1000) if who == leaver else pen.synced(which=who, seat=who)
        for who in range(seats)
    ]
    return pen.case("a seat is left at Cal.com only", *ends)


def seats_called_off(pen: Pen) -> Case:
    """The host calls off the whole booking, by one webhook."""
    seats = pen.random.randint(2, 4)
    _take_seats(pen, seats)
    shape = pen.random.choice([SEATS, {}])  # some bodies do not even say that there are seats
    pen.calcom(builders.booking_cancelled, 1000, attendees=_everybody(pen, seats), **shape)
    for who in range(seats):
        pen.app("cancelled", pen.about(1000), who, who=who, **pen.link())
    return pen.case("all seats called off", *[pen.synced(which=who, seat=who) for who in range(seats)])


def seats_moved(pen: Pen) -> Case:
    """The owner moves the slot: uid and booking id stay, and the uid is named as its own predecessor."""
    seats = pen.random.randint(2, 4)
    _take_seats(pen, seats)
    own: Json = {"old_uid": pen.uid("A"), "old_booking_id": None}
    pen.calcom(builders.booking_rescheduled, 1000, minutes=60, attendees=_everybody(pen, seats), **(own | SEATS))
    for who in range(seats):
        pen.app("rescheduled", pen.about(1000), who, who=who, minutes=60, **pen.link())
    return pen.case("all seats moved", *[pen.synced(which=who, seat=who) for who in range(seats)])


def only_the_first_fires(pen: Pen) -> Case:
    """Cal.com told of the first seat alone; nobody knows whether the others were taken."""
    for who in range(2):
        pen.app("created", pen.about(0), who, who=who, **pen.link())
    _take_seat(pen, 0)
    return pen.case("only the first seat fires", pen.synced(which=0, seat=0), pen.local_alone(1, after=-50))


# --- series -----------------------------------------------------------------------------------------------------


class Series:
    """A series of three to five weeks. How its appointments know their bookings is the same for all of them."""

    def __init__(self, pen: Pen) -> None:
        """Every occurrence has a uid of its own and a letter."""
        self.pen = pen
        self.count = pen.random.randint(3, 5)
        self.letters = LETTERS[: self.count]
        rhythm = {"freq": 2, "count": self.count, "interval": 1}
        self.over: Json = {"recurringEvent": rhythm}
        weak = ["person", "the first one's metadata"] if pen.policy.match_by_attendee else []
        self.known_by = pen.random.choice(["link", "metadata", *weak])

    def appoint(self, n: int, kind: str = "created", seconds: float = 0, **fields: Any) -> None:
        pen = self.pen
        link = pen.link(self.letters[n]) if self.known_by == "link" else {}
        pen.app(kind, pen.about(seconds), n, minutes=n * WEEK_MINUTES, **(link | fields))

    def book(self, n: int, make: Any = builders.booking_created, seconds: float = 0, **fields: Any) -> None:
        over = self.over | fields
        if "metadata" in self.known_by and make in (builders.booking_created, builders.booking_requested):
            named = n if self.known_by == "metadata" else 0  # Cal.com gives every occurrence what one POST said
            over |= {"metadata": {"appointment_id": self.pen.appointment_id(named)}}
        self.pen.calcom(make, seconds + n, self.letters[n], minutes=n * WEEK_MINUTES, **over)

    def synced(self, *, but: int | None = None) -> list[Any]:
        return [self.pen.synced(letter, n) for n, letter in enumerate(self.letters) if n != but]


def series(pen: Pen) -> Case:
    one = Series(pen)
    for n in range(one.count):
        one.appoint(n)
        one.book(n)
    return pen.case(f"series by {one.known_by}", *one.synced())


def series_without_one_webhook(pen: Pen) -> Case:
    one, lost = Series(pen), pen.random.randint(0, 2)
    for n in range(one.count):
        one.appoint(n)
        if n != lost:
            one.book(n)
    alone = pen.local_alone(lost, after=-50)
    return pen.case(f"series by {one.known_by} without one webhook", *one.synced(but=lost), alone)


def series_without_one_appointment(pen: Pen) -> Case:
    one, lost = Series(pen), pen.random.randint(0, 2)
    for n in range(one.count):
        one.book(n)
        if n != lost:
            one.appoint(n)
    alone = pen.calcom_alone(one.letters[lost])
    return pen.case(f"series by {one.known_by} without one appointment", *one.synced(but=lost), alone)


def series_called_off(pen: Pen) -> Case:
    """All that remains is cancelled: many rows at Cal.com, one webhook."""
    one = Series(pen)
    for n in range(one.count):
        one.appoint(n)
        one.book(n)
        one.appoint(n, "cancelled", 1000)
    one.book(pen.random.randrange(one.count), builders.booking_cancelled, 1000)
    return pen.case(f"series by {one.known_by} called off", *one.synced())


def series_confirmed(pen: Pen) -> Case:
    """A series that was asked for is confirmed: many rows at Cal.com, one webhook, for the first."""
    one = Series(pen)
    for n in range(one.count):
        one.appoint(n, status="pending")
        one.book(n, builders.booking_requested)
        one.appoint(n, "updated", 1000)
    one.book(0, builders.confirmed_later, 1000)
    return pen.case(f"series by {one.known_by} confirmed at once", *one.synced())


def occurrence_cancelled(pen: Pen) -> Case:
    """One occurrence alone is cancelled, on both sides: its webhook does not speak of the series."""
    one, gone = Series(pen), pen.random.randint(0, 2)
    for n in range(one.count):
        one.appoint(n)
        one.book(n)
    one.appoint(gone, "cancelled", 1000)
    one.book(gone, builders.booking_cancelled, 1000, recurringEvent=None)
    return pen.case(f"one occurrence cancelled, by {one.known_by}", *one.synced())
