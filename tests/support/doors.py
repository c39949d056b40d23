"""Ingest's doors over ASGI, without a socket: one company, `acme`, and a keeper in memory."""

import base64
import hashlib
import hmac
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Final

import httpx

from schemas.envelope import Delivery
from services.companies.model import Purpose, Secret
from services.companies.register import Register, _Snapshot
from services.ingest.app import create_app
from services.ingest.guard import Limits
from services.plumbing.health import Health
from tests.support.keeper import MemoryKeeper

NOW: Final = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
COMPANY: Final = "acme"
CALCOM: Final = "a secret at cal.com"
OLD: Final = "the secret before it"
TOKEN: Final = "rct_token"
APP: Final = "whsec_" + base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()
PING: Final = b'{"triggerEvent":"PING"}'
PLENTY: Final = Limits(1e6, 1_000_000)


class StillClock:
    """It is always NOW; who waits is noted."""

    def __init__(self) -> None:
        """Nobody has waited yet."""
        self.waited_seconds: list[float] = []

    def now(self) -> datetime:
        """See `clock.Clock`."""
        return NOW

    async def sleep(self, seconds: float) -> None:
        """See `clock.Clock`."""
        self.waited_seconds.append(seconds)


class Doors:
    """The application with one company, and its keeper. Companies are not read before `load`."""

    def __init__(self, *, limits: Limits = PLENTY, max_body_bytes: int = 1_048_576) -> None:
        """Ids of webhooks are delivery-1, delivery-2 ..."""
        self.keeper = MemoryKeeper()
        self.register = Register()
        self.health = Health()
        self.clock = StillClock()
        numbers = count(1)
        self.app = create_app(
            self.register,
            self.keeper,
            self.health,
            clock=self.clock,
            max_body_bytes=max_body_bytes,
            limits=limits,
            ids=lambda: f"delivery-{next(numbers)}",
        )
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://ingest")

    def load(self) -> None:
        """Make the company known, with two secrets at Cal.com, the older one for an hour."""
        secrets: dict[tuple[str, str], tuple[Secret, ...]] = {
            (COMPANY, Purpose.CALCOM_WEBHOOK): (
                Secret(CALCOM.encode(), None),
                Secret(OLD.encode(), NOW + timedelta(hours=1)),
            ),
            (COMPANY, Purpose.APP_WEBHOOK): (Secret(APP.encode(), None),),
            (COMPANY, Purpose.INGEST_TOKEN): (Secret(TOKEN.encode(), None), Secret(b"rct_expired", NOW)),
        }
        self.register._now = _Snapshot(1, {}, {}, secrets, {})

    async def calcom(
        self, body: bytes = PING, *, secret: str = CALCOM, path: str = "/webhooks/calcom/acme", **headers: str
    ) -> httpx.Response:
        """Send a webhook. Underscores in names of headers stand for hyphens."""
        named = {key.replace("_", "-"): value for key, value in headers.items()}
        return await self.client.post(path, content=body, headers=signed(body, secret) | named)

    async def appointments(
        self, body: bytes, *, token: str = TOKEN, path: str = "/events/appointments/acme", **headers: str
    ) -> httpx.Response:
        """Send events of the booking app."""
        named = {key.replace("_", "-"): value for key, value in headers.items()}
        return await self.client.post(path, content=body, headers={"Authorization": f"Bearer {token}"} | named)

    @property
    def kept(self) -> list[Delivery]:
        """Give what was kept."""
        return self.keeper.kept


def signed(body: bytes, secret: str = CALCOM) -> dict[str, str]:
    """Give the header by which Cal.com proves that it sent these bytes."""
    return {"X-Cal-Signature-256": hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}
