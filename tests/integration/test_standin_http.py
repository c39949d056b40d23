"""Cal.com's stand-in on a port: what only a real connection shows, and its webhooks at our own door."""

import asyncio

import httpx
import pytest

from services.embedded.calcom import EventType, pranks
from services.plumbing import health
from tests.support.calcom import KEY, NORA, at, headers, running_calcom
from tests.support.doors import CALCOM, Doors
from tests.support.wait import until

START = at(14)


async def get(url: str, *, seconds: float = 5.0) -> httpx.Response:
    async with httpx.AsyncClient(headers=headers(), timeout=seconds, trust_env=False) as client:
        return await client.get(url)


async def test_a_booking_is_given_over_http() -> None:
    async with running_calcom() as (calcom, base_url):
        row = await calcom.book(calcom.join("ada-host", KEY), START, NORA)
        answer = await get(f"{base_url}/bookings/{row.uid}")
        assert (answer.status_code, answer.json()["data"]["uid"]) == (200, row.uid)


async def test_a_cut_answer_ends_in_the_middle_of_its_body() -> None:
    async with running_calcom() as (calcom, base_url):
        calcom.join("ada-host", KEY)
        calcom.mischief.play(pranks.Cut(), times=1)
        with pytest.raises(httpx.RemoteProtocolError, match="without sending complete"):
            await get(f"{base_url}/bookings")
        assert (await get(f"{base_url}/bookings")).status_code == 200


@pytest.mark.parametrize("midway", [False, True])
async def test_what_hangs_hangs_until_the_other_side_gives_up(midway: bool) -> None:  # noqa: FBT001
    async with running_calcom() as (calcom, base_url):
        calcom.join("ada-host", KEY)
        calcom.mischief.play(pranks.Hang(midway=midway))
        with pytest.raises(httpx.ReadTimeout):
            await get(f"{base_url}/bookings", seconds=0.3)
        assert [one.status for one in calcom.requests.requests] == [200 if midway else None]


@pytest.mark.parametrize("midway", [False, True])
async def test_what_hangs_is_answered_once_the_prank_is_stopped(midway: bool) -> None:  # noqa: FBT001
    loop = asyncio.get_running_loop()
    async with running_calcom() as (calcom, base_url):
        calcom.join("ada-host", KEY)
        playing = calcom.mischief.play(pranks.Hang(midway=midway))
        asking = asyncio.create_task(get(f"{base_url}/bookings"))

        async def asked() -> bool:
            return playing.played > 0

        await until(asked, 5)
        began = loop.time()
    assert (await asking).json()["data"] == []
    assert loop.time() - began < 1


async def test_fifty_megabytes_come_in_pieces() -> None:
    async with running_calcom() as (calcom, base_url):
        calcom.join("ada-host", KEY)
        calcom.mischief.play(pranks.Huge(megabytes=50))
        came = 0
        async with (
            httpx.AsyncClient(headers=headers(), trust_env=False) as client,
            client.stream("GET", f"{base_url}/bookings") as answer,
        ):
            async for piece in answer.aiter_raw():
                came += len(piece)
                if came > 1_000_000:
                    break
        assert answer.status_code == 200


async def test_its_webhooks_are_taken_at_our_door() -> None:
    doors = Doors()
    doors.load()
    listener, stop = health.listen("127.0.0.1", 0), asyncio.Event()
    serving = asyncio.create_task(health.serve(doors.app, listener, stop))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/webhooks/calcom/acme"
    async with running_calcom() as (calcom, _):
        ada = calcom.join("ada-host", KEY)
        calcom.subscribe(ada, url, secret=CALCOM)
        wrong = calcom.subscribe(ada, url, secret="another")
        row = await calcom.book(ada, START, NORA, event_type=EventType(requires_confirmation=True))
        await calcom.confirm(row.uid)
        await calcom.press_test_button(wrong.id)
        statuses = [one.status for one in calcom.hooks.delivered]
    stop.set()
    await serving
    await doors.client.aclose()
    assert sorted(statuses, key=str) == [202, 202, 401, 401, 401]
    assert [b"BOOKING_REQUESTED" in one.body for one in doors.kept] == [True, False]
