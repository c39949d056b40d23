"""What Cal.com's API answered, believed or not: one type a kind of answer. Pure data."""

from enum import StrEnum
from typing import Any

from msgspec import Struct

Row = dict[str, Any]  # one booking as the API gives it, byte for byte what it says


class Reason(StrEnum):
    """Why an answer says nothing; words to count by."""

    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"  # no connection, no name, TLS
    CUT = "cut"  # the connection ended within the answer
    SERVER_ERROR = "server_error"  # 5xx
    LIMITED = "limited"  # 429
    NOT_CALCOM = "not_calcom"  # HTML or anything else that Cal.com's API does not write; a 404 of another shape
    WRONG_SHAPE = "wrong_shape"  # JSON, and not as documented
    API_VERSION = "api_version"  # the shape of cal-api-version 2024-04-15
    TOO_LARGE = "too_large"
    REDIRECT = "redirect"  # never followed: the key goes to no other host
    PRIVATE_ADDRESS = "private_address"  # the base URL points into a private network, and the configuration says no
    REJECTED = "rejected"  # 400, 409, 422 ...: the request is at fault
    EMPTY_LIST = "empty_list"  # a search that found nothing, and nothing proves that the search works
    FILTER_IGNORED = "filter_ignored"
    NOTHING_TO_SEARCH_BY = "nothing_to_search_by"
    LOOP = "loop"  # a chain of reschedules that leads back to itself, or too far
    BROKEN_CHAIN = "broken_chain"  # it was moved to a booking that is not there (the API reads a replica)
    SEAT_NOT_LISTED = "seat_not_listed"  # the booking is there, and the seat is not among those shown
    NO_OCCURRENCE = "no_occurrence"  # the uid is that of a series, and which of its bookings is meant is unclear
    TOO_MANY = "too_many"  # a search with more pages than are read
    NOT_RECOGNISABLE = "not_recognisable"  # bookings at that start, and nothing says whose they are


class Headroom(Struct, frozen=True):
    """X-RateLimit-*: what is left with this key, and in how many seconds it is full again."""

    remaining: int
    reset_seconds: float


class Bookings(Struct, frozen=True, kw_only=True):
    """200: one booking or several; each row has been validated (`uid`, `status`, `start`, `end`).

    `has_more`: another page follows; `cursor` asks for it where the API pages by cursor, else `skip` does.
    """

    rows: tuple[Row, ...]
    has_more: bool = False
    cursor: str | None = None
    headroom: Headroom | None = None


class NotThere(Struct, frozen=True, kw_only=True):
    """404 in the documented JSON shape: the only answer that means that there is none."""

    headroom: Headroom | None = None


class Unauthorised(Struct, frozen=True, kw_only=True):
    """401, 403 or 498 of Cal.com. `detail` is a sentence without secrets."""

    status: int
    detail: str


class Unknown(Struct, frozen=True, kw_only=True):
    """Nothing that can be believed. `detail` is a sentence without secrets for whoever has to mend it.

    `retry_after_seconds`: nobody may ask with this key before (429, Retry-After, an exhausted X-RateLimit).
    """

    reason: Reason
    detail: str
    status: int | None = None
    retry_after_seconds: float | None = None


class Webhook(Struct, frozen=True, kw_only=True):
    """A webhook as Cal.com has it registered; its secret is never read."""

    id: str
    subscriber_url: str
    active: bool
    triggers: tuple[str, ...]
    has_template: bool = False


class Webhooks(Struct, frozen=True, kw_only=True):
    """200 or 201 of /v2/webhooks."""

    rows: tuple[Webhook, ...]
    headroom: Headroom | None = None


Failure = Unauthorised | Unknown
Answer = Bookings | NotThere | Webhooks | Failure
