"""How a call is spelt: method, address and body. Pure."""

from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

import msgspec
from msgspec import Struct

from services.verifier.answers import Reason
from services.verifier.ports import Call, CreateWebhook, GetBooking, ListQuery, ListWebhooks, PatchWebhook

#: As many as Cal.com gives at once.
WEBHOOKS_MAX: Final = 250
_NAMES: Final[dict[type, str]] = {
    GetBooking: "get_booking",
    ListQuery: "list_bookings",
    ListWebhooks: "list_webhooks",
    CreateWebhook: "create_webhook",
    PatchWebhook: "patch_webhook",
}
#: What a base URL's path may have beside letters and digits; what is quoted stays so.
_PATH: Final = "/%-._~!$&'()*+,;=:@"


class Unaskable(Exception):  # noqa: N818 - the address is at fault, not we
    """What cannot be asked at all: `reason`, and a sentence without secrets."""

    def __init__(self, reason: Reason, detail: str) -> None:
        """Keep both."""
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class Place(Struct, frozen=True):
    """Where Cal.com's API is, of a base URL. `path` has no slash at its end; `authority` is the Host header."""

    scheme: str
    host: str
    port: int | None
    authority: str
    path: str


class Asked(Struct, frozen=True):
    """One request: what comes after the base URL, and the body. Never shows the body: it may have a secret in it."""

    method: str
    target: str
    body: bytes | None = None

    def __repr__(self) -> str:
        """Hide the body, and whom a search asks for."""
        return f"Asked({self.method!r})"


def place(base_url: str) -> Place:
    """Read a base URL: http or https, perhaps with a port and a path, and nothing else. Raises Unaskable."""
    try:
        parts = urlsplit(base_url)
        port = parts.port
        host = (parts.hostname or "").encode("idna").decode("ascii")
    except ValueError:
        raise Unaskable(Reason.UNREACHABLE, "The base URL cannot be read.") from None
    if parts.scheme not in {"http", "https"} or not host:
        raise Unaskable(Reason.UNREACHABLE, "The base URL is none like https://api.cal.com/v2.")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise Unaskable(Reason.UNREACHABLE, "The base URL has more than a host, a port and a path.")
    authority = f"[{host}]" if ":" in host else host
    authority += "" if port is None else f":{port}"
    return Place(parts.scheme, host, port, authority, quote(parts.path.rstrip("/"), safe=_PATH))


def name(call: Call) -> str:
    """Give a call's name, to count by."""
    return _NAMES[type(call)]


def spell(call: Call) -> Asked:
    """Spell a call. Raises Unaskable for a name that would mean another address."""
    match call:
        case GetBooking(uid):
            return Asked("GET", f"/bookings/{_segment(uid)}")
        case ListQuery():
            return Asked("GET", f"/bookings?{_query(call)}")
        case ListWebhooks():
            return Asked("GET", f"/webhooks?take={WEBHOOKS_MAX}")
        case CreateWebhook():
            return Asked("POST", "/webhooks", _creation(call))
        case PatchWebhook(webhook=webhook):
            return Asked("PATCH", f"/webhooks/{_segment(webhook.id)}", _change(call))


def _segment(text: str) -> str:
    """Quote what is one step of a path. An empty one would ask for the list, dots for what lies above."""
    try:
        quoted = quote(text, safe="")
    except UnicodeEncodeError:
        quoted = ""
    if not quoted.strip("."):
        raise Unaskable(Reason.REJECTED, "Nothing has such a name at Cal.com.")
    return quoted


def _query(query: ListQuery) -> str:
    fields = {
        "attendeeEmail": query.attendee_email,
        "afterStart": _instant(query.after_start),
        "beforeEnd": _instant(query.before_end),
        "afterUpdatedAt": _instant(query.after_updated_at),
        "sortStart": query.sort_start,
        "sortUpdatedAt": query.sort_updated_at,
        "take": query.take,
        "skip": query.skip or None,  # 0 is what is meant anyway, and paging by cursor knows no skip
        "cursor": query.cursor,
    }
    return urlencode({name: value for name, value in fields.items() if value is not None}, quote_via=quote)


def _instant(moment: datetime | None) -> str | None:
    if moment is None:
        return None
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _creation(call: CreateWebhook) -> bytes:
    return msgspec.json.encode(
        {
            "subscriberUrl": call.subscriber_url,
            "triggers": call.triggers,
            "active": True,
            "secret": call.secret,
        }
    )


def _change(call: PatchWebhook) -> bytes:
    fields = {"triggers": call.triggers, "active": call.active, "secret": call.secret}
    changed: dict[str, Any] = {name: value for name, value in fields.items() if value is not None}
    if call.drop_template:
        changed["payloadTemplate"] = None
    return msgspec.json.encode(changed)
