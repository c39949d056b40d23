"""Those who knock at ingest's doors: many at once, each with what it was promised."""

import asyncio
import hmac
from collections.abc import Iterator
from itertools import count

import httpx
from msgspec import Struct

from services.companies.admin import Added
from tests.support.load import Case

SENDERS = 8


class Promise(Struct):
    """What was answered 202."""

    appointments: set[int]
    bookings: set[int]
    refused: int = 0

    @property
    def count(self) -> int:
        """Give how much was promised."""
        return len(self.appointments) + len(self.bookings)


def signed(secret: str, body: bytes) -> dict[str, str]:
    """Give the headers of Cal.com's webhook."""
    return {
        "x-cal-signature-256": hmac.digest(secret.encode(), body, "sha256").hex(),
        "content-type": "application/json",
    }


class Senders:
    """Send both sides of case after case, as fast as is answered. What is refused, or not answered, is not repeated."""

    def __init__(self, company: Added) -> None:
        """Numbers go on from address to address."""
        self._company = company
        self._numbers: Iterator[int] = count(1)
        self.promised = Promise(set(), set())

    async def send_until(self, base_url: str, stop: asyncio.Event) -> None:
        """Send from many at once until `stop`, or until nobody answers any more."""
        limits = httpx.Limits(max_connections=SENDERS)
        async with httpx.AsyncClient(base_url=base_url, timeout=10, limits=limits) as client:
            await asyncio.gather(*(self._send(client, stop) for _ in range(SENDERS)))

    async def appointment(self, client: httpx.AsyncClient, case: Case) -> httpx.Response:
        """Send the app's event."""
        headers = {"authorization": f"Bearer {self._company.ingest_token}", "content-type": "application/json"}
        path = f"/events/appointments/{case.company_id}"
        answer = await client.post(path, content=case.appointment(), headers=headers)
        self._note(answer, self.promised.appointments, case.number)
        return answer

    async def booking(self, client: httpx.AsyncClient, case: Case) -> httpx.Response:
        """Send the webhook."""
        body = case.booking()
        headers = signed(self._company.calcom_webhook, body)
        answer = await client.post(f"/webhooks/calcom/{case.company_id}", content=body, headers=headers)
        self._note(answer, self.promised.bookings, case.number)
        return answer

    async def _send(self, client: httpx.AsyncClient, stop: asyncio.Event) -> None:
        while not stop.is_set():
            case = Case(self._company.company.company_id, next(self._numbers))
            try:
                await self.appointment(client, case)
                await self.booking(client, case)
            except httpx.HTTPError:
                return

    def _note(self, answer: httpx.Response, promised: set[int], number: int) -> None:
        if answer.status_code == httpx.codes.ACCEPTED:
            promised.add(number)
        else:
            self.promised.refused += 1
