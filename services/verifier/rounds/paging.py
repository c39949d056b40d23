"""Reading a list that changes while it is read, so that nothing of it is lost: pure.

By keyset: sorted by a time, each page is asked from the last row's on, that row included; what changes meanwhile gets a
later time and comes later. Only rows of one and the same time that fill a page are passed by `skip`. Cal.com sometimes
ignores its own filters and orders: then the list is read newest first by `skip` alone. Whoever skips asks for some rows
again, and where none of them comes back, rows have moved up past the reader, who goes back.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final, Literal

from msgspec import Struct
from msgspec.structs import replace

from services.verifier.answers import Bookings, Row
from services.verifier.ports import ListQuery

By = Literal["updatedAt", "start"]
Name = tuple[str, str]

#: Cal.com gives no more rows at once.
TAKE_MAX: Final = 250
#: Rows that a page shares with the page before, when it was asked for by `skip`.
SHARED: Final = 20
#: So often reading goes back before it gives up.
AGAIN_MAX: Final = 3
#: Times have milliseconds; whether the filter includes its own bound is not documented.
_STEP: Final = timedelta(milliseconds=1)


class End(StrEnum):
    """Why reading has ended."""

    COMPLETE = "complete"  # everything from `since` on was read
    TOO_MUCH = "too_much"  # the filter is ignored, and there is more than is read without it
    UNSTEADY = "unsteady"  # rows move faster than they are read, or an empty page came in the middle


class Paging(Struct, frozen=True, kw_only=True):
    """Where reading is. `since`: rows from there on are wanted. `after`, `skip` and `take` make the next query."""

    by: By
    since: datetime
    after: datetime
    take: int
    skip: int = 0
    tail: frozenset[Name] = frozenset()  # of the page before, some of which the next one has again
    ignored: bool = False  # the filter or the order is ignored
    in_order: bool = False  # of a list whose filter is ignored: whether it keeps the order so far, newest first
    pages: int = 0
    again: int = 0
    end: End | None = None


def begin(by: By, since: datetime, *, take: int) -> Paging:
    """Begin to read what was changed, or starts, from `since` on."""
    return Paging(by=by, since=since, after=since - _STEP, take=take)


def query(at: Paging) -> ListQuery:
    """Give the query of the next page."""
    order = "desc" if at.ignored else "asc"
    if at.by == "start":
        return ListQuery(after_start=at.after, sort_start=order, take=at.take, skip=at.skip)
    return ListQuery(after_updated_at=at.after, sort_updated_at=order, take=at.take, skip=at.skip)


def turn(at: Paging, page: Bookings, *, ignored_pages_max: int) -> Paging:
    """Take a page in; `end` is set where it was the last. `ignored_pages_max` bounds reading without a filter."""
    at = replace(at, pages=at.pages + 1)
    keys = [key for row in page.rows if (key := instant(row.get(at.by))) is not None]
    if not page.rows:
        return replace(at, end=End.UNSTEADY if page.has_more or at.tail else End.COMPLETE)
    if not at.ignored and (min(keys, default=at.after) < at.after or keys != sorted(keys)):
        return _doubt(at, in_order=len(keys) > 1 and keys == sorted(keys))
    if at.skip and _astray(at, page):
        return _go_back(at)
    return _without_filter(at, page, keys, ignored_pages_max) if at.ignored else _by_keyset(at, page, keys)


def wanted(at: Paging, rows: Sequence[Row]) -> list[Row]:
    """Give those rows of a page that were asked for: re-checked, for filters are ignored at times."""
    return [row for row in rows if (moment := moment_of(row, at.by)) is None or moment >= at.since]


def moment_of(row: Row, by: By) -> datetime | None:
    """Give the time of a row; of one that was never updated, when it was made."""
    moment = instant(row.get(by))
    return instant(row.get("createdAt")) if moment is None and by == "updatedAt" else moment


def name(row: Row) -> Name:
    """Name a row in one of its states."""
    return str(row.get("uid")), str(row.get("updatedAt") or row.get("createdAt"))


def instant(value: object) -> datetime | None:
    """Read an instant of the API (ISO 8601 with an offset); None: it is none."""
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
        return moment.astimezone(UTC) if moment.tzinfo else None
    except (ValueError, OverflowError):
        return None


def _astray(at: Paging, page: Bookings) -> bool:
    """Tell whether nothing of the page before came again, or nothing else: `skip` is ignored, or all has moved down."""
    names = [name(row) for row in page.rows]
    return (bool(at.tail) and at.tail.isdisjoint(names)) or (page.has_more and names[-1] in at.tail)


def _by_keyset(at: Paging, page: Bookings, keys: Sequence[datetime]) -> Paging:
    if not page.has_more:
        return replace(at, end=End.COMPLETE)
    after = max(keys, default=at.after) - _STEP
    if after > at.after:
        return replace(at, after=after, skip=0, tail=_tail(page.rows))
    if at.take < TAKE_MAX:  # all of one time: a larger page may hold them
        return replace(at, take=TAKE_MAX, skip=0, tail=_tail(page.rows))
    return _skipping(at, page.rows)


def _without_filter(at: Paging, page: Bookings, keys: Sequence[datetime], pages_max: int) -> Paging:
    at = replace(at, in_order=at.in_order and keys == sorted(keys, reverse=True))
    passed = at.in_order and bool(keys) and keys[-1] < at.since
    if passed or not page.has_more:
        return replace(at, end=End.COMPLETE)
    if at.pages >= pages_max:
        return replace(at, end=End.TOO_MUCH)
    return _skipping(at, page.rows)


def _skipping(at: Paging, rows: Sequence[Row]) -> Paging:
    shared = min(SHARED, len(rows) // 2)
    return replace(at, skip=at.skip + len(rows) - shared, tail=_tail(rows[len(rows) - shared :]))


def _doubt(at: Paging, *, in_order: bool) -> Paging:
    """Begin anew without trust in the filter. Only an order that was kept so far may end the reading early."""
    return Paging(by=at.by, since=at.since, after=at.since - _STEP, take=TAKE_MAX, ignored=True, in_order=in_order)


def _go_back(at: Paging) -> Paging:
    """Read again what may have moved past us."""
    if at.again >= AGAIN_MAX:
        return replace(at, end=End.UNSTEADY)
    return replace(at, skip=0, tail=frozenset(), again=at.again + 1)


def _tail(rows: Sequence[Row]) -> frozenset[Name]:
    return frozenset(name(row) for row in rows[-SHARED:])
