"""Every trigger of Cal.com's webhooks, and what is made of it. The reference page is made from this table."""

from enum import StrEnum
from typing import Final

from msgspec import Struct

from schemas.bookings import BookingStatus

#: What `X-Cal-Webhook-Version` has been seen to say; bodies without the header have the same shape.
KNOWN_VERSIONS: Final = frozenset({"2021-10-20"})

#: Stands for the trigger where a body says what a booking is, but not what happened to it.
UNNAMED: Final = "UNNAMED"


class Role(StrEnum):
    """What a trigger is to a record."""

    CHANGE = "change"
    FACT = "fact"
    IGNORED = "ignored"


class Trigger(Struct, frozen=True):
    """What is made of one trigger.

    `rank`: its place in a booking's life, by which events of equal times fall in order; 0: it has none.
    """

    role: Role
    rank: int
    meaning: str


_CHANGES: Final = {
    "BOOKING_REQUESTED": (1, "A booking waits for the host's word; pending unless the body says otherwise."),
    "BOOKING_PAYMENT_INITIATED": (1, "A booking waits for its payment: pending, whatever status the body gives."),
    "BOOKING_CREATED": (2, "A booking was made, confirmed or paid for."),
    "BOOKING_RESCHEDULED": (3, "A booking took the place of another one under a new uid, or was moved in place."),
    "BOOKING_REJECTED": (4, "The host declined."),
    "BOOKING_CANCELLED": (5, "A booking, one seat of it, or the rest of a series was called off."),
}
_FACTS: Final = {
    "BOOKING_PAID": "The payment came; the booking's own state comes with BOOKING_CREATED or BOOKING_REQUESTED.",
    "BOOKING_NO_SHOW_UPDATED": "Somebody marked, or no longer marks, an attendee as absent.",
    "MEETING_STARTED": "The booked time has begun, by the clock.",
    "MEETING_ENDED": "The booked time is over, by the clock.",
    "RECORDING_READY": "A recording can be fetched.",
    "RECORDING_TRANSCRIPTION_GENERATED": "A transcript can be fetched.",
    "INSTANT_MEETING": "Somebody asks for a meeting at once.",
    "AFTER_HOSTS_CAL_VIDEO_NO_SHOW": "The host had not joined the call in time.",
    "AFTER_GUESTS_CAL_VIDEO_NO_SHOW": "The guest had not joined the call in time.",
    "WRONG_ASSIGNMENT_REPORT": "Somebody says that the booking went to the wrong host.",
}
_IGNORED: Final = {
    "OOO_CREATED": "A host is away; bookings that this moves say so themselves.",
    "FORM_SUBMITTED": "A routing form was filled in; a booking that follows says so itself.",
    "FORM_SUBMITTED_NO_EVENT": "A routing form was filled in and no booking followed.",
    "ROUTING_FORM_FALLBACK_HIT": "A routing form found no host of its own.",
    "DELEGATION_CREDENTIAL_ERROR": "Cal.com cannot reach a calendar.",
    "PING": "The test button at Cal.com; it names no booking.",
}

TRIGGERS: Final[dict[str, Trigger]] = (
    {name: Trigger(Role.CHANGE, rank, meaning) for name, (rank, meaning) in _CHANGES.items()}
    | {name: Trigger(Role.FACT, 0, meaning) for name, meaning in _FACTS.items()}
    | {name: Trigger(Role.IGNORED, 0, meaning) for name, meaning in _IGNORED.items()}
)

#: A state without a trigger falls where the trigger would that brings it.
RANK_OF_STATUS: Final = {
    BookingStatus.PENDING: 1,
    BookingStatus.AWAITING_HOST: 1,
    BookingStatus.ACCEPTED: 2,
    BookingStatus.REJECTED: 4,
    BookingStatus.CANCELLED: 5,
}

_HEADINGS: Final = {
    Role.CHANGE: "Changes of a booking",
    Role.FACT: "Facts of the timeline",
    Role.IGNORED: "Ignored by policy",
}
_EXPLAINED: Final = {
    Role.CHANGE: "Each says what the booking now is. Events of equal times fall in the order of the rank. "
    "One that names neither a uid nor a booking id is a dead letter.",
    Role.FACT: "Kept on the timeline of the booking that they name; they never change what the booking is. "
    "One that names no booking is ignored.",
    Role.IGNORED: "Understood, counted, and without a say in any record.",
}
_END: Final = f"""\
Any other trigger is ignored and counted as `unknown_trigger`. A body without a trigger that names a booking and one of
Cal.com's words for its state ({", ".join(f"`{status}`" for status in BookingStatus)}) is read as a change named
`{UNNAMED}`; without such a word it is ignored as `no_trigger`. A body in which neither a trigger nor a booking can be
found is a dead letter, `no_envelope`.

Known versions of the payload (`X-Cal-Webhook-Version`): {", ".join(f"`{one}`" for one in sorted(KNOWN_VERSIONS))}, and
none at all. A body of another version is read likewise; where trigger and booking cannot be found in it, it is ignored
as `unknown_version`.
"""


def reference() -> str:
    """Give the reference page of the triggers, in Markdown."""
    parts = ["# Triggers of Cal.com\n", "Made from `services/reconciler/decode/triggers.py` by `make reference`.\n"]
    for role in Role:
        parts += [f"## {_HEADINGS[role]}\n", f"{_EXPLAINED[role]}\n", *_table(role)]
    return "\n".join([*parts, "## Everything else\n", _END])


def _table(role: Role) -> list[str]:
    rows = [(name, trigger) for name, trigger in TRIGGERS.items() if trigger.role is role]
    if role is Role.CHANGE:
        lines = ["| trigger | rank | what it says |", "|---|---|---|"]
        lines += [f"| `{name}` | {trigger.rank} | {trigger.meaning} |" for name, trigger in rows]
    else:
        lines = ["| trigger | what it says |", "|---|---|"]
        lines += [f"| `{name}` | {trigger.meaning} |" for name, trigger in rows]
    return [*lines, ""]
