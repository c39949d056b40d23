"""Every shape of what Cal.com sends against every history of an appointment: the endings, written by hand.

A cell says what comes of the two: `=` they agree, `x` they differ, `d` the app deleted what lives at Cal.com; apart,
`L` is an appointment that lives without a booking, `C` a booking without an appointment, `l` and `c` such that nobody
is coming to any more (or that are nobody's business yet). Behind a slash stands what it is with the third rung off.
"""

from collections.abc import Callable
from typing import Final

from schemas.flags import Kind
from services.reconciler.core.events import Heard
from services.reconciler.core.matching import Rule
from tests.property import telling as h
from tests.property.histories import RECALL, RHYTHM, A
from tests.property.telling import MIA, End, Row, hook, moved, observed
from tests.support import builders as b
from tests.support.history import POLICY, START, local

#: What the app told: by the word at the head of the column. All but `met` name the booking's uid.
APPOINTMENTS: Final[dict[str, list[Heard]]] = {
    "none": [],
    "named": [local(**A)],
    "met": [local()],
    "pending": [local(status="pending", **A)],
    "moved": [local(**A), local("rescheduled", 62, minutes=30, **A)],
    "off": [local(**A), local("cancelled", 62, **A)],
    "deleted": [local(**A), local("deleted", 62, **A)],
}
CREATED: Final = hook(b.booking_created)
STARTED: Final = h.flat_fact(b.meeting_started("A", booking_id=h.number("A"), starts_at=START), 61)
NO_SHOW: Final = h.flat_fact(b.no_show_updated("A", booking_id=h.number("A")), 61)
UNPAID: Final = hook(b.payment_initiated, metadata={})
PAID: Final = hook(b.paid, 60)
FORM: Final = h.said(b"event=BOOKING_CREATED&uid=A&status=ACCEPTED&startTime=" + b.z(START).encode(), 1)
SEAT: Final = hook(b.seat_taken, email=MIA, seat_id="seat-mia")

#: What Cal.com sent: a name, the events, the chain that comes of it.
BOOKINGS: Final[dict[str, tuple[list[Heard], str]]] = {
    "created": ([CREATED], "A"),
    "created, with metadata": ([hook(b.booking_created, metadata=h.meta())], "A"),
    "created, registered twice": ([CREATED, hook(b.booking_created, 1.004)], "A"),
    "created, an occurrence": ([hook(b.booking_created, **RHYTHM)], "A"),
    "created, as a form": ([FORM], "A"),
    "created, then a fact": ([CREATED, STARTED, NO_SHOW], "A"),
    "requested": ([hook(b.booking_requested)], "A"),
    "confirmed": ([hook(b.booking_requested), hook(b.confirmed_later, 60)], "A"),
    "refused": ([hook(b.booking_requested), hook(b.booking_rejected, 60)], "A"),
    "refused alone": ([hook(b.booking_rejected, 60)], "A"),
    "unpaid": ([UNPAID], "A"),
    "paid": ([UNPAID, PAID], "A"),
    "paid, then created": ([UNPAID, PAID, hook(b.confirmed_later, 61)], "A"),
    "created, then paid": ([UNPAID, hook(b.confirmed_later, 59), PAID], "A"),
    "moved": ([CREATED, moved(60, "B", "A", minutes=30)], "A>B"),
    "moved alone": ([moved(60, "B", "A", minutes=30)], "A>B"),
    "moved in place": ([CREATED, hook(b.booking_rescheduled, 60, minutes=30, old_uid="A", old_booking_id=None)], "A"),
    "called off": ([CREATED, hook(b.booking_cancelled, 60)], "A"),
    "called off alone": ([hook(b.booking_cancelled, 60)], "A"),
    "called off, with metadata": ([hook(b.booking_cancelled, 60, metadata=h.meta())], "A"),
    "another time wanted": ([CREATED, hook(b.booking_cancelled, 60, **RECALL)], "A"),
    "a meeting's start alone": ([STARTED], "A"),
    "a payment alone": ([PAID], "A"),
    "an absence alone": ([NO_SHOW], "A"),
    "observed": ([*observed(60)], "A"),
    "observed pending": ([*observed(60, status="pending")], "A"),
    "observed awaiting a host": ([*observed(60, status="awaiting_host")], "A"),
    "observed called off": ([CREATED, *observed(60, status="cancelled")], "A"),
    "observed moved away": ([CREATED, *observed(60, status="cancelled", rescheduledToUid="B")], "A>B"),
    "a seat": ([SEAT], f"A#{MIA}"),
    "a seat, left": ([SEAT, hook(b.seat_left, 60, email=MIA)], f"A#{MIA}"),
    "a seat, moved in place": ([SEAT, hook(h.in_place, 60, minutes=30)], f"A#{MIA}"),
    "a seat, called off by a body without seats": ([SEAT, hook(b.booking_cancelled, 60)], f"A#{MIA}"),
}  # fmt: skip

_ENDINGS: Final = """
                          |  none  | named  |   met    | pending | moved  |  off   | deleted
created                   |  C     |  =     |  =/L C   |  x      |  x     |  x     |  d
created, with metadata    |  C     |  =     |  =       |  x      |  x     |  x     |  d
created, registered twice |  C     |  =     |  =/L C   |  x      |  x     |  x     |  d
created, an occurrence    |  C     |  =     |  =/L C   |  x      |  x     |  x     |  d
created, as a form        |  C     |  =     |  L C     |  x      |  x     |  x     |  d
created, then a fact      |  C     |  =     |  =/L C   |  x      |  x     |  x     |  d
requested                 |  C     |  x     |  x/L C   |  =      |  x     |  x     |  d
confirmed                 |  C     |  =     |  =/L C   |  x      |  x     |  x     |  d
refused                   |  c     |  x     |  x/L c   |  x      |  x     |  =     |  =
refused alone             |  c     |  x     |  L c     |  x      |  x     |  =     |  =
unpaid                    |  c     |  x     |  x/L c   |  =      |  x     |  =     |  =
paid                      |  C     |  =     |  =/L C   |  x      |  x     |  x     |  d
paid, then created        |  C     |  =     |  =/L C   |  x      |  x     |  x     |  d
created, then paid        |  C     |  =     |  =/L C   |  x      |  x     |  x     |  d
moved                     |  C     |  x     |  x/L C   |  x      |  =     |  x     |  d
moved alone               |  C     |  x     |  L C     |  x      |  =     |  x     |  d
moved in place            |  C     |  x     |  x/L C   |  x      |  =     |  x     |  d
called off                |  c     |  x     |  x/L c   |  x      |  x     |  =     |  =
called off alone          |  c     |  x     |  L c     |  x      |  x     |  =     |  =
called off, with metadata |  c     |  x     |  x       |  x      |  x     |  =     |  =
another time wanted       |  c     |  x     |  x/L c   |  =      |  x     |  =     |  =
a meeting's start alone   |  c     |  =     |  =/L c   |  =      |  x     |  =     |  =
a payment alone           |  c     |  =     |  =/L c   |  =      |  x     |  =     |  =
an absence alone          |  c     |  =     |  L c     |  =      |  =     |  =     |  =
observed                  |  C     |  =     |  =/L C   |  x      |  x     |  x     |  d
observed pending          |  C     |  x     |  x/L C   |  =      |  x     |  x     |  d
observed awaiting a host  |  C     |  =     |  =/L C   |  x      |  x     |  x     |  d
observed called off       |  c     |  x     |  x/L c   |  x      |  x     |  =     |  =
observed moved away       |  C     |  =     |  =/L C   |  x      |  =     |  x     |  d
a seat                    |  C     |  =     |  =/L C   |  x      |  x     |  x     |  d
a seat, left              |  c     |  x     |  x/L c   |  x      |  x     |  =     |  =
a seat, moved in place    |  C     |  x     |  x/L C   |  x      |  =     |  x     |  d
a seat, called off by a body without seats |  c     |  x     |  x/L c   |  x      |  x     |  =     |  =
"""
_TOGETHER: Final[dict[str, Callable[[str, str, Rule], End]]] = {"=": h.same, "x": h.differ, "d": h.deleted}


def _cell(code: str, booking: str, rule: Rule) -> frozenset[End]:
    if code in _TOGETHER:
        return frozenset({_TOGETHER[code]("4711", booking, rule)})
    apart = {"L": h.alone("4711"), "l": h.over("4711"), "C": h.alone(None, booking), "c": h.over(None, booking)}
    return frozenset(apart[letter] for letter in code.split())


def _cells() -> dict[str, Row]:
    head, *lines = [[cell.strip() for cell in line.split("|")] for line in _ENDINGS.strip("\n").splitlines()]
    rows: dict[str, Row] = {}
    for shape, *codes in lines:
        events, booking = BOOKINGS[shape]
        for column, code in zip(head[1:], codes, strict=True):
            rule = Rule.BOOKING
            if column == "met":
                rule = Rule.METADATA if "with metadata" in shape else Rule.ATTENDEE
            on, _, off = code.partition("/")
            ends = _cell(on, booking, rule)
            rows[f"{shape} | {column}"] = Row(
                events=(*APPOINTMENTS[column], *events),
                ends=ends,
                off=_cell(off or on, booking, rule),
                flags=tuple(sorted(Kind(end.kind) for end in ends if end.kind)),
                policy=POLICY,
                corrected=False,
            )
    assert len(rows) == len(BOOKINGS) * len(APPOINTMENTS)
    return rows


CELLS: Final = _cells()
