"""How Cal.com posts a webhook: once, signed over its bytes; whatever comes of it, the event is gone."""

import asyncio
import hmac
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime
from typing import Final

import httpx
import msgspec
from msgspec import Struct
from msgspec.structs import replace

from services.embedded.calcom.model import Booking, Json, Webhook
from services.embedded.calcom.store import Store

VERSION: Final = "2021-10-20"
POST_SECONDS: Final = 10.0
KEPT_DELIVERIES: Final = 20_000
_GONE: Final = 410

#: Posts a body to an address with these headers; gives the status. Raises OSError or httpx.HTTPError.
Post = Callable[[str, bytes, dict[str, str]], Awaitable[int]]


class Delivered(Struct, frozen=True, kw_only=True):
    """One attempt, the only one. `status` is None where no answer came."""

    at: datetime
    trigger: str
    uid: str | None
    webhook_id: str
    url: str
    body: bytes
    status: int | None


class HttpPost:
    """Posts over HTTP; redirects are not followed, proxies of the environment not asked."""

    def __init__(self) -> None:
        """Open nothing yet."""
        self._client: httpx.AsyncClient | None = None

    async def __call__(self, url: str, body: bytes, headers: dict[str, str]) -> int:
        """See `Post`."""
        if self._client is None:
            self._client = httpx.AsyncClient(timeout=POST_SECONDS, follow_redirects=False, trust_env=False)
        answer = await self._client.post(url, content=body, headers=headers)
        return answer.status_code

    async def aclose(self) -> None:
        """Hang up."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()


class Hooks:
    """Tells the subscribers. What was sent is kept, the newest 20,000."""

    def __init__(self, store: Store, clock: Callable[[], datetime], post: Post) -> None:
        """`clock` gives aware times, UTC."""
        self.delivered: deque[Delivered] = deque(maxlen=KEPT_DELIVERIES)
        self._store, self._clock, self._post = store, clock, post

    async def tell(self, row: Booking, body: Json) -> None:
        """Post a body to everybody who subscribed to its trigger, at once; returns when each has answered or failed."""
        subscribers = self._store.subscribers(row.user_id, body["triggerEvent"])
        await self.post_to(subscribers, body, row.uid)

    async def post_to(self, subscribers: Iterable[Webhook], body: Json, uid: str | None = None) -> None:
        """Post a body to these, whatever they subscribed to."""
        content = msgspec.json.encode(body)
        await asyncio.gather(*(self._deliver(one, body["triggerEvent"], uid, content) for one in subscribers))

    async def _deliver(self, webhook: Webhook, trigger: str, uid: str | None, body: bytes) -> None:
        at = self._clock()
        status: int | None
        try:
            status = await asyncio.wait_for(
                self._post(webhook.subscriber_url, body, headers(webhook, body)), POST_SECONDS
            )
        except (httpx.HTTPError, OSError, TimeoutError):
            status = None
        self.delivered.append(
            Delivered(
                at=at, trigger=trigger, uid=uid, webhook_id=webhook.id, url=webhook.subscriber_url, body=body,
                status=status,
            )
        )  # fmt: skip
        if status == _GONE and webhook.id in self._store.webhooks:
            now = self._store.webhooks[webhook.id]
            self._store.webhooks[webhook.id] = replace(now, active=False)


def headers(webhook: Webhook, body: bytes) -> dict[str, str]:
    """Give the headers of a delivery."""
    signature = "no-secret-provided"
    if webhook.secret:
        signature = hmac.digest(webhook.secret.encode(), body, "sha256").hex()
    return {
        "Content-Type": "application/json",
        "X-Cal-Signature-256": signature,
        "X-Cal-Webhook-Version": VERSION,
        "User-Agent": "node",
    }
