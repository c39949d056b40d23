"""What one message tells one recipient: the nouns between grouping, the tables and the templates."""

from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

from msgspec import Struct

from schemas.flags import Flag

#: So many rows of a sort are listed; the rest is counted, and behind a link.
ROWS: Final = 20


class Occasion(StrEnum):
    """Why a letter is written."""

    NEWS = "news"  # something new, or resolved
    REMINDER = "reminder"  # nothing new, and something is still open
    DAILY = "daily"  # a person's digest of the day
    SAMPLE = "sample"  # somebody tries the channel


class Company(Struct, frozen=True, kw_only=True):
    """The tenant, as far as a letter needs it."""

    company_id: str
    name: str
    time_zone: str


class Recipient(Struct, frozen=True, kw_only=True):
    """Who a letter is to: a contact, or an endpoint. `address`: e-mail; of an endpoint its host.

    `preferences_token` stands in the link by which a person changes what they are mailed; None: there is no such link.
    """

    recipient_id: UUID
    name: str
    address: str
    language: str = "en"
    preferences_token: UUID | None = None


class Letter(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One message's content, kept as it was written, so that another attempt says the same.

    Of each sort at most ROWS flags are in it, company's own trouble in `notices` (all of it), records in the others by
    start; the totals count all. `ended` and `notices_over` are `sync.resolved` flags. `open`: told earlier and still
    open, listed in a reminder or a daily digest only. `held_total`: records that are not told one by one, for a
    notice that is open says why. `thread`: Message-IDs of the letters that told what has ended or what is reminded of,
    oldest first, `thread_subject` the latest one's subject. `failing_since`: from when on letters to this recipient
    could not be delivered for so long that one was given up.
    """

    occasion: Occasion
    written_at: datetime
    notices: tuple[Flag, ...] = ()
    notices_over: tuple[Flag, ...] = ()
    news: tuple[Flag, ...] = ()
    news_counts: dict[str, int] = {}  # by kind
    ended: tuple[Flag, ...] = ()
    ended_total: int = 0
    open: tuple[Flag, ...] = ()
    open_total: int = 0
    held_total: int = 0
    thread: tuple[str, ...] = ()
    thread_subject: str | None = None
    failing_since: datetime | None = None

    @property
    def news_total(self) -> int:
        """Count what is new of records."""
        return sum(self.news_counts.values())

    @property
    def only(self) -> Flag | None:
        """Give the one flag that the letter is about, new or resolved, where it is about one alone."""
        told = (*self.notices, *self.notices_over, *self.news, *self.ended)
        alone = len(told) == 1 and self.news_total + self.ended_total <= 1 and self.occasion is Occasion.NEWS
        return told[0] if alone else None
