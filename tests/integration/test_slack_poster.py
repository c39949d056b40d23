"""Messages to Slack, on a real database and real HTTP; time is handed in."""

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Final
from uuid import uuid4

import pytest
from structlog.testing import capture_logs

from services.notifier import samples
from services.notifier.hooks import slack
from services.notifier.hooks.poster import SlackPoster
from services.notifier.hooks.upkeep import LEAST_ATTEMPTS
from services.notifier.ports import Fate, Undelivered
from services.plumbing import postgres, telemetry
from services.plumbing.settings import load
from tests.support.hooking import Desk
from tests.support.raw_http import HOST, RawHttp, answer, raw_http

#: What Slack answers, to the letter.
OK: Final = answer(200, b"ok", "Content-Type: text/html")
BODY: Final = slack.body(samples.letter("sample"), samples.COMPANY, language="de", console_url="https://c.example")


@pytest.fixture
async def desk(dsn: str) -> AsyncIterator[Desk]:
    pool = await postgres.connect(load({"RECONCAL_POSTGRES_DSN": dsn}), name="test", size=2)
    desk = Desk(dsn, pool)
    yield desk
    await desk.close()


@pytest.fixture
async def raw() -> AsyncIterator[RawHttp]:
    async with raw_http() as raw:
        raw.says(OK)
        yield raw


async def refusal(poster: SlackPoster, endpoint_id: object, company_id: str = "praxis") -> Undelivered:
    with pytest.raises(Undelivered) as caught:
        await poster.post(company_id, str(endpoint_id), BODY)
    assert caught.value.trouble is None
    return caught.value


async def test_a_message_is_posted_as_it_is(desk: Desk, raw: RawHttp) -> None:
    endpoint_id = await desk.endpoint(raw, format="slack")
    assert await desk.poster().post("praxis", str(endpoint_id), BODY) == "200 ok"
    (heard,) = raw.heard
    assert (heard.line, heard.body) == ("POST /hook HTTP/1.1", BODY)
    assert heard.headers["content-type"] == "application/json"
    assert json.loads(heard.body)["text"] == "Test: Cal.com Sync Issue: Appointment #4711"
    assert not [name for name in heard.headers if name.startswith("webhook-")]


async def test_an_endpoint_that_is_off_or_another_companys_is_not_posted_to(desk: Desk, raw: RawHttp) -> None:
    endpoint_id = await desk.endpoint(raw, format="slack")
    poster = desk.poster()
    for there, company_id in [(uuid4(), "praxis"), (endpoint_id, "other")]:
        assert (await refusal(poster, there, company_id)).fate is Fate.REFUSED
    await desk.pool.execute("UPDATE endpoints SET disabled_at = now()")
    assert (await refusal(poster, endpoint_id)).fate is Fate.REFUSED
    assert raw.heard == []


async def test_what_slack_does_not_take_is_for_later_and_says_why(desk: Desk, raw: RawHttp) -> None:
    endpoint_id = await desk.endpoint(raw, format="slack")
    poster = desk.poster()
    raw.says(answer(404, b"no_service"))
    error = await refusal(poster, endpoint_id)
    assert (error.fate, error.in_doubt) == (Fate.LATER, False)
    assert error.reason == "it knows no webhook there (status 404, no_service)"
    assert (await desk.row())["failing_since"] == desk.clock.at
    raw.says(OK)
    await poster.post("praxis", str(endpoint_id), BODY)
    assert (await desk.row())["failing_since"] is None


async def test_only_what_slack_may_have_already_is_in_doubt(desk: Desk, raw: RawHttp, unused_tcp_port: int) -> None:
    endpoint_id = await desk.endpoint(raw, format="slack")
    nobody = await desk.endpoint(f"http://{HOST}:{unused_tcp_port}/", format="slack")
    poster = desk.poster(endpoint_timeout_seconds=0.2)
    assert not (await refusal(poster, nobody)).in_doubt
    raw.says_and_closes(b"")
    assert (await refusal(poster, endpoint_id)).in_doubt
    raw.stays_silent()
    error = await refusal(poster, endpoint_id)
    assert (error.fate, error.in_doubt) == (Fate.LATER, True)


async def test_slack_is_left_alone_as_long_as_it_asks(desk: Desk, raw: RawHttp) -> None:
    endpoint_id = await desk.endpoint(raw, format="slack")
    poster = desk.poster()
    raw.says(answer(429, b"rate_limited", "Retry-After: 30"))
    await refusal(poster, endpoint_id)
    raw.says(OK)
    desk.clock.at += timedelta(seconds=29)
    assert "1 s more" in (await refusal(poster, endpoint_id)).reason
    assert len(raw.heard) == 1
    desk.clock.at += timedelta(seconds=1)
    assert await poster.post("praxis", str(endpoint_id), BODY)


async def test_a_channel_that_is_gone_or_fails_for_days_is_switched_off_and_people_are_told(
    desk: Desk, raw: RawHttp
) -> None:
    gone, failing = await desk.endpoint(raw, format="slack"), await desk.endpoint(raw, format="slack")
    poster = desk.poster()
    raw.says(answer(410, b"channel_is_archived"))
    assert (await refusal(poster, gone)).fate is Fate.REFUSED
    assert "channel_is_archived" in (await desk.row(gone))["disabled_reason"]
    raw.says(answer(503))
    fates = []
    for _ in range(LEAST_ATTEMPTS):
        fates.append((await refusal(poster, failing)).fate)
        desk.clock.at += timedelta(days=1)
    assert fates == [Fate.LATER] * (LEAST_ATTEMPTS - 1) + [Fate.REFUSED]
    assert await desk.alerts() == [("ENDPOINT_OFF", False)] * 2


async def test_without_the_key_nothing_is_posted_and_the_setting_is_named(desk: Desk, raw: RawHttp) -> None:
    endpoint_id = await desk.endpoint(raw, format="slack")
    with capture_logs() as logs:
        error = await refusal(desk.poster(secret_key=""), endpoint_id)
    assert (error.fate, error.in_doubt, raw.heard) == (Fate.LATER, False, [])
    (said,) = [one["detail"] for one in logs if one["event"] == telemetry.NOTIFIER_TROUBLE]
    assert "RECONCAL_SECRET_KEY" in said


async def test_trouble_is_over_when_a_channel_that_was_enabled_takes_something(desk: Desk, raw: RawHttp) -> None:
    endpoint_id = await desk.endpoint(raw, format="slack")
    poster, events = desk.poster(), []
    with capture_logs() as logs:
        for said in (answer(410), OK, answer(410)):
            raw.says(said)
            if said is OK:
                await desk.enable(endpoint_id)
                await poster.post("praxis", str(endpoint_id), BODY)
            else:
                await refusal(poster, endpoint_id)
        events = [one["event"] for one in logs if one["event"] != telemetry.NOTIFIER_WEBHOOK]
    assert events == [telemetry.NOTIFIER_TROUBLE, telemetry.NOTIFIER_TROUBLE_OVER, telemetry.NOTIFIER_TROUBLE]
