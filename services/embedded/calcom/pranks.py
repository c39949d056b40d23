"""What can go wrong with an answer, as values; `Mischief.play` lets it happen."""

from typing import Final

import msgspec
from msgspec import Struct

_HTML: Final = "text/html; charset=UTF-8"


class Prank(Struct, frozen=True, kw_only=True):
    """Something that goes wrong."""


class Instead(Prank, frozen=True, kw_only=True):
    """Another answer than Cal.com's: a proxy's, a gateway's, another server's."""

    status: int
    body: bytes = b""
    content_type: str | None = _HTML
    headers: tuple[tuple[str, str], ...] = ()


class Refusal(Prank, frozen=True, kw_only=True):
    """An error of Cal.com itself, in its documented shape, with its headers of the limit."""

    status: int
    message: str
    details: object = None
    retry_after: str | None = None
    reset_seconds: int | None = None  # X-RateLimit-*: nothing left, and full again after so long


class Slow(Prank, frozen=True, kw_only=True):
    """The answer comes so late; by the stand-in's own sleep."""

    seconds: float


class Hang(Prank, frozen=True, kw_only=True):
    """No answer comes, or after `midway` only half of it, until the other side hangs up or the prank is stopped."""

    midway: bool = False


class Cut(Prank, frozen=True, kw_only=True):
    """The connection ends in the middle of the body."""


class Huge(Prank, frozen=True, kw_only=True):
    """A valid answer with white space of so many megabytes in it; `declared`: with a Content-Length."""

    megabytes: int
    declared: bool = False


class Lag(Prank, frozen=True, kw_only=True):
    """Reads come from a replica that is so far behind."""

    seconds: float


class OldVersion(Prank, frozen=True, kw_only=True):
    """Answers have the shape of 2024-04-15, whatever was asked for."""


class IgnoredFilters(Prank, frozen=True, kw_only=True):
    """A list has everything, in the order asked for (cal.diy #18010). `names`: only these are ignored."""

    names: tuple[str, ...] | None = None


class EmptyLists(Prank, frozen=True, kw_only=True):
    """A list has nothing, with 200."""


class Strangers(Prank, frozen=True, kw_only=True):
    """A list has the bookings of all other users too (cal.diy #16913)."""


def html(status: int, title: str = "") -> Instead:
    """Give a page of a proxy: 404, 502, 503, 524 ..."""
    page = f"<!DOCTYPE html><html><head><title>{status} {title}</title></head><body><h1>{title}</h1></body></html>"
    return Instead(status=status, body=page.encode())


def empty(status: int) -> Instead:
    """Give an answer without a body."""
    return Instead(status=status, content_type=None)


def not_json(status: int = 200, body: bytes = b'{"status": "success", "data": [{"id": 1, ') -> Instead:
    """Give what says that it is JSON and is none."""
    return Instead(status=status, body=body, content_type="application/json; charset=utf-8")


def other_json(status: int = 404, value: object = None) -> Instead:
    """Give JSON of another server."""
    body = {"message": "no Route matched with those values"} if value is None else value
    return Instead(status=status, body=msgspec.json.encode(body), content_type="application/json")


def redirect(location: str, status: int = 302) -> Instead:
    """Give another place to ask."""
    return Instead(status=status, headers=(("location", location),))


def unauthorised(status: int = 401) -> Refusal:
    """Give the refusal of a key: 401, 403 or 498 (an access token that is expired)."""
    messages = {
        401: "ApiAuthStrategy - api key - Your api key is not valid",
        403: "PermissionsGuard - insufficient permissions",
        498: "ACCESS_TOKEN_IS_EXPIRED",
    }
    return Refusal(status=status, message=messages[status])


def too_many(reset_seconds: int = 60, retry_after: str | None = None) -> Refusal:
    """Give a 429; Cal.com sends no Retry-After, what stands before it may."""
    message = "CustomThrottlerGuard - Too many requests. Please try again later."
    return Refusal(status=429, message=message, retry_after=retry_after, reset_seconds=reset_seconds)


def broken(status: int = 500) -> Refusal:
    """Give Cal.com's own 500 or 503."""
    messages = {500: "There was an error, please try again later.", 503: "Service Unavailable Exception"}
    return Refusal(status=status, message=messages[status])
