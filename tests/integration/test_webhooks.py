"""Signed webhooks, step by step, on a real database and real HTTP; time is handed in."""

import asyncio
import importlib.metadata
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Final

import pytest
from standardwebhooks.webhooks import Webhook
from structlog.testing import capture_logs

from schemas.flags import FlagType, Kind
from services.notifier import inbox
from services.notifier.hooks.endpoints import KEEP, WAITING_MOST
from services.notifier.hooks.upkeep import LEAST_ATTEMPTS, MOST_SECONDS, retry_seconds
from services.plumbing import lifecycle, postgres, telemetry
from services.plumbing.settings import load
from tests.support import certificates, wait
from tests.support.hooking import KEY, Desk, drain, ids, told
from tests.support.notifying import a_flag, of_company, resolving
from tests.support.raw_http import HOST, RawHttp, answer, chunked, raw_http

OK: Final = answer(200, b"ok")
PAGE: Final = b"<!DOCTYPE html>\n<html><body>Welcome to our shop</body></html>"


@pytest.fixture
async def desk(dsn: str) -> AsyncIterator[Desk]:
    pool = await postgres.connect(load({"RECONCAL_POSTGRES_DSN": dsn}), name="test", size=6)
    desk = Desk(dsn, pool)
    yield desk
    desk.stop.set()
    await desk.close()


@pytest.fixture
async def raw() -> AsyncIterator[RawHttp]:
    async with raw_http() as raw:
        raw.says(OK)
        yield raw


# --- what is told ------------------------------------------------------------------------------------------------


async def test_a_flag_is_told_signed_as_the_reference_library_wants_it(desk: Desk, raw: RawHttp) -> None:
    endpoint_id = await desk.endpoint(raw)
    flag = a_flag()
    assert await desk.queue(flag) == 1
    await drain(desk.hooks())
    (heard,) = raw.heard
    assert heard.line == "POST /hook HTTP/1.1"
    body = Webhook(desk.secrets[endpoint_id] or "").verify(heard.body, heard.headers)
    assert (body["type"], body["timestamp"]) == ("sync.orphaned_local", "2026-11-22T09:00:00Z")
    assert (body["data"]["id"], body["data"]["appointment"]["appointment_id"]) == (str(flag.id), "4711")
    assert heard.headers["webhook-id"] == str(flag.id)
    assert heard.headers["content-type"] == "application/json"
    assert heard.headers["user-agent"] == f"reconcal/{importlib.metadata.version('reconcal')}"
    assert heard.headers["host"] == f"{HOST}:{raw.port}"
    assert await desk.states() == ["sent"]
    assert not await desk.hooks().burst()


async def test_a_secret_that_was_brought_along_signs(desk: Desk, raw: RawHttp) -> None:
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    await desk.endpoint(raw, secret=secret)
    await desk.queue(a_flag())
    await drain(desk.hooks())
    assert Webhook(secret).verify(raw.heard[0].body, raw.heard[0].headers)


async def test_flags_come_in_the_order_in_which_they_were_queued(desk: Desk, raw: RawHttp) -> None:
    await desk.endpoint(raw)
    flags = [a_flag(number=n) for n in range(120)]
    await desk.queue(*flags[:70])
    await desk.queue(*flags[70:])
    await drain(desk.hooks())
    assert ids(raw.heard) == [str(flag.id) for flag in flags]


async def test_one_that_is_not_taken_holds_back_those_after_it(desk: Desk, raw: RawHttp) -> None:
    await desk.endpoint(raw)
    await desk.queue(*(a_flag() for _ in range(3)))
    raw.says(answer(500))
    hooks = desk.hooks()
    await drain(hooks)
    assert len(raw.heard) == 1
    raw.says(OK)
    desk.clock.at += timedelta(seconds=6)
    await drain(hooks)
    assert ids(raw.heard)[0] == ids(raw.heard)[1]
    assert await desk.states() == ["sent"] * 3


async def test_a_resolution_is_news_of_the_kind_that_it_ends(desk: Desk, raw: RawHttp) -> None:
    await desk.endpoint(raw, muted_kinds=("WEBHOOK_SILENT",))
    flag, silent = a_flag(), of_company(Kind.WEBHOOK_SILENT)
    assert await desk.queue(flag, silent, resolving(silent), resolving(flag)) == 2
    await drain(desk.hooks())
    assert [told(one)["type"] for one in raw.heard] == ["sync.orphaned_local", "sync.resolved"]
    assert told(raw.heard[1])["data"]["resolves"] == str(flag.id)


async def test_a_flag_is_queued_for_its_companys_endpoints_of_format_standard_alone(desk: Desk, raw: RawHttp) -> None:
    first, second = await desk.endpoint(raw), await desk.endpoint(raw)
    await desk.endpoint(raw, company_id="other")
    await desk.endpoint(raw, format="slack")
    off = await desk.endpoint(raw)
    await desk.pool.execute("UPDATE endpoints SET disabled_at = now() WHERE endpoint_id = $1", off)
    flag = a_flag()
    assert await desk.queue(flag) == 2
    assert await desk.queue(flag) == 0
    rows = await desk.pool.fetch("SELECT endpoint_id FROM endpoint_messages")
    assert {row["endpoint_id"] for row in rows} == {first, second}


# --- what an answer means ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "said",
    [
        answer(200, b"ok", "Content-Type: text/html"),  # Slack's own
        answer(204),
        answer(202, b'{"html": "<html>"}'),
        chunked(200, b"thank you"),
        answer(200, b"much was promised", length=5000),
        b"HTTP/1.1 200 OK\r\n\r\n",
    ],
)
async def test_2xx_is_taken_whatever_becomes_of_the_body(desk: Desk, raw: RawHttp, said: bytes) -> None:
    await desk.endpoint(raw)
    await desk.queue(a_flag())
    raw.says_and_closes(said)
    await drain(desk.hooks())
    assert await desk.states() == ["sent"]
    assert (await desk.row())["failing_since"] is None


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (answer(200, PAGE), "a web page (status 200)"),
        (answer(200, b"\xef\xbb\xbf \r\n<html lang=de>"), "a web page"),
        (chunked(202, PAGE), "a web page"),
        (answer(302, b"", "Location: http://127.0.0.1/elsewhere"), "another address (status 302)"),
        (answer(308, b"", "Location: http://[bad"), "another address"),
        (answer(404, b"no_service"), "no webhook there (status 404, no_service)"),
        (answer(403, b"token xoxb-very-secret"), "refuses us (status 403)"),
        (answer(400, b"invalid_payload"), "status 400, invalid_payload"),
        (answer(500, PAGE), "status 500"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "no HTTP"),
        (b"", "closed the connection"),
        (b"HTTP/1.1 20", "closed the connection"),
    ],
)
async def test_everything_else_is_a_failure_that_is_said_in_words_and_passes(
    desk: Desk, raw: RawHttp, said: bytes, why: str
) -> None:
    await desk.endpoint(raw)
    await desk.queue(a_flag())
    raw.says_and_closes(said)
    hooks = desk.hooks()
    await drain(hooks)
    row = await desk.row()
    assert why in row["last_error"]
    assert "secret" not in row["last_error"]
    assert (row["failing_since"], row["attempts"], row["disabled_at"]) == (desk.clock.at, 1, None)
    assert timedelta(seconds=2) <= row["not_before"] - desk.clock.at <= timedelta(seconds=5)
    raw.says(OK)
    desk.clock.at += timedelta(seconds=6)
    await drain(hooks)
    assert await desk.states() == ["sent"]
    row = await desk.row()
    assert (row["failing_since"], row["attempts"], row["last_error"]) == (None, 0, None)


async def test_a_redirect_is_not_followed(desk: Desk, raw: RawHttp) -> None:
    await desk.endpoint(raw)
    await desk.queue(a_flag())
    async with raw_http() as elsewhere:
        raw.says(answer(307, b"", f"Location: http://{HOST}:{elsewhere.port}/"))
        await drain(desk.hooks())
        assert elsewhere.heard == []
    assert await desk.states() == ["waiting"]


async def test_a_reset_and_a_silent_endpoint_are_failures(desk: Desk, raw: RawHttp) -> None:
    await desk.endpoint(raw)
    await desk.queue(a_flag())
    hooks = desk.hooks(endpoint_timeout_seconds=0.2)
    raw.says_and_resets()
    await drain(hooks)
    assert "closed the connection" in (await desk.row())["last_error"]
    raw.stays_silent()
    desk.clock.at += timedelta(seconds=6)
    await drain(hooks)
    assert "did not answer in 0.2 s" in (await desk.row())["last_error"]


async def test_an_answer_without_end_is_read_no_further_than_the_bound(desk: Desk, raw: RawHttp) -> None:
    await desk.endpoint(raw)
    await desk.queue(a_flag())
    raw.repeats(answer(200, length=-1), b"x" * 4096)
    began = asyncio.get_running_loop().time()
    await drain(desk.hooks(endpoint_timeout_seconds=20))
    assert asyncio.get_running_loop().time() - began < 5
    assert await desk.states() == ["sent"]


async def test_nobody_there_is_a_failure(desk: Desk, unused_tcp_port: int) -> None:
    await desk.endpoint(f"http://{HOST}:{unused_tcp_port}/")
    await desk.endpoint("http://nobody.invalid/")
    await desk.queue(a_flag())
    await drain(desk.hooks())
    rows = await desk.pool.fetch("SELECT last_error FROM endpoints ORDER BY created_at")
    assert [row["last_error"] for row in rows] == ["there is no connection to it", "its name is not known"]


async def test_a_certificate_that_nobody_vouches_for_is_not_trusted(desk: Desk, tmp_path: Path) -> None:
    _, context = certificates.make(tmp_path, "localhost")
    async with raw_http(tls=context) as raw:
        await desk.endpoint(f"https://localhost:{raw.port}/")
        await desk.queue(a_flag())
        await drain(desk.hooks(endpoint_timeout_seconds=5))
        assert (await desk.row())["last_error"] == "its certificate is not trusted"
        assert raw.heard == []


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("120", 120), ("99999999", 3600), ("0", 5), ("-5", 5), ("soon", 5), ("Wed, 21 Oct 2099 07:28:00 GMT", 3600)],
)
async def test_an_endpoint_may_have_us_wait_up_to_an_hour(desk: Desk, raw: RawHttp, value: str, seconds: int) -> None:
    await desk.endpoint(raw)
    await desk.queue(a_flag())
    raw.says(answer(429, b"", f"Retry-After: {value}"))
    await drain(desk.hooks())
    waits = (await desk.row())["not_before"] - desk.clock.at
    assert timedelta(seconds=seconds / 2) <= waits <= timedelta(seconds=seconds)


def test_the_wait_between_attempts_doubles_up_to_an_hour() -> None:
    for attempts, most in [(0, 5.0), (1, 10.0), (4, 80.0), (9, 2560.0), (10, MOST_SECONDS), (5000, MOST_SECONDS)]:
        assert most / 2 <= retry_seconds(attempts) <= most


# --- where it may lead -------------------------------------------------------------------------------------------


async def test_a_private_address_is_refused_unless_it_is_allowed(desk: Desk, raw: RawHttp) -> None:
    await desk.endpoint(raw)
    await desk.endpoint(f"http://localhost:{raw.port}/")
    await desk.queue(a_flag())
    await drain(desk.hooks(endpoint_private_addresses="refuse"))
    assert raw.connections == 0
    rows = await desk.pool.fetch("SELECT last_error FROM endpoints")
    assert {row["last_error"] for row in rows} == {"its name leads to a private address, which is refused"}


async def test_a_name_that_leads_to_a_private_address_is_refused_and_resolved_once(
    desk: Desk, raw: RawHttp, monkeypatch: pytest.MonkeyPatch
) -> None:
    await desk.endpoint(f"http://hooks.example.com:{raw.port}/")
    await desk.queue(a_flag())
    asked: list[str] = []

    async def resolve(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        asked.append(host)
        return [(2, 1, 6, "", ("169.254.169.254", port)), (2, 1, 6, "", (HOST, port))]

    hooks = desk.hooks(endpoint_private_addresses="refuse")
    targets = await hooks._table.lease(desk.clock.at, desk.clock.at, limit=1)
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
    (message,) = await hooks._table.next(targets[0], limit=9)
    assert not await hooks._tell(targets[0], message)
    assert (asked, raw.connections) == (["hooks.example.com"], 0)


async def test_the_environment_sends_nothing_through_a_proxy_and_no_cookie_is_kept(
    desk: Desk, raw: RawHttp, monkeypatch: pytest.MonkeyPatch, unused_tcp_port: int
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://{HOST}:{unused_tcp_port}")
    await desk.endpoint(raw)
    await desk.queue(a_flag(), a_flag())
    raw.says(answer(200, b"ok", "Set-Cookie: a=b; Path=/"))
    await drain(desk.hooks())
    assert ["cookie" in one.headers for one in raw.heard] == [False, False]


# --- switched off ------------------------------------------------------------------------------------------------


async def test_an_endpoint_that_is_gone_is_switched_off_at_once_and_people_are_told(desk: Desk, raw: RawHttp) -> None:
    endpoint_id = await desk.endpoint(raw)
    await desk.queue(a_flag(), a_flag())
    raw.says(answer(410))
    hooks = desk.hooks()
    with capture_logs() as logs:
        await drain(hooks)
    row = await desk.row()
    assert (row["disabled_at"], row["leased_by"]) == (desk.clock.at, None)
    assert "gone for good" in row["disabled_reason"]
    assert await desk.states() == ["given_up", "given_up"]
    assert await desk.alerts() == [("ENDPOINT_OFF", False)]
    (said,) = [one["detail"] for one in logs if one["event"] == telemetry.NOTIFIER_TROUBLE]
    assert f"`reconcal companies endpoints --company praxis enable {endpoint_id}`" in said
    assert await desk.queue(a_flag()) == 0


@pytest.mark.parametrize("act", ["enable", "remove"])
async def test_the_alert_is_over_when_the_endpoint_is_on_again_or_gone(desk: Desk, raw: RawHttp, act: str) -> None:
    endpoint_id = await desk.endpoint(raw)
    await desk.queue(a_flag())
    raw.says(answer(410))
    hooks = desk.hooks()
    await drain(hooks)
    await hooks.tidy()
    assert await desk.alerts() == [("ENDPOINT_OFF", False)]
    await getattr(desk, act)(endpoint_id)
    with capture_logs() as logs:
        await hooks.tidy()
        await hooks.tidy()
    assert await desk.alerts() == [("ENDPOINT_OFF", True)]
    assert [one["event"] for one in logs] == [telemetry.NOTIFIER_TROUBLE_OVER]
    resolution = await desk.pool.fetchval("SELECT resolution->>'type' FROM alerts")
    assert resolution == FlagType.RESOLVED


async def test_admins_find_it_in_their_inbox_and_that_it_is_over_too(desk: Desk, raw: RawHttp) -> None:
    endpoint_id = await desk.endpoint(raw)
    for name, role in (("mia", "admin"), ("tom", "manager"), ("eva", "viewer")):
        await desk.pool.execute(
            "INSERT INTO contacts (company_id, contact_id, name, email, role) "
            "VALUES ('praxis', gen_random_uuid(), $1, $1, $2)",
            *(name, role),
        )
    await desk.queue(a_flag())
    raw.says(answer(410))
    hooks = desk.hooks()
    await drain(hooks)
    assert await desk.inbox() == [("mia", inbox.FAILURE), ("tom", inbox.FAILURE)]
    told = await desk.pool.fetchval("SELECT data FROM notifications LIMIT 1")
    assert f"{HOST}:{raw.port} was switched off" in told
    await desk.enable(endpoint_id)
    for _ in range(2):
        await hooks.tidy()
    assert (await desk.inbox())[2:] == [("mia", inbox.RESOLVED), ("tom", inbox.RESOLVED)]


async def test_an_endpoint_that_goes_off_again_is_a_second_alert(desk: Desk, raw: RawHttp) -> None:
    endpoint_id = await desk.endpoint(raw)
    raw.says(answer(410))
    hooks = desk.hooks()
    for _ in range(2):
        await desk.queue(a_flag())
        await drain(hooks)
        desk.clock.at += timedelta(hours=1)
        await desk.enable(endpoint_id)
        await hooks.tidy()
    assert await desk.alerts() == [("ENDPOINT_OFF", True)] * 2


async def test_an_endpoint_that_fails_for_days_is_switched_off(desk: Desk, raw: RawHttp) -> None:
    await desk.endpoint(raw)
    began = desk.clock.at
    await desk.queue(a_flag(), a_flag())
    raw.says(answer(503))
    hooks = desk.hooks(endpoint_off_after_days=3)
    while (row := await desk.row())["disabled_at"] is None:
        if row["failing_since"] is not None:
            desk.clock.at = row["not_before"]
        assert await hooks.burst()
    assert timedelta(days=3) <= row["disabled_at"] - began + timedelta(seconds=1) <= timedelta(days=3, hours=1)
    assert 72 <= len(raw.heard) <= 170
    assert f"it took nothing since {began:%Y-%m-%d %H:%M} UTC; at last it answers status 503" in row["disabled_reason"]
    assert await desk.states() == ["given_up"] * 2
    assert await desk.alerts() == [("ENDPOINT_OFF", False)]


async def test_two_failures_a_week_apart_do_not_switch_an_endpoint_off(desk: Desk, raw: RawHttp) -> None:
    await desk.endpoint(raw)
    await desk.queue(a_flag())
    raw.says(answer(503))
    hooks = desk.hooks()
    for _ in range(LEAST_ATTEMPTS - 1):
        await drain(hooks)
        desk.clock.at += timedelta(days=7)
    assert (await desk.row())["disabled_at"] is None
    await drain(hooks)
    assert (await desk.row())["disabled_at"] is not None


@pytest.mark.parametrize("key", ["", "no key at all"])
async def test_without_the_key_no_endpoint_is_told_nor_switched_off_and_the_setting_is_named(
    desk: Desk, raw: RawHttp, key: str
) -> None:
    await desk.endpoint(raw)
    await desk.queue(a_flag())
    hooks = desk.hooks(secret_key=key, endpoint_off_after_days=1)
    with capture_logs() as logs:
        for _ in range(30):
            await drain(hooks)
            desk.clock.at += timedelta(hours=2)
    row = await desk.row()
    assert (row["disabled_at"], row["attempts"], raw.connections) == (None, 0, 0)
    (said,) = [one["detail"] for one in logs if one["event"] == telemetry.NOTIFIER_TROUBLE]
    assert "RECONCAL_SECRET_KEY" in said
    raw.says(answer(500))
    mended = desk.hooks(secret_key=f"{KEY}", endpoint_off_after_days=1)
    await drain(mended)
    assert (await desk.row())["failing_since"] == desk.clock.at


# --- trouble is said once ----------------------------------------------------------------------------------------


async def test_a_web_page_is_told_once_an_episode_with_what_to_do(desk: Desk, raw: RawHttp) -> None:
    await desk.endpoint(raw)
    await desk.queue(a_flag())
    hooks = desk.hooks()
    events = {telemetry.NOTIFIER_TROUBLE: "trouble", telemetry.NOTIFIER_TROUBLE_OVER: "over"}
    with capture_logs() as logs:
        for said in (answer(200, PAGE), answer(200, PAGE), OK, answer(200, PAGE)):
            raw.says(said)
            await desk.queue(a_flag())
            await drain(hooks)
            desk.clock.at += timedelta(minutes=1)
    assert [events[one["event"]] for one in logs if one["event"] in events] == ["trouble", "over", "trouble"]
    detail = next(one["detail"] for one in logs if one["event"] == telemetry.NOTIFIER_TROUBLE)
    host = f"{HOST}:{raw.port}"
    assert detail == (
        f"The webhook at {host} takes nothing: it answers with a web page (status 200). "
        "That is no webhook's address: remove it and add the right one."
    )


async def test_what_may_pass_is_trouble_from_the_third_time_on(desk: Desk, raw: RawHttp) -> None:
    await desk.endpoint(raw)
    await desk.queue(a_flag())
    raw.says(answer(502))
    hooks, seen = desk.hooks(), []
    for _ in range(4):
        with capture_logs() as logs:
            await drain(hooks)
        seen.append(any(one["event"] == telemetry.NOTIFIER_TROUBLE for one in logs))
        desk.clock.at += timedelta(hours=1)
    assert seen == [False, False, True, False]


async def test_trouble_is_over_when_no_endpoint_of_the_company_has_any(desk: Desk, raw: RawHttp) -> None:
    async with raw_http() as other:
        other.says(answer(404))
        await desk.endpoint(raw)
        bad = await desk.endpoint(other)
        raw.says(answer(404))
        await desk.queue(a_flag())
        hooks = desk.hooks()
        await drain(hooks)
        raw.says(OK)
        desk.clock.at += timedelta(seconds=6)
        with capture_logs() as logs:
            await drain(hooks)
            await hooks.tidy()
        assert telemetry.NOTIFIER_TROUBLE_OVER not in [one["event"] for one in logs]
        await desk.remove(bad)
        with capture_logs() as logs:
            await hooks.tidy()
        assert [one["event"] for one in logs] == [telemetry.NOTIFIER_TROUBLE_OVER]


async def test_trouble_that_a_process_before_this_one_has_seen_is_over_too(desk: Desk, raw: RawHttp) -> None:
    bad = await desk.endpoint(raw)
    await desk.queue(a_flag())
    raw.says(answer(404))
    await drain(desk.hooks())
    later = desk.hooks()
    await later.tidy()
    assert await desk.pool.fetchval("SELECT count(*) FROM incidents") == 1
    await desk.remove(bad)
    await later.tidy()
    assert await desk.pool.fetchval("SELECT count(*) FROM incidents") == 0


# --- bounds ------------------------------------------------------------------------------------------------------


async def test_of_too_many_that_wait_the_oldest_are_given_up_and_counted(desk: Desk, raw: RawHttp) -> None:
    await desk.endpoint(raw)
    counter = telemetry.endpoint_messages.labels("given_up")
    before = counter._value.get()
    await desk.queue(*(a_flag(number=n) for n in range(WAITING_MOST)))
    assert set(await desk.states()) == {"waiting"}
    await desk.queue(*(a_flag(number=n) for n in range(7)))
    states = await desk.states()
    assert (states[:7], set(states[7:])) == (["given_up"] * 7, {"waiting"})
    assert counter._value.get() - before == 7


async def test_what_was_told_long_ago_is_forgotten_and_what_waits_is_not(desk: Desk, raw: RawHttp) -> None:
    await desk.endpoint(raw)
    await desk.queue(a_flag())
    hooks = desk.hooks()
    await drain(hooks)
    await desk.queue(a_flag())
    await hooks.tidy()
    assert telemetry.endpoint_messages_waiting._value.get() == 1
    desk.clock.at += KEEP
    await hooks.tidy()
    assert await desk.states() == ["sent", "waiting"]
    desk.clock.at += timedelta(seconds=1)
    await hooks.tidy()
    assert await desk.states() == ["waiting"]


async def test_nobody_is_told_of_a_company_that_was_removed(desk: Desk, raw: RawHttp) -> None:
    await desk.endpoint(raw)
    await desk.queue(a_flag())
    await desk.pool.execute("UPDATE companies SET removed_at = now()")
    await drain(desk.hooks())
    assert raw.heard == []


async def test_what_was_queued_while_its_endpoint_was_removed_is_forgotten(desk: Desk, raw: RawHttp) -> None:
    await desk.endpoint(raw)
    await desk.queue(a_flag())
    await desk.pool.execute("DELETE FROM endpoints")
    await desk.hooks().tidy()
    assert await desk.states() == []


# --- several loops -----------------------------------------------------------------------------------------------


async def test_several_loops_share_the_endpoints_without_doubling(desk: Desk, raw: RawHttp) -> None:
    for number in range(6):
        await desk.endpoint(raw, company_id=f"c{number}")
    flags = [a_flag(f"c{number % 6}", number=number) for number in range(120)]
    await desk.queue(*flags)
    await asyncio.gather(*(drain(desk.hooks()) for _ in range(3)))
    assert sorted(ids(raw.heard)) == sorted(str(flag.id) for flag in flags)
    by_company: dict[str, list[str]] = {}
    for one in raw.heard:
        by_company.setdefault(told(one)["data"]["company_id"], []).append(one.headers["webhook-id"])
    for company, heard in by_company.items():
        assert heard == [str(flag.id) for flag in flags if flag.company_id == company]


async def test_an_endpoint_is_told_by_one_loop_at_a_time(desk: Desk, raw: RawHttp) -> None:
    await desk.endpoint(raw)
    await desk.queue(*(a_flag() for _ in range(20)))
    together = asyncio.Event()

    async def play(writer: asyncio.StreamWriter) -> None:
        together.set()
        writer.write(OK)

    raw.play = play
    loops = [asyncio.create_task(drain(desk.hooks())) for _ in range(4)]
    await asyncio.gather(*loops)
    assert raw.open_at_once == 1
    assert len(raw.heard) == 20


async def test_a_crash_between_the_answer_and_our_note_tells_it_again_under_the_same_id(
    desk: Desk, raw: RawHttp
) -> None:
    await desk.endpoint(raw)
    await desk.queue(a_flag(), a_flag())
    doomed = await postgres.connect(desk.settings(), name="doomed", size=1)

    async def play(writer: asyncio.StreamWriter) -> None:
        async with desk.dying("doomed"):
            writer.write(OK)

    raw.play = play
    with pytest.raises(lifecycle.PASSING):
        await desk.hooks(doomed).burst()
    await postgres.close(doomed)
    raw.says(OK)
    await drain(desk.hooks())
    assert len(raw.heard) == 1  # the lease of the one that died
    desk.clock.at += timedelta(minutes=1)
    await drain(desk.hooks())
    first, again, second = raw.heard
    assert first.headers["webhook-id"] == again.headers["webhook-id"] != second.headers["webhook-id"]
    assert first.body == again.body
    assert await desk.states() == ["sent", "sent"]


async def test_an_endpoint_that_is_removed_while_it_is_told_is_told_no_more(desk: Desk, raw: RawHttp) -> None:
    endpoint_id = await desk.endpoint(raw)
    await desk.queue(*(a_flag() for _ in range(3)))

    async def play(writer: asyncio.StreamWriter) -> None:
        await desk.remove(endpoint_id)
        writer.write(answer(500))

    raw.play = play
    await drain(desk.hooks())
    assert len(raw.heard) == 1
    assert await desk.states() == []
    assert await desk.alerts() == []


# --- the loop ----------------------------------------------------------------------------------------------------


async def test_the_loop_outlives_the_database_and_tells_what_it_could_not_note(desk: Desk, raw: RawHttp) -> None:
    await desk.endpoint(raw)
    await desk.queue(a_flag(), a_flag())
    pools: list[postgres.Pool] = []

    async def loop() -> None:
        pools.append(pool := await postgres.connect(desk.settings(), name="looping", size=1))
        try:
            await desk.hooks(pool).run()
        finally:
            await postgres.close(pool, 1)

    async def play(writer: asyncio.StreamWriter) -> None:
        if len(raw.heard) > 1:
            writer.write(OK)
            return
        async with desk.dying("looping"):
            writer.write(OK)
        desk.clock.at += timedelta(minutes=1)  # as long as a lease

    async def all_told() -> bool:
        return await desk.states() == ["sent", "sent"]

    raw.play = play
    running = asyncio.create_task(lifecycle.keep("notifier.webhooks", loop, desk.stop))
    await wait.until(all_told, 20)
    desk.stop.set()
    await asyncio.wait_for(running, 10)
    assert len(pools) == 2
    assert ids(raw.heard)[0] == ids(raw.heard)[1] != ids(raw.heard)[2]


async def test_the_loop_ends_soon_after_a_stop_and_gives_back_what_hangs(desk: Desk, raw: RawHttp) -> None:
    await desk.endpoint(raw)
    await desk.queue(a_flag())
    raw.stays_silent()
    hooks = desk.hooks(endpoint_timeout_seconds=60)
    running = asyncio.create_task(hooks.run())

    async def heard() -> bool:
        return bool(raw.heard)

    await wait.until(heard, 10)
    began = asyncio.get_running_loop().time()
    desk.stop.set()
    await asyncio.wait_for(running, 10)
    assert asyncio.get_running_loop().time() - began < 6
    row = await desk.row()
    assert (row["leased_by"], row["failing_since"]) == (None, None)
    assert await desk.states() == ["waiting"]


async def test_a_slow_endpoint_does_not_hold_up_the_others(desk: Desk, raw: RawHttp) -> None:
    async with raw_http() as slow:
        slow.stays_silent()
        await desk.endpoint(slow, company_id="slow")
        await desk.endpoint(raw)
        await desk.queue(a_flag("slow"))
        running = asyncio.create_task(desk.hooks(endpoint_timeout_seconds=30).run())

        async def stuck() -> bool:
            return bool(slow.heard)

        async def told_others() -> bool:
            return len(raw.heard) == 5

        await wait.until(stuck, 10)
        await desk.queue(*(a_flag() for _ in range(5)))
        await wait.until(told_others, 10)
        desk.stop.set()
        await asyncio.wait_for(running, 10)


# --- secrets -----------------------------------------------------------------------------------------------------


async def test_no_address_and_no_secret_is_ever_logged_or_kept_in_clear(desk: Desk, raw: RawHttp) -> None:
    path = "T000/B000/very-secret-path"
    endpoint_id = await desk.endpoint(f"http://{HOST}:{raw.port}/{path}")
    hooks = desk.hooks()
    with capture_logs() as logs:
        for said in (answer(500, path.encode()), answer(404, path.encode()), b"junk", answer(410), OK):
            raw.says_and_closes(said)
            await desk.queue(a_flag())
            await drain(hooks)
            desk.clock.at += timedelta(hours=1)
    rows = str(await desk.pool.fetch("SELECT * FROM endpoints")) + str(await desk.pool.fetch("SELECT * FROM alerts"))
    assert "very-secret" not in str(logs) + rows
    assert str(desk.secrets[endpoint_id]) not in str(logs) + rows
    assert raw.heard[0].line == f"POST /{path} HTTP/1.1"
