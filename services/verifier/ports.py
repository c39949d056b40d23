"""What the parts of the verifier are to each other: small enough that each is built and tested by itself."""

from datetime import datetime
from typing import Protocol

from msgspec import Struct

from schemas.verification import Priority
from services.verifier.answers import Answer, Webhook


class Account(Struct, frozen=True, kw_only=True):
    """A company at Cal.com. Never shows its key."""

    company_id: str
    base_url: str  # "https://api.cal.com/v2"
    api_key: str
    budget_id: str  # a hash of base_url and key: companies that share a key share its limits

    def __repr__(self) -> str:
        """Hide the key, whoever prints it."""
        return f"Account({self.company_id!r}, {self.base_url!r}, key hidden)"


class ListQuery(Struct, frozen=True, kw_only=True):
    """`GET /v2/bookings`. What is None is not sent. Sort orders are "asc" or "desc"."""

    attendee_email: str | None = None
    after_start: datetime | None = None
    before_end: datetime | None = None
    after_updated_at: datetime | None = None
    sort_start: str | None = None
    sort_updated_at: str | None = None
    take: int = 100
    skip: int = 0
    cursor: str | None = None


class GetBooking(Struct, frozen=True):
    """`GET /v2/bookings/{uid}`."""

    uid: str


class ListWebhooks(Struct, frozen=True):
    """`GET /v2/webhooks`."""


class CreateWebhook(Struct, frozen=True, kw_only=True):
    """`POST /v2/webhooks`, with our secret."""

    subscriber_url: str
    triggers: tuple[str, ...]
    secret: str

    def __repr__(self) -> str:
        """Hide the secret."""
        return f"CreateWebhook({self.subscriber_url!r}, secret hidden)"


class PatchWebhook(Struct, frozen=True, kw_only=True):
    """`PATCH /v2/webhooks/{id}`: what is None stays; `secret` likewise."""

    webhook: Webhook
    triggers: tuple[str, ...] | None = None
    active: bool | None = None
    secret: str | None = None
    drop_template: bool = False

    def __repr__(self) -> str:
        """Hide the secret."""
        return f"PatchWebhook({self.webhook.id!r}, secret hidden)"


Call = GetBooking | ListQuery | ListWebhooks | CreateWebhook | PatchWebhook


class Client(Protocol):
    """One HTTP request: `client.HttpClient`. Raises nothing but CancelledError; no limits, no memory."""

    async def send(self, account: Account, call: Call) -> Answer:
        """Ask, within the time allowed."""
        ...


class NotNow(Struct, frozen=True):
    """Nobody may ask with this key before `until`; `reason`: "bucket", "limited", "breaker", "unauthorised"."""

    until: datetime
    reason: str


class Observed(Struct, frozen=True):
    """An answer and when it was given (that of the reuse is the old one)."""

    answer: Answer
    at: datetime


class Gateway(Protocol):
    """Permission, request and what is learnt of it: `gateway.CalcomGateway`. All that asks Cal.com goes through it.

    Takes a token of the key's bucket (humans may use the reserve), heeds breaker and blocks, tells both what came of
    it, raises and ends the company's incidents, counts. A failure of PostgreSQL goes up as it is.
    """

    async def ask(
        self,
        account: Account,
        call: Call,
        *,
        priority: Priority,
        not_older_than: datetime | None = None,
        wait_seconds: float = 0.0,
    ) -> Observed | NotNow:
        """Ask, or say until when nobody may.

        `not_older_than`: a positive answer to the same call that is not older, nor older than five minutes, will do.
        `wait_seconds`: wait so long for a token at most (never for a breaker or a block).
        """
        ...
