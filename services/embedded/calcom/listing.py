"""`GET /v2/bookings`: its query, the rows that it means, and a page of them. Pure.

Dates include their ends and e-mails are compared as they are spelt, as Cal.com's own queries do.
"""

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec
from msgspec import Struct

from services.embedded.calcom.model import Booking, Json
from services.embedded.calcom.shapes import invalid, pagination

MOST_TAKEN: Final = 250
_STATUSES: Final = ("upcoming", "recurring", "past", "cancelled", "unconfirmed")
_DATES: Final = (
    "afterStart", "beforeEnd", "afterCreatedAt", "beforeCreatedAt", "afterUpdatedAt", "beforeUpdatedAt",
)  # fmt: skip
_NEVER: Final = datetime.min.replace(tzinfo=UTC)
_SORTS: Final[dict[str, Callable[[Booking], datetime]]] = {
    "sortStart": lambda row: row.start,
    "sortEnd": lambda row: row.end,
    "sortCreated": lambda row: row.created_at,
    "sortUpdatedAt": lambda row: row.updated_at or _NEVER,
}


class Invalid(Exception):  # noqa: N818 - its fate is its name
    """The query is at fault: 400."""

    def __init__(self, errors: Sequence[Json]) -> None:
        """`errors`: in the shape of `details.errors`."""
        super().__init__(f"{[error['property'] for error in errors]}")
        self.errors = errors


class Query(Struct, frozen=True, kw_only=True):
    """What was asked for. `cursor`: the uid behind which the page begins."""

    statuses: tuple[str, ...] = ()
    texts: dict[str, str] = msgspec.field(default_factory=dict)
    event_type_ids: frozenset[int] | None = None
    dates: dict[str, datetime] = msgspec.field(default_factory=dict)
    sorts: tuple[tuple[str, bool], ...] = ()  # name, descending
    take: int = 100
    skip: int = 0
    cursor: str | None = None


def read(asked: Mapping[str, str], *, by_cursor: bool) -> Query:
    """Read a query; what is not known is passed over, as Cal.com does. Raises Invalid."""
    errors: list[Json] = []
    query = Query(
        statuses=_statuses(asked, errors, by_cursor=by_cursor),
        texts={key: asked[key].strip() for key in ("attendeeEmail", "attendeeName", "bookingUid") if key in asked},
        event_type_ids=_event_types(asked, errors),
        dates={key: at for key in _DATES if key in asked and (at := _date(key, asked[key], errors))},
        sorts=tuple((key, asked[key] == "desc") for key in _SORTS if key in asked and _order(key, asked, errors)),
        take=_number("take", asked, errors, default=100, least=1, most=MOST_TAKEN),
        skip=_number("skip", asked, errors, default=0, least=0),
        cursor=_cursor(asked, errors) if by_cursor else None,
    )
    if errors:
        raise Invalid(errors)
    return query


def _statuses(asked: Mapping[str, str], errors: list[Json], *, by_cursor: bool) -> tuple[str, ...]:
    given = [one.strip() for one in asked["status"].split(",")] if "status" in asked else []
    if any(one not in _STATUSES for one in given):
        told = f"Invalid status. Allowed are {', '.join(_STATUSES)}"
        errors.append(invalid("status", given, {"isEnum": told}))
    elif by_cursor and len(given) > 1:
        errors.append(invalid("status", given, {"arrayMaxSize": "Only one status can be asked for at a time"}))
    return tuple(given)


def _event_types(asked: Mapping[str, str], errors: list[Json]) -> frozenset[int] | None:
    key = next((key for key in ("eventTypeIds", "eventTypeId") if key in asked), None)
    if key is None:
        return None
    given = asked[key].split(",")
    if not all(one.strip().isdecimal() for one in given):
        errors.append(invalid(key, asked[key], {"isNumber": f"{key} must be numbers"}))
        return None
    return frozenset(int(one) for one in given)


def _date(key: str, value: str, errors: list[Json]) -> datetime | None:
    try:
        at = datetime.fromisoformat(value)
    except ValueError:
        errors.append(invalid(key, value, {"isISO8601": f"{key} must be a valid ISO 8601 date string"}))
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _order(key: str, asked: Mapping[str, str], errors: list[Json]) -> bool:
    if asked[key] in ("asc", "desc"):
        return True
    told = f'{key} must be either "asc" or "desc".'
    errors.append(invalid(key, asked[key], {"isEnum": told}))
    return False


def _number(
    key: str, asked: Mapping[str, str], errors: list[Json], *, default: int, least: int, most: int | None = None
) -> int:
    given = asked.get(key, f"{default}")
    if not given.removeprefix("-").isdecimal():
        errors.append(invalid(key, given, {"isNumber": f"{key} must be a number"}))
        return default
    wanted = int(given)
    if wanted < least:
        errors.append(invalid(key, wanted, {"min": f"{key} must not be less than {least}"}))
    if most is not None and wanted > most:
        errors.append(invalid(key, wanted, {"max": f"{key} must not be greater than {most}"}))
    return wanted


def _cursor(asked: Mapping[str, str], errors: list[Json]) -> str | None:
    given = asked.get("cursor")
    if given is None:
        return None
    try:
        return base64.urlsafe_b64decode(given.encode()).decode()
    except (binascii.Error, UnicodeError):
        errors.append(invalid("cursor", given, {"isString": "cursor is not valid"}))
        return None


def meant(rows: Sequence[Booking], query: Query, now: datetime) -> list[Booking]:
    """Give the rows that a query means, unsorted."""
    return [row for row in rows if _is_meant(row, query, now)]


def _is_meant(row: Booking, query: Query, now: datetime) -> bool:
    return (
        (not query.statuses or any(_IS[one](row, now) for one in query.statuses))
        and (query.event_type_ids is None or row.event_type.id in query.event_type_ids)
        and all(_HAS[key](row, text) for key, text in query.texts.items())
        and all(_LIES[key](row, at) for key, at in query.dates.items())
    )


_IS: Final[dict[str, Callable[[Booking, datetime], bool]]] = {
    "upcoming": lambda row, now: row.end >= now and (row.status == "ACCEPTED" if row.series_uid else row.alive),
    "recurring": lambda row, _: row.series_uid is not None and row.status != "CANCELLED",
    "past": lambda row, now: row.end <= now and row.alive,
    "cancelled": lambda row, _: not row.alive,
    "unconfirmed": lambda row, now: row.status == "PENDING" and row.end >= now,
}
_HAS: Final[dict[str, Callable[[Booking, str], bool]]] = {
    "attendeeEmail": lambda row, email: any(one.email == email for one in row.attendees),
    "attendeeName": lambda row, name: any(one.name == name for one in row.attendees),
    "bookingUid": lambda row, uid: row.uid == uid,
}
_LIES: Final[dict[str, Callable[[Booking, datetime], bool]]] = {
    "afterStart": lambda row, at: row.start >= at,
    "beforeEnd": lambda row, at: row.end <= at,
    "afterCreatedAt": lambda row, at: row.created_at >= at,
    "beforeCreatedAt": lambda row, at: row.created_at <= at,
    "afterUpdatedAt": lambda row, at: row.updated_at is not None and row.updated_at >= at,
    "beforeUpdatedAt": lambda row, at: row.updated_at is not None and row.updated_at <= at,
}


def page(rows: Sequence[Booking], query: Query, *, by_cursor: bool) -> tuple[list[Booking], Json]:
    """Give the rows of a page, in order, and what `pagination` says."""
    if by_cursor:
        return _page_by_cursor(sorted(rows, key=lambda row: row.uid), query)
    ordered = sorted(rows, key=lambda row: row.id)
    for key, descending in reversed(query.sorts):
        ordered.sort(key=_SORTS[key], reverse=descending)
    found = ordered[query.skip : query.skip + query.take]
    return found, pagination(len(ordered), len(found), query.take, query.skip)


def _page_by_cursor(ordered: Sequence[Booking], query: Query) -> tuple[list[Booking], Json]:
    behind = [row for row in ordered if query.cursor is None or row.uid > query.cursor]
    found = behind[: query.take]
    more = len(behind) > len(found)
    next_cursor = base64.urlsafe_b64encode(found[-1].uid.encode()).decode() if more else None
    return found, {"nextCursor": next_cursor, "hasMore": more}
