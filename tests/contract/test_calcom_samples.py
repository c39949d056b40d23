"""Bodies as Cal.com's own documentation and code have them, kept outside of this repository: what each becomes."""

from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from schemas.bookings import BookingEvent, Scope
from services.reconciler.core.events import HeardBooking
from services.reconciler.decode import Ignored, Undecodable, decode
from tests.support.builders import decoded as one
from tests.support.builders import from_calcom, observation, observed

SAMPLES = Path(__file__).parents[2].parent / "shared" / "calcom" / "samples"

pytestmark = pytest.mark.skipif(not SAMPLES.is_dir(), reason="the collection of Cal.com samples is not here")

#: One row a webhook: trigger, uid, bookingId, status, start in UTC, appointment id, seat, replaced uid; `-`: nothing.
BOOKINGS = """
booking_cancelled.json                    CANCELLED unique-booking-identifier 200   CANCELLED 2024-01-04T10:00 - - -
booking_cancelled.realistic.json          CANCELLED bFJeNb2uX8ANpT3JL5EfXw 90011    CANCELLED 2026-12-01T09:00 - - -
booking_cancelled.request-reschedule.json CANCELLED bFJeNb2uX8ANpT3JL5EfXw 90011    CANCELLED 2026-12-01T09:00 - - -
booking_cancelled.with-metadata.json      CANCELLED bFJeNb2uX8ANpT3JL5EfXw 90011    CANCELLED 2026-12-01T09:00 appt_01JD9W3F7Q2K - -
booking_created.after-confirmation.json   CREATED bFJeNb2uX8ANpT3JL5EfXw 90011      ACCEPTED 2026-12-01T09:00 - - -
booking_created.json                      CREATED unique-booking-id 100             ACCEPTED 2024-01-01T10:00 - - -
booking_created.legacy-docs.json          CREATED bFJeNb2uX8ANpT3JL5EfXw 91         ACCEPTED 2023-05-25T09:30 - - -
booking_created.metadata.json             CREATED bFJeNb2uX8ANpT3JL5EfXw 90011      ACCEPTED 2026-12-01T09:00 appt_01JD9W3F7Q2K - -
booking_created.phone-only.json           CREATED 7pHoneOnLyUidXXXXXXXXX 90041      ACCEPTED 2026-12-01T09:00 appt_phone_1 - -
booking_created.recurring-1of3.json       CREATED rA1recurUidAAAAAAAAAAA1 90021     ACCEPTED 2026-12-01T09:00 appt_series_77 - -
booking_created.recurring-2of3.json       CREATED rA1recurUidAAAAAAAAAAA2 90022     ACCEPTED 2026-12-08T09:00 appt_series_77 - -
booking_created.seat-first.json           CREATED qVyXscm1ryg2QoQ4K8uHLW 90031      ACCEPTED 2026-12-01T09:00 appt_seat_1 mia.patient@example.com -
booking_payment_initiated.json            PAYMENT_INITIATED unique-booking-uid 100  PENDING 2024-01-02T10:00 - - -
booking_rejected.json                     REJECTED unique-booking-identifier 200    REJECTED 2024-01-01T15:00 - - -
booking_requested.json                    REQUESTED unique-booking-id 200           PENDING 2024-01-01T13:00 - - -
booking_rescheduled.api-v2.json           RESCHEDULED 5vQFqxDFMjdgKGMijqtqRw 90012  ACCEPTED 2026-12-03T13:00 appt_01JD9W3F7Q2K - bFJeNb2uX8ANpT3JL5EfXw
booking_rescheduled.json                  RESCHEDULED new-booking-unique-id 201     ACCEPTED 2024-01-10T14:30 - - previous-booking-unique-id
booking_rescheduled.web-ui.json           RESCHEDULED 5vQFqxDFMjdgKGMijqtqRw 90012  ACCEPTED 2026-12-03T13:00 - - bFJeNb2uX8ANpT3JL5EfXw
custom-template.form.txt                  CREATED unique-booking-id -               ACCEPTED 2024-01-01T10:00 - - -
"""  # noqa: E501

#: One row a fact: trigger, uid, bookingId, start, and when it happened, in UTC.
FACTS = """
after_guests_cal_video_no_show.json     AFTER_GUESTS_CAL_VIDEO_NO_SHOW qVyXscm1ryg2QoQ4K8uHLW 32 2025-12-02T04:00 2025-12-01T15:23
after_hosts_cal_video_no_show.json      AFTER_HOSTS_CAL_VIDEO_NO_SHOW qVyXscm1ryg2QoQ4K8uHLW 32 2025-12-02T04:00 2025-12-01T15:23
booking_no_show_updated.json            BOOKING_NO_SHOW_UPDATED 5vQFqxDFMjdgKGMijqtqRw 31 - 2025-12-01T12:34
booking_no_show_updated.unmarked.json   BOOKING_NO_SHOW_UPDATED 5vQFqxDFMjdgKGMijqtqRw 31 - 2025-12-01T12:38
booking_paid.json                       BOOKING_PAID unique-booking-uid 100 2024-01-02T10:00 2024-01-01T12:00
instant_meeting.json                    INSTANT_MEETING unique-instant-meeting-id - - 2024-01-01T12:00
meeting_ended.json                      MEETING_ENDED unique-booking-identifier 100 2024-01-01T10:00 2024-01-01T10:15
meeting_started.json                    MEETING_STARTED unique-booking-identifier 100 2024-01-01T10:00 2024-01-01T10:00
recording_ready.json                    RECORDING_READY REDACTED_UID_STRING - 2025-12-22T05:50 2025-12-22T05:50
recording_transcription_generated.json  RECORDING_TRANSCRIPTION_GENERATED REDACTED_UID - 2025-12-22T05:50 2025-12-22T05:52
wrong_assignment_report.json            WRONG_ASSIGNMENT_REPORT abc123def456 12345 2025-01-15T14:00 2025-01-15T10:30
"""  # noqa: E501

#: One row a webhook that names no booking: trigger and reason.
IGNORED = """
delegation_credential_error.json        DELEGATION_CREDENTIAL_ERROR by_policy
form_submitted.json                     FORM_SUBMITTED by_policy
form_submitted_no_event.json            FORM_SUBMITTED_NO_EVENT by_policy
ooo_created.json                        OOO_CREATED by_policy
ping.json                               PING ping
"""

#: A template that drops both trigger and booking.
REFUSED = """
custom-template.json      no_envelope
"""

#: One row an answer of the API, as an observation: uid, id, status, start, appointment id, seat, from uid, to uid.
OBSERVED = """
api-booking.json                  bFJeNb2uX8ANpT3JL5EfXw 90011 ACCEPTED 2026-12-01T09:00 appt_01JD9W3F7Q2K - - -
api-booking-cancelled.json        bFJeNb2uX8ANpT3JL5EfXw 90011 CANCELLED 2026-12-01T09:00 appt_01JD9W3F7Q2K - - -
api-booking-pending.json          bFJeNb2uX8ANpT3JL5EfXw 90011 PENDING 2026-12-01T09:00 appt_01JD9W3F7Q2K - - -
api-booking-rejected.json         bFJeNb2uX8ANpT3JL5EfXw 90011 REJECTED 2026-12-01T09:00 appt_01JD9W3F7Q2K - - -
api-booking-rescheduled-new.json  5vQFqxDFMjdgKGMijqtqRw 90012 ACCEPTED 2026-12-03T13:00 appt_01JD9W3F7Q2K - bFJeNb2uX8ANpT3JL5EfXw -
api-booking-rescheduled-old.json  bFJeNb2uX8ANpT3JL5EfXw 90011 CANCELLED 2026-12-01T09:00 appt_01JD9W3F7Q2K - - 5vQFqxDFMjdgKGMijqtqRw
api-booking-seated.json           qVyXscm1ryg2QoQ4K8uHLW 90031 ACCEPTED 2026-12-01T09:00 appt_seat_1 mia.patient@example.com - -
"""  # noqa: E501


def table(rows: str) -> list[list[str]]:
    """Give the rows as lists of words."""
    return [row.split() for row in rows.strip().splitlines()]


def sample(name: str) -> bytes:
    """Give a sample's bytes."""
    return (SAMPLES / name).read_bytes()


def said(value: object) -> str:
    """Give a value as the tables spell it."""
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M") if isinstance(value, datetime) else str(value or "-")


@pytest.mark.parametrize("row", table(BOOKINGS), ids=lambda row: row[0])
def test_a_booking_webhook_becomes_an_event_of_that_booking(row: list[str]) -> None:
    decoded = one(from_calcom(sample(row[0])))
    assert isinstance(decoded, HeardBooking)
    event = decoded.event
    facts = (
        event.uid,
        event.booking_id,
        event.status,
        event.starts_at,
        event.appointment_id,
        event.seat,
        event.parent_uid,
    )
    assert [event.trigger.removeprefix("BOOKING_"), *map(said, facts)] == row[1:]
    if row[0].endswith(".json"):
        assert event.attendees
        assert event.ends_at is not None


def test_the_samples_that_say_more_say_it() -> None:
    """A wish for another time, a payment that is awaited, a series, a seat, a phone."""

    def event(name: str) -> BookingEvent:
        decoded = one(from_calcom(sample(name)))
        assert isinstance(decoded, HeardBooking)
        return decoded.event

    assert event("booking_cancelled.request-reschedule.json").reschedule_requested
    assert not event("booking_cancelled.realistic.json").reschedule_requested
    assert event("booking_payment_initiated.json").unpaid
    assert event("booking_paid.json").paid
    series = event("booking_created.recurring-1of3.json")
    assert (series.recurring, series.scope) == ("2.3.1", Scope.SERIES)
    assert event("booking_created.seat-first.json").seat_id == "3be561a9-31f1-4b8e-aefc-9d9a085f0dd1"
    assert event("booking_created.phone-only.json").attendees[0].phone == "+4915112345678"


@pytest.mark.parametrize("row", table(FACTS), ids=lambda row: row[0])
def test_a_fact_is_told_of_its_booking_and_says_nothing_of_its_state(row: list[str]) -> None:
    decoded = one(from_calcom(sample(row[0])))
    assert isinstance(decoded, HeardBooking)
    event = decoded.event
    facts = (event.uid, event.booking_id, event.starts_at, event.occurred_at)
    assert [event.trigger, *map(said, facts)] == row[1:]
    assert event.status is None
    assert event.appointment_id is None


@pytest.mark.parametrize("row", table(OBSERVED), ids=lambda row: row[0])
def test_an_answer_of_the_api_becomes_an_event_of_that_booking(row: list[str]) -> None:
    answer = msgspec.json.decode(sample(row[0]))
    decoded = one(observed(observation(answer["data"])))
    assert isinstance(decoded, HeardBooking)
    event = decoded.event
    facts = (
        event.uid,
        event.booking_id,
        event.status,
        event.starts_at,
        event.appointment_id,
        event.seat,
        event.parent_uid,
        event.next_uid,
    )
    assert [*map(said, facts)] == row[1:]
    assert (event.trigger, said(event.occurred_at)) == ("OBSERVED", answer["data"]["updatedAt"][:16])
    assert event.ical_uid == "bFJeNb2uX8ANpT3JL5EfXw@Cal.com"


@pytest.mark.parametrize("name", ["api-bookings-list.json", "api-bookings-list.2026-05-01.json"])
def test_every_booking_of_a_list_is_an_answer_too(name: str) -> None:
    for booking in msgspec.json.decode(sample(name))["data"]:
        assert isinstance(one(observed(observation(booking))), HeardBooking)


@pytest.mark.parametrize("row", table(IGNORED), ids=lambda row: row[0])
def test_any_other_webhook_is_ignored_by_name(row: list[str]) -> None:
    decoded = one(from_calcom(sample(row[0])))
    assert isinstance(decoded, Ignored)
    assert [decoded.kind, decoded.reason] == row[1:]


@pytest.mark.parametrize("row", table(REFUSED), ids=lambda row: row[0])
def test_a_body_without_an_envelope_is_a_dead_letter(row: list[str]) -> None:
    with pytest.raises(Undecodable) as caught:
        decode(from_calcom(sample(row[0])))
    assert caught.value.reason == row[1]


def test_every_sample_is_in_a_table() -> None:
    known = {row[0] for rows in (BOOKINGS, FACTS, IGNORED, REFUSED, OBSERVED) for row in table(rows)}
    there = {path.name for path in SAMPLES.iterdir() if path.suffix in (".json", ".txt")}
    assert {name for name in there if not name.startswith("api-") or name.startswith("api-booking")} - known == {
        "api-booking-404.json",  # nothing is told of a booking: the verifier's to judge
        "api-bookings-list-empty.json",
        "api-bookings-list.2026-05-01.json",
        "api-bookings-list.json",
    }
