"""Bodies of the size and shape that the real ones have: an appointment's event, and Cal.com's webhook for it."""

from datetime import datetime, timedelta
from typing import Any, Final

from tests.support import builders
from tests.support.builders import HALF_AN_HOUR, STARTS_AT

#: What a visitor may write into the form; with it a webhook has the 3.5 KB of a full one.
_NOTES: Final = (
    "I was with you two years ago because of the left knee. It is the same trouble again, mostly on stairs and in the"
    " morning. I bring the pictures of last time and the letter of my doctor. A time before noon would suit me best;"
    " if somebody calls it off I can come at short notice. My insurance changed in January, the new card is on its way."
)
_QUESTIONS: Final = ("insurance", "first_visit", "referred_by", "allergies", "medication")


def appointment(company: str, number: int, **over: Any) -> bytes:
    """Give the app's event of a case; linked to the booking, as an app does that books at Cal.com.

    `over` replaces arguments of `builders.appointment_event`, such as `starts_at`; `linked=False`: not linked.
    """
    kind, linked = over.pop("kind", "created"), over.pop("linked", True)
    person = {"name": f"Nora Guest {number}", "email": _email(company, number), "phone": _phone(number)}
    links: dict[str, Any] = {"calcom_booking_uid": _uid(number), "calcom_booking_id": number} if linked else {}
    told = {"event_id": f"evt_{company}_{number}", "starts_at": starts_at(number)} | over
    return builders.body(
        builders.appointment_event(kind, f"{company}-{number}", event_type_id=5150, customer=person, **(links | told))
    )


def webhook(company: str, number: int, **over: Any) -> bytes:
    """Give Cal.com's webhook of the same case, with all that a full one carries.

    `over` replaces arguments of `builders.booking_created`.
    """
    person = builders.attendee(_email(company, number), f"Nora Guest {number}", _phone(number))
    told: dict[str, Any] = {"starts_at": starts_at(number), "attendees": [person]} | _rest(number) | over
    return builders.body(builders.booking_created(_uid(number), booking_id=number, **told))


def starts_at(number: int) -> datetime:
    """Give when a case begins."""
    return STARTS_AT + HALF_AN_HOUR * (number % 5_000) + timedelta(days=number % 7)


def _rest(number: int) -> dict[str, Any]:
    answers = {name: {"label": name, "value": f"answer to {name}", "isHidden": False} for name in _QUESTIONS}
    hidden = {name: {"label": name, "isHidden": True} for name in ("title", "guests", "rescheduleReason")}
    notes = {"notes": {"label": "additional_notes", "value": _NOTES, "isHidden": False}}
    who = {"name": {"label": "your_name", "value": f"Nora Guest {number}", "isHidden": False}}
    return {
        "additionalNotes": _NOTES,
        "responses": who | notes | answers | hidden,
        "userFieldsResponses": answers,
        "customInputs": {},
        "hideCalendarNotes": False,
        "hideCalendarEventDetails": False,
        "hideOrganizerEmail": False,
        "schedulingType": None,
        "seatsShowAvailabilityCount": True,
        "customReplyToEmail": None,
        "disableRescheduling": False,
        "disableCancelling": False,
        "oneTimePassword": None,
        "organizationId": 1,
        "hashedLink": None,
        "conferenceData": {"createRequest": {"requestId": f"00000000-0000-4000-8000-{number:012d}"}},
        "videoCallData": {
            "type": "daily_video",
            "id": f"room-{number}",
            "password": "none",
            "url": f"https://meet.example.org/{_uid(number)}",
        },
        "appsStatus": [{"appName": "daily-video", "type": "daily_video", "success": 1, "failures": 0, "errors": []}],
        "eventDescription": "A first look, half an hour. Please bring what you have of earlier findings.",
        "price": 0,
        "currency": "usd",
    }


def _uid(number: int) -> str:
    return f"bFJeNdaS{number:012d}"


def _email(company: str, number: int) -> str:
    return f"nora.guest.{number}@{company}.example.org"


def _phone(number: int) -> str:
    return f"+4930{number:09d}"
