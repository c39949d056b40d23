"""What Cal.com's API answered to a question about a record: the bookings that it found, then the answer itself."""

from typing import Final

import msgspec
from msgspec.structs import replace

from schemas.envelope import Envelope
from schemas.observations import Check
from schemas.verification import Verdict
from services.reconciler.core.answers import Answer
from services.reconciler.core.events import Checked, HeardBooking
from services.reconciler.decode.observations import read_booking
from services.reconciler.decode.outcomes import Undecodable
from services.reconciler.decode.values import fits, in_plain_words, not_json, require_storable, utc

#: A chain of reschedules, or what a search found.
BOOKINGS_MAX: Final = 100
#: The reason of an answer whose bookings could not be read.
UNREADABLE: Final = "unreadable"
_SUBJECTS: Final = ("a:", "b:")

_decoder: Final = msgspec.json.Decoder(Check)


def decode_check(envelope: Envelope) -> tuple[HeardBooking | Checked, ...]:
    """Read a check from an envelope.

    Raises Undecodable: "invalid_check", and what `decode_observation` raises for a booking; the answer itself is
    salvaged then as one that says nothing, so that Cal.com is asked again.
    """
    try:
        check = _decoder.decode(envelope.body)
    except msgspec.ValidationError as error:
        raise Undecodable("invalid_check", in_plain_words(error)) from None
    except (ValueError, RecursionError):
        raise not_json(envelope.body) from None
    if check.verdict is Verdict.UNAUTHORISED:
        raise Undecodable("invalid_check", "`$.verdict` is unauthorised, which says nothing of a record.")
    if not check.subject.startswith(_SUBJECTS) or not fits(check.number):
        raise Undecodable("invalid_check", "`$.subject` or `$.number` is none that a question has.")
    if len(check.bookings) > BOOKINGS_MAX:
        raise Undecodable("invalid_check", f"`$.bookings` has {len(check.bookings)}; {BOOKINGS_MAX} are read.")
    require_storable(envelope.body, replace(check, bookings=[]))
    observed_at = utc(check.observed_at, "`$.observed_at`", "invalid_check")
    answer = Answer(
        id=check.id,
        subject=check.subject,
        number=check.number,
        observed_at=observed_at,
        received_at=envelope.received_at,
        verdict=check.verdict,
        reason=check.reason,
        uid=check.uid,
    )
    try:
        found = [one for booking in check.bookings for one in read_booking(booking, observed_at, envelope)]
    except Undecodable as error:
        unread = replace(answer, verdict=Verdict.UNKNOWN, reason=UNREADABLE)
        raise Undecodable(error.reason, error.detail, (Checked(unread),)) from error
    return (*found, Checked(answer))
