"""What mails say, in English: one sentence a kind for what happened, one for what to do next."""

import unicodedata
from collections.abc import Mapping
from typing import Final

from schemas.flags import Kind

HAPPENED: Final[Mapping[Kind, str]] = {
    Kind.ORPHANED_LOCAL: "The appointment is in your booking app, but no booking of it is known at Cal.com.",
    Kind.ORPHANED_CALCOM: "The booking is at Cal.com, but no appointment of it is known in your booking app.",
    Kind.DATA_MISMATCH: "The appointment in your booking app and its booking at Cal.com differ.",
    Kind.VERIFICATION_ERROR: "Cal.com could not be asked whether this appointment is booked there.",
    Kind.AMBIGUOUS_MATCH: "Several appointments or bookings could belong together, so none was chosen.",
}
DELETED: Final = "The appointment was deleted in your booking app, but its booking at Cal.com still stands."
RESOLVED: Final = "This is resolved: nothing is left to do."

NEXT: Final[Mapping[Kind, str]] = {
    Kind.ORPHANED_LOCAL: "Book it at Cal.com or cancel it in your booking app; the review page shows what is known.",
    Kind.ORPHANED_CALCOM: "Enter it in your booking app or cancel the booking at Cal.com; the review page shows it.",
    Kind.DATA_MISMATCH: "Decide which side is right and correct the other one; the review page shows both.",
    Kind.VERIFICATION_ERROR: "Look whether the booking is at Cal.com, then retry the check on the review page.",
    Kind.AMBIGUOUS_MATCH: "Choose on the review page which booking belongs to which appointment.",
}
NEXT_RESOLVED: Final = "You need not do anything. The history is on the review page."

FIELDS: Final[Mapping[str, str]] = {
    "starts_at": "Start",
    "ends_at": "End",
    "status": "Status",
    "event_type_id": "Event type",
}

#: Joiners that scripts and emoji need; every other format character can turn a line around or hide in it.
_JOINERS: Final = "\u200c\u200d"
_BLANKS: Final = frozenset({"Cc", "Zl", "Zp"})
_DROPPED: Final = frozenset({"Cf", "Cs"})


def plain(text: str, most: int = 200) -> str:
    """Give text from outside as one line: no control characters, no direction overrides, at most `most` characters."""
    line = " ".join("".join(_harmless(character) for character in text).split())
    return line if len(line) <= most else line[: most - 1] + "…"


def _harmless(character: str) -> str:
    category = unicodedata.category(character)
    if category in _BLANKS:
        return " "
    return "" if category in _DROPPED and character not in _JOINERS else character
