"""What each kind of flag is called, what has happened, and what to do next: the sentences, marked for the catalogue.

`happened` and `next_step` are one plain sentence or two each; whatever is left open in them is named as `%(name)s`.
"""

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from schemas.flags import NOT_VERIFIED, RECORD_KINDS, THRESHOLDS, Kind, SyncStatus
from schemas.verification import Verdict
from services.words.tongue import Tongue, mark, mark_n


class Words(Struct, frozen=True, kw_only=True):
    """What is said of one kind. `over`: that it has ended; None: said by how it ended."""

    name: str
    happened: str
    next_step: str
    over: str | None = None


_TOO_MANY_NEXT: Final = mark(
    "Check on the review page what they have in common: often there is one cause, such as a changed setting or an "
    "import."
)
_TELL_WHO_RUNS_IT: Final = mark(
    "Tell whoever looks after Reconcal for you. These commands show what is wrong, and fix it."
)
_WITHIN_AGAIN: Final = mark("The figure is within its limit again.")

WORDS: Final[Mapping[Kind, Words]] = {
    Kind.ORPHANED_LOCAL: Words(
        name=mark("Missing at Cal.com"),
        happened=mark("The appointment is in your booking app, but no booking for it is known at Cal.com."),
        next_step=mark("Book it at Cal.com or cancel it in your booking app; the review page shows what is known."),
    ),
    Kind.ORPHANED_CALCOM: Words(
        name=mark("Missing in the booking app"),
        happened=mark("The booking is at Cal.com, but no appointment for it is known in your booking app."),
        next_step=mark("Enter it in your booking app or cancel the booking at Cal.com; the review page shows it."),
    ),
    Kind.DATA_MISMATCH: Words(
        name=mark("Details differ"),
        happened=mark("The appointment in your booking app and its booking at Cal.com differ."),
        next_step=mark("Decide which side is right and correct the other one; the review page shows both."),
    ),
    Kind.VERIFICATION_ERROR: Words(
        name=mark("Could not be checked"),
        happened=mark("It is not known whether your booking app and Cal.com agree here."),
        next_step=mark("Check whether the booking is at Cal.com, then repeat the check on the review page."),
    ),
    Kind.AMBIGUOUS_MATCH: Words(
        name=mark("Several possible matches"),
        happened=mark("Several appointments or bookings could belong together, so none was chosen."),
        next_step=mark("Choose on the review page which booking belongs to which appointment."),
    ),
    Kind.WEBHOOK_SILENT: Words(
        name=mark("Cal.com webhook silent"),
        happened=mark(
            "Cal.com does not tell Reconcal of new and changed bookings (its webhook is silent): they come late or not "
            "at all. Until it works again, appointments and bookings without a counterpart are not reported one by "
            "one; they are all on the review page."
        ),
        next_step=_TELL_WHO_RUNS_IT,
        over=mark(
            "Cal.com tells Reconcal of bookings again. What still has no counterpart then comes with the next message."
        ),
    ),
    Kind.CALCOM_INCIDENT: Words(
        name=mark("Cal.com cannot be asked"),
        happened=mark(
            "Reconcal cannot ask Cal.com about bookings at the moment. Until it can, what could not be checked is not "
            "reported one by one; all of it is on the review page."
        ),
        next_step=mark("Tell whoever looks after Reconcal for you, and give the cause above."),
        over=mark("Cal.com can be asked again. What still could not be checked then comes with the next message."),
    ),
    Kind.ORPHANS_A_DAY: Words(
        name=mark("Many appointments without a counterpart"),
        happened=mark(
            "%(value)s appointments or bookings without a counterpart were found within %(window)s; the limit is "
            "%(limit)s."
        ),
        next_step=_TOO_MANY_NEXT,
        over=_WITHIN_AGAIN,
    ),
    Kind.FAILED_CHECKS_AN_HOUR: Words(
        name=mark("Many checks fail"),
        happened=mark("%(value)s checks at Cal.com have failed within %(window)s; the limit is %(limit)s."),
        next_step=mark(
            "Check whether Cal.com works. Whoever looks after Reconcal for you checks the API key; this command shows "
            "more."
        ),
        over=_WITHIN_AGAIN,
    ),
    Kind.WAITING_FOR_REVIEW: Words(
        name=mark("Many cases wait for review"),
        happened=mark("%(value)s cases wait for somebody to look at them; the limit is %(limit)s."),
        next_step=mark("Open the review page and go through the cases, the earliest appointments first."),
        over=_WITHIN_AGAIN,
    ),
    Kind.SYNC_SUCCESS: Words(
        name=mark("Too few appointments in sync"),
        happened=mark(
            "Of the appointments that were compared within %(window)s only %(value)s%% are in sync; at least "
            "%(limit)s%% should be."
        ),
        next_step=_TOO_MANY_NEXT,
        over=_WITHIN_AGAIN,
    ),
    Kind.ENDPOINT_OFF: Words(
        name=mark("Outgoing webhook switched off"),
        happened=mark(
            "Reconcal no longer reports to another program of your company: the webhook for it was switched off."
        ),
        next_step=mark(
            "Tell whoever looks after Reconcal for you: once the other program can be reached again, these commands "
            "switch the webhook on."
        ),
        over=mark("The outgoing webhook is on again, or was removed."),
    ),
}
#: A threshold without its figures.
UNMEASURED: Final = mark("A limit that is set for your company was crossed.")

#: How many of a kind there are.
COUNTS: Final[Mapping[Kind, tuple[str, str]]] = {
    Kind.ORPHANED_LOCAL: mark_n(
        "%(number)s appointment is missing at Cal.com", "%(number)s appointments are missing at Cal.com"
    ),
    Kind.ORPHANED_CALCOM: mark_n(
        "%(number)s booking is missing in the booking app", "%(number)s bookings are missing in the booking app"
    ),
    Kind.DATA_MISMATCH: mark_n(
        "%(number)s appointment differs from its booking at Cal.com",
        "%(number)s appointments differ from their bookings at Cal.com",
    ),
    Kind.VERIFICATION_ERROR: mark_n(
        "%(number)s appointment could not be checked at Cal.com",
        "%(number)s appointments could not be checked at Cal.com",
    ),
    Kind.AMBIGUOUS_MATCH: mark_n(
        "%(number)s case has several possible matches", "%(number)s cases have several possible matches"
    ),
}
_OTHERS: Final = mark_n("%(number)s other case", "%(number)s other cases")

#: What a record's kind is not always: by what is known of its sides.
GONE: Final = mark("The appointment is in your booking app, but its booking is no longer at Cal.com.")
DELETED: Final = mark("The appointment was deleted in your booking app, but its booking at Cal.com still stands.")

#: What Cal.com's API said; `at` is when, on the company's clock, and `cause` why it said nothing.
SAID: Final[Mapping[str, str]] = {
    Verdict.FOUND_EQUAL: mark("Cal.com was asked on %(at)s and has the booking as your booking app has it."),
    Verdict.FOUND_DIFFERENT: mark(
        "Cal.com was asked on %(at)s and has the booking, but not as your booking app has it."
    ),
    Verdict.CANCELLED: mark("Cal.com was asked on %(at)s and says that the booking is cancelled."),
    Verdict.MOVED: mark("Cal.com was asked on %(at)s and says that the booking was rescheduled."),
    Verdict.ABSENT: mark("Cal.com was asked on %(at)s and says that it has no such booking."),
    Verdict.UNKNOWN: mark("Cal.com could not be asked, the last time on %(at)s: %(cause)s."),
    NOT_VERIFIED: mark("Cal.com was not asked, or did not answer in time: this rests on what both sides reported."),
}
#: Where no appointment lives with which the booking could be compared.
_STANDS_ALONE: Final = mark("Cal.com was asked on %(at)s and has the booking.")
SAID_ALONE: Final[Mapping[str, str]] = {
    **SAID,
    Verdict.FOUND_EQUAL: _STANDS_ALONE,
    Verdict.FOUND_DIFFERENT: _STANDS_ALONE,
}
#: Why Cal.com could not be asked, by the verifier's words for it.
CAUSES: Final[Mapping[str, str]] = {
    "timeout": mark("it did not answer in time"),
    "unreachable": mark("there was no connection to it"),
    "cut": mark("the connection ended within the answer"),
    "server_error": mark("it answered with an error of its own"),
    "limited": mark("there were too many requests in too short a time"),
    "not_calcom": mark("what answered was not Cal.com"),
    "wrong_shape": mark("the answer was not as documented"),
    "api_version": mark("the answer was of another version of the API"),
    "too_large": mark("the answer was too large"),
    "redirect": mark("it sent us to another address, which is not followed"),
    "private_address": mark("its address is a private one, which is not allowed here"),
    "rejected": mark("it rejected the request"),
    "empty_list": mark("the search found nothing, and nothing proves that the search works"),
    "filter_ignored": mark("the search gave bookings that were not searched for"),
    "nothing_to_search_by": mark("neither the booking's uid nor a customer's email address is known"),
    "loop": mark("the booking's reschedules lead in a circle"),
    "broken_chain": mark("the booking was rescheduled to one that is not there"),
    "seat_not_listed": mark("the booking is there, but this seat is not among those that it shows"),
    "no_occurrence": mark("it is not clear which booking of the series is meant"),
    "too_many": mark("the search found too much to read"),
    "not_recognisable": mark("bookings begin at that time, and nothing says whose they are"),
}
CAUSE_UNKNOWN: Final = mark("it gave no answer that counts")

#: Why a webhook is silent or Cal.com cannot be asked, by `why.note`; whatever else is known is the flag's own reason.
TROUBLES: Final[Mapping[str, str]] = {
    "missing": mark("Cal.com has no webhook to Reconcal."),
    "inactive": mark("The webhook at Cal.com is switched off."),
    "triggers": mark("The webhook at Cal.com does not tell of everything that Reconcal needs."),
    "template": mark("The webhook at Cal.com has a template of its own, so that it cannot be read."),
    "unseen": mark("Cal.com had new bookings that it had not told Reconcal of."),
    "calcom_unauthorised": mark("Cal.com refuses your company's API key."),
    "calcom_unreachable": mark("Cal.com does not answer."),
    "calcom_limited": mark("Cal.com says that there are too many requests with your company's API key."),
    "calcom_wrong_address": mark("At the address that is set for Cal.com there is no Cal.com."),
    "calcom_wrong_answer": mark("Cal.com does not answer as documented."),
    "calcom_filter_ignored": mark("Cal.com gives bookings that it was not asked for."),
    "calcom_list_incomplete": mark("Cal.com does not list all of the bookings."),
}
#: The flag's own reason is English, and of use to whoever mends it.
DETAIL: Final = mark("For technicians, in English: %(detail)s")

#: What whoever runs Reconcal may do.
COMMANDS: Final[Mapping[Kind, tuple[str, ...]]] = {
    Kind.WEBHOOK_SILENT: (
        "reconcal companies webhook --company {company_id} check",
        "reconcal companies webhook --company {company_id} repair",
    ),
    Kind.ENDPOINT_OFF: (
        "reconcal companies endpoints --company {company_id} list",
        "reconcal companies endpoints --company {company_id} enable ID",
    ),
    Kind.FAILED_CHECKS_AN_HOUR: ("reconcal status",),
}

#: How something ended, by `resolved_by`: at length, and in a list.
ENDED: Final[Mapping[str | None, str]] = {
    "auto": mark("This has resolved itself: newer reports have come in."),
    "merged": mark("This turned out to be part of another case."),
    None: mark("This is resolved."),
}
ENDED_BY_HAND: Final = mark("%(name)s has marked this as resolved.")
ENDED_BRIEFLY: Final[Mapping[str | None, str]] = {
    "auto": mark("resolved itself"),
    "merged": mark("part of another case"),
    None: mark("resolved"),
}
ENDED_BY_HAND_BRIEFLY: Final = mark("resolved by %(name)s")
NEXT_RESOLVED: Final = mark("Nothing is left to do. The history is on the review page.")
NEXT_RESOLVED_COMPANY: Final = mark("Nothing is left to do.")

FIELDS: Final[Mapping[str, str]] = {
    "starts_at": mark("Start"),
    "ends_at": mark("End"),
    "status": mark("Status"),
    "event_type_id": mark("Event type"),
}
#: Both sides' words for the state of an appointment, in lower case.
STATES: Final[Mapping[str, str]] = {
    "scheduled": mark("scheduled"),
    "pending": mark("waits for confirmation"),
    "awaiting_host": mark("waits for the host"),
    "confirmed": mark("confirmed"),
    "accepted": mark("confirmed"),
    "cancelled": mark("cancelled"),
    "rejected": mark("rejected"),
    "completed": mark("completed"),
    "no_show": mark("did not come"),
    "deleted": mark("deleted"),
}

#: The status that a record of that kind has: what a queue is filtered by.
STATUSES: Final[Mapping[Kind, SyncStatus]] = {
    Kind.ORPHANED_LOCAL: SyncStatus.ORPHANED_LOCAL,
    Kind.ORPHANED_CALCOM: SyncStatus.ORPHANED_CALCOM,
    Kind.DATA_MISMATCH: SyncStatus.FAILED,
    Kind.VERIFICATION_ERROR: SyncStatus.FAILED,
    Kind.AMBIGUOUS_MATCH: SyncStatus.FAILED,
}


def name(kind: Kind, tongue: Tongue) -> str:
    """Give what a kind is called."""
    return tongue.gettext(WORDS[kind].name)


def next_step(kind: Kind, tongue: Tongue) -> str:
    """Give what to do next about a kind."""
    return tongue.gettext(WORDS[kind].next_step)


def counted(kind: Kind, number: int, tongue: Tongue) -> str:
    """Say how many of a kind of record there are."""
    return tongue.ngettext(*COUNTS.get(kind, _OTHERS), number)


def about_records(kind: Kind) -> bool:
    """Tell whether flags of this kind are about a record, not about the company as a whole."""
    return kind in RECORD_KINDS


def is_threshold(kind: Kind) -> bool:
    """Tell whether flags of this kind have figures."""
    return kind in THRESHOLDS
