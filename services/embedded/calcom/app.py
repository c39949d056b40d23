"""The API v2 of the stand-in as an ASGI application: limit, key, mischief, then the answer."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Final

from msgspec import Struct
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.embedded.calcom import listing, shapes, subscriptions
from services.embedded.calcom.answers import NO_AUTHENTICATION, Refused, answer, invalid, refusal
from services.embedded.calcom.limiter import Asked, Book, Headroom, Limiter
from services.embedded.calcom.mischief import Mischief, Pranks, spoiling
from services.embedded.calcom.model import Account, Booking, Json
from services.embedded.calcom.pranks import (
    EmptyLists,
    Hang,
    IgnoredFilters,
    Instead,
    Lag,
    OldVersion,
    Refusal,
    Slow,
    Strangers,
)
from services.embedded.calcom.store import Store

Sleep = Callable[[float], Awaitable[None]]
Now = Callable[[], datetime]

_CLEAN: Final = frozenset({"2024-08-13", "2026-02-25", "2026-05-01"})
_BY_CURSOR: Final = "2026-05-01"
_OLD: Final = "2024-04-15"
#: Requests with a key that nobody has, or with none, share a limit: Cal.com counts those by address.
_NOBODY: Final = ""


class Visitor(Struct, frozen=True, kw_only=True):
    """Who asks, and what plays with the request. `account` is None without a key."""

    account: Account | None
    version: str
    pranks: Pranks
    now: datetime

    @property
    def as_of(self) -> datetime:
        """Give how far the replica has come."""
        lag = self.pranks.get(Lag)
        return self.now - timedelta(seconds=0 if lag is None else lag.seconds)


class Api:
    """Everything below `/v2`. Raises nothing."""

    def __init__(
        self, store: Store, clock: Now, *, requests_per_minute: int = 120, sleep: Sleep = asyncio.sleep
    ) -> None:
        """`clock` gives aware times, UTC; `sleep` is how a slow answer waits."""
        self.limiter = Limiter(requests_per_minute)
        self.book = Book()
        self.mischief = Mischief()
        self._store, self._clock, self._sleep = store, clock, sleep
        self._routes = self._application()

    def _application(self) -> ASGIApp:
        routes = [
            Route("/v2/bookings", self._list, methods=["GET"]),
            Route("/v2/bookings/{uid}", self._single, methods=["GET"]),
            *subscriptions.routes(self._store),
        ]
        made = Starlette(routes=routes, exception_handlers={HTTPException: _no_route, Refused: _refused})
        made.router.redirect_slashes = False
        return made

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, and write it into the book."""
        request = Request(scope, receive)
        key = self._key(request)
        asked = Asked(self._clock(), key, request.method, request.url.path, request.url.query)
        self.book.begin(asked)

        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                asked.status = message["status"]
            await send(message)

        try:
            await self._answer(request, key, noting)
        finally:
            self.book.end(asked)

    @staticmethod
    def _key(request: Request) -> str:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        return token.strip() if scheme.lower() == "bearer" else _NOBODY

    async def _answer(self, request: Request, key: str, send: Send) -> None:
        pranks = self.mischief.for_request(key, request.url.path)
        if (slow := pranks.get(Slow)) is not None:
            await self._sleep(slow.seconds)
        hang = pranks.get(Hang)
        if hang is not None and not hang.midway and not await pranks.hang(request.receive):
            return
        told = pranks.get(Instead)
        application: ASGIApp = self._honest(request, key, pranks) if told is None else _instead(told)
        if pranks.spoils_body():
            application = spoiling(pranks, application)
        await application(request.scope, request.receive, send)

    def _honest(self, request: Request, key: str, pranks: Pranks) -> ASGIApp:
        """Give what answers as Cal.com itself does: limit first, then the key, then the rest.

        What a gateway answers in its stead (`Instead`) is not counted by the limit.
        """
        now = self._clock()
        account = self._store.account_of(key)
        headroom = self.limiter.count(key if account else _NOBODY, now)
        request.state.now = now
        request.state.headroom = headroom
        told = pranks.get(Refusal)
        if told is not None:
            return _refusal(request, told, headroom)
        if not headroom.allowed:
            message = "CustomThrottlerGuard - Too many requests. Please try again later."
            return refusal(request, Refused(429, message))
        refused = _key_refused(key, account)
        if refused is not None:
            return refusal(request, refused)
        version = _OLD if pranks.get(OldVersion) else request.headers.get("cal-api-version", _OLD)
        request.state.visitor = Visitor(
            account=account, version=version if version in _CLEAN else _OLD, pranks=pranks, now=now
        )
        return self._routes

    async def _single(self, request: Request) -> Response:
        """Answer `GET /v2/bookings/{uid}`; whose it is, is not asked."""
        visitor: Visitor = request.state.visitor
        uid = request.path_params["uid"]
        row = self._store.seen(uid, visitor.now, visitor.as_of)
        if row is not None:
            return answer(request, shapes.success(self._shown(row, visitor)))
        rows = (self._store.seen(one, visitor.now, visitor.as_of) for one in self._store.uids(uid))
        series = [self._shown(row, visitor) for row in rows if row is not None]
        if not series:
            raise Refused(404, f"Booking with uid={uid} was not found in the database")
        return answer(request, shapes.success(series))

    async def _list(self, request: Request) -> Response:
        """Answer `GET /v2/bookings`."""
        visitor: Visitor = request.state.visitor
        if visitor.account is None:
            raise Refused(401, NO_AUTHENTICATION)
        rows = self._rows_of(visitor.account, visitor)
        asked = _heeded(dict(request.query_params), visitor.pranks)
        if visitor.version == _OLD:
            return answer(request, self._old_list(asked, rows, visitor))
        by_cursor = visitor.version == _BY_CURSOR
        query = _read(asked, by_cursor=by_cursor)
        found, pagination = listing.page(listing.meant(rows, query, visitor.now), query, by_cursor=by_cursor)
        shown = [self._shown(row, visitor) for row in found]
        return answer(request, shapes.success(shown, pagination=pagination))

    def _rows_of(self, account: Account, visitor: Visitor) -> list[Booking]:
        """Give the rows that a user has to do with, as organiser or as guest."""
        if visitor.pranks.get(EmptyLists):
            return []
        rows = self._store.all_seen(visitor.now, visitor.as_of)
        if visitor.pranks.get(Strangers):
            return rows
        return [row for row in rows if _concerns(row, account)]

    def _old_list(self, asked: dict[str, str], rows: list[Booking], visitor: Visitor) -> Json:
        status = asked.get("filters[status]")
        if status is None and not visitor.pranks.get(OldVersion):
            told = {"isEnum": "status must be one of the following values: upcoming, recurring, past, cancelled"}
            raise invalid([shapes.invalid("filters", status, told)])
        wanted = {} if status is None else {"status": status}
        wanted |= {"take": asked.get("limit", "10"), "skip": asked.get("cursor", "0")}
        query = _read(wanted, by_cursor=False)
        found = listing.meant(rows, query, visitor.now)
        following = query.skip + query.take
        page = found[query.skip : following]
        shown = [self._shown(row, visitor) for row in page]
        next_cursor = following if following < len(found) else None
        return shapes.success({"bookings": shown, "recurringInfo": [], "nextCursor": next_cursor})

    def _shown(self, row: Booking, visitor: Visitor) -> Json:
        host = self._store.accounts[row.user_id]
        if visitor.version == _OLD:
            return shapes.old_booking(row, host)
        return shapes.booking(row, host, seats_shown=visitor.account is host)


async def _no_route(request: Request, _: Exception) -> Response:
    """Answer as the framework does where no route is."""
    return refusal(request, Refused(404, f"Cannot {request.method} {request.url.path}"))


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)  # noqa: S101 - registered for no other
    return refusal(request, error)


def _read(asked: dict[str, str], *, by_cursor: bool) -> listing.Query:
    """Read a query. Raises Refused."""
    try:
        return listing.read(asked, by_cursor=by_cursor)
    except listing.Invalid as error:
        raise invalid(list(error.errors)) from None


def _concerns(row: Booking, account: Account) -> bool:
    return row.user_id == account.user_id or any(one.email == account.email for one in row.attendees)


def _heeded(asked: dict[str, str], pranks: Pranks) -> dict[str, str]:
    """Give the parameters that are looked at."""
    ignored = pranks.get(IgnoredFilters)
    if ignored is None:
        return asked
    paging = ("take", "skip", "cursor", "limit")
    return {
        key: value for key, value in asked.items()
        if key in paging or key.startswith("sort") or (ignored.names is not None and key not in ignored.names)
    }  # fmt: skip


def _key_refused(key: str, account: Account | None) -> Refused | None:
    if key == _NOBODY:
        return None  # a single booking is shown to anybody
    state = "revoked" if account is None else account.keys[key]
    if state == "valid":
        return None
    return Refused(
        401, f"ApiAuthStrategy - api key - Your api key is {'expired' if state == 'expired' else 'not valid'}"
    )


def _instead(told: Instead) -> Response:
    headers = dict(told.headers)
    if told.content_type is not None:
        headers["content-type"] = told.content_type
    return Response(told.body, told.status, headers)


def _refusal(request: Request, told: Refusal, headroom: Headroom) -> Response:
    if told.reset_seconds is not None:
        request.state.headroom = Headroom(False, headroom.limit, 0, told.reset_seconds)  # noqa: FBT003
    response = refusal(request, Refused(told.status, told.message, told.details))
    if told.retry_after is not None:
        response.headers["retry-after"] = told.retry_after
    return response
