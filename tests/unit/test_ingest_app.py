"""The doors over ASGI: what is answered, and what is kept."""

import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError
from standardwebhooks import Webhook
from structlog.testing import capture_logs

from services.ingest import app as application
from services.ingest.guard import Limits
from tests.support.doors import APP, CALCOM, NOW, OLD, PING, TOKEN, Doors

LIMIT = 2000
#: So slow that nothing comes back while a test runs.
TWO_EVENTS = Limits(0.001, 2)


@pytest.fixture
async def doors() -> AsyncIterator[Doors]:
    made = Doors(max_body_bytes=LIMIT)
    made.load()
    yield made
    await made.client.aclose()


@pytest.fixture
async def narrow() -> AsyncIterator[Doors]:
    """Doors that take two events of a company, and the next after a quarter of an hour."""
    made = Doors(limits=TWO_EVENTS)
    made.load()
    yield made
    await made.client.aclose()


def event(number: int = 1, **changes: Any) -> dict[str, Any]:
    appointment = {"id": str(number), "starts_at": "2026-12-01T10:00:00+01:00", "status": "confirmed"} | changes
    at = "2026-11-22T09:00:00Z"
    return {"id": f"evt_{number}", "type": "appointment.created", "occurred_at": at, "appointment": appointment}


# --- Cal.com's door -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [PING, b"false", b"", b"\xff\x00 not json", b"a=b&c=d"])
async def test_whatever_is_signed_is_kept_as_it_came(doors: Doors, body: bytes) -> None:
    answer = await doors.calcom(body, content_type="application/x-www-form-urlencoded")
    assert (answer.status_code, answer.json()) == (202, {"status": "accepted"})
    [kept] = doors.kept
    assert (kept.body, kept.content_type) == (body, "application/x-www-form-urlencoded")
    assert (kept.topic, kept.company_id, kept.ce_id) == ("calcom.bookings.v1", "acme", "delivery-1")
    assert (kept.ce_type, kept.ce_source) == ("com.cal.webhook", "reconcal/ingest/calcom")
    assert kept.received_at == NOW


@pytest.mark.parametrize(
    ("given", "kept"),
    [("2021-10-20", "2021-10-20"), (" 2031-01-01 ", "2031-01-01"), ("", None), ("\x7f", None), ("v" * 99, "v" * 64)],
)
async def test_the_version_of_a_webhook_is_kept_with_it(doors: Doors, given: str, kept: str | None) -> None:
    await doors.calcom(X_Cal_Webhook_Version=given)
    assert doors.kept[0].webhook_version == kept
    assert (b"" if kept is None else kept.encode()) == dict(doors.kept[0].headers()).get("x-cal-webhook-version", b"")


async def test_a_second_active_secret_opens_the_same_door(doors: Doors) -> None:
    assert (await doors.calcom(secret=OLD)).status_code == 202


async def test_the_same_delivery_twice_is_two_envelopes(doors: Doors) -> None:
    assert [(await doors.calcom()).status_code for _ in range(2)] == [202, 202]
    assert [one.ce_id for one in doors.kept] == ["delivery-1", "delivery-2"]


async def test_an_unknown_company_is_answered_like_a_bad_signature(doors: Doors) -> None:
    answers = [
        await doors.calcom(secret="wrong"),
        await doors.calcom(path="/webhooks/calcom/other"),
        await doors.calcom(path="/webhooks/calcom/"),
        await doors.calcom(path="/webhooks/calcom"),
        await doors.calcom(path="/webhooks/calcom/acme/more"),
        await doors.client.post("/webhooks/calcom/acme", content=PING),
        await doors.client.post("/webhooks/calcom/acme", headers={"X-Cal-Signature-256": "no-secret-provided"}),
        await doors.appointments(b"[]", token="wrong"),
        await doors.appointments(b"[]", token="rct_expired"),
        await doors.appointments(b"[]", path="/events/appointments/other"),
    ]
    assert {(one.status_code, one.content, str(one.headers)) for one in answers} == {
        (401, b'{"error":"unauthorized"}', str(answers[0].headers))
    }
    assert doors.kept == []


async def test_a_slash_at_the_end_changes_nothing(doors: Doors) -> None:
    assert (await doors.calcom(path="/webhooks/calcom/acme/")).status_code == 202
    assert doors.kept[0].company_id == "acme"


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("path", ["/webhooks/calcom/acme", "/webhooks/calcom/other", "/events/appointments/acme"])
async def test_only_a_post_comes_in(doors: Doors, method: str, path: str) -> None:
    answer = await doors.client.request(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


async def test_a_body_at_the_limit_is_taken_and_one_byte_more_is_not(doors: Doors) -> None:
    assert (await doors.calcom(b"x" * LIMIT)).status_code == 202
    assert (await doors.calcom(b"x" * (LIMIT + 1))).status_code == 413


async def test_a_length_beyond_all_numbers_is_too_large(doors: Doors) -> None:
    assert (await doors.calcom(content_length="9" * 5000)).status_code == 413


async def test_a_streamed_body_is_not_read_past_the_limit(doors: Doors) -> None:
    read = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal read
        while True:
            read += 1000
            yield b"x" * 1000

    answer = await doors.client.post("/webhooks/calcom/acme", content=endless())
    assert answer.status_code == 413
    assert read <= LIMIT + 2000


async def test_a_valid_trace_goes_on_and_another_begins_anew(doors: Doors) -> None:
    given = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    await doors.calcom(traceparent=given)
    for wrong in (
        given.upper(),
        given[:-1],
        "00" + "-0" * 26 + "x",
        given.replace("4bf92f3577b34da6a3ce929d0e0e4736", "0" * 32),
    ):
        await doors.calcom(traceparent=wrong)
    traces = [one.traceparent or "" for one in doors.kept]
    assert traces[0] == given
    assert len(set(traces)) == 5
    assert all(len(one) == 55 and one.startswith("00-") for one in traces)


# --- what goes wrong ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [KafkaConnectionError(), TimeoutError(), OSError("gone"), RuntimeError("ours")])
async def test_what_could_not_be_kept_is_asked_for_again(doors: Doors, error: Exception) -> None:
    doors.keeper.away = error
    for answer in (await doors.calcom(), await doors.appointments(json.dumps(event()).encode())):
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")


async def test_before_the_companies_are_known_everyone_is_asked_to_come_again() -> None:
    made = Doors()
    answer = await made.calcom(secret="wrong")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    await made.client.aclose()


async def test_a_request_leaves_one_line_without_body_or_signature(doors: Doors) -> None:
    with capture_logs() as lines:
        await doors.calcom(b'{"secret":"in the body"}')
        await doors.calcom(secret="wrong", path="/webhooks/calcom/other%0Aforged=1")
    assert [(one["event"], one["status"], one["door"]) for one in lines] == [
        ("ingest.request", 202, "calcom"),
        ("ingest.request", 401, "calcom"),
    ]
    assert (lines[0]["company"], lines[0]["bytes"], lines[0]["reason"]) == ("acme", 24, None)
    assert lines[1]["reason"] == "no such company, or no secret of it"
    assert "in the body" not in str(lines)
    assert hmac.new(CALCOM.encode(), b'{"secret":"in the body"}', hashlib.sha256).hexdigest() not in str(lines)


async def test_an_error_of_ours_is_logged_with_where_it_happened(doors: Doors) -> None:
    doors.keeper.away = error = RuntimeError("ours")
    with capture_logs() as lines:
        await doors.calcom()
    assert (lines[0]["exc_info"], lines[0]["log_level"]) == (error, "error")


# --- more than a company's share ----------------------------------------------------------------------------------


async def test_a_booking_app_over_its_share_is_told_when_to_come_again(narrow: Doors) -> None:
    body = json.dumps([event(1), event(2)]).encode()
    assert (await narrow.appointments(body)).status_code == 202
    answer = await narrow.appointments(json.dumps(event(3)).encode())
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "1000")
    assert answer.json() == {"error": "too many events; please come again in 1000 s"}
    assert [one.ce_id for one in narrow.kept] == ["evt_1", "evt_2"]


async def test_more_events_than_the_burst_come_in_after_a_quiet_time(narrow: Doors) -> None:
    body = json.dumps([event(number) for number in range(5)]).encode()
    assert (await narrow.appointments(body)).status_code == 202
    assert (await narrow.appointments(body)).headers["retry-after"] == "2000"


async def test_a_webhook_over_the_share_is_kept_and_answered_late(narrow: Doors) -> None:
    assert [(await narrow.calcom()).status_code for _ in range(4)] == [202] * 4
    assert [one.received_at for one in narrow.kept] == [NOW] * 4
    assert narrow.clock.waited_seconds == [2.0, 2.0]


async def test_a_webhook_that_could_not_be_kept_is_not_slowed(narrow: Doors) -> None:
    narrow.keeper.away = TimeoutError()
    assert [(await narrow.calcom()).status_code for _ in range(4)] == [503] * 4
    assert narrow.clock.waited_seconds == []


async def test_beyond_so_many_slow_answers_the_next_comes_at_once(
    narrow: Doors, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(application, "MOST_SLOWED", 0)
    assert [(await narrow.calcom()).status_code for _ in range(3)] == [202] * 3
    assert narrow.clock.waited_seconds == []
    metrics = (await narrow.client.get("/metrics")).text
    assert 'reconcal_ingest_slowed_total{answered="at_once"}' in metrics


async def test_the_share_of_a_door_is_its_own(narrow: Doors) -> None:
    for _ in range(10):
        await narrow.calcom()
    assert (await narrow.appointments(json.dumps(event()).encode())).status_code == 202


async def test_who_is_not_known_takes_nothing_of_the_share(narrow: Doors) -> None:
    body = json.dumps(event()).encode()
    for _ in range(5):
        assert (await narrow.appointments(body, token="wrong")).status_code == 401
        assert (await narrow.calcom(secret="wrong")).status_code == 401
    assert (await narrow.appointments(body)).status_code == 202
    await narrow.calcom()
    assert narrow.clock.waited_seconds == []


async def test_a_flood_of_refusals_leaves_one_line_a_second(narrow: Doors) -> None:
    body = json.dumps([event(1), event(2)]).encode()
    with capture_logs() as lines:
        for _ in range(5):
            await narrow.appointments(body)
    refused = [one["log_level"] for one in lines if one["status"] == 429]
    assert (len(refused), refused[0], set(refused[1:])) == (4, "warning", {"debug"})


# --- the booking app's door ---------------------------------------------------------------------------------------


async def test_an_event_is_kept_under_its_own_id(doors: Doors) -> None:
    body = json.dumps(event(), indent=1).encode()
    answer = await doors.appointments(body)
    assert (answer.status_code, answer.json()) == (202, {"results": [{"id": "evt_1", "status": "accepted"}]})
    [kept] = doors.kept
    assert (kept.topic, kept.ce_id, kept.ce_type) == ("app.appointments.v1", "evt_1", "reconcal.appointment")
    assert (kept.body, kept.ce_source, kept.content_type) == (body, "reconcal/ingest/appointments", "application/json")


async def test_the_same_id_again_is_accepted(doors: Doors) -> None:
    body = json.dumps(event()).encode()
    assert [(await doors.appointments(body)).status_code for _ in range(2)] == [202, 202]
    assert [one.ce_id for one in doors.kept] == ["evt_1", "evt_1"]


async def test_a_batch_is_kept_in_its_order_one_envelope_an_event(doors: Doors) -> None:
    answer = await doors.appointments(json.dumps([event(number) for number in (3, 1, 2)]).encode())
    assert [one["id"] for one in answer.json()["results"]] == ["evt_3", "evt_1", "evt_2"]
    assert [one.ce_id for one in doors.kept] == ["evt_3", "evt_1", "evt_2"]
    assert [json.loads(one.body)["appointment"]["id"] for one in doors.kept] == ["3", "1", "2"]


async def test_one_bad_event_of_a_batch_takes_none(doors: Doors) -> None:
    answer = await doors.appointments(json.dumps([event(1), event(2, starts_at="tomorrow")]).encode())
    assert answer.status_code == 422
    assert [one["path"] for one in answer.json()["errors"]] == ["$[1].appointment.starts_at"]
    assert doors.kept == []


async def test_who_is_not_known_learns_nothing_of_its_mistakes(doors: Doors) -> None:
    assert (await doors.appointments(b"not json", token="wrong")).status_code == 401


async def test_a_standard_webhook_opens_without_a_token(doors: Doors) -> None:
    body = json.dumps(event()).encode()
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(NOW.timestamp())),
        "webhook-signature": Webhook(APP).sign("msg_1", NOW.replace(tzinfo=None), body.decode()),
    }
    assert (await doors.client.post("/events/appointments/acme", content=body, headers=headers)).status_code == 202
    headers["webhook-signature"] = "v1,AAAA"
    headers["Authorization"] = f"Bearer {TOKEN}"
    assert (await doors.client.post("/events/appointments/acme", content=body, headers=headers)).status_code == 401


async def test_health_stands_beside_the_doors(doors: Doors) -> None:
    doors.health.unready("kafka", "not reached yet")
    assert (await doors.client.get("/livez")).status_code == 200
    assert (await doors.client.get("/readyz")).json() == {"ready": False, "troubles": {"kafka": "not reached yet"}}
    await doors.calcom()
    assert 'reconcal_ingest_requests_total{door="calcom",status="202"}' in (await doors.client.get("/metrics")).text
    assert (await doors.client.get("/")).status_code == 404
    assert (await doors.client.post("/webhooks/calcomacme")).status_code == 404
