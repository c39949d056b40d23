"""What mails say, in English: a sentence a kind for what happened, for what Cal.com said, and for what to do next."""

import unicodedata
from collections.abc import Mapping
from typing import Final

from schemas.flags import Kind
from schemas.verification import Verdict

HAPPENED: Final[Mapping[Kind, str]] = {
    Kind.ORPHANED_LOCAL: "The appointment is in your booking app, but no booking of it is known at Cal.com.",
    Kind.ORPHANED_CALCOM: "The booking is at Cal.com, but no appointment of it is known in your booking app.",
    Kind.DATA_MISMATCH: "The appointment in your booking app and its booking at Cal.com differ.",
    Kind.VERIFICATION_ERROR: "It is not known whether your booking app and Cal.com agree about this.",
    Kind.AMBIGUOUS_MATCH: "Several appointments or bookings could belong together, so none was chosen.",
    Kind.WEBHOOK_SILENT: "Cal.com's webhook to Reconcal is silent: new and changed bookings come late or not at all.",
}
GONE: Final = "The appointment is in your booking app, but its booking is at Cal.com no longer."
DELETED: Final = "The appointment was deleted in your booking app, but its booking at Cal.com still stands."
RESOLVED: Final = "This is resolved: nothing is left to do."
RESOLVED_COMPANY: Final = "This is resolved: Cal.com's webhook to Reconcal works again."

#: What Cal.com's API said; `{at}` is when, on the company's clock, and `{cause}` why it said nothing.
SAID: Final[Mapping[str, str]] = {
    Verdict.FOUND_EQUAL: "Cal.com was asked at {at} and has the booking as your booking app has it.",
    Verdict.FOUND_DIFFERENT: "Cal.com was asked at {at} and has the booking, but not as your booking app has it.",
    Verdict.CANCELLED: "Cal.com was asked at {at} and says that the booking is cancelled.",
    Verdict.MOVED: "Cal.com was asked at {at} and says that the booking was rescheduled.",
    Verdict.ABSENT: "Cal.com was asked at {at} and says that it has no such booking.",
    Verdict.UNKNOWN: "Cal.com could not be asked, the last time at {at}: {cause}.",
    "not_verified": "Cal.com was not asked, or did not answer in time: this rests on what both sides sent.",
}
#: Where no appointment lives with which the booking could be compared.
_STANDS_ALONE: Final = "Cal.com was asked at {at} and has the booking."
SAID_ALONE: Final[Mapping[str, str]] = {
    **SAID,
    Verdict.FOUND_EQUAL: _STANDS_ALONE,
    Verdict.FOUND_DIFFERENT: _STANDS_ALONE,
}
#: Why Cal.com could not be asked, by the verifier's words for it.
CAUSES: Final[Mapping[str, str]] = {
    "timeout": "it did not answer in time",
    "unreachable": "there was no connection to it",
    "cut": "the connection ended within the answer",
    "server_error": "it answered with an error of its own",
    "limited": "too much was asked in too short a time",
    "not_calcom": "what answered was not Cal.com",
    "wrong_shape": "the answer was not as documented",
    "api_version": "the answer was of another version of the API",
    "too_large": "the answer was too large",
    "redirect": "it sent us to another address, which is not followed",
    "private_address": "its address is a private one, which is not allowed here",
    "rejected": "it did not accept the question",
    "empty_list": "the search found nothing, and nothing proves that the search works",
    "filter_ignored": "the search gave bookings that were not searched for",
    "nothing_to_search_by": "neither the booking's uid nor a customer's e-mail address is known",
    "loop": "the booking's reschedules lead in a circle",
    "broken_chain": "the booking was rescheduled to one that is not there",
    "seat_not_listed": "the booking is there, but this seat is not among those that it shows",
    "no_occurrence": "it is not clear which booking of the series is meant",
    "too_many": "the search found too much to read",
    "not_recognisable": "bookings begin at that time, and nothing says whose they are",
}
CAUSE_UNKNOWN: Final = "it gave no answer that counts"

NEXT: Final[Mapping[Kind, str]] = {
    Kind.ORPHANED_LOCAL: "Book it at Cal.com or cancel it in your booking app; the review page shows what is known.",
    Kind.ORPHANED_CALCOM: "Enter it in your booking app or cancel the booking at Cal.com; the review page shows it.",
    Kind.DATA_MISMATCH: "Decide which side is right and correct the other one; the review page shows both.",
    Kind.VERIFICATION_ERROR: "Look whether the booking is at Cal.com, then retry the check on the review page.",
    Kind.AMBIGUOUS_MATCH: "Choose on the review page which booking belongs to which appointment.",
    Kind.WEBHOOK_SILENT: (
        "Whoever runs Reconcal can see what is wrong and mend it with the commands below. Until then you get no mails "
        "about single appointments or bookings without a counterpart; all of them are on the review page."
    ),
}
NEXT_RESOLVED: Final = "You need not do anything. The history is on the review page."
NEXT_RESOLVED_COMPANY: Final = (
    "You need not do anything. Mails about single appointments or bookings that still have no counterpart follow now."
)
#: What mends a silent webhook.
COMMANDS: Final = (
    "reconcal companies webhook --company {company_id} check",
    "reconcal companies webhook --company {company_id} repair",
)

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
