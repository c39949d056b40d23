"""What Cal.com's API may say: every answer is held against these before it is believed.

Only what Reconcal relies on is named; what else an answer has goes on untouched. Source: API v2, cal-api-version
2024-08-13, its paging also as of 2026-05-01.
"""

from datetime import datetime
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from services.verifier.answers import Reason, Row, Webhook

Uid = Annotated[str, Meta(min_length=1, max_length=200)]
Instant = Annotated[datetime, Meta(tz=True)]
Json = dict[str, Any]
T = TypeVar("T")

_OTHER_VERSION: Final = (
    "The answer has the shape of cal-api-version 2024-04-15, which Cal.com gives where it does not know the version "
    "that was asked for."
)


class Misshapen(Exception):  # noqa: N818 - an answer of another shape, which is no error of ours
    """An answer that is not as documented: `reason`, and a sentence that quotes nothing of it."""

    def __init__(self, reason: Reason, detail: str) -> None:
        """Keep both."""
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class Booking(Struct, frozen=True, rename="camel"):
    """One booking. `status` is a word in lower case, known or not: accepted, pending, cancelled, rejected ..."""

    uid: Uid
    status: Annotated[str, Meta(min_length=1, max_length=50)]
    start: Instant
    end: Instant
    created_at: Instant | None = None
    updated_at: Instant | None = None
    rescheduled_from_uid: str | None = None
    rescheduled_to_uid: str | None = None
    recurring_booking_uid: str | None = None
    attendees: list[Json] | None = None
    metadata: Json | None = None


class Paging(Struct, frozen=True, rename="camel"):
    """`pagination`: of pages that are counted, or that follow a cursor."""

    has_next_page: bool | None = None
    has_more: bool | None = None
    next_cursor: str | int | None = None


class Subscription(Struct, frozen=True, rename="camel"):
    """One webhook. Its id is a UUID, which the documentation calls a number."""

    id: str | int
    subscriber_url: str
    active: bool
    triggers: list[str]
    payload_template: str | None = None


class Success(Struct, frozen=True):
    """What every answer of 200 and 201 is."""

    status: Literal["success"]
    data: Json | list[Json]
    pagination: Paging | UnsetType | None = UNSET


class Fault(Struct, frozen=True):
    """`error` of an answer that is none of 200 and 201."""

    code: Annotated[str, Meta(min_length=1)]
    message: Any = None
    details: Any = None


class Failed(Struct, frozen=True):
    """An answer that is none of 200 and 201, as Cal.com writes it."""

    status: Literal["error"]
    error: Fault
    path: str | None = None


def parse(body: bytes) -> object:
    """Read JSON. Raises Misshapen: "cut", "not_calcom"."""
    try:
        return msgspec.json.decode(body)
    except msgspec.DecodeError as error:
        if body.lstrip()[:1] in (b"{", b"[") and "truncated" in str(error):
            raise Misshapen(Reason.CUT, "The answer ends in the middle.") from None
    except (UnicodeDecodeError, RecursionError):
        pass
    kind = "an HTML page" if body.lstrip()[:1] == b"<" else "no JSON" if body.strip() else "empty"
    raise Misshapen(Reason.NOT_CALCOM, f"The answer is {kind}.") from None


def success(value: object) -> Success:
    """Read an answer of 200 or 201. Raises Misshapen."""
    if isinstance(value, dict) and isinstance(value.get("data"), dict) and "bookings" in value["data"]:
        raise Misshapen(Reason.API_VERSION, _OTHER_VERSION)
    return _convert(value, Success, "$")


def failed(value: object) -> Failed | None:
    """Read what Cal.com says of a failure; None: it is not Cal.com that says it."""
    try:
        return msgspec.convert(value, Failed)
    except msgspec.ValidationError:
        return None


def bookings(data: Json | list[Json]) -> tuple[tuple[Row, ...], tuple[Booking, ...]]:
    """Give the rows as they are and what they say. Raises Misshapen."""
    rows = tuple(data) if isinstance(data, list) else (data,)
    if any("startTime" in row or _is_upper(row.get("status")) for row in rows):
        raise Misshapen(Reason.API_VERSION, _OTHER_VERSION)
    return rows, tuple(_convert(row, Booking, f"$.data[{index}]") for index, row in enumerate(rows))


def webhooks(data: Json | list[Json]) -> tuple[Webhook, ...]:
    """Give the webhooks; their secrets are left where they are. Raises Misshapen."""
    rows = data if isinstance(data, list) else [data]
    read = (_convert(row, Subscription, f"$.data[{index}]") for index, row in enumerate(rows))
    return tuple(
        Webhook(
            id=str(one.id),
            subscriber_url=one.subscriber_url,
            active=one.active,
            triggers=tuple(one.triggers),
            has_template=bool(one.payload_template),
        )
        for one in read
    )


def _convert(value: object, shape: type[T], path: str) -> T:
    try:
        return msgspec.convert(value, shape)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at `$")
        raise Misshapen(Reason.WRONG_SHAPE, f"{what} at {path}{where.rstrip('`')}.") from None


def _is_upper(word: object) -> bool:
    return isinstance(word, str) and word.isupper()
