"""What Cal.com is to be asked about a record: the question that the reconciler queues and the verifier takes up."""

from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

from msgspec import Struct

from schemas.flags import AppointmentFacts, BookingFacts


class Verdict(StrEnum):
    """What an answer of Cal.com's API means for a record."""

    FOUND_EQUAL = "found_equal"
    FOUND_DIFFERENT = "found_different"
    CANCELLED = "cancelled"
    MOVED = "moved"  # rescheduled: it lives on under another uid, which was asked for, too
    ABSENT_ONCE = "absent_once"  # not there; the API reads a replica, so that once is not enough
    ABSENT = "absent"  # not there, twice, at least ABSENT_APART_SECONDS apart
    UNKNOWN = "unknown"  # no answer that could be believed; `reason` says why
    UNAUTHORISED = "unauthorised"  # the key was refused: says nothing of any booking, and is never an event

    @property
    def found(self) -> bool:
        """Tell whether Cal.com has the booking, in whatever state."""
        return self in _FOUND

    @property
    def missing(self) -> bool:
        """Tell whether Cal.com says that it has none."""
        return self in (Verdict.ABSENT_ONCE, Verdict.ABSENT)


_FOUND: Final = frozenset({Verdict.FOUND_EQUAL, Verdict.FOUND_DIFFERENT, Verdict.CANCELLED, Verdict.MOVED})

#: Two negative answers are at least so far apart (design, section 7).
ABSENT_APART_SECONDS: Final = 30.0


class Priority(StrEnum):
    """Who wants to know."""

    HUMAN = "human"
    DEADLINE = "deadline"
    SWEEP = "sweep"


#: In the order of their turn, as `verifications.priority` counts them.
PRIORITIES: Final = (Priority.HUMAN, Priority.DEADLINE, Priority.SWEEP)
#: The PostgreSQL channel that says that there are new questions.
QUESTIONS: Final = "reconcal_verifications"


def check_id(record_id: UUID, number: int) -> str:
    """Name the answer to a question about a record: told twice it has the same id."""
    return f"check-{record_id}-{number}"


class Question(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One question about one record; `verifications.question`.

    `subject` is the name of the record's oldest side ("a:4711", "b:<uid>", "b:<uid>#<seat>"); an answer goes by it,
    for records may become one meanwhile. `number` counts the questions about a record: an answer to one that was
    answered already changes nothing. `not_older_than`: an answer that is older than this is no answer.
    `absent_at`: when Cal.com last said in this round that there is none.
    """

    company_id: str
    record_id: UUID
    subject: str
    number: int
    priority: Priority
    not_before: datetime
    not_older_than: datetime
    uid: str | None = None  # the booking's uid in force, or the one that the app names; None: it has to be searched for
    booking_id: int | None = None
    seat: str | None = None
    starts_at: datetime | None = None  # of the appointment, else of the booking: soonest first
    absent_at: datetime | None = None
    match_by_attendee: bool = True  # whether a booking may be found by person and start
    tolerance_seconds: float = 60.0
    appointment: AppointmentFacts | None = None
    booking: BookingFacts | None = None
