"""The client against a server that answers any bytes at all: each is an answer that says what it is, in time."""

import asyncio
import gzip
import logging
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from structlog.testing import capture_logs

from services.plumbing import settings, telemetry
from services.verifier.answers import Answer, Bookings, NotThere, Reason, Unauthorised, Unknown, Webhook, Webhooks
from services.verifier.ports import (
    Account,
    Call,
    CreateWebhook,
    GetBooking,
    ListQuery,
    ListWebhooks,
    PatchWebhook,
)
from services.verifier.wire.client import HttpClient
from tests.support import certificates, wait
from tests.support.builders import api_booking, body
from tests.support.raw_http import HOST, RawHttp, answer, chunked, raw_http

KEY = "cal_live_0123456789abcdef"
SECRET = "whsec-of-ours-31415926"
PROXY_PASSWORD = "proxy-pass-27182818"
GET = GetBooking("uid-1")
BOOKING = body({"status": "success", "data": api_booking()})
SHORT_SECONDS = 0.4
MEBIBYTE = 1_048_576


@asynccontextmanager
async def client(**changed: object) -> AsyncIterator[HttpClient]:
    """Give a client that may ask the loopback; `changed`: settings without `calcom_`."""
    given = {"private_addresses": "allow", **changed}
    environ = {f"RECONCAL_CALCOM_{name.upper()}": str(value) for name, value in given.items()}
    made = HttpClient.open(settings.load(environ))
    try:
        yield made
    finally:
        await made.close()


@pytest.fixture
async def raw() -> AsyncIterator[RawHttp]:
    async with raw_http() as made:
        yield made


def account(port: int, *, host: str = HOST, path: str = "/v2", scheme: str = "http") -> Account:
    return Account(company_id="acme", base_url=f"{scheme}://{host}:{port}{path}", api_key=KEY, budget_id="b")


async def ask(raw: RawHttp, call: Call = GET, **changed: object) -> Answer:
    """Ask once, with a client of its own."""
    async with client(**changed) as one:
        return await one.send(account(raw.port), call)


async def reason(raw: RawHttp, **changed: object) -> Reason:
    found = await ask(raw, GET, **changed)
    assert isinstance(found, Unknown)
    return found.reason


# --- what is asked -----------------------------------------------------------------------------------------------


async def test_a_request_says_who_asks_for_what_in_which_version(raw: RawHttp) -> None:
    raw.says(answer(200, BOOKING))
    assert isinstance(await ask(raw, api_version="2026-05-01"), Bookings)
    (heard,) = raw.heard
    assert heard.line == "GET /v2/bookings/uid-1 HTTP/1.1"
    assert heard.headers["authorization"] == f"Bearer {KEY}"
    assert heard.headers["cal-api-version"] == "2026-05-01"
    assert heard.headers["host"] == f"{HOST}:{raw.port}"
    assert heard.headers["user-agent"].startswith("reconcal/")


@pytest.mark.parametrize("path", ["", "/", "/v2/", "/behind/a/proxy/v2"])
async def test_a_base_url_may_have_any_path(raw: RawHttp, path: str) -> None:
    raw.says(answer(200, BOOKING))
    async with client() as one:
        assert isinstance(await one.send(account(raw.port, path=path), GET), Bookings)
    assert raw.heard[0].line == f"GET {path.rstrip('/')}/bookings/uid-1 HTTP/1.1"


async def test_a_webhook_is_made_and_changed_with_bodies(raw: RawHttp) -> None:
    row = {"id": 7, "subscriberUrl": "https://x.example/y", "active": True, "triggers": ["BOOKING_CREATED"]}
    raw.says(answer(201, body({"status": "success", "data": row | {"secret": SECRET}})))
    made = CreateWebhook(subscriber_url="https://x.example/y", triggers=("BOOKING_CREATED",), secret=SECRET)
    found = await ask(raw, made)
    assert isinstance(found, Webhooks)
    (webhook,) = found.rows
    assert webhook.id == "7"
    assert SECRET not in repr(found)
    await ask(raw, PatchWebhook(webhook=webhook, active=True, drop_template=True))
    lines = [heard.line.removesuffix(" HTTP/1.1") for heard in raw.heard]
    assert lines == ["POST /v2/webhooks", "PATCH /v2/webhooks/7"]
    assert msgspec.json.decode(raw.heard[0].body)["secret"] == SECRET
    assert msgspec.json.decode(raw.heard[1].body) == {"active": True, "payloadTemplate": None}


# --- what an answer is -------------------------------------------------------------------------------------------


def error(code: str, message: str = "no") -> bytes:
    return body({"status": "error", "path": "/v2/bookings/uid-1", "error": {"code": code, "message": message}})


HTML = b"<!doctype html><title>Bad gateway</title>"

#: Status, body, and what that is.
ANSWERS: list[tuple[int, bytes, object]] = [
    (200, BOOKING, Bookings),
    (404, error("NotFoundException"), NotThere),
    (404, error("NotFoundException", "Cannot GET /bookings/uid-1"), Reason.NOT_CALCOM),
    (404, error("SomethingElse"), Reason.NOT_CALCOM),
    (404, HTML, Reason.NOT_CALCOM),
    (404, b"", Reason.NOT_CALCOM),
    (404, b'{"message":"Not Found"}', Reason.NOT_CALCOM),
    (401, error("UnauthorizedException"), Unauthorised),
    (403, error("ForbiddenException"), Unauthorised),
    (498, error("HttpException"), Unauthorised),
    (401, HTML, Reason.NOT_CALCOM),
    (403, HTML, Reason.NOT_CALCOM),
    (400, error("BadRequestException"), Reason.REJECTED),
    (409, error("ConflictException"), Reason.REJECTED),
    (400, HTML, Reason.NOT_CALCOM),
    (429, HTML, Reason.LIMITED),
    (500, error("InternalServerErrorException"), Reason.SERVER_ERROR),
    (502, HTML, Reason.SERVER_ERROR),
    (524, HTML, Reason.SERVER_ERROR),
    (200, HTML, Reason.NOT_CALCOM),
    (200, b"", Reason.NOT_CALCOM),
    (200, b"null", Reason.WRONG_SHAPE),
    (200, body({"status": "success", "data": api_booking("uid-2")}), Reason.WRONG_SHAPE),
    (200, body({"status": "success", "data": {"uid": "uid-1", "status": "ACCEPTED"}}), Reason.API_VERSION),
    (301, b"", Reason.REDIRECT),
]


@pytest.mark.parametrize(("status", "said", "meant"), ANSWERS)
async def test_each_answer_is_what_its_status_and_body_say_together(
    raw: RawHttp, status: int, said: bytes, meant: object
) -> None:
    raw.says(answer(status, said))
    found = await ask(raw)
    assert (found.reason if isinstance(found, Unknown) else type(found)) == meant


@pytest.mark.parametrize("times", [1, 3])
async def test_an_answer_may_come_in_any_pieces(raw: RawHttp, times: int) -> None:
    """Byte by byte, in chunks, packed, packed in chunks: it is the same, on one connection too."""
    whole = answer(200, BOOKING)
    packed = gzip.compress(BOOKING)
    async with client() as one:
        for parts in (
            [whole[at : at + 1] for at in range(len(whole))],
            [chunked(200, BOOKING)],
            [answer(200, packed, "Content-Encoding: gzip")],
            [chunked(200, packed, "Content-Encoding: GZIP", size=1)],
            [b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", whole],
        ) * times:
            raw.says(*parts)
            found = await one.send(account(raw.port), GET)
            assert isinstance(found, Bookings), parts[:1]
            assert found.rows == (api_booking(),)
    assert raw.connections == 1


async def test_an_answer_that_ends_with_its_connection_is_whole_or_cut(raw: RawHttp) -> None:
    raw.says_and_closes(answer(200, BOOKING, length=-1))
    assert isinstance(await ask(raw), Bookings)
    raw.says_and_closes(answer(200, BOOKING[:-20], length=-1))
    assert await reason(raw) is Reason.CUT


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"HTTP/1.1 200 O",
        answer(200, BOOKING[:-1], length=len(BOOKING)),
        chunked(200, BOOKING)[:-9],
        answer(200, gzip.compress(BOOKING)[:-30], "Content-Encoding: gzip"),
        answer(200, gzip.compress(BOOKING)[:40] + b"x" * 40, "Content-Encoding: gzip"),
        answer(404, error("NotFoundException")[:-1], length=999),
    ],
)
async def test_a_cut_answer_is_none(raw: RawHttp, said: bytes) -> None:
    raw.says_and_closes(said)
    assert await reason(raw) is Reason.CUT


async def test_a_connection_that_is_reset_is_a_cut_answer(raw: RawHttp) -> None:
    for begun in (b"", answer(200, b"{", length=99)):
        raw.says_and_resets(begun)
        assert await reason(raw) is Reason.CUT


@pytest.mark.parametrize(
    "said",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"\x15\x03\x01\x00\x02\x02\x46\r\n\r\n",
        answer(200, BOOKING, "Content-Encoding: br"),
        answer(200, gzip.compress(gzip.compress(BOOKING)), "Content-Encoding: gzip, gzip"),
        answer(200, b"[" * 100_000),
        answer(204),
        answer(206, BOOKING),
    ],
)
async def test_what_cal_com_would_not_say_is_not_believed(raw: RawHttp, said: bytes) -> None:
    raw.says_and_closes(said)
    assert await reason(raw) is Reason.NOT_CALCOM


# --- bounds ------------------------------------------------------------------------------------------------------


async def test_a_body_over_the_bound_ends_early(raw: RawHttp) -> None:
    raw.says_and_closes(answer(200, b" " * 50, length=50 * MEBIBYTE))
    assert await reason(raw) is Reason.TOO_LARGE
    raw.repeats(answer(200, b"", length=-1), b" " * 65_536)
    assert await reason(raw) is Reason.TOO_LARGE
    raw.repeats(answer(200, b"", "Transfer-Encoding: chunked", length=-1), b"10000\r\n" + b" " * 65_536 + b"\r\n")
    assert await reason(raw) is Reason.TOO_LARGE


async def test_a_body_as_large_as_the_bound_is_read(raw: RawHttp) -> None:
    raw.says(answer(200, BOOKING))
    assert isinstance(await ask(raw, max_answer_bytes=len(BOOKING)), Bookings)
    assert await reason(raw, max_answer_bytes=len(BOOKING) - 1) is Reason.TOO_LARGE
    raw.says(answer(200, gzip.compress(BOOKING), "Content-Encoding: gzip"))
    assert isinstance(await ask(raw, max_answer_bytes=len(BOOKING)), Bookings)
    assert await reason(raw, max_answer_bytes=len(BOOKING) - 1) is Reason.TOO_LARGE


async def test_a_bomb_is_unpacked_no_further_than_the_bound(raw: RawHttp) -> None:
    """50 KB that would be 50 MB; and one that goes on for ever."""
    raw.says(answer(200, gzip.compress(b" " * 50 * MEBIBYTE), "Content-Encoding: gzip"))
    assert await reason(raw) is Reason.TOO_LARGE
    packer = zlib.compressobj(9, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    begun = packer.compress(b"{") + packer.flush(zlib.Z_FULL_FLUSH)
    more = packer.compress(b" " * MEBIBYTE) + packer.flush(zlib.Z_FULL_FLUSH)
    raw.repeats(answer(200, begun, "Content-Encoding: gzip", length=-1), more)
    assert await reason(raw) is Reason.TOO_LARGE


async def test_headers_without_end_are_no_answer(raw: RawHttp) -> None:
    raw.repeats(b"HTTP/1.1 200 OK\r\n", b"X-More: and more\r\n")
    assert await reason(raw) is Reason.NOT_CALCOM
    raw.repeats(b"HTTP/1.1 200 OK\r\nX-Long: ", b"x" * 65_536)
    assert await reason(raw) is Reason.NOT_CALCOM


async def test_all_of_a_request_has_one_deadline(raw: RawHttp) -> None:
    """A server that drips would never run into a limit between two bytes."""
    loop = asyncio.get_running_loop()
    for begin, piece in (
        (b"", b""),
        (b"HTTP/1.1 200 OK\r\n", b""),
        (answer(200, b"{", length=1_000_000_000 // 1024), b" "),
        (b"", b"HTTP/1.1 102 Processing\r\n\r\n"),
    ):
        raw.repeats(begin, piece)
        began = loop.time()
        assert await reason(raw, timeout_seconds=SHORT_SECONDS, max_answer_bytes=1_000_000_000) is Reason.TIMEOUT
        assert SHORT_SECONDS * 0.9 <= loop.time() - began < SHORT_SECONDS + 2


async def test_connections_are_bounded_and_given_back(raw: RawHttp) -> None:
    """Of forty that hang twenty have a connection; when they are cancelled, or time out, the next is served."""
    raw.stays_silent()
    async with client() as one:
        tasks = [asyncio.ensure_future(one.send(account(raw.port), GET)) for _ in range(40)]

        async def twenty() -> bool:
            return len(raw.heard) >= 20

        await wait.until(twenty, 5)
        assert raw.open_at_once == 20
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(one) for one in ended} == {asyncio.CancelledError}
        raw.says(answer(200, BOOKING))
        assert isinstance(await one.send(account(raw.port), GET), Bookings)


async def test_who_waits_for_a_connection_waits_within_his_time(raw: RawHttp) -> None:
    raw.stays_silent()
    async with client(timeout_seconds=SHORT_SECONDS) as one:
        found = await asyncio.gather(*[one.send(account(raw.port), GET) for _ in range(40)])
        assert {found.reason for found in found if isinstance(found, Unknown)} == {Reason.TIMEOUT}
        raw.says(answer(200, BOOKING))
        assert isinstance(await one.send(account(raw.port), GET), Bookings)


async def test_a_connection_that_the_server_closed_is_not_used_again(raw: RawHttp) -> None:
    raw.says_and_closes(answer(200, BOOKING))
    async with client() as one:
        for _ in range(3):
            assert isinstance(await one.send(account(raw.port), GET), Bookings)
    assert raw.connections == 3


async def test_closing_has_a_deadline(raw: RawHttp) -> None:
    raw.stays_silent()
    async with client() as one:
        hanging = asyncio.ensure_future(one.send(account(raw.port), GET))

        async def heard() -> bool:
            return bool(raw.heard)

        await wait.until(heard, 5)
        async with asyncio.timeout(3):
            await one.close()
            assert isinstance(await hanging, Unknown)


# --- limits ------------------------------------------------------------------------------------------------------


async def test_a_limit_says_how_long_nobody_may_ask(raw: RawHttp) -> None:
    async def wait_of(*headers: str) -> float | None:
        raw.says(answer(429, b"{}", *headers))
        found = await ask(raw)
        assert isinstance(found, Unknown)
        assert found.reason is Reason.LIMITED
        return found.retry_after_seconds

    spent = ("X-RateLimit-Limit-Default: 120", "X-RateLimit-Remaining-Default: 0", "X-RateLimit-Reset-Default: 23")
    later = (datetime.now(UTC) + timedelta(seconds=100)).strftime("%a, %d %b %Y %H:%M:%S GMT")
    assert await wait_of() == 60
    assert await wait_of(*spent) == 23
    assert await wait_of(*spent, "Retry-After: 7") == 7
    assert 90 < (await wait_of(f"Retry-After: {later}") or 0) <= 100


async def test_an_answer_that_used_up_the_key_is_still_an_answer(raw: RawHttp) -> None:
    raw.says(answer(200, BOOKING, "x-ratelimit-remaining-default: 0", "X-RateLimit-Reset-Default: 12"))
    found = await ask(raw)
    assert isinstance(found, Bookings)
    assert found.headroom is not None
    assert (found.headroom.remaining, found.headroom.reset_seconds) == (0, 12.0)


# --- where the key goes ------------------------------------------------------------------------------------------


async def test_the_key_goes_to_no_other_host(raw: RawHttp) -> None:
    async with raw_http() as other:
        raw.says(answer(307, b"", f"Location: http://{HOST}:{other.port}/v2/bookings/uid-1"))
        found = await ask(raw)
        assert isinstance(found, Unknown)
        assert (found.reason, found.status) == (Reason.REDIRECT, 307)
        assert other.connections == 0


@pytest.mark.parametrize("host", [HOST, "localhost", "127.1", "0x7f000001", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0"])  # noqa: S104
async def test_a_private_address_is_not_even_connected_to(raw: RawHttp, host: str) -> None:
    raw.says(answer(200, BOOKING))
    async with client(private_addresses="refuse") as one:
        found = await one.send(account(raw.port, host=host), GET)
    assert isinstance(found, Unknown)
    assert found.reason is Reason.PRIVATE_ADDRESS
    assert raw.connections == 0


async def test_a_name_may_lead_to_a_private_address_where_that_is_allowed(raw: RawHttp) -> None:
    raw.says(answer(200, BOOKING))
    async with client() as one:
        assert isinstance(await one.send(account(raw.port, host="localhost"), GET), Bookings)
    assert raw.heard[0].headers["host"] == f"localhost:{raw.port}"


async def test_a_name_is_resolved_once_and_asked_where_it_was_looked_at(
    raw: RawHttp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name server that says something else the second time (DNS rebinding) is not asked a second time."""
    asked: list[str] = []

    async def resolve(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        asked.append(host)
        assert len(asked) == 1
        return [(2, 1, 6, "", (HOST, port)), (2, 1, 6, "", ("169.254.169.254", port))]

    raw.says(answer(200, BOOKING))
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
    async with client() as one:
        assert isinstance(await one.send(account(raw.port, host="calcom.example"), GET), Bookings)
    assert asked == ["calcom.example"]
    asked.clear()
    async with client(private_addresses="refuse") as one:
        assert isinstance(await one.send(account(raw.port, host="calcom.example"), GET), Unknown)
    assert (raw.connections, raw.heard[0].headers["host"]) == (1, f"calcom.example:{raw.port}")


@pytest.mark.parametrize(
    "base_url",
    [
        "",
        "api.cal.com",
        "ftp://cal.com",
        "http://",
        "http://cal.com:port",
        "http://u:p@cal.com",
        "http://a..b",
        "http://[x",
    ],
)
async def test_a_base_url_that_is_none_is_no_exception(base_url: str) -> None:
    async with client() as one:
        given = Account(company_id="acme", base_url=base_url, api_key=KEY, budget_id="b")
        found = await one.send(given, GET)
    assert isinstance(found, Unknown)
    assert found.reason is Reason.UNREACHABLE


async def test_nobody_there_is_unreachable(raw: RawHttp, unused_tcp_port: int) -> None:
    async with client() as one:
        for given in (account(unused_tcp_port), account(1, host="no-such-name.invalid")):
            found = await one.send(given, GET)
            assert isinstance(found, Unknown)
            assert found.reason is Reason.UNREACHABLE


async def test_the_environment_sends_nothing_through_a_proxy(raw: RawHttp, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    raw.says(answer(200, BOOKING))
    assert isinstance(await ask(raw), Bookings)


async def test_no_cookie_is_carried_from_one_answer_to_the_next_request(raw: RawHttp) -> None:
    raw.says(answer(200, BOOKING, "Set-Cookie: __cf_bm=abc; path=/"))
    async with client() as one:
        for _ in range(2):
            await one.send(account(raw.port), GET)
    assert not any("cookie" in heard.headers for heard in raw.heard)


async def test_tls_is_checked_by_name_before_the_key_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The address is pinned, the name is still that of the certificate."""
    authority, served = certificates.make(tmp_path, "localhost")
    async with raw_http(tls=served) as raw:
        raw.says(answer(200, BOOKING))
        at_home = account(raw.port, host="localhost", scheme="https")
        async with client() as one:
            found = await one.send(at_home, GET)
            assert isinstance(found, Unknown)
            assert (found.reason, found.detail) == (
                Reason.UNREACHABLE,
                "localhost is not to be reached: its certificate is not trusted.",
            )
        monkeypatch.setenv("SSL_CERT_FILE", str(authority))
        async with client() as one:
            assert isinstance(await one.send(at_home, GET), Bookings)
            by_address = await one.send(account(raw.port, scheme="https"), GET)
            assert isinstance(by_address, Unknown)
        assert len(raw.heard) == 1


# --- through a proxy ---------------------------------------------------------------------------------------------


def proxied(raw: RawHttp, **changed: object) -> dict[str, object]:
    url = f"http://us%40er:{PROXY_PASSWORD}@{HOST}:{raw.port}"
    return {"proxy_url": url, "private_addresses": "refuse", **changed}


async def test_a_proxy_is_told_where_to_go_and_may_itself_be_private(raw: RawHttp) -> None:
    raw.says(answer(200, BOOKING))
    async with client(**proxied(raw)) as one:
        assert isinstance(await one.send(account(80, host="calcom.example"), GET), Bookings)
    (heard,) = raw.heard
    assert heard.line == "GET http://calcom.example/v2/bookings/uid-1 HTTP/1.1"
    assert heard.headers["proxy-authorization"] == "Basic dXNAZXI6cHJveHktcGFzcy0yNzE4MjgxOA=="


async def test_a_proxy_gets_no_key_over_tls_and_keeps_no_place_when_that_fails(raw: RawHttp) -> None:
    """More failures than there are connections: TLS that never comes, then a refusal."""
    raw.says(b"HTTP/1.1 200 Connected\r\n\r\n")
    async with client(**proxied(raw, timeout_seconds=SHORT_SECONDS)) as one:
        given = account(443, host="calcom.example", scheme="https")
        found = await asyncio.gather(*[one.send(given, GET) for _ in range(25)])
        assert {found.reason for found in found if isinstance(found, Unknown)} == {Reason.TIMEOUT}
        raw.says(answer(407, b"no"))
        refused = await one.send(given, GET)
        assert isinstance(refused, Unknown)
        assert (refused.reason, refused.detail) == (
            Reason.UNREACHABLE,
            "calcom.example is not to be reached: the proxy refuses (407).",
        )
    assert {heard.line for heard in raw.heard} == {"CONNECT calcom.example:443 HTTP/1.1"}
    assert not any("authorization" in heard.headers for heard in raw.heard)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "10.0.0.8", "169.254.169.254", "2130706433"])
async def test_a_proxy_is_not_asked_for_what_is_private_by_its_name(raw: RawHttp, host: str) -> None:
    async with client(**proxied(raw)) as one:
        found = await one.send(account(80, host=host), GET)
    assert isinstance(found, Unknown)
    assert found.reason is Reason.PRIVATE_ADDRESS
    assert raw.connections == 0


@pytest.mark.parametrize("url", ["proxy.example", "socks5://u:pass-word@h:1", "http://h:pass-word", "http://"])
async def test_a_proxy_that_is_none_is_named_at_the_start_without_its_password(url: str) -> None:
    with pytest.raises(settings.SettingsError, match="RECONCAL_CALCOM_PROXY_URL") as caught:
        async with client(proxy_url=url):
            pass
    assert "pass-word" not in str(caught.value)


# --- secrets and counts ------------------------------------------------------------------------------------------

MAKE = CreateWebhook(subscriber_url="https://x.example", triggers=(), secret=SECRET)
OURS = Webhook(id="w", subscriber_url="https://x.example", active=True, triggers=())
CALLS: list[Call] = [GET, ListQuery(), ListWebhooks(), MAKE, PatchWebhook(webhook=OURS, secret=SECRET)]
TAIL = KEY.removeprefix("cal_live_")


@pytest.mark.parametrize("call", CALLS, ids=lambda call: type(call).__name__)
async def test_no_secret_is_ever_told(raw: RawHttp, call: Call, caplog: pytest.LogCaptureFixture) -> None:
    """Not even one that the server repeats, in every kind of answer, at the loudest level of every logger."""
    caplog.set_level(logging.DEBUG)
    sent = SECRET if isinstance(call, CreateWebhook | PatchWebhook) else ""
    telling = f"Bearer {KEY}, {TAIL}, {sent}"
    told: list[Answer] = []
    with capture_logs() as lines:
        async with client() as one:
            for status in (200, 201, 307, 400, 401, 403, 404, 407, 409, 429, 500):
                for said in (error("BadRequestException", telling), telling.encode(), b""):
                    raw.says(answer(status, said))
                    told.append(await one.send(account(raw.port), call))
            for broken in (b"", b"junk\r\n\r\n", answer(200, b"{", length=9)):
                raw.says_and_closes(broken)
                told.append(await one.send(account(raw.port), call))
            for key in (f"{KEY}\nX: y", f"{KEY}\u00e4"):
                given = Account(company_id="acme", base_url=f"http://{HOST}:{raw.port}", api_key=key, budget_id="b")
                told.append(await one.send(given, call))
        async with client(**proxied(raw)) as through:
            raw.says_and_closes(answer(407, telling.encode()))
            told.append(await through.send(account(443, host="x.example", scheme="https"), call))
    seen = repr((told, lines, call, account(1), one, [record.getMessage() for record in caplog.records]))
    for secret in (KEY, TAIL, SECRET, PROXY_PASSWORD, "dXNAZXI6"):
        assert secret not in seen


async def test_requests_are_counted_by_call_and_outcome(raw: RawHttp) -> None:
    def count(outcome: str) -> float:
        return float(telemetry.api_requests.labels("get_booking", outcome)._value.get())

    before = {outcome: count(outcome) for outcome in ("found", "not_there", "not_calcom")}
    for status, said in ((200, BOOKING), (404, error("NotFoundException")), (404, HTML)):
        raw.says(answer(status, said))
        await ask(raw)
    assert {outcome: count(outcome) - was for outcome, was in before.items()} == dict.fromkeys(before, 1)


async def test_a_mishap_that_nobody_thought_of_is_an_answer_and_is_logged(raw: RawHttp) -> None:
    """A clock that fails stands for it: a fault in one answer must not end the questions of all companies."""

    class Broken:
        def now(self) -> datetime:
            raise ZeroDivisionError(KEY)

        async def sleep(self, seconds: float) -> None:
            raise NotImplementedError

    raw.says(answer(200, BOOKING))
    with capture_logs() as lines:
        one = HttpClient.open(settings.load({"RECONCAL_CALCOM_PRIVATE_ADDRESSES": "allow"}), Broken())
        found = await one.send(account(raw.port), GET)
        await one.close()
    assert isinstance(found, Unknown)
    assert found.detail == "127.0.0.1 could not be asked (ZeroDivisionError)."
    assert [line["event"] for line in lines] == [telemetry.CALCOM_CLIENT_FAILED]
    assert KEY not in repr(lines)
