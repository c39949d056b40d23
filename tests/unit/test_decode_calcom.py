"""What a webhook body of Cal.com becomes: an event of a booking, nothing of interest, or a dead letter."""

import json
from typing import Any

import pytest
from msgspec.structs import replace

from schemas.bookings import BookingEvent
from services.reconciler.core.events import HeardBooking
from services.reconciler.decode import BODY_MAX_BYTES, Decoded, Ignored, Undecodable, decode
from services.reconciler.decode.triggers import TRIGGERS, Role
from tests.support import builders as b
from tests.support.builders import from_calcom


def booking(content: object) -> BookingEvent:
    """Decode what must be an event of a booking."""
    decoded = b.decoded(from_calcom(content))
    assert isinstance(decoded, HeardBooking)
    return decoded.event


def ignored(content: object) -> Ignored:
    """Decode what must be of no interest."""
    decoded = b.decoded(from_calcom(content))
    assert isinstance(decoded, Ignored)
    return decoded


def refused(content: object, **options: Any) -> Undecodable:
    """Decode what must be refused."""
    with pytest.raises(Undecodable) as caught:
        decode(from_calcom(content, **options))
    return caught.value


def test_the_receipt_of_the_envelope_goes_with_the_event() -> None:
    decoded = b.decoded(from_calcom(b.booking_created(), received_at=b.STARTS_AT))
    assert isinstance(decoded, HeardBooking)
    assert decoded.received_at == b.STARTS_AT


@pytest.mark.parametrize(
    ("body", "rank"),
    [
        (b.booking_requested(), 1),
        (b.booking_created(), 2),
        (b.booking_rescheduled(), 3),
        (b.booking_rejected(), 4),
        (b.booking_cancelled(), 5),
    ],
)
def test_the_id_of_an_event_begins_with_the_rank_of_its_trigger(body: b.Json, rank: int) -> None:
    event = booking(body)
    assert event.trigger == body["triggerEvent"]
    assert event.event_id.startswith(f"cal-{rank}-")
    assert len(event.event_id) == len("cal-0-") + 32


def test_the_same_body_in_another_order_and_with_white_space_is_the_same_event() -> None:
    body = b.booking_created(metadata={"appointment_id": "ä"})
    turned = dict(reversed(body.items())) | {"payload": dict(reversed(body["payload"].items()))}
    spaced = json.dumps(turned, indent=2).encode()
    assert decode(from_calcom(spaced)) == decode(from_calcom(body))


def test_another_moment_of_sending_is_another_event() -> None:
    assert booking(b.booking_created()).event_id != booking(b.booking_created(created_at=b.STARTS_AT)).event_id


@pytest.mark.parametrize("content_type", ["application/x-www-form-urlencoded", "text/plain", None])
def test_the_content_type_is_not_asked(content_type: str | None) -> None:
    envelope = replace(from_calcom(b.booking_requested()), content_type=content_type)
    assert isinstance(b.decoded(envelope), HeardBooking)


@pytest.mark.parametrize(
    ("trigger", "reason"),
    [
        ("OOO_CREATED", "by_policy"),
        ("FORM_SUBMITTED", "by_policy"),
        ("FORM_SUBMITTED_NO_EVENT", "by_policy"),
        ("ROUTING_FORM_FALLBACK_HIT", "by_policy"),
        ("DELEGATION_CREDENTIAL_ERROR", "by_policy"),
        ("BOOKING_CONFIRMED", "unknown_trigger"),
        ("booking_created", "unknown_trigger"),
    ],
)
def test_a_trigger_that_says_nothing_of_a_bookings_state_is_ignored(trigger: str, reason: str) -> None:
    seen = ignored(b.booking_created() | {"triggerEvent": trigger})
    assert (seen.kind, seen.reason, seen.occurred_at) == (trigger, reason, b.NOW)
    assert seen.event_id.startswith("cal-0-")


def test_a_ping_is_ignored() -> None:
    assert ignored(b.ping()).reason == "ping"


def test_an_ignored_body_may_have_a_senseless_time() -> None:
    assert ignored(b.ping() | {"createdAt": "yesterday"}).occurred_at is None


@pytest.mark.parametrize("body", [b"{}", b"[]", b"null", b'"BOOKING_CREATED"', b"17", b"who=\xc3\xa4&event=lunch"])
def test_a_body_with_neither_trigger_nor_booking_has_no_envelope(body: bytes) -> None:
    error = refused(body)
    assert error.reason == "no_envelope"
    assert "custom payload template" in error.detail


def test_an_admin_is_told_what_to_change_at_cal_com() -> None:
    assert "could not render" in refused(b"false").detail
    assert "Zapier" in refused(b.zapier()).detail
    assert "{{uid}}" in refused({"content": "A new event", "type": "checkup"}).detail
    assert {refused(body).reason for body in (b"false", b.zapier(), {})} == {"no_envelope"}


@pytest.mark.parametrize(
    "body", [b"", b"  ", b"not json", b'{"triggerEvent": "BOOKING_CREATED"', b"[" * 100_000, b"1e999"]
)
def test_a_body_that_is_not_json_is_refused(body: bytes) -> None:
    assert refused(body).reason == "invalid_json"


@pytest.mark.parametrize("uid", [None, "", False, 17, {}, "x" * 201, "id:17"])
def test_a_change_that_names_no_booking_is_refused_and_what_is_missing_is_named(uid: object) -> None:
    error = refused(b.having(b.booking_created(), uid=uid, bookingId=None))
    assert error.reason == "no_booking"
    assert error.detail.startswith("BOOKING_CREATED names no booking")


@pytest.mark.parametrize(
    "body",
    [
        {"triggerEvent": "BOOKING_CREATED", "payload": {"bookingUid": "uid-9"}},
        {"triggerEvent": "BOOKING_CREATED", "payload": {"booking": {"uid": "uid-9"}}},
        {"triggerEvent": "BOOKING_CREATED", "payload": {"uid": None}, "uid": "uid-9"},
        {"triggerEvent": "BOOKING_CREATED", "payload": False, "uid": "uid-9"},
        {"triggerEvent": "BOOKING_CREATED", "uid": "uid-9"},
        {"triggerEvent": "BOOKING_CREATED", "booking_uid": "uid-9"},
        {"triggerEvent": "BOOKING_CREATED", "payload": [{"uid": "uid-9"}]},
        {"triggerEvent": "BOOKING_CREATED", "payload": [], "bookingUID": "uid-9"},
        {"triggerEvent": "BOOKING_CREATED", "booking": {"uid": "uid-9"}},
        {"triggerEvent": "BOOKING_CREATED", "data": {"uid": "uid-9"}},
        [{"triggerEvent": "BOOKING_CREATED", "payload": {"uid": "uid-9"}}],
    ],
)
def test_the_uid_is_found_wherever_it_stands(body: object) -> None:
    assert booking(body).uid == "uid-9"


def test_a_flat_booking_body_is_read_from_its_root() -> None:
    flat = booking({"triggerEvent": "BOOKING_CREATED", "uid": "uid-9", "id": 12, "startTime": b.z(b.STARTS_AT)})
    assert (flat.booking_id, flat.starts_at) == (12, b.STARTS_AT)


@pytest.mark.parametrize("company_id", [None, ""])
def test_a_record_without_a_company_is_refused(company_id: str | None) -> None:
    assert refused(b.booking_created(), company_id=company_id).reason == "no_company"


def test_a_body_of_a_mebibyte_is_read_and_one_byte_more_is_refused() -> None:
    full = b.body(b.booking_created())
    assert booking(full + b" " * (BODY_MAX_BYTES - len(full))).uid == "uid-1"
    assert refused(full + b" " * (BODY_MAX_BYTES - len(full) + 1)).reason == "too_large"


def test_a_record_of_another_topic_is_refused() -> None:
    with pytest.raises(Undecodable, match="unknown_topic"):
        decode(b.envelope("sync.flags.v1", b.booking_created()))


@pytest.mark.parametrize("escape", [b"\\u0000", b"\\ud800", b"\\uDC00", b"\\ud83d\\ud83d"])
@pytest.mark.parametrize("field", ["title", "uid", "iCalUID", "rescheduleUid"])
def test_text_that_cannot_be_stored_is_refused_and_its_field_is_named(field: str, escape: bytes) -> None:
    body = b.body(b.having(b.booking_created(), **{field: "@@here@@"})).replace(b"@@here@@", b"cut " + escape + b" off")
    error = refused(body)
    assert error.reason == "invalid_text"
    assert "`" in error.detail


@pytest.mark.parametrize("escape", [b"\\u0000", b"\\ud800"])
def test_text_that_cannot_be_stored_harms_nothing_where_nobody_stores_it(escape: bytes) -> None:
    body = b.body(b.booking_created(description="@@here@@")).replace(b"@@here@@", escape)
    assert booking(body).title == b.booking_created()["payload"]["title"]


@pytest.mark.parametrize("number", [b"1e999", b"Infinity", b"NaN"])
def test_a_body_with_a_senseless_number_is_refused_however_its_text_is_written(number: bytes) -> None:
    whole = b.body(b.booking_created(price="@@here@@", title="\N{PALM TREE}")).replace(b'"@@here@@"', number)
    assert (
        refused(whole).reason
        == refused(whole.replace("\N{PALM TREE}".encode(), b"\\ud83c\\udf34")).reason
        == "invalid_json"
    )


def test_a_whole_surrogate_pair_and_an_escaped_backslash_are_fine() -> None:
    body = b.body(b.booking_created(title="@@here@@")).replace(b"@@here@@", b"\\ud83c\\udf34 \\\\u0000 \\u00e4")
    assert booking(body).title == "\N{PALM TREE} \\u0000 ä"


def test_bytes_that_are_not_utf_8_are_refused() -> None:
    assert refused(b.body(b.booking_created(title="@")).replace(b'"@"', b'"\xff"')).reason == "invalid_text"


def test_a_trigger_that_cannot_be_stored_is_refused() -> None:
    assert refused(b'{"triggerEvent": "A\\u0000B", "payload": {}}').reason == "invalid_text"


def test_a_dead_letters_detail_can_be_stored_and_shown() -> None:
    error = Undecodable("slug", "a\0b\ud800c\n" + "x" * 1000)
    assert error.detail.startswith("a b c x")
    assert len(error.detail) == 500


@pytest.mark.parametrize("several", [[b.ping(), b.ping()], b.webhook("BOOKING_CREATED", {}) | {"payload": [{}, {}]}])
def test_several_webhooks_in_one_body_are_refused(several: object) -> None:
    assert refused(several).reason == "batch"


def test_an_array_of_one_is_the_event_itself() -> None:
    assert booking([b.booking_created()]) == booking(b.booking_created())


# --- templates --------------------------------------------------------------------------------------------------------


def test_a_template_of_raw_pairs_is_read_though_nothing_in_it_is_quoted() -> None:
    event = booking(b"event=BOOKING_CREATED&uid=uid-1&when=2026-03-09T15:00:00+01:00&id=4001")
    assert (event.trigger, event.uid, event.booking_id) == ("BOOKING_CREATED", "uid-1", 4001)
    assert (event.starts_at, event.occurred_at) == (b.STARTS_AT, b.NOW)


@pytest.mark.parametrize(
    ("title", "read"),
    [
        ("Tea &amp; talk", "Tea & talk"),
        ("Tea & talk", "Tea & talk"),
        ("O&#x27;Hara &lt;3 a&#x3D;b", "O'Hara <3 a=b"),
        ("100%25 + 1", "100%25 + 1"),
        ("&amp;lt; &#x27;&amp;&#x27;", "&lt; '&'"),
    ],
)
def test_the_text_of_a_pair_is_as_it_was_before_handlebars(title: str, read: str) -> None:
    event = booking(f"trigger=BOOKING_CANCELLED&title={title}&uid=uid-1\n".encode())
    assert (event.title, event.uid, event.status) == (read, "uid-1", "CANCELLED")


def test_the_first_of_two_pairs_of_one_name_counts() -> None:
    assert booking(b"event=BOOKING_CREATED&uid=uid-1&title=x&uid=uid-2").uid == "uid-1"


def test_a_pair_with_a_nul_is_refused() -> None:
    assert refused(b"event=BOOKING_CREATED&uid=a\0b").reason == "invalid_text"


def test_a_template_may_rename_and_drop_what_it_likes() -> None:
    body = {"event": "BOOKING_RESCHEDULED", "booking_uid": "uid-2", "booking_id": "4002", "event_type_id": 5150}
    body |= {"start": b.z(b.STARTS_AT), "ends_at": b.z(b.STARTS_AT + b.HALF_AN_HOUR), "reschedule_uid": "uid-1"}
    event = booking(body | {"appointment_id": "4711", "createdAt": b.z_ms(b.STARTS_AT)})
    assert (event.uid, event.booking_id, event.event_type_id, event.parent_uid) == ("uid-2", 4002, 5150, "uid-1")
    assert (event.starts_at, event.ends_at) == (b.STARTS_AT, b.STARTS_AT + b.HALF_AN_HOUR)
    assert (event.appointment_id, event.occurred_at) == ("4711", b.STARTS_AT)


def test_a_time_that_a_template_spells_for_people_is_absent() -> None:
    assert booking({"event": "BOOKING_CREATED", "uid": "uid-1", "start": "Monday at three"}).starts_at is None


@pytest.mark.parametrize("key", ["trigger", "event", "type", "what happened"])
def test_a_trigger_is_known_by_its_name_wherever_it_stands(key: str) -> None:
    assert booking({key: "BOOKING_CANCELLED", "uid": "uid-1"}).trigger == "BOOKING_CANCELLED"


def test_a_title_is_no_test_button() -> None:
    assert booking({"title": "PING", "uid": "uid-1", "status": "ACCEPTED"}).title == "PING"


@pytest.mark.parametrize(
    ("word", "rank"), [("PENDING", 1), ("awaiting_host", 1), ("ACCEPTED", 2), ("REJECTED", 4), ("CANCELLED", 5)]
)
def test_a_booking_and_its_state_are_as_good_as_a_trigger(word: str, rank: int) -> None:
    event = booking({"uid": "uid-1", "status": word})
    assert (event.trigger, event.status) == ("UNNAMED", word.upper())
    assert event.event_id.startswith(f"cal-{rank}-")


def test_a_booking_known_by_its_number_has_a_state_too() -> None:
    assert booking({"bookingId": 7, "status": "ACCEPTED"}).uid == "id:7"
    assert refused({"id": 7, "content": "x"}).reason == "no_envelope"


# --- facts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trigger", [name for name, one in TRIGGERS.items() if one.role is Role.FACT])
def test_a_fact_never_says_what_the_booking_is(trigger: str) -> None:
    event = booking(b.booking_created() | {"triggerEvent": trigger})
    assert (event.trigger, event.status, event.uid, event.booking_id) == (trigger, None, "uid-1", 4001)
    assert (event.starts_at, event.scope, event.unpaid) == (b.STARTS_AT, None, False)
    assert event.event_id.startswith("cal-0-")


@pytest.mark.parametrize("trigger", [name for name, one in TRIGGERS.items() if one.role is Role.FACT])
def test_a_fact_that_names_no_booking_or_no_time_is_no_dead_letter(trigger: str) -> None:
    nobody = b.having(b.booking_created(), uid=None, bookingId=None) | {"triggerEvent": trigger}
    assert ignored(nobody).reason == "by_policy"
    timeless = b.having(b.booking_created(), startTime="soon", endTime="0001-01-01") | {"triggerEvent": trigger}
    event = booking(timeless | {"createdAt": "then"})
    assert (event.starts_at, event.ends_at, event.occurred_at) == (None, None, b.NOW)


def test_a_payment_is_a_fact_whose_metadata_is_cal_coms_own() -> None:
    event = booking(b.paid())
    assert (event.paid, event.status, event.appointment_id, event.booking_id) == (True, None, None, 4001)


def test_a_mark_of_absence_names_its_booking_in_its_own_way() -> None:
    event = booking(b.no_show_updated())
    assert (event.uid, event.booking_id, event.starts_at) == ("uid-1", 4001, None)
    assert booking(b.having(b.no_show_updated(), bookingUid=None)).uid == "id:4001"


def test_a_flat_meeting_is_told_at_its_own_time_for_its_created_at_is_the_bookings() -> None:
    began, ended = booking(b.meeting_started()), booking(b.meeting_started() | {"triggerEvent": "MEETING_ENDED"})
    assert (began.occurred_at, ended.occurred_at) == (b.STARTS_AT, b.STARTS_AT + b.HALF_AN_HOUR)
    assert (began.uid, began.booking_id, began.parent_uid) == ("uid-1", 4001, None)
    assert booking(b.meeting_started() | {"fromReschedule": "uid-0"}).parent_uid == "uid-0"


def test_a_meeting_inside_an_envelope_is_the_same_meeting() -> None:
    row = b.meeting_started()
    event = booking(b.webhook(row.pop("triggerEvent"), row, b.STARTS_AT))
    assert (event.uid, event.booking_id, event.status, event.occurred_at) == ("uid-1", 4001, None, b.STARTS_AT)


def test_a_wrong_assignment_holds_its_booking_one_level_deeper() -> None:
    event = booking(b.wrong_assignment())
    assert (event.uid, event.booking_id, event.event_type_id) == ("uid-1", 4001, 5150)
    assert event.starts_at == b.STARTS_AT


# --- versions ---------------------------------------------------------------------------------------------------------


def versioned(content: object, version: str | None) -> Decoded:
    """Decode a body of a version."""
    return b.decoded(replace(from_calcom(content), webhook_version=version))


@pytest.mark.parametrize("version", [None, "2021-10-20", "2031-01-01"])
def test_a_body_is_read_by_what_is_known_whatever_its_version(version: str | None) -> None:
    assert versioned(b.booking_created(), version) == versioned(b.booking_created(), None)


@pytest.mark.parametrize(
    "body", [{"kind": "x"}, {"triggerEvent": "BOOKING_CREATED"}, {"triggerEvent": "NEWS", "uid": "u"}, {"uid": "u"}]
)
def test_of_an_unknown_version_what_cannot_be_found_is_ignored_and_counted(body: b.Json) -> None:
    found = versioned(body, "2031-01-01")
    assert isinstance(found, Ignored)
    assert found.reason == "unknown_version"
