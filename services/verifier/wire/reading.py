"""What came back over the wire, and what it is: `Reply` in, `Answer` out. Pure.

Nothing that others wrote gets into a `detail` but what Cal.com's own JSON says of an error, without our secrets.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import quote, urlsplit

from msgspec import Struct

from services.verifier.answers import Answer, Bookings, Headroom, NotThere, Reason, Unauthorised, Unknown, Webhooks
from services.verifier.ports import Call, CreateWebhook, GetBooking, ListQuery, ListWebhooks, PatchWebhook
from services.verifier.wire import shapes
from services.verifier.wire.shapes import Failed, Misshapen

#: How long Cal.com blocks a key that asked too often; it sends no Retry-After.
BLOCK_SECONDS: Final = 60.0
#: Nobody may tell us to wait longer than this at once.
WAIT_MAX_SECONDS: Final = 3600.0
_REMAINING: Final = "x-ratelimit-remaining"
_RESET: Final = "x-ratelimit-reset"
_DIGITS_MAX: Final = 9
_SAID_MAX: Final = 200
_READ_MAX: Final = 10_000
_SECRET_PART_MIN: Final = 6
_REFUSED: Final = frozenset({401, 403, 498})
_OK: Final = frozenset({200, 201})


class Reply(Struct, frozen=True):
    """One HTTP answer. `headers` by name in lower case; `body` is decoded of its Content-Encoding, "" if not read."""

    status: int
    headers: dict[str, str]
    body: bytes = b""


def by_head(reply: Reply, now: datetime) -> Unknown | None:
    """Say what an answer is whose body says no more than its head; None: the body has to be read."""
    status = reply.status
    if 300 <= status < 400:  # noqa: PLR2004
        return _unknown(Reason.REDIRECT, f"Redirected{_whereto(reply)}, and never followed.", reply, now)
    if status == 429:  # noqa: PLR2004
        return _unknown(Reason.LIMITED, "Too many requests with this key.", reply, now)
    if status >= 500:  # noqa: PLR2004
        return _unknown(Reason.SERVER_ERROR, f"Cal.com's server failed ({status}).", reply, now)
    if status == 408:  # noqa: PLR2004
        return _unknown(Reason.TIMEOUT, "The server waited too long for the request (408).", reply, now)
    if status == 407:  # noqa: PLR2004
        return _unknown(Reason.UNREACHABLE, "The proxy wants another user or password (407).", reply, now)
    return None


def by_body(call: Call, reply: Reply, now: datetime, secrets: Iterable[str]) -> Answer:
    """Say what an answer is whose head did not tell. `secrets` are taken out of what Cal.com says."""
    try:
        value = shapes.parse(reply.body)
        if reply.status in _OK:
            return _found(call, value, headroom(reply.headers))
    except Misshapen as error:
        return _unknown(error.reason, f"{error.detail} (status {reply.status})", reply, now)
    told = shapes.failed(value)
    if told is None:
        return _unknown(Reason.NOT_CALCOM, f"JSON that Cal.com does not write (status {reply.status}).", reply, now)
    return _refused(call, told, reply, now, tuple(secrets))


def headroom(headers: Mapping[str, str]) -> Headroom | None:
    """Give what is left with the key: of several limits the widest, for the key is blocked when all are used up."""
    found = []
    for name, value in headers.items():
        left = _whole(value) if name.startswith(_REMAINING) else None
        if left is not None:
            reset = _whole(headers.get(_RESET + name.removeprefix(_REMAINING), ""))
            found.append(Headroom(left, BLOCK_SECONDS if reset is None else min(float(reset), WAIT_MAX_SECONDS)))
    return max(found, key=lambda one: (one.remaining, -one.reset_seconds), default=None)


def wait_seconds(status: int, headers: Mapping[str, str], now: datetime) -> float | None:
    """Give how long nobody may ask with the key, if it was said: Retry-After, X-RateLimit-*, or a 429 alone."""
    told = _retry_after(headers.get("retry-after", ""), now)
    if told is not None:
        return told
    left = headroom(headers)
    if left is not None and left.remaining == 0:
        return max(1.0, left.reset_seconds)
    return BLOCK_SECONDS if status == 429 else None  # noqa: PLR2004


def hidden(text: object, secrets: Iterable[str]) -> str:
    """Give what somebody said as one short line without our secrets, with or without a key's prefix ("cal_live_")."""
    said = (text if isinstance(text, str) else "; ".join(_texts(text)))[:_READ_MAX]
    for secret in secrets:
        for part in (secret, secret.rpartition("_")[2]):
            if len(part) >= _SECRET_PART_MIN or part == secret != "":
                said = said.replace(part, "(hidden)").replace(quote(part, safe=""), "(hidden)")
    line = " ".join("".join(one if one.isprintable() else " " for one in said).split())
    return line if len(line) <= _SAID_MAX else line[:_SAID_MAX] + "..."


def _found(call: Call, value: object, left: Headroom | None) -> Bookings | Webhooks:
    """Raises Misshapen."""
    whole = shapes.success(value)
    match call:
        case ListWebhooks() | CreateWebhook() | PatchWebhook():
            if isinstance(whole.data, list) is not isinstance(call, ListWebhooks):
                raise Misshapen(Reason.WRONG_SHAPE, "$.data is one where many are wanted, or many where one is.")
            return Webhooks(rows=shapes.webhooks(whole.data), headroom=left)
        case GetBooking(uid):
            rows, read = shapes.bookings(whole.data)
            if not rows or any(uid not in (one.uid, one.recurring_booking_uid) for one in read):
                raise Misshapen(Reason.WRONG_SHAPE, "Another booking than the one that was asked for.")
            return Bookings(rows=rows, headroom=left)
        case ListQuery():
            return _page(call, whole, left)


def _page(query: ListQuery, whole: shapes.Success, left: Headroom | None) -> Bookings:
    if not isinstance(whole.data, list):
        raise Misshapen(Reason.WRONG_SHAPE, "$.data is no array.")
    rows, _ = shapes.bookings(whole.data)
    paging = whole.pagination
    if not isinstance(paging, shapes.Paging) or (paging.has_next_page is None and paging.has_more is None):
        return Bookings(rows=rows, has_more=len(rows) >= query.take, headroom=left)  # older installations do not say
    if paging.has_more and paging.next_cursor is None and not paging.has_next_page:
        raise Misshapen(Reason.WRONG_SHAPE, "$.pagination has more and no cursor to it.")
    cursor = None if paging.next_cursor is None else str(paging.next_cursor)
    return Bookings(rows=rows, has_more=bool(paging.has_more or paging.has_next_page), cursor=cursor, headroom=left)


def _refused(call: Call, told: Failed, reply: Reply, now: datetime, secrets: tuple[str, ...]) -> Answer:
    """Say what a failure is that Cal.com itself tells of."""
    status = reply.status
    said = hidden(told.error.message, secrets)
    if status in _REFUSED:
        return Unauthorised(status=status, detail=f"Cal.com refuses the key ({status}): {said}")
    if status == 404:  # noqa: PLR2004
        return _missing(call, told, said, reply, now)
    more = "; ".join(_constraints(told.error.details))
    sentence = f"Cal.com refuses the request ({status}): {said}"
    return _unknown(Reason.REJECTED, f"{sentence} {hidden(more, secrets)}".strip(), reply, now)


def _missing(call: Call, told: Failed, said: str, reply: Reply, now: datetime) -> NotThere | Unknown:
    """Only what says that this one thing is not there means that."""
    if told.error.code != "NotFoundException" or said.startswith("Cannot "):
        detail = "There is no such address at the base URL (404): is it that of API v2, as https://api.cal.com/v2 is?"
        return _unknown(Reason.NOT_CALCOM, detail, reply, now)
    if isinstance(call, GetBooking):
        named = (told.path or "", str(told.error.message))
        if told.path is not None and not any(_names(text, call.uid) for text in named):
            return _unknown(Reason.WRONG_SHAPE, "A 404 of another booking than the one asked for.", reply, now)
        return NotThere(headroom=headroom(reply.headers))
    if isinstance(call, PatchWebhook):
        return NotThere(headroom=headroom(reply.headers))
    return _unknown(Reason.WRONG_SHAPE, f"A list that is not there (404): {said}", reply, now)


def _names(text: str, uid: str) -> bool:
    return uid in text or quote(uid, safe="") in text


def _unknown(reason: Reason, detail: str, reply: Reply, now: datetime) -> Unknown:
    wait = wait_seconds(reply.status, reply.headers, now)
    return Unknown(reason=reason, detail=detail, status=reply.status, retry_after_seconds=wait)


def _whereto(reply: Reply) -> str:
    try:
        host = urlsplit(reply.headers.get("location", "")).hostname
    except ValueError:
        return ""
    return f" to {hidden(host, ())}" if host else ""


def _retry_after(value: str, now: datetime) -> float | None:
    seconds: float | None = _whole(value)
    if seconds is None and value[:1].isalpha():
        try:
            date = parsedate_to_datetime(value)
        except (ValueError, OverflowError):
            return None
        seconds = ((date if date.tzinfo else date.replace(tzinfo=UTC)) - now).total_seconds()
    return None if seconds is None else min(max(1.0, float(seconds)), WAIT_MAX_SECONDS)


def _whole(value: str) -> int | None:
    text = value.strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _DIGITS_MAX else None


def _texts(value: object) -> list[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []


def _constraints(details: Any) -> list[str]:  # noqa: ANN401 - whatever stands there
    """Give the sentences of a validation's errors; the values that they are about stay out."""
    errors = details.get("errors") if isinstance(details, dict) else None
    found = [one.get("constraints") for one in errors if isinstance(one, dict)] if isinstance(errors, list) else []
    return [text for one in found if isinstance(one, dict) for text in one.values() if isinstance(text, str)]
