"""The doors over ASGI: what is answered, and what is kept."""

import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from itertools import count
from typing import Any

import httpx
import pytest
from aiokafka.errors import KafkaConnectionError
from standardwebhooks import Webhook
from structlog.testing import capture_logs

from schemas.envelope import Delivery
from services.companies.model import Purpose, Secret
from services.companies.register import Register, _Snapshot
from services.ingest.app import create_app
from services.plumbing.health import Health
from tests.support.keeper import MemoryKeeper

NOW = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
CALCOM, OLD, TOKEN = "a secret at cal.com", "the secret before it", "rct_token"
APP = "whsec_" + base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()
PING = b'{"triggerEvent":"PING"}'
LIMIT = 2000


class StillClock:
    """It is always NOW."""

    def now(self) -> datetime:
        return NOW

    async def sleep(self, seconds: float) -> None:
        raise NotImplementedError


class Doors:
    """The application with one company, `acme`, and its keeper."""

    def __init__(self) -> None:
        self.keeper = MemoryKeeper()
        self.register = Register()
        self.health = Health()
        numbers = count(1)
        app = create_app(
            self.register,
            self.keeper,
            self.health,
            clock=StillClock(),
            max_body_bytes=LIMIT,
            ids=lambda: f"delivery-{next(numbers)}",
        )
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://ingest")

    def load(self) -> None:
        secrets: dict[tuple[str, str], tuple[Secret, ...]] = {
            ("acme", Purpose.CALCOM_WEBHOOK): (
                Secret(CALCOM.encode(), None),
                Secret(OLD.encode(), NOW.replace(hour=10)),
            ),
            ("acme", Purpose.APP_WEBHOOK): (Secret(APP.encode(), None),),
            ("acme", Purpose.INGEST_TOKEN): (Secret(TOKEN.encode(), None), Secret(b"rct_expired", NOW)),
        }
        self.register._now = _Snapshot(1, {}, {}, secrets, {})

    async def calcom(
        self, body: bytes = PING, *, secret: str = CALCOM, path: str = "/webhooks/calcom/acme", **headers: str
    ) -> httpx.Response:
        signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        named = {key.replace("_", "-"): value for key, value in headers.items()}
        return await self.client.post(path, content=body, headers={"X-Cal-Signature-256": signature} | named)

    async def app(self, body: bytes, *, token: str = TOKEN, path: str = "/events/appointments/acme") -> httpx.Response:
        return await self.client.post(path, content=body, headers={"Authorization": f"Bearer {token}"})

    @property
    def kept(self) -> list[Delivery]:
        return self.keeper.kept


@pytest.fixture
async def doors() -> AsyncIterator[Doors]:
    made = Doors()
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
        await doors.app(b"[]", token="wrong"),
        await doors.app(b"[]", token="rct_expired"),
        await doors.app(b"[]", path="/events/appointments/other"),
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
    for answer in (await doors.calcom(), await doors.app(json.dumps(event()).encode())):
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


# --- the booking app's door ---------------------------------------------------------------------------------------


async def test_an_event_is_kept_under_its_own_id(doors: Doors) -> None:
    body = json.dumps(event(), indent=1).encode()
    answer = await doors.app(body)
    assert (answer.status_code, answer.json()) == (202, {"results": [{"id": "evt_1", "status": "accepted"}]})
    [kept] = doors.kept
    assert (kept.topic, kept.ce_id, kept.ce_type) == ("app.appointments.v1", "evt_1", "reconcal.appointment")
    assert (kept.body, kept.ce_source, kept.content_type) == (body, "reconcal/ingest/appointments", "application/json")


async def test_the_same_id_again_is_accepted(doors: Doors) -> None:
    body = json.dumps(event()).encode()
    assert [(await doors.app(body)).status_code for _ in range(2)] == [202, 202]
    assert [one.ce_id for one in doors.kept] == ["evt_1", "evt_1"]


async def test_a_batch_is_kept_in_its_order_one_envelope_an_event(doors: Doors) -> None:
    answer = await doors.app(json.dumps([event(number) for number in (3, 1, 2)]).encode())
    assert [one["id"] for one in answer.json()["results"]] == ["evt_3", "evt_1", "evt_2"]
    assert [one.ce_id for one in doors.kept] == ["evt_3", "evt_1", "evt_2"]
    assert [json.loads(one.body)["appointment"]["id"] for one in doors.kept] == ["3", "1", "2"]


async def test_one_bad_event_of_a_batch_takes_none(doors: Doors) -> None:
    answer = await doors.app(json.dumps([event(1), event(2, starts_at="tomorrow")]).encode())
    assert answer.status_code == 422
    assert [one["path"] for one in answer.json()["errors"]] == ["$[1].appointment.starts_at"]
    assert doors.kept == []


async def test_who_is_not_known_learns_nothing_of_its_mistakes(doors: Doors) -> None:
    assert (await doors.app(b"not json", token="wrong")).status_code == 401


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
