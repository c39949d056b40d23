"""A company as the services see it."""

from datetime import datetime, time
from enum import StrEnum
from typing import Final
from uuid import UUID

from msgspec import Struct

from schemas.rules import COMPARED, Waiting

#: As many secrets of a purpose may be active at once: the doors check that many for whoever knocks.
MOST_ACTIVE: Final = 3


class Purpose(StrEnum):
    """What a company's secret is for."""

    CALCOM_WEBHOOK = "calcom_webhook"
    APP_WEBHOOK = "app_webhook"
    INGEST_TOKEN = "ingest_token"  # noqa: S105 - a purpose, no secret
    CALCOM_API_KEY = "calcom_api_key"


class Role(StrEnum):
    """What a contact is to the company; admins and managers are told of flags."""

    ADMIN = "admin"
    MANAGER = "manager"
    VIEWER = "viewer"


class Language(StrEnum):
    """The languages that mails are written in."""

    DE = "de"
    EN = "en"


class Delivery(StrEnum):
    """When a contact is mailed."""

    IMMEDIATE = "immediate"  # as the company groups it
    DAILY = "daily"  # one digest a day
    NONE = "none"  # not at all; the inbox has everything


class Format(StrEnum):
    """What an endpoint understands."""

    STANDARD = "standard"  # Standard Webhooks: signed, one message a flag
    SLACK = "slack"  # an incoming webhook of Slack's: grouped as mails are


class Company(Struct, frozen=True, kw_only=True):
    """One tenant and its rules; the fields are the columns of `companies`, in this order."""

    company_id: str
    name: str
    time_zone: str = "Europe/Berlin"
    country: str = "DE"  # where phone numbers without a country are at home: ISO 3166, two letters
    window_seconds: float = 300.0
    settling_window_seconds: float | None = None  # how long two known sides may differ; None: the window
    unconfirmed_window_seconds: float = 86_400.0
    unconfirmed_policy: Waiting = Waiting.FLAG
    unpaid_window_seconds: float = 86_400.0
    unpaid_policy: Waiting = Waiting.IGNORE
    compared_fields: tuple[str, ...] = COMPARED
    match_by_attendee: bool = True
    calcom_base_url: str = "https://api.cal.com/v2"
    verification_wait_seconds: float = 14_400.0  # how long a record may wait for Cal.com's API before it is flagged
    group_wait_seconds: float = 30.0  # what is collected before a first mail
    group_interval_seconds: float = 300.0  # at most one mail to a person in this time
    reminder_seconds: float = 14_400.0  # of what is still open; each further one waits twice as long, a day at most
    urgent_within_seconds: float = 7_200.0  # an appointment that begins so soon does not wait for the group
    orphans_per_day_max: int = 5  # more are a threshold crossed, and the next three likewise
    failed_checks_per_hour_max: int = 10
    waiting_for_review_max: int = 20
    sync_success_min_percent: float = 95.0
    history_began_at: datetime | None = None  # a company that loads its past: whatever is older is indeterminate ...
    app_loaded_at: datetime | None = None  # ... until both sides were loaded
    calcom_loaded_at: datetime | None = None


class Contact(Struct, frozen=True, kw_only=True):
    """A person of a company. `suppressed_at`: since when mail to them is refused for good; None: it is not.

    `daily_at`: on the company's clock, for a daily digest. `muted_kinds`: kinds of flags that they get no mail about.
    """

    contact_id: UUID
    name: str
    email: str
    role: Role
    language: Language
    suppressed_at: datetime | None
    suppressed_reason: str | None = None
    delivery: Delivery = Delivery.IMMEDIATE
    daily_at: time = time(8)
    muted_kinds: tuple[str, ...] = ()


class Secret(Struct, frozen=True):
    """A secret in clear, UTF-8. Never counts once `expires_at` has come; never shows itself."""

    value: bytes
    expires_at: datetime | None

    def __repr__(self) -> str:
        """Hide the value, whoever prints it."""
        return f"Secret(hidden, expires_at={self.expires_at})"

    def active(self, now: datetime) -> bool:
        """Tell whether it still counts."""
        return self.expires_at is None or now < self.expires_at
