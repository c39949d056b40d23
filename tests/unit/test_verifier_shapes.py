"""What is believed of an answer, and what it then is."""

from datetime import UTC, datetime
from typing import Any

import pytest

from services.verifier.answers import (
    Answer,
    Bookings,
    Headroom,
    NotThere,
    Reason,
    Unauthorised,
    Unknown,
    Webhook,
    Webhooks,
)
from services.verifier.ports import Call, CreateWebhook, GetBooking, ListQuery, ListWebhooks, PatchWebhook
from services.verifier.wire import reading
from services.verifier.wire.reading import Reply
from tests.support.builders import api_booking, body

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
GET = GetBooking("uid-1")
LIST = ListQuery(take=2)
HOOK = Webhook(id="w", subscriber_url="https://x.example", active=True, triggers=())
PATCH = PatchWebhook(webhook=HOOK, active=True)
CREATE = CreateWebhook(subscriber_url="https://x.example", triggers=(), secret="s3cret-of-ours")


def read(call: Call, content: object, status: int = 200, *secrets: str, **headers: str) -> Answer:
    """Read an answer; what is no bytes is JSON."""
    raw = content if isinstance(content, bytes) else body(content)
    told = {name.replace("_", "-"): value for name, value in headers.items()}
    return reading.by_body(call, Reply(status, told, raw), NOW, secrets)


def success(data: object, **more: object) -> dict[str, Any]:
    return {"status": "success", "data": data, **more}


def failure(code: str, message: object, **more: object) -> dict[str, Any]:
    return {"status": "error", "error": {"code": code, "message": message}, **more}


def why(found: Answer) -> Reason:
    assert isinstance(found, Unknown), found
    return found.reason


# --- bookings ----------------------------------------------------------------------------------------------------


def test_a_booking_goes_on_as_it_came() -> None:
    """Unknown fields, another word for a status, odd types where nothing depends on them."""
    row = api_booking(status="awaiting_host", extra={"a": [1, None]}, hosts=[{"id": "unknown"}], updatedAt=None)
    assert read(GET, success(row)) == Bookings(rows=(row,))


@pytest.mark.parametrize(
    "over",
    [
        {"uid": None},
        {"uid": ""},
        {"uid": 7},
        {"uid": "u" * 201},
        {"status": None},
        {"status": ""},
        {"status": 3},
        {"start": None},
        {"start": "2026-03-09 14:00"},
        {"start": "2026-03-09T14:00:00"},
        {"start": 1_772_000_000},
        {"end": "soon"},
        {"rescheduledToUid": 9},
        {"rescheduledFromUid": {}},
        {"recurringBookingUid": []},
        {"updatedAt": "yesterday"},
        {"attendees": {}},
        {"attendees": ["mia"]},
        {"metadata": "x"},
    ],
)
def test_a_booking_of_another_shape_is_not_believed(over: dict[str, object]) -> None:
    assert why(read(GET, success(api_booking(**over)))) is Reason.WRONG_SHAPE  # type: ignore[arg-type]
    page = success([api_booking("uid-0"), api_booking(**over)])  # type: ignore[arg-type]
    assert why(read(LIST, page)) is Reason.WRONG_SHAPE


@pytest.mark.parametrize("field", ["uid", "status", "start", "end"])
def test_a_booking_without_what_all_have_is_not_believed(field: str) -> None:
    row = api_booking()
    del row[field]
    assert why(read(GET, success(row))) is Reason.WRONG_SHAPE


OLD_ROW = {"id": 1, "uid": "uid-1", "startTime": "2026-03-09T14:00:00.000Z", "status": "ACCEPTED"}


@pytest.mark.parametrize(
    ("call", "data"),
    [
        (GET, OLD_ROW),
        (GET, api_booking(status="ACCEPTED")),
        (LIST, [OLD_ROW]),
        (LIST, {"bookings": [OLD_ROW], "nextCursor": None}),
    ],
)
def test_the_shape_of_the_old_version_is_named(call: Call, data: object) -> None:
    found = read(call, success(data))
    assert why(found) is Reason.API_VERSION
    assert "2024-04-15" in str(found)


def test_an_answer_about_another_booking_is_none() -> None:
    assert why(read(GET, success(api_booking("uid-2")))) is Reason.WRONG_SHAPE
    assert why(read(GET, success([]))) is Reason.WRONG_SHAPE
    assert why(read(GET, success([api_booking("uid-1"), api_booking("uid-2")]))) is Reason.WRONG_SHAPE


def test_a_series_is_asked_for_by_its_own_uid() -> None:
    rows = [api_booking(uid, recurringBookingUid="uid-1") for uid in ("uid-2", "uid-3")]
    found = read(GET, success(rows))
    assert isinstance(found, Bookings)
    assert found.rows == tuple(rows)


@pytest.mark.parametrize(
    "content",
    [
        {},
        [],
        None,
        {"status": "success"},
        success(None),
        success("x"),
        success([None]),
        {"data": api_booking()},
        failure("x", "y"),
        success(api_booking()) | {"status": "ok"},
    ],
)
def test_other_json_with_200_is_of_a_wrong_shape(content: object) -> None:
    assert why(read(GET, content)) is Reason.WRONG_SHAPE
    assert why(read(LIST, content)) is Reason.WRONG_SHAPE


@pytest.mark.parametrize(
    "content", [b"", b"  ", b"<html>", b"ok", b"\xff\xfe", b'{"a":"\xff"}', b"[" * 200_000, b'{"a":1}}']
)
def test_what_is_no_json_is_not_of_cal_com(content: bytes) -> None:
    assert why(read(GET, content)) is Reason.NOT_CALCOM


def test_json_that_ends_in_the_middle_was_cut() -> None:
    assert why(read(GET, body(success(api_booking()))[:-5])) is Reason.CUT


# --- pages -------------------------------------------------------------------------------------------------------


def page(rows: int, **pagination: object) -> Bookings:
    found = read(LIST, success([api_booking(f"uid-{number}") for number in range(rows)], pagination=pagination))
    assert isinstance(found, Bookings)
    return found


def test_a_page_says_whether_another_follows_in_either_way() -> None:
    assert (page(2, hasNextPage=True).has_more, page(2, hasNextPage=False).has_more) == (True, False)
    followed = page(2, hasMore=True, nextCursor="c2")
    assert (followed.has_more, followed.cursor) == (True, "c2")
    last = page(2, hasMore=False, nextCursor=None)
    assert (last.has_more, last.cursor) == (False, None)
    assert page(1, hasMore=True, nextCursor=17).cursor == "17"


def test_where_nothing_is_said_a_full_page_may_have_another_behind_it() -> None:
    assert (page(2).has_more, page(1).has_more) == (True, False)
    for quiet in ({}, {"pagination": None}):
        found = read(LIST, success([api_booking(), api_booking("b")]) | quiet)
        assert isinstance(found, Bookings)
        assert found.has_more


def test_more_without_a_way_to_it_is_of_a_wrong_shape() -> None:
    content = success([api_booking()], pagination={"hasMore": True, "nextCursor": None})
    assert why(read(LIST, content)) is Reason.WRONG_SHAPE
    assert why(read(LIST, success(api_booking()))) is Reason.WRONG_SHAPE
    assert why(read(LIST, success([], pagination={"hasNextPage": "yes"}))) is Reason.WRONG_SHAPE


# --- webhooks ----------------------------------------------------------------------------------------------------


def hook(**over: object) -> dict[str, Any]:
    row = {"id": "w", "subscriberUrl": "https://x.example", "active": True, "triggers": [], "payloadTemplate": None}
    return row | {"secret": "s3cret-of-ours", "userId": 1} | over


def test_webhooks_are_read_without_their_secrets() -> None:
    found = read(ListWebhooks(), success([hook(), hook(id=7, active=False, triggers=["A"], payloadTemplate="{}")]))
    assert found == Webhooks(
        rows=(
            HOOK,
            Webhook(id="7", subscriber_url="https://x.example", active=False, triggers=("A",), has_template=True),
        )
    )
    assert read(CREATE, success(hook()), 201) == Webhooks(rows=(HOOK,))
    assert read(PATCH, success(hook())) == Webhooks(rows=(HOOK,))


@pytest.mark.parametrize("over", [{"id": None}, {"subscriberUrl": None}, {"active": "yes"}, {"triggers": [1]}])
def test_a_webhook_of_another_shape_is_not_believed(over: dict[str, object]) -> None:
    assert why(read(ListWebhooks(), success([hook(**over)]))) is Reason.WRONG_SHAPE
    assert why(read(ListWebhooks(), success(hook()))) is Reason.WRONG_SHAPE
    assert why(read(PATCH, success([hook()]))) is Reason.WRONG_SHAPE


# --- what is not there, and what is refused ----------------------------------------------------------------------

GONE = failure("NotFoundException", "Booking with uid=uid-1 was not found in the database", path="/v2/bookings/uid-1")


def test_only_the_documented_404_of_what_was_asked_for_means_that_it_is_not_there() -> None:
    assert isinstance(read(GET, GONE, 404), NotThere)
    assert isinstance(read(GetBooking("a b"), GONE | {"path": "/v2/bookings/a%20b"}, 404), NotThere)
    assert isinstance(read(PATCH, failure("NotFoundException", "Webhook not found"), 404), NotThere)
    assert why(read(GetBooking("uid-9"), GONE, 404)) is Reason.WRONG_SHAPE
    for call in (LIST, ListWebhooks(), CREATE):
        assert why(read(call, GONE, 404)) is Reason.WRONG_SHAPE


@pytest.mark.parametrize(
    "content",
    [
        failure("NotFoundException", "Cannot GET /bookings/uid-1"),
        failure("HttpException", "Not Found"),
        {"statusCode": 404, "message": "Not Found", "error": "Not Found"},
        {"status": "error", "error": "Not Found"},
        {"status": "error", "error": {"message": "Not Found"}},
        {"detail": "Not Found"},
        [],
        b"<html>404</html>",
        b"",
    ],
)
def test_any_other_404_says_nothing_of_a_booking(content: object) -> None:
    assert why(read(GET, content, 404)) is Reason.NOT_CALCOM


@pytest.mark.parametrize("status", [401, 403, 498])
def test_a_key_is_refused_by_cal_com_alone(status: int) -> None:
    found = read(GET, failure("UnauthorizedException", "Your api key is not valid"), status)
    assert found == Unauthorised(status=status, detail=f"Cal.com refuses the key ({status}): Your api key is not valid")
    for other in (b"<h1>Forbidden</h1>", b"", {"message": "no"}):
        assert why(read(GET, other, status)) is Reason.NOT_CALCOM


def test_a_refusal_says_why_without_the_values_and_the_secrets() -> None:
    errors = [
        {"property": "secret", "value": "s3cret-of-ours", "constraints": {"isEnum": "Invalid cal_live_abcdefgh."}}
    ]
    refused = failure("BadRequestException", ["Bad", "abcdefgh\n\x1b[2J" + "x" * 500])
    found = read(
        CREATE, refused | {"error": refused["error"] | {"details": {"errors": errors}}}, 400, "cal_live_abcdefgh"
    )
    assert isinstance(found, Unknown)
    assert (found.reason, found.status) == (Reason.REJECTED, 400)
    assert found.detail.startswith("Cal.com refuses the request (400): Bad; (hidden) [2Jxxx")
    assert found.detail.endswith("Invalid (hidden).")
    assert len(found.detail) < 500
    exists = read(CREATE, failure("ConflictException", "Webhook with this subscriber url already exists"), 409)
    assert "already exists" in str(exists)


# --- limits ------------------------------------------------------------------------------------------------------


def test_of_several_limits_the_widest_counts() -> None:
    """A key is blocked when all of its limits are used up."""

    def left(**headers: str) -> Headroom | None:
        return reading.headroom({f"x-ratelimit-{name.replace('_', '-')}": value for name, value in headers.items()})

    assert left() is None
    assert left(remaining_default="119", reset_default="60") == Headroom(119, 60)
    assert left(remaining_short="0", reset_short="5", remaining_long="70", reset_long="600") == Headroom(70, 600)
    assert left(remaining_short="0", reset_short="5", remaining_long="0", reset_long="600") == Headroom(0, 5)
    assert left(remaining="3") == Headroom(3, 60)
    assert left(remaining_a="many", remaining_b="-1", remaining_c="1e3", reset_c="9") is None
    assert left(remaining_a="0", reset_a="999999999") == Headroom(0, 3600)


@pytest.mark.parametrize(
    ("status", "headers", "seconds"),
    [
        (429, {}, 60),
        (429, {"retry-after": "7"}, 7),
        (429, {"retry-after": "0"}, 1),
        (429, {"retry-after": "99999"}, 3600),
        (429, {"retry-after": "9" * 400}, 60),
        (429, {"retry-after": "-5"}, 60),
        (429, {"retry-after": "soon"}, 60),
        (429, {"retry-after": "Mon, 02 Mar 2026 09:01:30 GMT"}, 90),
        (429, {"retry-after": "Mon, 02 Mar 2026 10:01:30 +0100"}, 90),
        (429, {"retry-after": "Mon, 02 Mar 2026 08:00:00 GMT"}, 1),
        (429, {"retry-after": "Mon, 02 Mar 99999999999 08:00:00 GMT"}, 60),
        (429, {"x-ratelimit-remaining-default": "0", "x-ratelimit-reset-default": "23"}, 23),
        (429, {"x-ratelimit-remaining-default": "5", "x-ratelimit-reset-default": "23"}, 60),
        (503, {}, None),
        (503, {"retry-after": "120"}, 120),
        (500, {"x-ratelimit-remaining-x": "0", "x-ratelimit-reset-x": "30"}, 30),
    ],
)
def test_how_long_nobody_may_ask_is_said_by_the_head(
    status: int, headers: dict[str, str], seconds: float | None
) -> None:
    found = reading.by_head(Reply(status, headers), NOW)
    assert found is not None
    assert found.retry_after_seconds == seconds


def test_an_answer_carries_what_is_left() -> None:
    headers = {"x_ratelimit_remaining_default": "0", "x_ratelimit_reset_default": "4"}
    for call, content, status in ((GET, success(api_booking()), 200), (GET, GONE, 404), (LIST, success([]), 200)):
        found = read(call, content, status, **headers)
        assert isinstance(found, Bookings | NotThere)
        assert found.headroom == Headroom(0, 4)


@pytest.mark.parametrize("location", ["https://evil.example/x", "/login", "", "http://[bad", "//h\u00f6st/\x00"])
def test_a_redirect_is_told_by_its_host_alone(location: str) -> None:
    found = reading.by_head(Reply(302, {"location": location}), NOW)
    assert found is not None
    assert found.reason is Reason.REDIRECT
    assert ("evil.example" in found.detail) == ("evil" in location)
