"""Tells a morning through the front door: real HTTP, real signatures, in the order that was planned."""

import asyncio
import base64
import hashlib
import hmac
from collections.abc import Callable, Iterable
from typing import Final

import httpx
from msgspec import Struct

from services.embedded.morning import Case, Told
from services.embedded.state import NotReady
from services.plumbing.clock import Clock

#: So many messages may be on their way at once; those of one case follow each other.
_AT_ONCE: Final = 12
_TRIES: Final = 5


class Door(Struct, frozen=True):
    """Where a company's messages go in, and what proves that they are its own."""

    ingest_url: str
    company_id: str
    webhook_secret: str
    app_secret: str


class PlayError(NotReady):
    """The front door did not take a message."""


async def tell(cases: Iterable[Case], door: Door, clock: Clock, *, told: Callable[[], None]) -> None:
    """Send every message at its time; `told` is called after each. Raises PlayError if one is not accepted."""
    loop = asyncio.get_running_loop()
    began, gate = loop.time(), asyncio.Semaphore(_AT_ONCE)
    async with httpx.AsyncClient(base_url=door.ingest_url, timeout=10) as client, asyncio.TaskGroup() as group:

        async def one(case: Case) -> None:
            for message in case.told:
                await clock.sleep(max(0.0, began + message.after_seconds - loop.time()))
                async with gate:
                    await send(client, door, message, clock)
                told()

        for case in cases:
            group.create_task(one(case))


async def send(client: httpx.AsyncClient, door: Door, message: Told, clock: Clock) -> None:
    """Send one message; a 503 means: again, in a moment. Raises PlayError if it is not accepted."""
    path = "/webhooks/calcom/" if message.door == "calcom" else "/events/appointments/"
    answer = await client.post(path + door.company_id, content=message.body, headers=_headers(door, message, clock))
    for _ in range(_TRIES):
        if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
            break
        await clock.sleep(1)
        answer = await client.post(path + door.company_id, content=message.body, headers=_headers(door, message, clock))
    if answer.status_code == httpx.codes.ACCEPTED:
        return
    raise PlayError(f"{path}{door.company_id} answered {answer.status_code}: {answer.text[:200]}")


def _headers(door: Door, message: Told, clock: Clock) -> dict[str, str]:
    kind = {"content-type": "application/json"}
    if message.door == "calcom":
        return kind | {"x-cal-signature-256": sign_webhook(door.webhook_secret, message.body)}
    return kind | sign_standard(door.app_secret, message.body, int(clock.now().timestamp()))


def sign_webhook(secret: str, body: bytes) -> str:
    """Sign as Cal.com does: HMAC-SHA256 over the raw bytes, hex, without a prefix."""
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def sign_standard(secret: str, body: bytes, at: int) -> dict[str, str]:
    """Give the headers of the Standard Webhooks scheme; `secret` is `whsec_` and base64, `at` is in Unix seconds."""
    name = f"msg_{hashlib.sha256(body).hexdigest()[:24]}"
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signature = hmac.new(key, f"{name}.{at}.".encode() + body, hashlib.sha256).digest()
    return {
        "webhook-id": name,
        "webhook-timestamp": str(at),
        "webhook-signature": f"v1,{base64.b64encode(signature).decode()}",
    }


async def await_open(door: Door, clock: Clock, *, seconds: float = 10.0) -> None:
    """Wait until a company's doors know it: ingest sees a new one within its refresh. Raises PlayError."""
    message = Told(
        "calcom", b'{"triggerEvent":"PING","createdAt":"2026-01-01T00:00:00.000Z","payload":{"type":"Test"}}', 0
    )
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    async with httpx.AsyncClient(base_url=door.ingest_url, timeout=10) as client:
        while True:
            answer = await client.post(
                f"/webhooks/calcom/{door.company_id}", content=message.body, headers=_headers(door, message, clock)
            )
            if answer.is_success:
                return
            if loop.time() > until:
                raise PlayError(f"the front door of {door.company_id} answers {answer.status_code}")
            await clock.sleep(0.1)
